/** Many objects read at once, in a process of its own: prints how many were read, in how many seconds, and how the others failed. */
import { join } from 'node:path'
import { getObject, httpsFetch, type LambdaCacheError } from '../../../lambda-cache.js'

const [count = '', transport = '', folder = ''] = process.argv.slice(2)

const fetch = transport === 'httpsFetch' ? httpsFetch : undefined
const begin = performance.now()
const reads = Array.from({ length: Number(count) }, (_, index) =>
  getObject(`s3://prod-bucket/${index}/zeros-1024`, { file: join(folder, String(index)), fetch }),
)
const outcomes = await Promise.allSettled(reads)
const seconds = (performance.now() - begin) / 1000

const failures: Record<string, number> = {}
for (const outcome of outcomes) {
  if (outcome.status === 'fulfilled') continue
  const { code } = outcome.reason as LambdaCacheError
  failures[code] = (failures[code] ?? 0) + 1
}
process.stdout.write(
  JSON.stringify({
    seconds,
    read: outcomes.filter(({ status }) => status === 'fulfilled').length,
    failures,
  }),
)
process.exit()
