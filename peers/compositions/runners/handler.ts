/** A handler for runners that stand in for Lambda on a developer's machine. Its answer is one for API Gateway, too. */
import { readFile } from 'node:fs/promises'
import { httpsFetch, type LambdaContext, withCache } from './lambda-cache'

const wrapped = withCache(
  async (_: unknown, context) => ({
    values: [context.parameter, context.secret, await readFile(context.object, 'utf8')],
    remaining: context.getRemainingTimeInMillis?.(),
  }),
  {
    ssm: ['/app/parameter'],
    secrets: ['/app/secret'],
    s3: ['s3://bucket/object'],
    ...(process.env.TRANSPORT === 'httpsFetch' && { fetch: httpsFetch }),
  },
)

// CommonJS has no `await` at the top level.
const ready = wrapped.prefetch()

export async function handler(event: unknown, context: LambdaContext): Promise<object> {
  await ready
  return { statusCode: 200, body: JSON.stringify(await wrapped(event, context)) }
}
