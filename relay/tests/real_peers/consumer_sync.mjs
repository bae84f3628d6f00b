// The reference consumer, @atproto/sync, which verifies what it gets:
// node consumer_sync.mjs BASE DIRECTORY
//
// One JSON line per event, or per error with the key `error`. It reconnects by itself, from the
// last event it was given.

import { IdResolver, MemoryCache } from '@atproto/identity'
import { Firehose } from '@atproto/sync'

let cursor = 0
const say = (line) => console.log(JSON.stringify(line))

const idResolver = new IdResolver({
  plcUrl: process.argv[3],
  didCache: new MemoryCache(),
  // The default refuses plain http and private addresses.
  fetch: globalThis.fetch,
})

new Firehose({
  service: process.argv[2],
  idResolver,
  getCursor: () => cursor,
  // Handles are looked up in DNS, which is not there.
  unauthenticatedHandles: true,
  handleEvent: async ({ event, seq, did, collection, rkey }) => {
    cursor = seq
    say({ kind: event, seq, did, path: collection && `${collection}/${rkey}` })
  },
  onError: (error) => say({ error: `${error.message}: ${error.cause?.message ?? ''}` }),
}).start()
