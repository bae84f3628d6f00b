// Commits that the reference implementation makes: node commits.mjs COUNT SEED FILE
//
// @atproto/repo keeps the repos, and the PDS's own sequencer formats each commit; what stands
// between the two in the PDS (which `prev` an op gets, which records are sent again) is done here
// as `RepoTransactor.formatCommit` does it. FILE gets accounts and frames, to be judged by
// `verifier/examples/reference_commits.rs`: a letter (k: DID and multikey, f: a frame), four
// bytes of length, the bytes. Everything but revisions and times follows from the seed.

import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { once } from 'node:events'
import { P256Keypair, Secp256k1Keypair } from '@atproto/crypto'
import { decode } from '@atproto/lex-cbor'
import { MemoryBlockstore, Repo, cidForRecord } from '@atproto/repo'
import { MessageFrame } from '@atproto/xrpc-server'

process.env.LOG_ENABLED ??= 'false'
const { formatSeqCommit } = await import(
  new URL('node_modules/@atproto/pds/dist/sequencer/events.js', import.meta.url))

const [count, seed] = process.argv.slice(2, 4).map(Number)
const out = createWriteStream(process.argv[4])

// A generator of numbers below a bound, the same for the same words.
function chance(words) {
  let pool = Buffer.alloc(0)
  let round = 0
  return (bound) => {
    if (pool.length < 6) {
      pool = createHash('sha512').update(`${seed} ${words} ${round}`).digest()
      round += 1
    }
    const number = pool.readUIntBE(0, 6)
    pool = pool.subarray(6)
    return number % bound
  }
}

const pick = (draw, list) => list[draw(list.length)]

const COLLECTIONS = [
  'app.bsky.feed.post', 'app.bsky.feed.like', 'app.bsky.graph.follow', 'com.example.Long-er.thing',
]
const RKEY_CHARACTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~:-'

// The layer of a key in the tree: leading zeros of its hash, two bits a layer.
function layer(key) {
  const hash = createHash('sha256').update(key).digest()
  const bits = Math.clz32(hash.readUInt32BE(0))
  return bits >> 1
}

// The paths among `tried` that stand highest in a tree, highest first.
function mine(tried) {
  const found = []
  for (let number = 0; number < tried; number += 1) {
    const path = `app.bsky.feed.post/${(number * 7919).toString(36)}`
    const height = layer(path)
    if (height >= MINED_LAYER_MIN) found.push({ path, height })
  }
  return found.sort((one, other) => other.height - one.height).map(({ path }) => path)
}

const MINED_LAYER_MIN = 6

// A path of one of many forms: as clients make them, short, as long as allowed, with a long common
// beginning.
function drawPath(draw, mined) {
  const word = (length) =>
    Array.from({ length }, () => RKEY_CHARACTERS[draw(RKEY_CHARACTERS.length)]).join('')
  const collection = pick(draw, COLLECTIONS)
  switch (draw(8)) {
    case 0: return `${collection}/${'a'}${word(1)}`
    case 1: return `${collection}/${'x'.repeat(400)}${word(100)}`
    case 2: return `app.bsky.actor.profile/self`
    case 3: return mined.length > 0 ? pick(draw, mined) : `${collection}/z${word(8)}`
    default: return `${collection}/3k${word(11).replaceAll(/[^a-z2-7]/g, '2')}`
  }
}

// An account whose repo the reference implementation keeps.
class Account {
  static async create(number, mined) {
    const draw = chance(`account ${number}`)
    const secret = createHash('sha256').update(`${seed} key ${number}`).digest('hex')
    const key = await (draw(10) < 7 ? Secp256k1Keypair : P256Keypair).import(secret)
    const id = Array.from({ length: 24 }, () => pick(draw, [...'abcdefghijklmnopqrstuvwxyz234567']))
    const account = new Account()
    Object.assign(account, { draw, key, did: `did:plc:${id.join('')}` })
    // CIDs and contents by path.
    Object.assign(account, { records: new Map(), contents: new Map() })
    account.storage = new MemoryBlockstore()
    // Some accounts live on high keys alone, most use some.
    account.mined = draw(4) === 0 ? mined.slice(0, 24) : mined
    account.onlyMined = draw(6) === 0 && mined.length > 0
    return account
  }

  path() {
    return this.onlyMined ? pick(this.draw, this.mined) : drawPath(this.draw, this.mined)
  }

  // Now and then a record that another path may have, too.
  record() {
    const text = this.draw(8) === 0 ? `again ${this.draw(5)}` : `text ${this.draw(2 ** 40)}`
    const padding = this.draw(30) === 0 ? 'p'.repeat(this.draw(20_000)) : ''
    return { $type: 'com.example.record', text, padding }
  }

  // The commit with which an account starts: without records, or as an import makes it.
  async first(records) {
    const writes = []
    while (writes.length < records) {
      const path = this.path()
      if (writes.some((write) => write.path === path)) break
      writes.push({ action: 'create', path, record: this.record() })
    }
    const commit = await Repo.formatInitCommit(
      this.storage, this.did, this.key, writes.map(toOp))
    const ops = await Promise.all(writes.map(async ({ path, record }) => ({
      action: 'create', path, cid: await cidForRecord(record),
    })))
    this.repo = await Repo.createFromCommit(this.storage, commit)
    this.remember(writes, ops)
    return { ...commit, ops, prevData: null }
  }

  async commit(writes) {
    const ops = []
    const written = []
    for (const { action, path, record } of writes) {
      const cid = record ? await cidForRecord(record) : null
      if (cid) written.push(cid)
      // What stood there before the whole commit, for every op on the path.
      const prev = this.records.get(path)
      ops.push(prev ? { action, path, cid, prev } : { action, path, cid })
    }
    const prevData = this.repo.commit.data
    const commit = await this.repo.formatCommit(writes.map(toOp), this.key)
    // A fault of the reference implementation: a tree that is emptied amid a commit and filled
    // again with lower keys keeps its old height, and its root merely points down.
    if (pointsDown(commit)) return this.commit(writes.slice(0, -1))
    this.remember(writes, ops)
    // A block that another record still is stays.
    const held = new Set([...this.records.values()].map(String))
    for (const cid of commit.removedCids.toList()) {
      if (held.has(cid.toString())) commit.removedCids.delete(cid)
    }
    // A record that the repo had already is sent all the same.
    const { missing } = commit.relevantBlocks.getMany(written)
    commit.relevantBlocks.addMap((await this.storage.getBlocks(missing)).blocks)
    this.repo = await this.repo.applyCommit(commit)
    return { ...commit, ops, prevData }
  }

  remember(writes, ops) {
    for (const [at, { path, cid }] of ops.entries()) {
      if (cid) {
        this.records.set(path, cid)
        this.contents.set(path, writes[at].record)
      } else {
        this.records.delete(path)
        this.contents.delete(path)
      }
    }
  }

  // Writes of one of many shapes.
  next() {
    const { draw } = this
    switch (draw(20)) {
      case 0: return this.commit([])
      case 1: return this.commit(this.distinct(200))
      case 2: return this.commit(this.distinct(draw(200)))
      case 3: case 4: case 5: case 6: return this.commit(this.several())
      case 7: return this.commit([...this.records.keys()].slice(0, 200).map(erase))
      case 8: return this.commit([...this.records.keys()].slice(1, 200).map(erase))
      case 9: return this.move()
      default: return this.commit(this.distinct(1 + draw(6)))
    }
  }

  // So many writes, each to a path of its own.
  distinct(length) {
    const writes = new Map()
    for (let tries = 0; writes.size < length && tries < 4 * length; tries += 1) {
      const known = this.draw(2) === 0 ? this.known() : undefined
      const path = known ?? this.path()
      if (!writes.has(path)) writes.set(path, this.write(path, this.records.has(path)))
    }
    return [...writes.values()]
  }

  known() {
    const paths = [...this.records.keys()]
    return paths.length > 0 ? pick(this.draw, paths) : undefined
  }

  // Several writes on each of some paths, each possible after the one before it, all mixed.
  several() {
    const lines = Array.from({ length: 1 + this.draw(4) }, () => this.path())
    const paths = [...new Set(lines), this.known()].filter(Boolean)
    const here = new Map(paths.map((path) => [path, this.records.has(path)]))
    return Array.from({ length: 1 + this.draw(12) }, () => {
      const path = pick(this.draw, paths)
      const write = this.write(path, here.get(path))
      here.set(path, write.action !== 'delete')
      return write
    })
  }

  // A record leaves its path and stands under another, unchanged.
  move() {
    const from = this.known()
    const to = this.path()
    if (!from || this.records.has(to)) return this.commit([])
    const record = this.contents.get(from)
    return this.commit([erase(from), { action: 'create', path: to, record }])
  }

  write(path, isThere) {
    if (!isThere) return { action: 'create', path, record: this.record() }
    if (this.draw(2) === 0) return erase(path)
    // Now and then what is there already.
    const same = this.draw(8) === 0 ? this.contents.get(path) : undefined
    return { action: 'update', path, record: same ?? this.record() }
  }
}

// Whether the tree's root has no record and is not the root of an empty tree.
function pointsDown({ cid, newBlocks }) {
  const { data } = decode(newBlocks.get(cid))
  const root = newBlocks.get(data)
  if (!root) return false
  const { l, e } = decode(root)
  return e.length === 0 && l !== null
}

const erase = (path) => ({ action: 'delete', path })

function toOp({ action, path, record }) {
  const [collection, rkey] = path.split('/')
  return { action, collection, rkey, record }
}

async function put(letter, bytes) {
  const head = Buffer.alloc(5)
  head.write(letter)
  head.writeUInt32BE(bytes.length, 1)
  if (!out.write(Buffer.concat([head, bytes]))) await once(out, 'drain')
}

// As the PDS puts a stored event on its stream.
async function send(account, commit) {
  const { event, sequencedAt: time } = await formatSeqCommit(account.did, commit)
  const body = { seq: (seq += 1), time, ...decode(event) }
  await put('f', new MessageFrame(body, { type: '#commit' }).toBytes())
}

// Hashing one path takes a microsecond or two.
const MINED_PER_COMMIT = 500
const COMMITS_PER_ACCOUNT = 40

let seq = 0
const mined = mine(MINED_PER_COMMIT * count)
for (let number = 0; seq < count; number += 1) {
  const account = await Account.create(number, mined)
  const multikey = account.key.did().replace('did:key:', '')
  await put('k', Buffer.from(`${account.did} ${multikey}`))
  await send(account, await account.first(pick(account.draw, [0, 0, 0, 1, 5, 60, 200])))
  const length = account.draw(2 * Math.min(COMMITS_PER_ACCOUNT, Math.ceil(count / 8)))
  for (let made = 0; made < length && seq < count; made += 1) {
    await send(account, await account.next())
  }
}
out.end()
await once(out, 'finish')
