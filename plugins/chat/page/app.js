/** The chat page. No framework and no build: what is here is what runs. */
import { closeEvents, openEvents } from '/app/events.js'
import { call, device, json, names, pair, plain, Refused, stored } from '/app/gateway.js'
import { renderMarkdown } from '/app/markdown.js'
import { readFrames } from '/app/sse.js'

const $ = (id) => document.getElementById(id)
/** ms between two looks at which models there are, when the page is come back to. */
const modelsAge = 5_000

let sessionKey = stored.get(names.session)
let running
/** The conversation that is being opened. */
let opening = Promise.resolve()
let modelsAt = 0

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
  if (!/^[\x20-\x7e]+$/.test(secret)) {
    $('welcome-error').textContent = 'This is neither a code nor a key: both are of plain letters, digits and signs.'
    return $('secret').focus()
  }
  try {
    device.key = /^[A-Za-z0-9]{4}[\s-]?[A-Za-z0-9]{4}$/.test(secret) ? await pair(secret) : secret
    await json('/api/v1/auth/whoami')
    stored.set(names.key, device.key, keep ? 'browser' : 'tab')
    $('secret').value = ''
    await enter()
  } catch (error) {
    device.key = null
    const isKey = error instanceof Refused && error.status === 401 && !error.isPairing
    $('welcome-error').textContent = isKey ? 'This key is not known here: it was mistyped, revoked, or has expired.' : plain(error)
    $('secret').focus()
  }
}

/** Nothing that was read with the key stays in the page. */
function signOut(reason = '') {
  running?.abort()
  closeEvents()
  for (const name of ['sessions', 'events']) togglePanel(name, false)
  for (const name of [names.key, names.session]) stored.set(name, null)
  device.key = null
  sessionKey = null
  for (const name of ['messages', 'session-list', 'model']) $(name).replaceChildren()
  $('message').value = ''
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
  modelsAt = Date.now()
  const { data } = await json('/v1/models')
  const chosen = $('model').value || stored.get(names.model)
  const chatting = data.filter(({ id }) => !/embed|rerank|whisper|tts|moderation/i.test(id))
  const isDemo = ({ id }) => id.startsWith('demo/')
  const models = chatting.filter(({ id }) => !isAgent(id))
  const preset = chatting.find(({ id }) => id === chosen) ?? models.find((model) => !isDemo(model)) ?? chatting[0]
  const toOption = (model) => new Option(isDemo(model) ? `${model.id} (demo)` : model.id, model.id, false, model === preset)
  const agents = Object.assign(document.createElement('optgroup'), { label: 'Agents' })
  agents.append(...chatting.filter(({ id }) => isAgent(id)).map(toOption))
  $('model').replaceChildren(...models.map(toOption), ...(agents.children.length > 0 ? [agents] : []))
  $('no-model').hidden = !models.every(isDemo)
}

function isAgent(model) {
  return model.startsWith('agent/')
}

function openSession(wanted) {
  opening = readSession(wanted)
  return opening
}

async function readSession(wanted) {
  running?.abort()
  $('messages').replaceChildren()
  $('chat-error').textContent = ''
  setSession(wanted)
  showEmpty(wanted)
  if (wanted) {
    try {
      const { messages } = await json(`/api/chat/history?limit=200&sessionKey=${encodeURIComponent(wanted)}`)
      // Another may have been chosen meanwhile.
      if (sessionKey !== wanted) return
      for (const { role, content, ...about } of messages) addMessage(role, content, about)
    } catch (error) {
      if (sessionKey !== wanted) return
      if (!(error instanceof Refused) || error.status !== 404) throw error
      setSession(null)
    }
  }
  showEmpty()
  scrollDown()
}

function setSession(value) {
  sessionKey = value
  stored.set(names.session, value, 'both')
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
        // What had the focus is gone.
        $('new-session').focus()
      }
      const item = document.createElement('li')
      item.append(open, remove)
      return item
    }),
  )
}

// --- messages ---

function addMessage(role, text, { model, finishReason, images = [] } = {}) {
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
  item.append(...images.map(toImage))
  if (finishReason && finishReason !== 'stop') cutShort(item, finishReason)
  $('messages').append(item)
  showEmpty()
  return { item, content }
}

/** One of a message; from elsewhere none is fetched, and one that was too large is not there any more. */
function toImage(url) {
  if (url?.startsWith('data:')) return Object.assign(document.createElement('img'), { src: url, alt: 'An image' })
  const textContent = url ? `Image: ${url}` : 'An image, too large to be kept'
  return Object.assign(document.createElement('p'), { className: 'cut', textContent })
}

function cutShort(item, reason) {
  const why = { cancelled: 'Stopped.', error: 'The answer broke off.', length: 'The model ended here: the answer was too long.' }[reason]
  if (why) item.append(Object.assign(document.createElement('p'), { className: 'cut', textContent: why }))
}

const showEmpty = (isLoading = false) => {
  $('empty').hidden = Boolean(isLoading) || $('messages').childElementCount > 0
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
  // A message stands below what was said before, and goes to the conversation that is shown.
  await opening.catch(() => {})
  if (own.signal.aborted) {
    if (running === own) running = undefined
    return
  }
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
  let pause = 0
  const draw = () => {
    drawing = 0
    const began = performance.now()
    const follow = isAtEnd()
    renderMarkdown(content, answer)
    if (follow) scrollDown()
    // What takes long to draw is drawn less often: the page stays quick.
    pause = 4 * (performance.now() - began)
  }
  try {
    // Who is chosen answers: a model alone, whichever agent the conversation was begun with.
    const agentId = model && !isAgent(model) ? 'default' : undefined
    const body = { message: text, model, agentId, sessionKey: sessionKey ?? undefined, channelId: 'web', accumulated: false }
    const response = await call('/api/chat/stream', { method: 'POST', body, signal: own.signal })
    let isDone = false
    for await (const { event, data } of readFrames(response.body)) {
      const frame = data === '' ? {} : JSON.parse(data)
      if (event === 'session') setSession(frame.sessionKey)
      else if (event === 'token') {
        answer += frame.delta
        // However fast it comes.
        drawing ||= setTimeout(draw, Math.max(16, pause))
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
    clearTimeout(drawing)
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

// --- the frame of it all ---

function togglePanel(name, isOpen = $(name).hidden) {
  $(name).hidden = !isOpen
  $(`${name}-button`).setAttribute('aria-expanded', String(isOpen))
}

$('pair-form').addEventListener('submit', signIn)
$('composer').addEventListener('submit', send)
$('stop').addEventListener('click', () => running?.abort())
$('sign-out').addEventListener('click', () => signOut())
$('model').addEventListener('change', () => stored.set(names.model, $('model').value, 'browser'))
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
  else openEvents().catch(failed)
})
$('message').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
  event.preventDefault()
  void send()
})
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort()
})

// A model server that was started meanwhile is there when the page is come back to.
addEventListener('focus', () => {
  if (device.key && Date.now() - modelsAt > modelsAge) loadModels().catch(() => {})
})
// Signed out in another tab: here too, unless the key is this tab's own.
addEventListener('storage', ({ key, newValue }) => {
  if (key === names.key && newValue === null && device.key && !sessionStorage.getItem(names.key)) signOut()
})

// What scrolls is to be reached with the keyboard.
for (const name of ['conversation', 'events']) $(name).tabIndex = 0

if (device.key) void enter()
else {
  $('welcome').hidden = false
  $('secret').focus()
}
