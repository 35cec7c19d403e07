/** The certificate of `gateway.tls`: read, and judged before anybody is shown it. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Problem, TlsFiles } from 'portico'

/** Reads both files. What is wrong is a problem that names the key of the config; nothing is thrown. */
export function readPair(files: TlsFiles): { cert: string; key: string; problems: Problem[] } {
  const problems: Problem[] = []
  const fault = (name: keyof TlsFiles, what: string, found: string, expected: string) =>
    void problems.push({ where: 'gateway', key: `tls.${name}`, what, found, expected })
  const read = <T>(name: keyof TlsFiles, parse: (pem: string) => T, expected: string): [pem: string, parsed: T | undefined] => {
    let pem = ''
    try {
      pem = readFileSync(files[name], 'utf8')
      return [pem, parse(pem)]
    } catch (error) {
      const { code = 'error' } = error as NodeJS.ErrnoException
      if (pem === '') fault(name, 'the file cannot be read', `${files[name]} (${code})`, 'the path of a readable PEM file')
      else fault(name, 'the file does not hold what it should', files[name], expected)
      return [pem, undefined]
    }
  }
  const [cert, certificate] = read('cert', (pem) => new X509Certificate(pem), 'a certificate as PEM, followed by those of its authorities')
  const [key, privateKey] = read('key', (pem) => createPrivateKey(pem), 'a private key as PEM, without a passphrase')
  if (certificate) {
    const { validFrom, validTo } = certificate
    const isOver = !(Date.parse(validTo) > Date.now())
    if (isOver || Date.parse(validFrom) > Date.now())
      fault('cert', isOver ? 'the certificate has expired' : 'the certificate is not valid yet', `${validFrom} to ${validTo}`, 'one that is valid now')
    if (privateKey && !certificate.checkPrivateKey(privateKey)) fault('key', 'the key is not that of the certificate', files.key, `the key of ${files.cert}`)
  }
  return { cert, key, problems }
}
