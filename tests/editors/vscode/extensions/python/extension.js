const vscode = require('vscode')

const selected = () => vscode.workspace.getConfiguration('python').get('defaultInterpreterPath', '')

exports.activate = () => ({
  environments: {
    getActiveEnvironmentPath: () => ({ path: selected() }),
    resolveEnvironment: async ({ path }) => (path ? { executable: { uri: vscode.Uri.file(path) } } : undefined),
    onDidChangeActiveEnvironmentPath: (listener) =>
      vscode.workspace.onDidChangeConfiguration((event) => {
        if (event.affectsConfiguration('python.defaultInterpreterPath')) {
          listener()
        }
      }),
  },
})
