import { type Cached, type Options, withCache } from '../../lambda-cache.js'

const options = { ssm: ['/app/greeting'] } as const satisfies Options

/** The handler's own work, exported for tests: a plain object will do for its context. */
export async function greet(event: { name: string }, context: Cached<typeof options>) {
  return `${context.greeting}, ${event.name}`
}

export const handler = withCache(greet, options)
