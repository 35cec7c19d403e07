/** The chat page. No framework and no build: what is here is what runs. */
import { renderMarkdown } from '/app/markdown.js'
import { readFrames } from '/app/sse.js'

const $ = (id) => document.getElementById(id)
const [keyName, sessionName, modelName] = ['portico.key', 'portico.session', 'portico.model']
const maxEvents = 200

// A key that is not to be kept lives as long as the tab; neither ever stands in a URL.
const stored = {
  get: (name) => sessionStorage.getItem(name) ?? localStorage.getItem(name),
  set(name, value, keep = false) {
    sessionStorage.removeItem(name)
    localStorage.removeItem(name)
    if (value) (keep ? localStorage : sessionStorage).setItem(name, value)
  },
}

let key = stored.get(keyName)
let sessionKey = stored.get(sessionName)
let running
let source

class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `The gateway answered ${status}.`)
    this.status = status
  }
}

async function call(path, { method = 'GET', body, signal } = {}) {
  const headers = { authorization: `Bearer ${key}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
  const response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) })
  if (response.ok) return response
  const { error } = await response.json().catch(() => ({}))
  throw new Refused(response.status, error)
}
const json = async (path, options) => (await call(path, options)).json()

/** What went wrong, and what to do. */
function plain(error) {
  if (error instanceof Refused) return error.message
  if (error instanceof TypeError) return 'The gateway does not answer. See whether it runs (portico status), then try again.'
  return String(error.message ?? error)
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) return signOut('The key is not good any more: it was revoked, or has expired. Pair this device again.')
  $('chat-error').textContent = plain(error)
}

// --- signing in ---

async function signIn(event) {
  event.preventDefault()
  const secret = $('secret').value.trim()
  const keep = $('remember').checked
  $('welcome-error').textContent = ''
  if (secret === '') {
    $('welcome-error').textContent = 'Type the pairing code, or paste a key.'
    return $('secret').focus()
  }
  try {
    key = /^[A-Za-z0-9]{4}[\s-]?[A-Za-z0-9]{4}$/.test(secret) ? await pair(secret) : secret
    await json('/api/v1/auth/whoami')
    stored.set(keyName, key, keep)
    $('secret').value = ''
    await enter()
  } catch (error) {
    key = null
    const isKey = error instanceof Refused && error.status === 401 && !error.isPairing
    $('welcome-error').textContent = isKey ? 'This key is not known here: it was mistyped, revoked, or has expired.' : plain(error)
    $('secret').focus()
  }
}

async function pair(code) {
  const response = await fetch('/pair', { method: 'POST', headers: { 'x-pairing-code': code } })
  const body = await response.json().catch(() => ({}))
  if (response.ok) return body.token
  throw Object.assign(new Refused(response.status, body.error), { isPairing: true })
}

function signOut(reason = '') {
  running?.abort()
  closeEvents()
  for (const name of [keyName, sessionName]) stored.set(name, null)
  key = null
  sessionKey = null
  $('chat').hidden = true
  $('welcome').hidden = false
  $('welcome-error').textContent = reason
  $('secret').focus()
}

async function enter() {
  $('welcome').hidden = true
  $('chat').hidden = false
  $('chat-error').textContent = ''
  $('message').focus()
  try {
    await Promise.all([loadModels(), openSession(sessionKey)])
  } catch (error) {
    failed(error)
  }
}

// --- models and conversations ---

async function loadModels() {
  const { data } = await json('/v1/models')
  const chosen = stored.get(modelName)
  const chatting = data.filter(({ id }) => !/embed|rerank|whisper|tts|moderation/i.test(id))
  const preset = chatting.find(({ id }) => id === chosen) ?? chatting.find(({ id }) => !id.startsWith('demo/')) ?? chatting[0]
  $('model').replaceChildren(...chatting.map(({ id }) => new Option(id.startsWith('demo/') ? `${id} (demo)` : id, id, false, id === preset?.id)))
  if (!preset) $('chat-error').textContent = 'There is no model yet. Start Ollama, or name a provider in portico.toml.'
}

async function openSession(wanted) {
  running?.abort()
  $('messages').replaceChildren()
  $('chat-error').textContent = ''
  setSession(wanted)
  if (wanted) {
    try {
      const { messages } = await json(`/api/chat/history?limit=200&sessionKey=${encodeURIComponent(wanted)}`)
      for (const { role, content, model, finishReason } of messages) addMessage(role, content, { model, finishReason })
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 404) throw error
      setSession(null)
    }
  }
  showEmpty()
  scrollDown()
}

function setSession(value) {
  sessionKey = value
  stored.set(sessionName, value, true)
  for (const button of $('session-list').querySelectorAll('button[data-key]')) button.setAttribute('aria-current', String(button.dataset.key === value))
}

async function loadSessions() {
  const { sessions } = await json('/api/chat/sessions')
  $('session-list').replaceChildren(
    ...sessions.map((session) => {
      const open = Object.assign(document.createElement('button'), { type: 'button', textContent: session.title || 'Untitled', title: session.title })
      open.dataset.key = session.sessionKey
      open.setAttribute('aria-current', String(session.sessionKey === sessionKey))
      open.onclick = () => {
        togglePanel('sessions', innerWidth > 736)
        openSession(session.sessionKey).then(() => $('message').focus(), failed)
      }
      const remove = Object.assign(document.createElement('button'), { type: 'button', textContent: '×' })
      remove.setAttribute('aria-label', `Delete “${session.title}”`)
      remove.onclick = async () => {
        if (!confirm(`Delete the conversation “${session.title}”?`)) return
        await call(`/api/chat/sessions/${encodeURIComponent(session.sessionKey)}`, { method: 'DELETE' }).catch(failed)
        if (session.sessionKey === sessionKey) await openSession(null)
        await loadSessions().catch(failed)
      }
      const item = document.createElement('li')
      item.append(open, remove)
      return item
    }),
  )
}

// --- messages ---

function addMessage(role, text, { model, finishReason } = {}) {
  const item = document.createElement('li')
  item.className = role
  const who = Object.assign(document.createElement('span'), {
    className: role === 'user' ? 'sr' : 'who',
    textContent: role === 'user' ? 'You: ' : (model ?? ''),
  })
  const content = Object.assign(document.createElement(role === 'user' ? 'span' : 'div'), { className: 'text' })
  item.append(who, content)
  if (role === 'user') content.textContent = text
  else renderMarkdown(content, text)
  if (finishReason && finishReason !== 'stop') cutShort(item, finishReason)
  $('messages').append(item)
  showEmpty()
  return { item, content }
}

function cutShort(item, reason) {
  const why = { cancelled: 'Stopped.', error: 'The answer broke off.', length: 'The model ended here: the answer was too long.' }[reason]
  if (why) item.append(Object.assign(document.createElement('p'), { className: 'cut', textContent: why }))
}

const showEmpty = () => {
  $('empty').hidden = $('messages').childElementCount > 0
}
const isAtEnd = () => $('conversation').scrollHeight - $('conversation').scrollTop - $('conversation').clientHeight < 80
const scrollDown = () => {
  $('conversation').scrollTop = $('conversation').scrollHeight
}

async function send(event) {
  event?.preventDefault()
  const text = $('message').value.trim()
  if (text === '' || running) return
  const own = new AbortController()
  running = own
  $('message').value = ''
  $('chat-error').textContent = ''
  addMessage('user', text)
  const model = $('model').value || undefined
  const { item, content } = addMessage('assistant', '', { model })
  item.classList.add('writing')
  setWriting(true)
  scrollDown()
  let answer = ''
  let drawing = 0
  const draw = () => {
    drawing = 0
    const follow = isAtEnd()
    renderMarkdown(content, answer)
    if (follow) scrollDown()
  }
  try {
    const body = { message: text, model, sessionKey: sessionKey ?? undefined, channelId: 'web' }
    const response = await call('/api/chat/stream', { method: 'POST', body, signal: own.signal })
    let isDone = false
    for await (const { event, data } of readFrames(response.body)) {
      const frame = data === '' ? {} : JSON.parse(data)
      if (event === 'session') setSession(frame.sessionKey)
      else if (event === 'token') {
        answer += frame.delta
        // However fast it comes, it is drawn once a frame.
        drawing ||= requestAnimationFrame(draw)
      } else if (event === 'done') {
        isDone = true
        if (frame.finishReason !== 'stop') cutShort(item, frame.finishReason)
      } else if (event === 'error') throw Object.assign(new Error(frame.message), { isFrame: true })
    }
    if (!isDone) throw new Error('The answer broke off. Try again.')
    $('status').textContent = 'The answer is complete.'
  } catch (error) {
    if (own.signal.aborted) {
      cutShort(item, 'cancelled')
      $('status').textContent = 'Stopped.'
    } else {
      if (answer === '') item.remove()
      else cutShort(item, 'error')
      if (answer === '' && $('message').value === '') $('message').value = text
      failed(error)
    }
  } finally {
    cancelAnimationFrame(drawing)
    if (answer !== '') draw()
    item.classList.remove('writing')
    if (running === own) {
      running = undefined
      setWriting(false)
    }
    if (!$('sessions').hidden) loadSessions().catch(() => {})
  }
}

function setWriting(isWriting) {
  $('send').hidden = isWriting
  $('stop').hidden = !isWriting
  if (isWriting) $('status').textContent = 'The answer is being written.'
}

// --- events ---

async function openEvents() {
  $('events-state').textContent = 'connecting'
  try {
    const { entries } = await json('/api/activity?limit=30')
    $('event-list').replaceChildren()
    for (const entry of entries.reverse()) addEvent(entry.type, entry)
    // The ticket stands in the URL in place of the key, and is good for this one stream.
    const { url } = await json('/api/tickets', { method: 'POST', body: { path: '/api/events?envelope=cloudevents' } })
    source = new EventSource(url)
    const listen = (type) => source.addEventListener(type, ({ data }) => addEvent(type, JSON.parse(data)))
    source.addEventListener('ready', () => {
      $('events-state').textContent = 'live'
    })
    source.onerror = () => {
      $('events-state').textContent = source?.readyState === EventSource.CLOSED ? 'ended: close and open it again' : 'connecting again'
    }
    const { components } = await (await fetch('/asyncapi.json')).json()
    for (const { name } of Object.values(components.messages)) listen(name)
  } catch (error) {
    $('events-state').textContent = 'closed'
    failed(error)
  }
}

function closeEvents() {
  source?.close()
  source = undefined
  $('events-state').textContent = 'closed'
}

function addEvent(type, fact) {
  const item = document.createElement('li')
  const payload = JSON.stringify(fact.data ?? {})
  item.append(
    Object.assign(document.createElement('b'), { textContent: type }),
    Object.assign(document.createElement('span'), { className: 'hint', textContent: new Date(fact.time).toLocaleTimeString() }),
    ` ${payload.length > 300 ? `${payload.slice(0, 299)}…` : payload}`,
  )
  $('event-list').prepend(item)
  while ($('event-list').childElementCount > maxEvents) $('event-list').lastElementChild.remove()
}

// --- the frame of it all ---

function togglePanel(name, isOpen = $(name).hidden) {
  $(name).hidden = !isOpen
  $(`${name}-button`).setAttribute('aria-expanded', String(isOpen))
}

$('pair-form').addEventListener('submit', signIn)
$('composer').addEventListener('submit', send)
$('stop').addEventListener('click', () => running?.abort())
$('sign-out').addEventListener('click', () => signOut())
$('model').addEventListener('change', () => stored.set(modelName, $('model').value, true))
$('new-session').addEventListener('click', () => {
  togglePanel('sessions', innerWidth > 736)
  openSession(null).then(() => $('message').focus(), failed)
})
$('sessions-button').addEventListener('click', () => {
  togglePanel('sessions')
  if (!$('sessions').hidden) loadSessions().catch(failed)
})
$('events-button').addEventListener('click', () => {
  togglePanel('events')
  if ($('events').hidden) closeEvents()
  else void openEvents()
})
$('message').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
  event.preventDefault()
  void send()
})
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort()
})

// What scrolls is to be reached with the keyboard.
for (const name of ['conversation', 'events']) $(name).tabIndex = 0

if (key) void enter()
else {
  $('welcome').hidden = false
  $('secret').focus()
}
