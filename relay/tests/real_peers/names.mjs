// A name server for the names of a run: A records, and the TXT records of handles.

import dgram from 'node:dgram'

const A = 1
const TXT = 16
const NO_SUCH_NAME = 3
// Nothing changes while a run lasts, but a resolver that remembers would be told so.
const TTL_S = 1

// Answers on 127.0.0.1:`port`. `address` gives a name its IPv4 address, `text` (which may be async)
// its text; undefined: there is no such name. `asked` counts questions by type and name.
export class Names {
  constructor(port, { address, text }) {
    Object.assign(this, { address, text, asked: new Map() })
    this.socket = dgram.createSocket('udp4')
    this.socket.on('message', async (query, peer) => {
      const answer = await this.answer(query)
      this.socket.send(answer, peer.port, peer.address)
    })
    this.socket.bind(port, '127.0.0.1')
  }

  async answer(query) {
    const { name, type, end } = question(query)
    const key = `${type} ${name}`
    this.asked.set(key, (this.asked.get(key) ?? 0) + 1)
    const address = this.address(name)
    const text = await this.text(name)
    const data = []
    if (type === A && address) data.push(Buffer.from(address.split('.').map(Number)))
    if (type === TXT && text) data.push(Buffer.concat([Buffer.of(text.length), Buffer.from(text)]))
    const known = address !== undefined || text !== undefined
    return Buffer.concat([
      header(query.readUInt16BE(0), known ? 0 : NO_SUCH_NAME, data.length),
      query.subarray(HEADER_BYTES, end),
      ...data.map((bytes) => record(type, bytes)),
    ])
  }
}

const HEADER_BYTES = 12

function question(query) {
  const labels = []
  let at = HEADER_BYTES
  for (let length = query[at]; length > 0; length = query[at]) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 }
}

// An authoritative answer to one question.
function header(id, code, answers) {
  const bytes = Buffer.alloc(HEADER_BYTES)
  for (const [at, word] of [id, 0x8580 | code, 1, answers].entries()) {
    bytes.writeUInt16BE(word, 2 * at)
  }
  return bytes
}

// A record of the name that was asked for.
function record(type, data) {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt16BE(0xc000 | HEADER_BYTES, 0)
  bytes.writeUInt16BE(type, 2)
  bytes.writeUInt16BE(1, 4)
  bytes.writeUInt32BE(TTL_S, 6)
  bytes.writeUInt16BE(data.length, 10)
  return Buffer.concat([bytes, data])
}
