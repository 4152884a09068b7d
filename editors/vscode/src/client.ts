import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import * as vscode from 'vscode'
import { CloseAction, ErrorAction, RevealOutputChannelOn } from 'vscode-languageclient/node'
import { LanguageClient, TransportKind, type LanguageClientOptions, type Middleware } from 'vscode-languageclient/node'
import { isTooLarge, SELECTOR, whyNot } from './documents'
import { ENVIRONMENT } from './locate'

/** A server whose children still hold its standard error is not waited for. */
const LAST_WORDS_MS = 1000

/** One run of the server. */
export interface Run {
  client: LanguageClient
  /** The last line that the server wrote to its standard error; waits until it has ended, but not for long. */
  lastWords: () => Promise<string>
}

/** Writes to the log alone: what is worth a message is shown by the session, once and in its own words. */
class QuietClient extends LanguageClient {
  override error(message: string): void {
    super.error(message, undefined, false)
  }
}

/** What is started, and in which folder. */
export interface Program {
  command: string
  cwd: string
}

/** Make a client for one run of the server; it never restarts by itself and shows nothing by itself. */
export function createRun(program: Program, log: vscode.LogOutputChannel, onClosed: () => void): Run {
  let lastLine = ''
  let allRead: Promise<void> = Promise.resolve()
  const options: LanguageClientOptions = {
    documentSelector: SELECTOR,
    outputChannel: log,
    revealOutputChannelOn: RevealOutputChannelOn.Never,
    initializationFailedHandler: () => false,
    errorHandler: {
      error: () => ({ action: ErrorAction.Continue, handled: true }),
      closed: () => {
        onClosed()
        return { action: CloseAction.DoNotRestart, handled: true }
      },
    },
    stdioOptions: {
      stdout: () => undefined, // the protocol's own
      stderr: (input: Readable) => {
        const lines = createInterface({ input })
        lines.on('line', (line) => {
          lastLine = line.trim() || lastLine
          log.error(line)
        })
        allRead = new Promise((resolve) => lines.on('close', resolve))
      },
    },
    middleware: createMiddleware(),
  }
  const env = { ...process.env, ...ENVIRONMENT } // the client adds nothing to it
  const server = { command: program.command, transport: TransportKind.stdio, options: { cwd: program.cwd, env } }
  const client = new QuietClient('greencode', 'GreenCode', server, options)
  const lastWords = async () => {
    await Promise.race([allRead, new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS))])
    return lastLine
  }
  return { client, lastWords }
}

/** Withhold large documents, and ask for nothing where nothing may be suggested. */
function createMiddleware(): Middleware {
  const withheld = new Set<string>()
  return {
    didOpen: async (document, next) => {
      if (isTooLarge(document)) {
        withheld.add(document.uri.toString())
      } else {
        await next(document)
      }
    },
    didChange: async (event, next) => {
      if (!withheld.has(event.document.uri.toString())) {
        await next(event)
      }
    },
    didClose: async (document, next) => {
      if (!withheld.delete(document.uri.toString())) {
        await next(document)
      }
    },
    provideInlineCompletionItems: async (document, position, context, token, next) => {
      if (withheld.has(document.uri.toString()) || (await whyNot(document)) !== undefined) {
        return []
      }
      return next(document, position, context, token)
    },
  }
}
