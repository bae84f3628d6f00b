// A host that stands before a PDS and decides when its events go out, and in which order.

import http from 'node:http'
import { createRequire } from 'node:module'
import { encode } from '@ipld/dag-cbor'
import { parse, unpack } from './recorder.mjs'

const WebSocket = createRequire(import.meta.url)('ws')
const STREAM = '/xrpc/com.atproto.sync.subscribeRepos'

// Listens on `port` for the PDS on `upstream`. Requests go through; the PDS's events go out as it
// sent them, under numbers of the gate's own, but for those of an account that is held: they wait
// in `held` (a Map from DID to parsed frames) until they are released. A gate that `forgets` leaves
// `prevData` out.
export class Gate {
  constructor(port, upstream) {
    Object.assign(this, { upstream, log: [], held: new Map(), clients: new Set() })
    this.forgets = false
    const streams = new WebSocket.Server({ noServer: true })
    this.server = http.createServer((request, response) => this.pass(request, response))
    this.server.on('upgrade', (request, socket, head) => {
      streams.handleUpgrade(request, socket, head, (client) => this.serve(client, request.url))
    })
    this.server.listen(port)
  }

  // Follows the PDS, which must be up.
  follow() {
    const socket = new WebSocket(`ws://127.0.0.1:${this.upstream}${STREAM}?cursor=0`)
    socket.on('message', (data) => {
      const frame = parse(new Uint8Array(data))
      const held = this.held.get(frame.did)
      if (held) held.push(frame)
      else this.append(frame)
    })
    socket.on('close', (code) => { throw new Error(`the PDS ended the gate's stream: ${code}`) })
  }

  // The number of the last event that went out.
  get seq() {
    return this.log.length
  }

  hold(did) {
    this.held.set(did, [])
  }

  // Lets the held event of this kind out.
  release(did, kind) {
    const held = this.held.get(did)
    const at = held.findIndex((frame) => frame.kind === kind)
    this.append(...held.splice(at, 1))
  }

  append(frame) {
    const [header, body] = unpack(frame.raw)
    if (this.forgets) delete body.prevData
    const parts = [encode(header), encode({ ...body, seq: this.seq + 1 })]
    const raw = Buffer.concat(parts)
    this.log.push(raw)
    for (const client of this.clients) client.send(raw)
  }

  serve(client, url) {
    const cursor = new URL(url, 'http://gate').searchParams.get('cursor')
    const behind = cursor ? this.log.slice(Number(cursor)) : []
    for (const raw of behind) client.send(raw)
    this.clients.add(client)
    client.on('close', () => this.clients.delete(client))
    client.on('error', () => {})
  }

  pass(request, response) {
    const { method, headers, url: path } = request
    const options = { host: '127.0.0.1', port: this.upstream, method, headers, path }
    const inner = http.request(options, (answer) => {
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
    })
    inner.on('error', () => response.destroy())
    request.pipe(inner)
  }
}
