/**
 * How reads from memory grow with what is read, in a process of its own: prints nanoseconds for each value, and the
 * bytes of heap that each entry takes.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { paginateGetParametersByPath, SSMClient } from '@aws-sdk/client-ssm'
import { getParameter, getParametersByPath, withCache } from '../../../lambda-cache.js'
import { lambdaContext } from '../../../tests/context.js'
import { median } from '../statistics.js'
import { timer } from './timing.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const [turns = ''] = process.argv.slice(2)
const maxAge = 3600

const onContext = await seriesOf([1, 10, 100, 1000], wrapped)
const { bytes, direct } = await directly()
const tree = await compareTrees()
process.stdout.write(JSON.stringify({ onContext, direct, bytes, tree }))
process.exit()

/** Nanoseconds for each value, by the number of values. */
async function seriesOf(
  counts: readonly number[],
  prepare: (count: number) => Promise<() => Promise<unknown>>,
): Promise<number[]> {
  const series: number[] = []
  for (const count of counts) {
    const time = await timer(await prepare(count))
    const measured: number[] = []
    for (let turn = 0; turn < Number(turns); turn += 1) measured.push((await time()) / count)
    series.push(median(measured))
  }
  return series
}

async function wrapped(count: number): Promise<() => Promise<unknown>> {
  const names = Array.from({ length: count }, (_, index) => `value_${index}`)
  const handler = withCache(
    async (_: object, context) => {
      let length = 0
      for (const name of names) length += String(Reflect.get(context, name)).length
      return length
    },
    { ssm: names.map((name) => `/prod/${count}/${name}`), maxAge },
  )
  for (let time = 0; time < 2; time += 1) await handler({}, lambdaContext())
  return () => handler({}, lambdaContext())
}

/** A wrapper keeps all of them: of what direct access alone reads, 1,000 stay. */
async function directly(): Promise<{ readonly bytes: number; readonly direct: number[] }> {
  const names = Array.from({ length: 10_000 }, (_, index) => `/many/${index}`)
  collect()
  const before = process.memoryUsage().heapUsed
  const handler = withCache(async () => {}, { ssm: names, maxAge })
  await handler.prefetch()
  for (const name of names) await getParameter(name)
  collect()
  const bytes = (process.memoryUsage().heapUsed - before) / names.length
  const direct = await seriesOf([1, 100, 10_000], async (count) => {
    const some = names.slice(0, count)
    return async () => {
      for (const name of some) await getParameter(name)
    }
  })
  return { bytes, direct }
}

/** CPU time for a tree of 10,000, as a multiple of that of the SDK's paginator on the same answers. */
async function compareTrees(): Promise<number> {
  const client = new SSMClient({})
  const compare = async (path: string): Promise<number> => {
    const own = await cpuOf(() => getParametersByPath(path, { maxAge: 0 }))
    const sdk = await cpuOf(async () => {
      const values = new Map<string | undefined, string | undefined>()
      for await (const { Parameters = [] } of paginateGetParametersByPath(
        { client },
        { Path: path, WithDecryption: true },
      ))
        for (const { Name, Value } of Parameters) values.set(Name, Value)
      return values
    })
    return own / sdk
  }
  // Smaller ones compile both.
  for (let turn = 0; turn < 3; turn += 1) await compare('/tree-of-1000')
  return compare('/tree')
}

/** Microseconds, of all threads. */
async function cpuOf(work: () => Promise<unknown>): Promise<number> {
  const begin = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(begin)
  return user + system
}
