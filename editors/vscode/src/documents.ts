import { stat } from 'node:fs/promises'
import * as vscode from 'vscode'

/** Above this many UTF-16 units a document is neither sent to the server nor completed. */
export const LARGEST_DOCUMENT = 5_000_000
/** What the bundled model has learned; other models are asked for every language, and the server decides. */
const BUNDLED_LANGUAGES = ['python', 'java']
const SCHEMES = ['file', 'untitled']
/** A notebook's cells; the notebook itself is synchronised as such. */
const CELL = 'vscode-notebook-cell'

/** What the server is notified of: documents of any language, since its settings say which are completed. */
export const SELECTOR = [...SCHEMES, CELL].map((scheme) => ({ scheme }))

/** Return the scheme of the file that a document is, or that it is a cell of. */
function schemeOf(document: vscode.TextDocument): string {
  if (document.uri.scheme !== CELL) {
    return document.uri.scheme
  }
  const notebook = vscode.workspace.notebookDocuments.find((one) => one.getCells().some((c) => c.document === document))
  return notebook?.uri.scheme ?? CELL
}

/** Return in one sentence why the document is not completed, whatever the server thinks; undefined if it may be. */
export async function whyNot(document: vscode.TextDocument): Promise<string | undefined> {
  const scheme = schemeOf(document)
  if (!SCHEMES.includes(scheme)) {
    return `Only files on this machine's disk are completed, not those of ${scheme}:`
  }
  if (isTooLarge(document)) {
    return 'This file is larger than 5 MB and is not completed.'
  }
  return scheme === 'file' && (await isReadOnly(document.uri)) ? 'This file is read-only; there is nothing to complete.' : undefined
}

export function isTooLarge(document: vscode.TextDocument): boolean {
  return document.offsetAt(document.lineAt(document.lineCount - 1).range.end) > LARGEST_DOCUMENT
}

/** Tell whether the server has anything to do for the document: until it has, it is not started. */
export function isWanted(document: vscode.TextDocument): boolean {
  const settings = vscode.workspace.getConfiguration('greencode', document)
  const languages = settings.get<string[] | 'auto'>('languages', 'auto')
  if (!SCHEMES.includes(schemeOf(document))) {
    return false
  }
  if (languages !== 'auto') {
    return languages.includes(document.languageId)
  }
  return settings.get('model') !== 'bundled' || BUNDLED_LANGUAGES.includes(document.languageId)
}

async function isReadOnly(uri: vscode.Uri): Promise<boolean> {
  try {
    return ((await stat(uri.fsPath)).mode & 0o222) === 0 // what VS Code calls read-only by permissions
  } catch {
    return false // not saved yet, or gone
  }
}
