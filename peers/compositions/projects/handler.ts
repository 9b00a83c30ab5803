/** A handler as the projects have it, for a bundler or a test runner. */
import { readFile } from 'node:fs/promises'
import {
  type Fetch,
  getParametersByPath,
  httpsFetch,
  LambdaCacheError,
  withCache,
} from './lambda-cache'

/** What the handler fails with where its secret is out of date. */
export class LoginError extends Error {}

const transport = process.env.TRANSPORT === 'httpsFetch' ? { fetch: httpsFetch } : {}

/** How often the handler has run. */
export const runs = { count: 0 }

export const handler = withCache(
  async (event: { fails?: boolean }, context) => {
    runs.count += 1
    if (event.fails) throw new LoginError('the password is out of date')
    return [context.parameter, context.secret, await readFile(context.object, 'utf8')]
  },
  {
    ssm: ['/app/parameter'],
    secrets: ['/app/secret'],
    s3: ['s3://bucket/object'],
    // In the realm of a test runner, none of these is of the outer `Object`.
    custom: [{ as: 'limits', load: () => ({ rates: [1, 2], from: new Date(0) }) }],
    refreshOn: (error: unknown) => error instanceof LoginError,
    ...transport,
  },
)

export const missing = withCache(async (_: object, context) => context.missing, {
  ssm: ['/app/missing'],
  ...transport,
})

/** The code of the library's own error. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof LambdaCacheError ? error.code : undefined
}

/** Reads a tree of two pages and 30 secrets through a `fetch` that is stubbed. */
export async function readMuch(): Promise<number> {
  const fetch: Fetch = async (_, { body = '{}' }) => {
    const input = JSON.parse(body) as { SecretId?: string; NextToken?: string }
    return input.SecretId
      ? Response.json({ SecretString: input.SecretId })
      : Response.json({
          Parameters: [{ Name: `/tree/${input.NextToken ?? 'first'}`, Value: 'value' }],
          ...(!input.NextToken && { NextToken: 'second' }),
        })
  }
  const secrets = Array.from({ length: 30 }, (_, index) => ({
    id: `stub${index}`,
    as: `s${index}`,
  }))
  const count = withCache(async (_: object, context) => Object.values(context.all).length, {
    custom: [{ as: 'all', load: () => getParametersByPath('/tree', { fetch }) }],
    secrets,
    fetch,
  })
  return secrets.length + (await count({}, { getRemainingTimeInMillis: () => 10_000 } as never))
}
