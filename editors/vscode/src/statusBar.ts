import * as vscode from 'vscode'
import { whyNot } from './documents'
import { joules, type Status } from './payload'
import type { Session } from './session'

const LINKED_COMMANDS = ['selectPreference', 'pause', 'resume', 'showReport', 'showLog', 'restart']

/** The item at the bottom: joules saved today and the state; all else in its tooltip. */
export class StatusBar implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem('greencode.status', vscode.StatusBarAlignment.Right, 100)
  private readonly subscriptions: vscode.Disposable[]

  constructor(private readonly session: Session) {
    this.item.name = 'GreenCode'
    this.subscriptions = [
      session.onDidChange(() => void this.refresh()),
      vscode.window.onDidChangeActiveTextEditor(() => void this.refresh()),
    ]
  }

  /** Show what is so now; nothing before the server was ever wanted. */
  async refresh(): Promise<void> {
    if (this.session.phase === 'idle') {
      return
    }
    const document = vscode.window.activeTextEditor?.document
    const isFile = document !== undefined && document.uri.scheme !== 'output' // a panel's text, with the focus in it
    const refusal = isFile ? await whyNot(document) : undefined
    const view = describe(this.session, refusal)
    this.item.text = `$(${view.icon}) ${view.text}`
    this.item.tooltip = tooltip(this.session, view)
    this.item.command = this.session.phase === 'running' ? 'greencode.selectPreference' : 'greencode.showLog'
    const spoken = ['GreenCode', view.text, view.state, `preference ${preferenceName(this.session.status)}`, view.reason]
    this.item.accessibilityInformation = { label: spoken.filter(Boolean).join(', ') }
    this.item.show()
  }

  dispose(): void {
    this.item.dispose()
    vscode.Disposable.from(...this.subscriptions).dispose()
  }
}

interface View {
  icon: string
  text: string
  state: string
  /** One sentence, or nothing. */
  reason: string
}

function describe(session: Session, refusal: string | undefined): View {
  const { phase, problem, status } = session
  const saved = `${joules(status.today?.saved_j ?? 0)} saved`
  const reason = refusal ?? status.reason ?? ''
  if (phase === 'missing') {
    return { icon: 'warning', text: 'GreenCode: not installed', state: 'not installed', reason: problem }
  }
  if (phase === 'stopped') {
    return { icon: 'error', text: 'GreenCode: stopped', state: 'stopped', reason: problem }
  }
  if (phase === 'starting') {
    return { icon: 'loading~spin', text: 'GreenCode: starting', state: 'starting', reason }
  }
  switch (status.state) {
    case 'ready':
      return { icon: refusal === undefined ? 'zap' : 'circle-slash', text: saved, state: 'ready', reason }
    case 'paused':
      return { icon: 'debug-pause', text: `${saved}, paused`, state: 'paused', reason }
    case 'failed':
      return { icon: 'error', text: 'GreenCode: no model', state: 'failed', reason }
    default:
      return { icon: 'loading~spin', text: 'GreenCode: loading', state: 'loading', reason }
  }
}

function tooltip(session: Session, view: View): vscode.MarkdownString {
  const markdown = new vscode.MarkdownString('', true)
  markdown.isTrusted = { enabledCommands: LINKED_COMMANDS.map((name) => `greencode.${name}`) }
  markdown.appendMarkdown(`**GreenCode** is ${view.state}\n\n`)
  for (const line of [view.reason, ...facts(session.status)].filter(Boolean)) {
    markdown.appendText(line).appendMarkdown('\n\n')
  }
  markdown.appendMarkdown(links(session).map(([title, name]) => `[${title}](command:greencode.${name})`).join(' | '))
  return markdown
}

function facts(status: Status): string[] {
  const lines: string[] = []
  const { last, today } = status
  if (last) {
    const mean = last.exit_layers.reduce((sum, layer) => sum + layer, 0) / Math.max(last.exit_layers.length, 1)
    const depth = last.exit_layers.length > 0 ? `, ${mean.toFixed(1)} of ${last.layers} layers` : ''
    lines.push(`Last: ${joules(last.energy_j)} (${last.energy_tier})${depth}, ${Math.round(last.elapsed_ms)} ms`)
  }
  if (today) {
    const tier = today.energy_tier ? ` (${today.energy_tier})` : ''
    lines.push(`Today: ${joules(today.energy_j)} used${tier}, ${joules(today.saved_j)} saved (modelled)`)
  }
  if (today?.completions !== undefined && today.accepted !== undefined) {
    lines.push(`${today.completions} completions, ${today.accepted} accepted`)
  }
  if (status.model !== undefined) {
    lines.push(`Model ${status.model}${status.device ? ` on ${status.device}` : ''}, preference ${preferenceName(status)}`)
  }
  if (status.power === 'battery') {
    lines.push('On battery power')
  }
  return lines
}

/** Return the preference by its name where it has one. */
export function preferenceName(status: Status): string {
  const names: Record<number, string> = { 1: 'accuracy', 0.5: 'balanced', 0: 'energy' }
  return status.preference === undefined ? 'unknown' : (names[status.preference] ?? String(status.preference))
}

function links(session: Session): [string, string][] {
  if (session.phase !== 'running') {
    return [['Restart', 'restart'], ['Log', 'showLog']]
  }
  const pause: [string, string] = session.status.state === 'paused' ? ['Resume', 'resume'] : ['Pause', 'pause']
  return [['Preference', 'selectPreference'], pause, ['Report', 'showReport'], ['Log', 'showLog']]
}
