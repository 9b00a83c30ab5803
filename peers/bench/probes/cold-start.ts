/**
 * A cold start, in a process of its own: loads a bundle, calls its handler once and prints what that took.
 * It imports nothing that a handler could need, since the handler would then find it loaded.
 */
import { createRequire } from 'node:module'
import type { ColdStart } from '../results.js'

type Bundle = { handler?: (event: object, context: object) => Promise<unknown> }

const [bundle = ''] = process.argv.slice(2)
const context = {
  functionName: 'bench',
  awsRequestId: 'first',
  getRemainingTimeInMillis: () => 30_000,
}

const cpuBefore = process.cpuUsage()
const begin = performance.now()
const { handler } = (
  bundle.endsWith('.cjs') ? createRequire(import.meta.url)(bundle) : await import(bundle)
) as Bundle
const imported = performance.now()
const value = await handler?.({}, context)
const answered = performance.now()
const { user, system } = process.cpuUsage(cpuBefore)

const result: ColdStart & { value: unknown } = {
  import: imported - begin,
  first: answered - imported,
  both: answered - begin,
  cpu: (user + system) / 1000,
  memory: process.memoryUsage.rss() / 2 ** 20,
  value,
}
process.stdout.write(JSON.stringify(result))
// Connections that are kept alive would keep the process alive too.
process.exit()
