/** Expressions that take no longer than their text, and addresses. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import ts from 'typescript6'
import {
  type Credentials,
  clearCache,
  type Fetch,
  getObject,
  getParameter,
  getSecret,
  sign,
} from '../lambda-cache.js'
import {
  advance,
  assertKeepsSecrets,
  CANARY,
  failure,
  mockTimeouts,
  parameters,
  reply,
  type Sent,
  script,
  unreachable,
} from './kit.js'

const CREDENTIALS: Credentials = { accessKeyId: 'id', secretAccessKey: 'secret' }
/** Answers with the name that was asked for. */
function echo({ body }: Sent): Response {
  const { Names = [], SecretId = '' } = JSON.parse(body) as { Names?: string[]; SecretId?: string }
  if (SecretId) return reply(200, { SecretString: SecretId })
  return parameters(Object.fromEntries(Names.map((name) => [name, name])))
}

/** All expressions of the file: AWS's answers, or what stands in for them, are read with them. */
function expressions(): RegExp[] {
  const path = fileURLToPath(new URL('../lambda-cache.ts', import.meta.url))
  const source = ts.createSourceFile(path, fs.readFileSync(path, 'utf8'), ts.ScriptTarget.ES2022)
  const found: RegExp[] = []
  function visit(node: ts.Node): void {
    if (ts.isRegularExpressionLiteral(node)) {
      const [, body = '', flags] = /^\/(.*)\/(\w*)$/s.exec(node.text) ?? []
      found.push(new RegExp(body, flags))
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

/** Whether work is done in time, be it once in many tries: others use the machine, too. */
function isDoneWithin(milliseconds: number, work: () => unknown): boolean {
  return Array.from({ length: 20 }).some(() => {
    const began = performance.now()
    work()
    return performance.now() - began < milliseconds
  })
}

describe('expressions', () => {
  const SIGNS = ['a', 'A', '0', ' ', '\n', '/', '-', '.', '"', '<', '=', '&#1', '://', '-a', 'a1']
  const AROUND = [
    ['', '\0'],
    ['\0', ''],
    ['s3://', '\0'],
  ] as const
  /** What takes a quarter of a second for 32 KiB would take minutes for 1 MiB. */
  const LIMITS = [
    [2 ** 15, 250],
    [2 ** 20, 50],
  ] as const
  const all = expressions()

  test('are found', () => assert.ok(all.length > 20))

  for (const expression of all) {
    test(`take no longer than their text is long: ${expression}`, () => {
      const words = expression.source.match(/[\w"<= ]{2,}/g) ?? []
      for (const sign of new Set([...SIGNS, ...words]))
        for (const [start, end] of AROUND)
          for (const [size, limit] of LIMITS) {
            const input = start + sign.repeat(size / sign.length) + end
            const isShort = isDoneWithin(limit, () => input.search(expression))
            assert.ok(isShort, `over ${limit} ms for ${size} bytes of ${JSON.stringify(sign)}`)
          }
    })
  }

  test('see 64 KiB of an error and no more', async () => {
    const code = `<Code>TooLate</Code>`
    for (const [answer, expected] of [
      [`<Error>${' '.repeat(2 ** 16 - 100)}${code}`, 'TooLate'],
      [`<Error>${' '.repeat(2 ** 16)}${code}`, 'Http400'],
    ] as const) {
      const { fetch } = script(reply(400, answer))
      await failure(getObject('s3://bucket/value', { fetch, binary: true }), { code: expected })
    }
  })
})

describe('addresses', () => {
  const NAMES: readonly (readonly [bucket: string, host: string, path: string])[] = [
    ['-bucket', 's3.us-east-1.amazonaws.com', '/-bucket/key'],
    ['bucket-', 's3.us-east-1.amazonaws.com', '/bucket-/key'],
    ['b'.repeat(63), `${'b'.repeat(63)}.s3.us-east-1.amazonaws.com`, '/key'],
    ['b'.repeat(64), 's3.us-east-1.amazonaws.com', `/${'b'.repeat(64)}/key`],
    ['My_Bucket', 's3.us-east-1.amazonaws.com', '/My_Bucket/key'],
    ['a.b', 's3.us-east-1.amazonaws.com', '/a.b/key'],
  ]
  for (const [bucket, host, path] of NAMES) {
    test(`have the bucket where it can stand: ${bucket}`, async () => {
      const { fetch, sent } = script(reply(200, 'content'))
      await getObject(`s3://${bucket}/key`, { fetch, binary: true })
      assert.equal(sent[0]?.url, `https://${host}${path}`)
    })
  }

  test('of a bucket that no URL can carry are refused, and no others', async () => {
    const { fetch, sent } = script(() => reply(200, 'content'))
    const read = () => getObject('s3://xn--bucket/key', { fetch, binary: true })
    // From Node.js 24 on, URLs take such a name, too.
    const isCarried = URL.canParse('https://xn--bucket.s3.us-east-1.amazonaws.com')
    if (isCarried) await read()
    else await failure(read(), { code: 'UnsupportedKey' }, 'xn--')
    await getObject('s3://xn--mnchen-3ya/key', { fetch, binary: true })
    assert.equal(sent.length, isCarried ? 2 : 1)
  })

  test('for S3 there is none with FIPS in China, and for the others there is', async () => {
    Object.assign(process.env, { AWS_REGION: 'cn-north-1', AWS_USE_FIPS_ENDPOINT: 'true' })
    const { fetch, sent } = script(echo)
    await failure(
      getObject('s3://bucket/key', { fetch }),
      { code: 'InvalidEndpoint' },
      'cn-north-1',
    )
    await getSecret('a', { fetch })
    await getParameter('/a', { fetch })
    assert.deepEqual(
      sent.map(({ url }) => url),
      [
        'https://secretsmanager-fips.cn-north-1.amazonaws.com.cn/',
        'https://ssm-fips.cn-north-1.amazonaws.com.cn/',
      ],
    )
  })
})

describe('what an error says', () => {
  const SECRET = `${CANARY} of a header`

  test('is no name or code that is not one word', async () => {
    for (const thrown of [
      Object.assign(new Error('x'), { name: SECRET }),
      Object.assign(new Error('x'), { code: SECRET }),
      new Error('x', { cause: Object.assign(new Error('y'), { code: SECRET }) }),
      new Error('x', { cause: Object.assign(new Error('y'), { name: SECRET }) }),
    ]) {
      const fetch: Fetch = () => Promise.reject(thrown)
      assertKeepsSecrets(await failure(getSecret('a', { fetch }), { code: 'NetworkError' }))
    }
  })

  test('is what is wrong with a Response that is given twice', async () => {
    const shared = reply(200, { SecretString: 'value' })
    const fetch = async () => shared
    const reads = ['a', 'b'].map((id) => getSecret(id, { fetch }))
    const results = await Promise.allSettled(reads)
    const failed = results.find(({ status }) => status === 'rejected') as PromiseRejectedResult
    assert.equal((failed.reason as { code?: string }).code, 'RequestFailed')
    assert.match(String(failed.reason), /a new Response for each call/)
  })

  test('is that a body has been read, and not that the object is empty', async () => {
    const shared = new Response('content')
    const fetch = async () => shared
    await getObject('s3://bucket/a', { fetch, binary: true })
    const again = getObject('s3://bucket/b', { fetch, binary: true })
    await failure(again, { code: 'RequestFailed' }, 'or has read')
  })

  test('is which dates can be signed', () => {
    const request = { method: 'GET', url: 'https://a', service: 's3', region: 'a' }
    for (const date of [new Date(8.64e15), new Date(-1), new Date(NaN), Object.create(null)])
      assert.throws(() => sign({ ...request, credentials: CREDENTIALS, date }), {
        code: 'InvalidOptions',
        message: /^sign: date: expected a valid Date from 1970 to 9999, got /,
      })
  })

  test('is not that a local address is none, however it is written', async () => {
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) delete process.env[name]
    const given = { AccessKeyId: 'id', SecretAccessKey: 'secret' }
    for (const url of ['http://[FD00:EC2::23]/v1', 'http://LOCALHOST/x', 'http://127.0.0.1?x']) {
      process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = url
      const { fetch } = script((sent) =>
        sent.headers['x-amz-date'] ? echo(sent) : reply(200, given),
      )
      assert.equal(await getSecret('a', { fetch }), 'a')
      clearCache()
    }
    process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = 'http://127.0.0.1\\@example.com/'
    const read = getSecret('a', { fetch: script(echo).fetch })
    await failure(read, { code: 'NoCredentials' }, 'written plainly')
  })

  const UNPRINTABLE: readonly (readonly [string, () => Promise<unknown>])[] = [
    [
      'the accessKeyId of `credentials`',
      () =>
        getSecret('a', {
          fetch: script(echo).fetch,
          credentials: () => ({ ...CREDENTIALS, accessKeyId: 'é' }),
        }),
    ],
    [
      'the access key has',
      () => {
        for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'])
          delete process.env[name]
        process.env.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI = '/c'
        const given = reply(200, { AccessKeyId: 'é', SecretAccessKey: 'secret' })
        return getSecret('a', { fetch: script(given).fetch })
      },
    ],
    [
      'AWS_ACCESS_KEY_ID has',
      () => {
        process.env.AWS_ACCESS_KEY_ID = 'é'
        return getSecret('a', { fetch: script(echo).fetch })
      },
    ],
    [
      'the ETag of the object',
      async () => {
        const etagged: Fetch = async () => {
          const response = reply(200, 'x')
          const headers = { get: (name: string) => (name === 'etag' ? '"é"' : null) }
          return { status: 200, headers, body: response.body as never, text: async () => 'x' }
        }
        const options = { fetch: etagged, binary: true, maxAge: 0, staleIfError: 0 } as const
        await getObject('s3://bucket/a', options)
        return getObject('s3://bucket/a', options)
      },
    ],
  ]
  for (const [what, read] of UNPRINTABLE)
    test(`is whose character no header can carry: ${what}`, async () => {
      await failure(
        read(),
        { code: 'RequestFailed' },
        `${what.replace(/ has$/, '')} has a character`,
      )
    })

  test('is which variable is wrong', async () => {
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) delete process.env[name]
    process.env.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI = 'v2/x'
    const read = getSecret('a', { fetch: script(echo).fetch })
    await failure(read, { code: 'NoCredentials' }, 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI')
  })

  test("is AWS's sentence as it is, with its characters", async () => {
    const message = 'a &lt;b&gt; &amp;lt; &#39;c&#39; &#x2F; &#38;lt; &unknown; &#x1F600; &#128512;'
    const xmlError = `<Error><Code>AccessDenied</Code><Message>${message}</Message></Error>`
    const { fetch } = script(reply(403, xmlError))
    const read = getObject('s3://bucket/a', { fetch, binary: true })
    await failure(
      read,
      { code: 'AccessDenied' },
      `"a <b> &lt; 'c' / &lt; &unknown; \u{1F600} \u{1F600}"`,
    )
  })

  test('is that the region is unknown, whatever its name means to JavaScript', async () => {
    const { fetch, sent } = script(echo)
    await getSecret('a', { fetch, region: 'constructor-a-1' })
    assert.equal(sent[0]?.url, 'https://secretsmanager.constructor-a-1.amazonaws.com/')
  })

  test('to wait is for one pause', async () => {
    mockTimeouts()
    const headers = { 'retry-after': '2' }
    const { fetch, sent } = script(reply(500, '', headers), unreachable('ECONNRESET'), echo)
    const read = getSecret('a', { fetch })
    await advance(2300)
    assert.equal(await read, 'a')
    assert.equal(sent.length, 3)
  })
})
