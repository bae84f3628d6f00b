// What a relay missed, made good: it is off while 200 accounts of a real PDS write and some of them
// go, until the PDS's window of events has passed; then the PDS's own sequence begins anew. Each
// time, whoever follows the relay ends with exactly what the PDS holds, and nothing was silent.
//
// node reconcile.mjs BINARY, as main.mjs.

import { rmSync } from 'node:fs'
import { check, endsWithTheStory, eventually, tell } from './checks.mjs'
import { Mirror, each, truthOf } from './mirror.mjs'
import { Relay, answers, start, until } from './processes.mjs'
import { Recorder } from './recorder.mjs'
import { Account } from './xrpc.mjs'

const [binary] = process.argv.slice(2)
const DIRECTORY = 'http://localhost:2582'
const PDS = 'http://localhost:2583'
const RELAY = '127.0.0.1:2470'
const METRICS = '127.0.0.1:2471'
const ROTATION_KEY = 'aa'.repeat(31) + '01'
const ACCOUNTS = 200
// The PDS keeps events for so long.
const WINDOW_MS = 2_000
const REPAIR_MS = 60_000
const SETTINGS = [
  '--handles', 'pass', '--backfill', '--host', PDS, '--reconcile-every', '0s',
  '--reconcile-recheck', '1s', '--reconcile-absence', '3s',
  '--reconcile-host-rate', '100', '--reconcile-rate', '100',
]

function peer(script, ...args) {
  const environment = { ROTATION_KEY, PDS_REPO_BACKFILL_LIMIT_MS: String(WINDOW_MS) }
  return endsWithTheStory(start(process.execPath, [script, ...args], `${script}.log`, environment))
}

async function startPds() {
  const pds = peer('pds.mjs', '2583', 'data/plain', 'localhost:2583', '')
  await until('the PDS is up', () => answers(`${PDS}/xrpc/_health`))
  return pds
}

// Somebody who writes on and on: a stream that rests is looked at twice a minute only.
class Chatterbox {
  constructor(account) {
    this.done = this.talk(account)
  }

  async talk(account) {
    while (!this.stopping) {
      await account.note('still here')
      await new Promise((resolve) => setTimeout(resolve, 300))
    }
  }

  async stop() {
    this.stopping = true
    await this.done
  }
}

async function story() {
  peer('directory.mjs', '2582')
  await until('the directory is up', () => answers(`${DIRECTORY}/_health`))
  const world = { pds: await startPds() }
  const relay = endsWithTheStory(new Relay({
    binary, data: 'data/relay', listen: RELAY, metrics: METRICS, directory: DIRECTORY,
  }))
  await relay.start(SETTINGS)
  const relayed = new Recorder('relay', `ws://${RELAY}`, 0)
  const mirror = new Mirror(`http://${RELAY}`)
  Object.assign(world, { relay, relayed, mirror })

  const numbers = Array.from({ length: ACCOUNTS }, (_, number) => number)
  world.accounts = await each(numbers, async (number) => {
    const account = await Account.create(PDS, `user-${number}.test`)
    account.posts = [await account.note('the first')]
    return account
  })
  world.talker = await Account.create(PDS, 'talker.test')
  await inStep(world, 'live')
  await windowExpired(world)
  await sequenceReset(world)
}

// The relay is off while all write, some go, and some come, until nothing of that can be replayed.
async function windowExpired(world) {
  const { relay, accounts } = world
  await relay.stop('SIGTERM')
  const [deactivated, takendown, erased, reactivated, ...others] = accounts.splice(0, 30)
  await each([...accounts, ...others], async (account) => {
    account.posts.push(await account.note('while nobody listened'))
    await account.delete(account.posts.shift().uri)
  })
  const rest = [deactivated, ...others.splice(0, 8)]
  const down = [takendown, ...others.splice(0, 4)]
  const gone = [erased, ...others.splice(0, 4)]
  await each(rest, (account) => account.deactivate())
  await each(down, (account) => account.takedown(true))
  await each(gone, (account) => account.erase())
  await reactivated.deactivate()
  await reactivated.activate()
  const born = await each([1, 2, 3], async (number) => {
    const account = await Account.create(PDS, `late-${number}.test`)
    account.posts = [await account.note('the first')]
    return account
  })
  await new Promise((resolve) => setTimeout(resolve, 2 * WINDOW_MS))
  accounts.push(...others, ...born)
  await repaired(world, 'the window expired', {
    syncs: accounts, statuses: [...rest, ...down, ...gone],
  })
}

// The PDS is installed anew over its accounts: its sequence begins at 1, and what it would have
// told of the last writes is lost.
async function sequenceReset(world) {
  const { relay, accounts } = world
  await relay.stop('SIGTERM')
  const writers = accounts.slice(0, ACCOUNTS / 2)
  await each(writers, (account) => account.note('before the sequence was lost'))
  world.pds.kill('SIGTERM')
  await new Promise((resolve) => world.pds.on('exit', resolve))
  for (const end of ['', '-wal', '-shm']) {
    rmSync(`data/plain/sequencer.sqlite${end}`, { force: true })
  }
  world.pds = await startPds()
  await repaired(world, 'the sequence began anew', { syncs: writers, statuses: [] })
}

// The relay comes back. Everybody who moved on without it is told of.
async function repaired(world, what, { syncs, statuses }) {
  const { relay, relayed, talker } = world
  const before = relayed.frames.length
  await relay.start(SETTINGS)
  const chatterbox = new Chatterbox(talker)
  const told = (kinds, { did }) => relayed.frames.slice(before).some((frame) =>
    frame.did === did && kinds.includes(frame.kind))
  const silent = (kinds, accounts) =>
    accounts.filter((account) => !told(kinds, account)).map(({ did }) => `${did} was not told of`)
  await eventually(`${what}: whoever wrote meanwhile is told of by a #sync`, () =>
    silent(['#sync'], syncs), REPAIR_MS)
  await eventually(`${what}: whoever went meanwhile is told of by an #account`, () =>
    silent(['#account'], statuses), REPAIR_MS)
  await chatterbox.stop()
  await inStep(world, what)
}

// A consumer that folds the stream, and fetches where it is told to, has what the PDS has.
async function inStep({ relayed, mirror }, what) {
  await eventually(`${what}: a consumer ends with exactly what the PDS holds`, async () => {
    await mirror.follow(relayed)
    return [...relayed.problems, ...mirror.differences(await truthOf(PDS))]
  }, REPAIR_MS)
  await check(`${what}: the relay says nothing else`, () => {
    const { frames } = relayed
    const rising = frames.every(({ seq }, at) => at === 0 || seq > frames[at - 1].seq)
    return rising ? [] : ['its numbers do not rise']
  })
}

await tell(story)
