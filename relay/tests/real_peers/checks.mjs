// Checks of a story: one line each, "ok - …" or "not ok - …", with what was wrong below it.

import { until } from './processes.mjs'
import { consumerAgrees } from './views.mjs'

const FAULTS_SHOWN = 20
const SETTLING_MS = 20_000
let failures = 0

// `body` answers what is wrong, a list of sentences, or throws.
export async function check(name, body) {
  let faults
  try {
    faults = await body()
  } catch (error) {
    faults = [error.stack]
  }
  console.log(`${faults.length ? 'not ok' : 'ok'} - ${name}`)
  for (const fault of faults.slice(0, FAULTS_SHOWN)) console.log(`    ${fault}`)
  if (faults.length > FAULTS_SHOWN) console.log(`    and ${faults.length - FAULTS_SHOWN} more`)
  if (faults.length) failures += 1
}

// A check of something that may take a while to become true: a drop may wait for a document, and
// with it the host's cursor.
export async function eventually(name, body, patience = SETTLING_MS) {
  let faults
  const fine = async () => {
    faults = await body()
    return faults.length === 0
  }
  await check(name, async () => {
    await until(name, fine, patience).catch(() => {})
    return faults
  })
}

// Whether a consumer saw what the relay sent.
export async function agrees(consumer, relayed, what) {
  await check(`${consumer.name} saw ${what}, in order, without an error`, async () => {
    await caughtUp(consumer, relayed).catch(() => {})
    return consumerAgrees(consumer, relayed)
  })
}

// Waits until a consumer has seen everything, or complains, for as long as it gets on with it.
export async function caughtUp(consumer, relayed) {
  let seen
  do {
    seen = consumer.events.length
    const judged = () =>
      consumer.errors.length > 0 || consumerAgrees(consumer, relayed).length === 0
    const done = await until(`${consumer.name} caught up`, judged).then(() => true, () => false)
    if (done) return
  } while (consumer.events.length > seen)
  throw new Error(`${consumer.name} stopped short`)
}

// What a story started and what ends with it.
const children = []

// Has a child process, or what has a `kill` like it, end with the story.
export function endsWithTheStory(child) {
  children.push(child)
  return child
}

// Runs a story to its end, ends what it started, and ends the process: 1 if a check failed.
export async function tell(story) {
  try {
    await story()
  } catch (error) {
    await check('the run came to its end', () => [error.stack])
  }
  for (const child of children) child.kill('SIGKILL')
  process.exit(failures ? 1 : 0)
}
