// What others say of the same events: consumers, the relay's HTTP answers and its counters.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { call } from './xrpc.mjs'

const UNKNOWN = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'

// How a consumer's events differ from the frames that the relay sent.
export function consumerAgrees(consumer, relayed) {
  const { expected: expect, compares = () => true } = SHOWS[consumer.shows]
  const expected = relayed.frames.flatMap(expect)
  const found = consumer.events.filter((event) => compares(event, relayed)).map(text)
  const faults = consumer.errors.map((error) => `error: ${error}`)
  const at = expected.findIndex((line, index) => line !== found[index])
  if (at >= 0) faults.push(`event ${at}: expected ${expected[at]}, found ${found[at]}`)
  const more = found.length - expected.length
  if (more > 0 && at < 0) faults.push(`${more} more events than expected: ${found.at(-1)}`)
  return faults
}

const text = ({ kind, seq, did, path, ops }) =>
  [kind, seq, did, path, ops].filter((part) => part !== undefined).join(' ')

// What consumers show of a frame, by what their lines stand for.
const SHOWS = {
  // Every frame, with how many ops it has.
  frames: { expected: (frame) => [ofFrame(frame, frame.ops.length)] },
  // Every frame, with how many ops have a record or need none: the record of an op that a later
  // one undoes is not in the frame.
  records: {
    expected: (frame) => [ofFrame(frame, frame.ops.filter(leavesItsMark).length)],
  },
  // Every op that was verified. Of several ops on one path those are that agree with the tree, so
  // only ops with a path of their own are compared.
  ops: { expected: asOps, compares: ownPathOnly },
}

const ofFrame = ({ kind, seq, did }, ops) =>
  text({ kind, seq, did, ops: kind === '#commit' ? ops : undefined })

const leavesItsMark = ({ action, path }, index, ops) =>
  action === 'delete' || !ops.slice(index + 1).some((later) => later.path === path)

function asOps({ kind, seq, did, ops }) {
  if (kind !== '#commit') return [text({ kind: kind.slice(1), seq, did })]
  const single = singles(ops)
  return ops.filter(({ path }) => single.has(path)).map(
    ({ action, path }) => text({ kind: action, seq, did, path }))
}

// An event of an op whose path no other op of its commit has, or of no op at all.
function ownPathOnly({ seq, path }, relayed) {
  if (!path) return true
  const frame = relayed.bySeq.get(seq)
  return !frame || singles(frame.ops).has(path)
}

// The paths of a commit that occur in one op only.
function singles(ops) {
  const counts = new Map()
  for (const { path } of ops) counts.set(path, (counts.get(path) ?? 0) + 1)
  return new Set([...counts].filter(([, count]) => count === 1).map(([path]) => path))
}

// How the relay's counters differ from what it had to drop. `names` maps a name that is counted to
// the one that is expected, where either may be met.
export async function countsDrops(metrics, comparison, names = {}) {
  const samples = parse(await (await fetch(`http://${metrics}/metrics`)).text())
  const counted = {}
  for (const { name, labels, value } of samples) {
    const drops = ['mainstem_verifier_dropped_total', 'mainstem_crawler_drops_total']
    if (!drops.includes(name)) continue
    const reason = names[labels.reason] ?? labels.reason
    if (value > 0) counted[reason] = (counted[reason] ?? 0) + value
  }
  const owed = {}
  for (const { reason } of comparison.result().dropped) owed[reason] = (owed[reason] ?? 0) + 1
  const faults = []
  for (const reason of new Set([...Object.keys(counted), ...Object.keys(owed)])) {
    if (counted[reason] !== owed[reason]) {
      faults.push(`${reason}: counted ${counted[reason] ?? 0}, dropped ${owed[reason] ?? 0}`)
    }
  }
  const received = samples.find(({ name }) => name === 'mainstem_crawler_frames_total')?.value
  const sent = comparison.hosts.reduce((sum, { frames }) => sum + frames.length, 0)
  if (received !== sent) faults.push(`received ${received} frames, the hosts sent ${sent}`)
  return faults
}

// Prometheus text: one sample per line that is no comment.
function parse(exposition) {
  return exposition.split('\n').filter((line) => line && !line.startsWith('#')).map((line) => {
    const [, name, list = '', value] = /^([a-z0-9_]+)(?:\{(.*)\})? (\S+)/.exec(line)
    const labels = Object.fromEntries([...list.matchAll(/(\w+)="([^"]*)"/g)].map((m) => m.slice(1)))
    return { name, labels, value: Number(value) }
  })
}

// The relay's answers beside those of the PDSes, one check per method.
export async function answersLikeTheHosts(check, relay, comparison, accounts, hosts) {
  const all = hosts.flatMap(({ base }, index) =>
    Object.values(index === 0 ? accounts.plain : accounts.tls).map(({ did }) => ({ did, base })))
  all.push({ did: accounts.moved.did, base: accounts.moved.base })
  all.push({ did: UNKNOWN, base: hosts[0].base })

  await check('getRepoStatus answers as the PDSes do', () => differences(all, async (account) => {
    const { did } = account
    const [ours, theirs] = await both(relay, account, 'com.atproto.sync.getRepoStatus')
    // The relay remembers a deleted account; its PDS does not.
    const deleted = accounts.plain.carol.did === did || accounts.tls.carol.did === did
    if (deleted) return [pick(ours), pick({ did, active: false, status: 'deleted' })]
    return [pick(ours), pick(theirs)]
  }))
  await check('getLatestCommit answers as the PDSes do', () => differences(all, (account) =>
    both(relay, account, 'com.atproto.sync.getLatestCommit')))
  await check('listHosts tells of both PDSes, live and read to the end', async () => {
    const { hosts: listed } = await call(relay, 'com.atproto.sync.listHosts')
    return comparison.hosts.flatMap(({ name, frames }) => {
      const found = listed.find(({ hostname }) => hostname === name)
      const fine = found?.status === 'active' && found.seq === frames.at(-1).seq &&
        found.accountCount > 0
      return fine ? [] : [`${name} (at ${frames.at(-1).seq}): ${JSON.stringify(found)}`]
    })
  })
  await check('requestCrawl takes a PDS and refuses what is none', async () => {
    const ask = (hostname) => outcome(call(relay, 'com.atproto.sync.requestCrawl', {
      body: { hostname },
    }))
    const asked = [await ask('localhost:2583'), await ask('localhost:1'), await ask('no host')]
    const expected = [{}, { error: 'HostNotFound' }, { error: 'InvalidRequest' }]
    const same = JSON.stringify(asked) === JSON.stringify(expected)
    return same ? [] : [`answered ${JSON.stringify(asked)}`]
  })
  await check('other methods answer MethodNotImplemented', async () => {
    const { error } = await outcome(call(relay, 'com.example.nothing'))
    return error === 'MethodNotImplemented' ? [] : [`answered ${error}`]
  })
  await check('health names the version', async () => {
    const { version } = await call(relay, '_health')
    return version ? [] : ['no version']
  })
}

const pick = ({ error, did, active, status, rev }) => ({ error, did, active, status, rev })

// The answers of the relay and of the account's PDS to one question about it.
async function both(relay, { did, base }, method) {
  const params = { did }
  return Promise.all([relay, base].map((at) => outcome(call(at, method, { params }))))
}

// An answer, or the name of the error.
const outcome = (answer) => answer.catch((error) => ({ error: error.name }))

async function differences(accounts, compared) {
  const faults = []
  for (const account of accounts) {
    const [ours, theirs] = (await compared(account)).map(sorted)
    if (ours !== theirs) faults.push(`${account.did}: relay ${ours}, expected ${theirs}`)
  }
  return faults
}

const sorted = (value) => JSON.stringify(Object.fromEntries(Object.entries(value).sort()))

// `mainstem tail` prints exactly these seqs and finds nothing wrong.
export async function tailAgrees(binary, url, seqs) {
  const args = ['tail', url, '--cursor', '0', '--limit', String(seqs.length)]
  const limits = { maxBuffer: 64 << 20, timeout: 30_000 }
  const { stdout } = await promisify(execFile)(binary, args, limits)
  const lines = stdout.trim().split('\n').map((line) => JSON.parse(line).seq)
  const at = seqs.findIndex((seq, index) => seq !== lines[index])
  if (lines.length !== seqs.length) return [`${lines.length} lines, not ${seqs.length}`]
  return at < 0 ? [] : [`line ${at + 1} has seq ${lines[at]}, not ${seqs[at]}`]
}
