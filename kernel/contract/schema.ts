/** `t`: the schemas plugins write. A subset of TypeBox that is plain JSON Schema 2020-12; extra keys are refused. */

import { type ObjectOptions, type SchemaOptions, type Static, type TLiteral, type TObject, type TProperties, type TSchema, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'

export type { Static, TObject, TSchema }

/** JSON Schema as data. */
export type JsonSchema = { [key: string]: unknown }

/** The schema builders a plugin may use. Every one of them is plain JSON Schema: no dates, no coercion, no transform. */
export const t = {
  String: Type.String,
  Number: Type.Number,
  Integer: Type.Integer,
  Boolean: Type.Boolean,
  Null: Type.Null,
  Literal: Type.Literal,
  Array: Type.Array,
  Tuple: Type.Tuple,
  Union: Type.Union,
  Record: Type.Record,
  Unknown: Type.Unknown,
  Optional: Type.Optional,
  /** An object that refuses extra keys; `{ additionalProperties: true }` lets them pass untouched. */
  Object: <P extends TProperties>(properties: P, options?: ObjectOptions): TObject<P> => Type.Object(properties, { additionalProperties: false, ...options }),
  /** The schema or null. */
  Nullable: <S extends TSchema>(schema: S, options?: SchemaOptions) => Type.Union([schema, Type.Null()], options),
  /** One of these strings. */
  Enum: <const V extends readonly [string, ...string[]]>(values: V, options?: SchemaOptions) =>
    Type.Union(values.map((value) => Type.Literal(value)) as { [K in keyof V]: TLiteral<V[K]> } as TLiteral<V[number]>[], options) as TSchema & {
      static: V[number]
    },
}

const secretKey = 'x-portico-secret'

/** A string that is redacted everywhere; in config it is a reference (`env:NAME`, `file:PATH`) or a literal in a file of mode 0600. */
export function secret(options: SchemaOptions = {}) {
  return Type.String({ ...options, [secretKey]: true })
}

/** True for a schema made by `secret()`. */
export function isSecret(schema: unknown): boolean {
  return typeof schema === 'object' && schema !== null && (schema as JsonSchema)[secretKey] === true
}

/** Compiles a schema once, for many values: gives what is wrong with one, and where (`/tokens/0`; `/` = with all of it), or undefined. */
export function compileCheck(schema: unknown): (value: unknown) => { readonly path: string; readonly message: string } | undefined {
  const check = TypeCompiler.Compile(schema as TSchema)
  return (value) => {
    if (check.Check(value)) return undefined
    const first = check.Errors(value).First()
    return { path: first?.path || '/', message: first?.message ?? 'It is not of its schema' }
  }
}
