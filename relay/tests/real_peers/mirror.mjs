// A consumer that keeps what a relay tells of: it folds the ops of commits, fetches a repo anew
// where a `#sync` or a break in the chain tells it to, and keeps statuses. And what a PDS holds.

import { MemoryBlockstore, Repo, readCarWithRoot } from '@atproto/repo'
import { decode } from '@ipld/dag-cbor'
import { unpack } from './recorder.mjs'
import { call } from './xrpc.mjs'

const AT_ONCE = 8

export class Mirror {
  constructor(relay) {
    Object.assign(this, { relay, accounts: new Map(), read: 0, syncs: 0, fetches: 0, faults: [] })
  }

  // Takes in what came since the last time, and fetches what it tells to fetch.
  async follow(recorder) {
    while (this.read < recorder.frames.length) {
      await this.see(recorder.frames[this.read].raw)
      this.read += 1
    }
    const owed = [...this.accounts].filter(([, held]) => held.owed && held.active)
    await each(owed, ([did]) => this.fetch(did))
  }

  async see(raw) {
    const [{ t: kind }, body] = unpack(raw)
    const did = body.repo ?? body.did
    if (!this.accounts.has(did)) this.accounts.set(did, { active: true, records: new Map() })
    const held = this.accounts.get(did)
    if (kind === '#account') {
      held.active = body.active
      held.status = body.status
    } else if (kind === '#sync' && !(held.rev >= body.rev)) {
      this.syncs += 1
      held.owed = true
    } else if (kind === '#commit' && !(held.rev >= body.rev)) {
      await fold(held, body)
    }
  }

  async fetch(did) {
    const url = new URL('/xrpc/com.atproto.sync.getRepo', this.relay)
    url.searchParams.set('did', did)
    const response = await fetch(url)
    if (!response.ok) return
    if (!response.redirected) this.faults.push(`getRepo of ${did} is not answered by its PDS`)
    const bytes = new Uint8Array(await response.arrayBuffer())
    Object.assign(this.accounts.get(did), await contents(bytes), { owed: false })
    this.fetches += 1
  }

  // How it differs from what a PDS holds.
  differences(truth) {
    const faults = [...this.faults]
    for (const [did, theirs] of truth) {
      const ours = this.accounts.get(did)
      const fault = ours ? difference(theirs, ours) : 'it was never told of'
      if (fault) faults.push(`${did}: ${fault}`)
    }
    for (const [did, { active }] of this.accounts) {
      if (active && !truth.has(did)) faults.push(`${did}: it is gone, and that was not told`)
    }
    return faults
  }
}

async function fold(held, { rev, prevData, since, ops, blocks }) {
  const continues = held.rev ? `${prevData}` === held.data : !since
  if (held.owed || !continues) {
    held.owed = true
    return
  }
  for (const { path, cid } of ops) {
    if (cid) held.records.set(path, `${cid}`)
    else held.records.delete(path)
  }
  const car = await readCarWithRoot(blocks)
  held.rev = rev
  held.data = `${decode(car.blocks.get(car.root)).data}`
}

function difference(theirs, ours) {
  const status = ({ active, status }) => (active ? 'active' : status)
  if (status(theirs) !== status(ours)) return `${status(theirs)}, told ${status(ours)}`
  if (!theirs.active) return undefined
  if (theirs.rev !== ours.rev) return `rev ${theirs.rev}, told ${ours.rev}`
  const paths = new Set([...theirs.records.keys(), ...ours.records.keys()])
  const other = [...paths].filter((path) => theirs.records.get(path) !== ours.records.get(path))
  return other.length > 0 ? `other records: ${other.slice(0, 3)}` : undefined
}

// Every account of a PDS, as it holds it.
export async function truthOf(base) {
  const listed = []
  for (let cursor; ;) {
    const params = cursor ? { cursor } : {}
    const page = await call(base, 'com.atproto.sync.listRepos', { params })
    listed.push(...page.repos)
    cursor = page.cursor
    if (!cursor || page.repos.length === 0) break
  }
  const truth = new Map()
  await each(listed, async ({ did, active, status }) => {
    const params = { did }
    const repo = active
      ? await contents(await call(base, 'com.atproto.sync.getRepo', { params, raw: true }))
      : {}
    truth.set(did, { active, status, ...repo })
  })
  return truth
}

// Revision, tree and records of a repo.
async function contents(bytes) {
  const { root, blocks } = await readCarWithRoot(bytes)
  const repo = await Repo.load(new MemoryBlockstore(blocks), root)
  const records = new Map()
  for await (const { collection, rkey, cid } of repo.walkRecords()) {
    records.set(`${collection}/${rkey}`, `${cid}`)
  }
  return { rev: repo.commit.rev, data: `${repo.commit.data}`, records }
}

// Does something with each of many, some at once; answers what came of them, in their order.
export async function each(items, work) {
  const results = []
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const at = next
      next += 1
      results[at] = await work(items[at], at)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  return results
}
