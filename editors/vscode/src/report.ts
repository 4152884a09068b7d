import * as vscode from 'vscode'
import type { Session } from './session'

const SCOPES = [
  { label: 'Today', scope: 'today' },
  { label: 'This week', scope: 'week' },
  { label: 'All time', scope: 'all' },
]
/** No script, no network: the page may only style itself and show its own pictures. */
const POLICY = `default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'`

/** Show the energy report of a chosen time in a panel beside the editor. */
export async function showReport(session: Session): Promise<void> {
  const chosen = await vscode.window.showQuickPick(SCOPES, { title: 'GreenCode: energy report' })
  if (chosen === undefined) {
    return
  }
  const params = { scope: chosen.scope, format: 'html' }
  const report = await session.request<{ html?: string }>('greencode/report', params)
  if (report === undefined) {
    return
  }
  if (typeof report.html !== 'string') {
    void vscode.window.showWarningMessage('This greencode-lsp makes no report page; install a newer one.')
    return
  }
  const title = `GreenCode: ${chosen.label.toLowerCase()}`
  const panel = vscode.window.createWebviewPanel('greencode.report', title, vscode.ViewColumn.Beside, {
    enableScripts: false,
    localResourceRoots: [],
  })
  panel.webview.html = guarded(report.html)
}

/** Return the page with the policy as the first thing in it. */
export function guarded(html: string): string {
  const meta = `<meta http-equiv="Content-Security-Policy" content="${POLICY}">`
  const head = /<head[^>]*>/i.exec(html)
  if (head === null) {
    return `<!DOCTYPE html><html><head>${meta}</head><body>${html}</body></html>`
  }
  const end = head.index + head[0].length
  return html.slice(0, end) + meta + html.slice(end)
}
