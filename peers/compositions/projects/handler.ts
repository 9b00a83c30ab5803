/** A handler as the projects have it, for a bundler or a test runner. */
import { readFile } from 'node:fs/promises'
import { httpsFetch, LambdaCacheError, withCache } from './lambda-cache'

/** What the handler fails with where its secret is out of date. */
export class LoginError extends Error {}

const transport = process.env.TRANSPORT === 'httpsFetch' ? { fetch: httpsFetch } : {}

export const handler = withCache(
  async (event: { fails?: boolean }, context) => {
    if (event.fails) throw new LoginError('the password is out of date')
    return [context.parameter, context.secret, await readFile(context.object, 'utf8')]
  },
  {
    ssm: ['/app/parameter'],
    secrets: ['/app/secret'],
    s3: ['s3://bucket/object'],
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
