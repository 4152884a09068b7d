import * as vscode from 'vscode'
import { createRun, type Run } from './client'
import { isWanted } from './documents'
import { findServer } from './locate'
import type { Status } from './payload'

/** A server that ends by itself is started again without a word, but only once within this time. */
const STEADY_MS = 60_000

/** The state of the window's one server. */
export type Phase = 'idle' | 'starting' | 'running' | 'missing' | 'stopped'

/** Keeps at most one server for the window. Starts and restarts queue: one runs, one waits, further ones join it. */
export class Session implements vscode.Disposable {
  phase: Phase = 'idle'
  /** Why there is no server, in one sentence. */
  problem = ''
  status: Status = {}
  private run: Run | undefined
  private serverPath = ''
  private lastRecoveryAt = 0
  private shown = ''
  private current: Promise<void> = Promise.resolve()
  private waiting: Promise<void> | undefined
  private isDisposed = false
  private readonly changed = new vscode.EventEmitter<void>()
  readonly onDidChange = this.changed.event

  constructor(
    private readonly log: vscode.LogOutputChannel,
    private readonly folder: () => Promise<string>,
  ) {}

  /** Start the server unless it was started before. */
  async start(): Promise<void> {
    if (this.phase === 'idle') {
      await this.restart()
    }
  }

  /** Stop the server and start it anew. */
  restart(): Promise<void> {
    if (this.waiting === undefined) {
      this.waiting = this.current.then(() => {
        this.waiting = undefined
        return this.cycle()
      })
      this.current = this.waiting
    }
    return this.waiting
  }

  /** Restart because the user asked: what prevents it is reported again. */
  async restartAnew(): Promise<void> {
    this.shown = ''
    await this.restart()
  }

  /** Restart only if another executable would be started now. */
  async relocate(): Promise<void> {
    if (this.phase === 'idle') {
      return
    }
    const found = await findServer()
    if (this.phase === 'missing' || !('path' in found) || found.path !== this.serverPath) {
      await this.restart()
    }
  }

  /** Run one of the server's commands; undefined where there is no server. */
  async execute(command: string, ...args: unknown[]): Promise<unknown> {
    return this.request('workspace/executeCommand', { command, arguments: args })
  }

  /** Send a request; undefined, and a sentence for the user, where there is no server or it refuses. */
  async request<Result>(method: string, params: unknown): Promise<Result | undefined> {
    if (this.run === undefined || this.phase !== 'running') {
      void vscode.window.showWarningMessage(this.problem || 'GreenCode is not running yet.')
      return undefined
    }
    try {
      return await this.run.client.sendRequest<Result>(method, params)
    } catch (error) {
      this.log.error(`${method}: ${describe(error)}`)
      void vscode.window.showWarningMessage(`greencode-lsp did not answer ${method}: ${describe(error)}`)
      return undefined
    }
  }

  /** Tell the server which document the user has turned to: it may read it in advance. */
  focus(document: vscode.TextDocument): void {
    const client = this.run?.client
    if (client !== undefined && this.phase === 'running' && isWanted(document)) {
      const uri = client.code2ProtocolConverter.asUri(document.uri)
      client.sendNotification('textDocument/didFocus', { textDocument: { uri } }).catch(() => undefined) // it has ended
    }
  }

  async dispose(): Promise<void> {
    this.isDisposed = true
    await this.current
    await this.stop()
    this.changed.dispose()
  }

  private async cycle(): Promise<void> {
    await this.stop()
    if (this.isDisposed) {
      return
    }
    this.serverPath = ''
    this.enter('starting')
    const found = await findServer()
    if ('problem' in found) {
      this.log.warn(found.problem)
      this.enter('missing', found.problem)
      this.explainMissing(found.problem)
      return
    }
    this.serverPath = found.path
    this.log.info(`Starting ${found.path} --stdio`)
    const run = createRun({ command: found.path, cwd: await this.folder() }, this.log, () => {
      if (this.run === run && this.phase === 'running') {
        void this.ended(run)
      }
    })
    this.run = run
    run.client.onNotification('greencode/status', (status: Status) => {
      this.status = status
      this.changed.fire()
    })
    try {
      await run.client.start()
      this.enter('running')
    } catch {
      this.explainStop(await run.lastWords()) // the client has logged what it knows
    }
  }

  private async stop(): Promise<void> {
    const run = this.run
    this.run = undefined
    this.status = {}
    try {
      await run?.client.dispose()
    } catch (error) {
      this.log.info(`Stopping: ${describe(error)}`) // it had ended by itself
    }
  }

  /** Recover from an end that nobody asked for; one that comes again soon is reported instead. */
  private async ended(run: Run): Promise<void> {
    if (Date.now() - this.lastRecoveryAt < STEADY_MS) {
      this.explainStop(await run.lastWords())
      return
    }
    this.lastRecoveryAt = Date.now()
    this.log.warn('The server ended by itself; it is started again')
    await this.restart()
  }

  private explainStop(sentence: string): void {
    const problem = `greencode-lsp ended by itself${sentence ? `: ${sentence}` : '.'}`
    this.log.error(problem)
    this.enter('stopped', problem)
    void vscode.window.showErrorMessage(problem, 'Show Log', 'Restart').then((choice) => {
      if (choice === 'Show Log') {
        this.log.show()
      } else if (choice === 'Restart') {
        void this.restartAnew()
      }
    })
  }

  private explainMissing(problem: string): void {
    if (problem === this.shown) {
      return
    }
    this.shown = problem
    void vscode.window.showWarningMessage(problem, 'Install', 'Open Setting').then((choice) => {
      if (choice === 'Install') {
        void vscode.commands.executeCommand('greencode.openWalkthrough')
      } else if (choice === 'Open Setting') {
        void vscode.commands.executeCommand('workbench.action.openSettings', 'greencode.server.path')
      }
    })
  }

  private enter(phase: Phase, problem = ''): void {
    this.phase = phase
    this.problem = problem
    void vscode.commands.executeCommand('setContext', 'greencode.running', phase === 'running')
    this.changed.fire()
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
