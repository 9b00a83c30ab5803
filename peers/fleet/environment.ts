import { fileURLToPath } from 'node:url'
import { compileFunction } from 'node:vm'
import { build } from 'esbuild'
import type * as Library from '../../lambda-cache.js'
import { present } from '../present.js'
import type { Clock } from './clock.js'

/** Makes a new instance of lambda-cache.ts, with a cache and a `Math.random` of its own, as every Lambda environment has. */
export type Load = (
  clock: Clock,
  random: () => number,
  warn: (line: string) => void,
) => Pick<typeof Library, 'withCache' | 'LambdaCacheError'>

/** What each instance gets in the place of the globals of these names. */
const GLOBALS = [
  'module',
  'process',
  'console',
  'Date',
  'Math',
  'setTimeout',
  'clearTimeout',
  'setImmediate',
]

/** Where else a program can get the time, or waste it: what is not replaced must not be used. */
const OTHER_CLOCKS = /\b(performance|hrtime|setInterval|AbortSignal\.timeout|timers\/promises)\b/

export async function bundle(): Promise<Load> {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const { outputFiles } = await build({
    stdin: {
      contents: `export { withCache, LambdaCacheError } from './lambda-cache.ts'`,
      resolveDir: root,
    },
    bundle: true,
    write: false,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    supported: { 'dynamic-import': false },
  })
  const code = present(outputFiles[0]).text
  const [otherClock] = OTHER_CLOCKS.exec(code) ?? []
  if (otherClock)
    throw new Error(`lambda-cache.ts uses ${otherClock}, which has no virtual counterpart here`)
  // Compiled once; every call makes a new scope with new module state.
  const instantiate = compileFunction(code, GLOBALS) as (...globals: unknown[]) => void
  const env = {
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: 'access-key-id',
    AWS_SECRET_ACCESS_KEY: 'secret-access-key',
    AWS_SESSION_TOKEN: 'session-token',
  }

  return (clock, random, warn) => {
    const module = { exports: {} }
    const math = Object.assign(Object.create(Math) as Math, { random })
    instantiate(
      module,
      { env, getBuiltinModule: process.getBuiltinModule },
      { ...console, warn },
      clock.Date,
      math,
      clock.setTimeout,
      clock.clearTimeout,
      clock.setImmediate,
    )
    return module.exports as ReturnType<Load>
  }
}
