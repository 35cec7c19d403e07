/** Checks values against JSON Schema: of our own tools, and of those that come from elsewhere. */
import type { Ajv2020 } from 'ajv/dist/2020.js'
import type { JsonSchema } from 'portico'

/** What is wrong with a value, and where; undefined when nothing is. */
export type Check = (value: unknown) => string | undefined

const shownErrors = 5

/** Loads the validator at its first use. */
let loading: Promise<() => Ajv2020> | undefined

/** Compiles a schema once, for many values. @throws for what is no schema */
export async function compileJsonSchema(schema: JsonSchema): Promise<Check> {
  loading ??= import('ajv/dist/2020.js').then(
    ({ Ajv2020 }) =>
      () =>
        new Ajv2020({ strict: false, validateFormats: false, allErrors: false, ownProperties: true, logger: false }),
  )
  // One each: what two servers call by the same `$id` is not the same. Drafts before 2020-12 are read as if they were it.
  const { $schema: _, ...own } = schema
  const validate = (await loading)().compile(own)
  return (value) => {
    if (validate(value)) return undefined
    const errors = (validate.errors ?? []).slice(0, shownErrors)
    return errors.map(({ instancePath, message, params }) => `${nameOf(instancePath)}${message ?? 'is wrong'}${detailOf(params)}`).join('; ')
  }
}

function nameOf(path: string): string {
  return path === '' ? '' : `${path.slice(1).replaceAll('/', '.')}: `
}

/** What the message leaves out: which key is not known, which values are. */
function detailOf(params: Record<string, unknown>): string {
  if (typeof params.additionalProperty === 'string') return ` (${params.additionalProperty.slice(0, 100)})`
  if (Array.isArray(params.allowedValues)) return ` (${params.allowedValues.slice(0, 20).join(', ')})`
  return ''
}
