// The real PLC directory, in memory: node directory.mjs PORT
//
// The only npm release of the server, of 2023, renders DID documents in the form of its day. The
// public directory renders Multikeys, so GET /:did is answered here in that form, from the
// server's own log of operations; everything else is the server's.
//
// PUT /_frozen/:did has the relay, and nobody else, get the document of now until DELETE of the
// same: the public directory has replicas that lag. GET of it tells how often it got that.

import http from 'node:http'
import { createRequire } from 'node:module'

process.env.LOG_ENABLED ??= 'false'
const plc = createRequire(import.meta.url)('@did-plc/server')

const port = Number(process.argv[2])
const db = plc.Database.mock()
const server = plc.PlcServer.create({ db, port, version: 'mock' })

// By DID.
const frozen = new Map()

http.createServer(async (request, response) => {
  // @atproto/identity percent-encodes the DID.
  const path = decodeURIComponent(request.url.split('?')[0])
  const of = /^\/_frozen\/(did:plc:[a-z2-7]+)$/.exec(path)?.[1]
  if (of) {
    if (request.method === 'PUT') frozen.set(of, { operation: await newest(of), reads: 0 })
    if (request.method === 'DELETE') frozen.delete(of)
    return response.end(JSON.stringify({ reads: frozen.get(of)?.reads }))
  }
  const did = /^\/(did:plc:[a-z2-7]+)$/.exec(path)?.[1]
  if (did && request.method === 'GET') {
    const isRelay = request.headers['user-agent']?.startsWith('mainstem/')
    const replica = isRelay ? frozen.get(did) : undefined
    if (replica) replica.reads += 1
    const operation = replica ? replica.operation : await newest(did)
    if (operation && operation.type !== 'plc_tombstone') {
      response.writeHead(200, { 'content-type': 'application/did+ld+json; charset=utf-8' })
      return response.end(JSON.stringify(document(did, operation)))
    }
  }
  server.app(request, response)
}).listen(port)

async function newest(did) {
  return (await db.indexedOpsForDid(did)).at(-1)?.operation
}

function document(did, operation) {
  const { verificationMethods, alsoKnownAs, services } = operation
  const verificationMethod = Object.entries(verificationMethods).map(([name, key]) => ({
    id: `${did}#${name}`,
    type: 'Multikey',
    controller: did,
    publicKeyMultibase: key.replace(/^did:key:/, ''),
  }))
  const service = Object.entries(services).map(([name, { type, endpoint }]) => ({
    id: `#${name}`, type, serviceEndpoint: endpoint,
  }))
  const context = ['https://www.w3.org/ns/did/v1', 'https://w3id.org/security/multikey/v1']
  return { '@context': context, id: did, alsoKnownAs, verificationMethod, service }
}
