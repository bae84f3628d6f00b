// What stands in front of servers: a TLS terminator, and a liar.

import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import tls from 'node:tls'

const WebSocket = createRequire(import.meta.url)('ws')

// Ends TLS on address:port with the certificate in `folder` and hands on to 127.0.0.1:upstream.
export async function terminateTls(folder, address, port, upstream) {
  const cert = readFileSync(`${folder}/cert.pem`)
  const key = readFileSync(`${folder}/key.pem`)
  const server = tls.createServer({ cert, key, ALPNProtocols: ['http/1.1'] }, (outer) => {
    const inner = net.connect(upstream, '127.0.0.1')
    outer.pipe(inner)
    inner.pipe(outer)
    for (const [one, other] of [[outer, inner], [inner, outer]]) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
  })
  await new Promise((resolve) => server.listen(port, address, resolve))
}

// A relay that passes a firehose on with one bit of every signature flipped.
export async function lie(port, upstream) {
  const server = new WebSocket.Server({ port })
  server.on('connection', (consumer, request) => {
    const relay = new WebSocket(upstream + request.url)
    relay.on('message', (data) => {
      const frame = Buffer.from(data)
      const signature = frame.indexOf(SIGNATURE_KEY)
      if (signature > 0) frame[signature + 8] ^= 1
      consumer.send(frame)
    })
    consumer.on('close', () => relay.close())
    relay.on('error', () => consumer.close())
    relay.on('close', () => consumer.close())
  })
  await new Promise((resolve) => server.on('listening', resolve))
}

// The text "sig" as CBOR; 64 bytes with a header of two bytes follow it.
const SIGNATURE_KEY = Buffer.from('63736967', 'hex')
