import * as vscode from 'vscode'
import { isWanted } from './documents'
import { runDoctor } from './doctor'
import { onEnvironmentChange, ownFolder } from './locate'
import { offerModel, selectModel } from './models'
import { selectPreference } from './preference'
import { showReport } from './report'
import { Session } from './session'
import { StatusBar } from './statusBar'

let session: Session | undefined

/** Wait for a document that can be completed, then start the window's one server. */
export function activate(context: vscode.ExtensionContext): void {
  const log = vscode.window.createOutputChannel('GreenCode', { log: true })
  const current = new Session(log, () => ownFolder(context))
  session = current
  const commands: Record<string, () => unknown> = {
    selectPreference: () => {
      selectPreference(current)
    },
    selectModel: () => selectModel(current),
    showReport: () => showReport(current),
    doctor: () => runDoctor(context),
    restart: () => current.restartAnew(),
    showLog: () => {
      log.show()
    },
    openWalkthrough: () =>
      vscode.commands.executeCommand('workbench.action.openWalkthrough', `${context.extension.id}#start`, false),
  }
  for (const [name, run] of Object.entries(commands)) {
    context.subscriptions.push(vscode.commands.registerCommand(`greencode.${name}`, run))
  }
  const startIfWanted = (document: vscode.TextDocument | undefined) => {
    if (document !== undefined && isWanted(document)) {
      void current.start()
    }
  }
  const offering = current.onDidChange(() => {
    if (current.phase === 'running' && current.status.state === 'ready') {
      offering.dispose()
      void offerModel(current, context.globalState)
    }
  })
  const relocate = () => void current.relocate()
  context.subscriptions.push(
    log,
    offering,
    new StatusBar(current),
    vscode.workspace.onDidOpenTextDocument(startIfWanted),
    vscode.window.onDidChangeActiveTextEditor((editor) => {
      startIfWanted(editor?.document)
      if (editor !== undefined) {
        current.focus(editor.document)
      }
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(relocate),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration('greencode.server.path')) {
        relocate()
      }
      startIfWanted(vscode.window.activeTextEditor?.document)
    }),
  )
  void onEnvironmentChange(relocate).then((listener) => {
    context.subscriptions.push(listener)
  })
  vscode.workspace.textDocuments.forEach(startIfWanted)
}

/** Stop the server before the window goes. */
export async function deactivate(): Promise<void> {
  await session?.dispose()
}
