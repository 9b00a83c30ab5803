/** The deadline of an invocation. */
import assert from 'node:assert/strict'
import { describe, mock, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { clearCache, type Fetch, getParameter, type Options, withCache } from '../lambda-cache.js'
import {
  advance,
  assertKeepsSecrets,
  block,
  CACHED,
  consoleLines,
  contextWith,
  failure,
  isSettled,
  lambdaContext,
  local,
  MINUTE,
  mockTimeouts,
  parameters,
  pass,
  present,
  reply,
  type Script,
  SECOND,
  SSM,
  scene,
  script,
  text,
  turns,
  until,
} from './kit.js'

describe('the deadline', () => {
  const EVERYTHING = {
    ssm: ['/app/quick', { names: ['/app/a', '/app/b'], as: 'group', region: 'eu-west-1' }],
    secrets: ['app/secret'],
    s3: [{ uri: 's3://bucket/object', parse: text }],
    custom: [
      { as: 'slow', load: () => new Promise<never>(() => {}) },
      { as: 'fast', load: () => 'fast' },
    ],
  } as const satisfies Options

  /** Answers for /app/quick, and for nothing else. */
  function quick(): Script {
    return script(({ body }) =>
      body.includes('/app/quick') ? parameters({ '/app/quick': 'quick' }) : 'never',
    )
  }

  test('ends the wait 200 ms before Lambda does, and names what has not come', async () => {
    mockTimeouts()
    const { fetch, sent } = quick()
    const handler = withCache(() => assert.fail('no handler without its values'), {
      ...EVERYTHING,
      fetch,
    })
    const result = failure(handler({}, contextWith(1500)), { code: 'Timeout' })
    await turns()
    await advance(1299)
    assert.equal(await isSettled(result), false)
    await advance(1)
    assert.equal(await isSettled(result), true)
    const error = await result
    const expected = [
      ['ssm /app/a', 'ssm.eu-west-1.amazonaws.com'],
      ['ssm /app/b', 'ssm.eu-west-1.amazonaws.com'],
      ['secrets app/secret', 'secretsmanager.us-east-1.amazonaws.com'],
      ['s3 s3://bucket/object', 's3.us-east-1.amazonaws.com'],
      ['custom slow'],
    ]
    for (const texts of expected)
      assert.ok(
        error.message.split('\n').some((line) => texts.every((text) => line.includes(text))),
        `${texts.join()} in ${error.message}`,
      )
    assert.equal(error.message.split('does the VPC').length, 2, 'the hint once')
    assert.doesNotMatch(error.message, /quick|fast/)
    assertKeepsSecrets(error)
    const requests = sent.length
    assert.equal(await getParameter('/app/quick', { fetch }), 'quick')
    assert.equal(sent.length, requests, 'what has come is kept')
  })

  for (const { source, id, answer, options } of CACHED) {
    test(`names the one: ${source}`, async () => {
      mockTimeouts()
      const handler = withCache(() => {}, options(scene('never')))
      const result = failure(
        handler({}, contextWith(1000)),
        { code: 'Timeout', source, id },
        id,
        ...(source === 'custom' ? ['`load` did not end within 800 ms'] : ['does the VPC']),
      )
      await advance(799)
      assert.equal(await isSettled(result), false)
      await advance(1)
      assert.equal(await isSettled(result), true)
      await result
    })

    test(`gives the last value where it may: ${source}`, async () => {
      mockTimeouts()
      const aws = scene(answer('one'))
      const handler = withCache(
        (_: unknown, context) => Reflect.get(context, 'value') as unknown,
        options(aws),
      )
      await handler({}, contextWith(1000))
      const lines = consoleLines()
      aws.say('never')
      pass(MINUTE)
      const result = handler({}, contextWith(1000))
      await advance(800)
      assert.equal(await isSettled(result), true)
      assert.deepEqual([await result, lines.length], ['one', 1])
    })

    test(`holds for who waits for a refresh ahead, too: ${source}`, async () => {
      mockTimeouts()
      const aws = scene(answer('one'))
      const [patient, hasty] = [60, 10].map((maxAge) =>
        withCache(() => {}, { ...options(aws), maxAge, staleIfError: 0 }),
      )
      await present(patient)({}, lambdaContext())
      aws.say('never')
      pass(48 * SECOND)
      const ahead = present(patient)({}, lambdaContext())
      await until(() => aws.sent.length === 2)
      const result = failure(present(hasty)({}, contextWith(300)), { code: 'Timeout' })
      await advance(99)
      assert.equal(await isSettled(result), false)
      await advance(1)
      assert.equal(await isSettled(result), true)
      await advance(200)
      await Promise.all([ahead, result])
    })
  }

  test('begins no request when it has passed, and gives the value that came meanwhile', async () => {
    const lines = consoleLines()
    const aws = scene(SSM.answer('one'))
    const { fetch } = aws
    const forced = withCache((_: unknown, context) => context.value, {
      ssm: ['/app/value'],
      maxAge: 0,
      fetch,
    })
    const release = aws.hold()
    const earlier = getParameter('/app/value', { fetch })
    await until(() => aws.sent.length === 1)
    const result = forced({}, contextWith(1000))
    await turns()
    pass(2 * SECOND)
    release()
    assert.deepEqual(await Promise.all([earlier, result]), ['one', 'one'])
    const stale = lines.filter((line) => line.includes('serving the value of'))
    assert.deepEqual([aws.sent.length, stale.length], [1, 1])
  })

  test('has passed where there is less than 200 ms left', async () => {
    for (const left of [200, 100, 1]) {
      mockTimeouts()
      const result = failure(
        withCache(() => {}, { ...SSM.entry(), fetch: script('never').fetch })(
          {},
          contextWith(left),
        ),
        { code: 'Timeout' },
      )
      await turns()
      mock.timers.tick(1)
      assert.equal(await isSettled(result), true)
      await result
      clearCache()
    }
  })

  test('is none where the time that remains is not positive: nobody enforces it', async () => {
    for (const left of [0, -5, -1.8e12, NaN]) {
      clearCache()
      const { fetch } = script(SSM.answer('one'))
      assert.equal(
        await withCache((_: unknown, context) => context.value, { ssm: ['/app/value'], fetch })(
          {},
          { ...lambdaContext(), getRemainingTimeInMillis: () => left },
        ),
        'one',
      )
    }
  })

  test("is that of Lambda's own context in the one of a durable function", async () => {
    mockTimeouts()
    const { fetch } = script('never')
    const handler = withCache(() => assert.fail('no handler without its values'), {
      ssm: ['/app/value'],
      fetch,
    })
    const result = failure(handler({}, { lambdaContext: contextWith(1500) } as never), {
      code: 'Timeout',
    })
    await turns()
    await advance(1299)
    assert.equal(await isSettled(result), false)
    await advance(1)
    assert.equal(await isSettled(result), true)
  })

  test('is none for what is there', async () => {
    const handler = withCache((_: unknown, context) => context.value, {
      ...SSM.entry(),
      ssm: ['/app/value'],
      fetch: script(SSM.answer('one')).fetch,
    })
    await handler({}, lambdaContext())
    assert.equal(await handler({}, contextWith(0)), 'one')
  })

  for (const { source, answer, options } of CACHED) {
    test(`abandons what hangs, deaf to its signal, so that the next invocation begins anew: ${source}`, async () => {
      mockTimeouts()
      let deaf = true
      let calls = 0
      const aws = scene(answer('one'))
      const never = (): Promise<never> => {
        calls += 1
        return new Promise<never>(() => {})
      }
      const hanging = {
        fetch: (...args: Parameters<Fetch>) => (deaf ? never() : aws.fetch(...args)),
        load: () => (deaf ? never() : aws.load()),
      }
      const handler = withCache(
        (_: unknown, context) => Reflect.get(context, 'value') as unknown,
        options({ ...aws, ...hanging }),
      )
      for (const time of [1, 2]) {
        const result = failure(handler({}, contextWith(1000)), { code: 'Timeout', source })
        await advance(800)
        assert.equal(await isSettled(result), true)
        await result
        assert.equal(calls, time, 'a call of its own')
      }
      await advance(20 * SECOND)
      assert.equal(calls, 2, 'nothing begins for an invocation that has ended')
      deaf = false
      assert.equal(await handler({}, contextWith(1000)), 'one')
    })

    test(`begins no attempt for an invocation that has ended, and aborts the one under way: ${source}`, async () => {
      mockTimeouts()
      const aws = scene(reply(500))
      mock.method(Math, 'random', () => 0.999)
      const handler = withCache(() => {}, options(aws))
      const release = aws.hold()
      const result = failure(handler({}, contextWith(500)), { code: 'Timeout' })
      await advance(300)
      await result
      if (source !== 'custom') assert.ok(present(aws.sent[0]).signal.aborted)
      release()
      await advance(10 * SECOND)
      assert.equal(aws.sent.length, 1)
    })

    test(`leaves the handler half of the time where there is a value to fall back on: ${source}`, async () => {
      mockTimeouts()
      const aws = scene(answer('one'))
      const handler = withCache(
        (_: unknown, context) => [
          Reflect.get(context, 'value'),
          context.getRemainingTimeInMillis(),
        ],
        options(aws),
      )
      await handler({}, contextWith(10 * SECOND))
      const lines = consoleLines()
      aws.say('never')
      pass(MINUTE)
      const result = handler({}, contextWith(4 * SECOND))
      await advance(2 * SECOND)
      assert.equal(await isSettled(result), true)
      assert.deepEqual([await result, lines.length], [['one', 2 * SECOND], 1])
    })
  }

  test('abandons a request for several parameters when nobody waits for any of them', async () => {
    mockTimeouts()
    const aws = scene('never')
    const [short, long] = ['/a', '/b'].map((name) =>
      withCache(() => {}, { ssm: [name], fetch: aws.fetch }),
    )
    const results = [
      failure(present(short)({}, contextWith(500)), { code: 'Timeout', id: '/a' }),
      failure(present(long)({}, contextWith(1000)), { code: 'Timeout', id: '/b' }),
    ]
    await advance(300)
    await results[0]
    assert.deepEqual([aws.sent.length, present(aws.sent[0]).signal.aborted], [1, false])
    await advance(500)
    await results[1]
    assert.equal(present(aws.sent[0]).signal.aborted, true)
  })

  test('lets an abandoned load that ends late replace nothing newer', async () => {
    mockTimeouts()
    const settle: ((value: string) => void)[] = []
    const load = () => new Promise<string>((resolve) => settle.push(resolve))
    const handler = withCache((_: unknown, context) => context.value, {
      custom: [{ as: 'value', load }],
    })
    const first = failure(handler({}, contextWith(500)), { code: 'Timeout' })
    await advance(300)
    await first
    const second = handler({}, contextWith(500))
    await until(() => settle.length === 2)
    present(settle[1])('new')
    assert.equal(await second, 'new')
    present(settle[0])('old')
    await turns()
    assert.equal(await handler({}, contextWith(500)), 'new')
  })

  test('holds nothing against an answer that came while the event loop was blocked', async () => {
    mock.timers.reset()
    const aws = await local({ parameters: { '/app/value': 'one' } })
    aws.intercept = () => sleep(20).then(() => false)
    const handler = withCache((_: unknown, context) => context.value, { ssm: ['/app/value'] })
    const result = handler({}, contextWith(600))
    await until(() => aws.requests.length === 1)
    await sleep(100)
    block(500)
    assert.equal(await result, 'one')
  })

  test('may be further away than a timer can be', async () => {
    for (const left of [2 ** 31, 2 ** 53, Infinity]) {
      const { fetch } = script(SSM.answer('one'))
      clearCache()
      assert.equal(
        await withCache((_: unknown, context) => context.value, { ssm: ['/app/value'], fetch })(
          {},
          contextWith(left),
        ),
        'one',
      )
    }
  })

  test('is none for a context that does not know it', async () => {
    const { fetch } = script(SSM.answer('one'))
    const handler = withCache((_: unknown, context) => context.value, {
      ssm: ['/app/value'],
      fetch,
    })
    for (const context of [{}, { getRemainingTimeInMillis: undefined }, undefined]) {
      clearCache()
      assert.equal(await handler({}, context as never), 'one')
    }
  })

  test('leaves no timer behind', async () => {
    const timers = () =>
      process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
    const before = timers()
    for (const { options, answer } of CACHED)
      await withCache(() => {}, options(scene(answer('one'))))({}, lambdaContext())
    for (const { options } of CACHED) {
      clearCache()
      await failure(withCache(() => {}, options(scene(reply(403))))({}, lambdaContext()))
    }
    assert.equal(timers(), before)
  })
})
