/**
 * A cold start, in a process of its own: loads a bundle as Lambda's init phase does, moves into a cgroup if one is given,
 * calls the handler once there and prints what that took.
 * It imports nothing that a handler could need, since the handler would then find it loaded.
 */
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { lambdaContext } from '../../../tests/context.js'
import type { ColdStart } from '../results.js'

type Bundle = { handler?: (event: object, context: object) => Promise<unknown> }

const [bundle = '', group] = process.argv.slice(2)
const context = lambdaContext()

const begin = now()
const { handler } = (
  bundle.endsWith('.cjs') ? createRequire(import.meta.url)(bundle) : await import(bundle)
) as Bundle
const imported = now()
if (group) writeFileSync(`${group}/cgroup.procs`, String(process.pid))
const called = now()
const value = await handler?.({}, context)
const answered = now()

const result: ColdStart & { value: unknown } = {
  import: { time: imported.time - begin.time, cpu: imported.cpu - begin.cpu },
  first: { time: answered.time - called.time, cpu: answered.cpu - called.cpu },
  memory: process.memoryUsage.rss() / 2 ** 20,
  value,
}
process.stdout.write(JSON.stringify(result))
// Connections that are kept alive would keep the process alive too.
process.exit()

/** Milliseconds: by the clock, and that any thread of this process has computed. */
function now(): { time: number; cpu: number } {
  const { user, system } = process.cpuUsage()
  return { time: performance.now(), cpu: (user + system) / 1000 }
}
