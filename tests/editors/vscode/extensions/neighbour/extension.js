// Suggests in files named neighbour*.py, and serves one file of a file system in memory.
const vscode = require('vscode')

const TEXT = Buffer.from('# in memory\n')

const files = {
  onDidChangeFile: new vscode.EventEmitter().event,
  watch: () => new vscode.Disposable(() => undefined),
  stat: () => ({ type: vscode.FileType.File, ctime: 0, mtime: 0, size: TEXT.length }),
  readFile: () => TEXT,
  readDirectory: () => [],
  createDirectory: () => undefined,
  writeFile: () => undefined,
  delete: () => undefined,
  rename: () => undefined,
}

exports.activate = (context) => {
  const provideInlineCompletionItems = (document, position) => {
    const isAsked = document.lineAt(position).text.endsWith('= ')
    return isAsked ? [new vscode.InlineCompletionItem('neighbour', new vscode.Range(position, position))] : []
  }
  context.subscriptions.push(
    vscode.languages.registerInlineCompletionItemProvider(
      { pattern: '**/neighbour*.py' },
      { provideInlineCompletionItems },
    ),
    vscode.workspace.registerFileSystemProvider('memory', files),
    vscode.commands.registerCommand('neighbour.openMemory', () =>
      vscode.window.showTextDocument(vscode.Uri.parse('memory:/memory.py')),
    ),
  )
}
