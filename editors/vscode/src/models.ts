import * as vscode from 'vscode'
import type { Session } from './session'

/** What the server's command `greencode.models` answers. */
interface Offers {
  models: Offer[]
  /** The name of a model that this machine could run and that beats today's; empty for none. */
  better: string
  /** The same as a sentence. */
  advice: string
}

interface Offer {
  name: string
  licence: string
  size_bytes: number
  memory_bytes: number
  /** Whether this machine has the memory. */
  fits: boolean
  is_here: boolean
}

const OFFERED = 'greencode.offeredModel'

/** Let the user choose a model to pull; the server shows how far it is, and what came of it. */
export async function selectModel(session: Session): Promise<void> {
  const offers = await offersOf(session)
  if (offers === undefined) {
    return
  }
  const items = offers.models.map((offer) => ({
    label: offer.name,
    description: offer.is_here ? 'is here' : offer.fits ? '' : 'needs more memory than this machine has to spare',
    detail: `${gigabytes(offer.size_bytes)} to download, ${gigabytes(offer.memory_bytes)} of memory; ${offer.licence}`,
  }))
  const chosen = await vscode.window.showQuickPick(items, {
    title: 'GreenCode: get a model',
    placeHolder: offers.advice || 'It is pulled once, checked, and stays on this machine',
  })
  if (chosen !== undefined) {
    await session.execute('greencode.pullModel', chosen.label)
  }
}

/** Offer a better model once for good, whatever the answer. */
export async function offerModel(session: Session, memory: vscode.Memento): Promise<void> {
  if (memory.get<boolean>(OFFERED) === true) {
    return
  }
  const offers = await offersOf(session)
  if (offers === undefined || offers.better === '') {
    return
  }
  await memory.update(OFFERED, true)
  const choice = await vscode.window.showInformationMessage(offers.advice, 'Get It', 'Others')
  if (choice === 'Get It') {
    await session.execute('greencode.pullModel', offers.better)
  } else if (choice === 'Others') {
    await selectModel(session)
  }
}

/** Ask the server; undefined where there is none. */
async function offersOf(session: Session): Promise<Offers | undefined> {
  return await session.execute('greencode.models') as Offers | undefined
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`
}
