// What the hosts sent beside what the relay sent, both still growing.

import { compare } from './compare.mjs'
import { until } from './processes.mjs'

const HOPELESS_MS = 5_000

// `hosts` and `relayed` are recorders; `rules` say what must not pass: see `compare.mjs`.
export class Comparison {
  constructor(hosts, relayed, rules) {
    Object.assign(this, { hosts, relayed, rules })
  }

  get sent() {
    return new Map(this.hosts.map(({ name, frames }) => [name, frames]))
  }

  result() {
    return compare(this.sent, this.relayed.frames, this.rules)
  }

  get missing() {
    return this.result().faults.some((fault) => fault.startsWith('missing'))
  }

  // Waits until nothing that should pass is missing, and a while longer for what should not come.
  async settled() {
    let count = -1
    const quiet = () => {
      const before = count
      count = this.hosts.reduce((sum, { frames }) => sum + frames.length, 0)
      return count === before
    }
    // A PDS looks for events to send at least once a second.
    await new Promise((resolve) => setTimeout(resolve, 1_200))
    const through = () => quiet() && !this.missing
    await until('everything went all the way', through, this.patience).catch(() => {
      // What is missing once stays missing: the rest of the run need not wait for it as long.
      this.patience = HOPELESS_MS
    })
  }

  faults() {
    const { faults } = this.result()
    return [...faults, ...[...this.hosts, this.relayed].flatMap(({ problems }) => problems)]
  }
}
