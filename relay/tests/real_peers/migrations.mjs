// Migrations between two real PDSes, their events in every order, there and back again.
//
// node migrations.mjs BINARY PYTHON, as main.mjs. Each PDS stands behind a gate, which holds the
// events of a moving account until all is done at the PDSes, and lets them out in one order of
// many. After each one the relay is given the time to judge it, so that what becomes of every
// event is known beforehand, by name.

import { createRequire } from 'node:module'
import { Secp256k1Keypair } from '@atproto/crypto'
import { agrees, caughtUp, check, endsWithTheStory, eventually, tell } from './checks.mjs'
import { Comparison } from './comparison.mjs'
import { Gate } from './gate.mjs'
import { Relay, allConsumers, answers, start, until } from './processes.mjs'
import { Recorder } from './recorder.mjs'
import { countsDrops } from './views.mjs'
import { Account, call } from './xrpc.mjs'

const plc = createRequire(import.meta.url)('@did-plc/lib')

const [binary, python] = process.argv.slice(2)
const DIRECTORY = 'http://localhost:2582'
const RELAY = '127.0.0.1:2470'
const METRICS = '127.0.0.1:2471'
const ROTATION_KEY = 'aa'.repeat(31) + '01'

const place = (port, upstream) => ({
  name: `localhost:${port}`, base: `http://localhost:${port}`, upstream, gate: undefined,
})
const PLACES = [place(2583, 2593), place(2584, 2594)]

// The new place's events in all orders. The PDS sends them in the first.
const ARRIVALS = permutations(['#account', '#identity', '#sync', '#commit'])

// When the old place says what it still says: `talk` is a commit after the move, `rest` that the
// account is deactivated.
const FAREWELLS = [
  // It goes to rest before the directory knows of the move.
  { name: 'rest before the move', early: ['#account'], before: [], after: [] },
  // Both while the directory tells the relay of the old place still.
  { name: 'talk and rest before the news', early: [], before: ['#commit', '#account'], after: [] },
  { name: 'talk and rest after the news', early: [], before: [], after: ['#commit', '#account'] },
  { name: 'talk after the news, no rest', early: [], before: [], after: ['#commit'] },
]

function permutations(items) {
  if (items.length < 2) return [items]
  return items.flatMap((item, at) =>
    permutations(items.toSpliced(at, 1)).map((others) => [item, ...others]))
}

// What becomes of events: by host and content, the names of those that must be dropped; and of
// which accounts the relay has to say by itself that they are active.
const drops = new Map()
const healed = []
const rules = {
  drops: (host, { content }) => drops.get(`${host} ${content}`),
  own: ({ did, kind, active }) => kind === '#account' && active && healed.includes(did),
}

// An account that moves. `at` are its sessions, one per place. One that `lags` moves while the
// directory shows the relay its old document, until that was read after the news: then the relay
// must ask again. It does that once a minute at most, so on the way there only.
class Mover {
  constructor(arrival, number, lags) {
    // Every kind that comes first meets every farewell.
    const farewell = FAREWELLS[number % FAREWELLS.length]
    Object.assign(this, { arrival, number, lags, farewell, at: [] })
  }

  get told() {
    const lag = this.lags ? ', the directory lags' : ''
    return `${this.did} (${this.arrival.join(' ')}, ${this.farewell.name}${lag})`
  }

  async settleDown() {
    this.at[0] = await Account.create(PLACES[0].base, `mover-${this.number}.test`)
    this.did = this.at[0].did
    for (const text of ['one', 'two']) await this.at[0].note(text)
  }

  // All that happens at the PDSes and at the directory; `from` and `to` are indices of places.
  async move(from, to) {
    for (const { gate } of PLACES) gate.hold(this.did)
    const { early, before, after } = this.farewell
    const old = this.at[from]
    this.at[to] ??= await this.register(old, to)
    const moved = this.at[to]
    const params = { did: this.did }
    const repo = await call(old.base, 'com.atproto.sync.getRepo', { params, raw: true })
    await call(moved.base, 'com.atproto.repo.importRepo', {
      jwt: moved.jwt, body: repo, type: 'application/vnd.ipld.car',
    })
    if (early.length > 0) await old.deactivate()
    await until(`${this.told}: it rests`, () =>
      PLACES[from].gate.held.get(this.did).length === early.length)
    this.early = () => this.release(from, early)
    // The relay must have judged that before the directory knows of the move.
    this.goOn = async () => {
      await freeze(this.did, 'PUT')
      const its = await moved.get('com.atproto.identity.getRecommendedDidCredentials')
      const key = await Secp256k1Keypair.import(ROTATION_KEY)
      await new plc.Client(DIRECTORY).updateData(this.did, key, (last) => ({ ...last, ...its }))
      await moved.activate()
      // Revisions are times: what the old place says before the news is older than the new place's
      // commit, what it says after that is newer, so that its host is what is wrong with it.
      if (before.includes('#commit')) await old.note('still at the old place')
      await moved.note('after the move')
      if (after.includes('#commit')) await old.note('late at the old place')
      if ([...before, ...after].includes('#account')) await old.deactivate()
      const held = [PLACES[from].gate, PLACES[to].gate].map((gate) => gate.held.get(this.did))
      const expected = [before.length + after.length, this.arrival.length]
      await until(`${this.told}: its events are there`, () =>
        held.every(({ length }, at) => length === expected[at]))
    }
    const lags = this.lags && to === 1
    this.rounds = [
      () => this.release(from, before),
      () => lags || freeze(this.did, 'DELETE'),
      ...this.arrival.map((kind, at) => () => {
        const news = () => this.release(to, [kind])
        return lags && at === 0 ? this.outlast(news) : news()
      }),
      () => this.release(from, after, 'wrong_host'),
    ]
    this.expect(to)
  }

  // Waits until the relay has read the old document after the news, and lets it have the new one.
  async outlast(news) {
    const { reads } = await freeze(this.did, 'GET')
    news()
    await until(`${this.told}: the old document is read`, async () =>
      (await freeze(this.did, 'GET')).reads > reads)
    await freeze(this.did, 'DELETE')
  }

  // An account at the new place, with the proof of the old one.
  async register(old, to) {
    const { base } = PLACES[to]
    const { did: audience } = await call(base, 'com.atproto.server.describeServer')
    const params = { aud: audience, lxm: 'com.atproto.server.createAccount' }
    const proof = await old.get('com.atproto.server.getServiceAuth', params)
    const handle = `moved-${this.number}.test`
    return Account.create(base, handle, { did: this.did, jwt: proof.token })
  }

  // The `#sync` of a move shows a commit of the old place, under a revision of its own; where
  // another commit has passed since that was made, that is what is wrong with it. An account that
  // its old place put to rest is active again with the new place's word, or if that commits first,
  // with its answer.
  expect(to) {
    const { early, before } = this.farewell
    const comes = (kind) => this.arrival.indexOf(kind)
    const late = before.includes('#commit') || comes('#commit') < comes('#sync')
    this.syncFate = late ? 'rev_not_newer' : 'commit_rev_mismatch'
    const rests = [...early, ...before].includes('#account')
    if (rests && comes('#commit') < comes('#account')) healed.push(this.did)
    this.to = to
  }

  // Lets events out; all of one release meet the same fate.
  release(at, kinds, name) {
    const { gate, name: host } = PLACES[at]
    for (const kind of kinds) {
      const frame = gate.held.get(this.did).find((held) => held.kind === kind)
      const fate = name ?? (at === this.to && kind === '#sync' ? this.syncFate : undefined)
      if (fate) drops.set(`${host} ${frame.content}`, fate)
      gate.release(this.did, kind)
    }
  }
}

// What the relay is told of an account stays as it is (PUT), or not any longer (DELETE); or how
// often it was told that (GET).
async function freeze(did, method) {
  return (await fetch(`${DIRECTORY}/_frozen/${did}`, { method })).json()
}

async function startHosts() {
  const peer = (script, ...args) => endsWithTheStory(
    start(process.execPath, [script, ...args], `${script}.log`, { ROTATION_KEY }))
  peer('directory.mjs', '2582')
  for (const { name, upstream } of PLACES) {
    peer('pds.mjs', String(upstream), `data/${upstream}`, name, '')
  }
  await until('the directory is up', () => answers(`${DIRECTORY}/_health`))
  for (const it of PLACES) {
    const { name, upstream } = it
    await until(`${name} is up`, () => answers(`http://localhost:${upstream}/xrpc/_health`))
    it.gate = new Gate(Number(name.split(':')[1]), upstream)
    it.gate.follow()
  }
}

// Waits until the relay has judged everything that went out.
async function judged() {
  await until('the relay judged everything', async () => {
    const { hosts } = await call(`http://${RELAY}`, 'com.atproto.sync.listHosts')
    return PLACES.every(({ name, gate }) =>
      hosts.find(({ hostname }) => hostname === name)?.seq === gate.seq)
  })
}

// Does something with all movers, a few at a time: the PDSes hash passwords.
async function each(movers, act) {
  const waiting = [...movers]
  const work = async () => {
    for (let mover = waiting.shift(); mover; mover = waiting.shift()) await act(mover)
  }
  await Promise.all(Array.from({ length: AT_A_TIME }, work))
}

const AT_A_TIME = 4

async function moveAll(movers, from, to, consumers, relayed) {
  await each(movers, (mover) => mover.move(from, to))
  movers.forEach((mover) => mover.early())
  await judged()
  // The key of the old place is gone after the move: who verifies must have done so.
  for (const consumer of consumers) await caughtUp(consumer, relayed)
  await each(movers, (mover) => mover.goOn())
  for (const round of movers[0].rounds.keys()) {
    await Promise.all(movers.map((mover) => mover.rounds[round]()))
    await judged()
  }
  for (const { gate } of PLACES) gate.held.clear()
}

async function story() {
  await startHosts()
  const hosts = PLACES.map(({ name, base }) => new Recorder(name, base.replace('http', 'ws'), 0))
  const relay = endsWithTheStory(new Relay({
    binary, data: 'data/relay', listen: RELAY, metrics: METRICS, directory: DIRECTORY,
  }))
  const names = PLACES.map(({ name }) => name).join(',')
  await relay.start(['--handles', 'pass', '--backfill', '--host', names])
  const relayed = new Recorder('relay', `ws://${RELAY}`, 0)
  const comparison = new Comparison(hosts, relayed, rules)
  const consumers = allConsumers(`ws://${RELAY}`, DIRECTORY, python).map(endsWithTheStory)

  const newsFirst = ARRIVALS.filter(([first]) => first === '#identity')
  const movers = [
    ...ARRIVALS.map((arrival, number) => new Mover(arrival, number, false)),
    ...newsFirst.map((arrival, number) => new Mover(arrival, ARRIVALS.length + number, true)),
  ]
  await each(movers, (mover) => mover.settleDown())
  await comparison.settled()
  for (const [there, from, to] of [['there', 0, 1], ['back again', 1, 0]]) {
    await moveAll(movers, from, to, consumers, relayed)
    await check(`of ${movers.length} migrations ${there}, what should pass passed and nothing else`,
      () => comparison.faults())
    await eventually(`every drop of the migrations ${there} is counted under its name`, () =>
      countsDrops(METRICS, comparison))
    await converges(movers, PLACES[to], relayed, there)
    await check(`accounts that rested are active with their new place's word, ${there}`, () =>
      healings(comparison))
  }
  for (const consumer of consumers) await agrees(consumer, relayed, 'every migration')
}

// Nobody had to help: the relay holds each account active, at the commit that its place holds,
// and has said so.
async function converges(movers, { base }, relayed, there) {
  await check(`every account is active and current at its place, ${there}`, async () => {
    const faults = []
    for (const { did, told } of movers) {
      for (const method of ['getRepoStatus', 'getLatestCommit']) {
        const [ours, theirs] = await Promise.all([`http://${RELAY}`, base].map((at) =>
          call(at, `com.atproto.sync.${method}`, { params: { did } }).catch(({ name }) => name)))
        const same = ['active', 'status', 'rev', 'cid'].every((key) => ours[key] === theirs[key])
        if (!same) faults.push(`${told}: ${JSON.stringify([ours, theirs])}`)
      }
      const last = relayed.frames.findLast((frame) =>
        frame.did === did && frame.kind === '#account')
      if (!last.active) faults.push(`${told}: told as ${last.status}`)
    }
    return faults
  })
}

// What the relay said by itself is what it had to say, once for each time.
function healings({ relayed, sent }) {
  const theirs = new Set([...sent.values()].flat().map(({ content }) => content))
  const own = relayed.frames.filter(({ content }) => !theirs.has(content)).map(({ did }) => did)
  const [said, owed] = [own, healed].map((dids) => dids.toSorted().join(' '))
  return said === owed ? [] : [`said ${said}`, `owed ${owed}`]
}

await tell(story)
