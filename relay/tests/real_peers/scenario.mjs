// What people do at the PDSes, so that they send every kind of event that they can.

import { createRequire } from 'node:module'
import { Secp256k1Keypair } from '@atproto/crypto'
import { Account, call, write } from './xrpc.mjs'

const plc = createRequire(import.meta.url)('@did-plc/lib')

// Every kind of event at one PDS. `domain` is that of its handles, in which names end with `tail`;
// `seen` waits until everything sent so far went all the way: the PDS takes a deleted account's
// events out of its stream, also those that were not sent yet.
//
// Answers the accounts: alice and bob go on writing, dave ends deactivated, erin taken down,
// carol deleted.
export async function everyKind(base, domain, seen, tail = '') {
  const make = (name) => Account.create(base, `${name}${tail}.${domain}`)
  const [alice, bob, carol] = [await make('alice'), await make('bob'), await make('carol')]
  const [dave, erin] = [await make('dave'), await make('erin')]

  const first = await alice.note('hello firehose')
  const second = await alice.note('second post \u{1F98B} ünïcode')
  const like = await bob.like(first)
  await bob.repost(second)
  const follow = await bob.follow(alice.did)
  await alice.put('app.bsky.actor.profile', 'self', { displayName: 'Alice', description: 'one' })
  await alice.put('app.bsky.actor.profile', 'self', { displayName: 'Alice', description: 'two' })
  await bob.delete(like.uri)
  await bob.delete(follow.uri)
  await alice.create('com.example.unknown.thing', { a: 1, nested: { b: [1, 2, 3] } })
  await alice.apply(Array.from({ length: 10 }, (_, i) => write('create', `ten-${i}`, `post ${i}`)))
  await oddCommits(alice)

  await alice.rename(`alice-again${tail}.${domain}`)
  await bob.deactivate()
  await bob.activate()
  await bob.note('back again')
  await bob.takedown(true)
  await bob.takedown(false)
  const returned = await Account.login(base, bob.handle)
  await returned.note('back once more')

  await dave.note('before a pause')
  await dave.deactivate()
  await erin.note('before a takedown')
  await erin.takedown(true)
  await carol.note('to be deleted')
  await seen()
  await carol.erase()
  return { alice, bob: returned, carol, dave, erin }
}

// Commits that real PDSes send and that are easy to get wrong: without ops, with several ops on
// one path, with as many ops as there may be.
async function oddCommits(account) {
  await account.apply([])
  await account.apply([write('create', 'fold', 'one')])
  await account.apply([write('delete', 'fold'), write('create', 'fold', 'two')])
  await account.apply([write('update', 'fold', 'three'), write('update', 'fold', 'four')])
  await account.apply([write('create', 'brief', 'here'), write('delete', 'brief')])
  await account.apply(Array.from({ length: 200 }, (_, i) => write('create', `many-${i}`, `${i}`)))
}

// Moves a new account from one PDS to another, as real accounts move: the old one still takes a
// write after the move and says last that the account is inactive, and the new one's first
// `#sync` is not valid. `from` and `to` are bases, `handles` those of the account there. `verified`
// waits until a post was verified by everybody, for the key of the old place is gone after the
// move; `arrived` waits until the relay has said that the account is active at its new place.
// Answers the account there.
export async function migrate(from, to, directory, rotationKey, handles, { verified, arrived }) {
  const old = await Account.create(from, handles[0])
  for (const text of ['one', 'two']) await old.note(`before the move: ${text}`)
  await verified(await old.note('before the move: three'))

  const { did: audience } = await call(to, 'com.atproto.server.describeServer')
  const method = 'com.atproto.server.createAccount'
  const proof = await old.get('com.atproto.server.getServiceAuth', { aud: audience, lxm: method })
  const moved = await Account.create(to, handles[1], { did: old.did, jwt: proof.token })
  const params = { did: old.did }
  const repo = await call(from, 'com.atproto.sync.getRepo', { params, raw: true })
  await call(to, 'com.atproto.repo.importRepo', {
    jwt: moved.jwt, body: repo, type: 'application/vnd.ipld.car',
  })
  const its = await moved.get('com.atproto.identity.getRecommendedDidCredentials')
  const key = await Secp256k1Keypair.import(rotationKey)
  await new plc.Client(directory).updateData(old.did, key, (last) => ({ ...last, ...its }))

  await moved.activate()
  await arrived(old.did)
  await old.note('written at the old place')
  await old.deactivate()
  await moved.note('after the move')
  return moved
}

// Goes on writing with all accounts until told to stop. `count` is how many writes were taken.
export class Writer {
  constructor(accounts) {
    this.count = 0
    this.done = Promise.all(accounts.map((account) => this.write(account)))
  }

  async write(account) {
    while (!this.stopping) {
      const post = await account.note(`post ${this.count}`)
      this.count += 1
      if (this.count % 5 === 0) await account.delete(post.uri)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  async stop() {
    this.stopping = true
    await this.done
  }
}
