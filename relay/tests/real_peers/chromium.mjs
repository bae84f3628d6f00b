// A real browser without a window, over its DevTools protocol. No library: Node's own WebSocket.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'

const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
  '--hide-scrollbars', '--remote-debugging-port=0', '--user-data-dir=chromium-profile',
  'about:blank',
]

export class Chromium {
  // Starts it and waits until it can be spoken to.
  static async start() {
    const browser = new Chromium()
    browser.child = spawn('chromium', ARGUMENTS, { stdio: ['ignore', 'ignore', 'pipe'] })
    browser.child.on('error', () => {})
    for await (const line of createInterface({ input: browser.child.stderr })) {
      const address = line.match(/^DevTools listening on (ws:.*)$/)?.[1]
      if (!address) continue
      browser.child.stderr.resume()
      browser.socket = new WebSocket(address)
      await once(browser.socket, 'open')
      browser.socket.onmessage = ({ data }) => browser.heard(JSON.parse(data))
      return browser
    }
    throw new Error('chromium ended before it could be spoken to')
  }

  waiting = new Map()
  pages = new Map()

  send(method, params = {}, sessionId = undefined) {
    const id = this.waiting.size + 1
    this.socket.send(JSON.stringify({ id, method, params, sessionId }))
    return new Promise((resolve, reject) => this.waiting.set(id, { method, resolve, reject }))
  }

  heard({ id, result, error, method, params, sessionId }) {
    if (id === undefined) return this.pages.get(sessionId)?.happened(method, params)
    const { method: asked, resolve, reject } = this.waiting.get(id)
    if (error) reject(new Error(`${asked}: ${error.message}`))
    else resolve(result)
  }

  // Opens a page in a window of this size, in the light or in the dark.
  async open(url, { width, height, dark = false }) {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    const page = new Page(this, sessionId)
    this.pages.set(sessionId, page)
    for (const domain of ['Page', 'Log', 'Runtime']) await page.send(`${domain}.enable`)
    const mobile = width < 600
    const size = { width, height, deviceScaleFactor: 1, mobile }
    await page.send('Emulation.setDeviceMetricsOverride', size)
    const scheme = { name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }
    await page.send('Emulation.setEmulatedMedia', { features: [scheme] })
    await page.loaded(() => page.send('Page.navigate', { url }))
    return page
  }

  kill(signal) {
    this.child?.kill(signal)
  }
}

class Page {
  constructor(browser, session) {
    Object.assign(this, { browser, session, complaints: [] })
  }

  send(method, params) {
    return this.browser.send(method, params, this.session)
  }

  happened(method, params) {
    if (method === 'Page.loadEventFired') this.onload?.()
    // What the policy of a page forbids is told here, too.
    if (method === 'Log.entryAdded' && params.entry.level === 'error') {
      const { text, url } = params.entry
      // The answer's own status, 404 for what is not known, is no fault of the page.
      if (!text.startsWith('Failed to load resource')) this.complaints.push(`${text} ${url ?? ''}`)
    }
  }

  // Waits until what `act` begins has been loaded.
  async loaded(act) {
    const done = new Promise((resolve) => { this.onload = resolve })
    await act()
    await done
  }

  // The value of an expression within the page.
  async evaluate(expression) {
    const wanted = { expression, returnByValue: true }
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', wanted)
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description)
    return result.value
  }

  async screenshot(file) {
    const options = { format: 'png', captureBeyondViewport: true }
    const { data } = await this.send('Page.captureScreenshot', options)
    await writeFile(file, Buffer.from(data, 'base64'))
  }
}
