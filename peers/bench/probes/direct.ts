/**
 * Direct access, in a process of its own: prints the nanoseconds that each read from memory takes. All reads take turns.
 */
import { median } from '../statistics.js'
import { timer } from './timing.js'

const [turns = '', ...bundles] = process.argv.slice(2)

type Read = () => Promise<unknown>
type Reads = Readonly<Record<string, Read>>

const timers: [name: string, time: () => Promise<number>][] = []
for (const bundle of bundles) {
  const { reads } = await load(bundle)
  for (const name of Object.keys(reads)) {
    // A query makes it a module of its own, which has not been called with other options.
    const own = await load(`${bundle}?${encodeURIComponent(name)}`)
    await add(name, own.reads[name] as Read)
  }
}
for (const bundle of bundles) {
  const all = await load(`${bundle}?all`)
  if (all.name) await add(`${all.name}, all of these in turn`, inTurn(Object.values(all.reads)))
}
const times = new Map(timers.map(([name]) => [name, [] as number[]]))
for (let turn = 0; turn < Number(turns); turn += 1)
  for (const [name, time] of timers) times.get(name)?.push(await time())
process.stdout.write(
  JSON.stringify(Object.fromEntries([...times].map(([name, all]) => [name, median(all)]))),
)
process.exit()

async function load(bundle: string): Promise<{ readonly reads: Reads; readonly name?: string }> {
  return import(bundle) as Promise<{ readonly reads: Reads; readonly name?: string }>
}

async function add(name: string, read: Read): Promise<void> {
  await read()
  timers.push([name, await timer(read)])
}

/** Without those that do more than read memory. */
function inTurn(reads: readonly Read[]): Read {
  let next = 0
  return () => {
    next = (next + 1) % reads.length
    return (reads[next] as Read)()
  }
}
