/** What others may know of the settings: an event. */
import { admin, defineEvent, t } from 'portico'

/** A secret of the config was changed. */
export const secretModified = defineEvent(
  'secret:modified',
  t.Object({ key: t.String({ description: 'Section and key: never the value' }), by: t.Nullable(t.String()) }),
  { scope: admin, durable: true, summary: 'A secret of the config was changed' },
)
