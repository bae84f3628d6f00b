// The processes of a run: started with their output in a log, waited for, stopped.

import { spawn } from 'node:child_process'
import { createWriteStream, openSync } from 'node:fs'
import { createInterface } from 'node:readline'

// How long anything may take that should happen. Generous: it only bounds a run that fails.
const PATIENCE_MS = 60_000

// Waits until `condition` (which may be async) is true.
export async function until(what, condition, patience = PATIENCE_MS) {
  const deadline = Date.now() + patience
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

// Whether a GET of `url` is answered with 200.
export async function answers(url) {
  try {
    return (await fetch(url)).ok
  } catch {
    return false
  }
}

// A child process with its output in `log`.
export function start(command, args, log, environment = {}) {
  const file = openSync(log, 'a')
  const env = { ...process.env, ...environment }
  return spawn(command, args, { stdio: ['ignore', file, file], env })
}

// The relay under test. It keeps its data from one start to the next.
export class Relay {
  constructor({ binary, data, listen, metrics, directory }) {
    Object.assign(this, { binary, data, listen, metrics, directory, base: `http://${listen}` })
  }

  async start(flags) {
    const args = [
      'serve', '--data-dir', this.data, '--listen', this.listen,
      '--metrics-listen', this.metrics, '--plc-url', this.directory,
      '--allow-insecure-hosts', ...flags,
    ]
    this.child = start(this.binary, args, `relay-${this.listen}.log`)
    this.ended = new Promise((resolve) => {
      this.child.on('exit', (code, signal) => resolve(signal ?? code))
      this.child.on('error', (error) => resolve(error.message))
    })
    let end
    this.ended.then((value) => { end = value })
    await until('the relay is ready', async () => {
      if (end !== undefined) throw new Error(`the relay ended with ${end}: see its log`)
      return answers(`${this.base}/_health`)
    })
  }

  // Answers the exit code, or the name of the signal that ended it.
  stop(signal) {
    this.kill(signal)
    return this.ended
  }

  kill(signal) {
    this.child?.kill(signal)
  }
}

// A real consumer in a process of its own, which prints a JSON line per event. `shows` is what a
// line stands for: see `views.mjs`.
export class Consumer {
  constructor({ name, shows, command, args, log }) {
    Object.assign(this, { name, shows, events: [], errors: [] })
    this.child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stderr.pipe(createWriteStream(log))
    createInterface({ input: this.child.stdout }).on('line', (text) => {
      const line = JSON.parse(text)
      if (line.error) this.errors.push(line.error)
      else this.events.push(line)
    })
    this.child.on('exit', (code) => this.stopped || this.errors.push(`ended with ${code}`))
  }

  get last() {
    return this.events.at(-1)?.seq ?? 0
  }

  kill() {
    this.stopped = true
    this.child.kill()
  }
}

// Every real consumer there is, following `base`; `directory` is for the one that verifies.
export function allConsumers(base, directory, python) {
  const node = (name, shows, script, ...more) => new Consumer({
    name, shows, command: process.execPath, args: [script, base, ...more], log: `${script}.log`,
  })
  return [
    node('@atproto/sync', 'ops', 'consumer_sync.mjs', directory),
    node('@atcute/firehose', 'frames', 'consumer_atcute.mjs'),
    node('@skyware/firehose', 'records', 'consumer_skyware.mjs'),
    new Consumer({
      name: 'PyPI atproto', shows: 'frames', command: python, args: ['consumer_python.py', base],
      log: 'consumer_python.py.log',
    }),
  ]
}
