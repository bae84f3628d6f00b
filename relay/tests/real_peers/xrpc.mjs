// What a person does at a PDS, over XRPC with plain fetch: no AT Protocol library is involved.

const PASSWORD = 'hunter22hunter22'

// One XRPC call; GET unless there is a body. Answers the parsed JSON, or throws with the error's
// name (`name`) and HTTP status (`status`). `raw` answers the bytes.
export async function call(base, nsid, { params = {}, body, jwt, admin, type, raw } = {}) {
  const url = new URL(`/xrpc/${nsid}`, base)
  for (const [key, value] of Object.entries(params)) url.searchParams.set(key, value)
  const headers = {}
  if (jwt) headers.authorization = `Bearer ${jwt}`
  if (admin) headers.authorization = 'Basic ' + Buffer.from('admin:admin-pass').toString('base64')
  let init = { headers }
  if (body !== undefined) {
    const bytes = Buffer.isBuffer(body) ? body : JSON.stringify(body)
    const contentType = type ?? 'application/json'
    init = { method: 'POST', headers: { ...headers, 'content-type': contentType }, body: bytes }
  }
  const response = await fetch(url, init)
  const bytes = Buffer.from(await response.arrayBuffer())
  if (raw && response.ok) return bytes
  const text = bytes.toString()
  if (response.ok) return text ? JSON.parse(text) : {}
  let name = ''
  try {
    name = JSON.parse(text).error
  } catch {}
  const error = new Error(`${nsid}: ${response.status} ${text}`)
  throw Object.assign(error, { name, status: response.status })
}

// An account with a session at its PDS.
export class Account {
  constructor(base, session) {
    Object.assign(this, { base, did: session.did, handle: session.handle, jwt: session.accessJwt })
  }

  // A session for an account made here, or brought here with the proof `jwt` of its old PDS.
  static async create(base, handle, { did, jwt } = {}) {
    const email = `${handle.replaceAll('.', '-')}@mail.com`
    const body = { handle, email, password: PASSWORD, did }
    return new Account(base, await call(base, 'com.atproto.server.createAccount', { body, jwt }))
  }

  static async login(base, identifier) {
    const body = { identifier, password: PASSWORD }
    return new Account(base, await call(base, 'com.atproto.server.createSession', { body }))
  }

  get(nsid, params) {
    return call(this.base, nsid, { params, jwt: this.jwt })
  }

  post(nsid, body) {
    return call(this.base, nsid, { body, jwt: this.jwt })
  }

  create(collection, fields) {
    return this.post('com.atproto.repo.createRecord', {
      repo: this.did, collection, record: record(collection, fields),
    })
  }

  put(collection, rkey, fields) {
    return this.post('com.atproto.repo.putRecord', {
      repo: this.did, collection, rkey, record: record(collection, fields),
    })
  }

  delete(uri) {
    const [collection, rkey] = uri.split('/').slice(3)
    return this.post('com.atproto.repo.deleteRecord', { repo: this.did, collection, rkey })
  }

  note(text) {
    return this.create('app.bsky.feed.post', { text })
  }

  like({ uri, cid }) {
    return this.create('app.bsky.feed.like', { subject: { uri, cid } })
  }

  repost({ uri, cid }) {
    return this.create('app.bsky.feed.repost', { subject: { uri, cid } })
  }

  follow(did) {
    return this.create('app.bsky.graph.follow', { subject: did })
  }

  // Several writes in one commit; see `write`.
  apply(writes) {
    const body = { repo: this.did, validate: false, writes }
    return this.post('com.atproto.repo.applyWrites', body)
  }

  rename(handle) {
    return this.post('com.atproto.identity.updateHandle', { handle })
  }

  deactivate() {
    return this.post('com.atproto.server.deactivateAccount', {})
  }

  // It takes no body and refuses a content type.
  async activate() {
    const url = new URL('/xrpc/com.atproto.server.activateAccount', this.base)
    const headers = { authorization: `Bearer ${this.jwt}` }
    const response = await fetch(url, { method: 'POST', headers })
    if (!response.ok) throw new Error(`activateAccount: ${await response.text()}`)
  }

  // What the PDS's owner does to it.
  takedown(applied) {
    const subject = { $type: 'com.atproto.admin.defs#repoRef', did: this.did }
    const body = { subject, takedown: { applied, ref: applied ? 'test' : undefined } }
    return call(this.base, 'com.atproto.admin.updateSubjectStatus', { body, admin: true })
  }

  erase() {
    const body = { did: this.did }
    return call(this.base, 'com.atproto.admin.deleteAccount', { body, admin: true })
  }
}

// One write of `Account.apply`: action is create, update or delete.
export function write(action, rkey, text) {
  const collection = 'app.bsky.feed.post'
  const value = text === undefined ? undefined : record(collection, { text })
  return { $type: `com.atproto.repo.applyWrites#${action}`, collection, rkey, value }
}

function record(collection, fields) {
  return { $type: collection, createdAt: new Date().toISOString(), ...fields }
}
