// The consumer @atcute/firehose, which holds each event against its lexicon:
// node consumer_atcute.mjs BASE
//
// One JSON line per event, or per error with the key `error`. It reconnects by itself, from the
// last event it was given.

import { ComAtprotoSyncSubscribeRepos } from '@atcute/atproto'
import { FirehoseSubscription } from '@atcute/firehose'

let cursor = 0
const say = (line) => console.log(JSON.stringify(line))

const subscription = new FirehoseSubscription({
  service: process.argv[2],
  nsid: ComAtprotoSyncSubscribeRepos.mainSchema,
  params: () => ({ cursor }),
  onError: (error) => say({ error: `${error.name}: ${error.message}` }),
  // A connection that is lost, or not to be had, is tried again.
  onConnectionError: () => {},
})

for await (const event of subscription) {
  const kind = event.$type.replace('com.atproto.sync.subscribeRepos', '')
  cursor = event.seq
  say({ kind, seq: event.seq, did: event.repo ?? event.did, ops: event.ops?.length })
}
