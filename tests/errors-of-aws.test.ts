/** What an error says, whoever is to blame: AWS, the network, an option. */
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import { describe, mock, test } from 'node:test'
import {
  clearCache,
  type Fetch,
  type FetchResponse,
  getObject,
  getParameter,
  getParametersByPath,
  json,
  LambdaCacheError,
  type Options,
  withCache,
} from '../lambda-cache.js'
import { missingFrom, outcomeOf, ROWS } from './errors.js'
import {
  type Answer,
  assertKeepsSecrets,
  CANARY,
  ENVIRONMENT,
  elapse,
  everythingIn,
  failure,
  invoking,
  parameters,
  pass,
  present,
  refusal,
  reply,
  S3,
  type Script,
  SECOND,
  SECRETS,
  type Sent,
  type SourceCase,
  SSM,
  script,
  TRANSPORTS,
  temporaryFolder,
  text,
  unreachable,
  xml,
} from './kit.js'

interface ErrorCase {
  readonly code: string
  /** Exact. No other test looks at more than parts of a message. */
  readonly message: string
  /** What is done, with a fetch that gives these answers. */
  readonly answers?: readonly (Answer | ((sent: Sent) => Answer))[]
  readonly environment?: Record<string, string>
  readonly act: (fetch: Fetch, folder: string) => unknown
}

const ERRORS: readonly ErrorCase[] = [
  {
    code: 'InvalidOptions',
    message: 'withCache.maxAge: expected a number of seconds >= 0, got NaN',
    act: () => withCache(() => {}, { maxAge: NaN }),
  },
  {
    code: 'InvalidOptions',
    message: 'withCache: expected a handler, got undefined: is it defined before it is wrapped?',
    act: () => withCache(undefined as never, {}),
  },
  {
    code: 'InvalidOptions',
    message:
      'withCache: unknown option `retries`. Known: ssm, secrets, s3, custom, refreshOn, onRefresh, maxAge, region, staleIfError, credentials, fetch',
    act: () => withCache(() => {}, { retries: 3 } as Options),
  },
  {
    code: 'InvalidOptions',
    message: "withCache.ssm: expected an array of names or entries, got '/app/value'",
    act: () => withCache(() => {}, { ssm: '/app/value' } as never),
  },
  {
    code: 'InvalidOptions',
    message: 'ssm[0].name: expected a string that is not empty, got undefined',
    act: () => withCache(() => {}, { ssm: [{}] } as never),
  },
  {
    code: 'InvalidOptions',
    message: 'ssm[0] and ssm[1] are both named `key` (/a/key and /b/key): set `as` in one',
    act: () => withCache(() => {}, { ssm: ['/a/key', '/b/key'] }),
  },
  {
    code: 'InvalidOptions',
    message:
      'ssm[0].names: /a/key and /b/key both end in `key`: read one of them in an entry of its own',
    act: () => withCache(() => {}, { ssm: [{ names: ['/a/key', '/b/key'], as: 'keys' }] }),
  },
  {
    code: 'InvalidOptions',
    message: 'secrets[0]: the ARN of a secret ends in random characters: set `as`',
    act: () =>
      withCache(() => {}, {
        secrets: ['arn:aws:secretsmanager:us-east-1:123456789012:secret:a-AbCdEf'],
      }),
  },
  {
    code: 'InvalidOptions',
    message: "s3[0].uri: expected s3://bucket/key, got 'https://bucket/key'",
    act: () => withCache(() => {}, { s3: ['https://bucket/key' as string] }),
  },
  {
    code: 'InvalidOptions',
    message: "LAMBDA_CACHE_MAX_AGE: expected a number of seconds >= 0, got 'soon'",
    environment: { LAMBDA_CACHE_MAX_AGE: 'soon' },
    act: () => withCache(() => {}, { ssm: ['/a'] }),
  },
  {
    code: 'InvalidOptions',
    message: "ssm /app/value: region: expected one like eu-west-1, got 'mars'",
    environment: { AWS_REGION: 'mars' },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'InvalidOptions',
    message: 's3 s3://bucket/two: another object is downloaded to /folder/file: set `file` in one',
    answers: [reply(200, `${CANARY}-body`)],
    act: async (fetch, folder) => {
      await getObject('s3://bucket/one', { file: `${folder}/file`, fetch })
      await getObject('s3://bucket/two', { file: `${folder}/file`, fetch })
    },
  },
  {
    code: 'NoRegion',
    message: 'ssm /app/value: no region: set AWS_REGION or the option `region`',
    environment: { AWS_REGION: '' },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NoCredentials',
    message:
      'ssm /app/value: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the option `credentials`',
    environment: { AWS_ACCESS_KEY_ID: '' },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NoCredentials',
    message:
      "ssm /app/value: AWS_CONTAINER_CREDENTIALS_FULL_URI: http is allowed to loopback and AWS's own addresses only, got creds.internal",
    environment: {
      AWS_ACCESS_KEY_ID: '',
      AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://creds.internal/',
    },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NoCredentials',
    message:
      'ssm /app/value: container credentials: HTTP 403 without credentials from http://169.254.170.2',
    environment: {
      AWS_ACCESS_KEY_ID: '',
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/c',
      AWS_CONTAINER_AUTHORIZATION_TOKEN: `${CANARY}-token`,
    },
    answers: [reply(403, `${CANARY}-body`)],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NoCredentials',
    message:
      'ssm /app/value: container credentials: cannot read /none, to which AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE points',
    environment: {
      AWS_ACCESS_KEY_ID: '',
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/c',
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: '/none',
    },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'InvalidEndpoint',
    message:
      'ssm /app/value: AWS_ENDPOINT_URL: expected http(s)://host, got one with credentials or a query',
    environment: { AWS_ENDPOINT_URL: `http://user:${CANARY}@127.0.0.1` },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'InvalidEndpoint',
    message:
      'ssm /app/value: AWS_USE_FIPS_ENDPOINT and AWS_ENDPOINT_URL exclude each other: unset one of them',
    environment: { AWS_ENDPOINT_URL: 'http://127.0.0.1', AWS_USE_FIPS_ENDPOINT: 'true' },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'InvalidEndpoint',
    message: 's3 s3://bucket/app/value: S3 has no FIPS address in the region cn-north-1',
    environment: { AWS_REGION: 'cn-north-1', AWS_USE_FIPS_ENDPOINT: 'true' },
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'ParameterNotFound',
    message:
      'ssm /app/value: ParameterNotFound: there is no such parameter in us-east-1: check name and region, or give a `default`',
    answers: [parameters({}, ['/app/value'])],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'ResourceNotFoundException',
    message:
      'secrets app/value: ResourceNotFoundException (HTTP 400) from https://secretsmanager.us-east-1.amazonaws.com: "AWS says why": check name and region (us-east-1), or give a `default`',
    answers: [refusal('ResourceNotFoundException')],
    act: (fetch) => SECRETS.read({ fetch }),
  },
  {
    code: 'NoSuchKey',
    message:
      's3 s3://bucket/app/value: NoSuchKey (HTTP 404) from https://bucket.s3.us-east-1.amazonaws.com: "AWS says why": check name and region (us-east-1), or give a `default`',
    answers: [xml(404, 'NoSuchKey')],
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'AccessDeniedException',
    message:
      'ssm /app/value: AccessDeniedException (HTTP 400) from https://ssm.us-east-1.amazonaws.com: "AWS says why": the role needs ssm:GetParameters',
    answers: [refusal('AccessDeniedException')],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'AccessDeniedException',
    message:
      'ssm /app: AccessDeniedException (HTTP 400) from https://ssm.us-east-1.amazonaws.com: "AWS says why": the role needs ssm:GetParametersByPath',
    answers: [refusal('AccessDeniedException')],
    act: (fetch) => getParametersByPath('/app', { fetch }),
  },
  {
    code: 'AccessDeniedException',
    message:
      'secrets app/value: AccessDeniedException (HTTP 400) from https://secretsmanager.us-east-1.amazonaws.com: "AWS says why": the role needs secretsmanager:GetSecretValue',
    answers: [refusal('AccessDeniedException')],
    act: (fetch) => SECRETS.read({ fetch }),
  },
  {
    code: 'AccessDenied',
    message:
      's3 s3://bucket/app/value: AccessDenied (HTTP 403) from https://bucket.s3.us-east-1.amazonaws.com: "AWS says why": the role needs s3:GetObject, or the object does not exist: without s3:ListBucket, S3 answers 403 for 404',
    answers: [xml(403, 'AccessDenied')],
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'AccessDenied',
    message:
      's3 s3://bucket/key: AccessDenied (HTTP 403) from https://bucket.s3.us-east-1.amazonaws.com: "AWS says why": the role needs s3:GetObjectVersion, or the object does not exist: without s3:ListBucket, S3 answers 403 for 404',
    answers: [xml(403, 'AccessDenied')],
    act: (fetch) => getObject('s3://bucket/key', { versionId: '1', parse: text, fetch }),
  },
  {
    code: 'SignatureDoesNotMatch',
    message:
      's3 s3://bucket/app/value: SignatureDoesNotMatch (HTTP 403) from https://bucket.s3.us-east-1.amazonaws.com: AWS does not accept the signature: check AWS_SECRET_ACCESS_KEY or what `credentials` returns, and proxies that change requests',
    // S3 quotes what it was sent.
    answers: [
      ({ headers }) =>
        reply(
          403,
          `<Error><Code>SignatureDoesNotMatch</Code><CanonicalRequest>${JSON.stringify(headers)}</CanonicalRequest></Error>`,
        ),
    ],
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'ThrottlingException',
    message:
      'ssm /app/value: ThrottlingException (HTTP 400) from https://ssm.us-east-1.amazonaws.com: "AWS says why", 4 attempts in 10 s: raise `maxAge`, the quota or the function\'s timeout',
    answers: [
      () => {
        pass(2500)
        return refusal('ThrottlingException')
      },
    ],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'Http502',
    message:
      "s3 s3://bucket/app/value: HTTP 502 with text/plain from https://bucket.s3.us-east-1.amazonaws.com, 3 attempts in 0 ms: that is not AWS's answer: is a proxy in between, or `fetch` mocked?",
    answers: [reply(502, `<html>${CANARY}-body`)],
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'InvalidAnswer',
    message:
      "secrets app/value: https://secretsmanager.us-east-1.amazonaws.com answered HTTP 200 with text/plain, not with AWS's JSON, 3 attempts in 0 ms: is a proxy in between, or `fetch` mocked?",
    answers: [reply(200, `<html>${CANARY}-body`)],
    act: (fetch) => SECRETS.read({ fetch }),
  },
  {
    code: 'InvalidAnswer',
    message: 'ssm /app/value: an answer of over 8 MiB, 3 attempts in 0 ms',
    answers: [reply(200, `"${CANARY.repeat(1_500_000)}"`)],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NetworkError',
    message:
      'ssm /app/value: no answer from https://ssm.us-east-1.amazonaws.com (ECONNREFUSED), 3 attempts in 0 ms',
    answers: [unreachable('ECONNREFUSED')],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NetworkError',
    message: 's3 s3://bucket/app/value: the body of the answer was cut short, 3 attempts in 0 ms',
    answers: [reply(200, `${CANARY}-body`, { 'content-length': '99' })],
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'RequestFailed',
    message:
      'ssm /app/value: the certificate of https://ssm.us-east-1.amazonaws.com is not trusted (CERT_HAS_EXPIRED): set NODE_EXTRA_CA_CERTS if a proxy opens TLS',
    answers: [unreachable('CERT_HAS_EXPIRED')],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'RequestFailed',
    message:
      'ssm /app/value: the option `fetch` failed with TypeError, not retried: its words may quote a header: call it yourself to see them',
    answers: [
      ({ headers }) =>
        new TypeError(`Headers.append: "${headers.authorization}" is an invalid header value.`),
    ],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'Timeout',
    message:
      'ssm /app/value: no answer from https://ssm.us-east-1.amazonaws.com (TimeoutError), 3 attempts in 10 s: does the VPC have an endpoint or a NAT gateway?',
    answers: ['never'],
    act: (fetch) => elapse(() => SSM.read({ fetch })),
  },
  {
    code: 'ParseError',
    message:
      'ssm /app/value: parse failed with SyntaxError at position 25: its words may quote the value: call `parse` yourself to see them',
    answers: [SSM.answer(`{"password":"${CANARY}-value`)],
    act: (fetch) => SSM.read({ fetch, parse: json }),
  },
  {
    code: 'BinarySecret',
    message: 'secrets app/value: the secret is binary, and no text: set `binary: true`',
    answers: [reply(200, { SecretBinary: Buffer.from(`${CANARY}-value`).toString('base64') })],
    act: (fetch) => SECRETS.read({ fetch }),
  },
  {
    code: 'UnsupportedKey',
    message:
      "s3 s3://bucket/a/../key: no URL can carry the key: it has a segment '.' or '..', or half a surrogate pair: copy the object to another key",
    act: (fetch) => getObject('s3://bucket/a/../key', { fetch }),
  },
  {
    code: 'FileError',
    message:
      's3 s3://bucket/key: cannot write the file /none/key (ENOENT): its folder has to exist',
    answers: [reply(200, `${CANARY}-body`)],
    act: (fetch) => getObject('s3://bucket/key', { file: '/none/key', fetch }),
  },
  {
    code: 'AccessDeniedException',
    message:
      'secrets app/value: AccessDeniedException (HTTP 400) from https://secretsmanager.us-east-1.amazonaws.com: "AWS says why": the role needs secretsmanager:GetSecretValue\ns3 s3://bucket/app/value: NoSuchKey (HTTP 404) from https://bucket.s3.us-east-1.amazonaws.com: "AWS says why": check name and region (us-east-1), or give a `default`',
    answers: [
      ({ headers }) =>
        headers['x-amz-target'] ? refusal('AccessDeniedException') : xml(404, 'NoSuchKey'),
    ],
    act: (fetch) => invoking({ ...SECRETS.entry(), ...S3.entry({ as: 'object' }), fetch })(),
  },
]

describe('errors', () => {
  for (const { code, message, answers = [reply(500)], environment = {}, act } of ERRORS) {
    test(`say: ${message.split('\n').join(' / ')}`, async () => {
      Object.assign(process.env, environment)
      const { fetch, sent } = script(...answers)
      const folder = await temporaryFolder()
      const error = await failure(async () => act(fetch, folder), { code })
      assert.equal(error.message.replaceAll(folder, '/folder'), message)
      assert.equal(error.name, 'LambdaCacheError')
      assertKeepsSecrets(error)
      for (const { headers } of sent)
        if (headers.authorization) assert.ok(!everythingIn(error).includes(headers.authorization))
    })
  }

  for (const row of ROWS) {
    test(`say what to do about ${row.mistake}`, async () => {
      const { message, error } = await outcomeOf(row, TRANSPORTS.fetch)
      assert.deepEqual(missingFrom(message, row), [], message)
      if (error) assert.ok(error instanceof LambdaCacheError)
      const everything = error ? everythingIn(error) : message
      assert.ok(!everything.includes(CANARY), everything)
      assert.doesNotMatch(everything, /Signature=/)
    })
  }

  const SENTENCE = 'The reason, in one sentence.'
  const TOLD: readonly (readonly [code: string, source: SourceCase])[] = [
    ['AccessDeniedException', SSM],
    ['AccessDenied', S3],
    ['ParameterNotFound', SSM],
    ['ResourceNotFoundException', SECRETS],
    ['NoSuchKey', S3],
    ['NoSuchVersion', S3],
    ['NoSuchBucket', S3],
    ['InvalidRequestException', SECRETS],
    ['ValidationException', SSM],
    ['DecryptionFailure', SECRETS],
    ['InvalidKeyId', SSM],
    ['KMS.DisabledException', S3],
    ['KMS.NotFoundException', S3],
    ['ThrottlingException', SSM],
    ['SlowDown', S3],
    ['TooManyRequestsException', SECRETS],
    ['ExpiredTokenException', SSM],
    ['ExpiredToken', S3],
  ]
  const UNTOLD: readonly (readonly [code: string, source: SourceCase])[] = [
    ['InvalidSignatureException', SSM],
    ['IncompleteSignature', SECRETS],
    ['SignatureDoesNotMatch', S3],
    ['AuthorizationHeaderMalformed', S3],
    ['RequestTimeTooSkewed', S3],
    ['UnrecognizedClientException', SSM],
    ['InvalidAccessKeyId', S3],
    ['InvalidToken', S3],
    ['InternalServiceError', SECRETS],
    ['MissingAuthenticationTokenException', SSM],
  ]
  function refusing({ source }: SourceCase, code: string, message: string): Script {
    const escaped = message.replaceAll('&', '&amp;').replaceAll('"', '&quot;')
    const body =
      source === 's3'
        ? `<Error><Code>${code}</Code><Message>${escaped}</Message></Error>`
        : { __type: code, message }
    // What is throttled is tried again for as long as there is time.
    return script(() => {
      pass(11 * SECOND)
      return reply(400, body)
    })
  }

  for (const [code, source] of TOLD) {
    test(`quote AWS's sentence: ${code}`, async () => {
      const { fetch } = refusing(source, code, `${SENTENCE} "a" & b`)
      await failure(source.read({ fetch }), { code }, `"${SENTENCE} "a" & b"`)
    })

    test(`quote no more than a line of it: ${code}`, async () => {
      const { fetch } = refusing(source, code, `${SENTENCE}\n${CANARY}`)
      const error = await failure(source.read({ fetch }), { code }, `"${SENTENCE}"`)
      assert.ok(!error.message.includes('\n'))
      assertKeepsSecrets(error)
      const long = refusing(source, code, `${'x'.repeat(500)}`)
      clearCache()
      const shortened = await failure(source.read({ fetch: long.fetch }), { code })
      assert.match(shortened.message, /"x{397}\.\.\."/)
    })

    for (const quoted of [
      ENVIRONMENT.AWS_ACCESS_KEY_ID,
      ENVIRONMENT.AWS_SECRET_ACCESS_KEY,
      ENVIRONMENT.AWS_SESSION_TOKEN,
      'Signature=abc',
      'AWS4-HMAC-SHA256',
      'x-amz-security-token:abc',
      'f'.repeat(64),
    ])
      test(`leave it out where it quotes the request: ${code}, ${quoted.slice(0, 20)}`, async () => {
        const { fetch } = refusing(source, code, `${SENTENCE} It was ${quoted}`)
        const error = await failure(source.read({ fetch }), { code })
        assert.ok(!error.message.includes(SENTENCE))
        assertKeepsSecrets(error)
      })
  }

  for (const [code, source] of UNTOLD) {
    test(`quote no sentence about a signature: ${code}`, async () => {
      const { fetch } = refusing(source, code, `${SENTENCE} The token is ${CANARY}-session-token`)
      const error = await failure(source.read({ fetch }), { code })
      assert.ok(!error.message.includes('The token'))
      assertKeepsSecrets(error)
    })
  }

  test('have no property that a web framework takes for its own answer', async () => {
    const { fetch } = script(xml(404, 'NoSuchKey'))
    const error = await failure(S3.read({ fetch }), { httpStatus: 404 })
    for (const name of ['status', 'statusCode', 'expose', 'headers', 'statusMessage'])
      assert.ok(!(name in error), name)
  })

  test('say what nobody expected by its class, and have it as their cause', async () => {
    const unexpected = new RangeError(`${CANARY} in its words`)
    const hmac = mock.method(crypto, 'createHmac', () => {
      throw unexpected
    })
    const { fetch } = script(SSM.answer('value'))
    const error = await failure(SSM.read({ fetch }), {
      code: 'UnexpectedError',
      source: 'ssm',
      id: SSM.id,
      cause: unexpected,
    })
    hmac.mock.restore()
    assert.equal(error.message, `ssm ${SSM.id}: an unexpected RangeError: see \`cause\``)
    assert.equal(await SSM.read({ fetch }), 'value', 'and is not kept')
  })

  test('of errors that are several themselves keep every hint', async () => {
    const { fetch } = script(({ body }) =>
      String(body).includes('/g/b')
        ? refusal('AccessDeniedException', '')
        : parameters(
            {},
            ['/g/a', '/c'].filter((name) => String(body).includes(name)),
          ),
    )
    const group = { names: ['/g/a', '/g/b'], as: 'g' } as const
    const error = await failure(invoking({ ssm: [group, '/c'], fetch }))
    const lines = error.message.split('\n')
    assert.equal(lines.length, 3)
    assert.match(present(lines[1]), /the role needs ssm:GetParameters, and with a key .*Decrypt$/)
    assert.match(present(lines[2]), /give a `default`$/)
    assert.ok(error.message.endsWith(`: ${error.hint}`))
  })

  test('name the source, the id, the status and the request', async () => {
    const { fetch } = script(
      refusal('AccessDeniedException', '', { 'x-amzn-requestid': 'request-1' }),
    )
    await failure(SECRETS.read({ fetch }), {
      code: 'AccessDeniedException',
      source: 'secrets',
      id: 'app/value',
      httpStatus: 400,
      requestId: 'request-1',
    })
    const s3 = script(xml(403, 'AccessDenied', { 'x-amz-request-id': 'request-2' }))
    await failure(S3.read({ fetch: s3.fetch }), {
      code: 'AccessDenied',
      source: 's3',
      id: 's3://bucket/app/value',
      httpStatus: 403,
      requestId: 'request-2',
    })
  })

  test('say what the answer of a mocked fetch lacks, and not that the network failed', async () => {
    const headers = new Headers()
    const LACKING: readonly [lacks: string, answer: object][] = [
      ['an object without `headers`', { ok: true, status: 200, json: async () => ({}) }],
      ['an object without `headers`', { status: 200, text: async () => '{}' }],
      [
        'an object without `headers`',
        { status: 200, headers: { 'content-type': 'text/plain' }, body: null },
      ],
      ['neither', { ok: true, status: 200, headers, json: async () => ({}) }],
      ['neither', { status: 200, headers, body: undefined }],
      ['returned undefined, which is no Response', undefined as never],
      ['returned a string, which is no Response', 'answer' as never],
    ]
    for (const [lacks, answer] of LACKING) {
      const fetch = mock.fn(async () => answer as FetchResponse)
      await failure(
        getParameter('/a', { fetch }),
        { code: 'RequestFailed', source: 'ssm', id: '/a' },
        lacks,
      )
      assert.equal(fetch.mock.callCount(), 1)
    }
    assert.equal(
      await getParameter('/a', {
        fetch: async () => ({
          status: 200,
          headers,
          body: null,
          text: async () => JSON.stringify({ Parameters: [{ Name: '/a', Value: 'value' }] }),
        }),
      }),
      'value',
    )
  })

  test('are of a class with a name that survives a minifier', () => {
    const error = new LambdaCacheError('message', { code: 'Code', id: 'id', cause: 'cause' })
    assert.ok(error instanceof Error)
    assert.deepEqual(
      [error.name, error.message, error.code, error.id, error.cause],
      ['LambdaCacheError', 'message', 'Code', 'id', 'cause'],
    )
    assert.deepEqual(
      ['source', 'status', 'requestId'].filter((name) => name in error),
      [],
      'what is not known is not there',
    )
  })
})
