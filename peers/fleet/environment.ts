import type * as Library from '../../lambda-cache.js'
import { instancesOf } from '../../tests/instance.js'
import type { Clock } from './clock.js'

/** Makes a new instance of lambda-cache.ts, with a cache and a `Math.random` of its own, as every Lambda environment has. */
export type Load = (
  clock: Clock,
  random: () => number,
  warn: (line: string) => void,
) => Pick<typeof Library, 'getParameter' | 'withCache' | 'LambdaCacheError'>

export async function bundle(): Promise<Load> {
  const instantiate = await instancesOf()
  const env = {
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: 'access-key-id',
    AWS_SECRET_ACCESS_KEY: 'secret-access-key',
    AWS_SESSION_TOKEN: 'session-token',
  }
  return (clock, random, warn) =>
    instantiate({
      process: { env, getBuiltinModule: process.getBuiltinModule },
      console: { ...console, warn },
      Date: clock.Date,
      Math: Object.assign(Object.create(Math) as Math, { random }),
      setTimeout: clock.setTimeout,
      clearTimeout: clock.clearTimeout,
      setImmediate: clock.setImmediate,
    })
}
