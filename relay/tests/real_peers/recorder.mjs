// Records a firehose frame by frame with a bare WebSocket client and a bare CBOR reader.

import { createHash } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { decode, decodeOptions, encode } from '@ipld/dag-cbor'
import { decodeFirst } from 'cborg'

const WebSocket = createRequire(import.meta.url)('ws')

// How soon a lost connection is tried again.
const REDIAL_MS = 100

// Follows `base` from `cursor` until stopped, over every loss of the connection.
//
// `frames` are the events in the order in which they came (`bySeq`: by their numbers), `problems`
// is what no firehose should do, `closes` are the codes with which the other side ended
// connections. Who said what when goes to frames.jsonl, too.
export class Recorder {
  constructor(name, base, cursor) {
    Object.assign(this, { name, base, cursor, frames: [], problems: [], closes: [] })
    this.bySeq = new Map()
    this.dial()
  }

  dial() {
    const query = this.cursor === undefined ? '' : `?cursor=${this.cursor}`
    const url = `${this.base}/xrpc/com.atproto.sync.subscribeRepos${query}`
    // The extension is offered, as real clients do; a server must not trip over it.
    this.socket = new WebSocket(url, { perMessageDeflate: true })
    let opened = false
    this.socket.on('open', () => { opened = true })
    this.socket.on('message', (data, isBinary) => this.take(data, isBinary))
    // The error is followed by a close.
    this.socket.on('error', () => {})
    this.socket.on('close', (code) => {
      if (opened) this.closes.push(code)
      if (!this.stopped) setTimeout(() => this.stopped || this.dial(), REDIAL_MS)
    })
  }

  stop() {
    this.stopped = true
    this.socket.close()
  }

  take(data, isBinary) {
    const frame = parse(new Uint8Array(data))
    if (!isBinary) this.problems.push(`${this.name}: a text message`)
    if (!frame.event) return this.problems.push(`${this.name}: ${frame.text}`)
    if (frame.seq <= (this.cursor ?? 0)) {
      this.problems.push(`${this.name}: seq ${frame.seq} after ${this.cursor}`)
    }
    if (!frame.canonical) this.problems.push(`${this.name}: ${tell(frame)} is not canonical`)
    this.cursor = frame.seq
    this.frames.push(frame)
    this.bySeq.set(frame.seq, frame)
    const { seq, kind, did, rev, status } = frame
    const line = { at: new Date(), from: this.name, seq, kind, did, rev, status }
    appendFileSync('frames.jsonl', JSON.stringify(line) + '\n')
  }
}

// Header and body of a frame.
export function unpack(raw) {
  const [header, rest] = decodeFirst(raw, decodeOptions)
  return [header, decode(rest)]
}

// A frame taken apart. `content` stands for everything in it but `seq`.
export function parse(raw) {
  const [header, body] = unpack(raw)
  const again = Buffer.concat([encode(header), encode(body)])
  const { seq, ...others } = body
  return {
    event: header.op === 1 && header.t !== '#info',
    text: JSON.stringify([header, body]),
    raw: Buffer.from(raw),
    canonical: again.equals(Buffer.from(raw)),
    content: contentOf(header.t, others),
    seq,
    kind: header.t,
    did: body.repo ?? body.did,
    rev: body.rev,
    status: body.status,
    active: body.active,
    time: Date.parse(body.time),
    timeText: body.time,
    handle: body.handle,
    proven: body.prevData !== undefined,
    ops: (body.ops ?? []).map(({ action, path }) => ({ action, path })),
  }
}

// What stands for a body without its `seq`.
export function contentOf(kind = '', body) {
  return createHash('sha256').update(kind).update(encode(body)).digest('hex')
}

// A frame in a few words, for messages.
export function tell({ seq, kind, did, rev, status, ops }) {
  const some = ops.slice(0, OPS_TOLD).map(({ action, path }) => `${action} ${path}`)
  const more = ops.length > OPS_TOLD ? [`${ops.length - OPS_TOLD} more`] : []
  const told = ops.length > 0 && `(${[...some, ...more].join(', ')})`
  return [kind, did, `seq ${seq}`, rev && `rev ${rev}`, status, told].filter(Boolean).join(' ')
}

const OPS_TOLD = 3
