// The real PDS: node pds.mjs PORT DATA NAME CRAWLERS
//
// NAME `localhost:PUBLIC` makes a plain one, http://localhost:PUBLIC; any other name makes one as
// in production, https://NAME. Where that is not PORT, a proxy is in front of it. CRAWLERS (URLs by
// comma, or none) are the relays to which it announces itself.

import { mkdirSync } from 'node:fs'
import path from 'node:path'

process.env.LOG_ENABLED ??= 'false'
process.env.NODE_ENV ??= 'production'
const { PDS, envToCfg, envToSecrets, readEnv } = await import('@atproto/pds')

const [portText, data, name, crawlers] = process.argv.slice(2)
const port = Number(portText)
const plain = name.startsWith('localhost:')
mkdirSync(path.join(data, 'blobs'), { recursive: true })

const environment = {
  ...readEnv(),
  port,
  hostname: plain ? 'localhost' : name,
  dataDirectory: data,
  blobstoreDiskLocation: path.join(data, 'blobs'),
  blobstoreDiskTmpLocation: path.join(data, 'blobs-tmp'),
  didPlcUrl: 'http://localhost:2582',
  serviceHandleDomains: [plain ? '.test' : `.${name}`],
  inviteRequired: false,
  // Without it the PDS refuses an http:// address of its own.
  devMode: plain,
  disableSsrfProtection: true,
  rateLimitsEnabled: false,
  crawlers: crawlers ? crawlers.split(',') : [],
  bskyAppViewUrl: 'http://localhost:1',
  bskyAppViewDid: 'did:web:localhost',
  adminPassword: 'admin-pass',
  jwtSecret: 'jwt-secret-jwt-secret-jwt-secret',
  // Both PDSes hold the same rotation key, so that a migration needs no e-mail.
  plcRotationKeyK256PrivateKeyHex: process.env.ROTATION_KEY,
}
const config = envToCfg(environment)
// What it says of itself to relays and in documents: left alone, a plain one would leave out its
// port in the one, and name its own in the other.
if (plain) Object.assign(config.service, { hostname: name, publicUrl: `http://${name}` })

const pds = await PDS.create(config, envToSecrets(environment))
await pds.start()
