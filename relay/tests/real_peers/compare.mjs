// Is what the relay sent what the hosts sent? Pure: recordings in, faults out.

import { tell } from './recorder.mjs'

// Within this time of another one of its account, a `#sync` that says what is known may be dropped
// (docs/protocol.md, `sync_repeated`).
const REPEAT_MS = 60_000

// Compares `hosts` (a Map from host to its frames) with `relayed` (the relay's frames).
//
// Every event of every host must be there once, its content unchanged, the events of one account
// in the order in which its host sent them, under a seq that rises; except those for which `drops`
// (a function of host and frame) has a name: they must not be there. The other rules are functions
// of a frame: `mayHide` tells those that a replay may leave out, `own` those that the relay says of
// itself, `becomes` gives the contents of what may go out for an event, `becomesOurs` tells those
// for which the relay says something of its own instead. Answers `faults`, and `dropped`: the
// frames that were left out and rightly so, each with the name of its drop.
export function compare(hosts, relayed, rules) {
  const { mayHide = () => false, own = () => false } = rules
  const faults = []
  const sent = entries(hosts, rules)
  const byContent = new Map()
  for (const entry of sent) {
    for (const content of entry.contents) {
      const same = byContent.get(content) ?? []
      byContent.set(content, [...same, entry])
    }
  }
  let last = 0
  const reached = new Map()
  for (const frame of relayed) {
    if (frame.seq <= last) faults.push(`seq does not rise: ${tell(frame)} after ${last}`)
    last = frame.seq
    const same = byContent.get(frame.content)
    const entry = same?.find(({ relayed }) => !relayed)
    if (!entry && own(frame)) continue
    if (!entry) {
      faults.push(`${same ? 'sent twice' : 'sent by no host'}: ${tell(frame)}`)
      continue
    }
    entry.relayed = true
    if (entry.fate === 'drop') {
      faults.push(`must drop as ${entry.reason}: ${entry.host} ${tell(entry.frame)}`)
    }
    const place = `${entry.host} ${frame.did}`
    if (entry.index < (reached.get(place) ?? -1)) faults.push(`out of order: ${tell(frame)}`)
    reached.set(place, entry.index)
  }
  const absent = sent.filter(({ relayed }) => !relayed)
  const owed = absent.filter(({ frame, fate }) => fate === 'pass' && !mayHide(frame))
  faults.push(...owed.map(({ host, frame }) => `missing: ${host} ${tell(frame)}`))
  return { faults, dropped: absent.filter(({ fate }) => fate !== 'pass') }
}

// What the hosts sent, each frame with its fate: pass, drop, or either.
function entries(hosts, rules) {
  const { drops, becomes = ({ content }) => [content], becomesOurs = () => false } = rules
  const all = []
  for (const [host, frames] of hosts) {
    const syncs = new Map()
    for (const [index, frame] of frames.entries()) {
      if (becomesOurs(frame)) continue
      let reason = drops(host, frame)
      let fate = reason ? 'drop' : 'pass'
      if (frame.kind === '#sync') {
        const before = syncs.get(frame.did)
        const repeats = before !== undefined && frame.time - before.time < REPEAT_MS
        if (!reason && repeats) {
          fate = 'either'
          reason = 'sync_repeated'
        }
        syncs.set(frame.did, frame)
      }
      all.push({ host, index, frame, contents: becomes(frame), fate, reason, relayed: false })
    }
  }
  return all
}

// Shows that the comparison can fail: damages a recording in every way that it should notice.
// Answers pairs of a name and whether the damage was noticed.
export function selfTest(hosts, relayed, rules) {
  const noticed = (frames) => compare(hosts, frames, rules).faults.length > 0
  const middle = relayed.length >> 1
  const late = relayed.findLastIndex(({ kind }) => kind === '#commit')
  const early = relayed.findLastIndex(({ did }, index) => index < late && did === relayed[late].did)
  const without = relayed.toSpliced(middle, 1)
  const twice = relayed.toSpliced(middle, 0, relayed[middle])
  const renumbered = (frames) => frames.map((frame, index) => ({ ...frame, seq: index + 1 }))
  const swapped = relayed.with(early, relayed[late]).with(late, relayed[early])
  const changed = relayed.with(middle, { ...relayed[middle], content: 'other' })
  const falling = relayed.with(middle, { ...relayed[middle], seq: relayed[middle - 1].seq })
  return [
    ['a frame that is missing', noticed(without)],
    ['a frame that comes twice', noticed(renumbered(twice))],
    ['two events of an account that changed places', noticed(renumbered(swapped))],
    ['a changed body', noticed(changed)],
    ['a seq that does not rise', noticed(falling)],
  ]
}
