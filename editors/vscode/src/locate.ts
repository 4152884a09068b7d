import { constants } from 'node:fs'
import { access, mkdir, realpath, stat } from 'node:fs/promises'
import * as path from 'node:path'
import * as vscode from 'vscode'

const NAME = process.platform === 'win32' ? 'greencode-lsp.exe' : 'greencode-lsp'

/** Where the server is, or the sentence that says what to fix. */
export type Found = { path: string } | { problem: string }

/** Find the server: by the setting, else in the selected Python environment, else on PATH. */
export async function findServer(): Promise<Found> {
  const named = vscode.workspace.getConfiguration('greencode').get<string>('server.path', '').trim()
  if (named) {
    return (await isExecutable(named))
      ? { path: named }
      : { problem: `There is no executable ${named}; fix the setting greencode.server.path.` }
  }
  const folders = (process.env.PATH ?? '').split(path.delimiter).filter((folder) => path.isAbsolute(folder))
  for (const folder of [...(await environmentFolders()), ...folders]) {
    const candidate = path.join(folder, NAME)
    if ((await isExecutable(candidate)) && !(await isInWorkspace(candidate))) {
      return { path: candidate }
    }
  }
  return { problem: 'greencode-lsp is not installed, or neither on PATH nor in the selected Python environment.' }
}

/** Make the folder in which the server is started, outside every workspace, and return it. */
export async function ownFolder(context: vscode.ExtensionContext): Promise<string> {
  const folder = context.globalStorageUri.fsPath
  await mkdir(folder, { recursive: true, mode: 0o700 })
  return folder
}

/** A repository may bring an executable of that name: one inside an open folder is taken from the setting alone. */
async function isInWorkspace(file: string): Promise<boolean> {
  const real = await realpath(file)
  for (const { uri } of vscode.workspace.workspaceFolders ?? []) {
    const root = await realpath(uri.fsPath).catch(() => uri.fsPath)
    if ([file, real].some((one) => [uri.fsPath, root].some((folder) => one.startsWith(folder + path.sep)))) {
      return true
    }
  }
  return false
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK)
    return path.isAbsolute(file) && (await stat(file)).isFile()
  } catch {
    return false
  }
}

/** The parts of the Python extension's API (`@vscode/python-extension`) that are used. */
interface PythonApi {
  environments: {
    getActiveEnvironmentPath(resource?: vscode.Uri): { path: string }
    resolveEnvironment(environment: { path: string }): Promise<{ executable: { uri?: vscode.Uri } } | undefined>
    onDidChangeActiveEnvironmentPath: vscode.Event<unknown>
  }
}

/** Call back whenever another Python environment is selected, where there is a Python extension. */
export async function onEnvironmentChange(listener: () => void): Promise<vscode.Disposable> {
  const python = await pythonApi()
  return python?.environments.onDidChangeActiveEnvironmentPath(listener) ?? new vscode.Disposable(() => undefined)
}

/** Return the selected environment's folder of executables. A workspace that is not trusted may have brought its own. */
async function environmentFolders(): Promise<string[]> {
  const python = vscode.workspace.isTrusted ? await pythonApi() : undefined
  if (python === undefined) {
    return []
  }
  try {
    const resource = vscode.workspace.workspaceFolders?.[0]?.uri
    const active = python.environments.getActiveEnvironmentPath(resource)
    const executable = (await python.environments.resolveEnvironment(active))?.executable.uri?.fsPath
    return executable ? [path.dirname(executable), path.join(path.dirname(executable), 'Scripts')] : []
  } catch {
    return [] // an environment that cannot be resolved; PATH is next
  }
}

async function pythonApi(): Promise<PythonApi | undefined> {
  try {
    return (await vscode.extensions.getExtension<PythonApi>('ms-python.python')?.activate()) ?? undefined
  } catch {
    return undefined
  }
}
