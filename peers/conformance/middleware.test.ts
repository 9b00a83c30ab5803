/** The handlers of other people's middleware: what they pass besides event and context, and what they do to the context. */
import assert from 'node:assert/strict'
import { after, before, describe, mock, test } from 'node:test'
import { Logger } from '@aws-lambda-powertools/logger'
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware'
import middy from '@middy/core'
import ssm from '@middy/ssm'
import { startLocalAws } from '../../examples/local-aws.js'
import { type LambdaCacheError, type LambdaContext, withCache } from '../../lambda-cache.js'
import { CREDENTIALS, REGION, useEnvironment } from './kit.js'

type Handler = (event: { name: string }, context: LambdaContext) => Promise<unknown>

const OPTIONS = { ssm: ['/app/var'], secrets: [{ id: '/app/password', as: 'password' }] } as const
const READ = ['/app/var', '/app/password']

let aws: Awaited<ReturnType<typeof startLocalAws>>

before(async () => {
  aws = await startLocalAws({
    parameters: { '/app/var': 'one' },
    secrets: { '/app/password': 'hunter2' },
  })
})
after(() => aws.close())
useEnvironment(() => ({ AWS_ENDPOINT_URL: aws.url, AWS_LAMBDA_FUNCTION_NAME: 'function' }))

/** As the Node.js runtime makes it, with a fixed time that remains. */
function contextWith(remaining = 3000): LambdaContext {
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: 'function',
    functionVersion: '$LATEST',
    invokedFunctionArn: `arn:aws:lambda:${REGION}:123456789012:function:function`,
    memoryLimitInMB: '128',
    awsRequestId: '8c8e2f1e-0000-4000-8000-000000000000',
    logGroupName: '/aws/lambda/function',
    logStreamName: '2026/01/01/[$LATEST]0',
    getRemainingTimeInMillis: () => remaining,
    done() {},
    fail() {},
    succeed() {},
  }
}

const logger = new Logger({ serviceName: 'test' })

/** The same function three ways: what it returns has both values in it. */
const FORMS: Readonly<Record<string, () => Handler>> = {
  'inside middy': () =>
    middy(
      withCache(
        async (event: { name: string }, context) => [event.name, context.var, context.password],
        OPTIONS,
      ),
    ) as unknown as Handler,
  'around middy': () =>
    withCache(
      middy(async (event: { name: string }, context: unknown) =>
        valuesOf(event, context),
      ) as unknown as Handler,
      OPTIONS,
    ),
  'inside middy with the middleware of Powertools': () =>
    middy(
      withCache(
        async (event: { name: string }, context) => [event.name, context.var, context.password],
        OPTIONS,
      ),
    ).use(injectLambdaContext(logger) as never) as unknown as Handler,
  'around middy with the middleware of Powertools': () =>
    withCache(
      middy(async (event: { name: string }, context: unknown) => valuesOf(event, context)).use(
        injectLambdaContext(logger) as never,
      ) as unknown as Handler,
      OPTIONS,
    ),
}

function valuesOf(event: { name: string }, context: unknown): unknown[] {
  return [event.name, Reflect.get(Object(context), 'var'), Reflect.get(Object(context), 'password')]
}

for (const [form, make] of Object.entries(FORMS)) {
  describe(form, () => {
    test('has the values on the context, in every invocation, for one read', async () => {
      const handler = make()
      const calls = aws.requests.length
      for (const name of ['first', 'second', 'third'])
        assert.deepEqual(await handler({ name }, contextWith()), [name, 'one', 'hunter2'])
      assert.equal(aws.requests.length - calls, READ.length)
    })

    test('takes the deadline of the invocation', async () => {
      const handler = make()
      aws.intercept = () => new Promise(() => {})
      try {
        await assert.rejects(
          handler({ name: 'a' }, contextWith(500)),
          (error: LambdaCacheError) => error.code === 'Timeout',
        )
      } finally {
        aws.intercept = undefined
      }
    })
  })
}

for (const [form, wrap] of Object.entries({
  'inside middy': (handler: Handler, refreshOn: () => boolean) =>
    middy(withCache(handler as never, { ...OPTIONS, refreshOn })),
  'around middy': (handler: Handler, refreshOn: () => boolean) =>
    withCache(middy(handler as never) as unknown as Handler, { ...OPTIONS, refreshOn }),
})) {
  test(`reads again on refreshOn, ${form}`, async () => {
    aws.putSecret('/app/password', 'hunter2')
    const attempt = mock.fn((password: unknown) => {
      if (password === 'hunter2') throw new Error('password is out of date')
      return password
    })
    const handler = wrap(
      async (_, context) => attempt(Reflect.get(context, 'password')),
      () => true,
    ) as unknown as Handler
    await assert.rejects(handler({ name: 'a' }, contextWith()), {
      message: 'password is out of date',
    })
    aws.putSecret('/app/password', 'hunter3')
    assert.equal(await handler({ name: 'a' }, contextWith()), 'hunter3')
    assert.equal(attempt.mock.callCount(), 3)
    aws.putSecret('/app/password', 'hunter2')
  })
}

test("stands beside middy's own reader of parameters on one context", async () => {
  const { accessKeyId, secretAccessKey, sessionToken } = CREDENTIALS
  const awsClientOptions = {
    endpoint: aws.url,
    region: REGION,
    credentials: { accessKeyId, secretAccessKey, sessionToken },
  }
  const handler = middy(
    withCache(
      async (_: { name: string }, context) => [context.password, Reflect.get(context, 'token')],
      { secrets: OPTIONS.secrets },
    ),
  ).use(
    ssm({ fetchData: { token: '/app/var' }, setToContext: true, awsClientOptions }) as never,
  ) as unknown as Handler
  for (const name of ['first', 'second'])
    assert.deepEqual(await handler({ name }, contextWith()), ['hunter2', 'one'])
})
