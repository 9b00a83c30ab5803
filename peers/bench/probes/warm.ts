/**
 * Warm invocations, in a process of their own: prints the nanoseconds that an invocation takes over one of the bare handler.
 * Both run in turn, so that a slow moment of the machine meets both.
 */
import { lambdaContext } from '../../../tests/context.js'
import { median } from '../statistics.js'

const [bundle = '', bareBundle = '', ...counts] = process.argv.slice(2)
const [invocations = 0, turns = 0, refreshes = 0, maxAge = 0] = counts.map(Number)

type Handler = (event: object, context: object) => Promise<unknown>

const { handler } = (await import(bundle)) as { handler: Handler }
const { handler: bare } = (await import(bareBundle)) as { handler: Handler }

await refresh()
const base: number[] = []
const over: number[] = []
for (let turn = 0; turn < turns; turn += 1) {
  const bareTime = await time(bare)
  base.push(bareTime)
  over.push((await time(handler)) - bareTime)
}
process.stdout.write(JSON.stringify({ base: median(base), over: median(over) }))
process.exit()

async function time(measured: Handler): Promise<number> {
  const begin = process.hrtime.bigint()
  for (let count = 0; count < invocations; count += 1) await measured({}, lambdaContext())
  return Number(process.hrtime.bigint() - begin) / invocations
}

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
