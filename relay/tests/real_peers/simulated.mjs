// The simulated network before real consumers: what the generator makes of honest traffic, and the
// relay passes on, is what the reference consumer verifies.
//
// node simulated.mjs BINARY PYTHON, as main.mjs.

import { spawn } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { agrees, check, endsWithTheStory, eventually, tell } from './checks.mjs'
import { Comparison } from './comparison.mjs'
import { Relay, allConsumers, until } from './processes.mjs'
import { Recorder } from './recorder.mjs'
import { countsDrops } from './views.mjs'

const [binary, python] = process.argv.slice(2)
const RELAY = '127.0.0.1:2470'
const METRICS = '127.0.0.1:2471'
const SEED = Date.now() % 1_000_000
const HOSTS = 3
const EVENTS = 1_500

async function story() {
  console.log(`seed ${SEED}`)
  const program = path.join(path.dirname(binary), 'examples', 'network')
  const network = endsWithTheStory(
    spawn(program, [String(SEED), String(HOSTS)], { stdio: ['pipe', 'pipe', 'inherit'] }))
  const lines = createInterface({ input: network.stdout })[Symbol.asyncIterator]()
  const answer = async () => JSON.parse((await lines.next()).value)
  const { directory, hosts: names } = await answer()

  const relay = endsWithTheStory(new Relay({
    binary, data: 'data/relay', listen: RELAY, metrics: METRICS, directory,
  }))
  await relay.start(['--handles', 'pass', '--backfill', '--host', names.join(',')])
  const hosts = names.map((name) => new Recorder(name, `ws://${name}`, 0))
  const relayed = new Recorder('relay', `ws://${RELAY}`, 0)
  const comparison = new Comparison(hosts, relayed, { drops: () => undefined })
  const consumers = allConsumers(`ws://${RELAY}`, directory, python).map(endsWithTheStory)

  network.stdin.write(`${EVENTS}\n`)
  const { sent } = await answer()
  await until('the hosts sent everything', () =>
    hosts.reduce((sum, { frames }) => sum + frames.length, 0) === sent)
  await comparison.settled()
  await check(`every simulated event passed, once, in order, unchanged (seed ${SEED})`, () =>
    comparison.faults())
  await eventually('no simulated event was dropped', () => countsDrops(METRICS, comparison))
  await check('the simulated network sent every kind of event', () => {
    const kinds = new Set(relayed.frames.map(({ kind }) => kind))
    const missing = ['#commit', '#sync', '#identity', '#account'].filter((kind) => !kinds.has(kind))
    return missing.map((kind) => `no ${kind}`)
  })
  for (const consumer of consumers) await agrees(consumer, relayed, 'the simulated network')
}

await tell(story)
