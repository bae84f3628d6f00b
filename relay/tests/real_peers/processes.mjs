// The processes of a run: started with their output in a log, waited for, stopped.

import { spawn } from 'node:child_process'
import { createWriteStream, openSync } from 'node:fs'
import { createInterface } from 'node:readline'

// How long anything may take that should happen. Generous: it only bounds a run that fails.
const PATIENCE_MS = 40_000

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
  constructor(binary, data, listen, metrics) {
    Object.assign(this, { binary, data, listen, metrics, base: `http://${listen}` })
  }

  async start(flags) {
    const args = [
      'serve', '--data-dir', this.data, '--listen', this.listen,
      '--metrics-listen', this.metrics, '--plc-url', 'http://localhost:2582',
      '--allow-insecure-hosts', '--ca-file', 'tls/ca.pem', ...flags,
    ]
    this.child = start(this.binary, args, 'relay.log')
    this.ended = new Promise((resolve) => {
      this.child.on('exit', (code, signal) => resolve(signal ?? code))
      this.child.on('error', (error) => resolve(error.message))
    })
    let end
    this.ended.then((value) => { end = value })
    await until('the relay is ready', async () => {
      if (end !== undefined) throw new Error(`the relay ended with ${end}: see relay.log`)
      return answers(`${this.base}/_health`)
    })
  }

  // Answers the exit code, or the name of the signal that ended it.
  stop(signal) {
    this.child.kill(signal)
    return this.ended
  }
}

// A real consumer in a process of its own, which prints a JSON line per event.
export class Consumer {
  constructor(name, command, args, log) {
    Object.assign(this, { name, events: [], errors: [] })
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

  stop() {
    this.stopped = true
    this.child.kill()
  }
}
