import { stat } from 'node:fs/promises'
import * as vscode from 'vscode'

/** Above this many UTF-16 units a document is neither sent to the server nor completed. */
export const LARGEST_DOCUMENT = 5_000_000
/** What the bundled model has learned; other models are asked for every language, and the server decides. */
const BUNDLED_LANGUAGES = ['python', 'java']
const SCHEMES = ['file', 'untitled']

/** What the server is notified of: documents of any language, since its settings say which are completed. */
export const SELECTOR = SCHEMES.map((scheme) => ({ scheme }))

/** Return in one sentence why the document is not completed, whatever the server thinks; undefined if it may be. */
export async function whyNot(document: vscode.TextDocument): Promise<string | undefined> {
  if (!SCHEMES.includes(document.uri.scheme)) {
    return `Only files on this machine's disk are completed, not those of ${document.uri.scheme}:`
  }
  if (isTooLarge(document)) {
    return 'This file is larger than 5 MB and is not completed.'
  }
  return (await isReadOnly(document.uri)) ? 'This file is read-only; there is nothing to complete.' : undefined
}

export function isTooLarge(document: vscode.TextDocument): boolean {
  return document.offsetAt(document.lineAt(document.lineCount - 1).range.end) > LARGEST_DOCUMENT
}

/** Tell whether the server has anything to do for the document: until it has, it is not started. */
export function isWanted(document: vscode.TextDocument): boolean {
  const settings = vscode.workspace.getConfiguration('greencode', document)
  const languages = settings.get<string[] | 'auto'>('languages', 'auto')
  if (!SCHEMES.includes(document.uri.scheme)) {
    return false
  }
  if (languages !== 'auto') {
    return languages.includes(document.languageId)
  }
  return settings.get('model') !== 'bundled' || BUNDLED_LANGUAGES.includes(document.languageId)
}

async function isReadOnly(uri: vscode.Uri): Promise<boolean> {
  if (uri.scheme !== 'file') {
    return false
  }
  try {
    return ((await stat(uri.fsPath)).mode & 0o222) === 0 // what VS Code calls read-only by permissions
  } catch {
    return false // not saved yet, or gone
  }
}
