// The status pages in a real browser, as people see them: on a desk and on a phone, in the light
// and in the dark. The pictures stay in the folder of the run.
//
// node browser.mjs BINARY, as main.mjs.

import { spawn } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { check, endsWithTheStory, tell } from './checks.mjs'
import { Chromium } from './chromium.mjs'
import { Relay, until } from './processes.mjs'
import { call } from './xrpc.mjs'

const [binary] = process.argv.slice(2)
const RELAY = '127.0.0.1:2470'
const METRICS = '127.0.0.1:2471'
const HOSTS = 4
const EVENTS = 400
const DESK = { width: 1280, height: 900 }
const PHONE = { width: 360, height: 740 }
// Between the two, where a row of figures is at its fullest.
const WINDOW = { width: 960, height: 800 }
const MARKUP = '"><img src=x onerror=document.title="broken">'

// Runs within the page; answers what is wrong with it.
function examine() {
  const faults = []
  const all = (selector) => [...document.querySelectorAll(selector)]
  const { scrollWidth, clientWidth } = document.documentElement
  if (scrollWidth > clientWidth) faults.push(`${scrollWidth} px wide in ${clientWidth} px`)
  if (all('h1').length !== 1) faults.push(`${all('h1').length} headings of the first rank`)
  if (all('script, img, iframe, object, embed').length) faults.push('something that runs or loads')
  if (document.documentElement.lang !== 'en' || !document.title) faults.push('no language or title')
  if (all('main').length !== 1) faults.push('not one main part')
  const ids = all('[id]').map(({ id }) => id)
  if (new Set(ids).size !== ids.length) faults.push(`an id is there twice: ${ids}`)
  for (const input of all('input')) if (!input.labels.length) faults.push('a field has no label')
  for (const part of all('[aria-labelledby]')) {
    const label = part.getAttribute('aria-labelledby')
    if (!document.getElementById(label)) faults.push(`nothing is called ${label}`)
  }
  if (getComputedStyle(document.body).marginTop !== '0px') faults.push('the stylesheet is not used')

  // WCAG 2.2, 1.4.3: "a contrast ratio of at least 4.5:1".
  const parse = (color) => {
    const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number)
    return { channels: [red, green, blue], alpha }
  }
  const luminance = ({ channels }) => {
    const [red, green, blue] = channels.map((channel) => {
      const value = channel / 255
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor)
      if (color.alpha === 1) return color
    }
    return parse('rgb(255, 255, 255)')
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const { parentElement: element, data } = walker.currentNode
    if (!data.trim() || element.closest('.hidden, .skip, svg')) continue
    const [ink, paper] = [parse(getComputedStyle(element).color), ground(element)].map(luminance)
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)
    if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)} of "${data.trim().slice(0, 40)}"`)
  }
  return faults
}

async function story() {
  const program = path.join(path.dirname(binary), 'examples', 'network')
  const network = endsWithTheStory(
    spawn(program, ['7', String(HOSTS)], { stdio: ['pipe', 'pipe', 'inherit'] }))
  const lines = createInterface({ input: network.stdout })[Symbol.asyncIterator]()
  const { directory, hosts } = JSON.parse((await lines.next()).value)
  const relay = endsWithTheStory(new Relay({
    binary, data: 'data/relay', listen: RELAY, metrics: METRICS, directory,
  }))
  // The last one is a host that nobody answers for.
  const names = [...hosts, 'localhost:9']
  await relay.start(['--handles', 'pass', '--backfill', '--host', names.join(',')])
  network.stdin.write(`${EVENTS}\n`)
  await lines.next()
  const repos = async () => (await call(relay.base, 'com.atproto.sync.listRepos')).repos
  await until('accounts are known', async () => (await repos()).length > HOSTS)
  const status = async (hostname) =>
    (await call(relay.base, 'com.atproto.sync.getHostStatus', { params: { hostname } })).status
  const isAway = async () => (await status('localhost:9')) === 'offline'
  await until('the last host is seen to be away', isAway)
  const [{ did }] = (await repos()).filter(({ active }) => active)

  const browser = endsWithTheStory(await Chromium.start())
  const pages = {
    front: '/',
    host: `/status/host/${hosts[0]}`,
    'host-away': '/status/host/localhost:9',
    'host-unknown': '/status/host/localhost:8',
    account: `/status/account/${did}`,
    'account-unknown': '/status/account/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa',
    nothing: `/status?q=${encodeURIComponent(MARKUP)}`,
  }
  for (const [name, where] of Object.entries(pages)) {
    for (const [size, window] of [['desk', DESK], ['window', WINDOW], ['phone', PHONE]]) {
      for (const dark of [false, true]) {
        const shown = `${name} on a ${size}${dark ? ' in the dark' : ''}`
        await check(`the page ${shown} is whole, fits, can be read, and runs nothing`, async () => {
          const page = await browser.open(relay.base + where, { ...window, dark })
          await page.screenshot(`${name}-${size}${dark ? '-dark' : ''}.png`)
          return [...await page.evaluate(`(${examine})()`), ...page.complaints]
        })
      }
    }
  }

  await check('these checks can fail', async () => {
    const page = await browser.open(`${relay.base}/`, PHONE)
    await page.evaluate(`(() => {
      const add = (tag, words) => {
        const element = document.querySelector('main').appendChild(document.createElement(tag))
        element.textContent = words
        return element
      }
      add('h1', 'another')
      add('img', '')
      add('input', '')
      add('p', 'twice').id = 'find'
      add('p', 'grey').style.color = '#9aa'
      add('p', 'wide').style.width = '600px'
      add('p', 'forbidden').setAttribute('style', 'color: red')
      add('script', 'document.title = "broken"')
    })()`)
    const faults = [...await page.evaluate(`(${examine})()`), ...page.complaints].join('; ')
    const expected = [
      'px wide', 'headings of the first rank', 'runs or loads', 'an id is there twice',
      'no label', 'of "grey"', 'inline style', 'inline script',
    ]
    const title = await page.evaluate('document.title')
    const missed = expected.filter((fault) => !faults.includes(fault))
    if (title === 'broken') missed.push('a script has run')
    return missed.map((fault) => `not noticed: ${fault}, only ${faults}`)
  })

  const search = async (sought, heading) => {
    const page = await browser.open(`${relay.base}/`, PHONE)
    await page.evaluate(`document.querySelector('main input').value = ${JSON.stringify(sought)}`)
    await page.loaded(() => page.evaluate(`document.querySelector('main form button').click()`))
    const found = await page.evaluate(`document.querySelector('h1').textContent`)
    return found.includes(heading) ? [] : [`"${found}" for ${sought}`]
  }
  await check('the search field leads to a host', () => search(` ${hosts[1]} `, hosts[1]))
  await check('the search field leads to an account', async () => {
    const page = await browser.open(`${relay.base}/status/account/${did}`, DESK)
    return search(did, await page.evaluate(`document.querySelector('h1').textContent`))
  })
  await check('markup in the search field stays text', async () => {
    const page = await browser.open(`${relay.base}${pages.nothing}`, DESK)
    const [title, value] = await page.evaluate(
      `[document.title, document.querySelector('main input').value]`)
    return title !== 'broken' && value === MARKUP ? [] : [`title ${title}, field ${value}`]
  })
  await check('a page says which host is away, and why', async () => {
    const page = await browser.open(`${relay.base}${pages['host-away']}`, DESK)
    const text = await page.evaluate('document.body.innerText')
    return text.includes('Not reached') && text.includes('Since') ? [] : [text]
  })
}

await tell(story)
