/** Refreshes ahead of time. */
import assert from 'node:assert/strict'
import { describe, mock, test } from 'node:test'
import { clearCache, type Fetch, getParameter, withCache } from '../lambda-cache.js'
import {
  type Answer,
  block,
  CACHED,
  consoleLines,
  failure,
  HOUR,
  invoking,
  isSettled,
  lambdaContext,
  local,
  mockTimeouts,
  parameters,
  pass,
  present,
  refusal,
  reply,
  S3,
  SECOND,
  SECRETS,
  SSM,
  START,
  scene,
  script,
  text,
  turns,
  unreachable,
  until,
} from './kit.js'

for (const { source, attempts, answer, options } of CACHED) {
  describe(`refresh ahead: ${source}`, () => {
    /** A value that was read 48 s ago, 80 % of its maxAge, and has changed since. */
    async function nearlyExpired(handle: (value: unknown) => unknown = (value) => value) {
      const aws = scene(answer('one'))
      const handler = withCache(
        (_: unknown, context) => handle(Reflect.get(context, 'value')),
        options(aws),
      )
      const invoke = () => handler({}, lambdaContext())
      await invoke().catch(() => {})
      pass(48 * SECOND)
      aws.say(answer('two'))
      return { ...aws, invoke }
    }

    test('serves what it has past 80 % of maxAge, and what has come meanwhile to the next', async () => {
      const { sent, invoke } = await nearlyExpired()
      pass(-1)
      assert.deepEqual([await invoke(), sent.length], ['one', 1])
      pass(1)
      assert.deepEqual([await invoke(), sent.length], ['one', 2])
      assert.deepEqual([await invoke(), sent.length], ['two', 2])
      pass(48 * SECOND - 1)
      assert.deepEqual(
        [await invoke(), sent.length],
        ['two', 2],
        'the new value has its own maxAge',
      )
    })

    for (const [outcome, handle] of [
      ['returned', (value: unknown) => value],
      ['thrown', (value: unknown) => Promise.reject(value)],
    ] as const) {
      test(`begins with the handler, and ends before the result is ${outcome}`, async () => {
        let runs = 0
        const { sent, hold, invoke } = await nearlyExpired((value) => {
          runs += 1
          return handle(value)
        })
        const release = hold()
        const result = invoke().catch((thrown: unknown) => thrown)
        await until(() => sent.length === 2)
        await turns()
        assert.equal(runs, 2, 'the handler does not wait')
        assert.equal(await isSettled(result), false)
        release()
        assert.equal(await result, 'one')
        assert.equal(await invoke().catch((thrown: unknown) => thrown), 'two')
        assert.equal(sent.length, 2)
      })
    }

    const failures: Answer[] = [
      reply(500),
      reply(429),
      reply(403),
      unreachable('ECONNRESET'),
      ...(source === 'ssm' || source === 'secrets'
        ? [refusal('ThrottlingException'), reply(200, '<html>')]
        : []),
    ]
    test('fails in silence, after one attempt, and is not tried again for that value', async () => {
      const lines = consoleLines()
      for (const failing of failures) {
        clearCache()
        const { sent, say, invoke } = await nearlyExpired()
        say(failing)
        for (const seconds of [0, 0, 6, 6 - 0.001]) {
          pass(seconds * SECOND)
          assert.deepEqual([await invoke(), sent.length], ['one', 2])
        }
        say(answer('two'))
        pass(1)
        assert.deepEqual(
          [await invoke(), sent.length],
          ['two', 3],
          'no value is older than its maxAge',
        )
      }
      assert.deepEqual(lines, [])
    })

    test('takes 300 ms at most', async () => {
      mockTimeouts()
      const { sent, say, invoke } = await nearlyExpired()
      say('never')
      const result = invoke()
      await turns()
      mock.timers.tick(299)
      assert.equal(await isSettled(result), false)
      assert.equal(present(sent[1]).signal.aborted, false)
      mock.timers.tick(1)
      assert.equal(await isSettled(result), true)
      assert.equal(await result, 'one')
      if (source !== 'custom') assert.ok(present(sent[1]).signal.aborted, 'nothing is left running')
      assert.deepEqual([await invoke(), sent.length], ['one', 2])
    })

    test('happens once for all invocations of the moment', async () => {
      const { sent, invoke } = await nearlyExpired()
      assert.deepEqual(await Promise.all([invoke(), invoke(), invoke()]), ['one', 'one', 'one'])
      assert.equal(sent.length, 2)
    })

    test('leaves no timer behind', async () => {
      const timers = () =>
        process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
      const { sent, invoke } = await nearlyExpired()
      const before = timers()
      await invoke()
      assert.deepEqual([sent.length, timers()], [2, before])
    })

    for (const [seconds, requests] of [
      [0, 7],
      [Infinity, 1],
    ] as const) {
      test(`never happens with maxAge ${seconds}`, async () => {
        const aws = scene(answer('one'))
        const invoke = invoking({ ...options(aws), maxAge: seconds }, 'value')
        for (const pause of [0, 0, 1, 50 * SECOND, 55 * SECOND, HOUR, 10_000 * HOUR]) {
          pass(pause)
          await invoke()
        }
        assert.equal(aws.sent.length, requests)
      })
    }

    test('is what a reader waits for who needs the value meanwhile', async () => {
      const { invoke, ...aws } = await nearlyExpired()
      const needy = invoking({ ...options(aws), maxAge: 10 }, 'value')
      const release = aws.hold()
      const result = invoke()
      await until(() => aws.sent.length === 2)
      const waiting = needy()
      assert.equal(await isSettled(waiting), false)
      release()
      assert.deepEqual([await result, await waiting, aws.sent.length], ['one', ['two'], 2])
    })

    for (const recovers of [true, false]) {
      test(`does not fail those who need the value, who ${recovers ? 'ask again' : 'fail after attempts of their own'}`, async () => {
        const lines = consoleLines()
        const { invoke, ...aws } = await nearlyExpired()
        const needy = invoking({ ...options(aws), maxAge: 10, staleIfError: 0 }, 'value')
        aws.say(reply(500))
        const release = aws.hold()
        const result = invoke()
        await until(() => aws.sent.length === 2)
        const waiting = Promise.allSettled([needy(), needy()])
        await turns()
        if (recovers) aws.say(answer('three'))
        release()
        assert.equal(await result, 'one')
        assert.deepEqual(
          (await waiting).map(({ status }) => status),
          recovers ? ['fulfilled', 'fulfilled'] : ['rejected', 'rejected'],
        )
        assert.equal(aws.sent.length, recovers ? 3 : 2 + attempts)
        assert.deepEqual(lines, [])
      })
    }
  })
}

describe('refresh ahead', () => {
  test('is awaited where another entry fails, too', async () => {
    const missing = scene(refusal('ResourceNotFoundException'))
    const early = scene(SSM.answer('one'))
    const fetch: Fetch = (url, init) =>
      present(init.headers['x-amz-target']).startsWith('AmazonSSM')
        ? early.fetch(url, init)
        : missing.fetch(url, init)
    const handler = withCache(() => {}, {
      ssm: ['/app/value'],
      secrets: [{ id: 'app/other', maxAge: 0 }],
      maxAge: 60,
      fetch,
    })
    await getParameter('/app/value', { fetch, maxAge: 60 })
    pass(59 * SECOND)
    const go = early.hold()
    const result = failure(handler({}, lambdaContext()), { code: 'ResourceNotFoundException' })
    await until(() => early.sent.length === 2 && missing.sent.length === 1)
    assert.equal(await isSettled(result), false)
    go()
    await result
  })

  test('joins an ordinary refresh that is under way, and does not make it another', async () => {
    const aws = scene(SSM.answer('one'))
    const [patient, hasty] = [60, 10].map((maxAge) =>
      invoking({ ...SSM.entry(), fetch: aws.fetch, maxAge, staleIfError: 0 }, 'value'),
    )
    await present(patient)()
    pass(48 * SECOND)
    aws.say(reply(500))
    const release = aws.hold()
    const failing = [failure(present(hasty)(), { code: 'Http500' })]
    await until(() => aws.sent.length === 2)
    const result = present(patient)()
    failing.push(failure(present(hasty)(), { code: 'Http500' }))
    await turns()
    release()
    await Promise.all(failing)
    assert.deepEqual(
      [await result, aws.sent.length],
      [['one'], 4],
      'three attempts for all of them',
    )
  })

  for (const names of [
    ['/app/early', '/app/late'],
    ['/app/late', '/app/early'],
  ]) {
    test(`shares no request with a refresh that an invocation waits for: ${names}`, async () => {
      mock.method(Math, 'random', () => 0)
      consoleLines()
      const aws = scene(parameters({ '/app/early': 'one', '/app/late': 'one' }))
      const invoke = invoking(
        {
          ssm: names.map((name) => ({ name, maxAge: name === '/app/early' ? 60 : 50 })),
          fetch: aws.fetch,
        },
        'early',
        'late',
      )
      await invoke()
      pass(55 * SECOND)
      aws.say(reply(500))
      assert.deepEqual(await invoke(), ['one', 'one'])
      const asked = aws.sent.slice(1).map(({ body }) => JSON.parse(String(body)).Names.join())
      assert.deepEqual(asked.sort(), ['/app/early', '/app/late', '/app/late', '/app/late'])
    })
  }

  test('keeps a value that is still good where the thing is gone', async () => {
    const aws = scene(SSM.answer('one'))
    const invoke = invoking(
      { ssm: [{ name: '/app/value', default: 'default' }], fetch: aws.fetch },
      'value',
    )
    await invoke()
    aws.say(parameters({}, ['/app/value']))
    pass(50 * SECOND)
    assert.deepEqual([await invoke(), await invoke(), aws.sent.length], [['one'], ['one'], 2])
    pass(10 * SECOND)
    assert.deepEqual([await invoke(), aws.sent.length], [['default'], 3])
  })

  test('goes out before a handler that blocks the event loop, and takes the answer that came meanwhile', async () => {
    mock.timers.reset()
    const aws = await local({ parameters: { '/app/value': 'one' } })
    const handler = withCache(
      (_: unknown, context) => {
        block(400)
        return context.value
      },
      {
        ssm: ['/app/value'],
        maxAge: 5,
      },
    )
    await handler({}, lambdaContext())
    aws.putParameter('/app/value', 'two')
    mock.timers.enable({ apis: ['Date'], now: Date.now() + 4100 })
    assert.equal(await handler({}, lambdaContext()), 'one')
    assert.equal(await handler({}, lambdaContext()), 'two')
    assert.equal(aws.requests.length, 2)
  })

  test('keeps parameters that came together in one request', async () => {
    const aws = await local({ parameters: { '/a/one': '1', '/a/two': '2', '/a/three': '3' } })
    let draws = 0
    mock.method(Math, 'random', () => {
      draws += 0.37
      return draws % 1
    })
    const handler = withCache(() => {}, {
      ssm: ['/a/one', { names: ['/a/two', '/a/three'], as: 'group' }],
    })
    for (let second = 0; second < 600; second += 1, pass(SECOND)) await handler({}, lambdaContext())
    assert.ok(aws.requests.length > 9, `${aws.requests.length} requests in ten minutes`)
    for (const { body } of aws.requests)
      assert.equal((JSON.parse(String(body)) as { Names: string[] }).Names.length, 3)
  })

  test('comes between 80 % and 100 % of maxAge, by chance', async () => {
    const chances = [0, 0.25, 0.5, 0.999]
    const points = [48_000, 51_000, 54_000, 59_988]
    for (const [index, chance] of chances.entries()) {
      clearCache()
      mock.method(Math, 'random', () => chance)
      const aws = scene(SSM.answer('one'))
      const invoke = invoking({ ...SSM.entry(), fetch: aws.fetch })
      await invoke()
      pass(present(points[index]) - 1)
      await invoke()
      assert.equal(aws.sent.length, 1)
      // A point may lie between two milliseconds.
      pass(2)
      await invoke()
      assert.equal(aws.sent.length, 2)
    }
  })

  test('comes at another time for each entry of an invocation', async () => {
    const chances = [0, 0.5]
    mock.method(Math, 'random', () => chances.shift() ?? 0)
    const [first, second] = [mock.fn(() => 1), mock.fn(() => 2)]
    const invoke = invoking({
      custom: [
        { as: 'first', load: first },
        { as: 'second', load: second },
      ],
    })
    const calls = async () => {
      await invoke()
      return [first.mock.callCount(), second.mock.callCount()].sort()
    }
    assert.deepEqual(await calls(), [1, 1])
    pass(48 * SECOND)
    assert.deepEqual(await calls(), [1, 2])
    pass(6 * SECOND)
    assert.deepEqual(await calls(), [2, 2])
  })

  test('reads only what is due', async () => {
    const { fetch, sent } = script(({ headers, url }) =>
      (/ssm/i.test(headers['x-amz-target'] ?? '') ? SSM : url.includes('s3') ? S3 : SECRETS).answer(
        'one',
      ),
    )
    const invoke = invoking({
      ssm: ['/app/value'],
      secrets: [{ id: 'app/value', as: 'secret', maxAge: 600 }],
      s3: [{ uri: 's3://bucket/app/value', parse: text, as: 'object', maxAge: 20 }],
      fetch,
    })
    const hosts = () =>
      sent.splice(0).map(({ url }) => new URL(url).host.replace('.us-east-1.amazonaws.com', ''))
    await invoke()
    assert.deepEqual(hosts().sort(), ['bucket.s3', 'secretsmanager', 'ssm'])
    for (const [seconds, ...expected] of [
      [16, 'bucket.s3'],
      [32, 'bucket.s3'],
      [48, 'bucket.s3', 'ssm'],
    ] as const) {
      pass(START + seconds * SECOND - Date.now())
      await invoke()
      assert.deepEqual(hosts().sort(), expected)
    }
  })
})
