// The consumer @skyware/firehose, which reads the records out of each commit:
// node consumer_skyware.mjs BASE
//
// One JSON line per event, or per error with the key `error`. Its own way of reconnecting starts
// the old socket again, so a lost connection is replaced here, from the last event given.

import WebSocket from 'ws'
import { Firehose } from '@skyware/firehose'

const REDIAL_MS = 500
let cursor = 0
const say = (line) => console.log(JSON.stringify(line))

function dial() {
  const firehose = new Firehose({
    relay: process.argv[2], cursor: String(cursor), ws: WebSocket, autoReconnect: false,
  })
  for (const kind of ['commit', 'sync', 'identity', 'account', 'info', 'unknown']) {
    firehose.on(kind, (event) => {
      cursor = event.seq
      const did = event.repo ?? event.did
      say({ kind: `#${kind}`, seq: event.seq, did, ops: event.ops?.length })
    })
  }
  firehose.on('error', ({ error }) => say({ error: error.message }))
  // It reads messages asynchronously: the last ones may still be on their way.
  firehose.on('close', () => setTimeout(dial, REDIAL_MS))
  // The error is followed by a close.
  firehose.on('websocketError', () => {})
  firehose.start()
}

dial()
