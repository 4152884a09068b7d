import * as vscode from 'vscode'
import { percent, type Choice } from './payload'
import type { Session } from './session'

interface Item extends vscode.QuickPickItem {
  preference: number
  choiceName: string
}

const KEEP: vscode.QuickInputButton = { iconPath: new vscode.ThemeIcon('save'), tooltip: 'Keep in the user settings' }
const MEANINGS: Record<string, string> = {
  accuracy: 'the full model\'s tokens, every one',
  balanced: 'nearly the full model\'s tokens',
  energy: 'the most sparing',
}
/** Names without costs, for a server that has not reported its own yet. */
const NAMES: [string, number][] = [['accuracy', 1], ['balanced', 0.5], ['energy', 0]]

/** Let the user choose between accuracy and energy: for this session, or by an item's button for good. */
export function selectPreference(session: Session): void {
  const pick = vscode.window.createQuickPick<Item>()
  pick.title = 'GreenCode: accuracy against energy'
  pick.placeholder = 'For this session; the button of an item keeps it in the settings'
  pick.items = itemsFor(session)
  pick.activeItems = pick.items.filter((item) => item.preference === session.status.preference)
  pick.onDidHide(() => {
    pick.dispose()
  })
  pick.onDidTriggerItemButton(({ item }) => {
    pick.hide()
    void vscode.workspace.getConfiguration('greencode').update('preference', item.choiceName, true)
  })
  pick.onDidAccept(() => {
    const [item] = pick.selectedItems
    pick.hide()
    if (item !== undefined) {
      void session.execute('greencode.setPreference', item.preference)
    }
  })
  pick.show()
}

function itemsFor(session: Session): Item[] {
  const choices: (Choice | undefined)[] = session.status.choices ?? []
  return NAMES.map(([name, preference]) => {
    const choice = choices.find((candidate) => candidate?.name === name)
    return {
      label: name,
      choiceName: name,
      preference,
      description: session.status.preference === preference ? 'now' : '',
      detail: choice === undefined ? MEANINGS[name] : costs(choice),
      buttons: [KEEP],
    }
  })
}

function costs(choice: Choice): string {
  const kept = choice.agreement >= 1 ? 'every token' : `at least ${percent(choice.agreement)} of the tokens`
  return `${percent(choice.cost_ratio)} of full depth's decode cost, ${kept} of the full model`
}
