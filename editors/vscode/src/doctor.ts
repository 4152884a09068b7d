import * as vscode from 'vscode'
import { findServer, ownFolder } from './locate'

/** Run `greencode-lsp doctor` in a terminal, without a shell in between. */
export async function runDoctor(context: vscode.ExtensionContext): Promise<void> {
  const found = await findServer()
  if ('problem' in found) {
    void vscode.window.showWarningMessage(found.problem)
    return
  }
  const run = new vscode.ProcessExecution(found.path, ['doctor'], { cwd: await ownFolder(context) })
  const task = new vscode.Task({ type: 'greencode' }, vscode.TaskScope.Workspace, 'doctor', 'GreenCode', run)
  task.presentationOptions = { reveal: vscode.TaskRevealKind.Always, focus: true, clear: true }
  await vscode.tasks.executeTask(task)
}
