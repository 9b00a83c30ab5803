/** Credentials: of the environment, of a container, of a function. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, mock, test } from 'node:test'
import {
  type Credentials,
  clearCache,
  type ErrorDetails,
  getObject,
  getParameter,
  getSecret,
  LambdaCacheError,
  withCache,
} from '../lambda-cache.js'
import {
  type Answer,
  assertKeepsSecrets,
  CANARY,
  contextWith,
  describeOverBoth,
  ENVIRONMENT,
  failure,
  HOUR,
  invoking,
  local,
  MINUTE,
  pass,
  present,
  refusal,
  reply,
  S3,
  SECRETS,
  type Sent,
  SOURCES,
  SSM,
  START,
  script,
  serve,
  setEnvironment,
  temporaryFolder,
  unreachable,
  xml,
} from './kit.js'

describe('credentials', () => {
  const {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_SESSION_TOKEN: sessionToken,
  } = ENVIRONMENT
  const container = (expiresIn = HOUR, id = accessKeyId) =>
    reply(200, {
      AccessKeyId: id,
      SecretAccessKey: secretAccessKey,
      Token: sessionToken,
      Expiration: new Date(Date.now() + expiresIn).toISOString(),
    })

  /** A fetch that gives the container's credentials, and AWS's answers. */
  function scripted(credentials: Answer | (() => Answer) = () => container()) {
    const { fetch, sent } = script((request) => {
      if (request.headers['x-amz-date']) return SSM.answer('value')
      if (typeof credentials === 'function') return credentials()
      return credentials instanceof Response ? credentials.clone() : credentials
    })
    const asked = () => sent.filter(({ headers }) => !headers['x-amz-date'])
    const signed = () => sent.filter(({ headers }) => headers['x-amz-date'])
    return { fetch, sent, asked, signed }
  }

  function containerEnvironment(uri: string, more: Record<string, string> = {}): void {
    const variable = uri.startsWith('/')
      ? 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'
      : 'AWS_CONTAINER_CREDENTIALS_FULL_URI'
    setEnvironment({ AWS_REGION: 'us-east-1', [variable]: uri, ...more })
  }

  test('come from the environment, anew for every signature', async () => {
    const { fetch, sent } = script(SSM.answer('value'))
    await SSM.read({ fetch })
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'other', AWS_SESSION_TOKEN: 'other-token' })
    await SSM.read({ fetch, maxAge: 0 })
    delete process.env.AWS_SESSION_TOKEN
    await SSM.read({ fetch, maxAge: 0 })
    assert.deepEqual(
      sent.map(({ headers }) => headers['x-amz-security-token']),
      [sessionToken, 'other-token', undefined],
    )
    assert.match(sent[1]?.headers.authorization ?? '', /Credential=other\//)
    for (const { headers } of sent) assert.ok(!JSON.stringify(headers).includes(secretAccessKey))
  })

  test('come from the environment before the container', async () => {
    const { fetch, asked } = scripted()
    process.env.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI = '/credentials'
    await SSM.read({ fetch })
    assert.equal(asked().length, 0)
  })

  const ALLOWED: readonly [uri: string, url: string][] = [
    ['/v2/credentials/id?a=b', 'http://169.254.170.2/v2/credentials/id?a=b'],
    ...[
      'http://127.0.0.1:1234/c',
      'http://127.1.2.3/c',
      'http://localhost/c',
      'http://localhost:80/c',
      'http://[::1]:80/c',
      'http://169.254.170.2/c',
      'http://169.254.170.23/v1/credentials',
    ].map((uri): [string, string] => [uri, uri]),
    ['http://[fd00:ec2::23]/v1/credentials', 'http://[fd00:ec2::23]/v1/credentials'],
    ['https://credentials.example.com/c', 'https://credentials.example.com/c'],
  ]
  for (const [uri, url] of ALLOWED) {
    test(`come from ${uri}`, async () => {
      containerEnvironment(uri)
      const { fetch, asked, signed } = scripted()
      assert.equal(await SSM.read({ fetch }), 'value')
      assert.deepEqual(
        asked().map((request) => [request.url, request.method, request.headers]),
        [[url, 'GET', {}]],
      )
      assert.equal(signed()[0]?.headers['x-amz-security-token'], sessionToken)
      assert.match(
        signed()[0]?.headers.authorization ?? '',
        new RegExp(`Credential=${accessKeyId}/`),
      )
    })
  }

  const REFUSED_URIS: readonly (readonly [variable: 'FULL' | 'RELATIVE', uri: string])[] = [
    ...[
      ...[
        '169.254.169.254',
        '169.254.170.3',
        '169.254.170.24',
        '169.254.170.231',
        '10.0.0.1',
        '192.168.1.1',
        '172.16.0.1',
        '8.8.8.8',
        '0.0.0.0',
        'example.com',
      ],
      ...[
        '2852039166',
        '0xa9fea9fe',
        '0251.0376.0251.0376',
        '1270.0.0.1',
        '12.7.0.0.1',
        '[::ffff:169.254.169.254]',
        '[fd00:ec2::254]',
        '[fe80::1]',
      ],
      ...[
        'localhost.example.com',
        '127.0.0.1.example.com',
        '169.254.170.2.example.com',
        'example.com#169.254.170.2',
        'example.com/http://127.0.0.1',
      ],
      ...[
        '127.0.0.1@example.com',
        '169.254.170.2:80@example.com',
        'localhost:a@example.com',
        'user:secret@example.com',
        '169.254.170.2\\@example.com',
        'example.com\\@127.0.0.1',
      ],
    ].map((host) => ['FULL', `http://${host}/c`] as const),
    ...['ftp://127.0.0.1/c', 'file:///etc/passwd', '127.0.0.1/c', 'data:,{}'].map(
      (uri) => ['FULL', uri] as const,
    ),
    ...[
      '@example.com/c',
      '.example.com/c',
      ':80@example.com/c',
      '0/c',
      '31/c',
      '3.example.com/c',
    ].map((path) => ['RELATIVE', path] as const),
  ]
  for (const [variable, uri] of REFUSED_URIS) {
    test(`do not come from ${variable}_URI ${uri}`, async () => {
      setEnvironment({
        AWS_REGION: 'us-east-1',
        [`AWS_CONTAINER_CREDENTIALS_${variable}_URI`]: uri,
      })
      const { fetch, sent } = scripted()
      await failure(SSM.read({ fetch }), { code: 'NoCredentials', source: 'ssm', id: SSM.id })
      assert.equal(sent.length, 0)
    })
  }

  test("carry the container's token, from the file before the variable, read every time", async () => {
    const file = join(await temporaryFolder(), 'token')
    const { fetch, asked } = scripted(() => container(-HOUR))
    containerEnvironment('/c', { AWS_CONTAINER_AUTHORIZATION_TOKEN: `${CANARY}-token` })
    await SSM.read({ fetch })
    process.env.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE = file
    for (const token of ['first', 'second']) {
      await writeFile(file, `${token}\n`)
      await SSM.read({ fetch, maxAge: 0 })
    }
    assert.deepEqual(
      asked().map(({ headers }) => headers),
      [
        { authorization: `${CANARY}-token` },
        { authorization: 'first' },
        { authorization: 'second' },
      ],
    )
  })

  test('are renewed five minutes before they expire', async () => {
    containerEnvironment('/c')
    const { fetch, asked } = scripted()
    const read = () => SSM.read({ fetch, maxAge: 0 })
    await read()
    pass(55 * MINUTE - 1)
    await read()
    assert.equal(asked().length, 1)
    pass(2)
    await read()
    assert.equal(asked().length, 2)
  })

  test('serve to their end where they cannot be renewed', async () => {
    containerEnvironment('/c')
    let answer: Answer = container()
    const { fetch } = scripted(() => answer)
    const read = () => getParameter(SSM.id, { fetch, maxAge: 0, staleIfError: 0 })
    await read()
    pass(56 * MINUTE)
    for (const failing of [reply(404), reply(500, `${CANARY}-body`), unreachable('ECONNRESET')]) {
      answer = failing
      assert.equal(await read(), 'value')
    }
    pass(4 * MINUTE)
    await failure(read(), { code: 'NetworkError' })
  })

  test('are fetched once for concurrent calls', async () => {
    containerEnvironment('/c')
    const { fetch, asked, signed } = scripted()
    await Promise.all([
      SSM.read({ fetch }),
      getSecret('a', { fetch }).catch(() => {}),
      getParameter('/b', { fetch, region: 'eu-west-1' }).catch(() => {}),
    ])
    assert.equal(asked().length, 1)
    assert.equal(signed().length, 3)
  })

  test('are asked for again after a failure', async () => {
    containerEnvironment('/c')
    const answers = [reply(404, `${CANARY}-body`), container()]
    const { fetch } = scripted(() => present(answers.shift()))
    assertKeepsSecrets(
      await failure(SSM.read({ fetch }), { code: 'NoCredentials', httpStatus: 404 }),
    )
    assert.equal(await SSM.read({ fetch }), 'value')
  })

  const BAD_ANSWERS: readonly [what: string, answer: Response][] = [
    ['a refusal', reply(403, `${CANARY}-body`)],
    ['a redirect', reply(302, '', { location: 'http://169.254.169.254/' })],
    ['a page', reply(200, `<html>${CANARY}-body`)],
    ['null', reply(200, 'null')],
    ['nothing in it', reply(200, {})],
    ['more than 8 MiB', reply(200, `"${'x'.repeat(8 * 1024 * 1024)}"`)],
  ]
  for (const [what, answer] of BAD_ANSWERS) {
    test(`that the container answers with ${what} are none`, async () => {
      containerEnvironment('/c')
      const { fetch, signed } = scripted(answer)
      assertKeepsSecrets(await failure(SSM.read({ fetch }), { source: 'ssm', id: SSM.id }))
      assert.equal(signed().length, 0)
    })
  }

  test('that cannot be had say so, with what the container answered', async () => {
    containerEnvironment('/c')
    const none: readonly [answer: Answer, details: Partial<ErrorDetails>, message: string][] = [
      ...[400, 403, 404].map((status): (typeof none)[number] => [
        reply(status, `${CANARY}-body`),
        { code: 'NoCredentials', httpStatus: status },
        `HTTP ${status} without credentials from http://169.254.170.2`,
      ]),
      [
        unreachable('ECONNRESET'),
        { code: 'NetworkError' },
        'no answer from http://169.254.170.2 (ECONNRESET)',
      ],
      [
        reply(200, `{"AccessKeyId":"${CANARY}`),
        { code: 'InvalidAnswer', httpStatus: 200 },
        "http://169.254.170.2 answered HTTP 200 with text/plain, not with AWS's JSON",
      ],
      [
        reply(200, { AccessKeyId: `${CANARY}-id` }),
        { code: 'NoCredentials' },
        'no AccessKeyId and SecretAccessKey from http://169.254.170.2',
      ],
    ]
    for (const [answer, details, message] of none) {
      const { fetch, signed } = scripted(answer)
      const error = await failure(SECRETS.read({ fetch }), {
        source: 'secrets',
        id: SECRETS.id,
        ...details,
      })
      assert.ok(
        error.message.startsWith(`secrets ${SECRETS.id}: container credentials: ${message}`),
        error.message,
      )
      assertKeepsSecrets(error)
      assert.equal(signed().length, 0)
    }
  })

  test('are not asked for at an address that is none', async () => {
    for (const url of ['https://', 'https://a b/', 'https://[::1/', 'https://host:99999/']) {
      containerEnvironment(url)
      const { fetch, sent } = scripted()
      await failure(
        SSM.read({ fetch }),
        { code: 'NoCredentials' },
        'AWS_CONTAINER_CREDENTIALS_FULL_URI',
      )
      assert.equal(sent.length, 0)
    }
  })

  test('that no header can carry are not taken for an answer', async () => {
    setEnvironment({ ...ENVIRONMENT, AWS_ACCESS_KEY_ID: `${CANARY}\nline` })
    const { fetch, sent } = script(SSM.answer('value'))
    assertKeepsSecrets(await failure(SSM.read({ fetch }), { code: 'RequestFailed' }, 'header'))
    assert.equal(sent.length, 0)
  })

  describeOverBoth('of a real container endpoint', () => {
    test('come over real sockets, and do not follow a redirect there', async () => {
      const aws = await local({ parameters: { '/app/value': 'value' } })
      const visits: (string | undefined)[] = []
      const url = await serve(({ url, headers }, response) => {
        visits.push(`${url} ${headers.authorization}`)
        if (url === '/moved')
          return void response.writeHead(302, { location: '/credentials' }).end()
        const {
          AWS_ACCESS_KEY_ID: AccessKeyId,
          AWS_SECRET_ACCESS_KEY: SecretAccessKey,
          AWS_SESSION_TOKEN: Token,
        } = aws.env
        response.end(
          JSON.stringify({
            AccessKeyId,
            SecretAccessKey,
            Token,
            Expiration: new Date(START + HOUR).toISOString(),
          }),
        )
      })
      const more = { AWS_ENDPOINT_URL: aws.url, AWS_CONTAINER_AUTHORIZATION_TOKEN: 'token' }
      containerEnvironment(`${url}/moved`, more)
      await failure(SSM.read(), { code: 'NoCredentials', httpStatus: 302 })
      containerEnvironment(`${url}/credentials`, more)
      assert.equal(await SSM.read(), 'value')
      assert.deepEqual(visits, ['/moved token', '/credentials token'])
    })
  })

  describe('of the option `credentials`', () => {
    const given = (accessKeyId: string, expiresIn?: number): Credentials => ({
      accessKeyId,
      secretAccessKey: `${CANARY}-key`,
      sessionToken: `${CANARY}-token`,
      ...(expiresIn && { expiration: new Date(Date.now() + expiresIn) }),
    })
    const keysIn = (sent: readonly Sent[]) =>
      sent.map(({ headers }) => /Credential=(.*?)\//.exec(headers.authorization ?? '')?.[1])

    test('sign what withCache and direct access read, before the environment', async () => {
      const { fetch, sent } = script(SSM.answer('value'))
      const credentials = () => given('provided')
      await invoking({ ...SSM.entry(), fetch, credentials })()
      await SSM.read({ fetch, credentials, maxAge: 0 })
      setEnvironment({ AWS_REGION: 'us-east-1' })
      await SSM.read({ fetch, credentials: async () => given('promised'), maxAge: 0 })
      assert.deepEqual(keysIn(sent), ['provided', 'provided', 'promised'])
      for (const { headers } of sent)
        assert.equal(headers['x-amz-security-token'], `${CANARY}-token`)
    })

    for (const [code, source] of [
      ['ExpiredTokenException', SSM],
      ['UnrecognizedClientException', SECRETS],
      ['InvalidClientTokenId', SECRETS],
      ['InvalidAccessKeyId', S3],
      ['ExpiredToken', S3],
    ] as const)
      test(`are asked for once more where AWS no longer takes them: ${code}`, async () => {
        const over = source === S3 ? xml(403, code) : refusal(code)
        const { fetch, sent } = script(({ headers }) =>
          /Credential=(.*?)\//.exec(headers.authorization ?? '')?.[1] === 'new'
            ? source.answer('value')
            : over,
        )
        const names = ['old', 'new']
        const credentials = mock.fn(() => given(names.shift() ?? 'newer', HOUR))
        assert.equal(await source.read({ fetch, credentials }), 'value')
        assert.deepEqual(keysIn(sent), ['old', 'new'])
        assert.equal(await source.read({ fetch, credentials, maxAge: 0 }), 'value')
        assert.equal(credentials.mock.callCount(), 2, 'and are kept')
      })

    test('that AWS never takes are asked for twice, and the error is its own', async () => {
      const { fetch, sent } = script(refusal('ExpiredTokenException'))
      const credentials = mock.fn(() => given('old', HOUR))
      await failure(SSM.read({ fetch, credentials }), { code: 'ExpiredTokenException' })
      assert.deepEqual([sent.length, credentials.mock.callCount()], [2, 2])
    })

    test('without a session token are sent without one', async () => {
      const { fetch, sent } = script(SSM.answer('value'))
      const credentials = () => ({ accessKeyId: 'long-lived', secretAccessKey: 'key' })
      await SSM.read({ fetch, credentials })
      assert.equal(sent[0]?.headers['x-amz-security-token'], undefined)
    })

    for (const source of SOURCES) {
      test(`never share what they read: ${source.source}`, async () => {
        const { fetch, sent } = script((request) =>
          source.answer(/Credential=(.*?)\//.exec(request.headers.authorization ?? '')?.[1] ?? ''),
        )
        const [ours, theirs] = [() => given('ours'), () => given('theirs')]
        const read = (credentials?: () => Credentials) =>
          source.read({ fetch, ...(credentials && { credentials }) })
        for (let round = 0; round < 2; round += 1) {
          const values = await Promise.all([read(ours), read(theirs), read()])
          assert.deepEqual(values, ['ours', 'theirs', ENVIRONMENT.AWS_ACCESS_KEY_ID])
        }
        assert.equal(sent.length, 3)
      })
    }

    test('share a file that they download to, if AWS lets each of them read it', async () => {
      const file = join(await temporaryFolder(), 'object')
      const { fetch, sent } = script(reply(200, 'content'), xml(403, 'AccessDenied'))
      const read = (credentials: () => Credentials) =>
        getObject('s3://bucket/key', { file, fetch, credentials })
      await read(() => given('ours'))
      const theirs = read(() => given('theirs'))
      await failure(theirs, { code: 'AccessDenied' })
      assert.equal(sent.length, 2)
    })

    test('are asked for with every signature, where they do not expire', async () => {
      const ids = ['first', 'second', 'third']
      const { fetch, sent } = script(reply(500), SSM.answer('value'))
      const credentials = () => given(present(ids.shift()))
      await SSM.read({ fetch, credentials })
      await SSM.read({ fetch, credentials, maxAge: 0 })
      assert.deepEqual(keysIn(sent), ['first', 'second', 'third'])
    })

    test('are kept until five minutes before they expire', async () => {
      const { fetch, sent } = script(SSM.answer('value'))
      let calls = 0
      const credentials = () => {
        calls += 1
        return given(`call-${calls}`, HOUR)
      }
      const read = () => SSM.read({ fetch, credentials, maxAge: 0 })
      await Promise.all([read(), getSecret('a', { fetch, credentials }).catch(() => {})])
      pass(55 * MINUTE - 1)
      await read()
      assert.equal(calls, 1)
      pass(2)
      await read()
      assert.equal(calls, 2)
      assert.deepEqual(keysIn(sent), ['call-1', 'call-1', 'call-1', 'call-2'])
    })

    test('serve to their end where the function fails', async () => {
      const { fetch } = script(SSM.answer('value'))
      let credentials = (): Credentials => given('id', HOUR)
      const read = () => SSM.read({ fetch, credentials: provider, maxAge: 0 })
      const provider = () => credentials()
      await read()
      credentials = () => {
        throw Error(CANARY)
      }
      pass(56 * MINUTE)
      assert.equal(await read(), 'value')
      pass(4 * MINUTE)
      clearCache()
      assertKeepsSecrets(await failure(read(), { code: 'NoCredentials' }))
    })

    test('that cannot be had are an error without what was thrown, or returned', async () => {
      const providers: readonly (() => unknown)[] = [
        () => {
          throw Error(`${CANARY}-thrown`)
        },
        () => Promise.reject(new LambdaCacheError(CANARY, { code: CANARY })),
        () => Promise.reject(),
        () => undefined,
        () => `${CANARY}-text`,
        () => ({}),
        () => ({ accessKeyId: CANARY }),
        () => ({ secretAccessKey: CANARY }),
      ]
      for (const provider of providers) {
        const { fetch, sent } = script(SSM.answer('value'))
        const credentials = provider as () => Credentials
        const error = await failure(
          SSM.read({ fetch, credentials }),
          { code: 'NoCredentials', source: 'ssm', id: SSM.id },
          `ssm ${SSM.id}: the function \`credentials\` `,
        )
        assertKeepsSecrets(error)
        assert.equal(error.cause, undefined)
        assert.equal(sent.length, 0)
      }
    })

    test('that hang hold an invocation to its deadline, and no later one', async () => {
      let credentials = (): Promise<Credentials> => new Promise(() => {})
      const { fetch } = script(SSM.answer('value'))
      const handler = withCache(async (_: object, context) => context, {
        ...SSM.entry(),
        fetch,
        credentials: () => credentials(),
      })
      await failure(handler({}, contextWith(300)), { code: 'Timeout' })
      credentials = async () => given('id')
      await handler({}, contextWith(3000))
    })

    test('may be what a custom entry loads', async () => {
      const { fetch } = script(SSM.answer('value'))
      const credentials = async () => given('id')
      const values = await invoking(
        { ...SSM.entry(), custom: [{ as: 'own', load: credentials }], fetch, credentials },
        'own',
      )()
      assert.deepEqual(values, [given('id')])
    })

    test('are a function, for withCache and for direct access only', async () => {
      const credentials = given('id') as never
      assert.throws(() => withCache(() => {}, { credentials }), { code: 'InvalidOptions' })
      await failure(
        SSM.read({ credentials }),
        { code: 'InvalidOptions' },
        'getParameter: credentials: expected a function that returns credentials, got an object',
      )
      const name = { name: '/a', credentials: () => given('id') }
      assert.throws(() => withCache(() => {}, { ssm: [name as { name: string }] }), {
        code: 'InvalidOptions',
      })
    })
  })

  test('that are nowhere are asked for by name', async () => {
    for (const partial of [{}, { AWS_ACCESS_KEY_ID: 'id' }, { AWS_SECRET_ACCESS_KEY: 'secret' }]) {
      setEnvironment({ AWS_REGION: 'us-east-1', ...partial })
      const { fetch, sent } = scripted()
      const variables = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'option `credentials`']
      await failure(SSM.read({ fetch }), { code: 'NoCredentials' }, ...variables)
      assert.equal(sent.length, 0)
    }
  })
})
