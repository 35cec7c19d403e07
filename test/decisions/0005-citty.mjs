// What citty does with a command line that is wrong, or repeats a flag.
// packages: citty@0.2.2
import { defineCommand, runCommand } from 'citty'

const lines = ['start --prot 1', 'start extra', 'start --port', 'start --port --json', 'start --scope a --scope b', 'strat']
for (const line of lines) {
  let outcome = 'was run with nothing'
  const run = ({ args }) => {
    outcome = `was run with ${JSON.stringify(args)}`
  }
  const args = { port: { type: 'string' }, scope: { type: 'string' }, json: { type: 'boolean' } }
  const main = defineCommand({ subCommands: { start: defineCommand({ meta: { name: 'start' }, args, run }) } })
  await runCommand(main, { rawArgs: line.split(' ') }).catch((error) => {
    outcome = `was refused: ${error.message}`
  })
  console.log(`${line.padEnd(28)}${outcome}`)
}
