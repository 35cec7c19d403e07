/** Takes secrets out of what is written: log lines, and what events and answers quote. */
import type { Redaction } from '../boot/log.ts'

/** Secrets that must never be written: values known by config, and everything that looks like a bearer, a key or a ticket. */
export class Redactor implements Redaction {
  readonly #secrets = new Map<string, RegExp>()

  constructor(secrets: readonly string[] = []) {
    for (const secret of secrets) this.add(secret)
  }

  /** Adds a value; shorter than 6 characters it would only garble the log. */
  add(value: string): void {
    const forms = [value, ...(value.isWellFormed() ? [encodeURIComponent(value)] : []), ...passwordOf(value)]
    for (const form of forms) if (form.length >= 6) this.#secrets.set(form, new RegExp(form.replace(/[^A-Za-z0-9]/g, spelling), 'g'))
  }

  /** The text without secrets. */
  apply(text: string): string {
    let out = text
    for (const secret of this.#secrets.values()) out = out.replace(secret, '***')
    return out
      .replace(/\b(ptk|ptl|tkt)_[A-Za-z0-9_-]{8,}/g, '$1_***')
      .replace(/((?:authorization|x-api-key)[\\"']*\s*[:=]\s*[\\"']*\s*(?:bearer|basic)?\s*)[^\s\\"',}]+/gi, '$1***')
      .replace(/(bearer\s+)[A-Za-z0-9._~+/=-]{8,}/gi, '$1***')
      .replace(/([?&](?:token|ticket|key|api_key|access_token)=)[^&\s"']+/gi, '$1***')
  }
}

/** Formatters escape: quotes and backslashes by any number of backslashes, controls as letters or numbers behind them. */
function spelling(sign: string): string {
  if (sign === '\\') return '\\\\+'
  if (/["'`/]/.test(sign)) return `\\\\*${sign}`
  return sign < ' ' ? `(?:${sign}|\\\\+(?:[nrt]|[ux][0-9a-fA-F]+))` : sign.replace(/[\^$.*+?()[\]{}|-]/, '\\$&')
}

/** Of a URL, as written and as meant: drivers quote it alone. */
function passwordOf(value: string): string[] {
  const password = URL.canParse(value) ? new URL(value).password : ''
  try {
    return [password, decodeURIComponent(password)]
  } catch {
    return [password]
  }
}
