/** Signature Version 4. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { type SignRequest, sign } from '../lambda-cache.js'
import { failure, START, signing } from './kit.js'

interface Vector {
  readonly name: string
  readonly method: string
  readonly target: string
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: string
  readonly canonicalRequest: string
  readonly stringToSign: string
  readonly signature: string
  readonly context: {
    readonly credentials: {
      readonly access_key_id: string
      readonly secret_access_key: string
      readonly token?: string
    }
    readonly omit_session_token?: boolean
    readonly region: string
    readonly service: string
    readonly timestamp: string
  }
}

const REWRITTEN = 'a URL resolves the segments "." and ".." that this signs as they stand'
const COLLAPSED = 'S3 alone signs double slashes as they stand'
const ENCODED =
  'a URL percent-encodes what stands bare in this path; a service but S3 then signs the percent sign'
const NOT_IN_A_URL: Readonly<Record<string, string>> = {
  'get-relative-relative-unnormalized': REWRITTEN,
  'get-relative-unnormalized': REWRITTEN,
  'get-slash-dot-slash-unnormalized': REWRITTEN,
  'get-slash-pointless-dot-unnormalized': REWRITTEN,
  'get-slash-unnormalized': COLLAPSED,
  'get-slashes-unnormalized': COLLAPSED,
  'get-space-normalized': ENCODED,
  'get-space-unnormalized': ENCODED,
  'get-utf8': ENCODED,
  'post-sts-header-after': 'here the token is added after signing',
}

/** The worked examples of "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk", S3 API Reference. */
const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
const S3_EXAMPLES: readonly [
  title: string,
  request: Pick<SignRequest, 'method' | 'headers' | 'body'>,
  target: string,
  canonicalRequest: string[],
  hash: string,
  signature: string,
][] = [
  [
    'GET Object',
    { method: 'GET', headers: { Range: 'bytes=0-9' } },
    '/test.txt',
    [
      'GET',
      '/test.txt',
      '',
      'host:examplebucket.s3.amazonaws.com',
      'range:bytes=0-9',
      `x-amz-content-sha256:${EMPTY}`,
      'x-amz-date:20130524T000000Z',
      '',
      'host;range;x-amz-content-sha256;x-amz-date',
      EMPTY,
    ],
    '7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972',
    'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  ],
  [
    'PUT Object',
    {
      method: 'PUT',
      headers: {
        Date: 'Fri, 24 May 2013 00:00:00 GMT',
        'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      },
      body: 'Welcome to Amazon S3.',
    },
    '/test%24file.text',
    [
      'PUT',
      '/test%24file.text',
      '',
      'date:Fri, 24 May 2013 00:00:00 GMT',
      'host:examplebucket.s3.amazonaws.com',
      'x-amz-content-sha256:44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
      'x-amz-date:20130524T000000Z',
      'x-amz-storage-class:REDUCED_REDUNDANCY',
      '',
      'date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class',
      '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
    ],
    '9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d',
    '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
  ],
  [
    'GET Bucket Lifecycle',
    { method: 'GET' },
    '/?lifecycle',
    [
      'GET',
      '/',
      'lifecycle=',
      'host:examplebucket.s3.amazonaws.com',
      `x-amz-content-sha256:${EMPTY}`,
      'x-amz-date:20130524T000000Z',
      '',
      'host;x-amz-content-sha256;x-amz-date',
      EMPTY,
    ],
    '9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca',
    'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
  ],
  [
    'Get Bucket (List Objects)',
    { method: 'GET' },
    '/?prefix=J&max-keys=2',
    [
      'GET',
      '/',
      'max-keys=2&prefix=J',
      'host:examplebucket.s3.amazonaws.com',
      `x-amz-content-sha256:${EMPTY}`,
      'x-amz-date:20130524T000000Z',
      '',
      'host;x-amz-content-sha256;x-amz-date',
      EMPTY,
    ],
    'df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7',
    '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  ],
]

describe('Signature Version 4', () => {
  test('drops the token of an earlier signature where the new credentials have none', () => {
    const request: SignRequest = {
      method: 'GET',
      url: 'https://bucket.s3.amazonaws.com/key',
      service: 's3',
      region: 'us-east-1',
      credentials: { accessKeyId: 'id', secretAccessKey: 'key', sessionToken: 'token' },
      date: new Date(START),
    }
    const first = sign(request)
    const credentials = { accessKeyId: 'other', secretAccessKey: 'key' }
    const { authorization } = sign({ ...request, credentials })
    const again = sign({
      ...request,
      headers: { 'X-Amz-Security-Token': 'token', ...first },
      credentials,
    })
    assert.ok(!('x-amz-security-token' in again))
    assert.equal(again.authorization, authorization)
  })

  for (const [title, request, target, lines, hash, signature] of S3_EXAMPLES) {
    test(`signs the example of the S3 API Reference: ${title}`, () => {
      const signed = signing({
        ...request,
        url: `https://examplebucket.s3.amazonaws.com${target}`,
        service: 's3',
        region: 'us-east-1',
        credentials: {
          accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
          secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
        },
        date: new Date('2013-05-24T00:00:00Z'),
      })
      assert.equal(signed.canonicalRequest, lines.join('\n'))
      assert.equal(
        signed.stringToSign,
        `AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n${hash}`,
      )
      assert.equal(signed.signature, signature)
    })
  }

  const vectors = new URL('../../shared/sigv4/vectors.json', import.meta.url)
  const cases = existsSync(vectors)
    ? (JSON.parse(readFileSync(vectors, 'utf8')) as { cases: Vector[] }).cases
    : []
  test("has AWS's test suite at hand", { skip: cases.length === 0 && 'not in this clone' }, () => {
    const carried = cases.filter(({ name }) => !(name in NOT_IN_A_URL))
    assert.ok(carried.length >= 28, `${carried.length} of ${cases.length}`)
    assert.deepEqual(
      Object.keys(NOT_IN_A_URL).filter((name) => !cases.some((vector) => vector.name === name)),
      [],
    )
  })
  for (const { name, context, method, target, headers, body, ...expected } of cases) {
    test(`signs AWS's ${name}`, { skip: NOT_IN_A_URL[name] ?? false }, () => {
      const {
        access_key_id: accessKeyId,
        secret_access_key: secretAccessKey,
        token: sessionToken,
      } = context.credentials
      const joined: Record<string, string> = {}
      for (const [header, value] of headers)
        if (!/^(host|x-amz-date)$/i.test(header))
          joined[header] = header in joined ? `${joined[header]},${value}` : value
      // Some vectors sign the hash of the body, as S3 wants it.
      const [hash] = /(?<=^x-amz-content-sha256:).+/m.exec(expected.canonicalRequest) ?? []
      const signed = signing({
        method,
        url: `https://example.amazonaws.com${target}`,
        headers: { ...joined, ...(hash !== undefined && { 'x-amz-content-sha256': hash }) },
        body,
        service: context.service,
        region: context.region,
        credentials: { accessKeyId, secretAccessKey, sessionToken },
        date: new Date(context.timestamp),
      })
      assert.deepEqual(signed, expected)
    })
  }

  test('gives the headers to send, and changes nothing that it was given', () => {
    const request: SignRequest = Object.freeze({
      method: 'POST',
      url: 'https://ssm.eu-west-1.amazonaws.com/',
      headers: Object.freeze({ 'Content-Type': 'application/x-amz-json-1.1' }),
      body: '{}',
      service: 'ssm',
      region: 'eu-west-1',
      credentials: Object.freeze({
        accessKeyId: 'AKID',
        secretAccessKey: 'SECRET',
        sessionToken: 'TOKEN',
      }),
      date: new Date(START),
    })
    const { authorization, ...headers } = sign(request)
    assert.deepEqual(headers, {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-date': '20260102T030405Z',
      'x-amz-security-token': 'TOKEN',
    })
    assert.match(
      authorization ?? '',
      /^AWS4-HMAC-SHA256 Credential=AKID\/20260102\/eu-west-1\/ssm\/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=[0-9a-f]{64}$/,
    )
    assert.deepEqual(sign(request), sign({ ...request, body: new TextEncoder().encode('{}') }))
    const s3 = sign({ ...request, method: 'GET', service: 's3', body: undefined })
    assert.equal(s3['x-amz-content-sha256'], EMPTY)
  })

  test('signs its own output again, to the same signature', () => {
    const request = {
      method: 'GET',
      url: 'https://bucket.s3.eu-west-1.amazonaws.com/key',
      service: 's3',
      region: 'eu-west-1',
      credentials: { accessKeyId: 'a', secretAccessKey: 'b', sessionToken: 'c' },
      date: new Date(START),
    }
    const once = sign(request)
    assert.deepEqual(sign({ ...request, headers: once }), once)
    assert.deepEqual(sign({ ...request, headers: { Authorization: 'Basic x' } }), once)
  })

  test('says that a date is none', async () => {
    const request = {
      method: 'GET',
      url: 'https://a.example.com/',
      service: 'ssm',
      region: 'eu-west-1',
      credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    }
    await failure(
      () => sign({ ...request, date: new Date(NaN) }),
      { code: 'InvalidOptions' },
      'date',
      'Invalid Date',
    )
  })

  test('signs a port, and sorts a query by name and then by value', () => {
    const request = {
      method: 'GET',
      service: 's3',
      region: 'us-east-1',
      credentials: { accessKeyId: 'A', secretAccessKey: 'S' },
      date: new Date(START),
    }
    const lines = (url: string) => signing({ ...request, url }).canonicalRequest.split('\n')
    assert.ok(lines('http://localhost:4566/').includes('host:localhost:4566'))
    assert.equal(
      lines('https://host/?b=2&a-b=1&a=2&a=10&a=%2B%20!')[2],
      'a=%2B%20%21&a=10&a=2&a-b=1&b=2',
    )
    assert.equal(lines('https://host/a//b/%2520/%2B')[1], '/a//b/%2520/%2B')
    const headers = { 'x-a': '1', 'x-a!b': '2', 'X-A-B': '3' }
    assert.deepEqual(
      signing({ ...request, url: 'https://host/', headers })
        .canonicalRequest.split('\n')
        .slice(4, 9),
      [
        'x-a:1',
        'x-a!b:2',
        'x-a-b:3',
        `x-amz-content-sha256:${EMPTY}`,
        'x-amz-date:20260102T030405Z',
      ],
    )
  })
})
