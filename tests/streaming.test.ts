/** Handlers that stream their response. */
import assert from 'node:assert/strict'
import type { PassThrough } from 'node:stream'
import { describe, test } from 'node:test'
import {
  clearCache,
  type Fetch,
  type LambdaContext,
  type Options,
  type ResponseStream,
  withCache,
  withCacheStream,
} from '../lambda-cache.js'
import {
  advance,
  contextWith,
  type Equal,
  failure,
  is,
  isSettled,
  lambdaContext,
  mockTimeouts,
  pass,
  responseStream,
  SECOND,
  SSM,
  scene,
  script,
} from './kit.js'

describe('streaming', () => {
  const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming')
  const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark')

  /** As the runtime has it in its global scope. */
  const awslambda = {
    streamifyResponse<F extends object>(handler: F, options?: { highWaterMark?: number }): F {
      return Object.assign(
        handler,
        { [STREAMING]: 'response' },
        typeof options?.highWaterMark === 'number' && { [HIGH_WATER_MARK]: options.highWaterMark },
      )
    },
  }

  /** Invokes by the rules of the Node.js runtime, of which the newer ones refuse a third parameter where nothing is streamed. */
  async function runtime(handler: unknown, event: unknown, { callbacks = false } = {}) {
    const {
      length,
      [STREAMING]: streaming,
      [HIGH_WATER_MARK]: highWaterMark,
    } = handler as { length: number; [STREAMING]?: string; [HIGH_WATER_MARK]?: number }
    const call = handler as (...args: unknown[]) => unknown
    if (streaming === 'response') {
      const stream = responseStream()
      await call(event, stream, lambdaContext())
      return { result: String(stream.read() ?? ''), highWaterMark }
    }
    if (callbacks)
      return { result: await call(event, lambdaContext(), () => assert.fail('nobody calls back')) }
    if (length >= 3) throw new Error('Runtime.CallbackHandlerDeprecated')
    return { result: await call(event, lambdaContext()) }
  }

  const options = { ssm: ['/app/value'] } as const satisfies Options
  const respond = async (
    event: { name: string },
    stream: ResponseStream,
    context: LambdaContext & { readonly value: string },
  ): Promise<void> => {
    stream.setContentType('text/plain')
    stream.write(`${event.name} ${context.value} ${context.functionName}`)
  }
  const forms: readonly [what: string, make: (fetch: Fetch) => unknown, highWaterMark?: number][] =
    [
      [
        'streamifyResponse(withCacheStream(f))',
        (fetch) => awslambda.streamifyResponse(withCacheStream(respond, { ...options, fetch })),
      ],
      [
        'streamifyResponse(withCacheStream(f)), highWaterMark',
        (fetch) =>
          awslambda.streamifyResponse(withCacheStream(respond, { ...options, fetch }), {
            highWaterMark: 9,
          }),
        9,
      ],
      [
        'withCacheStream(streamifyResponse(f))',
        (fetch) =>
          withCacheStream(awslambda.streamifyResponse(respond.bind(null)), { ...options, fetch }),
      ],
      [
        'withCacheStream(streamifyResponse(f, highWaterMark))',
        (fetch) =>
          withCacheStream(awslambda.streamifyResponse(respond.bind(null), { highWaterMark: 9 }), {
            ...options,
            fetch,
          }),
        9,
      ],
      [
        'withCache, untyped',
        (fetch) =>
          withCache(awslambda.streamifyResponse(respond.bind(null)) as never, {
            ...options,
            fetch,
          }),
      ],
    ]
  for (const [what, make, highWaterMark] of forms) {
    test(`works on the runtime: ${what}`, async () => {
      const { fetch, sent } = script(SSM.answer('one'))
      const handler = make(fetch)
      for (let time = 0; time < 2; time += 1) {
        assert.deepEqual(await runtime(handler, { name: 'hello' }), {
          result: 'hello one function',
          highWaterMark,
        })
      }
      assert.equal(sent.length, 1)
    })
  }

  test('ends before the deadline, and refreshes ahead, like any other', async () => {
    mockTimeouts()
    const aws = scene(SSM.answer('one'))
    const handler = withCacheStream(
      async (event: { name: string }, stream, context) => respond(event, stream, context),
      { ...options, fetch: aws.fetch },
    )
    await handler({ name: '' }, responseStream(), lambdaContext())
    pass(48 * SECOND)
    await handler({ name: '' }, responseStream(), lambdaContext())
    assert.equal(aws.sent.length, 2)
    clearCache()
    aws.say('never')
    const result = failure(handler({ name: '' }, responseStream(), contextWith(1000)), {
      code: 'Timeout',
      id: '/app/value',
    })
    await advance(800)
    assert.equal(await isSettled(result), true)
    await result
  })

  test('is not taken for granted where the third argument is nothing', async () => {
    const { fetch } = script(SSM.answer('one'))
    const handler = withCache((_: unknown, context) => context.value, { ...options, fetch }) as (
      ...args: unknown[]
    ) => Promise<unknown>
    for (const nothing of [undefined, null])
      assert.equal(await handler({}, lambdaContext(), nothing), 'one')
  })

  test('is not taken for granted: a handler that does not stream may be given a callback', async () => {
    const { fetch } = script(SSM.answer('one'))
    const handler = withCache(
      async (event: { name: string }, context) =>
        `${event.name} ${context.value} ${context.functionName}`,
      { ...options, fetch },
    )
    for (const callbacks of [true, false])
      assert.deepEqual(await runtime(handler, { name: 'hello' }, { callbacks }), {
        result: 'hello one function',
      })
    assert.equal(STREAMING in handler, false)
  })

  test('keeps prefetch, and what else a handler carries', async () => {
    const { fetch, sent } = script(SSM.answer('one'))
    const handler = withCacheStream(Object.assign(respond.bind(null), { title: 'hello' }), {
      ...options,
      fetch,
    })
    await handler.prefetch()
    assert.equal(sent.length, 1)
    assert.equal(Reflect.get(handler, 'title'), 'hello')
  })

  test('has its parameters inferred', () => {
    const inside = withCacheStream(async (event: { name: string }, responseStream, context) => {
      is<Equal<typeof responseStream, ResponseStream>>()
      is<Equal<typeof context.value, string>>()
      is<Equal<typeof context.awsRequestId, string>>()
      // @ts-expect-error: nobody asked for this
      void context.other
      responseStream.end()
      return event.name.length
    }, options)
    is<
      Equal<
        Parameters<typeof inside>,
        [event: { name: string }, responseStream: ResponseStream, context: LambdaContext]
      >
    >()
    is<Equal<ReturnType<typeof inside>, Promise<number>>>()
    const outside = withCacheStream(
      awslambda.streamifyResponse(
        async (_: unknown, stream: PassThrough, context: { readonly value: string }) =>
          stream.write(context.value),
      ),
      options,
    )
    is<Equal<Parameters<typeof outside>[1], PassThrough>>()
    void outside
  })
})
