// What a library that patches TOML text keeps of the comments it has nothing to do with.
// packages: @decimalturn/toml-patch@3.3.0 smol-toml@1.9.1
import { patch } from '@decimalturn/toml-patch'
import { parse } from 'smol-toml'

const files = [
  'plugins = [] # none yet\n',
  'limits.hosts = []  # none yet\n',
  '[limits]\nhosts = ["a"]  # ours\n',
  '[[tokens]]\nid = "ci" # builds\n',
  'port = 1 # default\n',
]
const additions = [{ port: 2 }, { list: [1] }, { table: { key: 1 } }, { entries: [{}] }]
for (const file of files) {
  for (const addition of additions) {
    let outcome
    try {
      const text = patch(file, { ...parse(file), ...addition })
      const comment = /# .*/.exec(file)?.[0] ?? ''
      outcome = text.includes(comment) ? 'comment kept' : 'COMMENT LOST'
    } catch (error) {
      outcome = `REFUSED: ${error.message}`
    }
    console.log(`${JSON.stringify(file).padEnd(42)} and ${JSON.stringify(addition).padEnd(22)} ${outcome}`)
  }
}
