/** Attempts where AWS throttles and nothing can be served. */
import assert from 'node:assert/strict'
import { describe, mock, test } from 'node:test'
import {
  clearCache,
  type Fetch,
  getParameter,
  getSecret,
  type LambdaContext,
  withCache,
} from '../lambda-cache.js'
import {
  type Answer,
  advance,
  consoleLines,
  contextWith,
  failure,
  invoking,
  isSettled,
  MINUTE,
  mockTimeouts,
  present,
  refusal,
  reply,
  SECOND,
  type Sent,
  SOURCES,
  SSM,
  scene,
  script,
} from './kit.js'

describe('throttled with nothing to serve', () => {
  const throttled = refusal('ThrottlingException')
  const times = (sent: readonly Sent[]): number[] =>
    sent.map(({ at }) => Math.round((at - present(sent[0]).at) / 100) / 10)
  /** Chance is at its worst, and time passes in steps of 0.1 s, one before the first request. */
  function patiently(): void {
    mock.method(Math, 'random', () => 1)
    mockTimeouts()
  }

  test('attempts go on until the deadline', async () => {
    patiently()
    const { fetch, sent } = script(throttled)
    const invoke = withCache(() => {}, { ssm: ['/app/value'], fetch })
    const result = failure(invoke({}, contextWith(30 * SECOND)), {
      code: 'ThrottlingException',
      source: 'ssm',
      id: '/app/value',
      httpStatus: 400,
    })
    await advance(29_500)
    await result
    assert.deepEqual(times(sent), [0, 1, 3, 7, 12, 17, 22, 27, 29.2])
  })

  test('the error says how many attempts there were in how long', async () => {
    patiently()
    const { fetch } = script(throttled)
    const result = assert.rejects(getSecret('app/value', { fetch }), {
      message:
        'secrets app/value: ThrottlingException (HTTP 400) from ' +
        'https://secretsmanager.us-east-1.amazonaws.com: "AWS says why", 5 attempts in 10 s: ' +
        "raise `maxAge`, the quota or the function's timeout",
    })
    await advance(10_100)
    await result
  })

  test('they go on for 10 s where there is no deadline: prefetch, direct access, a time that is not enforced', async () => {
    patiently()
    const { fetch, sent } = script(throttled)
    const handler = withCache(() => {}, { secrets: ['app/value'], fetch })
    for (const read of [
      () => handler.prefetch(),
      () => getSecret('app/value', { fetch }),
      () => handler({}, contextWith(0)),
      () => handler({}, {} as LambdaContext),
    ]) {
      sent.length = 0
      const result = failure(read(), { code: 'ThrottlingException' })
      await advance(10_100)
      await result
      assert.deepEqual(times(sent), [0, 1, 3, 7, 10])
    }
  })

  test('the value is there as soon as AWS gives it', async () => {
    patiently()
    for (const source of SOURCES) {
      const { fetch, sent } = script(throttled, throttled, throttled, source.answer('value'))
      const handler = withCache((_: unknown, context) => Reflect.get(context, 'value'), {
        ...source.entry(),
        fetch,
      })
      const result = handler({}, contextWith(10 * SECOND))
      await advance(7100)
      assert.equal(await result, 'value')
      assert.equal(sent.length, 4)
      clearCache()
    }
  })

  test('another failure after the third attempt is the last', async () => {
    patiently()
    const { fetch, sent } = script(throttled, throttled, throttled, throttled, reply(500))
    const result = failure(
      withCache(() => {}, { ssm: ['/app/value'], fetch })({}, contextWith(MINUTE)),
      { code: 'Http500' },
    )
    await advance(20_000)
    await result
    assert.deepEqual(times(sent), [0, 1, 3, 7, 12])
  })

  test('three attempts are made with a value at hand', async () => {
    patiently()
    consoleLines()
    const aws = scene(SSM.answer('value'))
    const handler = withCache((_: unknown, context) => Reflect.get(context, 'value'), {
      ...SSM.entry(),
      fetch: aws.fetch,
    })
    await handler({}, contextWith(MINUTE))
    await advance(MINUTE, MINUTE)
    aws.say(throttled)
    const result = handler({}, contextWith(MINUTE))
    await advance(3100)
    assert.equal(await result, 'value')
    assert.deepEqual(times(aws.sent.slice(1)), [0, 1, 3])
  })

  test('they are made for a value at hand while, in the same tick, others go on without one', async () => {
    patiently()
    consoleLines()
    const aws = scene(SSM.answer('value'))
    const entry = { ...SSM.entry(), fetch: aws.fetch }
    const stale = withCache((_: unknown, context) => Reflect.get(context, 'value'), entry)
    await stale({}, contextWith(MINUTE))
    await advance(MINUTE, MINUTE)
    aws.say(throttled)
    const served = stale({}, contextWith(MINUTE))
    const { fetch } = aws
    const missing = failure(getParameter('/app/other', { fetch }), { code: 'ThrottlingException' })
    await advance(3100)
    assert.equal(await isSettled(served), true)
    assert.equal(await isSettled(missing), false)
    await advance(MINUTE, SECOND)
    await missing
  })

  test('the fourth attempt and later ones are given up after 8 s without progress, too', async () => {
    patiently()
    const { fetch } = script(throttled, throttled, throttled, throttled)
    let calls = 0
    const hanging: Fetch = (...args) => {
      calls += 1
      return calls < 4 ? fetch(...args) : new Promise(() => {})
    }
    const handler = withCache(() => {}, { secrets: ['app/value'], fetch: hanging })
    const result = failure(handler({}, contextWith(MINUTE)), { code: 'Timeout' })
    await advance(14_900)
    assert.equal(await isSettled(result), false)
    await advance(200)
    await result
    calls = 0
    const direct = failure(getSecret('app/value', { fetch: hanging }), { code: 'Timeout' })
    await advance(9900)
    assert.equal(await isSettled(direct), false, 'where nothing sets a deadline, after 10 s')
    await advance(200)
    await direct
  })

  test('one attempt is made ahead of time', async () => {
    patiently()
    mock.method(Math, 'random', () => 0)
    const aws = scene(SSM.answer('value'))
    const handler = withCache((_: unknown, context) => Reflect.get(context, 'value'), {
      ...SSM.entry(),
      fetch: aws.fetch,
    })
    await handler({}, contextWith(MINUTE))
    await advance(50_000, MINUTE)
    aws.say(throttled)
    const result = handler({}, contextWith(MINUTE))
    await advance(3100)
    assert.equal(await result, 'value')
    assert.equal(aws.sent.length, 2)
  })

  test('names go out together, again and again', async () => {
    patiently()
    const { fetch, sent } = script(throttled)
    const names = Array.from({ length: 10 }, (_, index) => `/app/${index}`)
    const result = failure(
      withCache(() => {}, { ssm: names, fetch })({}, contextWith(8 * SECOND)),
      { code: 'ThrottlingException' },
    )
    await advance(8000)
    await result
    assert.deepEqual(times(sent), [0, 1, 3, 7, 7.2])
  })

  test('attempts go on in a load, too', async () => {
    patiently()
    const { fetch, sent } = script(...Array<Answer>(3).fill(throttled), SSM.answer('value'))
    const load = () => getParameter('/app/value', { fetch, maxAge: 0 })
    const invoke = invoking({ custom: [{ as: 'read', load }] }, 'read')
    const result = invoke()
    await advance(7100)
    assert.deepEqual(await result, ['value'])
    assert.deepEqual(times(sent), [0, 1, 3, 7])
  })

  for (const [seconds, expected] of [
    [8, [0, 1, 3, 7, 7.2]],
    [16, [0, 1, 3, 7, 12, 15.2]],
  ] as const) {
    test(`they go on until the deadline in ${seconds} s where a load reads by direct access`, async () => {
      patiently()
      const { fetch, sent } = script(throttled)
      const load = () => getSecret('app/value', { fetch })
      const handler = withCache(() => {}, { custom: [{ as: 'read', load }] })
      const context = contextWith(seconds * SECOND)
      const result = failure(handler({}, context), { code: 'ThrottlingException' })
      await advance(seconds * SECOND)
      await result
      assert.deepEqual(times(sent), expected)
    })

    test(`they go on until the deadline in ${seconds} s where a handler reads by direct access`, async () => {
      patiently()
      const { fetch, sent } = script(throttled)
      const handler = withCache(() => getSecret('app/value', { fetch }), {
        ...SSM.entry(),
        fetch: script(SSM.answer('value')).fetch,
      })
      const context = contextWith(seconds * SECOND)
      const result = failure(handler({}, context), { code: 'ThrottlingException' })
      await advance(seconds * SECOND)
      await result
      assert.deepEqual(times(sent), expected)
    })
  }

  test('nothing is asked when nobody waits any more', async () => {
    patiently()
    const { fetch, sent } = script(throttled)
    const handler = withCache(() => {}, { secrets: ['app/value', 'app/other'], fetch })
    const result = failure(handler({}, contextWith(3000)), { code: 'ThrottlingException' })
    await advance(3000)
    await result
    const { length } = sent
    await advance(MINUTE, SECOND)
    assert.equal(sent.length, length)
  })
})
