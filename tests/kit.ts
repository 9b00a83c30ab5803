/** What every test begins with: an empty cache, a clock that stands still, and an environment of its own. */
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, mock } from 'node:test'
import { inspect } from 'node:util'
import { type LocalAws, type Seed, startLocalAws } from '../examples/local-aws.js'
import {
  clearCache,
  type EntryOptions,
  type ErrorDetails,
  type Fetch,
  getObject,
  getParameter,
  getSecret,
  httpsFetch,
  LambdaCacheError,
  type LambdaContext,
  type Options,
  type ResponseStream,
  type SignRequest,
  type Source,
  sign,
  withCache,
} from '../lambda-cache.js'
import { lambdaContext } from './context.js'

// ---- Kit: every test begins with an empty cache, a clock that stands still, and an environment of its own ----

export const START = Date.parse('2026-01-02T03:04:05.678Z')
export const SECOND = 1000
export const MINUTE = 60 * SECOND
export const HOUR = 60 * MINUTE

/** What holds this word is not to be seen in any error. */
export const CANARY = 'canary'

export const ENVIRONMENT = {
  AWS_REGION: 'us-east-1',
  AWS_ACCESS_KEY_ID: `${CANARY}-access-key-id`,
  AWS_SECRET_ACCESS_KEY: `${CANARY}-secret-access-key`,
  AWS_SESSION_TOKEN: `${CANARY}-session-token`,
}

export const originalEnvironment = { ...process.env }
/** What makes the calls: in the tests it takes the place of the global fetch. */
export const TRANSPORTS = { fetch: globalThis.fetch, httpsFetch } satisfies Record<string, Fetch>
export type Transport = keyof typeof TRANSPORTS

export let transport: Transport = 'fetch'
export const cleanups: (() => unknown)[] = []

beforeEach(() => {
  clearCache()
  setEnvironment(ENVIRONMENT)
  mock.timers.enable({ apis: ['Date'], now: START })
  // No pause before a retry, unless a test wants to see one.
  mock.method(Math, 'random', () => 0)
  mock.method(globalThis, 'fetch', callLoopback)
})

afterEach(async () => {
  mock.timers.reset()
  mock.restoreAll()
  transport = 'fetch'
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  // The sockets of fetch close with the server's, and take their timers along: under a mocked clearTimeout these would go on.
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve))
  for (const name of Object.keys(process.env)) delete process.env[name]
  Object.assign(process.env, originalEnvironment)
})

export function callLoopback(...[url, init]: Parameters<Fetch>): ReturnType<Fetch> {
  assert.match(url, /^http:\/\/(127\.0\.0\.1|localhost)[:/]/, 'a test calls loopback only')
  return TRANSPORTS[transport](url, init)
}

/** Describes what goes over real sockets: over `fetch`, and the same over `httpsFetch`. */
export function describeOverBoth(
  title: string,
  tests: () => void,
  options: { readonly skip?: string | false } = {},
): void {
  for (const name of Object.keys(TRANSPORTS) as Transport[]) {
    describe(`${title}, over ${name}`, options, () => {
      beforeEach(() => {
        transport = name
      })
      tests()
    })
  }
}

/** In place of whatever is set for AWS and for this library. */
export function setEnvironment(variables: Record<string, string>): void {
  for (const name of Object.keys(process.env))
    if (/^(AWS|LAMBDA)_/.test(name)) delete process.env[name]
  Object.assign(process.env, variables)
}

export async function local(seed: Seed = {}): Promise<LocalAws> {
  const aws = await startLocalAws(seed)
  cleanups.push(() => aws.close())
  Object.assign(process.env, aws.env)
  return aws
}

/** Another server on loopback. */
export async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lambda-cache-test-'))
  cleanups.push(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A request as a scripted fetch was given it. */
export interface Sent {
  readonly url: string
  readonly method: string
  readonly headers: Record<string, string>
  readonly body: string
  readonly signal: AbortSignal
  readonly at: number
}

export type Answer = Response | Error | 'never'

export interface Script {
  readonly fetch: Fetch
  readonly sent: Sent[]
}

/** A fetch that gives these answers in turn, the last of them again and again. */
export function script(...answers: (Answer | ((sent: Sent) => Answer))[]): Script {
  const sent: Sent[] = []
  const fetch: Fetch = async (url, { redirect, body = '', ...init }) => {
    assert.equal(redirect, 'manual')
    const request = { url, body, ...init, at: Date.now() }
    const answer = answers[Math.min(sent.push(request), answers.length) - 1]
    const given =
      answer instanceof Response
        ? await copyOf(answer)
        : typeof answer === 'function'
          ? answer(request)
          : answer
    if (given instanceof Error) throw given
    if (given instanceof Response) return given
    return new Promise((_, reject) =>
      init.signal.addEventListener('abort', () => reject(init.signal.reason as Error)),
    )
  }
  return { fetch, sent }
}

/** With a body of its own: one that is cloned cannot be cancelled alone. */
export async function copyOf(answer: Response): Promise<Response> {
  const { status, headers, body } = answer
  return new Response(body && (await answer.clone().arrayBuffer()), { status, headers })
}

export function reply(
  status: number,
  body: string | object = '',
  headers: Record<string, string> = {},
): Response {
  const content = typeof body === 'string' ? body : JSON.stringify(body)
  return new Response(content === '' ? null : content, {
    status,
    headers: { date: new Date(START).toUTCString(), ...headers },
  })
}

/** An error of a JSON service. */
export function refusal(
  code: string,
  message = 'AWS says why',
  headers?: Record<string, string>,
): Response {
  const body = { __type: `com.amazonaws.service#${code}`, message, Detail: `${CANARY}-body` }
  return reply(400, body, headers)
}

/** An error of S3. */
export function xml(status: number, code: string, headers?: Record<string, string>): Response {
  return reply(
    status,
    `<?xml version="1.0"?>\n<Error><Code>${code}</Code><Message>AWS says why</Message><Detail>${CANARY}-body</Detail></Error>`,
    headers,
  )
}

export function parameters(values: Record<string, string>, invalid: string[] = []): Response {
  return reply(200, {
    Parameters: Object.entries(values).map(([Name, Value]) => ({ Name, Value })),
    InvalidParameters: invalid,
  })
}

/** What fetch rejects with when there is no answer. */
export function unreachable(code: string): TypeError {
  return new TypeError('fetch failed', {
    cause: Object.assign(new Error(`${code} ${CANARY}-body`), { code }),
  })
}

/** Lets everything go on that waits for neither the network nor a timer. */
export async function turns(count = 5): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

export async function until(condition: () => boolean): Promise<void> {
  const start = performance.now()
  while (!condition()) {
    assert.ok(performance.now() - start < 10 * SECOND, `waiting in vain for ${condition}`)
    await turns(1)
  }
}

/** Runs under mocked timeouts: a millisecond passes whenever nothing else goes on. */
export async function elapse<T>(work: () => Promise<T>): Promise<T> {
  mock.timers.reset()
  mock.timers.enable({ apis: ['Date', 'setTimeout'], now: START })
  let settled = false
  const promise = work().finally(() => {
    settled = true
  })
  promise.catch(() => {})
  for (await turns(); !settled; await turns(1)) {
    assert.ok(Date.now() < START + MINUTE, 'still not done after a minute')
    mock.timers.tick(1)
  }
  return promise
}

/** Moves the clock that stands still. */
export function pass(milliseconds: number): void {
  mock.timers.setTime(Date.now() + milliseconds)
}

export { lambdaContext }

/** Invokes a handler that gives what its context holds under these names. */
export function invoking(options: Options, ...names: string[]): () => Promise<unknown[]> {
  const handler = withCache(
    (_: unknown, context) => names.map((name) => Reflect.get(context, name) as unknown),
    options,
  )
  return () => handler({}, lambdaContext())
}

/** The error of a call, which must be one of the library's, with these details and these texts in its message. */
export async function failure(
  call: unknown,
  details: Partial<ErrorDetails> = {},
  ...texts: string[]
): Promise<LambdaCacheError> {
  const error: unknown = await (async () =>
    typeof call === 'function' ? (call as () => unknown)() : call)().then(
    (value) => assert.fail(`expected an error, got ${inspect(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof LambdaCacheError, inspect(error))
  const got = Object.fromEntries(
    Object.keys(details).map((name) => [name, Reflect.get(error, name) as unknown]),
  )
  assert.deepEqual(got, details, error.message)
  for (const text of texts)
    assert.ok(error.message.includes(text), `expected "${text}" in: ${error.message}`)
  return error
}

/** Everything that a logger could make of an error. */
export function everythingIn(error: unknown): string {
  const { message, stack, cause } = error as Error
  return [
    String(error),
    message,
    stack,
    inspect(error, { depth: 10, showHidden: true }),
    JSON.stringify(error),
    JSON.stringify(cause),
    inspect(cause),
  ].join('\n')
}

export function assertKeepsSecrets(error: unknown): void {
  const text = everythingIn(error)
  assert.ok(!text.includes(CANARY), text)
  assert.doesNotMatch(text, /[0-9a-f]{64}|Signature=/, 'a signature')
}

/** SigV4's three strings, as they go through `node:crypto`: the last text hashed, the last one signed, and what comes of it. */
export function signing(request: SignRequest) {
  const texts: Record<string, unknown> = {}
  const spies = (['createHash', 'createHmac'] as const).map((name) => {
    const create = crypto[name] as (...args: unknown[]) => crypto.Hash
    return mock.method(crypto, name, (...args: unknown[]) => {
      const hash = create(...args)
      const { update } = hash
      return Object.assign(hash, {
        update(text: string) {
          texts[name] = text
          return Reflect.apply(update, hash, [text]) as unknown
        },
      })
    })
  })
  syncBuiltinESMExports()
  const { authorization } = sign(request)
  for (const spy of spies) spy.mock.restore()
  syncBuiltinESMExports()
  const [, signature] = /Signature=(\w+)$/.exec(authorization ?? '') ?? []
  return {
    canonicalRequest: String(texts.createHash),
    stringToSign: texts.createHmac,
    signature,
  }
}

export const text = (content: string): string => content

/** A value as somebody reads it: with what entries of every source have in common. */
export type Shared = Pick<EntryOptions, 'maxAge' | 'region' | 'default' | 'parse'>

/** What the contract needs to know of a source. */
export interface SourceCase {
  readonly source: 'ssm' | 'secrets' | 's3'
  readonly id: string
  /** As it stands in the requests. */
  readonly action: string
  readonly codes: { readonly denied: string; readonly missing: string }
  /** Statuses with which a proxy's page is no answer. */
  readonly malformed: readonly number[]
  read(options?: Shared & Pick<Options, 'credentials' | 'fetch'>): Promise<unknown>
  entry(options?: Shared & { readonly as?: string }): Options
  put(aws: LocalAws, value: string): unknown
  answer(value: string): Response
}

export const SOURCES: readonly SourceCase[] = [
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
export const [SSM, SECRETS, S3] = SOURCES as [SourceCase, SourceCase, SourceCase]

export const realTimeout = globalThis.setTimeout

/** From here on timeouts pass with the clock, and not by themselves. */
export function mockTimeouts(): void {
  // Never twice in a test: a timer of the first time that is cleared in the second would take another one with it.
  if (globalThis.setTimeout !== realTimeout) return
  const now = Date.now()
  mock.timers.reset()
  mock.timers.enable({ apis: ['Date', 'setTimeout'], now })
}

/** Runs under mocked timeouts. A pause of no length passes by itself; any other is for the test, or for its server, to pass. */
export async function paced<T>(work: () => Promise<T>): Promise<T> {
  // The sockets of the test before close under timeouts that are real.
  await turns()
  mockTimeouts()
  let settled = false
  const promise = work().finally(() => {
    settled = true
  })
  promise.catch(() => {})
  for (let turn = 0; !settled; turn += 1) {
    assert.ok(turn < 100_000, 'it takes for ever')
    await turns(1)
    mock.timers.tick(0)
  }
  return promise
}

/** Lets time pass, step by step, and after each what follows from it. */
export async function advance(milliseconds: number, step = 100): Promise<void> {
  for (let left = milliseconds; left > 0; left -= step) {
    mock.timers.tick(Math.min(step, left))
    await turns()
  }
}

/** Lets everything go on that waits for the disk or for loopback, too. */
export async function calm(): Promise<void> {
  for (let time = 0; time < 10; time += 1) {
    await stat(tmpdir())
    await turns(1)
  }
}

/** Whether a promise has come to its end. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false
  promise.then(
    () => {
      settled = true
    },
    () => {
      settled = true
    },
  )
  await turns()
  return settled
}

/** The lines that go to the console, without Node's own warnings, which come once in a process. */
export function consoleLines(): string[] {
  const lines: string[] = []
  for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const)
    mock.method(console, method, (...args: unknown[]) => {
      const line = args.map(String).join(' ')
      if (!line.startsWith(`(node:${process.pid})`)) lines.push(line)
    })
  return lines
}

/** A fetch that gives one answer until it is told another, and holds it back while it is told to. */
export function scene(first: Answer) {
  let [answer, gate] = [first, Promise.resolve()]
  const { fetch, sent } = script(() => (answer instanceof Response ? answer.clone() : answer))
  const held: Fetch = async (url, init) => {
    const [outcome] = await Promise.all([
      fetch(url, init).then(
        (response) => () => response,
        (error: unknown) => () => Promise.reject(error),
      ),
      gate,
    ])
    return outcome()
  }
  const say = (next: Answer) => {
    answer = next
  }
  const hold = () => {
    let release = (): void => {}
    gate = new Promise((resolve) => {
      release = resolve
    })
    return release
  }
  /** The same, as a `custom` entry has it. */
  const load = async (): Promise<string> => {
    const response = await held('http://127.0.0.1/', {
      method: 'GET',
      headers: {},
      redirect: 'manual',
      signal: new AbortController().signal,
    })
    return response.status === 200
      ? response.text()
      : Promise.reject(new Error(`HTTP ${response.status}`))
  }
  return { fetch: held, load, sent, say, hold }
}

export type Scene = ReturnType<typeof scene>

/** What the cache does is the same for every source: those of AWS, each with three attempts, and `custom`, with one. */
export const CACHED: readonly {
  readonly source: Source
  readonly id: string
  readonly attempts: number
  answer(value: string): Response
  options(aws: Scene): Options
}[] = [
  ...SOURCES.map(({ source, id, answer, entry }) => ({
    source,
    id,
    attempts: 3,
    answer,
    options: ({ fetch }: Scene) => ({ ...entry(), fetch }),
  })),
  {
    source: 'custom',
    id: 'value',
    attempts: 1,
    answer: (value) => reply(200, value),
    options: ({ load }) => ({ custom: [{ as: 'value', load }] }),
  },
]

/** A small generator of numbers that look random and are the same in every run (mulberry32). */
export function seeded(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The runtime's context with so much time left, as Lambda counts it. */
export function contextWith(milliseconds: number): LambdaContext {
  const end = Date.now() + milliseconds
  return lambdaContext(() => end - Date.now())
}

/** The stream that the runtime gives to a handler that streams. */
export function responseStream(): PassThrough & ResponseStream {
  return Object.assign(new PassThrough(), { setContentType() {} })
}

/** A value that has to be there. */
export function present<T>(value: T | null | undefined): T {
  assert.ok(value !== undefined && value !== null, 'there is no such value')
  return value
}

/** The hosts of a region that the tests call. */
export const AWS_HOSTS = {
  ssm: 'ssm.us-east-1.amazonaws.com',
  secrets: 'secretsmanager.us-east-1.amazonaws.com',
  s3: 'bucket.s3.us-east-1.amazonaws.com',
}

/** Keeps the event loop from anything else. */
export function block(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
}

export type Equal<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Compiles where `T` is true. */
export function is<T extends true>(..._: T[]): void {}

export interface Flags {
  readonly dark: boolean
}
