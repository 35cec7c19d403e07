/** The panel of events: the latest ones, then what happens. */
import { json } from '/app/gateway.js'

const $ = (id) => document.getElementById(id)
const maxEvents = 200
let source
/** Counts openings: one that was closed while it waited goes no further. */
let opening = 0

/** Shows them, until closed. Throws when the gateway refuses. */
export async function openEvents() {
  const own = ++opening
  $('events-state').textContent = 'connecting'
  try {
    const { components } = await (await fetch('/asyncapi.json')).json()
    const { entries } = await json('/api/activity?limit=30')
    // The ticket stands in the URL in place of the key, and is good for this one stream.
    const { url } = await json('/api/tickets', { method: 'POST', body: { path: '/api/events?envelope=cloudevents' } })
    if (own !== opening) return
    $('event-list').replaceChildren()
    for (const entry of entries.reverse()) addEvent(entry.type, entry)
    const stream = new EventSource(url)
    source = stream
    for (const { name } of Object.values(components.messages)) stream.addEventListener(name, ({ data }) => addEvent(name, JSON.parse(data)))
    stream.addEventListener('ready', () => {
      $('events-state').textContent = 'live'
    })
    stream.onerror = () => {
      if (stream === source) $('events-state').textContent = stream.readyState === EventSource.CLOSED ? 'ended: close and open it again' : 'connecting again'
    }
  } catch (error) {
    if (own !== opening) return
    $('events-state').textContent = 'closed'
    throw error
  }
}

/** Ends it and forgets what was shown. */
export function closeEvents() {
  opening++
  source?.close()
  source = undefined
  $('event-list').replaceChildren()
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
