/**
 * Warm invocations, in a process of their own: prints the nanoseconds that an invocation takes over one of the bare handler.
 * Both run in turn, so that a slow moment of the machine meets both.
 */
import { lambdaContext } from '../../../tests/context.js'
import { median } from '../statistics.js'
import { timer } from './timing.js'

const [bundle = '', bareBundle = '', ...counts] = process.argv.slice(2)
const [turns = 0, refreshes = 0, maxAge = 0] = counts.map(Number)

type Handler = (event: object, context: object) => Promise<unknown>

const { handler } = (await import(bundle)) as { handler: Handler }
const { handler: bare } = (await import(bareBundle)) as { handler: Handler }

await refresh()
const timeBare = await timer(() => bare({}, lambdaContext()))
const time = await timer(() => handler({}, lambdaContext()))
const base: number[] = []
const over: number[] = []
for (let turn = 0; turn < turns; turn += 1) {
  const bareTime = await timeBare()
  base.push(bareTime)
  over.push((await time()) - bareTime)
}
process.stdout.write(JSON.stringify({ base: median(base), over: median(over) }))
process.exit()

/** All values are read again so many times, on a clock that begins in the past, so that it is the true one at the end. */
async function refresh(): Promise<void> {
  const { now } = Date
  for (let left = refreshes; left > 0; left -= 1) {
    Date.now = () => now() - left * (maxAge + 1) * 1000
    // The second one finds its values in memory, as most do.
    await handler({}, lambdaContext())
    await handler({}, lambdaContext())
  }
  Date.now = now
  await handler({}, lambdaContext())
}
