/**
 * The same answers of one server, as the library and as the SDK's clients understand them.
 * Of an error the code and the status are compared and not the text: AWS's own may quote the request, so the library passes none of it on.
 */

import assert from 'node:assert/strict'
import { after, describe, mock, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { GetObjectCommand, type GetObjectCommandOutput, S3Client } from '@aws-sdk/client-s3'
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { GetParametersCommand, paginateGetParametersByPath, SSMClient } from '@aws-sdk/client-ssm'
import { startLocalAws } from '../../examples/local-aws.js'
import {
  clearCache,
  type Fetch,
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
} from '../../lambda-cache.js'
import { present } from '../present.js'
import { FETCHES, failureOf, refusalOf, SDK_OPTIONS, useEnvironment } from './kit.js'

interface Reply {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

interface ErrorCase extends Reply {
  readonly title: string
}

interface ErrorOfSdk extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string }
  readonly $response?: { readonly statusCode: number }
}

const TEXTS = [
  'hello',
  '',
  ' ',
  ' spaced ',
  'a,b,,c',
  'line\nline\r\n',
  '"quoted" \\ back',
  'äöü€ 日本 🎉',
  '\u0000\u2028',
  '{"json":[1]}',
  'x'.repeat(4096),
  '0',
  'false',
  'null',
]

/** A code that stands in the body, in each of the forms that the JSON services and what stands before them give it. */
const JSON_ERRORS: readonly ErrorCase[] = [
  ...[
    'AccessDeniedException',
    'ThrottlingException',
    'UnrecognizedClientException',
    'InvalidKeyId',
    'ResourceNotFoundException',
  ].map((code) => jsonError(`the code alone: ${code}`, 400, { __type: code, message: 'text' })),
  jsonError('a namespace', 400, { __type: 'com.amazonaws.ssm#ParameterNotFound', message: 'text' }),
  jsonError('a namespace, and no message', 400, {
    __type: 'com.amazon.coral.service#UnknownOperationException',
  }),
  jsonError('an address behind it', 400, {
    __type: 'ThrottledException:http://internal.amazon.com/coral/',
    Message: 'text',
  }),
  jsonError('a namespace and an address', 400, {
    __type: 'com.amazon.coral#ValidationException:http://internal.amazon.com/coral/',
  }),
  jsonError('the message first', 400, {
    Message: 'text with "__type": "Other"',
    __type: 'ExpiredTokenException',
  }),
  jsonError(
    'a header besides',
    400,
    { __type: 'DecryptionFailure', Message: 'text' },
    { 'x-amzn-errortype': 'DecryptionFailure' },
  ),
  jsonError('a server error', 500, { __type: 'InternalServerError', message: 'text' }),
  jsonError('a server error of another name', 500, {
    __type: 'InternalServiceError',
    message: 'text',
  }),
  jsonError('unavailable', 503, { __type: 'ServiceUnavailableException' }),
  jsonError('throttled as HTTP says it', 429, {
    __type: 'TooManyRequestsException',
    message: 'text',
  }),
  jsonError('forbidden', 403, { __type: 'AccessDeniedException', message: 'text' }),
  jsonError('a message that quotes what was asked for', 400, {
    message: "Value '<Code>ParameterNotFound</Code>' failed",
    __type: 'ValidationException',
  }),
  jsonError(
    'a header instead',
    400,
    { message: 'text' },
    { 'x-amzn-errortype': 'ThrottlingException:http://internal.amazon.com/coral/' },
  ),
  jsonError('a member of another name', 400, { code: 'ThrottlingException', message: 'text' }),
  {
    title: 'white space before the colon',
    status: 400,
    body: '{ "__type" : "InvalidKeyId", "message" : "text" }',
  },
  {
    title: 'white space',
    status: 400,
    body: '{\n  "message": "text",\n  "__type": "com.amazonaws.ssm#InvalidKeyId"\n}\n',
  },
]

const S3_ERRORS: readonly ErrorCase[] = [
  s3Error(404, 'NoSuchKey'),
  s3Error(404, 'NoSuchBucket'),
  s3Error(404, 'NoSuchVersion'),
  s3Error(403, 'AccessDenied'),
  // What is wrong with the key of an encrypted object.
  s3Error(400, 'KMS.DisabledException'),
  s3Error(400, 'KMS.KMSInvalidStateException'),
  s3Error(400, 'KMS.ThrottlingException'),
  s3Error(403, 'InvalidObjectState', '<StorageClass>GLACIER</StorageClass>'),
  s3Error(403, 'InvalidAccessKeyId', '<AWSAccessKeyId>AKIA</AWSAccessKeyId>'),
  s3Error(
    403,
    'SignatureDoesNotMatch',
    '<StringToSign>&lt;Code&gt;Other&lt;/Code&gt;</StringToSign>',
  ),
  s3Error(403, 'AllAccessDisabled'),
  s3Error(400, 'ExpiredToken'),
  s3Error(400, 'InvalidArgument'),
  s3Error(400, 'AuthorizationHeaderMalformed', '<Region>eu-central-1</Region>'),
  s3Error(405, 'MethodNotAllowed', '<Method>GET</Method>'),
  s3Error(301, 'PermanentRedirect', '<Endpoint>bucket.s3.eu-central-1.amazonaws.com</Endpoint>'),
  s3Error(307, 'TemporaryRedirect', '<Endpoint>bucket.s3.eu-central-1.amazonaws.com</Endpoint>'),
  s3Error(500, 'InternalError'),
  s3Error(503, 'SlowDown'),
  s3Error(503, 'ServiceUnavailable'),
]

/** Answers of whatever stands between. The SDK then names its own trouble: "Unknown", "NotFound", "SyntaxError". */
const ERRORS_WITHOUT_CODE: readonly ErrorCase[] = [400, 403, 404, 500, 502, 503, 504].flatMap(
  (status) => [
    { title: `an empty ${status}`, status },
    {
      title: `a page with ${status}`,
      status,
      headers: { 'content-type': 'text/html' },
      body: '<html><body><h1>Bad luck</h1></body></html>',
    },
  ],
)

let reply: Reply = { status: 200 }
const aws = await startLocalAws()
aws.intercept = (_, response) => {
  // Throttled, attempts go on for 10 s.
  if (reply.status !== 200) mock.timers.tick(4000)
  response.writeHead(reply.status, reply.headers).end(reply.body)
  return true
}
after(() => aws.close())
useEnvironment(() => ({ AWS_ENDPOINT_URL: aws.url }))
// No pauses between attempts, and a clock that this file turns.
mock.method(Math, 'random', () => 0)
mock.timers.enable({ apis: ['Date'], now: Date.now() })

const options = { ...SDK_OPTIONS, endpoint: aws.url }
const ssm = new SSMClient(options)
const secretsManager = new SecretsManagerClient(options)
const s3 = new S3Client({ ...options, forcePathStyle: true })

for (const [fetchName, fetch] of Object.entries(FETCHES)) {
  describe(`with ${fetchName}`, () => {
    describeParameters(fetch)
    describeSecrets(fetch)
    describeObjects(fetch)
    describeErrors(fetch)
  })
}

test('differs for an object with a content-encoding: the library takes it off, the SDK leaves it', async () => {
  const packed = gzipSync('text')
  reply = { status: 200, headers: { 'content-encoding': 'gzip' }, body: packed }
  assert.deepEqual(await bytesOf(readObject()), new Uint8Array(packed))
  for (const fetch of Object.values(FETCHES)) {
    clearCache()
    assert.deepEqual(
      await getObject('s3://bucket/key', { binary: true, fetch }),
      new TextEncoder().encode('text'),
    )
  }
})

test('differs for a text that begins with a byte order mark: the library takes it off, and JSON.parse takes the rest', async () => {
  reply = { status: 200, body: '\ufeff{}' }
  assert.equal(await present((await readObject()).Body).transformToString(), '\ufeff{}')
  assert.deepEqual(
    await getObject('s3://bucket/key', { parse: (text: string) => JSON.parse(text) as unknown }),
    {},
  )
  clearCache()
  assert.deepEqual(
    await getObject('s3://bucket/key', { binary: true }),
    await bytesOf(readObject()),
  )
})

function describeParameters(fetch: Fetch): void {
  test('reads the same values of parameters', async () => {
    const names = TEXTS.slice(0, 10).map((_, index) => `/app/name-${index}`)
    const Parameters = names.map((Name, index) => parameter(Name, present(TEXTS[index])))
    reply = json({ Parameters: Parameters.reverse(), InvalidParameters: [] })
    const { Parameters: expected = [] } = await ssm.send(new GetParametersCommand({ Names: names }))
    const values = new Map(expected.map(({ Name, Value }) => [Name, Value]))
    assert.deepEqual(
      await Promise.all(names.map((name) => getParameter(name, { fetch }))),
      names.map((name) => values.get(name)),
    )
  })
  for (const text of TEXTS) {
    test(`reads the same parameter: ${title(text)}`, async () => {
      reply = json({ Parameters: [parameter('name', text, 'StringList')], InvalidParameters: [] })
      const { Parameters: [expected] = [] } = await ssm.send(
        new GetParametersCommand({ Names: ['name'] }),
      )
      assert.equal(expected?.Value, text)
      assert.equal(await getParameter('name', { fetch }), expected?.Value)
      // The SDK leaves a StringList as it came.
      assert.deepEqual(
        await getParameter('name', { list: true, fetch }),
        expected?.Value?.split(','),
      )
    })
  }
  test('reads the same tree', async () => {
    reply = json({ Parameters: TEXTS.map((text, index) => parameter(`/app/${index}`, text)) })
    const expected: Record<string, string | undefined> = {}
    for await (const { Parameters = [] } of paginateGetParametersByPath(
      { client: ssm },
      { Path: '/app' },
    )) {
      for (const { Name, Value } of Parameters) expected[present(Name).replace('/app/', '')] = Value
    }
    assert.equal(Object.keys(expected).length, TEXTS.length)
    assert.deepEqual({ ...(await getParametersByPath('/app', { fetch })) }, expected)
  })
  test('knows the same names as invalid', async () => {
    reply = json({ Parameters: [parameter('one', '1')], InvalidParameters: ['two', '/three:4'] })
    const names = ['one', 'two', '/three:4']
    const { InvalidParameters } = await ssm.send(new GetParametersCommand({ Names: names }))
    const results = await Promise.allSettled(names.map((name) => getParameter(name, { fetch })))
    assert.deepEqual(
      names.filter((_, index) => present(results[index]).status === 'rejected'),
      InvalidParameters,
    )
  })
}

function describeSecrets(fetch: Fetch): void {
  for (const text of TEXTS) {
    test(`reads the same secret: ${title(text)}`, async () => {
      reply = json({
        ARN: 'arn',
        Name: 'id',
        SecretString: text,
        VersionId: 'version',
        VersionStages: ['AWSCURRENT'],
        CreatedDate: 1.7e9,
      })
      const { SecretString } = await secretsManager.send(
        new GetSecretValueCommand({ SecretId: 'id' }),
      )
      assert.equal(SecretString, text)
      assert.equal(await getSecret('id', { fetch }), SecretString)
    })
  }
  for (const bytes of samples()) {
    test(`reads the same binary secret: ${title(bytes)}`, async () => {
      reply = json({
        ARN: 'arn',
        Name: 'id',
        SecretBinary: Buffer.from(bytes).toString('base64'),
        VersionId: 'version',
        CreatedDate: 1.7e9,
      })
      const { SecretBinary } = await secretsManager.send(
        new GetSecretValueCommand({ SecretId: 'id' }),
      )
      assert.deepEqual(plain(present(SecretBinary)), bytes)
      assert.deepEqual(await getSecret('id', { binary: true, fetch }), plain(present(SecretBinary)))
    })
  }
}

function describeObjects(fetch: Fetch): void {
  for (const bytes of samples()) {
    test(`reads the same object: ${title(bytes)}`, async () => {
      reply = { status: 200, headers: { etag: '"etag"' }, body: bytes }
      const expected = await bytesOf(readObject())
      assert.deepEqual(expected, bytes)
      assert.deepEqual(await getObject('s3://bucket/key', { binary: true, fetch }), expected)
    })
    test(`reads the same text of an object: ${title(bytes)}`, async () => {
      reply = { status: 200, headers: { etag: '"etag"' }, body: bytes }
      const expected = await present((await readObject()).Body).transformToString()
      assert.equal(
        await getObject('s3://bucket/key', { parse: (text: string) => text, fetch }),
        expected,
      )
    })
  }
}

function describeErrors(fetch: Fetch): void {
  const ours = {
    ssm: () => getParameter('name', { fetch }),
    secretsmanager: () => getSecret('id', { fetch }),
    s3: () => getObject('s3://bucket/key', { binary: true, fetch }),
  }
  const sdks = {
    ssm: () => ssm.send(new GetParametersCommand({ Names: ['name'] })),
    secretsmanager: () => secretsManager.send(new GetSecretValueCommand({ SecretId: 'id' })),
    s3: () => readObject(),
  }
  const cases = [
    ...JSON_ERRORS.map((error) => ['ssm', error] as const),
    ...JSON_ERRORS.map((error) => ['secretsmanager', error] as const),
    ...S3_ERRORS.map((error) => ['s3', error] as const),
  ]
  for (const [service, error] of cases) {
    test(`understands the same error of ${service}: ${error.title}`, async () => {
      reply = error
      const { code, httpStatus, requestId } = await refusalOf(ours[service]())
      const { name, $metadata } = (await failureOf(sdks[service]())) as ErrorOfSdk
      assert.deepEqual(
        { code, httpStatus, requestId },
        { code: name, httpStatus: $metadata?.httpStatusCode, requestId: $metadata?.requestId },
      )
    })
  }
  for (const service of ['ssm', 'secretsmanager', 's3'] as const) {
    for (const error of ERRORS_WITHOUT_CODE) {
      test(`gives the status as the code where ${service} gives none: ${error.title}`, async () => {
        reply = error
        const { code, httpStatus } = await refusalOf(ours[service]())
        const { $metadata, $response } = (await failureOf(sdks[service]())) as ErrorOfSdk
        assert.deepEqual(
          { code, httpStatus },
          {
            code: `Http${error.status}`,
            httpStatus: $metadata?.httpStatusCode ?? $response?.statusCode,
          },
        )
      })
    }
  }
}

function json(answer: object): Reply {
  return {
    status: 200,
    headers: { 'content-type': 'application/x-amz-json-1.1' },
    body: JSON.stringify(answer),
  }
}

function jsonError(
  title: string,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): ErrorCase {
  return {
    ...json(body),
    status,
    title,
    headers: {
      'content-type': 'application/x-amz-json-1.1',
      'x-amzn-requestid': 'request-id',
      ...headers,
    },
  }
}

function s3Error(status: number, code: string, more = ''): ErrorCase {
  const error = `<Error><Code>${code}</Code><Message>text</Message>${more}<RequestId>R</RequestId><HostId>H</HostId></Error>`
  const headers = { 'content-type': 'application/xml', 'x-amz-request-id': 'R', 'x-amz-id-2': 'H' }
  return { title: code, status, headers, body: `<?xml version="1.0" encoding="UTF-8"?>\n${error}` }
}

function parameter(Name: string, Value: string, Type = 'String'): object {
  return {
    Name,
    Value,
    Type,
    Version: 1,
    LastModifiedDate: 1.7e9,
    ARN: `arn:aws:ssm:eu-west-1:123456789012:parameter/${Name}`,
    DataType: 'text',
  }
}

/** No bytes, every byte, valid and invalid UTF-8, and more than a chunk. */
function samples(): Uint8Array[] {
  const everyByte = Uint8Array.from({ length: 256 }, (_, index) => index)
  const texts = TEXTS.map((text) => new TextEncoder().encode(text))
  const large = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 7) % 251)
  return [...texts, everyByte, Uint8Array.of(0xff, 0xfe, 0xc3, 0x28), large]
}

function title(content: string | Uint8Array): string {
  if (content.length > 40) return `${content.length} characters or bytes`
  return JSON.stringify(
    typeof content === 'string' ? content : Buffer.from(content).toString('latin1'),
  )
}

async function readObject(): Promise<GetObjectCommandOutput> {
  return s3.send(new GetObjectCommand({ Bucket: 'bucket', Key: 'key' }))
}

async function bytesOf(output: Promise<GetObjectCommandOutput>): Promise<Uint8Array> {
  return plain(await present((await output).Body).transformToByteArray())
}

/** The SDK gives a Buffer in some places. */
function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes)
}
