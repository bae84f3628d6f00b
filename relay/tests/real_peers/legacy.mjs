// PDSes of years ago beside today's: one before Sync 1.1, which proves nothing and still sends
// `#handle` and `#tombstone`, and one that is just after it.
//
// node legacy.mjs BINARY PYTHON NODE, as main.mjs; NODE runs the old PDSes.

import { agrees, check, endsWithTheStory, eventually, tell } from './checks.mjs'
import { Comparison } from './comparison.mjs'
import { Gate } from './gate.mjs'
import { Relay, allConsumers, answers, start, until } from './processes.mjs'
import { Recorder, contentOf } from './recorder.mjs'
import { everyKind } from './scenario.mjs'
import { countsDrops } from './views.mjs'

const [binary, python, oldNode] = process.argv.slice(2)
const DIRECTORY = 'http://localhost:2582'
const ROTATION_KEY = 'aa'.repeat(31) + '01'

const host = (port, version) => ({
  name: `localhost:${port}`, base: `http://localhost:${port}`, port, version,
})
const OLD = host(2583, '0.4.95')
const LATER = host(2584, '0.4.217')
// Behind a gate, which can make it forget what it has shown once.
const TODAY = { ...host(2585, undefined), upstream: 2595 }
const HOSTS = [OLD, LATER, TODAY]

async function startHosts() {
  const peer = (node, script, ...args) => endsWithTheStory(
    start(node, [script, ...args], `${args[0]}.log`, { ROTATION_KEY }))
  peer(process.execPath, 'directory.mjs', '2582')
  for (const { port, upstream = port, name, version } of HOSTS) {
    const script = version ? `legacy-${version}/pds.mjs` : 'pds.mjs'
    peer(version ? oldNode : process.execPath, script, String(upstream), `data/${port}`, name, '')
  }
  await until('the directory is up', () => answers(`${DIRECTORY}/_health`))
  const gate = new Gate(TODAY.port, TODAY.upstream)
  for (const { name, base } of HOSTS) {
    await until(`${name} is up`, () => answers(`${base}/xrpc/_health`))
  }
  gate.follow()
  return gate
}

// A relay with its recorder and what it has to do.
async function follow(name, ports, flags, rules, recorders) {
  const [listen, metrics] = ports.map((port) => `127.0.0.1:${port}`)
  const relay = endsWithTheStory(new Relay({
    binary, data: `data/${listen}`, listen, metrics, directory: DIRECTORY,
  }))
  const hosts = HOSTS.map((it) => it.name).join(',')
  await relay.start(['--handles', 'pass', '--backfill', '--host', hosts, ...flags])
  const relayed = new Recorder(name, `ws://${listen}`, 0)
  return { name, listen, metrics, relayed, comparison: new Comparison(recorders, relayed, rules) }
}

// A `#handle` goes out as an `#identity`; a `#tombstone` as what the relay found out itself.
const legacy = {
  becomes: ({ kind, content, did, handle, timeText }) =>
    [kind === '#handle' ? contentOf('#identity', { did, handle, time: timeText }) : content],
  becomesOurs: ({ kind }) => kind === '#tombstone',
  own: ({ kind, status }) => kind === '#account' && status === 'deleted',
}

// What must not pass where nobody is excused or held to anything. The old PDS repeats an account's
// last commit, without its ops, at its re-activation; and a host that has shown Sync 1.1 once may
// not forget it.
function ratchetDrops(frames) {
  return (name, frame) => {
    if (frame.kind !== '#commit' || frame.proven) return undefined
    if (name === TODAY.name) return isFirst(frames, name, frame) ? undefined : 'prev_data_missing'
    const repeats = name === OLD.name && frames.get(name).some((other) =>
      other.seq < frame.seq && other.did === frame.did && other.rev === frame.rev)
    return repeats ? 'rev_not_newer' : undefined
  }
}

// What must not pass where the old PDS is held to Sync 1.1 and today's is excused from it.
function overriddenDrops(frames) {
  return (name, frame) => {
    if (name !== OLD.name || frame.kind !== '#commit' || isFirst(frames, name, frame)) {
      return undefined
    }
    return frame.ops.length > 0 ? 'prev_data_missing' : 'inversion_mismatch'
  }
}

// Whether the account had written nothing before: its tree is known to have been empty.
function isFirst(frames, name, { did, seq }) {
  return !frames.get(name).some((other) =>
    other.seq < seq && other.did === did && other.ops.length > 0)
}

async function story() {
  const gate = await startHosts()
  const recorders = HOSTS.map(({ name, base }) => new Recorder(name, base.replace('http', 'ws'), 0))
  const old = recorders[0]
  const frames = new Map(recorders.map((recorder) => [recorder.name, recorder.frames]))
  const ratchet = await follow('the ratchet alone', [2470, 2471], [],
    { ...legacy, drops: ratchetDrops(frames) }, recorders)
  const overridden = await follow('strict and lenient', [2480, 2481],
    ['--strict-host', OLD.name, '--lenient-host', TODAY.name],
    { ...legacy, drops: overriddenDrops(frames) }, recorders)
  const relays = [ratchet, overridden]
  const consumers = allConsumers(`ws://${ratchet.listen}`, DIRECTORY, python).map(endsWithTheStory)
  const seen = () => ratchet.comparison.settled()
  const accounts = await Promise.all(HOSTS.map(({ base, port }) =>
    everyKind(base, 'test', seen, `-${port}`)))
  gate.forgets = true
  for (const { alice } of accounts) {
    for (const text of ['one', 'two']) await alice.note(`afterwards: ${text}`)
  }
  for (const { comparison } of relays) await comparison.settled()

  await check('the old PDS sent what only old ones send, and proved no commit', () => {
    const kinds = new Set(old.frames.map(({ kind }) => kind))
    const missing = ['#handle', '#tombstone'].filter((kind) => !kinds.has(kind))
    const proven = old.frames.filter((frame) => frame.proven)
    return [...missing.map((kind) => `no ${kind}`), ...proven.map(({ rev }) => `${rev} is proven`)]
  })
  for (const { name, metrics, comparison } of relays) {
    await check(`what old PDSes say passes beside what later ones say, ${name}`, () =>
      comparison.faults())
    await eventually(`every drop of an old PDS is counted under its name, ${name}`, () =>
      countsDrops(metrics, comparison))
    console.log(`dropped, ${name}: ${tally(comparison)}`)
    await check(`a tombstone goes out as what its host answers, ${name}`, () =>
      tombstones(comparison))
  }
  for (const consumer of consumers) {
    await agrees(consumer, ratchet.relayed, 'old PDSes and later ones')
  }
}

// How many were dropped under each name.
function tally(comparison) {
  const counts = {}
  for (const { reason } of comparison.result().dropped) counts[reason] = (counts[reason] ?? 0) + 1
  return Object.entries(counts).map(([reason, count]) => `${count} ${reason}`).join(', ')
}

// For each `#tombstone` the relay says once by itself that the account is deleted.
function tombstones({ hosts, relayed }) {
  const theirs = new Set(hosts.flatMap(({ frames }) => frames).map(({ content }) => content))
  const own = relayed.frames.filter((frame) => legacy.own(frame) && !theirs.has(frame.content))
  const owed = hosts[0].frames.filter(({ kind }) => kind === '#tombstone')
  const [said, due] = [own, owed].map((frames) => frames.map(({ did }) => did).join(' '))
  return said === due ? [] : [`said of ${said}`, `owed of ${due}`]
}

await tell(story)
