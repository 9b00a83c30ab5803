/** The same calls made by the library and by the SDK's clients, as they arrive at one server, which verifies every signature. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { GetObjectCommand, type GetObjectCommandInput, S3Client } from '@aws-sdk/client-s3'
import {
  GetSecretValueCommand,
  type GetSecretValueCommandInput,
  SecretsManagerClient,
} from '@aws-sdk/client-secrets-manager'
import {
  type GetParametersByPathCommandInput,
  GetParametersCommand,
  paginateGetParametersByPath,
  SSMClient,
} from '@aws-sdk/client-ssm'
import { type LocalRequest, type Seed, startLocalAws } from '../../examples/local-aws.js'
import {
  type Fetch,
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  type Options,
  withCache,
} from '../../lambda-cache.js'
import { FETCHES, failureOf, refusalOf, SDK_OPTIONS, useEnvironment } from './kit.js'

/** Headers in which the two may differ, and why. All others have to be the same, whoever sends them. */
const TOLERATED: Readonly<Record<string, string>> = {
  authorization: 'signs the other headers here; its scope is compared, and the server verifies it',
  'x-amz-date': 'the time of the call',
  'user-agent': 'the name of the client',
  'x-amz-user-agent': 'the name of the client, again',
  'amz-sdk-invocation-id': "the SDK's own numbering of calls",
  'amz-sdk-request': "the SDK's own numbering of attempts",
  'x-amz-checksum-mode':
    'the SDK asks S3 for checksums and checks them; the library checks the length',
  connection: 'a matter of the HTTP client',
  accept: 'what the global fetch adds',
  'accept-encoding': 'what the global fetch adds',
  'accept-language': 'what the global fetch adds',
  'sec-fetch-mode': 'what the global fetch adds',
  pragma: 'what the global fetch adds to a conditional request, for proxies',
  'cache-control': 'the same',
}

/** The same, for the JSON services alone. */
const TOLERATED_JSON: Readonly<Record<string, string>> = {
  'x-amz-content-sha256': 'the SDK sends it everywhere; no service but S3 needs it',
}

/** What the SDK adds to the query of GetObject: the name of the operation, which S3 ignores. */
const OPERATION_QUERY = /[?&]x-id=GetObject$/

const KEYS = [
  'plain.txt',
  'path/to/object.json',
  'a space',
  'a  b',
  ' a ',
  'a+b',
  'a%b',
  'a%20b',
  'a%2Fb',
  `a"b'c`,
  `!'()*`,
  'a&b=c;d,e:f@g$h',
  '~-._',
  '<a>{b}[c]|d\\e^f`g',
  'a?b',
  'a?versionId=b',
  'a#b',
  'äöü/ß€',
  'e\u0301',
  '日本語.txt',
  '🎉',
  'a\tb',
  'a\nb',
  'a\r\nb',
  'a\u0001b\u007f',
  '/leading',
  '//leading',
  'a//b',
  'a///b/',
  'trailing/',
  '...',
  'a/...',
  '.a/b.',
  '..a/b',
  'a/.b',
  '%2e%2e/a',
  '%',
  'arn:aws:s3:::b/k',
  's3://a/b',
  'a*b?c',
]

const NAMES = Array.from({ length: 23 }, (_, index) => `/many/name-${index}`)
const ARN = 'arn:aws:ssm:eu-west-1:123456789012:parameter/app/var'
const SECRET_ARN = 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:/app/login'

const aws = await startLocalAws(seed())
after(() => aws.close())
useEnvironment(() => ({ AWS_ENDPOINT_URL: aws.url }))
const versionId = aws.putSecret('/app/login', 'new')
const objectVersionId = aws.putObject('s3://bucket/path/to/object.json', '{"release":2}').versionId

const options = { ...SDK_OPTIONS, endpoint: aws.url }
const ssm = new SSMClient(options)
const secretsManager = new SecretsManagerClient(options)
const s3 = new S3Client({ ...options, forcePathStyle: true })

for (const [fetchName, fetch] of Object.entries(FETCHES)) {
  describe(`with ${fetchName}`, () => {
    describeParameters(fetch)
    describeTrees(fetch)
    describeSecrets(fetch)
    describeObjects(fetch)
  })
}

function describeParameters(fetch: Fetch): void {
  for (const name of [
    '/app/var',
    'plain',
    '/app/var:1',
    '/app/var:live',
    ARN,
    `${ARN}:1`,
    `${ARN}:live`,
    '/app/ä.b-c_d',
  ]) {
    test(`asks for the parameter ${name}`, () =>
      compare(
        () => getParameter(name, { fetch }),
        () => getParameters([name], true),
      ))
  }
  for (const decrypt of [true, false]) {
    test(`asks with decrypt ${decrypt}`, () =>
      compare(
        () => getParameter('/app/safe', { decrypt, fetch }),
        () => getParameters(['/app/safe'], decrypt),
      ))
  }
  test('asks for a StringList', () =>
    compare(
      () => getParameter('/app/list', { list: true, fetch }),
      () => getParameters(['/app/list'], true),
    ))
  test('asks for names in batches of ten', () =>
    compare(
      () => Promise.all(NAMES.map((name) => getParameter(name, { fetch }))),
      () =>
        Promise.all(
          [0, 10, 20].map((start) => getParameters(NAMES.slice(start, start + 10), true)),
        ),
    ))
  test('asks for a group', () =>
    compare(
      () => invoke({ ssm: [{ names: NAMES.slice(0, 3), as: 'group', decrypt: false }], fetch }),
      () => getParameters(NAMES.slice(0, 3), false),
    ))
  test('asks in another region', () =>
    compare(
      () => getParameter('/app/var', { region: 'ap-south-1', fetch }),
      () =>
        new SSMClient({ ...options, region: 'ap-south-1' }).send(
          new GetParametersCommand({ Names: ['/app/var'], WithDecryption: true }),
        ),
    ))
}

function describeTrees(fetch: Fetch): void {
  test('asks for a tree with one page', () =>
    compare(
      () => getParametersByPath('/app', { fetch }),
      () => getTree({ Path: '/app', WithDecryption: true }),
      1,
    ))
  test('asks for a tree page by page', () =>
    compare(
      () => getParametersByPath('/many', { fetch }),
      () => getTree({ Path: '/many', WithDecryption: true }),
      3,
    ))
  for (const recursive of [true, false]) {
    test(`asks for a tree with recursive ${recursive} and no decryption`, () =>
      compare(
        () => getParametersByPath('/deep/', { recursive, decrypt: false, fetch }),
        () => getTree({ Path: '/deep/', Recursive: recursive, WithDecryption: false }),
      ))
  }
}

function describeSecrets(fetch: Fetch): void {
  for (const SecretId of ['/app/login', SECRET_ARN, 'plain-secret']) {
    test(`asks for the secret ${SecretId}`, () =>
      compare(
        () => getSecret(SecretId, { fetch }),
        () => getSecretValue({ SecretId }),
      ))
  }
  const selections: { versionId?: string; versionStage?: string }[] = [
    { versionId },
    { versionStage: 'AWSPREVIOUS' },
    { versionId, versionStage: 'AWSCURRENT' },
  ]
  for (const selection of selections) {
    const { versionId: VersionId, versionStage: VersionStage } = selection
    test(`asks for a secret's ${Object.keys(selection).join(' and ')}`, () =>
      compare(
        () => getSecret('/app/login', { ...selection, fetch }),
        () => getSecretValue({ SecretId: '/app/login', VersionId, VersionStage }),
      ))
  }
  test('asks for a binary secret', () =>
    compare(
      () => getSecret('bytes', { binary: true, fetch }),
      () => getSecretValue({ SecretId: 'bytes' }),
    ))
}

function describeObjects(fetch: Fetch): void {
  for (const key of KEYS) {
    test(`asks for the object ${JSON.stringify(key)}`, () =>
      compare(
        () => getObject(`s3://bucket/${key}`, { binary: true, fetch }),
        () => readObject({ Bucket: 'bucket', Key: key }),
      ))
  }
  for (const key of ['.', '..', 'a/./b', 'a/../b', '../a', 'a/..']) {
    // The SDK's HTTP client sends such a path as it is. No URL can carry it, and fetch takes URLs.
    test(`refuses the key ${JSON.stringify(key)} and sends nothing`, async () => {
      aws.requests.length = 0
      assert.equal(
        (await refusalOf(getObject(`s3://bucket/${key}`, { binary: true, fetch }))).code,
        'UnsupportedKey',
      )
      assert.equal(aws.requests.length, 0)
    })
  }
  test("asks for an object's version", () =>
    compare(
      () =>
        getObject('s3://bucket/path/to/object.json', {
          versionId: objectVersionId,
          binary: true,
          fetch,
        }),
      () =>
        readObject({ Bucket: 'bucket', Key: 'path/to/object.json', VersionId: objectVersionId }),
    ))
  for (const VersionId of ['null', 'a+b/c=d e', `!'()*`, 'ä&x=y#z']) {
    test(`asks for the version ${VersionId}`, () =>
      compare(
        () =>
          refusalOf(
            getObject('s3://bucket/plain.txt', { versionId: VersionId, binary: true, fetch }),
          ),
        () => failureOf(readObject({ Bucket: 'bucket', Key: 'plain.txt', VersionId })),
      ))
  }
  test('asks again with the ETag', async () => {
    const { etag: IfNoneMatch } = aws.putObject('s3://bucket/plain.txt', 'plain')
    await getObject('s3://bucket/plain.txt', { binary: true, fetch })
    await compare(
      () => getObject('s3://bucket/plain.txt', { binary: true, maxAge: 0, fetch }),
      // To the SDK a 304 is a failure.
      () => failureOf(readObject({ Bucket: 'bucket', Key: 'plain.txt', IfNoneMatch })),
    )
  })
  for (const bucket of ['a.bucket.with.dots', 'Upper_bucket']) {
    test(`asks for an object in ${bucket}`, () =>
      compare(
        () => getObject(`s3://${bucket}/key`, { binary: true, fetch }),
        () => readObject({ Bucket: bucket, Key: 'key' }),
      ))
  }
}

/** Makes a call both ways and compares what arrived. */
async function compare(
  ours: () => Promise<unknown>,
  sdks: () => Promise<unknown>,
  calls?: number,
): Promise<void> {
  const [made, wanted] = [await record(ours), await record(sdks)]
  assert.ok(
    wanted.length > 0 && wanted.length === (calls ?? wanted.length),
    `the SDK made ${wanted.length} calls`,
  )
  assert.deepEqual(made.map(comparable), wanted.map(comparable))
}

async function record(call: () => Promise<unknown>): Promise<LocalRequest[]> {
  aws.requests.length = 0
  await call()
  // Calls that are made side by side arrive in any order.
  return [...aws.requests].sort(
    (one, other) => Number(one.body > other.body) - Number(one.body < other.body),
  )
}

function comparable({ service, method, target, headers, body }: LocalRequest): unknown {
  const [, scope] = /Credential=([^,]*)/.exec(headers.authorization ?? '') ?? []
  const isJson = service !== 's3'
  const telling = Object.entries(headers).filter(
    ([name]) => !(name in TOLERATED) && !(isJson && name in TOLERATED_JSON),
  )
  return {
    method,
    target: target.replace(OPERATION_QUERY, ''),
    scope,
    headers: Object.fromEntries(
      isJson ? telling.filter(([name]) => name !== 'content-length') : telling,
    ),
    // The order of the members of a JSON object means nothing, and their number shows here.
    body: isJson ? JSON.parse(body) : body,
  }
}

async function invoke(given: Options): Promise<unknown> {
  return withCache(async () => {}, given)({}, { getRemainingTimeInMillis: () => 60_000 } as never)
}

async function getParameters(Names: string[], WithDecryption: boolean): Promise<unknown> {
  return ssm.send(new GetParametersCommand({ Names, WithDecryption }))
}

/** The page size of AWS's own choice. */
async function getTree(input: GetParametersByPathCommandInput): Promise<unknown> {
  const pages: unknown[] = []
  for await (const page of paginateGetParametersByPath({ client: ssm }, input)) pages.push(page)
  return pages
}

async function getSecretValue(
  input: { [K in keyof GetSecretValueCommandInput]: GetSecretValueCommandInput[K] | undefined },
): Promise<unknown> {
  return secretsManager.send(new GetSecretValueCommand(input as GetSecretValueCommandInput))
}

async function readObject(input: GetObjectCommandInput): Promise<unknown> {
  const { Body } = await s3.send(new GetObjectCommand(input))
  return Body?.transformToByteArray()
}

function seed(): Seed {
  const objects = [
    ...KEYS.map((key) => `bucket/${key}`),
    'a.bucket.with.dots/key',
    'Upper_bucket/key',
  ]
  return {
    parameters: {
      '/app/var': { value: 'hello', labels: ['live'] },
      '/app/safe': { value: 'hidden', type: 'SecureString' },
      '/app/list': { value: 'a,b', type: 'StringList' },
      '/app/ä.b-c_d': 'awkward',
      plain: 'hello',
      '/deep/one': '1',
      '/deep/er/two': '2',
      ...Object.fromEntries(NAMES.map((name) => [name, name])),
    },
    secrets: { '/app/login': 'old', 'plain-secret': 'plain', bytes: { base64: 'AP8=' } },
    objects: Object.fromEntries(objects.map((path) => [`s3://${path}`, path])),
  }
}
