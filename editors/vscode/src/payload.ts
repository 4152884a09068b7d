/** What `greencode/status` says. Every key may be absent: an older server knows fewer of them. */
export interface Status {
  state?: 'loading' | 'ready' | 'paused' | 'failed'
  /** One sentence: why nothing is suggested, or what stands in for what. */
  reason?: string | null
  model?: string
  device?: string
  /** 1 is lossless, 0 the most sparing. */
  preference?: number
  power?: 'mains' | 'battery' | 'unknown'
  last?: Suggestion | null
  today?: Today
  /** Empty while the model loads. */
  choices?: Choice[]
}

/** The suggestion that was computed last, shown or not. */
export interface Suggestion {
  energy_j: number
  /** How the figure was come by: measured, attributed or modelled. */
  energy_tier: string
  saved_j?: number
  /** Layers run for each token. */
  exit_layers: number[]
  layers: number
  elapsed_ms: number
}

/** Sums since midnight, over every editor of this user. */
export interface Today {
  energy_j: number
  energy_tier?: string
  /** Against full depth; always modelled, and below zero where early exits cost more than they saved. */
  saved_j: number
  completions?: number
  accepted?: number
}

/** A preference by name, with what it costs and keeps on this device. */
export interface Choice {
  name: string
  preference: number
  /** Decode cost over full depth. */
  cost_ratio: number
  /** The proven share of the full model's tokens. */
  agreement: number
}

const UNITS: [number, string][] = [[1e6, 'MJ'], [1e3, 'kJ'], [1, 'J'], [1e-3, 'mJ']]

/** Return joules with a unit and at most three digits, such as `12.3 J` or `450 mJ`. */
export function joules(energyJ: number): string {
  const size = Math.abs(energyJ)
  if (!(size >= 5e-4)) {
    return '0 J'
  }
  const [factor, unit] = UNITS.find(([least]) => size >= least * 0.9995) ?? [1e-3, 'mJ']
  const value = size / factor
  const digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2
  return `${energyJ < 0 ? '\u2212' : ''}${value.toFixed(digits)} ${unit}`
}

/** Return a share as a percentage without needless digits. */
export function percent(share: number): string {
  return `${Number((share * 100).toFixed(1))} %`
}
