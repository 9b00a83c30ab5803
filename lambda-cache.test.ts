/**
 * The tests of lambda-cache.ts, in the order of its sections: node:test through tsx, against the AWS of examples/local-aws.ts
 * or against a fetch that answers from a script. Traffic stays on loopback, and the clock stands still.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, readdir, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, mock, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { inspect, promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import type { Context, Handler } from 'aws-lambda'
import { transformSync } from 'esbuild'
import { startLocalAws, type LocalAws, type Seed } from './examples/local-aws.js'
import {
  clearCache,
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  json,
  LambdaCacheError,
  sign,
  signature,
  withCache,
  type EntryOptions,
  type ErrorDetails,
  type Fetch,
  type LambdaContext,
  type Options,
  type SignRequest,
} from './lambda-cache.js'

// ---- Kit: every test begins with an empty cache, a clock that stands still, and an environment of its own ----

const START = Date.parse('2026-01-02T03:04:05.678Z')
const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

/** What holds this word is not to be seen in any error. */
const CANARY = 'canary'

const ENVIRONMENT = {
  AWS_REGION: 'us-east-1',
  AWS_ACCESS_KEY_ID: `${CANARY}-access-key-id`,
  AWS_SECRET_ACCESS_KEY: `${CANARY}-secret-access-key`,
  AWS_SESSION_TOKEN: `${CANARY}-session-token`,
}

const originalEnvironment = { ...process.env }
const originalFetch = globalThis.fetch
const cleanups: (() => unknown)[] = []

beforeEach(() => {
  clearCache()
  setEnvironment(ENVIRONMENT)
  mock.timers.enable({ apis: ['Date'], now: START })
  // No pause before a retry, unless a test wants to see one.
  mock.method(Math, 'random', () => 0)
  mock.method(globalThis, 'fetch', (url: string, init: RequestInit) => {
    assert.match(url, /^http:\/\/(127\.0\.0\.1|localhost)[:/]/, 'a test calls loopback only')
    return originalFetch(url, init)
  })
})

afterEach(async () => {
  mock.timers.reset()
  mock.restoreAll()
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  // The sockets of fetch close with the server's, and take their timers along: under a mocked clearTimeout these would go on.
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve))
  for (const name of Object.keys(process.env)) delete process.env[name]
  Object.assign(process.env, originalEnvironment)
})

/** In place of whatever is set for AWS and for this library. */
function setEnvironment(variables: Record<string, string>): void {
  for (const name of Object.keys(process.env)) if (/^(AWS|LAMBDA)_/.test(name)) delete process.env[name]
  Object.assign(process.env, variables)
}

async function local(seed: Seed = {}): Promise<LocalAws> {
  const aws = await startLocalAws(seed)
  cleanups.push(() => aws.close())
  Object.assign(process.env, aws.env)
  return aws
}

/** Another server on loopback. */
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lambda-cache-test-'))
  cleanups.push(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A request as a scripted fetch was given it. */
interface Sent {
  readonly url: string
  readonly method: string
  readonly headers: Record<string, string>
  readonly body: string
  readonly signal: AbortSignal
  readonly at: number
}

type Answer = Response | Error | 'never'

interface Script {
  readonly fetch: Fetch
  readonly sent: Sent[]
}

/** A fetch that gives these answers in turn, the last of them again and again. */
function script(...answers: (Answer | ((sent: Sent) => Answer))[]): Script {
  const sent: Sent[] = []
  const fetch: Fetch = async (url, { redirect, body = '', ...init }) => {
    assert.equal(redirect, 'manual')
    const request = { url, body, ...init, at: Date.now() }
    const answer = answers[Math.min(sent.push(request), answers.length) - 1]
    const given = answer instanceof Response ? await copyOf(answer) : typeof answer === 'function' ? answer(request) : answer
    if (given instanceof Error) throw given
    if (given instanceof Response) return given
    return new Promise((_, reject) => init.signal.addEventListener('abort', () => reject(init.signal.reason as Error)))
  }
  return { fetch, sent }
}

/** With a body of its own: one that is cloned cannot be cancelled alone. */
async function copyOf(answer: Response): Promise<Response> {
  const { status, headers, body } = answer
  return new Response(body && (await answer.clone().arrayBuffer()), { status, headers })
}

function reply(status: number, body: string | object = '', headers: Record<string, string> = {}): Response {
  const content = typeof body === 'string' ? body : JSON.stringify(body)
  return new Response(content === '' ? null : content, { status, headers: { date: new Date(START).toUTCString(), ...headers } })
}

/** An error of a JSON service. */
function refusal(code: string, message = `${CANARY}-body`, headers?: Record<string, string>): Response {
  return reply(400, { __type: `com.amazonaws.service#${code}`, message }, headers)
}

/** An error of S3. */
function xml(status: number, code: string, headers?: Record<string, string>): Response {
  return reply(status, `<?xml version="1.0"?>\n<Error><Code>${code}</Code><Message>${CANARY}-body</Message></Error>`, headers)
}

function parameters(values: Record<string, string>, invalid: string[] = []): Response {
  return reply(200, { Parameters: Object.entries(values).map(([Name, Value]) => ({ Name, Value })), InvalidParameters: invalid })
}

/** What fetch rejects with when there is no answer. */
function unreachable(code: string): TypeError {
  return new TypeError('fetch failed', { cause: Object.assign(new Error(`${code} ${CANARY}-body`), { code }) })
}

/** Lets everything go on that waits for neither the network nor a timer. */
async function turns(count = 5): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

async function until(condition: () => boolean): Promise<void> {
  const start = performance.now()
  while (!condition()) {
    assert.ok(performance.now() - start < 10 * SECOND, `waiting in vain for ${condition}`)
    await turns(1)
  }
}

/** Runs under mocked timeouts: a millisecond passes whenever nothing else goes on. */
async function elapse<T>(work: () => Promise<T>): Promise<T> {
  mock.timers.reset()
  mock.timers.enable({ apis: ['Date', 'setTimeout'], now: START })
  let settled = false
  const promise = work().finally(() => (settled = true))
  promise.catch(() => {})
  for (await turns(); !settled; await turns(1)) {
    assert.ok(Date.now() < START + MINUTE, 'still not done after a minute')
    mock.timers.tick(1)
  }
  return promise
}

/** Moves the clock that stands still. */
function pass(milliseconds: number): void {
  mock.timers.setTime(Date.now() + milliseconds)
}

function lambdaContext(): LambdaContext {
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: 'function',
    functionVersion: '$LATEST',
    invokedFunctionArn: 'arn:aws:lambda:us-east-1:123456789012:function:function',
    memoryLimitInMB: '128',
    awsRequestId: 'request',
    logGroupName: 'group',
    logStreamName: 'stream',
    getRemainingTimeInMillis: () => 5 * MINUTE,
  }
}

/** Invokes a handler that gives what its context holds under these names. */
function invoking(options: Options, ...names: string[]): () => Promise<unknown[]> {
  const handler = withCache((_: unknown, context) => names.map((name) => Reflect.get(context, name) as unknown), options)
  return () => handler({}, lambdaContext())
}

/** The error of a call, which must be one of the library's, with these details and these texts in its message. */
async function failure(call: unknown, details: Partial<ErrorDetails> = {}, ...texts: string[]): Promise<LambdaCacheError> {
  const error: unknown = await (async () => (typeof call === 'function' ? (call as () => unknown)() : call))().then(
    (value) => assert.fail(`expected an error, got ${inspect(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof LambdaCacheError, inspect(error))
  const got = Object.fromEntries(Object.keys(details).map((name) => [name, Reflect.get(error, name) as unknown]))
  assert.deepEqual(got, details, error.message)
  for (const text of texts) assert.ok(error.message.includes(text), `expected "${text}" in: ${error.message}`)
  return error
}

/** Everything that a logger could make of an error. */
function everythingIn(error: unknown): string {
  const { message, stack, cause } = error as Error
  return [String(error), message, stack, inspect(error, { depth: 10, showHidden: true }), JSON.stringify(error), JSON.stringify(cause), inspect(cause)].join('\n')
}

function assertKeepsSecrets(error: unknown): void {
  const text = everythingIn(error)
  assert.ok(!text.includes(CANARY), text)
  assert.doesNotMatch(text, /[0-9a-f]{64}|Signature=/, 'a signature')
}

/** SigV4's three strings. */
function signing(request: SignRequest) {
  const { canonicalRequest, stringToSign, headers } = signature(request)
  assert.deepEqual(sign(request), headers)
  const [, hex] = /Signature=(\w+)$/.exec(headers['authorization'] ?? '') ?? []
  return { canonicalRequest, stringToSign, signature: hex }
}

const text = (content: string): string => content

/** A value as somebody reads it: with what entries of every source have in common. */
type Shared = Pick<EntryOptions, 'maxAge' | 'region' | 'default' | 'parse'>

/** What the contract needs to know of a source. */
interface SourceCase {
  readonly source: 'ssm' | 'secrets' | 's3'
  readonly id: string
  /** As it stands in the requests. */
  readonly action: string
  readonly codes: { readonly denied: string; readonly missing: string }
  /** Statuses with which a proxy's page is no answer. */
  readonly malformed: readonly number[]
  read(options?: Shared & { readonly fetch?: Fetch }): Promise<unknown>
  entry(options?: Shared & { readonly as?: string }): Options
  put(aws: LocalAws, value: string): unknown
  answer(value: string): Response
}

const SOURCES: readonly SourceCase[] = [
  {
    source: 'ssm',
    id: '/app/value',
    action: 'ssm:GetParameters',
    codes: { denied: 'AccessDeniedException', missing: 'ParameterNotFound' },
    malformed: [200, 403],
    read: (options) => getParameter('/app/value', options),
    entry: (options) => ({ ssm: [{ name: '/app/value', ...options }] }),
    put: (aws, value) => aws.putParameter('/app/value', value),
    answer: (value) => parameters({ '/app/value': value }),
  },
  {
    source: 'secrets',
    id: 'app/value',
    action: 'secretsmanager:GetSecretValue',
    codes: { denied: 'AccessDeniedException', missing: 'ResourceNotFoundException' },
    malformed: [200, 403],
    read: (options) => getSecret('app/value', options),
    entry: (options) => ({ secrets: [{ id: 'app/value', ...options }] }),
    put: (aws, value) => aws.putSecret('app/value', value),
    answer: (value) => reply(200, { SecretString: value }),
  },
  {
    source: 's3',
    id: 's3://bucket/app/value',
    action: 's3:GetObject',
    codes: { denied: 'AccessDenied', missing: 'NoSuchKey' },
    // Any bytes with 200 are the object.
    malformed: [403],
    read: (options) => getObject('s3://bucket/app/value', { parse: text, ...options }),
    entry: (options) => ({ s3: [{ uri: 's3://bucket/app/value', parse: text, ...options }] }),
    put: (aws, value) => aws.putObject('s3://bucket/app/value', value),
    answer: (value) => reply(200, value),
  },
]

/** Where one source will do, since the sources share the code. */
const [SSM, SECRETS, S3] = SOURCES as [SourceCase, SourceCase, SourceCase]

// ---- Options and types: checked by tsc alone ----

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Compiles where `T` is true. */
function is<T extends true>(..._: T[]): void {}

interface Flags {
  readonly dark: boolean
}

describe('types', () => {
  test('infer names and types from every form of entry', () => {
    withCache(
      async (event: { name: string }, context) => {
        is<Equal<typeof event.name, string>>()
        is<Equal<typeof context.var, string>>()
        is<Equal<typeof context.pinned, string>>()
        is<Equal<typeof context.from_arn, string>>()
        is<Equal<typeof context.named, string>>()
        is<Equal<typeof context.hosts, string[]>>()
        is<Equal<typeof context.flags, Flags>>()
        is<Equal<typeof context.optional, string | undefined>>()
        is<Equal<typeof context.limit, number | null>>()
        is<Equal<typeof context.db, { readonly host: string; readonly port: string }>>()
        is<Equal<typeof context.limits, { readonly low: number; readonly high: number }>>()
        is<Equal<typeof context.app, Readonly<Record<string, string>>>>()
        is<Equal<typeof context.conn_string, string>>()
        is<Equal<typeof context.key, Uint8Array>>()
        is<Equal<typeof context.login, Flags>>()
        is<Equal<(typeof context)['object.json'], string>>()
        is<Equal<typeof context.model, Uint8Array>>()
        is<Equal<typeof context.settings, Flags>>()
        is<Equal<typeof context.awsRequestId, string>>()
        is<Equal<ReturnType<typeof context.getRemainingTimeInMillis>, number>>()
        // @ts-expect-error: nobody asked for this
        void context.other
        // @ts-expect-error: the last segment is the name
        void context['/prod/app/var']
        // @ts-expect-error: with a name of its own, the last segment is none
        void context.unnamed
        // @ts-expect-error: shared values are not to be modified
        context.var = 'another'
      },
      {
        ssm: [
          '/prod/app/var',
          '/prod/app/pinned:3',
          'arn:aws:ssm:eu-west-1:123456789012:parameter/prod/from_arn',
          { name: '/prod/unnamed', as: 'named' },
          { name: '/prod/hosts', list: true },
          { name: '/prod/flags', parse: json<Flags> },
          { name: '/prod/optional', default: undefined },
          { name: '/prod/limit', parse: Number, default: null },
          { names: ['/prod/db/host', '/prod/db/port'], as: 'db' },
          { names: ['/prod/low', '/prod/high:current'], as: 'limits', parse: Number },
          { path: '/prod/app' },
        ],
        secrets: [
          '/prod/db/conn_string',
          { id: '/prod/db/key', binary: true },
          { id: 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:login-AbCdEf', as: 'login', parse: json<Flags> },
        ],
        s3: [
          's3://bucket/path/to/object.json',
          { uri: 's3://bucket/model', binary: true },
          { uri: 's3://bucket/settings.json', as: 'settings', parse: json<Flags> },
        ],
      },
    )
  })

  test('infer the results of direct access', () => {
    const calls = () => {
      is<Equal<Awaited<ReturnType<typeof one>>, string>>()
      is<Equal<Awaited<ReturnType<typeof two>>, string[]>>()
      is<Equal<Awaited<ReturnType<typeof three>>, Flags | undefined>>()
      is<Equal<Awaited<ReturnType<typeof four>>, Readonly<Record<string, number>>>>()
      is<Equal<Awaited<ReturnType<typeof five>>, Uint8Array>>()
      is<Equal<Awaited<ReturnType<typeof six>>, string>>()
    }
    const one = () => getParameter('/a')
    const two = () => getParameter('/a', { list: true })
    const three = () => getSecret('a', { parse: json<Flags>, default: undefined })
    const four = () => getParametersByPath('/a', { parse: Number })
    const five = () => getSecret('a', { binary: true })
    const six = () => getObject('s3://bucket/a', { maxAge: 0 })
    void calls
  })

  test('refuse options that make no sense', () => {
    const ignored = () => {
      // @ts-expect-error: no such source
      withCache(() => {}, { dynamodb: [] })
      // @ts-expect-error: no number
      withCache(() => {}, { maxAge: '60' })
      // @ts-expect-error: no name
      withCache(() => {}, { ssm: [{ as: 'a' }] })
      // @ts-expect-error: no text
      withCache(() => {}, { secrets: [1] })
      // @ts-expect-error: a group needs `as`
      withCache(() => {}, { ssm: [{ names: ['/a'] }] })
      // @ts-expect-error: of trees alone
      void getParameter('/a', { recursive: 'yes' })
    }
    void ignored
  })

  test('fit the Handler of @types/aws-lambda without a cast', () => {
    const plain: Handler<{ name: string }, string> = withCache(async (event: { name: string }, context) => event.name + context.var, { ssm: ['/a/var'] })
    const annotated: Handler<{ id: number }, number> = withCache(async (event: { id: number }, context: Context) => event.id + context.logGroupName.length, {
      ssm: ['/a/var'],
    })
    const whole: Handler = withCache(async () => {}, {})
    // @ts-expect-error: the event is the handler's
    const wrong: Handler<{ name: number }> = withCache(async (event: { name: string }) => event.name, {})
    for (const handler of [plain, annotated, whole, wrong]) assert.equal(typeof handler, 'function')
  })

  test('take the global fetch, and the context of the runtime', () => {
    const fetch: Fetch = globalThis.fetch
    const context = (given: Context): LambdaContext => given
    assert.equal(typeof fetch, typeof context)
  })
})

// ---- Errors ----

const AWS_HOSTS = { ssm: 'ssm.us-east-1.amazonaws.com', secrets: 'secretsmanager.us-east-1.amazonaws.com', s3: 'bucket.s3.us-east-1.amazonaws.com' }

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
  { code: 'InvalidOptions', message: 'maxAge: expected number >= 0, got NaN', act: () => withCache(() => {}, { maxAge: NaN }) },
  { code: 'InvalidOptions', message: 'retries: expected no such option here, got 3', act: () => withCache(() => {}, { retries: 3 } as Options) },
  { code: 'InvalidOptions', message: 'ssm: expected array, got "/app/value"', act: () => withCache(() => {}, { ssm: '/app/value' } as never) },
  { code: 'InvalidOptions', message: 'name: expected non-empty string, got undefined', act: () => withCache(() => {}, { ssm: [{}] } as never) },
  { code: 'InvalidOptions', message: 'as: expected a name that is not taken, got "key"', act: () => withCache(() => {}, { ssm: ['/a/key', '/b/key'] }) },
  { code: 'InvalidOptions', message: 'names: expected different last segments, got "key,key"', act: () => withCache(() => {}, { ssm: [{ names: ['/a/key', '/b/key'], as: 'keys' }] }) },
  { code: 'InvalidOptions', message: 'parse: expected it without list, got "both"', act: () => withCache(() => {}, { ssm: [{ name: '/a', list: true, parse: text }] }) },
  { code: 'InvalidOptions', message: 'as: expected non-empty string, got ""', act: () => withCache(() => {}, { secrets: ['arn:aws:secretsmanager:us-east-1:123456789012:secret:a-AbCdEf'] }) },
  { code: 'InvalidOptions', message: 'uri: expected s3://bucket/key, got "https://bucket/key"', act: () => withCache(() => {}, { s3: ['https://bucket/key'] }) },
  { code: 'InvalidOptions', message: 'LAMBDA_CACHE_MAX_AGE: expected number >= 0, got NaN', environment: { LAMBDA_CACHE_MAX_AGE: 'soon' }, act: () => withCache(() => {}, { ssm: ['/a'] }) },
  { code: 'InvalidOptions', message: 'ssm /app/value: region or AWS_REGION: expected one such as "eu-west-1", got "mars"', environment: { AWS_REGION: 'mars' }, act: (fetch) => SSM.read({ fetch }) },
  {
    code: 'InvalidOptions',
    message: 's3 s3://bucket/two: file: expected a file of its own, got "/folder/file"',
    answers: [reply(200, `${CANARY}-body`)],
    act: async (fetch, folder) => {
      await getObject('s3://bucket/one', { file: `${folder}/file`, fetch })
      await getObject('s3://bucket/two', { file: `${folder}/file`, fetch })
    },
  },
  { code: 'NoRegion', message: 'ssm /app/value: region or AWS_REGION: expected one such as "eu-west-1", got ""', environment: { AWS_REGION: '' }, act: (fetch) => SSM.read({ fetch }) },
  { code: 'NoCredentials', message: 'ssm /app/value: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, or AWS_CONTAINER_CREDENTIALS_FULL_URI with https or a host of AWS', environment: { AWS_ACCESS_KEY_ID: '' }, act: (fetch) => SSM.read({ fetch }) },
  {
    code: 'NoCredentials',
    message: 'ssm /app/value: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, or AWS_CONTAINER_CREDENTIALS_FULL_URI with https or a host of AWS',
    environment: { AWS_ACCESS_KEY_ID: '', AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://${CANARY}.example.com/` },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NoCredentials',
    message: 'ssm /app/value: no credentials: HTTP 403 from the container endpoint',
    environment: { AWS_ACCESS_KEY_ID: '', AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/c', AWS_CONTAINER_AUTHORIZATION_TOKEN: `${CANARY}-token` },
    answers: [reply(403, `${CANARY}-body`)],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NoCredentials',
    message: 'ssm /app/value: no credentials: AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE cannot be read',
    environment: { AWS_ACCESS_KEY_ID: '', AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/c', AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: '/none' },
    act: (fetch) => SSM.read({ fetch }),
  },
  { code: 'InvalidEndpoint', message: 'ssm /app/value: AWS_ENDPOINT_URL has to be an http or https URL; FIPS and dual-stack work neither with it nor in us-east-1', environment: { AWS_ENDPOINT_URL: `http://user:${CANARY}@127.0.0.1` }, act: (fetch) => SSM.read({ fetch }) },
  { code: 'InvalidEndpoint', message: 'ssm /app/value: AWS_ENDPOINT_URL has to be an http or https URL; FIPS and dual-stack work neither with it nor in us-east-1', environment: { AWS_ENDPOINT_URL: 'http://127.0.0.1', AWS_USE_FIPS_ENDPOINT: 'true' }, act: (fetch) => SSM.read({ fetch }) },
  { code: 'InvalidEndpoint', message: 'ssm /app/value: AWS_ENDPOINT_URL has to be an http or https URL; FIPS and dual-stack work neither with it nor in cn-north-1', environment: { AWS_REGION: 'cn-north-1', AWS_USE_DUALSTACK_ENDPOINT: 'true' }, act: (fetch) => SSM.read({ fetch }) },
  { code: 'ParameterNotFound', message: 'ssm /app/value: no such parameter', answers: [parameters({}, ['/app/value'])], act: (fetch) => SSM.read({ fetch }) },
  { code: 'ResourceNotFoundException', message: 'secrets app/value: ResourceNotFoundException (HTTP 400) from secretsmanager.us-east-1.amazonaws.com', answers: [refusal('ResourceNotFoundException')], act: (fetch) => SECRETS.read({ fetch }) },
  { code: 'NoSuchKey', message: 's3 s3://bucket/app/value: NoSuchKey (HTTP 404) from bucket.s3.us-east-1.amazonaws.com', answers: [xml(404, 'NoSuchKey')], act: (fetch) => S3.read({ fetch }) },
  { code: 'AccessDeniedException', message: 'ssm /app/value: AccessDeniedException (HTTP 400) from ssm.us-east-1.amazonaws.com: the function\'s role needs ssm:GetParameters, and kms:Decrypt if a key of yours encrypts it', answers: [refusal('AccessDeniedException')], act: (fetch) => SSM.read({ fetch }) },
  { code: 'AccessDeniedException', message: 'ssm /app: AccessDeniedException (HTTP 400) from ssm.us-east-1.amazonaws.com: the function\'s role needs ssm:GetParametersByPath, and kms:Decrypt if a key of yours encrypts it', answers: [refusal('AccessDeniedException')], act: (fetch) => getParametersByPath('/app', { fetch }) },
  { code: 'AccessDeniedException', message: 'secrets app/value: AccessDeniedException (HTTP 400) from secretsmanager.us-east-1.amazonaws.com: the function\'s role needs secretsmanager:GetSecretValue, and kms:Decrypt if a key of yours encrypts it', answers: [refusal('AccessDeniedException')], act: (fetch) => SECRETS.read({ fetch }) },
  { code: 'AccessDenied', message: 's3 s3://bucket/app/value: AccessDenied (HTTP 403) from bucket.s3.us-east-1.amazonaws.com: the function\'s role needs s3:GetObject, and kms:Decrypt if a key of yours encrypts it', answers: [xml(403, 'AccessDenied')], act: (fetch) => S3.read({ fetch }) },
  { code: 'AccessDenied', message: 's3 s3://bucket/key: AccessDenied (HTTP 403) from bucket.s3.us-east-1.amazonaws.com: the function\'s role needs s3:GetObjectVersion, and kms:Decrypt if a key of yours encrypts it', answers: [xml(403, 'AccessDenied')], act: (fetch) => getObject('s3://bucket/key', { versionId: '1', parse: text, fetch }) },
  {
    code: 'SignatureDoesNotMatch',
    message: 's3 s3://bucket/app/value: SignatureDoesNotMatch (HTTP 403) from bucket.s3.us-east-1.amazonaws.com',
    // S3 quotes what it was sent.
    answers: [({ headers }) => reply(403, `<Error><Code>SignatureDoesNotMatch</Code><CanonicalRequest>${JSON.stringify(headers)}</CanonicalRequest></Error>`)],
    act: (fetch) => S3.read({ fetch }),
  },
  { code: 'ThrottlingException', message: 'ssm /app/value: ThrottlingException (HTTP 400) from ssm.us-east-1.amazonaws.com', answers: [refusal('ThrottlingException')], act: (fetch) => SSM.read({ fetch }) },
  { code: 'Http502', message: 's3 s3://bucket/app/value: Http502 (HTTP 502) from bucket.s3.us-east-1.amazonaws.com', answers: [reply(502, `<html>${CANARY}-body`)], act: (fetch) => S3.read({ fetch }) },
  { code: 'InvalidAnswer', message: 'secrets app/value: HTTP 200, but not with the JSON that AWS documents', answers: [reply(200, `<html>${CANARY}-body`)], act: (fetch) => SECRETS.read({ fetch }) },
  { code: 'InvalidAnswer', message: 'ssm /app/value: more than 8388608 bytes', answers: [reply(200, `"${CANARY.repeat(1_500_000)}"`)], act: (fetch) => SSM.read({ fetch }) },
  { code: 'NetworkError', message: 'ssm /app/value: no answer from ssm.us-east-1.amazonaws.com (ECONNREFUSED)', answers: [unreachable('ECONNREFUSED')], act: (fetch) => SSM.read({ fetch }) },
  { code: 'NetworkError', message: 's3 s3://bucket/app/value: the body was cut short', answers: [reply(200, `${CANARY}-body`, { 'content-length': '99' })], act: (fetch) => S3.read({ fetch }) },
  { code: 'RequestFailed', message: 'ssm /app/value: no answer from ssm.us-east-1.amazonaws.com (CERT_HAS_EXPIRED)', answers: [unreachable('CERT_HAS_EXPIRED')], act: (fetch) => SSM.read({ fetch }) },
  {
    code: 'RequestFailed',
    message: 'ssm /app/value: no answer from ssm.us-east-1.amazonaws.com (undefined)',
    answers: [({ headers }) => new TypeError(`Headers.append: "${headers['authorization']}" is an invalid header value.`)],
    act: (fetch) => SSM.read({ fetch }),
  },
  { code: 'Timeout', message: 'ssm /app/value: no progress from ssm.us-east-1.amazonaws.com in 2000 ms: in a VPC it takes a VPC endpoint or a NAT gateway', answers: ['never'], act: (fetch) => elapse(() => SSM.read({ fetch })) },
  { code: 'ParseError', message: 'ssm /app/value: parse failed', answers: [SSM.answer(`{"password":"${CANARY}-value`)], act: (fetch) => SSM.read({ fetch, parse: json }) },
  { code: 'BinarySecret', message: 'secrets app/value: it is binary: ask for it with binary: true', answers: [reply(200, { SecretBinary: Buffer.from(`${CANARY}-value`).toString('base64') })], act: (fetch) => SECRETS.read({ fetch }) },
  { code: 'UnsupportedKey', message: 's3 s3://bucket/a/../key: no URL can carry a "." or ".." segment', act: (fetch) => getObject('s3://bucket/a/../key', { fetch }) },
  { code: 'FileError', message: 's3 s3://bucket/key: cannot write /none/key (ENOENT)', answers: [reply(200, `${CANARY}-body`)], act: (fetch) => getObject('s3://bucket/key', { file: '/none/key', fetch }) },
  {
    code: 'AccessDeniedException',
    message: 'secrets app/value: AccessDeniedException (HTTP 400) from secretsmanager.us-east-1.amazonaws.com: the function\'s role needs secretsmanager:GetSecretValue, and kms:Decrypt if a key of yours encrypts it\ns3 s3://bucket/app/value: NoSuchKey (HTTP 404) from bucket.s3.us-east-1.amazonaws.com',
    answers: [({ headers }) => (headers['x-amz-target'] ? refusal('AccessDeniedException') : xml(404, 'NoSuchKey'))],
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
      for (const { headers } of sent) if (headers['authorization']) assert.ok(!everythingIn(error).includes(headers['authorization']))
    })
  }

  test('name the source, the id, the status and the request', async () => {
    const { fetch } = script(refusal('AccessDeniedException', '', { 'x-amzn-requestid': 'request-1' }))
    await failure(SECRETS.read({ fetch }), { code: 'AccessDeniedException', source: 'secrets', id: 'app/value', status: 400, requestId: 'request-1' })
    const s3 = script(xml(403, 'AccessDenied', { 'x-amz-request-id': 'request-2' }))
    await failure(S3.read({ fetch: s3.fetch }), { code: 'AccessDenied', source: 's3', id: 's3://bucket/app/value', status: 403, requestId: 'request-2' })
  })

  test('are of a class with a name that survives a minifier', () => {
    const error = new LambdaCacheError('message', { code: 'Code', id: 'id', cause: 'cause' })
    assert.ok(error instanceof Error)
    assert.deepEqual([error.name, error.message, error.code, error.id, error.cause], ['LambdaCacheError', 'message', 'Code', 'id', 'cause'])
    assert.deepEqual(['source', 'status', 'requestId'].filter((name) => name in error), [], 'what is not known is not there')
  })
})

// ---- withCache ----

describe('withCache', () => {
  const seed: Seed = {
    parameters: { '/prod/app/var': 'hello', '/prod/hosts': { value: 'a,b', type: 'StringList' } },
    secrets: { '/prod/db/conn_string': 'postgres://' },
    objects: { 's3://bucket/path/to/object.json': '{"release":1}' },
  }

  test('puts the values on the context, under the names of the things', async () => {
    const aws = await local(seed)
    const file = join(await temporaryFolder(), 'object.json')
    const handler = withCache(
      async (event: { name: string }, context) => [event.name, context.var, context.conn_string, context['object.json'], context.functionName],
      { ssm: ['/prod/app/var'], secrets: ['/prod/db/conn_string'], s3: [{ uri: 's3://bucket/path/to/object.json', file }] },
    )
    const expected = ['Ada', 'hello', 'postgres://', file, 'function']
    assert.deepEqual(await handler({ name: 'Ada' }, lambdaContext()), expected)
    assert.equal(await readFile(file, 'utf8'), '{"release":1}')
    assert.equal(aws.requests.length, 3)
    pass(30 * SECOND)
    assert.deepEqual(await handler({ name: 'Ada' }, lambdaContext()), expected)
    assert.equal(aws.requests.length, 3, 'the second time from memory')
    pass(30 * SECOND)
    await handler({ name: 'Ada' }, lambdaContext())
    assert.equal(aws.requests.length, 6, 'after a minute anew')
  })

  test('fetches nothing before the first invocation', async () => {
    const aws = await local(seed)
    invoking({ ssm: ['/prod/app/var'] })
    await turns()
    assert.equal(aws.requests.length, 0)
  })

  test('keeps the values out of what enumerates a context', async () => {
    await local(seed)
    const handler = withCache((_: unknown, context) => context, { ssm: ['/prod/app/var'] })
    const given = lambdaContext()
    const context = await handler({}, given)
    assert.equal(context, given)
    assert.equal(context.var, 'hello')
    const names = Object.keys(lambdaContext())
    assert.deepEqual(Object.keys(context), names)
    assert.deepEqual(Object.keys({ ...context }), names)
    const visible: string[] = []
    for (const name in context) visible.push(name)
    assert.deepEqual(visible, names)
    for (const shown of [JSON.stringify(context), inspect(context), JSON.stringify({ ...context })]) assert.ok(!shown.includes('hello'), shown)
  })

  test('leaves the prototype that a context has', async () => {
    await local(seed)
    class RuntimeContext {
      readonly left = 7
      getRemainingTimeInMillis(): number {
        return this.left * MINUTE
      }
    }
    const handler = withCache((_: unknown, context: RuntimeContext) => context, { ssm: ['/prod/app/var'] })
    for (let invocation = 0; invocation < 2; invocation += 1) {
      const context = await handler({}, new RuntimeContext())
      assert.ok(context instanceof RuntimeContext)
      assert.equal(context.getRemainingTimeInMillis(), 7 * MINUTE)
      assert.equal(Reflect.get(context, 'var'), 'hello')
    }
  })

  test('gives a context that comes twice the newer values', async () => {
    const aws = await local(seed)
    const handler = withCache((_: unknown, context) => context.var, { ssm: ['/prod/app/var'] })
    const other = withCache((_: unknown, context) => [context.hosts, Reflect.get(context, 'var') as unknown], { ssm: [{ name: '/prod/hosts', list: true }] })
    const context = lambdaContext()
    assert.equal(await handler({}, context), 'hello')
    aws.putParameter('/prod/app/var', 'hello again')
    pass(MINUTE)
    assert.equal(await handler({}, context), 'hello again')
    assert.deepEqual((await other({}, context))[0], ['a', 'b'], 'through another handler')
    for (let invocation = 0; invocation < 20; invocation += 1) await handler({}, context)
    let depth = 0
    for (let object: unknown = context; object; object = Object.getPrototypeOf(object)) depth += 1
    assert.ok(depth < 6, `${depth} objects in the prototype chain`)
  })

  test('gives each of several concurrent invocations a consistent context of its own', async () => {
    const aws = await local({ parameters: { '/a': '1', '/b': '1' } })
    const gate: (() => void)[] = []
    const handler = withCache(
      async (event: { id: number }, context) => {
        const before = [context.a, context.b]
        await new Promise<void>((resolve) => gate.push(resolve))
        return { id: event.id, request: context.awsRequestId, before, after: [context.a, context.b] }
      },
      { ssm: ['/a', '/b'] },
    )
    const invoke = (id: number) => handler({ id }, { ...lambdaContext(), awsRequestId: `request ${id}` })
    const first = [invoke(1), invoke(2)]
    await until(() => gate.length === 2)
    aws.putParameter('/a', '2')
    aws.putParameter('/b', '2')
    pass(MINUTE)
    const second = [invoke(3), invoke(4)]
    await until(() => gate.length === 4)
    for (const open of gate) open()
    const results = await Promise.all([...first, ...second])
    assert.deepEqual(
      results,
      [1, 2, 3, 4].map((id) => {
        const values = id < 3 ? ['1', '1'] : ['2', '2']
        return { id, request: `request ${id}`, before: values, after: values }
      }),
    )
    assert.equal(aws.requests.length, 2)
  })

  test('passes on what the handler returns and throws, async or not', async () => {
    await local(seed)
    const thrown = new Error('the handler\'s own')
    const run = (handler: () => unknown) => withCache(handler, { ssm: ['/prod/app/var'] })({}, lambdaContext())
    assert.equal(await run(() => 'plain'), 'plain')
    assert.equal(await run(async () => 'async'), 'async')
    const plain = () => {
      throw thrown
    }
    await assert.rejects(run(plain), (error) => error === thrown)
    await assert.rejects(run(async () => plain()), (error) => error === thrown)
  })

  test('returns a function of two parameters', () => {
    assert.equal(withCache(() => {}, {}).length, 2)
  })

  test('works without any entry', async () => {
    assert.deepEqual(await invoking({})(), [])
  })

  test('loads side by side', async () => {
    const aws = await local(seed)
    const waiting: (() => void)[] = []
    aws.intercept = () => new Promise<void>((resolve) => waiting.push(resolve))
    const result = invoking({ ssm: ['/prod/app/var'], secrets: ['/prod/db/conn_string'], s3: [{ uri: 's3://bucket/path/to/object.json', parse: text }] }, 'var')()
    await until(() => waiting.length === 3)
    for (const answer of waiting) answer()
    assert.deepEqual(await result, ['hello'])
  })

  test('names every one of several failures, and keeps what did not fail', async () => {
    const aws = await local(seed)
    const handler = invoking({ ssm: ['/prod/app/var', '/prod/none'], secrets: ['no-secret'], s3: ['s3://bucket/no-object'] })
    const error = await failure(handler(), {}, '/prod/none', 'no-secret', 's3://bucket/no-object')
    assert.equal(error.message.split('\n').length, 3)
    assert.ok(!error.message.includes('/prod/app/var'))
    aws.requests.length = 0
    assert.equal(await getParameter('/prod/app/var'), 'hello')
    assert.equal(aws.requests.length, 0)
  })

  test('runs no handler where something is missing', async () => {
    await local(seed)
    const handler = mock.fn()
    await failure(withCache(handler, { ssm: ['/prod/none'] })({}, lambdaContext()), { code: 'ParameterNotFound', source: 'ssm', id: '/prod/none' })
    assert.equal(handler.mock.callCount(), 0)
  })

  const AGES: readonly [title: string, environment: string | undefined, options: Pick<Options, 'maxAge'>, entry: Pick<Options, 'maxAge'>, seconds: number][] = [
    ['60 seconds by default', undefined, {}, {}, 60],
    ['LAMBDA_CACHE_MAX_AGE', '5', {}, {}, 5],
    ['60 seconds where LAMBDA_CACHE_MAX_AGE is empty', '', {}, {}, 60],
    ['the option before the environment', '5', { maxAge: 10 }, {}, 10],
    ['the entry before the option', '5', { maxAge: 10 }, { maxAge: 20 }, 20],
    ['0: always', undefined, { maxAge: 0 }, {}, 0],
    ['0 of an entry', undefined, { maxAge: 10 }, { maxAge: 0 }, 0],
    ['0 of the environment', '0', {}, {}, 0],
    ['a fraction', undefined, { maxAge: 0.5 }, {}, 0.5],
    ['Infinity: once', undefined, { maxAge: Infinity }, {}, Infinity],
    ['Infinity of the environment', 'Infinity', {}, {}, Infinity],
  ]
  for (const [title, environment, options, entry, seconds] of AGES) {
    test(`serves a value for maxAge: ${title}`, async () => {
      const aws = await local({ parameters: { '/a': '1' } })
      if (environment !== undefined) process.env['LAMBDA_CACHE_MAX_AGE'] = environment
      const invoke = invoking({ ...options, ssm: [{ name: '/a', ...entry }] }, 'a')
      assert.deepEqual(await invoke(), ['1'])
      aws.putParameter('/a', '2')
      const lifetime = Math.min(seconds * SECOND, 365 * 24 * HOUR)
      if (lifetime > 0) {
        pass(lifetime / 2)
        assert.deepEqual(await invoke(), ['1'])
        assert.equal(aws.requests.length, 1)
        pass(lifetime / 2)
      }
      assert.deepEqual(await invoke(), [seconds === Infinity ? '1' : '2'])
    })
  }

  test('fetches one thing under two names once', async () => {
    const aws = await local(seed)
    const invoke = invoking({ ssm: [{ name: '/prod/app/var', as: 'one' }, { name: '/prod/app/var', as: 'two' }, { names: ['/prod/app/var'], as: 'group' }] }, 'one', 'two', 'group')
    assert.deepEqual(await invoke(), ['hello', 'hello', { var: 'hello' }])
    assert.deepEqual(aws.requests.map(({ input }) => input['Names']), [['/prod/app/var']])
  })

  test('tells things apart that end in the same word', async () => {
    await local({ parameters: { '/a/key': 'A', '/b/key': 'B' }, secrets: { '/a/key': 'C' } })
    const invoke = invoking({ ssm: [{ name: '/a/key', as: 'one' }, { name: '/b/key', as: 'two' }], secrets: ['/a/key'] }, 'one', 'two', 'key')
    assert.deepEqual(await invoke(), ['A', 'B', 'C'])
  })
})

// ---- Direct access ----

describe('direct access', () => {
  test('shares the cache with every handler', async () => {
    const aws = await local({ parameters: { '/a': '1' } })
    const invoke = invoking({ ssm: ['/a'] }, 'a')
    await invoke()
    assert.equal(await getParameter('/a'), '1')
    assert.equal(aws.requests.length, 1)
    aws.putParameter('/a', '2')
    assert.equal(await getParameter('/a', { maxAge: 0 }), '2')
    assert.deepEqual(await invoke(), ['2'])
    assert.equal(aws.requests.length, 2)
  })

  test('forgets everything with clearCache', async () => {
    const aws = await local({ parameters: { '/a': '1' } })
    const invoke = invoking({ ssm: ['/a'] }, 'a')
    await invoke()
    aws.putParameter('/a', '2')
    clearCache()
    assert.deepEqual(await invoke(), ['2'])
    assert.equal(await getParameter('/a'), '2')
    assert.equal(aws.requests.length, 2)
  })

  test('refuses what it cannot use, by rejecting', async () => {
    for (const call of [
      () => getParameter(''),
      () => getParameter('/a', { maxAge: -1 }),
      () => getParametersByPath('/a', { parse: 'JSON' } as never),
      () => getSecret(7 as never),
      () => getObject('https://bucket/key'),
      () => getObject('s3://bucket/key', { fetch: 'fetch' } as never),
    ]) {
      const promise = call()
      assert.ok(promise instanceof Promise)
      await failure(promise, { code: 'InvalidOptions' }, 'expected', 'got')
    }
  })

  test('parses JSON with json', () => {
    assert.deepEqual(json<{ a: number }>('{"a":1}'), { a: 1 })
  })
})

// ---- Entries: what is refused at once ----

describe('options', () => {
  const fine = '/app/fine'
  const REFUSED: readonly [option: string, options: object, got: string][] = [
    ['maxAge', { maxAge: -1 }, '-1'],
    ['maxAge', { maxAge: NaN }, 'NaN'],
    ['maxAge', { maxAge: '60' }, '"60"'],
    ['maxAge', { maxAge: null }, 'null'],
    ['maxAge', { ssm: [{ name: fine, maxAge: -0.1 }] }, '-0.1'],
    ['region', { region: '' }, '""'],
    ['region', { region: 1 }, '1'],
    ['fetch', { fetch: 'fetch' }, '"fetch"'],
    ['retries', { retries: 3 }, ''],
    ['ssm', { ssm: fine }, '"/app/fine"'],
    ['secrets', { secrets: { id: 'a' } }, 'object'],
    ['s3', { s3: null }, 'null'],
    ['name', { ssm: [7] }, ''],
    ['name', { ssm: [null] }, ''],
    ['name', { ssm: [{}] }, ''],
    ['name', { ssm: [''] }, '""'],
    ['name', { ssm: [{ name: 7 }] }, '7'],
    ['name', { ssm: [{ name: fine, path: '/app' }] }, ''],
    ['names', { ssm: [{ names: fine, as: 'a' }] }, '"/app/fine"'],
    ['names', { ssm: [{ names: ['/a/x', '/b/x'], as: 'a' }] }, 'x'],
    ['as', { ssm: [{ names: [fine] }] }, ''],
    ['path', { ssm: [{ path: 7, as: 'a' }] }, '7'],
    ['as', { ssm: [{ path: '/' }] }, ''],
    ['decrypt', { ssm: [{ name: fine, decrypt: 'yes' }] }, '"yes"'],
    ['list', { ssm: [{ name: fine, list: 1 }] }, '1'],
    ['recursive', { ssm: [{ path: fine, recursive: 'no' }] }, '"no"'],
    ['parse', { ssm: [{ name: fine, parse: {} }] }, 'object'],
    ['parse', { ssm: [{ name: fine, parse: JSON.parse, list: true }] }, ''],
    ['prase', { ssm: [{ name: fine, prase: JSON.parse }] }, ''],
    ['as', { secrets: ['arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf'] }, ''],
    ['as', { secrets: ['folder/'] }, ''],
    ['id', { secrets: [{ id: [] }] }, ''],
    ['binary', { secrets: [{ id: 'a', binary: 'yes' }] }, '"yes"'],
    ['parse', { secrets: [{ id: 'a', binary: true, parse: JSON.parse }] }, ''],
    ['versionId', { secrets: [{ id: 'a', versionId: 1 }] }, '1'],
    ['versionStage', { secrets: [{ id: 'a', versionStage: '' }] }, '""'],
    ['recursive', { secrets: [{ id: 'a', recursive: true }] }, ''],
    ['file', { s3: [{ uri: 's3://bucket/key', file: 7 }] }, '7'],
    ['file', { s3: [{ uri: 's3://bucket/key', file: '/tmp/a', binary: true }] }, ''],
    ...['key', 's3://', 's3://bucket', 's3://bucket/', 's3:///key', 'S3://bucket/key', 'https://bucket/key', 's3://b/key'].map(
      (uri): [string, object, string] => ['s3://bucket/key', { s3: [{ uri, as: 'a' }] }, `"${uri}"`],
    ),
    ['uri', { s3: [''] }, '""'],
    ['s3', { s3: [{ uri: 's3://bucket--usw2-az1--x-s3/key' }] }, '"s3://bucket--usw2-az1--x-s3/key"'],
    ['s3', { s3: [{ uri: 's3://arn:aws:s3:eu-west-1:123456789012:accesspoint/name/key' }] }, 'arn:'],
    ['as', { s3: [{ uri: 's3://bucket/folder/', file: '/tmp/a' }] }, ''],
    ['as', { ssm: [{ name: fine, as: '' }] }, '""'],
    ['as', { ssm: [{ name: fine, as: 7 }] }, '7'],
    ['as', { ssm: ['/a/key', '/b/key'] }, '"key"'],
    ['as', { ssm: ['/a/key'], secrets: ['key'] }, '"key"'],
    ...[
      ...['awsRequestId', 'callbackWaitsForEmptyEventLoop', 'clientContext', 'done', 'fail', 'functionName', 'functionVersion'],
      ...['getRemainingTimeInMillis', 'identity', 'invokedFunctionArn', 'logGroupName', 'logStreamName', 'memoryLimitInMB', 'succeed'],
      ...['__proto__', 'constructor', 'prototype'],
    ].flatMap((as): [string, object, string][] => [
      ['as', { secrets: [{ id: 'a', as }] }, `"${as}"`],
      ['as', { ssm: [`/app/${as}`] }, `"${as}"`],
    ]),
  ]
  for (const [option, options, got] of REFUSED) {
    test(`refuse ${inspect(options, { breakLength: Infinity })}`, async () => {
      await failure(() => withCache(() => {}, options), { code: 'InvalidOptions' }, option, 'expected ', 'got ', got)
    })
  }

  test('refuse a LAMBDA_CACHE_MAX_AGE that is no number', async () => {
    for (const value of ['-1', 'soon', 'NaN']) {
      process.env['LAMBDA_CACHE_MAX_AGE'] = value
      await failure(() => withCache(() => {}, { ssm: [fine] }), { code: 'InvalidOptions' }, 'LAMBDA_CACHE_MAX_AGE', 'expected ', 'got ')
    }
  })

  test('refuse options that are none', async () => {
    for (const options of ['ssm', [{ ssm: [] }]]) await failure(() => withCache(() => {}, options as never), { code: 'InvalidOptions' })
  })

  test('take undefined as not given', async () => {
    await local({ parameters: { '/a': '1' } })
    const nothing = { as: undefined, maxAge: undefined, region: undefined, parse: undefined, decrypt: undefined, list: undefined }
    const invoke = invoking({ ssm: [{ name: '/a', ...nothing }], secrets: undefined, s3: undefined, maxAge: undefined, region: undefined, fetch: undefined }, 'a')
    assert.deepEqual(await invoke(), ['1'])
  })
})

// ---- Cache: what holds for every source ----

for (const { source, id, action, codes, malformed, read, entry, put, answer } of SOURCES) {
  describe(`${source}: the contract`, () => {
    const name = 'value'
    // S3 tells a missing key from a missing bucket.
    const bucket: Seed = { objects: { 's3://bucket/app/other': '' } }

    test('reads once and then serves from memory', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const invoke = invoking(entry(), name)
      assert.deepEqual(await invoke(), ['one'])
      put(aws, 'two')
      assert.deepEqual(await invoke(), ['one'])
      assert.equal(await read(), 'one')
      assert.equal(aws.requests.length, 1)
    })

    test('expires at maxAge, to the millisecond', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      await read({ maxAge: 10 })
      put(aws, 'two')
      pass(10 * SECOND - 1)
      assert.equal(await read({ maxAge: 10 }), 'one')
      pass(2)
      assert.equal(await read({ maxAge: 10 }), 'two')
      assert.equal(aws.requests.length, 2)
    })

    test('counts the age from the arrival of the answer', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      aws.intercept = () => pass(5 * SECOND)
      await read()
      pass(56 * SECOND)
      await read()
      assert.equal(aws.requests.length, 1)
      pass(4 * SECOND)
      await read()
      assert.equal(aws.requests.length, 2)
    })

    test('judges freshness by the reader\'s own maxAge', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const patient = invoking({ ...entry(), maxAge: 600 }, name)
      const hasty = invoking({ ...entry(), maxAge: 10 }, name)
      assert.deepEqual(await patient(), ['one'])
      put(aws, 'two')
      pass(30 * SECOND)
      assert.deepEqual(await patient(), ['one'])
      assert.deepEqual(await hasty(), ['two'])
      assert.deepEqual(await patient(), ['two'], 'what one reader fetched, every reader sees')
      assert.equal(aws.requests.length, 2)
    })

    test('shows a forced refresh to every reader', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const [first, second] = [invoking(entry(), name), invoking({ ...entry(), maxAge: Infinity }, name)]
      await Promise.all([first(), second()])
      put(aws, 'two')
      assert.equal(await read({ maxAge: 0 }), 'two')
      assert.deepEqual([await first(), await second(), await read()], [['two'], ['two'], 'two'])
      assert.equal(aws.requests.length, 2)
    })

    test('refreshes once for all who wait', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      let open = (): void => {}
      aws.intercept = () => new Promise<void>((resolve) => (open = resolve))
      const invoke = invoking(entry(), name)
      const waiting = [read(), invoke()]
      await until(() => aws.requests.length === 1)
      waiting.push(read(), read({ maxAge: 0 }), invoke())
      await turns()
      open()
      assert.deepEqual(await Promise.all(waiting), ['one', ['one'], 'one', 'one', ['one']])
      assert.equal(aws.requests.length, 1)
    })

    test('gives one failure to all who wait, and asks again after it', async () => {
      const aws = await local(bucket)
      const results = await Promise.allSettled([read(), read(), read()])
      assert.deepEqual(results.map(({ status }) => status), ['rejected', 'rejected', 'rejected'])
      assert.equal(aws.requests.length, 1)
      put(aws, 'there now')
      assert.equal(await read(), 'there now', 'a failure is not cached')
    })

    test('says what was denied, without asking twice', async () => {
      const aws = await local(bucket)
      put(aws, `${CANARY}-value`)
      aws.deny(action, id)
      const error = await failure(read(), { code: codes.denied, source, id, status: source === 's3' ? 403 : 400 }, id, action)
      assert.match(error.requestId ?? '', /^[\w-]{16,}$/)
      assert.equal(aws.requests.length, 1)
      assertKeepsSecrets(error)
    })

    test('says what is missing, without asking twice', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      await read()
      aws.delete(id)
      await failure(read({ maxAge: 0 }), { code: codes.missing, source, id }, id)
      assert.equal(aws.requests.length, 2)
    })

    test('gives the default for what is missing, and keeps that for maxAge', async () => {
      for (const fallback of [null, undefined, '', 0, false, 'default']) {
        clearCache()
        const aws = await local(bucket)
        const invoke = invoking(entry({ default: fallback }), name)
        assert.deepEqual(await invoke(), [fallback])
        put(aws, 'there now')
        pass(MINUTE / 2)
        assert.deepEqual(await invoke(), [fallback])
        assert.equal(await read({ default: 'another' }), 'another')
        assert.equal(aws.requests.length, 1)
        pass(MINUTE / 2)
        assert.deepEqual(await invoke(), ['there now'])
      }
    })

    test('gives those without a default the error', async () => {
      await local(bucket)
      assert.equal(await read({ default: 'default' }), 'default')
      await failure(read(), { code: codes.missing, source, id })
    })

    test('gives no default where access is denied', async () => {
      const aws = await local(bucket)
      aws.deny(action, id)
      await failure(read({ default: 'default' }), { code: codes.denied })
    })

    for (const status of malformed) {
      test(`says that a page with status ${status} is no answer, and not what it holds`, async () => {
        const page = `<html><body>${CANARY}-body: the proxy wants a password</body></html>`
        const { fetch, sent } = script(reply(status, page, { 'content-type': 'text/html' }), answer('one'))
        const error = await failure(read({ fetch }), { source, id, status }, String(status))
        assertKeepsSecrets(error)
        assert.equal(sent.length, 1)
        assert.equal(await read({ fetch }), 'one')
      })
    }

    test('says which host cannot be reached', async () => {
      const aws = await local(bucket)
      await aws.close()
      assertKeepsSecrets(await failure(read(), { code: 'NetworkError', source, id }, new URL(aws.url).host, 'ECONNREFUSED'))
    })

    test('takes falsy values for values', async () => {
      for (const [stored, parse, value] of [['', text, ''], ['0', Number, 0], ['false', json<boolean>, false], ['null', json<null>, null]] as const) {
        clearCache()
        const aws = await local(bucket)
        put(aws, stored)
        for (let time = 0; time < 2; time += 1) assert.equal(await read({ parse, default: 'default' }), value)
        assert.equal(aws.requests.length, 1)
      }
    })

    test('parses once per refresh', async () => {
      const aws = await local(bucket)
      put(aws, '{"release":1}')
      const parse = mock.fn(json<{ release: number }>)
      const invoke = invoking(entry({ parse }), name)
      const [first] = await invoke()
      assert.deepEqual(first, { release: 1 })
      assert.equal((await invoke())[0], first)
      assert.equal(await read({ parse }), first)
      assert.equal(parse.mock.callCount(), 1)
      put(aws, '{"release":2}')
      pass(MINUTE)
      assert.deepEqual(await invoke(), [{ release: 2 }])
      assert.equal(parse.mock.callCount(), 2)
    })

    test('parses for each parser, from one request', async () => {
      const aws = await local(bucket)
      put(aws, '7')
      assert.deepEqual(await Promise.all([read({ parse: Number }), read({ parse: text }), read({ parse: json })]), [7, '7', 7])
      assert.equal(aws.requests.length, 1)
    })

    test('says that a parse failed, and nothing of what it said', async () => {
      const parsers: ((content: string) => unknown)[] = [
        json,
        (content) => assert.fail(`cannot read ${content}`),
        (content) => {
          throw content
        },
        () => {
          throw undefined
        },
      ]
      for (const parse of parsers) {
        clearCache()
        const aws = await local(bucket)
        put(aws, `${CANARY}-value`)
        assertKeepsSecrets(await failure(read({ parse }), { code: 'ParseError', source, id, cause: undefined }, id))
      }
    })

    test('calls the region of the entry, of the options, of the environment', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const fallback = { AWS_REGION: '', AWS_DEFAULT_REGION: 'eu-west-3' }
      await read()
      await invoking({ ...entry(), region: 'eu-west-1' })()
      await invoking({ ...entry({ region: 'eu-west-2' }), region: 'eu-west-1' })()
      await read({ region: 'eu-west-2' })
      Object.assign(process.env, fallback)
      await read()
      assert.deepEqual(aws.requests.map(({ region }) => region), ['us-east-1', 'eu-west-1', 'eu-west-2', 'eu-west-3'])
    })

    test('asks nobody without a region', async () => {
      const { fetch, sent } = script(answer('one'))
      delete process.env['AWS_REGION']
      await failure(read({ fetch }), { code: 'NoRegion', source, id }, 'AWS_REGION')
      assert.equal(sent.length, 0)
    })

    test('takes a fetch of the user\'s', async () => {
      const { fetch, sent } = script(answer('one'))
      assert.deepEqual(await invoking({ ...entry(), fetch }, name)(), ['one'])
      assert.equal(new URL(sent[0]!.url).host, AWS_HOSTS[source])
    })
  })
}

// ---- Loaders ----

describe('ssm', () => {
  const names = (aws: LocalAws) => aws.requests.map(({ input }) => input['Names'])

  test('asks for the names of one tick together, ten at a time', async () => {
    const all = Array.from({ length: 23 }, (_, index) => `/app/p${index}`)
    const aws = await local({ parameters: Object.fromEntries(all.map((name) => [name, `value of ${name}`])) })
    const values = await Promise.all(all.map((name) => getParameter(name)))
    assert.deepEqual(values, all.map((name) => `value of ${name}`))
    assert.deepEqual(aws.requests.map(({ input }) => (input['Names'] as string[]).length).sort(), [10, 10, 3])
    assert.deepEqual(names(aws).flat().sort(), [...all].sort())
  })

  test('asks for a name once, whoever wants it', async () => {
    const aws = await local({ parameters: { '/a': '1', '/b': '2' } })
    const handlers = [invoking({ ssm: ['/a', '/b'] }, 'a', 'b'), invoking({ ssm: [{ names: ['/b', '/a'], as: 'group' }] }, 'group')]
    assert.deepEqual(await Promise.all([...handlers.map((invoke) => invoke()), getParameter('/a')]), [['1', '2'], [{ a: '1', b: '2' }], '1'])
    assert.deepEqual(names(aws), [['/a', '/b']])
  })

  test('asks for what is due alone', async () => {
    const aws = await local({ parameters: { '/a': '1', '/b': '2' } })
    const invoke = invoking({ ssm: [{ name: '/a', maxAge: 10 }, '/b'] }, 'a', 'b')
    await invoke()
    pass(20 * SECOND)
    await invoke()
    assert.deepEqual(names(aws), [['/a', '/b'], ['/a']])
  })

  test('groups by decrypt and region', async () => {
    const aws = await local({ parameters: { '/a': '1', '/b': { value: '2', type: 'SecureString' }, '/c': '3', '/d': '4' } })
    const invoke = invoking({ ssm: ['/a', { name: '/b', decrypt: false }, { name: '/c', region: 'eu-west-1' }, { name: '/d', decrypt: true }] }, 'a', 'b', 'c', 'd')
    const [a, b, c, d] = await invoke()
    assert.deepEqual([a, c, d], ['1', '3', '4'])
    assert.match(String(b), /^AQICAH/, 'what AWS gives without decryption')
    const asked = aws.requests.map(({ input, region }) => [region, input['WithDecryption'], input['Names']])
    assert.deepEqual(asked.sort(), [['eu-west-1', true, ['/c']], ['us-east-1', false, ['/b']], ['us-east-1', true, ['/a', '/d']]])
    assert.equal(await getParameter('/b'), '2', 'encrypted and decrypted do not share an entry')
  })

  test('finds names, ARNs and selectors in the answer, in whatever order it comes', async () => {
    const aws = await local({ parameters: { plain: 'plain', '/app/p': 'one' } })
    aws.putParameter('/app/p', 'two', { labels: ['current'] })
    aws.putParameter('/app/p', 'three')
    const arn = 'arn:aws:ssm:us-east-1:123456789012:parameter'
    const asked = { plain: 'plain', '/app/p': 'three', '/app/p:1': 'one', '/app/p:current': 'two', [`${arn}/app/p`]: 'three', [`${arn}/app/p:1`]: 'one', [`${arn}/app/p:current`]: 'two', [`${arn}/plain`]: 'plain' }
    assert.deepEqual(await Promise.all(Object.keys(asked).map((name) => getParameter(name))), Object.values(asked))
    assert.equal(aws.requests.length, 1)
  })

  test('names properties without the selector', async () => {
    const aws = await local({ parameters: { '/app/p': 'one' } })
    aws.putParameter('/app/p', 'two', { labels: ['current'] })
    assert.deepEqual(await invoking({ ssm: ['/app/p:1'] }, 'p')(), ['one'])
    assert.deepEqual(await invoking({ ssm: [{ name: '/app/p:current' }] }, 'p')(), ['two'])
    assert.deepEqual(await invoking({ ssm: ['arn:aws:ssm:us-east-1:123456789012:parameter/app/p'] }, 'p')(), ['two'])
    await failure(getParameter('/app/p:3'), { code: 'ParameterNotFound', id: '/app/p:3' })
  })

  for (const [what, refuse, code] of [
    ['missing', () => {}, 'ParameterNotFound'],
    ['denied', (aws: LocalAws) => aws.deny('ssm:GetParameters', '/b'), 'AccessDeniedException'],
  ] as const) {
    test(`lets one ${what} name fail alone, and keeps its neighbours`, async () => {
      const aws = await local({ parameters: { '/a': '1', '/c': '3' } })
      refuse(aws)
      const results = await Promise.allSettled(['/a', '/b', '/c'].map((name) => getParameter(name)))
      assert.deepEqual(results.map((result) => (result.status === 'fulfilled' ? result.value : (result.reason as LambdaCacheError).code)), ['1', code, '3'])
      await failure(getParameter('/b'), { code, source: 'ssm', id: '/b' }, '/b')
      aws.requests.length = 0
      assert.deepEqual([await getParameter('/a'), await getParameter('/c')], ['1', '3'])
      assert.equal(aws.requests.length, 0)
    })
  }

  test('says that an answer without the name is none', async () => {
    for (const body of [{}, { Parameters: [] }, { Parameters: [{ Name: '/other', Value: `${CANARY}-value` }] }, { Parameters: [{ Name: '/a' }] }, null, [], '""', '7']) {
      clearCache()
      const { fetch } = script(reply(200, body === null ? 'null' : body))
      assertKeepsSecrets(await failure(getParameter('/a', { fetch }), { code: 'InvalidAnswer', source: 'ssm', id: '/a', status: 200 }))
    }
  })

  test('gives a group as one frozen record', async () => {
    const aws = await local({ parameters: { '/db/host': 'h', '/db/port': '1', '/db/__proto__': '2' } })
    aws.putParameter('/db/port', '5432', { labels: ['current'] })
    const invoke = invoking({ ssm: [{ names: ['/db/host', '/db/port:current', '/db/__proto__'], as: 'db' }] }, 'db')
    const [db] = await invoke()
    assert.deepEqual(Object.entries(db as object), [['host', 'h'], ['port', '5432'], ['__proto__', '2']])
    assert.ok(Object.isFrozen(db))
    assert.deepEqual(await invoke(), [db])
    const parsed = invoking({ ssm: [{ names: ['/db/port', '/db/none'], as: 'db', parse: Number, default: 'none' }] }, 'db')
    assert.deepEqual(await parsed(), [{ port: 5432, none: 'none' }])
  })

  test('names the one name of a group that is missing', async () => {
    await local({ parameters: { '/db/host': 'h' } })
    const error = await failure(invoking({ ssm: [{ names: ['/db/host', '/db/port'], as: 'db' }] })(), { code: 'ParameterNotFound', source: 'ssm', id: '/db/port' })
    assert.ok(!error.message.includes('/db/host'))
  })

  test('splits a StringList into a frozen array', async () => {
    const aws = await local({ parameters: { '/hosts': { value: 'a,b,,c', type: 'StringList' }, '/one': 'a' } })
    const invoke = invoking({ ssm: [{ name: '/hosts', list: true }, { name: '/one', list: true }, { name: '/hosts', as: 'whole' }] }, 'hosts', 'one', 'whole')
    const [hosts, one, whole] = await invoke()
    assert.deepEqual([hosts, one, whole], [['a', 'b', '', 'c'], ['a'], 'a,b,,c'])
    assert.ok(Object.isFrozen(hosts))
    assert.deepEqual(await getParameter('/hosts', { list: true }), hosts)
    assert.equal(aws.requests.length, 1)
  })

  test('reads a tree, page after page', async () => {
    const below = Object.fromEntries(Array.from({ length: 25 }, (_, index) => [`p${String(index).padStart(2, '0')}`, `value ${index}`]))
    const aws = await local({ parameters: { ...Object.fromEntries(Object.entries(below).map(([name, value]) => [`/app/${name}`, value])), '/app/sub/deep': 'deep', '/apples': 'no' } })
    const [tree] = await invoking({ ssm: [{ path: '/app' }] }, 'app')()
    assert.deepEqual(tree, below)
    assert.ok(Object.isFrozen(tree))
    assert.equal(aws.requests.length, 3)
    assert.deepEqual(await getParametersByPath('/app', { recursive: true }), { ...below, 'sub/deep': 'deep' })
    assert.deepEqual(await getParametersByPath('/app/', { recursive: true }), { ...below, 'sub/deep': 'deep' })
    aws.requests.length = 0
    await getParametersByPath('/app')
    assert.equal(aws.requests.length, 0)
  })

  test('reads a tree from the root', async () => {
    await local({ parameters: { '/a': '1', '/b/c': '2', d: '3' } })
    assert.deepEqual(await getParametersByPath('/'), { a: '1', d: '3' })
    assert.deepEqual(await getParametersByPath('/', { recursive: true }), { a: '1', 'b/c': '2', d: '3' })
  })

  test('gives {} for a path with nothing below it, or the default', async () => {
    await local()
    assert.deepEqual(await getParametersByPath('/none'), {})
    assert.equal(await getParametersByPath('/none', { default: null }), null)
  })

  test('parses each value of a tree, and decrypts unless told not to', async () => {
    await local({ parameters: { '/limits/low': '1', '/limits/high': { value: '2', type: 'SecureString' } } })
    assert.deepEqual(await getParametersByPath('/limits', { parse: Number }), { low: 1, high: 2 })
    assert.match((await getParametersByPath('/limits', { decrypt: false }))['high'] ?? '', /^AQICAH/)
  })

  test('takes names that mean something to JavaScript like any other', async () => {
    const special = ['__proto__', 'constructor', 'hasOwnProperty', 'toString']
    await local({ parameters: Object.fromEntries(special.map((name) => [`/app/${name}`, `value of ${name}`])) })
    const tree = await getParametersByPath('/app')
    assert.deepEqual(Object.entries(tree), special.map((name) => [name, `value of ${name}`]))
    assert.equal(Object.getPrototypeOf(tree), Object.prototype)
    const parsed = await getParametersByPath('/app', { parse: (value) => value.length })
    assert.deepEqual(Object.keys(parsed), special)
    assert.equal(Reflect.get({}, 'polluted'), undefined)
  })

  test('gives no half of a tree', async () => {
    const { fetch } = script(reply(200, { Parameters: [{ Name: '/app/a', Value: '1' }], NextToken: 'next' }), refusal('InvalidNextToken'))
    await failure(getParametersByPath('/app', { fetch }), { code: 'InvalidNextToken', source: 'ssm', id: '/app' })
  })

  test('names the action for a tree that is denied', async () => {
    const aws = await local()
    aws.deny('ssm:GetParametersByPath', '/app')
    await failure(getParametersByPath('/app'), { code: 'AccessDeniedException', id: '/app' }, 'ssm:GetParametersByPath')
  })
})

describe('secrets', () => {
  const bytes = Uint8Array.of(0, 1, 127, 128, 255, 10, 13)

  test('gives text and bytes', async () => {
    await local({ secrets: { text: 'täxt', bytes: { base64: Buffer.from(bytes).toString('base64') } } })
    assert.equal(await getSecret('text'), 'täxt')
    const got = await getSecret('bytes', { binary: true })
    assert.deepEqual(got, bytes)
    assert.equal(Object.getPrototypeOf(got), Uint8Array.prototype)
    assert.deepEqual(await getSecret('text', { binary: true }), new TextEncoder().encode('täxt'))
  })

  test('says what to write for a binary secret', async () => {
    await local({ secrets: { bytes: { base64: Buffer.from(`${CANARY}-value`).toString('base64') } } })
    for (const options of [{}, { parse: text }]) {
      const error = await failure(getSecret('bytes', options), { code: 'BinarySecret', source: 'secrets', id: 'bytes' }, 'binary: true')
      assertKeepsSecrets(error)
      assert.ok(!everythingIn(error).includes(Buffer.from(CANARY).toString('base64').slice(0, 6)))
    }
  })

  test('reads versions and stages, each with an entry of its own', async () => {
    const aws = await local()
    const versionId = aws.putSecret('a', 'one')
    aws.putSecret('a', 'two')
    const entries = [{ id: 'a' }, { id: 'a', versionId }, { id: 'a', versionStage: 'AWSPREVIOUS' }, { id: 'a', versionId, versionStage: 'AWSPREVIOUS' }]
    const names = entries.map((_, index) => `name${index}`)
    const invoke = invoking({ secrets: entries.map((entry, index) => ({ ...entry, as: names[index]! })) }, ...names)
    assert.deepEqual(await invoke(), ['two', 'one', 'one', 'one'])
    assert.equal(aws.requests.length, 4)
    await failure(getSecret('a', { versionStage: 'NONE' }), { code: 'ResourceNotFoundException', id: 'a' })
    assert.equal(await getSecret('a', { versionId: 'none', default: null }), null)
  })

  test('reads by ARN', async () => {
    const aws = await local({ secrets: { 'app/db': 'one' } })
    await getSecret('app/db')
    const arn = `arn:aws:secretsmanager:us-east-1:123456789012:secret:app/db`
    assert.equal(await getSecret(arn), 'one')
    assert.deepEqual(await invoking({ secrets: [{ id: arn, as: 'db' }] }, 'db')(), ['one'])
    assert.deepEqual(aws.requests.map(({ input }) => input['SecretId']), ['app/db', arn])
  })

  test('says that an answer without a secret is none', async () => {
    for (const body of [{}, { SecretString: null }, { SecretBinary: 7 }, 'null', '7', '[]']) {
      clearCache()
      const { fetch } = script(reply(200, body))
      await failure(getSecret('a', { fetch }), { code: 'InvalidAnswer', source: 'secrets', id: 'a', status: 200 })
    }
  })
})

describe('s3', () => {
  const uri = 's3://bucket/folder/object'
  const inMemory = { parse: text }

  const KEYS = [
    'plain', 'with space', 'plus+plus', 'per%cent', '%20', '%2F', '%2e%2e/%2E', '"double" and \'single\'', "'()*!", 'quote\'s', 'ünïcödé', '日本語/キー', '🚀',
    'a//b', '/leading', '//two', 'trailing/', 'what?', 'a#b', 'a?b=c&d=e#f', 'tab\there', 'line\nbreak', 'a=b;c,d:e@f$g', 'back\\slash', '[]{}|^`<>~', '...', '.hidden', 'a/..b/c..', '&amp;', 'x'.repeat(1024),
  ]
  for (const key of KEYS) {
    test(`reads the key ${inspect(key).slice(0, 40)}`, async () => {
      const aws = await local({ objects: { [`s3://bucket/${key}`]: `content of ${key}`, 's3://bucket/other': '' } })
      assert.equal(await getObject(`s3://bucket/${key}`, inMemory), `content of ${key}`)
      assert.equal(aws.requests[0]?.input['Key'], key)
    })
  }

  for (const key of ['.', '..', './a', '../a', 'a/.', 'a/..', 'a/./b', 'a/../b', 'a/b/../../../other/key']) {
    test(`refuses the key ${key}, which a URL cannot carry`, async () => {
      const { fetch, sent } = script(reply(200, 'another object'))
      await failure(getObject(`s3://bucket/${key}`, { ...inMemory, fetch }), { code: 'UnsupportedKey', source: 's3', id: `s3://bucket/${key}` })
      assert.equal(sent.length, 0)
    })
  }

  const STYLES: readonly [bucket: string, endpoint: string | undefined, url: string][] = [
    ['bucket', undefined, 'https://bucket.s3.us-east-1.amazonaws.com/a%20key'],
    ['an-alias-s3alias', undefined, 'https://an-alias-s3alias.s3.us-east-1.amazonaws.com/a%20key'],
    ['bucket.with.dots', undefined, 'https://s3.us-east-1.amazonaws.com/bucket.with.dots/a%20key'],
    ['bucket', 'https://s3.example.com', 'https://s3.example.com/bucket/a%20key'],
    ['bucket', 'http://127.0.0.1:9000/prefix/', 'http://127.0.0.1:9000/prefix/bucket/a%20key'],
  ]
  for (const [bucket, endpoint, url] of STYLES) {
    test(`asks for ${bucket} at ${url}`, async () => {
      if (endpoint) process.env['AWS_ENDPOINT_URL_S3'] = endpoint
      const { fetch, sent } = script(reply(200, 'content'))
      await getObject(`s3://${bucket}/a key`, { ...inMemory, fetch })
      assert.deepEqual([sent[0]?.url, sent[0]?.method], [url, 'GET'])
    })
  }

  test('downloads to /tmp, under the last segment of the key', async () => {
    const name = `lambda-cache-test-${process.pid}.json`
    cleanups.push(() => rm(`/tmp/${name}`, { force: true }))
    await local({ objects: { [`s3://bucket/path/to/${name}`]: '{}' } })
    assert.deepEqual(await invoking({ s3: [`s3://bucket/path/to/${name}`] }, name)(), [`/tmp/${name}`])
    assert.equal(await readFile(`/tmp/${name}`, 'utf8'), '{}')
  })

  test('writes no file for what is parsed or binary', async () => {
    const name = `lambda-cache-test-${process.pid}-memory`
    const content = Buffer.from([0, 255, 10, 13, 128])
    const aws = await local({ objects: { [`s3://bucket/${name}`]: { base64: content.toString('base64') } } })
    const got = await getObject(`s3://bucket/${name}`, { binary: true })
    assert.deepEqual(got, new Uint8Array(content))
    aws.putObject(`s3://bucket/${name}`, '{"release":1}')
    assert.deepEqual(await getObject(`s3://bucket/${name}`, { parse: json, maxAge: 0 }), { release: 1 })
    assert.equal(existsSync(`/tmp/${name}`), false)
  })

  test('gives bytes and text of one object side by side', async () => {
    await local({ objects: { [uri]: 'täxt' } })
    const file = join(await temporaryFolder(), 'object')
    const results = await Promise.all([getObject(uri, { binary: true }), getObject(uri, inMemory), getObject(uri, { file })])
    assert.deepEqual(results, [new TextEncoder().encode('täxt'), 'täxt', file])
  })

  test('writes files that nobody else can read', async () => {
    await local({ objects: { [uri]: 'content' } })
    const umask = process.umask(0)
    cleanups.push(() => process.umask(umask))
    const file = join(await temporaryFolder(), 'object')
    await getObject(uri, { file })
    assert.equal((await stat(file)).mode & 0o777, 0o600)
  })

  test('replaces a link at the target, not what it points to', async () => {
    await local({ objects: { [uri]: 'content' } })
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'other'), 'untouched')
    await symlink(join(folder, 'other'), join(folder, 'object'))
    await getObject(uri, { file: join(folder, 'object') })
    assert.deepEqual([await readFile(join(folder, 'other'), 'utf8'), await readFile(join(folder, 'object'), 'utf8')], ['untouched', 'content'])
  })

  test('moves no data while the object is unchanged', async () => {
    const aws = await local({ objects: { [uri]: 'content' } })
    const file = join(await temporaryFolder(), 'object')
    const statuses: number[] = []
    aws.intercept = (_, response) => void response.once('finish', () => statuses.push(response.statusCode))
    await getObject(uri, { file })
    const before = await stat(file)
    for (let time = 0; time < 2; time += 1) {
      pass(MINUTE)
      assert.equal(await getObject(uri, { file }), file)
      await getObject(uri, { file })
    }
    const after = await stat(file)
    assert.deepEqual([after.ino, after.mtimeMs, after.ctimeMs], [before.ino, before.mtimeMs, before.ctimeMs])
    assert.deepEqual(statuses, [200, 304, 304])
    aws.putObject(uri, 'newer content')
    pass(MINUTE)
    await getObject(uri, { file })
    assert.equal(await readFile(file, 'utf8'), 'newer content')
  })

  test('moves no data for what is in memory, either, and does not parse it again', async () => {
    const aws = await local({ objects: { [uri]: '7' } })
    const parse = mock.fn(Number)
    for (let time = 0; time < 3; time += 1) {
      assert.equal(await getObject(uri, { parse, maxAge: 0 }), 7)
      assert.equal(aws.requests[time]?.headers['if-none-match'] !== undefined, time > 0)
    }
    assert.equal(parse.mock.callCount(), 1)
  })

  const TAMPERING: readonly [what: string, tamper: (file: string) => Promise<unknown>][] = [
    ['changed', (file) => writeFile(file, 'something else')],
    ['changed without a trace in its time', changeKeepingTime],
    ['changed to as many bytes', (file) => writeFile(file, 'CONTENT').then(() => utimes(file, 1, 1))],
    ['replaced by another of the same size and time', replaceByLikeness],
    ['deleted', (file) => rm(file)],
  ]
  for (const [what, tamper] of TAMPERING) {
    test(`downloads a file anew that was ${what}`, async () => {
      const aws = await local({ objects: { [uri]: 'content' } })
      const file = join(await temporaryFolder(), 'object')
      await getObject(uri, { file })
      await tamper(file)
      pass(MINUTE)
      await getObject(uri, { file })
      assert.equal(await readFile(file, 'utf8'), 'content')
      assert.equal(aws.requests[1]?.headers['if-none-match'], undefined)
    })
  }

  async function changeKeepingTime(file: string): Promise<void> {
    const touch = (from: string, to: string) => promisify(execFile)('touch', ['-r', from, to])
    await touch(file, `${file}.time`)
    await writeFile(file, 'something longer')
    await touch(`${file}.time`, file)
  }

  async function replaceByLikeness(file: string): Promise<void> {
    await writeFile(`${file}.new`, 'CONTENT')
    await promisify(execFile)('touch', ['-r', file, `${file}.new`])
    await rename(`${file}.new`, file)
  }

  test('reads a version, with an entry of its own', async () => {
    const aws = await local()
    const { versionId } = aws.putObject(uri, 'one')
    aws.putObject(uri, 'two')
    assert.deepEqual(await Promise.all([getObject(uri, inMemory), getObject(uri, { ...inMemory, versionId })]), ['two', 'one'])
    await failure(getObject(uri, { ...inMemory, versionId: 'none' }), { code: 'NoSuchVersion', id: uri })
    assert.equal(await getObject(uri, { ...inMemory, versionId: 'none', default: 'default' }), 'default')
    const { fetch, sent } = script(xml(403, 'AccessDenied'))
    await failure(getObject(uri, { ...inMemory, versionId: 'a+b/c=&d', fetch }), {}, 's3:GetObjectVersion')
    assert.ok(sent[0]?.url.endsWith('/folder/object?versionId=a%2Bb%2Fc%3D%26d'), sent[0]?.url)
  })

  test('goes to the region of the bucket, and remembers it', async () => {
    const aws = await local({ objects: { [uri]: 'content', 's3://bucket/other': 'other' } })
    aws.putBucketRegion('bucket', 'eu-central-1')
    assert.equal(await getObject(uri, inMemory), 'content')
    assert.equal(await getObject('s3://bucket/other', inMemory), 'other')
    assert.deepEqual(aws.requests.map(({ region }) => region), ['us-east-1', 'eu-central-1', 'eu-central-1'])
  })

  for (const first of [xml(301, 'PermanentRedirect', { 'x-amz-bucket-region': 'eu-west-1' }), xml(400, 'AuthorizationHeaderMalformed', { 'x-amz-bucket-region': 'eu-west-1' })]) {
    test(`goes to the host of the bucket's region after HTTP ${first.status}, once`, async () => {
      const { fetch, sent } = script(first, xml(301, 'PermanentRedirect', { 'x-amz-bucket-region': 'eu-west-2' }))
      await failure(getObject(uri, { ...inMemory, fetch }), { code: 'PermanentRedirect', status: 301 })
      assert.deepEqual(sent.map(({ url }) => new URL(url).host), ['bucket.s3.us-east-1.amazonaws.com', 'bucket.s3.eu-west-1.amazonaws.com'])
      assert.match(sent[1]?.headers['authorization'] ?? '', /\/eu-west-1\/s3\//)
    })
  }

  for (const region of ['', 'us-east-1', 'example.com/', 'eu-west-1.example.com', '@example.com', 'EU-WEST-1', 'eu-west-1\u{e9}', '1', 'x'.repeat(99)]) {
    test(`goes nowhere else for a bucket's region ${inspect(region)}`, async () => {
      const { fetch, sent } = script(xml(301, 'PermanentRedirect', { 'x-amz-bucket-region': region }))
      await failure(getObject(uri, { ...inMemory, fetch }), { code: 'PermanentRedirect', status: 301 })
      assert.equal(sent.length, 1)
    })
  }

  const CUT_SHORT: readonly [how: string, fetch: () => Promise<Fetch>][] = [
    ['by a connection that breaks', async () => {
      const aws = await local()
      aws.intercept = (_, response) => {
        response.writeHead(200, { 'content-length': 100 }).write('half of it', () => response.destroy())
        return true
      }
      return globalThis.fetch
    }],
    ['by an answer that ends early', async () => script(reply(200, 'half of it', { 'content-length': '100' })).fetch],
    ['by an answer that goes on for too long', async () => script(reply(200, 'more of it', { 'content-length': '1' })).fetch],
  ]
  for (const [how, brokenFetch] of CUT_SHORT) {
    test(`leaves the file as it was where a download is cut short ${how}`, async () => {
      await local({ objects: { [uri]: 'content' } })
      const folder = await temporaryFolder()
      const file = join(folder, 'object')
      await getObject(uri, { file })
      clearCache()
      const fetch = await brokenFetch()
      await failure(getObject(uri, { file, fetch }), { code: 'NetworkError', source: 's3', id: uri })
      assert.equal(await readFile(file, 'utf8'), 'content')
      assert.deepEqual(await readdir(folder), ['object'])
      await failure(getObject(uri, { ...inMemory, fetch }), { code: 'NetworkError', source: 's3', id: uri })
    })
  }

  test('takes no content-length for that of what was compressed', async () => {
    const { fetch } = script(reply(200, 'decompressed', { 'content-length': '5', 'content-encoding': 'gzip' }))
    assert.equal(await getObject(uri, { ...inMemory, fetch }), 'decompressed')
  })

  const noPermission = async (folder: string) => {
    await chmod(folder, 0o500)
    return join(folder, 'object')
  }
  const DISKS: readonly [what: string, code: string, target: (folder: string) => Promise<string>, skip?: string | false][] = [
    ['a directory in its place', '(E', async (folder) => (await mkdir(join(folder, 'object')), join(folder, 'object'))],
    ['no such folder', '(ENOENT)', async (folder) => join(folder, 'none', 'object')],
    ['a file for a folder', '(ENOTDIR)', async (folder) => (await writeFile(join(folder, 'object'), ''), join(folder, 'object', 'object'))],
    ['no permission', '(EACCES)', noPermission, process.getuid?.() === 0 && 'root may write everywhere'],
  ]
  for (const [what, code, target, skip = false] of DISKS) {
    test(`says that it cannot write: ${what}`, { skip }, async () => {
      const aws = await local({ objects: { [uri]: 'content' } })
      const folder = await temporaryFolder()
      const file = await target(folder)
      const before = await readdir(folder)
      const { cause } = await failure(getObject(uri, { file }), { code: 'FileError', source: 's3', id: uri }, file, code)
      assert.ok(cause instanceof Error, 'the cause is what the file system said')
      assert.deepEqual(await readdir(folder), before)
      assert.equal(aws.requests.length, 1)
    })
  }

  test('refuses to download two objects to one file', async () => {
    await local({ objects: { [uri]: 'one', 's3://bucket/other': 'other' } })
    const file = join(await temporaryFolder(), 'object')
    await getObject(uri, { file })
    await failure(getObject('s3://bucket/other', { file }), { code: 'InvalidOptions', source: 's3', id: 's3://bucket/other' }, file)
    assert.equal(await readFile(file, 'utf8'), 'one')
    const twice = invoking({ s3: [{ uri, file: `${file}.json`, as: 'one' }, { uri: 's3://bucket/other', file: `${file}.json`, as: 'two' }] })
    await failure(twice, { code: 'InvalidOptions' }, `${file}.json`)
  })

  test('lets the next download have the file after clearCache', async () => {
    await local({ objects: { [uri]: 'one', 's3://bucket/other': 'other' } })
    const file = join(await temporaryFolder(), 'object')
    await getObject(uri, { file })
    clearCache()
    await getObject('s3://bucket/other', { file })
    assert.equal(await readFile(file, 'utf8'), 'other')
  })
})

// ---- AWS calls ----

describe('attempts', () => {
  /** What a failing call waited for before each further attempt, in milliseconds, when chance is at its worst. */
  async function pauses(source: SourceCase, answer: Answer | (() => Answer), details: Partial<ErrorDetails>): Promise<number[]> {
    mock.method(Math, 'random', () => 0.999)
    const { fetch, sent } = script(answer)
    await elapse(() => failure(source.read({ fetch }), { source: source.source, id: source.id, ...details }))
    return sent.slice(1).map(({ at }, index) => at - sent[index]!.at)
  }

  function assertPauses(got: number[], ...expected: number[]): void {
    const rounded = got.map((pause, index) => (pause >= 0.9 * expected[index]! && pause <= expected[index]! + 10 ? expected[index] : pause))
    assert.deepEqual(rounded, expected)
  }

  const NETWORK = [
    'ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH',
    'UND_ERR_SOCKET', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT',
  ]
  const THROTTLING = [
    'ThrottlingException', 'Throttling', 'ThrottledException', 'RequestThrottled', 'RequestThrottledException', 'EC2ThrottledException',
    'TooManyRequestsException', 'ProvisionedThroughputExceededException', 'RequestLimitExceeded', 'LimitExceededException', 'BandwidthLimitExceeded',
    'SlowDown', 'PriorRequestNotComplete', 'TransactionInProgressException',
  ]
  const PASSING: readonly [what: string, answer: Answer, details: Partial<ErrorDetails>, pauses: [number, number], source?: SourceCase][] = [
    ...[500, 502, 503, 504].map((status): (typeof PASSING)[number] => [`HTTP ${status}`, reply(status), { code: `Http${status}`, status }, [50, 100]]),
    ['HTTP 502 with a page', reply(502, `<html>${CANARY}-body`), { code: 'Http502', status: 502 }, [50, 100], S3],
    ['InternalServerError', reply(500, { __type: 'InternalServerError' }), { code: 'InternalServerError', status: 500 }, [50, 100], SECRETS],
    ['S3 InternalError', xml(500, 'InternalError'), { code: 'InternalError', status: 500 }, [50, 100], S3],
    ['RequestTimeout as HTTP 400', xml(400, 'RequestTimeout'), { code: 'RequestTimeout', status: 400 }, [50, 100], S3],
    ...NETWORK.map((code): (typeof PASSING)[number] => [code, unreachable(code), { code: 'NetworkError' }, [50, 100]]),
    ['a code on the error itself', Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' }), { code: 'NetworkError' }, [50, 100]],
    ['HTTP 429', reply(429), { code: 'Http429', status: 429 }, [1000, 2000]],
    ['S3 SlowDown', xml(503, 'SlowDown'), { code: 'SlowDown', status: 503 }, [1000, 2000], S3],
    ...THROTTLING.map((code): (typeof PASSING)[number] => [`${code} as HTTP 400`, refusal(code), { code, status: 400 }, [1000, 2000], SECRETS]),
  ]
  for (const [what, answer, details, expected, source = SSM] of PASSING) {
    test(`three times, then the error: ${what}`, async () => assertPauses(await pauses(source, answer, details), ...expected))

    test(`the third may go well: ${what}`, async () => {
      const { fetch, sent } = script(answer, answer, source.answer('value'))
      assert.equal(await elapse(() => source.read({ fetch })), 'value')
      assert.equal(sent.length, 3)
      assert.ok(sent[2]!.at - sent[0]!.at < 10, 'no pause where chance says so')
    })
  }

  const DEFINITE: readonly [what: string, answer: Answer, details: Partial<ErrorDetails>, source?: SourceCase][] = [
    ...['ValidationException', 'AccessDeniedException', 'UnrecognizedClientException', 'ExpiredTokenException', 'InvalidSignatureException', 'DecryptionFailure', 'InvalidKeyId'].map(
      (code): (typeof DEFINITE)[number] => [code, refusal(code), { code, status: 400 }],
    ),
    ...[304, 401, 404, 405, 501].map((status): (typeof DEFINITE)[number] => [`HTTP ${status}`, reply(status), { code: `Http${status}`, status }]),
    ...[301, 302, 307, 308].map((status): (typeof DEFINITE)[number] => [`a redirect with HTTP ${status}`, reply(status, '', { location: 'http://127.0.0.1:1/' }), { code: `Http${status}`, status }]),
    ['S3 ExpiredToken', xml(400, 'ExpiredToken'), { code: 'ExpiredToken', status: 400 }, S3],
    ['S3 InvalidObjectState', xml(403, 'InvalidObjectState'), { code: 'InvalidObjectState', status: 403 }, S3],
    ['S3 304 without having asked', reply(304), { code: 'Http304', status: 304 }, S3],
    ...[
      ...['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'ERR_TLS_CERT_ALTNAME_INVALID'],
      ...['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'ERR_INVALID_URL'],
    ].map((code): (typeof DEFINITE)[number] => [code, unreachable(code), { code: 'RequestFailed' }]),
    ['a fetch that throws', new TypeError(`Headers.append: "${CANARY}-session-token" is an invalid header value.`), { code: 'RequestFailed' }],
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
    for (const [source, answer] of forms) await failure(source.read({ fetch: script(answer).fetch }), { code: 'SomeException', status: 400 })
  })

  test('each with a signature of its own', async () => {
    mock.method(Math, 'random', () => 0.999)
    const { fetch, sent } = script(reply(429), reply(429), SSM.answer('value'))
    await elapse(() => SSM.read({ fetch }))
    assert.equal(new Set(sent.map(({ headers }) => headers['x-amz-date'])).size, 3)
    assert.equal(new Set(sent.map(({ headers }) => headers['authorization'])).size, 3)
    assert.equal(new Set(sent.map(({ body }) => body)).size, 1)
  })

  test('each with the credentials of the moment', async () => {
    const { fetch, sent } = script(() => {
      process.env['AWS_ACCESS_KEY_ID'] = 'renewed'
      return reply(500)
    }, SSM.answer('value'))
    await SSM.read({ fetch })
    assert.match(sent[1]?.headers['authorization'] ?? '', /Credential=renewed\//)
  })

  for (const source of SOURCES) {
    test(`end after 2 s without any progress, and name the host: ${source.source}`, async () => {
      const { fetch, sent } = script('never')
      mock.method(Math, 'random', () => 0.999)
      await elapse(() => failure(source.read({ fetch }), { code: 'Timeout', source: source.source, id: source.id }, AWS_HOSTS[source.source], 'VPC'))
      assertPauses(sent.slice(1).map(({ at }, index) => at - sent[index]!.at), 2050, 2100)
      assert.ok(sent.every(({ signal }) => signal.aborted), 'nothing is left running')
    })

    test(`end where the body stalls: ${source.source}`, async () => {
      const { fetch, sent } = script(({ signal }) => trickle(['{"Parameters"'], 0, signal), source.answer('value'))
      assert.equal(await elapse(() => source.read({ fetch })), 'value')
      assert.equal(sent.length, 2)
      assert.ok(sent[1]!.at - sent[0]!.at >= 2000)
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
      else await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)))
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
        assertKeepsSecrets(await failure(source.read({ fetch }), { source: source.source, status: answer.status }))
        assert.deepEqual(dates(sent), ['20260102T030405Z', corrected])
      })
    }
  }

  test('correct no clock without a date', async () => {
    for (const date of ['', 'tomorrow']) {
      const { fetch, sent } = script(refusal('InvalidSignatureException', expired, { date }))
      await failure(SSM.read({ fetch }), { code: 'InvalidSignatureException' })
      assert.equal(sent.length, 1)
    }
  })

  test('follow no redirect', async () => {
    const visitors: string[] = []
    const elsewhere = await serve(({ headers }, response) => {
      visitors.push(JSON.stringify(headers))
      response.end('{}')
    })
    const aws = await local()
    aws.intercept = (_, response) => (response.writeHead(307, { location: elsewhere }).end(), true)
    for (const source of SOURCES) await failure(source.read(), { code: 'Http307', status: 307 })
    assert.deepEqual(visitors, [])
  })

  test('take no more than 8 MiB for an answer in JSON', async () => {
    const bytes = 8 * 1024 * 1024
    for (const source of [SSM, SECRETS]) {
      const { fetch, sent } = script(() => source.answer('x'.repeat(bytes)), () => source.answer('x'.repeat(bytes - 100)))
      await failure(source.read({ fetch }), { code: 'InvalidAnswer', source: source.source, id: source.id })
      assert.ok(sent[0]?.signal.aborted, 'the rest is not read')
      assert.equal(String(await source.read({ fetch })).length, bytes - 100)
    }
    const { fetch } = script(() => S3.answer('x'.repeat(bytes + 1)))
    assert.equal(String(await S3.read({ fetch })).length, bytes + 1, 'objects may be larger')
  })
})

// ---- Signature Version 4 ----

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
    readonly credentials: { readonly access_key_id: string; readonly secret_access_key: string; readonly token?: string }
    readonly omit_session_token?: boolean
    readonly region: string
    readonly service: string
    readonly timestamp: string
  }
}

const REWRITTEN = 'a URL resolves the segments "." and ".." that this signs as they stand'
const COLLAPSED = 'S3 alone signs double slashes as they stand'
const ENCODED = 'a URL percent-encodes what stands bare in this path; a service but S3 then signs the percent sign'
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
const S3_EXAMPLES: readonly [title: string, request: Pick<SignRequest, 'method' | 'headers' | 'body'>, target: string, canonicalRequest: string[], hash: string, signature: string][] = [
  [
    'GET Object', { method: 'GET', headers: { Range: 'bytes=0-9' } }, '/test.txt',
    ['GET', '/test.txt', '', 'host:examplebucket.s3.amazonaws.com', 'range:bytes=0-9', `x-amz-content-sha256:${EMPTY}`, 'x-amz-date:20130524T000000Z', '',
      'host;range;x-amz-content-sha256;x-amz-date', EMPTY],
    '7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972',
    'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  ],
  [
    'PUT Object',
    { method: 'PUT', headers: { Date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-storage-class': 'REDUCED_REDUNDANCY' }, body: 'Welcome to Amazon S3.' }, '/test%24file.text',
    ['PUT', '/test%24file.text', '', 'date:Fri, 24 May 2013 00:00:00 GMT', 'host:examplebucket.s3.amazonaws.com',
      'x-amz-content-sha256:44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072', 'x-amz-date:20130524T000000Z', 'x-amz-storage-class:REDUCED_REDUNDANCY', '',
      'date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class', '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072'],
    '9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d',
    '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
  ],
  [
    'GET Bucket Lifecycle', { method: 'GET' }, '/?lifecycle',
    ['GET', '/', 'lifecycle=', 'host:examplebucket.s3.amazonaws.com', `x-amz-content-sha256:${EMPTY}`, 'x-amz-date:20130524T000000Z', '', 'host;x-amz-content-sha256;x-amz-date', EMPTY],
    '9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca',
    'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
  ],
  [
    'Get Bucket (List Objects)', { method: 'GET' }, '/?prefix=J&max-keys=2',
    ['GET', '/', 'max-keys=2&prefix=J', 'host:examplebucket.s3.amazonaws.com', `x-amz-content-sha256:${EMPTY}`, 'x-amz-date:20130524T000000Z', '', 'host;x-amz-content-sha256;x-amz-date', EMPTY],
    'df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7',
    '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  ],
]

describe('Signature Version 4', () => {
  for (const [title, request, target, lines, hash, signature] of S3_EXAMPLES) {
    test(`signs the example of the S3 API Reference: ${title}`, () => {
      const signed = signing({
        ...request,
        url: `https://examplebucket.s3.amazonaws.com${target}`,
        service: 's3',
        region: 'us-east-1',
        credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' },
        date: new Date('2013-05-24T00:00:00Z'),
      })
      assert.equal(signed.canonicalRequest, lines.join('\n'))
      assert.equal(signed.stringToSign, `AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n${hash}`)
      assert.equal(signed.signature, signature)
    })
  }

  const vectors = new URL('../shared/sigv4/vectors.json', import.meta.url)
  const cases = existsSync(vectors) ? (JSON.parse(readFileSync(vectors, 'utf8')) as { cases: Vector[] }).cases : []
  test('has AWS\'s test suite at hand', { skip: cases.length === 0 && 'not in this clone' }, () => {
    const carried = cases.filter(({ name }) => !(name in NOT_IN_A_URL))
    assert.ok(carried.length >= 28, `${carried.length} of ${cases.length}`)
    assert.deepEqual(Object.keys(NOT_IN_A_URL).filter((name) => !cases.some((vector) => vector.name === name)), [])
  })
  for (const { name, context, method, target, headers, body, ...expected } of cases) {
    test(`signs AWS's ${name}`, { skip: NOT_IN_A_URL[name] ?? false }, () => {
      const { access_key_id: accessKeyId, secret_access_key: secretAccessKey, token: sessionToken } = context.credentials
      const joined: Record<string, string> = {}
      for (const [header, value] of headers) if (!/^(host|x-amz-date)$/i.test(header)) joined[header] = header in joined ? `${joined[header]},${value}` : value
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
      credentials: Object.freeze({ accessKeyId: 'AKID', secretAccessKey: 'SECRET', sessionToken: 'TOKEN' }),
      date: new Date(START),
    })
    const { authorization, ...headers } = sign(request)
    assert.deepEqual(headers, { 'content-type': 'application/x-amz-json-1.1', 'x-amz-date': '20260102T030405Z', 'x-amz-security-token': 'TOKEN' })
    assert.match(authorization ?? '', /^AWS4-HMAC-SHA256 Credential=AKID\/20260102\/eu-west-1\/ssm\/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=[0-9a-f]{64}$/)
    assert.deepEqual(sign(request), sign({ ...request, body: new TextEncoder().encode('{}') }))
    const s3 = sign({ ...request, method: 'GET', service: 's3', body: undefined })
    assert.equal(s3['x-amz-content-sha256'], EMPTY)
  })

  test('signs a port, and sorts a query by name and then by value', () => {
    const request = { method: 'GET', service: 's3', region: 'us-east-1', credentials: { accessKeyId: 'A', secretAccessKey: 'S' }, date: new Date(START) }
    const lines = (url: string) => signing({ ...request, url }).canonicalRequest.split('\n')
    assert.ok(lines('http://localhost:4566/').includes('host:localhost:4566'))
    assert.equal(lines('https://host/?b=2&a-b=1&a=2&a=10&a=%2B%20!')[2], 'a=%2B%20%21&a=10&a=2&a-b=1&b=2')
    assert.equal(lines('https://host/a//b/%2520/%2B')[1], '/a//b/%2520/%2B')
  })
})

// ---- Credentials ----

describe('credentials', () => {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = ENVIRONMENT
  const container = (expiresIn = HOUR, id = accessKeyId) =>
    reply(200, { AccessKeyId: id, SecretAccessKey: secretAccessKey, Token: sessionToken, Expiration: new Date(Date.now() + expiresIn).toISOString() })

  /** A fetch that gives the container's credentials, and AWS's answers. */
  function scripted(credentials: Answer | (() => Answer) = () => container()) {
    const { fetch, sent } = script((request) => {
      if (request.headers['x-amz-date']) return SSM.answer('value')
      return typeof credentials === 'function' ? credentials() : credentials
    })
    const asked = () => sent.filter(({ headers }) => !headers['x-amz-date'])
    const signed = () => sent.filter(({ headers }) => headers['x-amz-date'])
    return { fetch, sent, asked, signed }
  }

  function containerEnvironment(uri: string, more: Record<string, string> = {}): void {
    const variable = uri.startsWith('/') ? 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI' : 'AWS_CONTAINER_CREDENTIALS_FULL_URI'
    setEnvironment({ AWS_REGION: 'us-east-1', [variable]: uri, ...more })
  }

  test('come from the environment, anew for every signature', async () => {
    const { fetch, sent } = script(SSM.answer('value'))
    await SSM.read({ fetch })
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'other', AWS_SESSION_TOKEN: 'other-token' })
    await SSM.read({ fetch, maxAge: 0 })
    delete process.env['AWS_SESSION_TOKEN']
    await SSM.read({ fetch, maxAge: 0 })
    assert.deepEqual(sent.map(({ headers }) => headers['x-amz-security-token']), [sessionToken, 'other-token', undefined])
    assert.match(sent[1]?.headers['authorization'] ?? '', /Credential=other\//)
    for (const { headers } of sent) assert.ok(!JSON.stringify(headers).includes(secretAccessKey))
  })

  test('come from the environment before the container', async () => {
    const { fetch, asked } = scripted()
    process.env['AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'] = '/credentials'
    await SSM.read({ fetch })
    assert.equal(asked().length, 0)
  })

  const ALLOWED: readonly [uri: string, url: string][] = [
    ['/v2/credentials/id?a=b', 'http://169.254.170.2/v2/credentials/id?a=b'],
    ...['http://127.0.0.1:1234/c', 'http://127.1.2.3/c', 'http://localhost/c', 'http://localhost:80/c', 'http://[::1]:80/c', 'http://169.254.170.2/c', 'http://169.254.170.23/v1/credentials'].map(
      (uri): [string, string] => [uri, uri],
    ),
    ['http://[fd00:ec2::23]/v1/credentials', 'http://[fd00:ec2::23]/v1/credentials'],
    ['https://credentials.example.com/c', 'https://credentials.example.com/c'],
  ]
  for (const [uri, url] of ALLOWED) {
    test(`come from ${uri}`, async () => {
      containerEnvironment(uri)
      const { fetch, asked, signed } = scripted()
      assert.equal(await SSM.read({ fetch }), 'value')
      assert.deepEqual(asked().map((request) => [request.url, request.method, request.headers]), [[url, 'GET', {}]])
      assert.equal(signed()[0]?.headers['x-amz-security-token'], sessionToken)
      assert.match(signed()[0]?.headers['authorization'] ?? '', new RegExp(`Credential=${accessKeyId}/`))
    })
  }

  const REFUSED_URIS: readonly (readonly [variable: 'FULL' | 'RELATIVE', uri: string])[] = [
    ...[
      ...['169.254.169.254', '169.254.170.3', '169.254.170.24', '169.254.170.231', '10.0.0.1', '192.168.1.1', '172.16.0.1', '8.8.8.8', '0.0.0.0', 'example.com'],
      ...['2852039166', '0xa9fea9fe', '0251.0376.0251.0376', '1270.0.0.1', '12.7.0.0.1', '[::ffff:169.254.169.254]', '[fd00:ec2::254]', '[fe80::1]'],
      ...['localhost.example.com', '127.0.0.1.example.com', '169.254.170.2.example.com', 'example.com#169.254.170.2', 'example.com/http://127.0.0.1'],
      ...['127.0.0.1@example.com', '169.254.170.2:80@example.com', 'localhost:a@example.com', 'user:secret@example.com', '169.254.170.2\\@example.com', 'example.com\\@127.0.0.1'],
    ].map((host) => ['FULL', `http://${host}/c`] as const),
    ...['ftp://127.0.0.1/c', 'file:///etc/passwd', '127.0.0.1/c', 'data:,{}'].map((uri) => ['FULL', uri] as const),
    ...['@example.com/c', '.example.com/c', ':80@example.com/c', '0/c', '31/c', '3.example.com/c'].map((path) => ['RELATIVE', path] as const),
  ]
  for (const [variable, uri] of REFUSED_URIS) {
    test(`do not come from ${variable}_URI ${uri}`, async () => {
      setEnvironment({ AWS_REGION: 'us-east-1', [`AWS_CONTAINER_CREDENTIALS_${variable}_URI`]: uri })
      const { fetch, sent } = scripted()
      await failure(SSM.read({ fetch }), { code: 'NoCredentials', source: 'ssm', id: SSM.id })
      assert.equal(sent.length, 0)
    })
  }

  test('carry the container\'s token, from the file before the variable, read every time', async () => {
    const file = join(await temporaryFolder(), 'token')
    const { fetch, asked } = scripted(() => container(-HOUR))
    containerEnvironment('/c', { AWS_CONTAINER_AUTHORIZATION_TOKEN: `${CANARY}-token` })
    await SSM.read({ fetch })
    process.env['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE'] = file
    for (const token of ['first', 'second']) {
      await writeFile(file, `${token}\n`)
      await SSM.read({ fetch, maxAge: 0 })
    }
    assert.deepEqual(asked().map(({ headers }) => headers), [{ authorization: `${CANARY}-token` }, { authorization: 'first' }, { authorization: 'second' }])
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

  test('are fetched once for concurrent calls', async () => {
    containerEnvironment('/c')
    const { fetch, asked, signed } = scripted()
    await Promise.all([SSM.read({ fetch }), getSecret('a', { fetch }).catch(() => {}), getParameter('/b', { fetch, region: 'eu-west-1' }).catch(() => {})])
    assert.equal(asked().length, 1)
    assert.equal(signed().length, 3)
  })

  test('are asked for again after a failure', async () => {
    containerEnvironment('/c')
    const answers = [reply(404, `${CANARY}-body`), container()]
    const { fetch } = scripted(() => answers.shift()!)
    assertKeepsSecrets(await failure(SSM.read({ fetch }), { code: 'NoCredentials' }, '404'))
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

  test('come over real sockets, and do not follow a redirect there', async () => {
    const aws = await local({ parameters: { '/app/value': 'value' } })
    const visits: (string | undefined)[] = []
    const url = await serve(({ url, headers }, response) => {
      visits.push(`${url} ${headers.authorization}`)
      if (url === '/moved') return void response.writeHead(302, { location: '/credentials' }).end()
      const { AWS_ACCESS_KEY_ID: AccessKeyId, AWS_SECRET_ACCESS_KEY: SecretAccessKey, AWS_SESSION_TOKEN: Token } = aws.env
      response.end(JSON.stringify({ AccessKeyId, SecretAccessKey, Token, Expiration: new Date(START + HOUR).toISOString() }))
    })
    const more = { AWS_ENDPOINT_URL: aws.url, AWS_CONTAINER_AUTHORIZATION_TOKEN: 'token' }
    containerEnvironment(`${url}/moved`, more)
    await failure(SSM.read(), { code: 'NoCredentials' }, '302')
    containerEnvironment(`${url}/credentials`, more)
    assert.equal(await SSM.read(), 'value')
    assert.deepEqual(visits, ['/moved token', '/credentials token'])
  })

  test('that are nowhere are asked for by name', async () => {
    for (const partial of [{}, { AWS_ACCESS_KEY_ID: 'id' }, { AWS_SECRET_ACCESS_KEY: 'secret' }]) {
      setEnvironment({ AWS_REGION: 'us-east-1', ...partial })
      const { fetch, sent } = scripted()
      const variables = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI', 'AWS_CONTAINER_CREDENTIALS_FULL_URI']
      await failure(SSM.read({ fetch }), { code: 'NoCredentials' }, ...variables)
      assert.equal(sent.length, 0)
    }
  })
})

// ---- Endpoints ----

describe('endpoints', () => {
  const [FIPS, DUAL_STACK] = [{ AWS_USE_FIPS_ENDPOINT: 'true' }, { AWS_USE_DUALSTACK_ENDPOINT: 'true' }]
  const BOTH = { ...FIPS, ...DUAL_STACK }
  const HERE = 'http://127.0.0.1:4566'

  /** By region, what the official SDK calls: for SSM, Secrets Manager and S3. */
  const SDK: readonly [region: string, environment: Record<string, string>, ssm: string, secrets: string, s3: string][] = [
    ...(
      [
        ['us-east-1', 'amazonaws.com'],
        ['ap-southeast-5', 'amazonaws.com'],
        ['us-gov-west-1', 'amazonaws.com'],
        ['cn-northwest-1', 'amazonaws.com.cn'],
        ['us-iso-east-1', 'c2s.ic.gov'],
        ['us-isob-east-1', 'sc2s.sgov.gov'],
        ['eu-isoe-west-1', 'cloud.adc-e.uk'],
        ['us-isof-south-1', 'csp.hci.ic.gov'],
        ['eusc-de-east-1', 'amazonaws.eu'],
      ] as const
    ).map(([region, suffix]): (typeof SDK)[number] => [region, {}, `ssm.${region}.${suffix}`, `secretsmanager.${region}.${suffix}`, `bucket.s3.${region}.${suffix}`]),
    ['us-east-1', FIPS, 'ssm-fips.us-east-1.amazonaws.com', 'secretsmanager-fips.us-east-1.amazonaws.com', 'bucket.s3-fips.us-east-1.amazonaws.com'],
    ['us-east-1', DUAL_STACK, 'ssm.us-east-1.api.aws', 'secretsmanager.us-east-1.amazonaws.com', 'bucket.s3.dualstack.us-east-1.amazonaws.com'],
    ['us-east-1', BOTH, 'ssm-fips.us-east-1.api.aws', 'secretsmanager-fips.us-east-1.amazonaws.com', 'bucket.s3-fips.dualstack.us-east-1.amazonaws.com'],
    ['us-gov-west-1', FIPS, 'ssm.us-gov-west-1.amazonaws.com', 'secretsmanager-fips.us-gov-west-1.amazonaws.com', 'bucket.s3-fips.us-gov-west-1.amazonaws.com'],
    ['us-gov-west-1', DUAL_STACK, 'ssm.us-gov-west-1.api.aws', 'secretsmanager.us-gov-west-1.amazonaws.com', 'bucket.s3.dualstack.us-gov-west-1.amazonaws.com'],
    ['us-gov-west-1', BOTH, 'ssm-fips.us-gov-west-1.api.aws', 'secretsmanager-fips.us-gov-west-1.amazonaws.com', 'bucket.s3-fips.dualstack.us-gov-west-1.amazonaws.com'],
    ['eu-west-1', { AWS_USE_FIPS_ENDPOINT: 'false', AWS_USE_DUALSTACK_ENDPOINT: '' }, 'ssm.eu-west-1.amazonaws.com', 'secretsmanager.eu-west-1.amazonaws.com', 'bucket.s3.eu-west-1.amazonaws.com'],
    ['eu-west-1', { AWS_USE_FIPS_ENDPOINT: 'TRUE' }, 'ssm-fips.eu-west-1.amazonaws.com', 'secretsmanager-fips.eu-west-1.amazonaws.com', 'bucket.s3-fips.eu-west-1.amazonaws.com'],
  ]
  /** Variables, and where the calls to SSM, Secrets Manager and S3 go. */
  const CUSTOM: readonly [environment: Record<string, string>, ssm: string, secrets: string, s3: string][] = [
    [{ AWS_ENDPOINT_URL: HERE }, `${HERE}/`, `${HERE}/`, `${HERE}/bucket/app/value`],
    [{ AWS_ENDPOINT_URL: `${HERE}/` }, `${HERE}/`, `${HERE}/`, `${HERE}/bucket/app/value`],
    [{ AWS_ENDPOINT_URL: `${HERE}/a/path` }, `${HERE}/a/path/`, `${HERE}/a/path/`, `${HERE}/a/path/bucket/app/value`],
    [{ AWS_ENDPOINT_URL: 'https://host/a%20b/' }, 'https://host/a%20b/', 'https://host/a%20b/', 'https://host/a%20b/bucket/app/value'],
    [{ AWS_ENDPOINT_URL: HERE, AWS_ENDPOINT_URL_SSM: `${HERE}/ssm` }, `${HERE}/ssm/`, `${HERE}/`, `${HERE}/bucket/app/value`],
    [{ AWS_ENDPOINT_URL: HERE, AWS_ENDPOINT_URL_SECRETS_MANAGER: `${HERE}/secrets` }, `${HERE}/`, `${HERE}/secrets/`, `${HERE}/bucket/app/value`],
    [{ AWS_ENDPOINT_URL: HERE, AWS_ENDPOINT_URL_S3: `${HERE}/s3` }, `${HERE}/`, `${HERE}/`, `${HERE}/s3/bucket/app/value`],
    [{ AWS_ENDPOINT_URL: HERE, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'false' }, `${HERE}/`, `${HERE}/`, `${HERE}/bucket/app/value`],
    ...[{ AWS_ENDPOINT_URL: HERE }, { AWS_ENDPOINT_URL: HERE, ...FIPS }, { AWS_ENDPOINT_URL_SSM: HERE, AWS_ENDPOINT_URL_SECRETS_MANAGER: HERE, AWS_ENDPOINT_URL_S3: HERE }].map(
      (environment: Record<string, string>): (typeof CUSTOM)[number] => {
        const fips = 'AWS_USE_FIPS_ENDPOINT' in environment ? '-fips' : ''
        const [ssm, secrets, s3] = ['ssm', 'secretsmanager', 'bucket.s3'].map((name) => `https://${name}${fips}.us-east-1.amazonaws.com/`) as [string, string, string]
        return [{ ...environment, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true' }, ssm, secrets, `${s3}app/value`]
      },
    ),
  ]

  const ADDRESSES = [
    ...SDK.map(([region, environment, ssm, secrets, s3]) => [{ AWS_REGION: region, ...environment }, [`https://${ssm}/`, `https://${secrets}/`, `https://${s3}/app/value`]] as const),
    ...CUSTOM.map(([environment, ...urls]) => [{ AWS_REGION: 'us-east-1', ...environment }, urls] as const),
  ]
  for (const [environment, urls] of ADDRESSES) {
    test(`are as AWS has them for ${inspect(environment, { breakLength: Infinity })}`, async () => {
      Object.assign(process.env, environment)
      const got = await Promise.all(
        SOURCES.map(async (source) => {
          const { fetch, sent } = script(source.answer('value'))
          assert.equal(await source.read({ fetch }), 'value')
          return sent[0]?.url
        }),
      )
      assert.deepEqual(got, urls)
    })
  }

  const REFUSED: readonly [environment: Record<string, string>, code: string, ...texts: string[]][] = [
    ...[FIPS, DUAL_STACK, BOTH].map((variables): (typeof REFUSED)[number] => [{ AWS_ENDPOINT_URL: HERE, ...variables }, 'InvalidEndpoint', 'AWS_ENDPOINT_URL', 'FIPS', 'dual-stack']),
    ...['cn-north-1', 'us-iso-east-1', 'us-isob-east-1', 'eu-isoe-west-1', 'us-isof-south-1', 'eusc-de-east-1'].flatMap((AWS_REGION) =>
      [FIPS, DUAL_STACK].map((variables): (typeof REFUSED)[number] => [{ AWS_REGION, ...variables }, 'InvalidEndpoint', AWS_REGION]),
    ),
    ...['localhost:4566', '127.0.0.1', 'ftp://127.0.0.1', 'http://', 'http://user:canary@127.0.0.1', 'http://127.0.0.1/?a=b', 'http://127.0.0.1/#a', 'http://a b', 'http://[', 'http://a:99999'].map(
      (AWS_ENDPOINT_URL): (typeof REFUSED)[number] => [{ AWS_ENDPOINT_URL }, 'InvalidEndpoint', 'AWS_ENDPOINT_URL'],
    ),
    ...['mars', 'example.com/', 'us-east-1.example.com#', 'us-east-1/', '@example.com', 'us east 1'].map((AWS_REGION): (typeof REFUSED)[number] => [{ AWS_REGION }, 'InvalidOptions', 'region', AWS_REGION]),
  ]
  for (const [environment, code, ...texts] of REFUSED) {
    test(`are refused for ${inspect(environment, { breakLength: Infinity })}`, async () => {
      Object.assign(process.env, environment)
      for (const source of SOURCES) {
        const { fetch, sent } = script(source.answer('value'))
        assertKeepsSecrets(await failure(source.read({ fetch }), { code, source: source.source, id: source.id }, ...texts))
        assert.equal(sent.length, 0)
      }
    })
  }

  test('have entries of their own in the cache', async () => {
    const [one, two] = [await local({ parameters: { '/app/value': 'one' } }), await local({ parameters: { '/app/value': 'two' } })]
    for (const [aws, value] of [[one, 'one'], [two, 'two'], [one, 'one']] as const) {
      process.env['AWS_ENDPOINT_URL'] = aws.url
      assert.equal(await SSM.read(), value)
    }
    assert.equal(one.requests.length, 1)
  })
})

// ---- The file itself ----

describe('lambda-cache.ts', () => {
  const path = fileURLToPath(new URL('lambda-cache.ts', import.meta.url))
  const source = readFileSync(path, 'utf8')
  const code = source.replace(/^\s*(\/\/|\/\*|\*).*$/gm, '')

  test('begins with its licence, and a map that its banners match', () => {
    assert.match(source, /^\/\*! .*MIT/)
    const [, list = ''] = /In this file.*\n((?:\/\/ {3}\S.*\n)+)/.exec(source) ?? []
    const map = [...list.matchAll(/^\/\/ {3}(.+)$/gm)].map(([, name]) => name)
    const banners = [...source.matchAll(/^\/\/ -+ (.+?) -+$/gm)].map(([, name]) => name)
    assert.ok(map.length > 5)
    assert.deepEqual(banners, map)
  })

  test('has no `any`, no invisible characters, and imports what Node has', () => {
    assert.deepEqual(code.match(/(?:\bas|[:<|&,=(])\s*any\b.*/g) ?? [], [])
    assert.deepEqual(source.match(/[^\P{C}\n]|[^\P{Z} ]/gu) ?? [], [])
    assert.deepEqual(source.match(/(eslint|@ts|prettier|biome)-\w+/g) ?? [], [])
    const modules = [...code.matchAll(/(?:\bfrom|\bimport\(|\brequire\()\s*'([^']+)'/g)].map(([, name]) => name!)
    assert.ok(modules.length > 0)
    assert.deepEqual(modules.filter((name) => !name.startsWith('node:')), [])
  })

  const STRICT = {
    strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, noPropertyAccessFromIndexSignature: true, noImplicitOverride: true, noImplicitReturns: true,
    noUnusedLocals: true, noUnusedParameters: true, verbatimModuleSyntax: true, isolatedModules: true, isolatedDeclarations: true, erasableSyntaxOnly: true, declaration: true,
    noEmit: true, lib: ['es2022'], types: ['node'],
  }
  const PROJECTS: readonly [title: string, type: string, compilerOptions: object][] = [
    ['nodenext', 'module', { module: 'nodenext', target: 'es2022' }],
    ['nodenext, the latest target', 'module', { module: 'nodenext', target: 'esnext', lib: ['esnext'] }],
    ['a bundler', 'module', { module: 'esnext', moduleResolution: 'bundler', target: 'esnext' }],
    ['CommonJS', 'commonjs', { module: 'commonjs', target: 'es2022', verbatimModuleSyntax: false }],
  ]
  const USER = `
import { getSecret, json, LambdaCacheError, withCache, type LambdaContext } from './lambda-cache.js'

interface Flags { readonly dark: boolean }

async function handle(event: { readonly id: number }, context: LambdaContext & { readonly url: string; readonly flags: Flags }): Promise<string> {
  return context.flags.dark ? context.url : String(event.id)
}

export const handler: (event: { readonly id: number }, context: LambdaContext) => Promise<string> = withCache(
  async (event: { readonly id: number }, context) => handle(event, context),
  { ssm: ['/app/url'], secrets: [{ id: 'flags', parse: json<Flags> }] },
)

export async function password(): Promise<string | undefined> {
  try {
    return await getSecret('password', { maxAge: 0 })
  } catch (error) {
    if (error instanceof LambdaCacheError && error.code === 'ResourceNotFoundException') return undefined
    throw error
  }
}
`
  for (const [title, type, compilerOptions] of PROJECTS) {
    test(`compiles in somebody else's project: ${title}`, async () => {
      const folder = await temporaryFolder()
      const typeRoots = [fileURLToPath(new URL('node_modules/@types', import.meta.url))]
      await writeFile(join(folder, 'lambda-cache.ts'), source)
      await writeFile(join(folder, 'handler.ts'), USER)
      await writeFile(join(folder, 'package.json'), JSON.stringify({ type }))
      await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...STRICT, typeRoots, ...compilerOptions } }))
      const typescript = fileURLToPath(new URL('node_modules/typescript/bin/tsc', import.meta.url))
      const output = await promisify(execFile)(process.execPath, [typescript, '-p', folder]).then(() => '', ({ stdout }: { stdout: string }) => stdout)
      assert.equal(output, '')
    })
  }
})

describe('README.md', () => {
  const readme = readFileSync(new URL('README.md', import.meta.url), 'utf8')
  const source = readFileSync(new URL('lambda-cache.ts', import.meta.url), 'utf8')
  const blocks = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block]) => block!)

  test('shows the handler of the examples', async () => {
    const handler = await readFile(new URL('examples/handler.ts', import.meta.url), 'utf8')
    assert.equal(blocks[0], handler.replace('../lambda-cache.js', './lambda-cache.js'))
  })

  test('shows nothing that does not compile', async () => {
    const folder = await temporaryFolder()
    const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
    await mkdir(join(folder, 'examples'))
    await writeFile(join(folder, 'lambda-cache.ts'), source)
    await writeFile(join(folder, 'examples/local-aws.ts'), await readFile(here('examples/local-aws.ts')))
    await Promise.all(blocks.map((block, index) => writeFile(join(folder, `block-${index}.ts`), block)))
    await symlink(here('node_modules'), join(folder, 'node_modules'))
    await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }))
    const compilerOptions = { strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, module: 'nodenext', target: 'es2022', lib: ['es2022'], noEmit: true, types: ['node', 'aws-lambda'] }
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions }))
    const output = await promisify(execFile)(process.execPath, [here('node_modules/typescript/bin/tsc'), '-p', folder]).then(() => '', ({ stdout }: { stdout: string }) => stdout)
    assert.ok(blocks.length > 10)
    assert.equal(output, '')
  })

  test('names a size that holds, and not by much', () => {
    const [, figure = ''] = /<!-- size -->([\d,]+) bytes/.exec(readme) ?? []
    const limit = Number(figure.replace(',', ''))
    const size = gzipSync(transformSync(source, { loader: 'ts', format: 'esm', minify: true }).code, { level: 9 }).length
    assert.ok(size <= limit && size > limit - 100, `${size} bytes, and the README says ${limit}`)
  })

  test('lists every code that an error of the library has', () => {
    const own = [...source.matchAll(/(?:fail\(|code: )'([A-Z]\w+)'/g)].map(([, code]) => code!)
    assert.ok(own.length > 10)
    assert.deepEqual(own.filter((code) => !readme.includes(`\`${code}\``)), [])
  })
})
