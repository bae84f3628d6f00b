// The run: two real PDSes, the real PLC directory, Mainstem between them and real consumers.
//
// node main.mjs BINARY PYTHON, in a folder with tls/ and data/, inside the namespaces that `run`
// makes. Prints a line per check, "ok - …" or "not ok - …", with what was wrong below it.

import { agrees, check, endsWithTheStory, eventually, tell } from './checks.mjs'
import { compare, selfTest } from './compare.mjs'
import { Comparison } from './comparison.mjs'
import { Consumer, Relay, allConsumers, answers, start, until } from './processes.mjs'
import { Names } from './names.mjs'
import { lie, terminateTls } from './proxies.mjs'
import { Recorder, contentOf } from './recorder.mjs'
import { Writer, everyKind, migrate } from './scenario.mjs'
import { answersLikeTheHosts, countsDrops, tailAgrees } from './views.mjs'
import { Account, call } from './xrpc.mjs'

const [binary, python] = process.argv.slice(2)
const DIRECTORY = 'http://localhost:2582'
const PLAIN = { name: 'localhost:2583', base: 'http://localhost:2583', domain: 'test' }
const TLS = { name: 'pds1.test', base: 'https://pds1.test', domain: 'pds1.test' }
const RELAY = '127.0.0.1:2470'
const METRICS = '127.0.0.1:2471'
const LIAR_PORT = 2490
const NAMES_PORT = 2453
const SETTINGS = ['--ca-file', 'tls/ca.pem', '--dns-server', `127.0.0.1:${NAMES_PORT}`]
const ROTATION_KEY = 'aa'.repeat(31) + '01'

function peer(script, ...args) {
  const environment = { ROTATION_KEY }
  endsWithTheStory(start(process.execPath, [script, ...args], `${script}.log`, environment))
}

async function startHosts() {
  peer('directory.mjs', '2582')
  peer('pds.mjs', '2583', 'data/plain', PLAIN.name, `http://${RELAY}`)
  peer('pds.mjs', '2584', 'data/tls', TLS.name, '')
  await terminateTls('tls', '127.0.1.1', 443, 2584)
  await until('the directory is up', () => answers(`${DIRECTORY}/_health`))
  for (const { name, base } of [PLAIN, TLS]) {
    await until(`${name} is up`, () => answers(`${base}/xrpc/_health`))
  }
}

// Handles of the plain PDS are told by DNS, which asks it; those of the other by its web site. Of
// mallory's handle DNS says that it is somebody else's.
const IMPOSTOR = `mallory.${PLAIN.domain}`
const SOMEBODY_ELSE = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'

function startNames() {
  const ofTls = (name) => name === TLS.name || name.endsWith(`.${TLS.name}`)
  return new Names(NAMES_PORT, {
    address: (name) => ofTls(name) ? '127.0.1.1' : name === 'localhost' ? '127.0.0.1' : undefined,
    text: async (name) => {
      const handle = /^_atproto\.([a-z-]+\.test)$/.exec(name)?.[1]
      if (!handle || ofTls(name)) return undefined
      if (handle === IMPOSTOR) return `did=${SOMEBODY_ELSE}`
      const resolve = 'com.atproto.identity.resolveHandle'
      const found = await call(PLAIN.base, resolve, { params: { handle } }).catch(() => undefined)
      return found && `did=${found.did}`
    },
  })
}

// What must not pass: of a moved account, what its old place says after the move, and the `#sync`
// with which the new place starts, for it shows a commit of the old one.
const move = { did: undefined, at: 0 }
const rules = {
  drops(host, { did, kind, seq }) {
    if (did !== move.did) return undefined
    if (host === TLS.name && kind === '#sync') return 'commit_rev_mismatch'
    return host === PLAIN.name && seq > move.at ? 'wrong_host' : undefined
  },
  // A handle is left out where it cannot be looked up in time, and named invalid where it is wrong.
  becomes({ kind, content, did, handle, timeText: time }) {
    if (kind !== '#identity') return [content]
    const kept = handle === IMPOSTOR
      ? contentOf(kind, { did, handle: 'handle.invalid', time })
      : content
    return [kept, contentOf(kind, { did, time })]
  },
}

// What the old place says of a moved account waits for a document; by the time that is there, the
// new place may have written.
const LATE_NAMES = { rev_not_newer: 'wrong_host' }

async function story() {
  startNames()
  await startHosts()
  const hosts = [PLAIN, TLS].map(
    ({ name, base }) => new Recorder(name, base.replace('http', 'ws'), 0))
  const relay = new Relay({
    binary, data: 'data/relay', listen: RELAY, metrics: METRICS, directory: DIRECTORY,
  })
  endsWithTheStory(relay)

  // The plain one is not told to the relay: it announces itself with its first event.
  await relay.start([...SETTINGS, '--backfill', '--host', TLS.name])
  const relayed = new Recorder('relay', `ws://${RELAY}`, 0)
  const comparison = new Comparison(hosts, relayed, rules)
  const consumers = allConsumers(`ws://${RELAY}`, DIRECTORY, python).map(endsWithTheStory)

  const accounts = await everyKindAtBoth(comparison, consumers[0])
  await comparison.settled()
  await check('every event that should pass passed, once, in order, unchanged', () =>
    comparison.faults())
  await eventually('every drop is counted under its name, and nothing else is', () =>
    countsDrops(METRICS, comparison, LATE_NAMES))
  await check('a PDS that announces itself is followed from its first event', () => {
    const first = hosts[0].frames[0]
    const followed = relayed.frames.some(({ did, kind, timeText }) =>
      did === first.did && kind === first.kind && timeText === first.timeText)
    return followed ? [] : [`the first event of ${PLAIN.name} is not there`]
  })
  await check('handles go out that DNS or the web tells of, and one that lies is invalid', () => {
    const said = relayed.frames.map(({ handle }) => handle).filter(Boolean)
    const ofTls = (handle) => handle.endsWith(`.${TLS.domain}`)
    const owed = new Map([
      ['of the plain PDS', (handle) => handle.endsWith('.test') && !ofTls(handle)],
      ['of the other', ofTls],
      ['that is invalid', (handle) => handle === 'handle.invalid'],
    ])
    const absent = [...owed].filter(([, is]) => !said.some(is)).map(([which]) => `none ${which}`)
    return said.includes(IMPOSTOR) ? [...absent, IMPOSTOR] : absent
  })
  for (const consumer of consumers) await agrees(consumer, relayed, 'all of it')
  await answersLikeTheHosts(eventually, `http://${RELAY}`, comparison, accounts, [PLAIN, TLS])

  const writers = [accounts.plain.alice, accounts.plain.bob, accounts.tls.alice, accounts.tls.bob]
  for (const [how, signal, end] of [['SIGTERM', 'SIGTERM', 0], ['kill -9', 'SIGKILL', 'SIGKILL']]) {
    await interrupted(comparison, relay, writers, how, signal, end)
    for (const consumer of consumers) await agrees(consumer, relayed, `over ${how}`)
  }
  await replays(comparison)
  await selfTests(comparison)
}

// Answers the accounts at the plain PDS, those at the other, and the one that moved between them.
async function everyKindAtBoth(comparison, verifier) {
  const { hosts, relayed } = comparison
  const seen = () => comparison.settled()
  const verified = ({ uri }) => until(`${verifier.name} verified ${uri}`, () =>
    verifier.events.some(({ did, path }) => uri === `at://${did}/${path}`))
  // Until the relay believes the new place, it takes what the old one says.
  const arrived = async (did) => {
    const welcome = () =>
      hosts[1].frames.find((frame) => frame.did === did && frame.kind === '#account')
    await until('the relay says that the account is active at its new place', () =>
      relayed.frames.some(({ content }) => content === welcome()?.content))
    move.did = did
    move.at = hosts[0].frames.findLast((frame) => frame.did === did).seq
  }
  const handles = ['mover.test', `mover.${TLS.name}`]
  const impostor = async () => {
    const mallory = await Account.create(PLAIN.base, IMPOSTOR)
    await mallory.deactivate()
    await mallory.activate()
  }
  const [plain, tls, moved] = await Promise.all([
    everyKind(PLAIN.base, PLAIN.domain, seen),
    everyKind(TLS.base, TLS.domain, seen),
    migrate(PLAIN.base, TLS.base, DIRECTORY, ROTATION_KEY, handles, { verified, arrived }),
    impostor(),
  ])
  return { plain, tls, moved }
}

// Writes go on at the PDSes while the relay is stopped and started again.
async function interrupted(comparison, relay, accounts, how, signal, end) {
  const { relayed } = comparison
  const writer = new Writer(accounts)
  const pass = (count) => until('writes go on', () => writer.count >= count)
  await pass(40)
  const ended = await relay.stop(signal)
  const behind = writer.count
  await pass(behind + 40)
  await relay.start([...SETTINGS, '--host', PLAIN.base, '--host', TLS.name])
  await pass(behind + 80)
  await writer.stop()
  await comparison.settled()
  await check(`nothing is missing, twice or out of order over ${how} amid writes`, () => [
    ...comparison.faults(),
    ...(ended === end ? [] : [`it ended with ${ended}, not ${end}`]),
  ])
  if (signal === 'SIGTERM') {
    await check('a stop closes consumers with 1001', () => {
      const code = relayed.closes.at(-1)
      return code === 1001 ? [] : [`closed with ${code}`]
    })
  }
}

// The whole log, read again from its start.
async function replays(comparison) {
  const { relayed, sent, rules } = comparison
  const replay = new Recorder('replay', `ws://${RELAY}`, 0)
  const last = relayed.frames.at(-1).seq
  await until('the replay is at the end', () => replay.frames.at(-1)?.seq >= last).catch(() => {})
  replay.stop()
  const deleted = new Set(
    relayed.frames.filter(({ status }) => status === 'deleted').map(({ did }) => did))
  const mayHide = ({ did, kind }) => deleted.has(did) && ['#commit', '#sync'].includes(kind)
  await check('a reader from cursor 0 gets the same frames, byte for byte', () => {
    const live = new Map(relayed.frames.map(({ seq, raw }) => [seq, raw]))
    const other = replay.frames.filter(({ seq, raw }) => !live.get(seq)?.equals(raw))
    const { faults } = compare(sent, replay.frames, { ...rules, mayHide })
    return [...replay.problems, ...faults, ...other.map(({ seq }) => `seq ${seq} is another frame`)]
  })
  await check('mainstem tail reads it to the end', () =>
    tailAgrees(binary, `ws://${RELAY}`, replay.frames.map(({ seq }) => seq)))
}

// That these checks can fail.
async function selfTests(comparison) {
  for (const [what, noticed] of selfTest(comparison.sent, comparison.relayed.frames,
    comparison.rules)) {
    await check(`the comparison notices ${what}`, () => noticed ? [] : ['it does not'])
  }
  await check('the verifying consumer notices a relay that lies', async () => {
    await lie(LIAR_PORT, `ws://${RELAY}`)
    const args = ['consumer_sync.mjs', `ws://localhost:${LIAR_PORT}`, DIRECTORY]
    const consumer = endsWithTheStory(new Consumer({
      name: 'lied to', command: process.execPath, args, log: 'consumer_lied_to.log',
    }))
    await until('it complains', () => consumer.errors.length > 0)
    const [error] = consumer.errors
    return /signature|Not a valid CID/.test(error) ? [] : [`it says: ${error}`]
  })
}

await tell(story)
