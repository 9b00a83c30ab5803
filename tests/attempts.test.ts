/** The attempts of a call. */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, mock, test } from 'node:test'
import {
  clearCache,
  type ErrorDetails,
  type Fetch,
  getObject,
  getParameter,
} from '../lambda-cache.js'
import {
  type Answer,
  AWS_HOSTS,
  assertKeepsSecrets,
  CANARY,
  describeOverBoth,
  elapse,
  failure,
  HOUR,
  local,
  present,
  refusal,
  reply,
  S3,
  SECRETS,
  type Sent,
  SOURCES,
  type SourceCase,
  SSM,
  START,
  script,
  serve,
  temporaryFolder,
  unreachable,
  xml,
} from './kit.js'

describe('attempts', () => {
  /** What a failing call waited for before each further attempt, in milliseconds, when chance is at its worst. */
  async function pauses(
    source: SourceCase,
    answer: Answer | (() => Answer),
    details: Partial<ErrorDetails>,
  ): Promise<number[]> {
    mock.method(Math, 'random', () => 0.999)
    const { fetch, sent } = script(answer)
    await elapse(() =>
      failure(source.read({ fetch }), { source: source.source, id: source.id, ...details }),
    )
    return sent.slice(1).map(({ at }, index) => at - present(sent[index]).at)
  }

  function assertPauses(got: number[], ...expected: number[]): void {
    const rounded = got.map((pause, index) =>
      pause >= 0.9 * present(expected[index]) && pause <= present(expected[index]) + 10
        ? expected[index]
        : pause,
    )
    assert.deepEqual(rounded, expected)
  }

  const NETWORK = [
    'ECONNREFUSED',
    'ECONNRESET',
    'EPIPE',
    'ENOTFOUND',
    'EAI_AGAIN',
    'EHOSTUNREACH',
    'ENETUNREACH',
    'UND_ERR_SOCKET',
    'ERR_STREAM_PREMATURE_CLOSE',
    'ERR_NETWORK',
    'ERR_HTTP2_STREAM_ERROR',
    'ERR_HTTP2_GOAWAY_SESSION',
    'ERR_PROXY_TUNNEL',
    'EPROTO',
    'UND_ERR_ABORTED',
    'HPE_INVALID_CONSTANT',
  ]
  const TIMEOUTS = [
    'ETIMEDOUT',
    'ESOCKETTIMEDOUT',
    'UND_ERR_CONNECT_TIMEOUT',
    'UND_ERR_HEADERS_TIMEOUT',
    'UND_ERR_BODY_TIMEOUT',
    'ERR_SOCKET_CONNECTION_TIMEOUT',
  ]
  const wrapped = new Error('mine', {
    cause: new TypeError('fetch failed', {
      cause: new Error(`${CANARY}-body`, { cause: { code: 'ECONNRESET' } }),
    }),
  })
  const loop = new Error('a loop')
  loop.cause = loop
  const THROTTLING = [
    'ThrottlingException',
    'Throttling',
    'ThrottledException',
    'RequestThrottled',
    'RequestThrottledException',
    'EC2ThrottledException',
    'TooManyRequestsException',
    'ProvisionedThroughputExceededException',
    'RequestLimitExceeded',
    'LimitExceededException',
    'BandwidthLimitExceeded',
    'SlowDown',
    'PriorRequestNotComplete',
    'TransactionInProgressException',
  ]
  const PASSING: readonly [
    what: string,
    answer: Answer,
    details: Partial<ErrorDetails>,
    pauses: number[],
    source?: SourceCase,
  ][] = [
    ...[300, 401, 403, 404, 405, 408, 500, 501, 503, 599].map(
      (status): (typeof PASSING)[number] => [
        `HTTP ${status}`,
        reply(status),
        { code: `Http${status}`, httpStatus: status },
        [50, 100],
      ],
    ),
    [
      'HTTP 502 with a page',
      reply(502, `<html>${CANARY}-body`),
      { code: 'Http502', httpStatus: 502 },
      [50, 100],
      S3,
    ],
    [
      'InternalServerError',
      reply(500, { __type: 'InternalServerError' }),
      { code: 'InternalServerError', httpStatus: 500 },
      [50, 100],
      SECRETS,
    ],
    [
      'S3 InternalError',
      xml(500, 'InternalError'),
      { code: 'InternalError', httpStatus: 500 },
      [50, 100],
      S3,
    ],
    [
      'RequestTimeout as HTTP 400',
      xml(400, 'RequestTimeout'),
      { code: 'RequestTimeout', httpStatus: 400 },
      [50, 100],
      S3,
    ],
    ...NETWORK.map((code): (typeof PASSING)[number] => [
      code,
      unreachable(code),
      { code: 'NetworkError' },
      [50, 100],
    ]),
    ...TIMEOUTS.map((code): (typeof PASSING)[number] => [
      code,
      unreachable(code),
      { code: 'Timeout' },
      [50, 100],
    ]),
    [
      'the timeout of a fetch of the user',
      new DOMException(`${CANARY}-body`, 'TimeoutError'),
      { code: 'Timeout' },
      [50, 100],
    ],
    [
      'the same, wrapped',
      new Error('mine', { cause: new DOMException('aborted due to timeout', 'TimeoutError') }),
      { code: 'Timeout' },
      [50, 100],
    ],
    [
      'an abort of a fetch of the user',
      new DOMException(`${CANARY}-body`, 'AbortError'),
      { code: 'NetworkError' },
      [50, 100],
    ],
    ['a body that ends early', new TypeError('terminated'), { code: 'NetworkError' }, [50, 100]],
    ...[301, 302, 307, 308].map((status): (typeof PASSING)[number] => [
      `a redirect with HTTP ${status}`,
      reply(status, '', { location: 'http://127.0.0.1:1/' }),
      { code: `Http${status}`, httpStatus: status },
      [50, 100],
    ]),
    ["a proxy's page", reply(200, `<html>${CANARY}-body`), { code: 'InvalidAnswer' }, [50, 100]],
    ['S3 304 unasked', reply(304), { code: 'Http304', httpStatus: 304 }, [50, 100], S3],
    [
      'fetch failed, without a code',
      new TypeError('fetch failed'),
      { code: 'NetworkError' },
      [50, 100],
    ],
    [
      'a proxy that refuses the tunnel',
      Object.assign(new Error(`${CANARY}-body`), { code: 0, cause: { code: 'ERR_PROXY_TUNNEL' } }),
      { code: 'NetworkError' },
      [50, 100],
    ],
    ['a code three causes deep', wrapped, { code: 'NetworkError' }, [50, 100]],
    ['a chain of causes that is a loop', loop, { code: 'NetworkError' }, [50, 100]],
    ['too many open files', unreachable('EMFILE'), { code: 'NetworkError' }, [50, 100]],
    [
      'a code on the error itself',
      Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' }),
      { code: 'NetworkError' },
      [50, 100],
    ],
    ['a polyfill', new TypeError('Network request failed'), { code: 'NetworkError' }, [50, 100]],
    ['HTTP 429', reply(429), { code: 'Http429', httpStatus: 429 }, [1000, 2000, 4000, 3000]],
    [
      'throttling in a header',
      reply(400, '', { 'x-amzn-errortype': 'ns#ThrottlingException' }),
      { code: 'ThrottlingException', httpStatus: 400 },
      [1000, 2000, 4000, 3000],
      SECRETS,
    ],
    [
      'S3 SlowDown',
      xml(503, 'SlowDown'),
      { code: 'SlowDown', httpStatus: 503 },
      [1000, 2000, 4000, 3000],
      S3,
    ],
    ...THROTTLING.map((code): (typeof PASSING)[number] => [
      `${code} as HTTP 400`,
      refusal(code),
      { code, httpStatus: 400 },
      [1000, 2000, 4000, 3000],
      SECRETS,
    ]),
  ]
  for (const [shown, error] of [
    ['ECONNREFUSED', unreachable('ECONNREFUSED')],
    ['TimeoutError', new Error('mine', { cause: new DOMException('', 'TimeoutError') })],
    ['RangeError', new RangeError('network error')],
    ['Error', new Error('mine', { cause: `${CANARY}-body` })],
  ] as const)
    test(`show the code, else the name, of the last cause: ${shown}`, async () => {
      const { fetch } = script(error)
      const thrown = await elapse(() =>
        getParameter('/app/value', { fetch }).catch(({ message }: Error) => message),
      )
      assert.match(String(thrown), new RegExp(`amazonaws.com (in time )?\\(${shown}\\)`))
    })

  for (const [what, answer, details, expected, source = SSM] of PASSING) {
    test(`${expected.length > 2 ? 'for 10 s' : 'three times'}, then the error: ${what}`, async () =>
      assertPauses(await pauses(source, answer, details), ...expected))

    test(`the third may go well: ${what}`, async () => {
      const { fetch, sent } = script(answer, answer, source.answer('value'))
      assert.equal(await elapse(() => source.read({ fetch })), 'value')
      assert.equal(sent.length, 3)
      assert.ok(present(sent[2]).at - present(sent[0]).at < 10, 'no pause where chance says so')
    })
  }

  const DEFINITE: readonly [
    what: string,
    answer: Answer,
    details: Partial<ErrorDetails>,
    source?: SourceCase,
  ][] = [
    ...[
      'ValidationException',
      'AccessDeniedException',
      'UnrecognizedClientException',
      'ExpiredTokenException',
      'InvalidSignatureException',
      'DecryptionFailure',
      'InvalidKeyId',
    ].map((code): (typeof DEFINITE)[number] => [code, refusal(code), { code, httpStatus: 400 }]),
    ['S3 ExpiredToken', xml(400, 'ExpiredToken'), { code: 'ExpiredToken', httpStatus: 400 }, S3],
    [
      'a code with a dot',
      xml(400, 'KMS.DisabledException'),
      { code: 'KMS.DisabledException', httpStatus: 400 },
      S3,
    ],
    [
      'a code in a header',
      reply(400, '', { 'x-amzn-errortype': 'DecryptionFailure:http://internal.amazon.com/' }),
      { code: 'DecryptionFailure', httpStatus: 400 },
      SECRETS,
    ],
    [
      'a code as `code`',
      reply(400, '{ "code" : "DecryptionFailure" }'),
      { code: 'DecryptionFailure', httpStatus: 400 },
      SECRETS,
    ],
    [
      'a code in the message',
      reply(400, {
        message: '"__type":"A" <Code>ParameterNotFound</Code>',
        __type: 'ns#ValidationException',
      }),
      { code: 'ValidationException', httpStatus: 400 },
    ],
    [
      'S3 InvalidObjectState',
      xml(403, 'InvalidObjectState'),
      { code: 'InvalidObjectState', httpStatus: 403 },
      S3,
    ],
    [
      'a fetch that has a mistake',
      new TypeError(`Headers.append: "${CANARY}-session-token" is an invalid header value.`),
      { code: 'RequestFailed' },
    ],
    ...[
      ...[
        'ERR_SSL_WRONG_VERSION_NUMBER',
        'CERT_HAS_EXPIRED',
        'CERT_NOT_YET_VALID',
        'DEPTH_ZERO_SELF_SIGNED_CERT',
        'SELF_SIGNED_CERT_IN_CHAIN',
        'ERR_TLS_CERT_ALTNAME_INVALID',
      ],
      ...[
        'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
        'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
        'ERR_INVALID_URL',
      ],
    ].map((code): (typeof DEFINITE)[number] => [
      code,
      unreachable(code),
      { code: 'RequestFailed' },
    ]),
  ]
  for (const [what, answer, details, source = SSM] of DEFINITE) {
    test(`once: ${what}`, async () => assert.deepEqual(await pauses(source, answer, details), []))
  }

  test('reads the code whatever the form of the answer', async () => {
    const forms: [SourceCase, Response][] = [
      [SSM, reply(400, { __type: 'SomeException' })],
      [SSM, reply(400, '{ "message": "x", "__type": "com.amazonaws.ssm#SomeException" }')],
      [SECRETS, reply(400, { __type: 'com.amazonaws.coral.service#SomeException', Message: 'x' })],
      [S3, reply(400, '<Error><Code>SomeException</Code></Error>')],
    ]
    for (const [source, answer] of forms)
      await failure(source.read({ fetch: script(answer).fetch }), {
        code: 'SomeException',
        httpStatus: 400,
      })
  })

  test('cut the code to 80 characters', async () => {
    for (const [source, answer] of [
      [SSM, refusal('E'.repeat(2 ** 22))],
      [S3, xml(400, 'E'.repeat(2 ** 22))],
    ] as const) {
      const error = await failure(source.read({ fetch: script(answer).fetch }), {
        code: 'E'.repeat(80),
      })
      assert.ok(error.message.length < 300)
    }
  })

  test('each with a signature of its own', async () => {
    mock.method(Math, 'random', () => 0.999)
    const { fetch, sent } = script(reply(429), reply(429), SSM.answer('value'))
    await elapse(() => SSM.read({ fetch }))
    assert.equal(new Set(sent.map(({ headers }) => headers['x-amz-date'])).size, 3)
    assert.equal(new Set(sent.map(({ headers }) => headers.authorization)).size, 3)
    assert.equal(new Set(sent.map(({ body }) => body)).size, 1)
  })

  test('each with the credentials of the moment', async () => {
    const { fetch, sent } = script(() => {
      process.env.AWS_ACCESS_KEY_ID = 'renewed'
      return reply(500)
    }, SSM.answer('value'))
    await SSM.read({ fetch })
    assert.match(sent[1]?.headers.authorization ?? '', /Credential=renewed\//)
  })

  for (const source of SOURCES) {
    test(`end after 2, 4 and 8 s without any progress, and name the host: ${source.source}`, async () => {
      const { fetch, sent } = script('never')
      mock.method(Math, 'random', () => 0.999)
      await elapse(() =>
        failure(
          source.read({ fetch }),
          { code: 'Timeout', source: source.source, id: source.id },
          AWS_HOSTS[source.source],
          'VPC',
        ),
      )
      assertPauses(
        sent.slice(1).map(({ at }, index) => at - present(sent[index]).at),
        2050,
        4100,
      )
      assert.ok(
        sent.every(({ signal }) => signal.aborted),
        'nothing is left running',
      )
    })

    test(`end where the body stalls: ${source.source}`, async () => {
      const { fetch, sent } = script(
        ({ signal }) => trickle(['{"Parameters"'], 0, signal),
        source.answer('value'),
      )
      assert.equal(await elapse(() => source.read({ fetch })), 'value')
      assert.equal(sent.length, 2)
      assert.ok(present(sent[1]).at - present(sent[0]).at >= 2000)
    })

    test(`end where the transport is deaf to the signal, in the call and in the body: ${source.source}`, async () => {
      const hangs = new Promise<never>(() => {})
      async function* begins(): AsyncGenerator<Uint8Array> {
        yield Buffer.from('{')
        await hangs
      }
      const answer = { status: 200, headers: new Headers(), text: () => hangs }
      for (const fetch of [
        () => hangs,
        async () => ({ ...answer, body: null }),
        async () => ({ ...answer, body: begins() }),
      ] satisfies Fetch[]) {
        clearCache()
        await elapse(() =>
          failure(source.read({ fetch }), { code: 'Timeout', source: source.source }),
        )
      }
      if (source !== S3) return
      const folder = await temporaryFolder()
      const fetch: Fetch = async () => ({ ...answer, body: begins() })
      await elapse(() =>
        failure(getObject(source.id, { file: join(folder, 'value'), fetch }), { code: 'Timeout' }),
      )
      assert.deepEqual(await readdir(folder), [])
    })

    test(`go on for as long as a body makes progress: ${source.source}`, async () => {
      const whole = await source.answer('value').text()
      const pieces = [whole.slice(0, 1), whole.slice(1, 2), whole.slice(2, 3), whole.slice(3)]
      const { fetch, sent } = script(() => trickle(pieces, 1500))
      assert.equal(await elapse(() => source.read({ fetch })), 'value')
      assert.equal(sent.length, 1)
    })
  }

  /** A body that comes in pieces, with a pause before each; with a signal it does not end but by that. */
  function trickle(pieces: readonly string[], pause: number, signal?: AbortSignal): Response {
    const left = [...pieces]
    const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
      if (pause) await new Promise((resolve) => setTimeout(resolve, pause))
      const piece = left.shift()
      if (piece !== undefined) controller.enqueue(new TextEncoder().encode(piece))
      else if (!signal) controller.close()
      else
        await new Promise((_, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error)),
        )
    }
    return new Response(new ReadableStream({ pull }))
  }

  const expired = 'Signature expired: 20260102T030405Z is now earlier than 20260102T035905Z'
  const early = 'Signature not yet current: 20260102T030405Z is still later than 20260102T020905Z'
  for (const hours of [1, -1]) {
    const date = { date: new Date(START + hours * HOUR).toUTCString() }
    const skewed: [SourceCase, Response][] = [
      [SSM, refusal('InvalidSignatureException', hours > 0 ? expired : early, date)],
      [SECRETS, refusal('InvalidSignatureException', hours > 0 ? expired : early, date)],
      [S3, xml(403, 'RequestTimeTooSkewed', date)],
    ]
    for (const [source, answer] of skewed) {
      const dates = (sent: readonly Sent[]) => sent.map(({ headers }) => headers['x-amz-date'])
      const corrected = hours > 0 ? '20260102T040405Z' : '20260102T020405Z'

      test(`take the time from AWS where the clock is ${hours} h off, for that call alone: ${source.source}`, async () => {
        const { fetch, sent } = script(answer, source.answer('one'), source.answer('two'))
        assert.equal(await source.read({ fetch }), 'one')
        assert.equal(await source.read({ fetch, maxAge: 0 }), 'two')
        assert.deepEqual(dates(sent), ['20260102T030405Z', corrected, '20260102T030405Z'])
      })

      test(`correct the clock by ${hours} h once: ${source.source}`, async () => {
        const { fetch, sent } = script(answer)
        assertKeepsSecrets(
          await failure(source.read({ fetch }), {
            source: source.source,
            httpStatus: answer.status,
          }),
        )
        assert.deepEqual(dates(sent), ['20260102T030405Z', corrected])
      })
    }
  }

  test('correct no clock without a date', async () => {
    for (const date of [
      '',
      'tomorrow',
      'Thu, 01 Jan 1960 00:00:00 GMT',
      'Sat, 13 Sep 99999 00:00:00 GMT',
    ]) {
      const { fetch, sent } = script(refusal('InvalidSignatureException', expired, { date }))
      await failure(SSM.read({ fetch }), { code: 'InvalidSignatureException' })
      assert.equal(sent.length, 1)
    }
  })

  test('are signed again where the clock is right to the millisecond, once', async () => {
    const date = { date: new Date(START).toUTCString() }
    mock.timers.setTime(Date.parse(date.date))
    const { fetch, sent } = script(
      refusal('InvalidSignatureException', expired, date),
      SSM.answer('value'),
    )
    assert.equal(await SSM.read({ fetch }), 'value')
    assert.equal(sent.length, 2)
  })

  const AFTER: readonly [what: string, headers: Record<string, string>, pauses: number[]][] = [
    ['retry-after in seconds', { 'retry-after': '2' }, [2000, 2000]],
    ['a date', { 'retry-after': new Date(START + 3000).toUTCString() }, [2322, 100]],
    ['x-amz-retry-after in milliseconds', { 'x-amz-retry-after': '700' }, [700, 700]],
    ['longer than 5 s more than the own pause', { 'retry-after': '60' }, [5050, 5100]],
    ['less than the own pause', { 'x-amz-retry-after': '1' }, [50, 100]],
    ['nonsense', { 'retry-after': 'soon', 'x-amz-retry-after': '-5' }, [50, 100]],
  ]
  for (const [what, headers, expected] of AFTER)
    test(`wait for as long as AWS asks: ${what}`, async () => {
      const answer = reply(500, '', headers)
      assertPauses(await pauses(SECRETS, answer, { httpStatus: 500 }), ...expected)
    })

  describeOverBoth('to a real server', () => {
    test('follow no redirect', async () => {
      const visitors: string[] = []
      const elsewhere = await serve(({ headers }, response) => {
        visitors.push(JSON.stringify(headers))
        response.end('{}')
      })
      const aws = await local()
      aws.intercept = (_, response) => {
        response.writeHead(307, { location: elsewhere }).end()
        return true
      }
      for (const source of SOURCES)
        await failure(source.read(), { code: 'Http307', httpStatus: 307 })
      assert.deepEqual(visitors, [])
    })
  })

  test('take no more than 8 MiB for an answer in JSON', async () => {
    const bytes = 8 * 1024 * 1024
    for (const source of [SSM, SECRETS]) {
      const tooLong = () => source.answer('x'.repeat(bytes))
      const { fetch, sent } = script(tooLong, tooLong, tooLong, () =>
        source.answer('x'.repeat(bytes - 100)),
      )
      await failure(source.read({ fetch }), {
        code: 'InvalidAnswer',
        source: source.source,
        id: source.id,
      })
      assert.ok(sent[0]?.signal.aborted, 'the rest is not read')
      assert.equal(String(await source.read({ fetch })).length, bytes - 100)
    }
    const { fetch } = script(() => S3.answer('x'.repeat(bytes + 1)))
    assert.equal(String(await S3.read({ fetch })).length, bytes + 1, 'objects may be larger')
  })
})
