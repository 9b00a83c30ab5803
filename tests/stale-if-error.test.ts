/** The last value, while AWS cannot be reached. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { clearCache, type Fetch, type Options, withCache } from '../lambda-cache.js'
import {
  type Answer,
  advance,
  assertKeepsSecrets,
  CACHED,
  CANARY,
  consoleLines,
  failure,
  HOUR,
  invoking,
  isSettled,
  lambdaContext,
  MINUTE,
  mockTimeouts,
  parameters,
  pass,
  present,
  refusal,
  reply,
  S3,
  SECOND,
  SECRETS,
  SOURCES,
  type SourceCase,
  SSM,
  scene,
  unreachable,
  xml,
} from './kit.js'

describe('stale if error', () => {
  /** What passes by itself: three attempts, then the last value. */
  const PASSING: readonly [what: string, answer: Answer, code: string][] = [
    ...['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_SOCKET'].map(
      (code): (typeof PASSING)[number] => [code, unreachable(code), 'NetworkError'],
    ),
    ...['ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT'].map((code): (typeof PASSING)[number] => [
      code,
      unreachable(code),
      'Timeout',
    ]),
    [
      'the timeout of a fetch of the user',
      new DOMException(`${CANARY}-body`, 'TimeoutError'),
      'Timeout',
    ],
    ['fetch failed, without a code', new TypeError('fetch failed'), 'NetworkError'],
    ['too many open files', unreachable('EMFILE'), 'NetworkError'],
    ...[302, 403, 404, 408, 429, 500, 502, 503, 599].map((status): (typeof PASSING)[number] => [
      `HTTP ${status}`,
      reply(status, `<html>${CANARY}-body`),
      `Http${status}`,
    ]),
    ...['ThrottlingException', 'TooManyRequestsException', 'RequestLimitExceeded'].map(
      (code): (typeof PASSING)[number] => [`${code} as HTTP 400`, refusal(code), code],
    ),
    ['SlowDown', xml(503, 'SlowDown'), 'SlowDown'],
    ['a body cut short', reply(200, `${CANARY}-body`, { 'content-length': '99' }), 'NetworkError'],
    ["a proxy's page with HTTP 200", reply(200, `<html>${CANARY}-body`), 'InvalidAnswer'],
    ['JSON cut short', reply(200, `{"${CANARY}-body`), 'InvalidAnswer'],
  ]
  /** What S3 takes for an object. */
  const OF_JSON = ['InvalidAnswer']
  for (const [what, failing, code] of PASSING) {
    test(`serves the last value for staleIfError, and asks every 5 s: ${what}`, async () => {
      const lines = consoleLines()
      for (const { source, id, answer, entry } of OF_JSON.includes(code)
        ? [SSM, SECRETS]
        : SOURCES) {
        clearCache()
        const [began, aws] = [Date.now(), scene(answer(`${CANARY}-one`))]
        let takes = 0
        const fetch: Fetch = (...args) => aws.fetch(...args).finally(() => pass(takes))
        const invoke = invoking({ ...entry(), fetch }, 'value')
        await invoke()
        aws.say(failing)
        for (const [milliseconds, requests, warnings] of [
          [60_000, 3, 1],
          [60_000, 0, 0],
          [64_999, 0, 0],
          [65_000, 3, 1],
          [359_999, 3, 1],
        ] as const) {
          pass(began + milliseconds - Date.now())
          aws.sent.length = lines.length = 0
          assert.deepEqual(
            [await invoke(), aws.sent.length, lines.length],
            [[`${CANARY}-one`], requests, warnings],
            `${source} at ${milliseconds}`,
          )
          for (const line of lines) {
            assert.ok(
              line.includes(id) &&
                line.includes(code.replace(/^(Http|NetworkError|Timeout|InvalidAnswer).*/, '')) &&
                !line.includes('\n'),
              line,
            )
            assertKeepsSecrets(new Error(line))
          }
        }
        pass(1)
        lines.length = 0
        // With nothing to serve, throttling alone takes until the deadline.
        takes = MINUTE
        await failure(invoke(), { code, source, id })
        assert.deepEqual(lines, [], 'an error that goes out needs no line')
        takes = 0
        aws.say(answer('two'))
        assert.deepEqual(await invoke(), ['two'])
      }
    })
  }

  for (const { source, attempts, answer, options } of CACHED) {
    /** A value that has expired, and cannot be read again. */
    async function expired(failing: Answer = reply(500), more: Options = {}) {
      const aws = scene(answer('one'))
      const invoke = invoking({ ...options(aws), ...more }, 'value')
      await invoke()
      aws.say(failing)
      pass(MINUTE)
      return { ...aws, invoke, lines: consoleLines() }
    }

    test(`warns once for all who wait, and recovers: ${source}`, async () => {
      const { say, sent, invoke, lines } = await expired()
      assert.deepEqual(await Promise.all([invoke(), invoke(), invoke()]), [
        ['one'],
        ['one'],
        ['one'],
      ])
      assert.deepEqual([sent.length, lines.length], [1 + attempts, 1])
      say(answer('two'))
      pass(5 * SECOND - 1)
      assert.deepEqual([await invoke(), sent.length], [['one'], 1 + attempts])
      pass(1)
      assert.deepEqual([await invoke(), sent.length, lines.length], [['two'], 2 + attempts, 1])
      say(reply(500))
      pass(MINUTE)
      assert.deepEqual(
        [await invoke(), lines.length],
        [['two'], 2],
        'the next outage has a line of its own',
      )
    })

    test(`is for as long as staleIfError says: ${source}`, async () => {
      for (const seconds of [0, 10, 0.5]) {
        clearCache()
        const { sent, invoke } = await expired(reply(500), { staleIfError: seconds })
        if (seconds) {
          pass(seconds * SECOND - 1)
          assert.deepEqual(await invoke(), ['one'])
          pass(1)
        }
        sent.length = 0
        await failure(invoke(), { source })
        assert.equal(sent.length, attempts)
      }
      clearCache()
      const { invoke } = await expired(reply(500), { staleIfError: Infinity })
      pass(10_000 * HOUR)
      assert.deepEqual(await invoke(), ['one'])
    })

    test(`helps nobody who has no value yet: ${source}`, async () => {
      const [aws, lines] = [scene(reply(500)), consoleLines()]
      const invoke = invoking(options(aws), 'value')
      for (const requests of [attempts, 2 * attempts]) {
        await failure(invoke(), { source, code: source === 'custom' ? 'LoadFailed' : 'Http500' })
        assert.equal(aws.sent.length, requests)
      }
      assert.deepEqual(lines, [])
    })

    test(`takes a timeout for what it is: ${source}`, async () => {
      const { sent, lines, invoke } = await expired('never')
      mockTimeouts()
      const waiting = invoke()
      await advance(15 * SECOND)
      if (source === 'custom')
        return assert.equal(await isSettled(waiting), false, 'a load takes what it takes')
      assert.deepEqual([await waiting, sent.length, lines.length], [['one'], 4, 1])
    })

    test(`asks at once who forces it, after a recovery: ${source}`, async () => {
      const { invoke, ...aws } = await expired()
      const [strict, forced] = [
        invoking({ ...options(aws), staleIfError: 0 }, 'value'),
        invoking({ ...options(aws), maxAge: 0 }, 'value'),
      ]
      await invoke()
      pass(SECOND)
      aws.say(answer('two'))
      assert.deepEqual(await strict(), ['two'])
      aws.say(answer('three'))
      pass(SECOND)
      assert.deepEqual(await forced(), ['three'])
    })
  }

  /** What does not pass by itself. */
  const DEFINITE: readonly [
    what: string,
    answer: Answer,
    code: string,
    sources?: readonly SourceCase[],
  ][] = [
    ...[
      'AccessDeniedException',
      'ValidationException',
      'ExpiredTokenException',
      'UnrecognizedClientException',
      'DecryptionFailure',
    ].map((code): (typeof DEFINITE)[number] => [code, refusal(code), code]),
    ['AccessDenied', xml(403, 'AccessDenied'), 'AccessDenied'],
    [
      'no such secret',
      refusal('ResourceNotFoundException'),
      'ResourceNotFoundException',
      [SECRETS],
    ],
    ['no such parameter', parameters({}, ['/app/value']), 'ParameterNotFound', [SSM]],
    ['no such object', xml(404, 'NoSuchKey'), 'NoSuchKey', [S3]],
    ['a wrong certificate', unreachable('CERT_HAS_EXPIRED'), 'RequestFailed'],
  ]
  for (const [what, failing, code, sources = SOURCES] of DEFINITE) {
    test(`does not hide ${what}`, async () => {
      const lines = consoleLines()
      for (const { source, id, answer, entry } of sources) {
        clearCache()
        const aws = scene(answer(`${CANARY}-one`))
        const invoke = invoking({ ...entry(), fetch: aws.fetch }, 'value')
        await invoke()
        aws.say(failing)
        pass(MINUTE)
        for (const requests of [2, 3]) {
          assertKeepsSecrets(await failure(invoke(), { code, source, id }))
          assert.equal(aws.sent.length, requests, 'one attempt')
        }
        aws.say(answer('two'))
        assert.deepEqual(await invoke(), ['two'])
      }
      assert.deepEqual(lines, [])
    })
  }

  test('has one line in the log for a request that failed, not one for each parameter in it', async () => {
    for (const failing of [reply(503), unreachable('ECONNRESET')]) {
      clearCache()
      const lines = consoleLines()
      const names = Array.from({ length: 20 }, (_, index) => `/app/p${index}`)
      const aws = scene(parameters(Object.fromEntries(names.map((name) => [name, 'one']))))
      const invoke = withCache(
        (_: unknown, context) => Object.getOwnPropertyNames(context).length,
        { ssm: names, fetch: aws.fetch },
      )
      await invoke({}, lambdaContext())
      aws.say(failing)
      pass(MINUTE)
      await invoke({}, lambdaContext())
      assert.equal(lines.length, 2, lines.join('\n'))
    }
  })

  test('has a line for each secret that failed, since each is a request', async () => {
    const lines = consoleLines()
    const aws = scene(SECRETS.answer('one'))
    const invoke = invoking({ secrets: ['a', 'b'], fetch: aws.fetch }, 'a')
    await invoke()
    aws.say(reply(503))
    pass(MINUTE)
    await invoke()
    assert.deepEqual(lines.map((line) => line.slice(0, 24)).sort(), [
      'lambda-cache: secrets a:',
      'lambda-cache: secrets b:',
    ])
  })

  test('leaves alone who has a maxAge that has not passed', async () => {
    const aws = scene(SSM.answer('one'))
    const [hasty, patient] = [10, 600].map((maxAge) =>
      invoking({ ...SSM.entry(), fetch: aws.fetch, maxAge }, 'value'),
    )
    const lines = consoleLines()
    await present(hasty)()
    aws.say(reply(500))
    pass(MINUTE)
    assert.deepEqual([await present(patient)(), lines.length], [['one'], 0])
    assert.deepEqual([await present(hasty)(), lines.length], [['one'], 1])
  })
})
