/**
 * Warm invocations, in a process of their own: prints the nanoseconds that an invocation takes over one of the bare handler.
 * Both run in turn, so that a slow moment of the machine meets both.
 */
import { lambdaContext } from '../../../tests/context.js'
import { median } from '../statistics.js'

const [bundle = '', bareBundle = '', invocations = '', turns = ''] = process.argv.slice(2)

type Handler = (event: object, context: object) => Promise<unknown>

const { handler } = (await import(bundle)) as { handler: Handler }
const { handler: bare } = (await import(bareBundle)) as { handler: Handler }

const base: number[] = []
const over: number[] = []
for (let turn = 0; turn < Number(turns); turn += 1) {
  const bareTime = await time(bare)
  base.push(bareTime)
  over.push((await time(handler)) - bareTime)
}
process.stdout.write(JSON.stringify({ base: median(base), over: median(over) }))
process.exit()

async function time(measured: Handler): Promise<number> {
  const begin = process.hrtime.bigint()
  for (let count = 0; count < Number(invocations); count += 1) await measured({}, lambdaContext())
  return Number(process.hrtime.bigint() - begin) / Number(invocations)
}
