/*! lambda-cache 0.2.0 | MIT | (c) the lambda-cache authors */
//
// Reads SSM parameters, Secrets Manager secrets and S3 objects once, and keeps them in memory
// between Lambda invocations:
//
//   export const handler = withCache(
//     async (event: { name: string }, context) => context.conn_string,
//     {
//       ssm: ['/prod/app/var'],
//       secrets: ['/prod/db/conn_string'],
//       s3: ['s3://bucket/path/to/object.json'],
//     },
//   )
//
// The way of an invocation through this file:
//   withCache → read → readEntry → answerFor: does the cache hold an answer that serves?
//     no:  refreshOf → load → send → sign, exchange: one request for everybody who waits
//     yes: convert: parse, or the default
//   → a getter on the context → the handler
//
// In this file, callers come before the functions they call:
//   Options
//   Errors
//   withCache
//   Direct access
//   Entries
//   Cache
//   SSM parameters
//   Secrets Manager secrets
//   S3 objects
//   Custom loads
//   AWS calls
//   Fetch over node:https
//   Signature Version 4
//   Credentials
//   Endpoints
//   Helpers
//   Inferred types

import type { IncomingMessage } from 'node:http'
import type { Readable, Transform } from 'node:stream'

// ---- Options ----

/** Options of `withCache`. */
export interface Options extends Defaults {
  /** SSM parameters: names, ARNs or objects. API: GetParameters, GetParametersByPath. */
  readonly ssm?:
    | readonly (string | ParameterEntry | ParameterGroupEntry | ParameterTreeEntry)[]
    | undefined
  /** Secrets Manager secrets: names or objects. API: GetSecretValue. */
  readonly secrets?: readonly (string | SecretEntry)[] | undefined
  /** S3 objects: `s3://bucket/key` or objects. API: GetObject. */
  readonly s3?: readonly (string | ObjectEntry)[] | undefined
  /** Any other slow call, under the same cache. */
  readonly custom?: readonly CustomEntry[] | undefined
  /**
   * Returns true for an error of the handler that means that the values it used are out of date,
   * such as a rotated password. The values are then read again, and if one has changed, the handler
   * runs once more. It never runs a third time, and not twice if it streams its response.
   */
  readonly refreshOn?: ((error: unknown) => boolean) | undefined
}

/** Options that apply to every entry without its own. */
export interface Defaults {
  /**
   * Seconds for which a value is served before it is read again. `0` always reads, `Infinity`
   * reads once.
   * @default the environment variable `LAMBDA_CACHE_MAX_AGE`, else 60
   */
  readonly maxAge?: number | undefined
  /**
   * Seconds past `maxAge` for which the last value is served while AWS cannot be reached, throttles
   * or answers with a 5xx.
   * @default 300
   */
  readonly staleIfError?: number | undefined
  /**
   * AWS region to call.
   * @default the environment variable `AWS_REGION`, else `AWS_DEFAULT_REGION`
   */
  readonly region?: string | undefined
  /**
   * Gets the credentials: a provider of the AWS SDK, or a function of your own. What it returns is
   * kept until five minutes before its `expiration`, else it is called for every signature. What it
   * throws is not passed on, since that may quote a secret.
   * @default the environment variables, else the container's endpoint
   */
  readonly credentials?: (() => Credentials | Promise<Credentials>) | undefined
  /**
   * Makes the calls. It sees signed requests and secret values: trust it as you trust this file.
   * @default the global `fetch`
   */
  readonly fetch?: Fetch | undefined
}

/** Options of every entry except those in `custom`. */
export interface EntryOptions {
  /**
   * Name of the property on `context`.
   * @default what follows the last `/`, without SSM's `:version` or `:label`. The ARN of a secret
   * ends in random characters, so it needs `as`.
   */
  readonly as?: string | undefined
  /** Seconds, as in {@link Defaults}. */
  readonly maxAge?: number | undefined
  /** AWS region, as in {@link Defaults}. An ARN names its own. */
  readonly region?: string | undefined
  /** The value if the parameter, secret or object does not exist. Without it, that is an error. */
  readonly default?: unknown
  /**
   * Converts the text to the value, once per refresh. For a group or a tree, it gets one parameter
   * at a time. What it throws is not passed on, since parsers quote their input.
   */
  readonly parse?: ((text: string) => unknown) | undefined
}

/** One SSM parameter. */
export interface ParameterEntry extends EntryOptions {
  /** Name or ARN, with an optional `:version` or `:label`. */
  readonly name: string
  readonly names?: never
  readonly path?: never
  /**
   * Decrypt a SecureString.
   * @default true
   */
  readonly decrypt?: boolean | undefined
  /** Split a StringList at its commas into a frozen array. */
  readonly list?: boolean | undefined
}

/** Several SSM parameters as one frozen record, keyed by the last segment of each name. */
export interface ParameterGroupEntry extends EntryOptions {
  readonly names: readonly string[]
  readonly name?: never
  readonly path?: never
  readonly as: string
  readonly decrypt?: boolean | undefined
}

/** All SSM parameters below a path as one frozen record, keyed by the name below the path. */
export interface ParameterTreeEntry extends EntryOptions {
  /** Starts with `/`. Nothing below it gives an empty record, or `default`. */
  readonly path: string
  readonly name?: never
  readonly names?: never
  /**
   * Include deeper levels, not just the first.
   * @default false
   */
  readonly recursive?: boolean | undefined
  readonly decrypt?: boolean | undefined
}

/** One secret. */
export interface SecretEntry extends EntryOptions {
  /** Name or ARN. */
  readonly id: string
  readonly versionId?: string | undefined
  /** @default 'AWSCURRENT' */
  readonly versionStage?: string | undefined
  /** Return the bytes as a `Uint8Array`. Without it, a binary secret is an error. */
  readonly binary?: boolean | undefined
}

/** One S3 object, downloaded to a file or, with `parse` or `binary`, kept in memory. */
export interface ObjectEntry extends EntryOptions {
  /** `s3://bucket/key`, with the key as S3 shows it, not percent-encoded. */
  readonly uri: string
  readonly versionId?: string | undefined
  /**
   * Path of the download. No two objects may share one.
   * @default the last segment of the key, in `/tmp`
   */
  readonly file?: string | undefined
  /** Return the bytes as a `Uint8Array`. */
  readonly binary?: boolean | undefined
}

/** Any other value that is slow to get. */
export interface CustomEntry {
  readonly as: string
  /** Called when the value is due, one call at a time. Its error is the `cause` of `LoadFailed`. */
  readonly load: () => unknown
  /** Seconds, as in {@link Defaults}. */
  readonly maxAge?: number | undefined
}

/** The part of `fetch` that is used here. */
export type Fetch = (
  url: string,
  init: {
    readonly method: string
    readonly headers: Record<string, string>
    readonly body?: string
    readonly signal: AbortSignal
    readonly redirect: 'manual'
  },
) => Promise<FetchResponse>

/** The part of a `Response` that is used here. */
export interface FetchResponse {
  readonly status: number
  readonly headers: { get(name: string): string | null }
  readonly body: AsyncIterable<Uint8Array> | null
  text(): Promise<string>
}

// ---- Errors ----

/** Source of a value. */
export type Source = 'ssm' | 'secrets' | 's3' | 'custom'

/** Properties of a {@link LambdaCacheError} besides its message. */
export interface ErrorDetails {
  /**
   * AWS's error code as it stands, or one of `Timeout`, `NetworkError`, `RequestFailed`,
   * `InvalidAnswer`, `NoCredentials`, `NoRegion`, `InvalidOptions`, `InvalidEndpoint`,
   * `ParseError`, `BinarySecret`, `UnsupportedKey`, `FileError`, `EMFILE`, `LoadFailed`, or `Http`
   * and the status, such as `Http502`, if AWS sent no code.
   */
  readonly code: string
  readonly source?: Source
  /** The parameter, secret or object, as it was asked for. */
  readonly id?: string
  /** HTTP status of AWS's answer. */
  readonly status?: number
  /** AWS's id of the request, for AWS's support. */
  readonly requestId?: string
  readonly cause?: unknown
}

/** Gives the class below the properties that its constructor assigns, without declaring each. */
const ErrorWithDetails: new (message: string) => Error & ErrorDetails = Error as never

/** Every error of this file. It never holds a value, a credential, a body or a signature. */
export class LambdaCacheError extends ErrorWithDetails {
  override readonly name = 'LambdaCacheError' as const

  constructor(message: string, details: ErrorDetails) {
    super(message)
    Object.assign(this, details)
  }
}

/** For an option, or what it stands for. */
function refusal(expected: string, got: unknown, name: string): LambdaCacheError {
  const shown = typeof got === 'string' ? `'${got}'` : got
  return failure('InvalidOptions', `${name}: expected ${expected}, got ${shown}`)
}

/** For an answer with HTTP 200 that is not what AWS documents. */
function invalidAnswer(message: string): LambdaCacheError {
  return failure('InvalidAnswer', message, { status: 200 })
}

function failure(code: string, message: string, details?: Partial<ErrorDetails>): LambdaCacheError {
  return new LambdaCacheError(message, { ...details, code })
}

// ---- withCache ----

/**
 * Wraps a Lambda handler: `context` gets a property for each entry of `options`, fetched once and
 * then served from memory for `maxAge` seconds. Everything that is missing or expired is fetched
 * side by side before the handler runs.
 *
 * Values are not enumerable and stand behind getters, so logging or spreading `context` does not
 * reveal them.
 *
 * @throws {LambdaCacheError} here, on invalid options; from the returned function, if a value
 * cannot be read or `context` already has a property of that name. Several failures are one error
 * that names each, with the single errors in `cause`.
 * @example
 * export const handler = withCache(
 *   async (event: Order, context) => charge(event, context.api_key),
 *   { secrets: ['/prod/api_key'] },
 * )
 */
export function withCache<
  E,
  R,
  const O extends Options & NothingElse<O>,
  C extends object = LambdaContext,
>(handler: (event: E, context: C & Cached<O>) => R, options: O): CachedHandler<E, R, Bare<C, O>> {
  check(handler, 'function', 'handler')
  const entries = toEntries(options)
  if (entries.some((entry) => !entry.load)) ready(options.fetch)
  // While nothing is due, the last reading serves: to ask the cache for every value would take ten
  // times as long as the rest of a warm invocation.
  let latest: Reading | undefined

  // The runtime counts parameters, and takes a third one for a callback.
  function cached(event: E, second: unknown, ...rest: unknown[]): Promise<unknown> {
    // Lambda calls a handler that streams with (event, responseStream, context).
    const streams = (second as Partial<ResponseStream> | undefined)?.write
    const context = Object(streams ? rest.shift() : second)

    function run(reading: Reading): unknown {
      define(reading, context, entries)
      if (streams)
        return (handler as (...args: unknown[]) => unknown)(event, second, context, ...rest)
      return (handler as (...args: unknown[]) => unknown)(event, context, ...rest)
    }

    if (!latest?.isFresh() || options.refreshOn) return invoke(context, run, streams)
    // With nothing to wait for, an async function would cost as much again as everything else.
    return new Promise((resolve) => resolve(run(latest as Reading)))
  }

  async function invoke(
    context: Partial<LambdaContext> & { readonly lambdaContext?: Partial<LambdaContext> },
    run: (reading: Reading) => unknown,
    streams: unknown,
  ): Promise<unknown> {
    // A durable function's context holds Lambda's own. A time that is not positive is not enforced.
    const remaining = (context.lambdaContext ?? context).getRemainingTimeInMillis?.() as number
    const ahead: Promise<unknown>[] = []
    const reader: Reader = { ahead, until: remaining > 0 ? Date.now() + remaining : undefined }
    deadline = reader.until
    try {
      const given = await read(entries, reader)
      latest = given
      // A handler that blocks the event loop must not delay what is refreshed ahead of time.
      if (ahead.length) await inputTaken()
      try {
        return await run(given)
      } catch (error) {
        const newer =
          !streams && (await readAgain(error, entries, reader, given, options.refreshOn))
        if (!newer) throw error
        latest = newer
        return await run(newer)
      }
    } finally {
      deadline = 0
      await Promise.all(ahead)
    }
  }

  async function prefetch(): Promise<void> {
    // Of a wrapped handler that has a cache of its own, too.
    ;[latest] = await all([read(entries, {}), (handler as Partial<Prefetch>).prefetch?.() as never])
  }

  // The runtime marks a handler that streams with symbols, which have to survive.
  return Object.assign(cached, handler, { prefetch }) as never
}

/**
 * {@link withCache} for handlers that stream their response, before or after
 * `awslambda.streamifyResponse`. It is the same function; an overload would cost the third
 * parameter its inferred type.
 *
 * @example
 * export const handler = awslambda.streamifyResponse(
 *   withCacheStream(
 *     async (event: Order, responseStream, context) => report(context.api_key, responseStream),
 *     { secrets: ['/prod/api_key'] },
 *   ),
 * )
 */
export const withCacheStream: <
  E,
  R,
  const O extends Options & NothingElse<O>,
  S = ResponseStream,
  C extends object = LambdaContext,
>(
  handler: (event: E, responseStream: S, context: C & Cached<O>) => R,
  options: O,
) => CachedStreamHandler<E, S, R, Bare<C, O>> = withCache as never

/**
 * Puts the values on the context. A name that is there already is somebody else's, unless this
 * wrapper has defined it.
 */
function define(
  { entries: properties }: Reading,
  context: object,
  entries: readonly Entry[],
): void {
  for (const [as, property] of properties) {
    if (
      as in context &&
      entries !==
        (Object.getOwnPropertyDescriptor(context, as)?.get as { entries?: unknown } | undefined)
          ?.entries
    )
      throw refusal('a free name', as, 'as')
    if (!Reflect.defineProperty(context, as, property))
      throw refusal('one not frozen', 'object', 'context')
  }
}

/**
 * Loads and compiles most of what the first request needs: Lambda's init phase has a whole core, an
 * invocation a small part of one. Sends nothing, and calls no `fetch`. What fails here will say so
 * when it is needed.
 */
function ready(fetch: Fetch | undefined): void {
  try {
    // The machinery behind Node's fetch is loaded by the first of its classes.
    if (fetch) builtin('https')
    else new Response()
    // The expression behind it is compiled at its first use, and once more at its second.
    builtin('net').isIP('a')
    builtin('net').isIP('a')
  } catch {}
}

/** Reads everything again if the handler's error asks for it. Returns what has changed. */
async function readAgain(
  error: unknown,
  entries: readonly Entry[],
  reader: Reader,
  given: Reading,
  refreshOn: Options['refreshOn'],
): Promise<Reading | undefined> {
  const isChanged = (answer: Answer, index: number): boolean =>
    !isSameAnswer(given.answers[index] as Answer, answer)
  try {
    if (!refreshOn?.(error)) return undefined
    // First whatever was requested after the given values, perhaps by an invocation that failed
    // alike. If that shows no change, what is requested from now on.
    for (const after of [Math.max(...given.answers.map((answer) => answer.order)), events]) {
      const newer = await read(entries, { ...reader, after })
      if (newer.answers.some(isChanged)) return newer
    }
  } catch {
    // The handler's own error says more.
  }
  return undefined
}

/** All entries of a wrapper, as they were read at one moment. */
interface Reading {
  /** In the order of the entries, and of the names of a group. */
  readonly answers: readonly Answer[]
  /** A property of the context for each entry. */
  readonly entries: readonly (readonly [name: string, property: PropertyDescriptor])[]
  /** Whether nothing has come in since, and no value is due. */
  isFresh(): boolean
}

async function read(entries: readonly Entry[], reader: Reader): Promise<Reading> {
  const event = events
  const outcomes = await all(entries.map((entry) => readEntry(entry, reader)))
  // When the first of them expires or is to be refreshed ahead of time.
  const until = Math.min(
    ...outcomes.flatMap(({ entry, answers }) =>
      answers.map((answer) => answer.time + entry.maxAge * 1000 * answer.ahead),
    ),
  )
  const since = Date.now()
  return {
    answers: outcomes.flatMap((outcome) => outcome.answers),
    isFresh() {
      const now = Date.now()
      // A clock that was set back shows a time before the reading.
      return event === events && now >= since && now < until
    },
    entries: outcomes.map(({ entry, value }) => [
      entry.as,
      { configurable: true, get: Object.assign(() => value, { entries }) },
    ]),
  }
}

// ---- Direct access ----

/** Options of direct access: an entry's, plus `credentials`, `fetch` and `staleIfError`. */
type Direct<E> = Omit<E, 'as' | 'name' | 'path' | 'id' | 'uri'> &
  Pick<Defaults, 'credentials' | 'fetch' | 'staleIfError'>

/**
 * Reads one SSM parameter, from the cache that `withCache` uses. `{ maxAge: 0 }` forces a refresh,
 * which every later reader then sees. Calls made in the same tick share requests.
 *
 * @example
 * const limits = await getParameter('/prod/app/limits', { parse: json<Limits> })
 */
export function getParameter<const O extends Direct<ParameterEntry>>(
  name: string,
  options?: O,
): Promise<ParameterValue<O>> {
  return readOne(SSM, { ...options, name }) as Promise<ParameterValue<O>>
}

/**
 * Reads the SSM parameters below a path, as a frozen record keyed by the name below the path.
 *
 * @example
 * const { 'db/host': host } = await getParametersByPath('/prod/app', { recursive: true })
 */
export function getParametersByPath<const O extends Direct<ParameterTreeEntry>>(
  path: string,
  options?: O,
): Promise<ParameterTree<O>> {
  return readOne(SSM, { ...options, path }) as Promise<ParameterTree<O>>
}

/**
 * Reads one secret of Secrets Manager, by name or ARN.
 *
 * @example
 * const password = await getSecret('/prod/db/password', { maxAge: 0 }) // it has just been rotated
 */
export function getSecret<const O extends Direct<SecretEntry>>(
  id: string,
  options?: O,
): Promise<SecretValue<O>> {
  return readOne(SECRETS, { ...options, id }) as Promise<SecretValue<O>>
}

/**
 * Reads one S3 object: the path of the downloaded file or, with `parse` or `binary`, the content.
 *
 * @example
 * const model = await readFile(await getObject('s3://bucket/model.bin', { maxAge: 3600 }))
 */
export function getObject<const O extends Direct<ObjectEntry>>(
  uri: string,
  options?: O,
): Promise<ObjectValue<O>> {
  return readOne(S3, { ...options, uri }) as Promise<ObjectValue<O>>
}

/**
 * A `parse` for JSON.
 *
 * @example
 * withCache(handler, { ssm: [{ name: '/prod/flags', parse: json<Flags> }] })
 */
export function json<T>(text: string): T {
  return JSON.parse(text) as T
}

/** Forgets all values, the regions of buckets and all credentials. For tests. */
export function clearCache(): void {
  events += 1
  cache.clear()
  bucketRegions.clear()
  underWay.clear()
}

async function readOne(
  kind: SourceKind,
  options: EveryOption & Partial<Defaults>,
): Promise<unknown> {
  const types = { ...FOR_ALL, ...kind.types }
  const entry = toEntry({ ...kind, types }, { ...options, as: kind.source })
  return (await readEntry(entry, { direct: true })).value
}

// ---- Entries ----

/** One property of the context, with the options that apply to it. */
interface Entry extends EveryOption {
  readonly kind: SourceKind
  readonly as: string
  /** What to read, each with its last segment: several for a group. */
  readonly ids: readonly (readonly [segment: string, id: string])[]
  readonly maxAge: number
  readonly staleIfError: number
  readonly decrypt: boolean
  /** Set for an object that is downloaded, and only then. */
  readonly file: string | undefined
}

/** A source of values: its options, and what loads them. */
interface SourceKind {
  readonly source: Source
  /** What a plain string stands for. */
  readonly option: 'name' | 'id' | 'uri' | 'as'
  /** What each has to be: words with its `typeof` in them, or `array`. `''` takes anything. */
  readonly types: Readonly<Record<string, string>>
  load(call: Call, id: string, previous: Answer | undefined): Promise<Partial<Answer>>
}

type EveryOption = Partial<
  Omit<ParameterEntry, 'names' | 'path'> &
    Omit<ParameterGroupEntry, 'name' | 'path' | 'as'> &
    Omit<ParameterTreeEntry, 'name' | 'names'> &
    SecretEntry &
    ObjectEntry &
    Omit<CustomEntry, 'as'> &
    Options
>

/** Names that Lambda's context has, or that mean something to JavaScript. */
const RESERVED_NAMES =
  'xRayTraceId toJSON callbackWaitsForEmptyEventLoop succeed clientContext identity then ' +
  'awsRequestId logGroupName functionVersion done prototype fail w3c ' +
  'getRemainingTimeInMillis invokedFunctionArn tenantId logStreamName functionName ' +
  'memoryLimitInMB'

/** The types of the options that apply to all entries. */
const FOR_ALL: Readonly<Record<string, string>> = {
  region: 'string',
  maxAge: 'number >= 0',
  staleIfError: 'number >= 0',
  fetch: 'function',
  credentials: 'function',
}

function toEntries(given: Options): Entry[] {
  check(given, 'object', 'options')
  const options = checked(given, {
    ...FOR_ALL,
    custom: 'array',
    ssm: 'array',
    s3: 'array',
    secrets: 'array',
    refreshOn: 'function',
  })
  const entries = [SSM, SECRETS, S3, CUSTOM].flatMap((kind) =>
    (options[kind.source] ?? []).map((entry: EveryOption | string) =>
      toEntry(kind, entry, options),
    ),
  )
  const taken = RESERVED_NAMES.split(' ')
  for (const { as } of entries) {
    // Every object has some, such as toString.
    if (taken.includes(as) || as in {}) throw refusal('a free name', as, 'as')
    taken.push(as)
  }
  return entries
}

function toEntry(kind: SourceKind, given: EveryOption | string, defaults?: Defaults): Entry {
  const own: EveryOption = typeof given === 'string' ? { [kind.option]: given } : given
  check(own, `${kind.option} or object`, kind.source)
  const options = {
    decrypt: true,
    maxAge: Number(env('LAMBDA_CACHE_MAX_AGE')?.trim() || 60),
    staleIfError: 300,
    ...defaults,
    ...checked(own, kind.types),
  } as { -readonly [O in keyof Entry]: Entry[O] }
  check(options.maxAge, 'number >= 0', 'LAMBDA_CACHE_MAX_AGE')
  if (kind.source === 'custom') check(options.load, 'function', 'load')
  const forms = [options.parse, options.binary, options.file].filter((form) => form)
  const { names } = options
  if (forms[1]) throw refusal('one', 'several', 'parse, binary, file')
  const ids = (names ?? [options.path ?? (options[kind.option] as string)]).map((id) =>
    lastSegment(id, own.region, kind),
  )
  if (new Map(ids).size < ids.length)
    throw refusal('a free name', (names as readonly string[]).join(), 'names')
  const segment = names ? '' : (ids[0] as Entry['ids'][0])[0]
  const { as = segment } = options
  check(as, 'string', 'as')
  if (options.list) options.parse ??= split
  if (kind.source === 's3' && !forms[0]) {
    check(segment, 'string', 'file')
    options.file = `/tmp/${segment}`
  }
  return Object.assign(options, { as, ids, kind })
}

/** Returns the options that are given, each of them known and of the right type. */
function checked<T extends object>(given: T, types: Readonly<Record<string, string>>): T {
  const options = Object.entries(given).filter(
    ([option, value]) => option === 'default' || value !== undefined,
  )
  for (const [option, value] of options) {
    // The value of a misspelt option may be a secret.
    if (!Object.keys(types).includes(option)) throw refusal('an option', typeof value, option)
    check(value, types[option] as string, option)
  }
  return frozen(options) as T
}

function check(value: unknown, expected: string, option: string): void {
  const isInRange = typeof value === 'number' ? value >= 0 : (value ?? '') !== ''
  const type = Array.isArray(value) ? 'array' : typeof value
  if (expected && !(isInRange && expected.includes(type))) {
    throw refusal(expected, value === Object(value) ? type : value, option)
  }
}

/** Checks an id, and finds its last segment: `var` for `/prod/app/var:3`. */
function lastSegment(
  given: string,
  region: string | undefined,
  kind: SourceKind,
): readonly [segment: string, id: string] {
  check(given, 'string', kind.option)
  // AWS trims the names of parameters, too.
  const id = kind.source === 'ssm' ? given.trim() : given
  const ofArn = regionOfArn(id)
  if (region && ofArn && region !== ofArn) throw refusal(`${ofArn} of the ARN`, region, 'region')
  if (kind.source === 's3' && !S3_URI.test(id)) throw refusal('s3://bucket/key', id, 'uri')
  return [id.replace(kind.source === 's3' ? /.*\//s : /^arn:.*:secret:.*|.*\/|:.*/gs, ''), id]
}

function regionOfArn(id: string): string | undefined {
  return /^arn:.*?:.*?:(.*?):/.exec(id)?.[1]
}

// ---- Cache ----

/** How a reader waits. */
interface Reader {
  /** The end of its invocation, by `Date.now()`. */
  readonly until?: number | undefined
  /** Collects the refreshes ahead of time, for the invocation to wait for. */
  readonly ahead?: Promise<unknown>[]
  /** Whether this is direct access: what it reads may be evicted. */
  readonly direct?: boolean
  /** Forces a refresh: only an answer that was requested after this event will do. */
  readonly after?: number
}

/** The place of one thing in the cache. */
interface Cell {
  /** The file of a download, since no two things may share one, else the `id`. */
  readonly key: unknown
  /** What is asked for, with everything that the answer depends on. */
  readonly id?: unknown
  /** Named in the error if no answer comes. */
  readonly endpoint?: string
  load: (refresh: Refresh, previous: Answer | undefined) => Promise<Partial<Answer>>
  /** Whether it is never evicted. */
  stays?: boolean
  answer?: Answer
  /** Under way: whoever needs a refresh meanwhile waits for this one. */
  refresh?: Refresh | undefined
}

/** A request for everybody who needs its answer. */
interface Refresh {
  /** Whether it is ahead of time: one attempt, which no reader depends on. */
  readonly isAhead: boolean
  /** With nothing to fall back on, attempts go on until then if AWS throttles, by `Date.now()`. */
  readonly until: number
  /** The request that went out last. */
  readonly sent: Pick<Answer, 'order' | 'time'>
  /** Aborted when nobody waits any more. */
  readonly signal: AbortSignal
  /** Rejects, with nothing, at that time by `Date.now()` or with the abort. */
  wait(limit: number, signal?: AbortSignal): Promise<Answer>
}

/** What was loaded, and when. A loader brings a part of it, the cache adds the rest. */
interface Answer {
  /** A text, bytes, a file's path, the texts of a tree by name; credentials. */
  readonly value?: unknown
  /** Why `default` is used: the error, without a value, or true for a tree with nothing in it. */
  readonly cause?: unknown
  /** S3's, for a conditional request. */
  readonly etag?: string | null
  /** Of a download: tells whether the file is still the one that was written. */
  readonly identity?: string | undefined
  /** What each `parse` has made of the value. */
  readonly parsed: WeakMap<object, unknown>
  /** The event at which its request went out: the clock may be set back, this is not. */
  order: number
  /** When that was, by `Date.now()`: the monotonic clock stands still in a frozen process. */
  time: number
  /** The part of `maxAge` after which it is refreshed ahead, random so that a fleet spreads out. */
  ahead: number
  /** When a refresh failed and this was served instead, by `Date.now()`. */
  failed?: number
}

/** What to load for an entry, from where, and for which refresh. */
interface Call extends Entry, Refresh {
  /** AWS's name, in signatures and host names. */
  readonly service: string
  readonly region: string
  readonly fetch: Fetch
  readonly bucket?: string
}

const cache = new Map<unknown, Cell>()

/** A number for each function given as `credentials`: what is read with them is kept apart. */
const providerIds = new WeakMap<object, number>()

/** Failures that the log has a line about. */
const warned = new WeakSet<object>()

/** The codes that say that there is no such thing. */
const MISSING = /^(NoSuch(Key|Version)|Parameter(Version)?NotFound|ResourceNotFoundException)$/

/** Counts requests and answers. */
let events = 0

/** When the invocation under way ends, by `Date.now()`: direct access is not told by its reader. */
let deadline: number | undefined

async function readEntry(entry: Entry, reader: Reader) {
  const values: [name: string, value: unknown][] = []
  const answers = await all(
    entry.ids.map(async ([name, id], index) => {
      try {
        const answer = await answerFor(entry, id, reader)
        values[index] = [name, convert(entry, answer)]
        return answer
      } catch (thrown) {
        const { source } = entry.kind
        const error = thrown as LambdaCacheError
        throw new LambdaCacheError(`${source} ${id}: ${error.message}`, { ...error, id, source })
      }
    }),
  )
  return {
    answers,
    entry,
    value: entry.names ? frozen(values) : (values[0] as [string, unknown])[1],
  }
}

/**
 * Decides where an answer comes from: memory while it is fresh; the last one while AWS is left
 * alone after a failure; else a refresh, or the last one if that fails for a passing reason.
 */
async function answerFor(entry: Entry, id: string, reader: Reader): Promise<Answer> {
  // Seconds for which AWS is left alone after a refresh has failed.
  const RETRY_PAUSE = 5
  const cell = cellOf(targetOf(entry, id), !reader.direct)
  const { until: end = Infinity, after = events } = reader
  const answer = usable(entry, cell)
  const isForced = reader.after || !entry.maxAge
  const isWanted = ({ time, order }: Answer): boolean =>
    order > after || (!isForced && isYoungerThan(entry.maxAge, time))
  if (answer && isWanted(answer)) {
    const limit = Math.min(Date.now() + 300, end - 200)
    if (
      reader.ahead &&
      !isForced &&
      Date.now() < limit &&
      !isYoungerThan(entry.maxAge * answer.ahead, answer.time)
    ) {
      // One attempt, beside the handler. If it fails, nothing happens: the value is good.
      answer.ahead = 1
      reader.ahead.push(
        refreshOf(cell, 0, true)
          .wait(limit)
          .catch(() => {}),
      )
    }
    return answer
  }
  if (answer && !isForced && isYoungerThan(RETRY_PAUSE, answer.failed)) return answer

  // The error takes 200 ms to get out. With an answer to fall back on, half of the remaining time
  // is left to the handler.
  const limit = answer ? (Date.now() + end) / 2 : end - 200
  // Throttled with nothing to fall back on, attempts go on: 500 ms are left to the last of them.
  const patience = deadline ? deadline - 700 : Date.now() + 10_000
  const refresh = Date.now() < limit ? refreshOf(cell, answer ? 0 : patience) : cell.refresh
  if (!refresh) return fallBack(entry, id, refresh, unanswered(cell.endpoint), cell)
  try {
    const loaded = await refresh.wait(limit)
    if (isWanted(loaded)) return loaded
  } catch (thrown) {
    // Nothing is thrown if time is up. Neither a refresh ahead of time nor, for a forced reader, an
    // earlier one has the last word.
    if (!thrown || (!refresh.isAhead && (refresh.sent.order > after || !isForced)))
      return fallBack(entry, id, refresh, unanswered(cell.endpoint, thrown), cell)
  }
  return answerFor(entry, id, isForced ? { ...reader, after } : reader)
}

/**
 * The last answer after all, if the failure is one that may pass. If AWS was asked, and not merely
 * no time left, it is then left alone for a while.
 */
function fallBack(
  entry: Entry,
  id: string,
  isAsked: unknown,
  error: LambdaCacheError,
  cell: Cell,
): Answer {
  const answer = usable(entry, cell)
  if (!answer || !isPassing(error)) throw error
  if (isAsked) answer.failed = Date.now()
  // Things that were requested together fail with one error, and have one line in the log.
  if (!warned.has(error)) {
    console.warn(`lambda-cache: ${entry.kind.source} ${id}: ${error.message}: serving stale`)
    warned.add(error)
  }
  return answer
}

/** The refresh under way, else a new one. */
function refreshOf(cell: Cell, until = 0, isAhead = false): Refresh {
  if (cell.refresh) return cell.refresh
  const controller = new AbortController()
  let waiters = 0

  async function wait(limit: number, signal?: AbortSignal): Promise<Answer> {
    waiters += 1
    try {
      return await within(answer, limit - Date.now(), signal)
    } finally {
      waiters -= 1
      // When the last one gives up, the refresh is abandoned: the next reader starts a new one.
      if (cell.refresh === refresh && !waiters) {
        cell.refresh = undefined
        controller.abort()
      }
    }
  }

  const refresh = { until, signal: controller.signal, sent: {} as Refresh['sent'], wait, isAhead }
  const answer = loadAnswer(cell, refresh)
  cell.refresh = refresh
  return refresh
}

async function loadAnswer(cell: Cell, refresh: Refresh): Promise<Answer> {
  try {
    // The end of the tick: whoever comes before that shares the request.
    await undefined
    countRequest(refresh.sent)
    return keep(cell, refresh, await cell.load(refresh, cell.answer))
  } catch (thrown) {
    // Anything else comes of an answer that is not what AWS documents: its text may quote that.
    const error =
      thrown instanceof LambdaCacheError ? thrown : invalidAnswer('HTTP 200 without JSON')
    // That there is no such thing is an answer, too. Ahead of time it changes nothing.
    if (!MISSING.test(error.code)) throw error
    return keep(cell, refresh, { cause: error })
  } finally {
    if (cell.refresh === refresh) cell.refresh = undefined
    // To the end of the map, or, after a failure, out of it.
    if (cache.get(cell.key) === cell) {
      cache.delete(cell.key)
      if (cell.answer ?? cell.refresh) cache.set(cell.key, cell)
    }
    // Of what direct access alone has read, 1,000 stay. The map begins with the oldest.
    const free = [...cache.values()].filter((one) => !one.stays && !one.refresh)
    for (const { key } of free.slice(0, -1000)) cache.delete(key)
  }
}

/** Makes an answer of what was loaded, and keeps it unless there is a newer one. */
function keep(cell: Cell, refresh: Refresh, loaded: Partial<Answer>): Answer {
  if (loaded.cause && refresh.isAhead) throw loaded.cause
  const answer: Answer = {
    ahead: 0.8 + Math.random() / 5,
    parsed: new WeakMap(),
    ...refresh.sent,
    ...loaded,
  }
  // What was abandoned and comes in late replaces nothing newer.
  if ((cell.answer?.order as number) > answer.order) return answer
  events += 1
  cell.answer = answer
  return answer
}

/** What an entry makes of an answer. */
function convert(entry: Entry, answer: Answer): unknown {
  const { parse } = entry
  const { cause: missing, parsed, value } = answer
  if (missing && 'default' in entry) return entry.default
  if (!('value' in answer)) throw missing
  if (!parse) return value
  if (!parsed.has(parse)) {
    parsed.set(
      parse,
      typeof value === 'string'
        ? parseText(parse, value)
        : frozen(
            Object.entries(value as object).map(
              ([name, text]) => [name, parseText(parse, text, ` for ${name}`)] as const,
            ),
          ),
    )
  }
  return parsed.get(parse)
}

/** What `parse` throws is not passed on, not even as `cause`: most parsers quote their input. */
function parseText(parse: (text: string) => unknown, text: string, which = ''): unknown {
  let reason = 'failed'
  try {
    const value = parse(text)
    if (!(value instanceof Promise)) return value
    value.catch(() => {})
    reason = 'returned a promise: use custom'
  } catch (error) {
    const { name } = Object(error) as Error
    // A name such as SyntaxError, unless it may come from the text.
    if (!text.includes(name) && /^\w{3,40}$/.test(name)) reason = `failed with ${name}`
  }
  throw failure('ParseError', `parse${which} ${reason}`)
}

/**
 * Whether two answers are known to say the same: files by their ETag, everything else by equality.
 * An object that is not plain data, such as one with private fields, is not equal to its clone.
 */
function isSameAnswer(one: Answer, other: Answer): boolean {
  if (one.identity) return one.etag === other.etag && !!one.etag
  try {
    return (
      one.value === other.value ||
      builtin('util').isDeepStrictEqual(structuredClone(one.value), other.value)
    )
  } catch {
    return false
  }
}

/** The answer that may be served, be it instead of a newer one. */
function usable(entry: Entry, { answer }: Cell): Answer | undefined {
  // That there is no such thing answers only those who have a default.
  const isValue = answer && ('default' in entry || 'value' in answer)
  if (isValue && isYoungerThan(entry.maxAge + entry.staleIfError, answer.time)) return answer
  return undefined
}

/** An age below zero shows a clock that was set back: nobody knows the true one. */
function isYoungerThan(seconds: number, time = Infinity): boolean {
  const age = Date.now() - time
  return age >= 0 && age < 1000 * seconds
}

/** The cell with that key, which loads as the new one does, else the new one. */
function cellOf(target: Cell, stays: boolean): Cell {
  const cell = cache.get(target.key) ?? target
  if (target.id !== cell.id) throw refusal('a free name', cell.key, 'file')
  cell.load = target.load
  cell.stays ||= stays
  cache.set(cell.key, cell)
  return cell
}

/** Where the answer for an entry is kept, and how it is loaded. */
function targetOf(entry: Entry, id: string): Cell {
  // The types of Node.js and of the DOM differ in what a body is.
  const {
    decrypt,
    versionStage,
    versionId,
    file,
    fetch = globalThis.fetch as never,
    credentials,
  } = entry
  if (credentials && !providerIds.has(credentials)) {
    events += 1
    providerIds.set(credentials, events)
  }
  const { source, load } = entry.kind
  // AWS's name, in signatures and host names.
  const service = source.replace('secrets', 'secretsmanager')
  const region =
    regionOfArn(id) ?? entry.region ?? (env('AWS_REGION') || env('AWS_DEFAULT_REGION') || '')
  const endpoint = entry.load ? 'load' : endpointOf(service, region)
  // Whatever changes the answer.
  const thing =
    entry.load ??
    JSON.stringify([
      entry.recursive,
      id,
      decrypt,
      versionStage,
      entry.path,
      region,
      providerIds.get(credentials as never),
      endpoint,
      !!entry.binary,
      versionId,
      service,
    ])
  return {
    endpoint,
    id: thing,
    load: (refresh, previous) =>
      load({ ...entry, ...refresh, service, fetch, region }, id, previous),
    key: file ? builtin('path').resolve(file) : thing,
  }
}

// ---- SSM parameters ----

const SSM: SourceKind = {
  source: 'ssm',
  load: loadParameters,
  types: {
    as: 'string',
    parse: 'function',
    name: 'string',
    decrypt: 'boolean',
    list: 'boolean',
    region: 'string',
    default: '',
    names: 'array',
    recursive: 'boolean',
    path: 'string',
    maxAge: 'number >= 0',
  },
  option: 'name',
}

/**
 * Names that go out together. A cell that is never in the cache: whoever waits for it shares its
 * refresh, and when all have given up, that is abandoned like any other.
 */
interface Batch extends Cell {
  readonly key: Call
  readonly names: Set<string>
}

/** Those that still take names, until the end of the tick. */
let openBatches: Batch[] = []

async function loadParameters(call: Call, id: string): Promise<Partial<Answer>> {
  if (call.path) return loadTree(call, id)
  const batch = batchFor(call)
  const { names } = batch
  names.add(id)
  let answers: Partial<Answer> = {}
  try {
    answers = await refreshOf(batch, call.until, call.isAhead).wait(Infinity, call.signal)
  } catch (error) {
    // Nobody else's name can have caused it, or asking again does not help.
    if (names.size < 2 || isPassing(error)) throw error
  }
  // AWS refuses all ten names if one is malformed or denied, and an emulator may answer without
  // the selectors: then each is asked for alone.
  if (names.size > 1 && !(answers.value as Map<string, Partial<Answer>> | undefined)?.get(bare(id)))
    answers = await getParameters(call, new Set([id]))
  // All of a batch are as old as its answer, and are refreshed ahead of time together.
  const { cause: missing, value, ...common } = answers
  const loaded = (value as Map<string, Partial<Answer>> | undefined)?.get(bare(id))
  if (!loaded) throw missing ?? invalidAnswer('HTTP 200 without it')
  return { ...common, ...loaded, parsed: new WeakMap() }
}

/** One that still takes a name, else a new one, that is closed when its request begins. */
function batchFor(call: Call): Batch {
  // AWS takes ten names at a time. A refresh ahead of time has one attempt, so it shares none.
  const open = openBatches.find(
    ({ names, key }) =>
      names.size < 10 &&
      call.isAhead === key.isAhead &&
      !call.until === !key.until &&
      call.fetch === key.fetch &&
      call.decrypt === key.decrypt &&
      call.credentials === key.credentials &&
      call.region === key.region,
  )
  if (open) return open
  const names = new Set<string>()
  const load: Cell['load'] = (refresh) => {
    openBatches = []
    return getParameters({ ...call, ...refresh }, names)
  }
  const batch = { load, key: call, names }
  openBatches.push(batch)
  return batch
}

/** API: GetParameters. */
async function getParameters(call: Call, names: Set<string>): Promise<Partial<Answer>> {
  const found: Map<string, Partial<Answer>> = new Map()
  const [only = ''] = names.size < 2 ? names : []
  // The one answer is that to the one name, without the selector or the rest of an ARN, too.
  function set(name: string, loaded: Partial<Answer>, selector = ''): void {
    found.set(bare(only.includes(bare(name)) ? only : name + selector), loaded)
  }
  const { InvalidParameters = [], Parameters } = await callJson(call, 'GetParameters', {
    WithDecryption: call.decrypt,
    Names: [...names],
  })
  for (const { Value, Name, Selector, ARN } of Parameters) {
    // AWS gives the name without the `:version` or `:label` that was asked for.
    for (const name of [Name, ARN]) if (name) set(name, { value: Value.toString() }, Selector)
  }
  for (const name of InvalidParameters)
    set(name, { cause: failure('ParameterNotFound', 'ParameterNotFound') })
  return { value: found }
}

/** API: GetParametersByPath, page after page. */
async function loadTree(call: Call, id: string): Promise<Partial<Answer>> {
  const texts: [name: string, value: string][] = []
  let first: Refresh['sent'] | undefined
  let NextToken: string | undefined
  const tokens = new Set<string | undefined>()
  do {
    const page = await callJson(call, 'GetParametersByPath', {
      WithDecryption: call.decrypt,
      NextToken,
      Recursive: call.recursive,
      Path: id,
    })
    // The values are as old as those of the first page.
    first ??= { ...call.sent }
    for (const { Value, Name } of page.Parameters)
      texts.push([Name.replace(id.slice(1), '').replace(/^\/+/, ''), Value.toString()])
    NextToken = page.NextToken
    if (tokens.has(NextToken)) throw invalidAnswer('same NextToken')
    tokens.add(NextToken)
    // The end of the invocation may come between two pages.
    await inputTaken()
  } while (NextToken)
  return { ...first, cause: !texts[0], value: frozen(texts) }
}

/** A parameter at the root is the same with and without its slash. */
function bare(name: string): string {
  return name.replace(/^\/(?=[^/]*$)/, '')
}

function split(list: string): readonly string[] {
  return Object.freeze(list.split(','))
}

// ---- Secrets Manager secrets ----

const SECRETS: SourceKind = {
  source: 'secrets',
  types: {
    as: 'string',
    versionId: 'string',
    binary: 'boolean',
    region: 'string',
    default: '',
    id: 'string',
    versionStage: 'string',
    parse: 'function',
    maxAge: 'number >= 0',
  },
  option: 'id',
  load: loadSecret,
}

/** API: GetSecretValue. */
async function loadSecret(call: Call, id: string): Promise<Partial<Answer>> {
  const { binary, versionStage: VersionStage, versionId: VersionId } = call
  const { SecretBinary, SecretString } = await callJson(call, 'GetSecretValue', {
    SecretId: id,
    VersionStage,
    VersionId,
  })
  if (binary)
    return {
      value: new Uint8Array(
        SecretString ? Buffer.from(SecretString) : Buffer.from(SecretBinary, 'base64'),
      ),
    }
  if (SecretBinary) throw failure('BinarySecret', 'set binary: true')
  return { value: (SecretString as string).toString() }
}

// ---- S3 objects ----

const S3: SourceKind = {
  source: 's3',
  load: loadObject,
  types: {
    as: 'string',
    versionId: 'string',
    file: 'string',
    binary: 'boolean',
    region: 'string',
    default: '',
    uri: 'string',
    parse: 'function',
    maxAge: 'number >= 0',
  },
  option: 'uri',
}

/** The regions of buckets that AWS has redirected calls for. */
const bucketRegions = new Map<string, string>()

/** Not ARNs, directory buckets and Outposts: they have endpoints and signatures of their own. */
const S3_URI = /^s3:\/\/(?![^/]*--(?:op|xa?)-s3\/)([\w.-]{3,255})\/(.+)$/s

/** API: GetObject, conditional on the ETag while the earlier content is still there. */
async function loadObject(call: Call, id: string, previous?: Answer): Promise<Partial<Answer>> {
  const { binary, versionId, file } = call
  const [, bucket, key] = S3_URI.exec(id) as unknown as [string, string, string]
  const etag = (file && (await identify(file))) === previous?.identity && previous?.etag
  const {
    value: content,
    status,
    headers,
  } = await send(
    { ...call, bucket },
    versionId ? 'GetObjectVersion' : 'GetObject',
    `/${encodePath(key)}${versionId ? `?versionId=${encode(versionId)}` : ''}`,
    { headers: etag ? { 'if-none-match': etag } : {}, method: 'GET' },
    async (body) =>
      file
        ? download(body, file)
        : {
            value: binary
              ? new Uint8Array(await builtin('stream/consumers').buffer(body as never))
              : await builtin('stream/consumers').text(body as never),
          },
  )
  if (status !== 304) return { ...(content as Partial<Answer>), etag: headers.get('etag') }
  if ((file && (await identify(file))) === previous?.identity)
    return { ...previous, ...call.sent, ahead: 0.8 + Math.random() / 5 }
  // Somebody has changed the file while the request was under way.
  return loadObject(call, id)
}

/** What tells whether a file is still the one that was written. */
function identify(file: string): Promise<string | undefined> {
  return builtin('fs')
    .promises.lstat(file)
    .then(
      (stat) => [stat.ino, stat.size, stat.mtimeMs].join(),
      (): undefined => undefined,
    )
}

/**
 * Downloads beside the target and renames: a reader sees the old file or the new one, and a failure
 * leaves the old one. Where several threads download to one file, the last rename wins.
 */
async function download(body: AsyncIterable<Uint8Array>, file: string): Promise<Partial<Answer>> {
  const { resolve } = builtin('path')
  const folder = resolve(file, '..')
  const fs = builtin('fs').promises
  // Of one length, whatever that of the target's name.
  const prefix = `.lambda-cache-${sha256(resolve(file))}-`
  const temporary = `${folder}/${prefix}${Math.random()}`
  try {
    // Removes what a killed process has left: Lambda keeps /tmp when it replaces one. What belongs
    // to this process, in any thread, is younger.
    for (const name of await fs.readdir(folder)) {
      const path = `${folder}/${name}`
      if (
        name.includes(prefix) &&
        ((await fs.lstat(path).catch((): undefined => undefined))?.mtimeMs as number) <
          Date.now() - process.uptime() * 1000
      )
        await fs.rm(path).catch(() => {})
    }
    // Exclusive creation follows no link that somebody left there.
    await fs.writeFile(temporary, body, { flag: 'wx', mode: 0o600 })
    const identity = await identify(temporary)
    await fs.rename(temporary, file)
    return { identity, value: file }
  } catch (cause) {
    await fs.rm(temporary).catch(() => {})
    const { code } = cause as NodeJS.ErrnoException
    throw cause instanceof LambdaCacheError
      ? cause
      : failure(code === 'EMFILE' ? code : 'FileError', `cannot write ${file} (${code})`, { cause })
  }
}

// ---- Custom loads ----

const CUSTOM: SourceKind = {
  source: 'custom',
  types: { as: 'string', load: 'function', maxAge: 'number >= 0' },
  option: 'as',
  load: loadCustom,
}

async function loadCustom({ load }: Call): Promise<Partial<Answer>> {
  try {
    return { value: await (load as () => unknown)() }
  } catch (cause) {
    if (cause instanceof LambdaCacheError) throw cause
    throw failure('LoadFailed', 'LoadFailed', { cause })
  }
}

// ---- AWS calls ----

/** What was made of the body, if the status is 200, else its text. */
interface Exchanged extends Pick<FetchResponse, 'status' | 'headers'> {
  readonly value: unknown
  /** Who has answered. */
  readonly origin: string
}

interface HttpRequest {
  readonly method: string
  readonly headers: Record<string, string>
  readonly body?: string
}

/** Failures that may pass by themselves, by error code and HTTP status: first, throttling. */
const PASSING =
  /(Throttl|SlowDown|InProgress|Exceeded|TooMany| 429$|NotComplete)| 5..$|LoadFailed| 408$|Network|EMFILE|Timeout/

/** What goes out all at once is neither sent nor answered in time. */
const underWay = new Set<unknown>()
/** First come, first served. */
const waiting: ((place: unknown) => void)[] = []

/** The AWS JSON 1.1 protocol. */
async function callJson(call: Call, action: string, input: object): Promise<JsonAnswer> {
  const { value: content } = await send(call, action, '/', {
    headers: {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': `${call.service.replace('ssm', 'AmazonSSM')}.${action}`,
    },
    method: 'POST',
    body: JSON.stringify(input),
  })
  return JSON.parse(content as string) as JsonAnswer
}

/** What is read of AWS's answers. One that lacks it fails where it is read. */
interface JsonAnswer {
  readonly Parameters: readonly {
    readonly Name: string
    readonly ARN?: string
    readonly Selector?: string
    readonly Value: string
  }[]
  readonly InvalidParameters?: readonly string[]
  readonly NextToken?: string
  readonly SecretString?: string
  readonly SecretBinary: string
}

/**
 * Makes a call, in up to three attempts. Throttled with nothing to serve, there are as many as fit
 * until the deadline, or into 10 s where there is none.
 */
async function send(
  call: Call,
  action: string,
  path: string,
  unsigned: HttpRequest,
  read?: (body: AsyncIterable<Uint8Array>) => Promise<Partial<Answer>>,
): Promise<Exchanged> {
  let clockOffset = 0
  const began = Date.now()
  const { bucket = '', service, signal } = call

  /** One attempt, signed anew. Following a region or a clock, each of them once, is part of it. */
  async function sendOnce(attempt: number): Promise<Exchanged> {
    const region = bucketRegions.get(bucket) ?? call.region
    const url = endpointOf(service, region, bucket) + path
    if (new URL(url).href !== url) throw failure('UnsupportedKey', 'no URL takes it')
    const headers = sign({
      ...unsigned,
      url,
      region,
      credentials: await getCredentials(call, attempt),
      service,
      date: new Date(Date.now() + clockOffset),
    })
    if (/[^ -~]/.test(Object.values(headers).join()))
      throw failure('RequestFailed', 'no header takes it')
    const answer = await exchange({ ...unsigned, headers }, call, url, attempt, read)
    if (answer.status === 200 || (headers['if-none-match'] && answer.status === 304)) return answer
    const content = answer.value as string
    const bucketRegion =
      answer.headers.get('x-amz-bucket-region') ??
      (/Malformed<.*<Region>(.*?)</s.exec(content)?.[1] as string)
    if (bucket && bucketRegion !== region && call.region === region && REGION.test(bucketRegion)) {
      bucketRegions.set(bucket, bucketRegion)
      return sendOnce(attempt)
    }
    if (!clockOffset && /Signature expired|TooSkewed|yet current/.test(content)) {
      clockOffset = Date.parse(answer.headers.get('date') as string) - Date.now()
      if (clockOffset) return sendOnce(attempt)
    }
    throw refused(answer, `${service}:${action}`)
  }

  return inLine(async () => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await sendOnce(attempt)
      } catch (error) {
        const passing = isPassing(error)
        const isThrottled = passing?.[1]
        // Until the deadline if AWS throttles and there is nothing to serve, else three attempts.
        const left =
          isThrottled && call.until ? call.until - Date.now() : attempt < 3 ? Infinity : 0
        if (!passing || call.isAhead || left <= 0) {
          if (isThrottled)
            (error as Error).message += `, ${attempt} attempts in ${(Date.now() - began) / 1000} s`
          throw error
        }
        // A random pause of up to 50 ms, then 100. When throttled, of up to 1 s, then 2, 4 and 5.
        const longest = Math.min((isThrottled ? 500 : 25) * 2 ** attempt, 5000)
        const pause = Math.min(Math.random() * longest, left)
        await within(new Promise(() => {}), pause, signal).catch(() => {})
      }
    }
  })
}

/** One HTTP exchange. Redirects are not followed: they would take the session token along. */
async function exchange(
  request: HttpRequest,
  call: Call,
  url: string,
  attempt: number,
  read?: (body: AsyncIterable<Uint8Array>) => Promise<Partial<Answer>>,
): Promise<Exchanged> {
  const controller = new AbortController()
  const { origin } = new URL(url)
  const { signal } = call
  // Bytes of an answer in JSON or XML: far more than AWS ever sends.
  const MAX_ANSWER_SIZE = 2 ** 23

  /** Gives up after 2, 4 or 8 s without progress, whatever the transport makes of the abort. */
  async function inTime<V>(step: () => V | Promise<V>): Promise<V> {
    try {
      signal.throwIfAborted()
      return (await within(step(), 1000 * 2 ** Math.min(attempt, 3), signal)) as V
    } catch (error) {
      throw unanswered(origin, error)
    }
  }

  try {
    const response = await inTime(() => {
      countRequest(call.sent)
      return call.fetch(url, { ...request, signal: controller.signal, redirect: 'manual' })
    })
    const { status, headers, body } = response
    if (!(body ?? response.text) || !headers) throw invalidAnswer('HTTP 200 without headers')
    const isWanted = status === 200 && read

    /** The body, piece by piece. Fails if it is too long, or ends before its length. */
    async function* pieces(reader: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
      let size = 0
      for (;;) {
        const next = await inTime(() => reader.next())
        if (next.done) break
        size += next.value.length
        if (!isWanted && size > MAX_ANSWER_SIZE) throw invalidAnswer('over 8 MiB')
        yield next.value
      }
      // A 304 may give the length of what it does not send. With a content-encoding, fetch has
      // taken that off.
      const length =
        status === 200 && !headers.get('content-encoding') && headers.get('content-length')
      if (length && Number(length) !== size) throw failure('NetworkError', 'cut short')
    }

    // Node's fetch empties a body without a reader once nobody holds its response. Without a body,
    // the text is the one piece.
    const whole = body
      ? pieces(body[Symbol.asyncIterator]())
      : ([await inTime(() => response.text())] as never)
    const content = await (isWanted
      ? read(whole)
      : builtin('stream/consumers').text(whole as never))
    return { value: content, origin, status, headers }
  } finally {
    // Whatever has not been read is not wanted.
    controller.abort()
  }
}

function countRequest(sent: Refresh['sent']): void {
  events += 1
  sent.order = events
  sent.time = Date.now()
}

/** AWS's own text stays out of the error: it can quote the request, token and all. */
function refused(
  { origin, headers, status, value: content }: Exchanged,
  action: string,
): LambdaCacheError {
  const [, code = `Http${status}`] =
    /(?:"(?:__type|code)"\s*:\s*"(?:[^"]*#)?|^[^{]*<Code>)([\w.]{1,80})/.exec(
      `${content}"code":"${headers.get('x-amzn-errortype') ?? ''}"`,
    ) ?? []
  const hint = /AccessDenied/.test(code)
    ? `: it takes ${action}, with your own key also kms:Decrypt`
    : ''
  const requestId = headers.get('x-amzn-requestid') ?? headers.get('x-amz-request-id')
  return failure(code, `${code} (HTTP ${status}) from ${origin}${hint}`, {
    status,
    ...(requestId && { requestId }),
  })
}

/** Whether a failure may pass by itself. A group in the match says that AWS throttles. */
function isPassing(error: unknown): RegExpExecArray | null {
  const { code, status } = error as LambdaCacheError
  return PASSING.exec(`${code} ${status}`)
}

/**
 * Most of what a transport throws may pass; a certificate that is wrong does not. The error itself
 * is not passed on, since it can quote a header. Without one, time is up.
 */
function unanswered(
  endpoint: string | undefined,
  error: unknown = { name: 'TimeoutError' },
): LambdaCacheError {
  if (error instanceof LambdaCacheError) return error
  const texts: string[] = []
  // A chain of causes can be a loop. What has no code has a name.
  for (
    let cause = error as { code?: unknown; name: string; cause?: never } | undefined;
    texts.length < 9 && cause;
    cause = cause.cause
  ) {
    texts.push(typeof cause.code === 'string' ? cause.code : cause.name)
  }
  const all = texts.join()
  // The last cause says most, unless it is no error.
  const code = texts.pop() ?? texts[0]
  if (/\b(Z|ZSTD|ERR_)_/.test(all)) return invalidAnswer(`cannot decode it (${code})`)
  const kind = /UNABLE_|CERT|ERR_INVALID_/.test(all)
    ? 'RequestFailed'
    : /timed?out/i.test(all)
      ? 'Timeout'
      : 'NetworkError'
  const hint = kind === 'Timeout' ? ': a VPC needs a VPC endpoint or NAT' : ''
  return failure(kind, `no answer from ${endpoint} (${code})${hint}`)
}

/** Does the work when it has a place, and gives that to whoever has waited longest. */
async function inLine<T>(work: () => Promise<T>): Promise<T> {
  const place = underWay.size < 20 ? {} : await new Promise((resolve) => waiting.push(resolve))
  underWay.add(place)
  try {
    return await work()
  } finally {
    const next = waiting.shift()
    // Not in this turn of the event loop, in which those behind may run out of time, too.
    if (next) setImmediate(() => next(place))
    else underWay.delete(place)
  }
}

// ---- Fetch over node:https ----

/**
 * The part of `fetch` that is used here, over `node:https`, which loads faster than Node's `fetch`.
 * It uses the connections of Node's global agents, which keep them alive.
 *
 * @example
 * export const handler = withCache(
 *   async (event: Order, context) => charge(event, context.api_key),
 *   { secrets: ['/prod/api_key'], fetch: httpsFetch },
 * )
 */
export async function httpsFetch(
  url: string,
  init: Parameters<Fetch>[1],
): Promise<FetchResponse & { json(): Promise<unknown> }> {
  const http = builtin(new URL(url).protocol.slice(0, -1) as 'http')
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const call = http.request(url, init, (response) => resolve(response.pause()))
    call
      .on('error', (error) => {
        // If one connection died while the process was frozen, the others did too: the next attempt
        // is to open a new one.
        if (call.reusedSocket)
          for (const socket of Object.values(http.globalAgent.freeSockets).flat()) socket?.destroy()
        reject(error)
      })
      .on('close', () => reject(Error()))
      .end(init.body)
  })
  const body = decoded(init.signal, response)
  const text = (): Promise<string> => builtin('stream/consumers').text(body)
  return {
    text,
    headers: { get: (name) => response.headersDistinct[name.toLowerCase()]?.join(', ') ?? null },
    body,
    status: response.statusCode as number,
    json: () => text().then(JSON.parse),
  }
}

/** As `fetch` does, takes off the content-encoding with which an S3 object may be stored. */
async function* decoded(
  signal: AbortSignal,
  response: IncomingMessage,
): AsyncGenerator<Uint8Array, void, undefined> {
  const pieces = response[Symbol.asyncIterator]() as AsyncGenerator<Uint8Array, void, undefined>
  const { value: first = new Uint8Array() } = await pieces.next()
  async function* whole(): AsyncGenerator<Uint8Array, void, undefined> {
    yield first
    yield* pieces
  }
  const decoders = response.headers['content-encoding']
    ?.toLowerCase()
    .split(/\s*,\s*/)
    .reverse()
    .map((name, index) => {
      // Some leave out the header of zlib's format, whose first byte ends in 8.
      const deflate = ((first[0] as number) & 15) !== 8 && !index ? 'InflateRaw' : 'Inflate'
      const zlib = builtin('zlib') as unknown as Readonly<
        Record<string, ((options: { finishFlush: number }) => Transform) | undefined>
      >
      const known: Record<string, string> = {
        deflate,
        zstd: 'ZstdDecompress',
        'x-gzip': 'Gunzip',
        gzip: 'Gunzip',
        br: 'BrotliDecompress',
      }
      // To flush at the end, and not to finish, takes what ends too early as far as it goes.
      return zlib[`create${known[name]}`]?.({ finishFlush: 1 })
    })
  yield* !decoders || decoders.includes(undefined)
    ? whole()
    : (builtin('stream').pipeline([whole(), ...decoders] as never, () => {}) as unknown as Readable)
  // Node drops what has come of an aborted response, and then may end it as if that were all.
  signal.throwIfAborted()
}

// ---- Signature Version 4 ----
// AWS's page: "Create a signed AWS API request" in the IAM User Guide.

/** A request for {@link sign}. */
export interface SignRequest {
  readonly method: string
  /** Absolute URL, its path percent-encoded as it is to be sent. */
  readonly url: string
  /** All of them are signed. Several values of one header are one text, separated by commas. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** @default '' */
  readonly body?: string | Uint8Array | undefined
  /** Signing name of the service: `ssm`, `secretsmanager`, `s3`. */
  readonly service: string
  readonly region: string
  readonly credentials: Credentials
  /** Time of the request, within five minutes of AWS's own. */
  readonly date: Date
}

/** AWS credentials. Temporary ones, such as a Lambda function's, have a `sessionToken`. */
export interface Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string | undefined
  /** When they expire, if they do. `sign` has no use for it. */
  readonly expiration?: Date | undefined
}

/**
 * Signs a request with AWS Signature Version 4. Pure: no clock, no environment.
 *
 * @returns the headers to send: those given, in lower case, plus `x-amz-date`, `authorization`, for
 * temporary credentials `x-amz-security-token`, and for S3 `x-amz-content-sha256`. `host` is signed
 * too, and left to whoever sends the request, who derives it from the URL.
 * @throws {LambdaCacheError} `InvalidOptions` for an invalid date
 * @example
 * const date = new Date()
 * const request = { method: 'GET', url, service: 's3', region: 'eu-west-1', credentials, date }
 * const headers = sign(request)
 */
export function sign({
  credentials,
  headers,
  url,
  method,
  body = '',
  service,
  date,
  region,
}: SignRequest): Record<string, string> {
  if (!(Number(date) >= 0)) throw refusal('a Date', date, 'date')
  const { searchParams, host, pathname } = new URL(url)
  const timestamp = date.toISOString().replace(/:|-|\.\d+/g, '')
  const signed: Record<string, string> & { authorization?: string; host?: string } = {}
  const given = {
    ...headers,
    host,
    'x-amz-date': timestamp,
    ...(credentials.sessionToken && { 'x-amz-security-token': credentials.sessionToken }),
    // S3 wants it even if the body is empty.
    ...(service === 's3' && { 'x-amz-content-sha256': sha256(body) }),
  }
  for (const [name, value] of Object.entries(given)) {
    signed[name.toLowerCase()] = value.trim().replace(/\s+/g, ' ')
  }
  // An earlier signature is replaced.
  delete signed.authorization
  const scope = [timestamp.slice(0, 8), region, service, 'aws4_request']
  // S3 takes the path as it is sent; the other services normalise and encode it a second time.
  const path = service === 's3' ? pathname : encodePath(pathname).replace(/\/+/g, '/')
  const names = Object.keys(signed).sort()
  const signedHeaders = names.join(';')
  const canonicalRequest = [
    method,
    path,
    canonicalQuery(searchParams),
    ...names.map((name) => `${name}:${signed[name]}`),
    '',
    signedHeaders,
    sha256(body),
  ].join('\n')
  const signingKey = scope.reduce<Buffer | string>(hmac, `AWS4${credentials.secretAccessKey}`)
  const stringToSign = [
    'AWS4-HMAC-SHA256',
    timestamp,
    scope.join('/'),
    sha256(canonicalRequest),
  ].join('\n')
  delete signed.host
  signed.authorization =
    `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope.join('/')}, ` +
    `SignedHeaders=${signedHeaders}, Signature=${hmac(signingKey, stringToSign).toString('hex')}`
  return signed
}

/** Sorted by name, then by value: a space comes before every character of an encoded name. */
function canonicalQuery(parameters: URLSearchParams): string {
  return [...parameters]
    .map((pair) => pair.map(encode).join(' '))
    .sort()
    .join('&')
    .replace(/ /g, '=')
}

function sha256(data: string | Uint8Array): string {
  return builtin('crypto').createHash('sha256').update(data).digest('hex')
}

function hmac(key: Buffer | string, text: string): Buffer {
  return builtin('crypto').createHmac('sha256', key).update(text).digest()
}

function encodePath(path: string): string {
  return path.replace(/[^/]+/g, encode)
}

/** RFC 3986, as AWS wants it: everything but letters, digits and `-._~`. */
function encode(text: string): string {
  // Half a surrogate pair can neither be encoded nor stand in a URL.
  return (/\p{Cs}/u.test(text) ? text : encodeURIComponent(text)).replace(
    /[!'()*]/g,
    (character) => `%${Buffer.from(character).toString('hex').toUpperCase()}`,
  )
}

// ---- Credentials ----
// AWS's page: "Container credential provider" in the SDKs and Tools Reference Guide.

/** From the option, else from the environment, else from the container's endpoint. */
async function getCredentials(call: Call, attempt: number): Promise<Credentials> {
  const accessKeyId = env('AWS_ACCESS_KEY_ID')
  const secretAccessKey = env('AWS_SECRET_ACCESS_KEY')
  const sessionToken = env('AWS_SESSION_TOKEN')
  const { credentials: provider } = call
  if (!provider && accessKeyId && secretAccessKey)
    return { secretAccessKey, accessKeyId, sessionToken }
  const path = env('AWS_CONTAINER_CREDENTIALS_RELATIVE_URI')
  const url = (
    path ? `http://169.254.170.2${path}` : env('AWS_CONTAINER_CREDENTIALS_FULL_URI')
  ) as string
  const load: Cell['load'] = (refresh) => loadCredentials({ ...call, ...refresh }, url, attempt)
  const cell = cellOf({ load, key: providerIds.get(provider as never) ?? url }, !provider)
  const value = cell.answer?.value as Credentials | undefined
  const expires = Number(new Date(value?.expiration ?? 0))
  if (expires - Date.now() > 300_000) return value as Credentials
  try {
    return (await refreshOf(cell).wait(Infinity, call.signal)).value as Credentials
  } catch (error) {
    if (expires > Date.now()) return value as Credentials
    throw new LambdaCacheError(`credentials: ${(error as Error).message}`, error as never)
  }
}

async function loadCredentials(call: Call, url: string, attempt: number): Promise<Partial<Answer>> {
  // What a provider throws may quote a secret.
  const value = await (call.credentials
    ? Promise.resolve()
        .then(call.credentials)
        .catch((): undefined => undefined)
    : fromContainer(call, url, attempt))
  if (!value?.accessKeyId || !value.secretAccessKey) throw failure('NoCredentials', 'none')
  return { value }
}

async function fromContainer(call: Call, url: string, attempt: number): Promise<Credentials> {
  // Plain http only to AWS's own addresses: anyone else could read the token.
  if (
    !URL.canParse(url) ||
    !/^(https:|http:\/\/(localhost|\[::1\]|169\.254\.170\.23?|\[fd00:ec2::23\]|127(\.\d+){3})(:\d+)?($|\/))/.test(
      url,
    )
  ) {
    throw failure(
      'NoCredentials',
      'no AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ' +
        'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_CREDENTIALS_FULL_URI (https)',
    )
  }
  const file = env('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE')
  const fs = builtin('fs').promises
  const authorization = file
    ? (
        await fs.readFile(file, 'utf8').catch(() => {
          throw failure('NoCredentials', 'no AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE')
        })
      ).trim()
    : env('AWS_CONTAINER_AUTHORIZATION_TOKEN')
  const {
    origin,
    status,
    value: content,
  } = await exchange(
    { headers: authorization ? { authorization } : {}, method: 'GET' },
    call,
    url,
    attempt,
  )
  if (status !== 200) throw failure('NoCredentials', `HTTP ${status} from ${origin}`, { status })
  const answer = JSON.parse(content as string)
  return {
    secretAccessKey: answer.SecretAccessKey,
    accessKeyId: answer.AccessKeyId,
    sessionToken: answer.Token,
    expiration: answer.Expiration,
  }
}

// ---- Endpoints ----
// AWS's pages: "Service-specific endpoints" and "Dual-stack and FIPS endpoints" in the SDKs and
// Tools Reference Guide.

const REGION = /^(?!fips)[a-z]+(-[a-z]+)+-\d+$/

/** DNS suffixes of the partitions other than aws, by a part of their regions' names. */
const DNS_SUFFIXES: Record<string, string> = {
  eusc: 'amazonaws.eu',
  isoe: 'cloud.adc-e.uk',
  isof: 'csp.hci.ic.gov',
  iso: 'c2s.ic.gov',
  isob: 'sc2s.sgov.gov',
  cn: 'amazonaws.com.cn',
}

/** Without a slash at its end. For S3, the bucket is part of it. */
function endpointOf(service: string, region: string, bucket = ''): string {
  const fips = isOn('AWS_USE_FIPS_ENDPOINT')
  const dualStack = isOn('AWS_USE_DUALSTACK_ENDPOINT')
  const custom =
    !isOn('AWS_IGNORE_CONFIGURED_ENDPOINT_URLS') &&
    (env(`AWS_ENDPOINT_URL_${service.replace('manager', '_manager').toUpperCase()}`) ||
      env('AWS_ENDPOINT_URL'))
  const suffix = DNS_SUFFIXES[/iso\w?|^(cn|eusc)/.exec(region)?.[0] as string]
  if (!region) throw failure('NoRegion', 'set AWS_REGION')
  if (!custom && !REGION.test(region)) throw refusal('one like eu-west-1', region, 'region')
  if (
    (custom && !(URL.canParse(custom) && /^https?:\/\/[^\s@?#]+$/.test(custom))) ||
    (dualStack && (custom || /iso|eusc/.test(region))) ||
    (fips && (custom || suffix))
  ) {
    throw failure('InvalidEndpoint', `no URL in AWS_ENDPOINT_URL, FIPS or dual-stack: ${region}`)
  }
  // In GovCloud, the plain name of SSM is the FIPS one; that of Secrets Manager has IPv6.
  const name =
    fips && (service !== 'ssm' || !/-gov-/.test(region) || dualStack) ? `${service}-fips` : service
  const stack = service === 's3' && dualStack ? '.dualstack' : ''
  const api = suffix ? 'api.amazonwebservices.com.cn' : 'api.aws'
  const domain = service === 'ssm' && dualStack ? api : (suffix ?? 'amazonaws.com')
  const host = `${name}${stack}.${region}.${domain}`
  // Virtual-hosted style, for the names that the certificate for *.s3.region.amazonaws.com covers.
  if (!custom && /^[a-z\d-]+$/.test(bucket)) return `https://${bucket}.${host}`
  return new URL(custom || `https://${host}`).href.replace(/\/*$/, bucket && `/${bucket}`)
}

// ---- Helpers ----

function isOn(variable: string): boolean {
  return /^true$/i.test(env(variable) as string)
}

function env(variable: string): string | undefined {
  return process.env[variable]
}

/** One of Node's own modules. An import would load more, and keep what a test has replaced. */
function builtin<M extends keyof Builtins>(name: M): Builtins[M] {
  return process.getBuiltinModule(name) as never
}

/** `Object.fromEntries` defines properties, so that one named __proto__ is like any other. */
function frozen<T>(
  entries: readonly (readonly [name: string, value: T])[],
): Readonly<Record<string, T>> {
  return Object.freeze(Object.fromEntries(entries))
}

/** Rejects, with nothing, after so many milliseconds without an outcome, or with the abort. */
function within<T>(promise: T | Promise<T>, remaining: number, signal?: AbortSignal): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  let end!: () => void
  const over = new Promise<never>((_, reject) => {
    end = reject
    // Timers of more than 24 days would end at once.
    if (remaining < 2e9) timer = setTimeout(() => inputTaken().then(end), Math.max(remaining, 0))
    if (signal?.aborted) end()
    signal?.addEventListener('abort', end)
  })
  return Promise.race([promise, over]).finally(() => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', end)
  })
}

/**
 * Lets the event loop take in what has arrived: after a handler has blocked it, timers run before
 * the sockets are read. One turn reads what a socket has, the others deal with it.
 */
async function inputTaken(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate)
}

/** Waits for all. If several fail, the error names every one of them, and each hint once. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const errors = (await Promise.allSettled(promises)).flatMap(
    (result) => (result as PromiseRejectedResult).reason ?? [],
  )
  if (errors[1])
    throw new LambdaCacheError(
      errors
        .map((error) => error.message)
        .join('\n')
        .replace(/(: (it|a) .*)$(?=[\s\S]*\1)/gm, ''),
      { ...errors[0], cause: errors },
    )
  return Promise.all(promises)
}

interface Builtins {
  crypto: typeof import('node:crypto')
  fs: typeof import('node:fs')
  http: typeof import('node:http')
  https: typeof import('node:https')
  net: typeof import('node:net')
  path: typeof import('node:path')
  stream: typeof import('node:stream')
  'stream/consumers': typeof import('node:stream/consumers')
  util: typeof import('node:util')
  zlib: typeof import('node:zlib') & { createZstdDecompress?: unknown }
}

// ---- Inferred types ----
// For the compiler and the editor: nothing below has any effect at run time.

/** Lambda's context, as the Node.js runtime makes it: the default of `withCache`'s `C`. */
export interface LambdaContext {
  callbackWaitsForEmptyEventLoop: boolean
  functionName: string
  functionVersion: string
  invokedFunctionArn: string
  memoryLimitInMB: string
  awsRequestId: string
  logGroupName: string
  logStreamName: string
  identity?: { cognitoIdentityId: string; cognitoIdentityPoolId: string } | undefined
  clientContext?: ClientContext | undefined
  tenantId?: string | undefined
  xRayTraceId?: string | undefined
  w3c?: unknown
  getRemainingTimeInMillis(): number
  /** @deprecated An async handler returns its result. */
  done(error?: Error, result?: unknown): void
  /** @deprecated An async handler throws. */
  fail(error: Error | string): void
  /** @deprecated An async handler returns its result. */
  succeed(messageOrObject: unknown, object?: unknown): void
}

/** What the AWS Mobile SDK says of the client. */
export interface ClientContext {
  client: {
    installationId: string
    appTitle: string
    appVersionName: string
    appVersionCode: string
    appPackageName: string
  }
  custom?: unknown
  env: { platformVersion: string; platform: string; make: string; model: string; locale: string }
}

/** The context without the values: a handler may name them, whoever calls it need not have them. */
export type Bare<C, O extends Options> = [keyof C & keyof Cached<O>] extends [never]
  ? C
  : Omit<C, keyof Cached<O>>

/** What `withCache` returns. */
export type CachedHandler<E, R, C> = ((event: E, context: C) => Promise<Awaited<R>>) & Prefetch

/** What `withCacheStream` returns, for `awslambda.streamifyResponse` unless that came first. */
export type CachedStreamHandler<E, S, R, C> = ((
  event: E,
  responseStream: S,
  context: C,
) => Promise<Awaited<R>>) &
  Prefetch

export interface Prefetch {
  /**
   * Reads all entries now. Awaited at the top level of an ES module, that is in Lambda's init
   * phase, where the CPU is not throttled.
   * @throws {LambdaCacheError} as an invocation would
   */
  prefetch(): Promise<void>
}

/** The stream that Lambda gives to a handler that streams its response. */
export type ResponseStream = NodeJS.WritableStream & { setContentType(type: string): void }

/** Refuses what is misspelt: a type parameter takes more keys than its constraint has. */
export type NothingElse<O> = {
  readonly [K in Exclude<keyof O, keyof Options> | Misspelt<O, keyof O>]: never
}

type Misspelt<O, K extends keyof O> = K extends keyof EntryKeys
  ? O[K] extends readonly (infer E)[]
    ? E extends object
      ? [Exclude<keyof E, EntryKeys[K]>] extends [never]
        ? never
        : K
      : never
    : never
  : never

interface EntryKeys {
  ssm: keyof ParameterEntry | keyof ParameterGroupEntry | keyof ParameterTreeEntry
  secrets: keyof SecretEntry
  s3: keyof ObjectEntry
  custom: keyof CustomEntry
}

/** The properties that `withCache` puts on `context` for options of the type `O`. */
export type Cached<O extends Options> = {
  readonly [E in EntryOf<O, 'ssm'> as NameOf<
    E extends string ? { readonly name: E } : E
  >]: ParameterValue<E>
} & {
  readonly [E in EntryOf<O, 'secrets'> as NameOf<E>]: SecretValue<E>
} & {
  readonly [E in EntryOf<O, 's3'> as NameOf<E>]: ObjectValue<E>
} & {
  readonly [E in EntryOf<O, 'custom'> as NameOf<E>]: E extends { readonly load: () => infer T }
    ? Awaited<T>
    : never
}

type EntryOf<O, S extends string> = O extends { readonly [K in S]: readonly (infer E)[] }
  ? E
  : never

type NameOf<E> = E extends { readonly as: infer A extends string }
  ? Known<A>
  : E extends string
    ? Known<LastSegment<E>>
    : E extends { readonly name: infer I extends string }
      ? Known<WithoutSelector<LastSegment<Trimmed<I>>>>
      : E extends
            | { readonly path: infer I extends string }
            | { readonly id: infer I extends string }
            | { readonly uri: infer I extends string }
        ? Known<LastSegment<I>>
        : never

type LastSegment<S extends string> = S extends `${string}/${infer Rest}` ? LastSegment<Rest> : S

type Trimmed<S extends string> = S extends `${infer Name} ` ? Trimmed<Name> : S

type WithoutSelector<S extends string> = S extends `${infer Name}:${string}` ? Name : S

/** A name that the compiler does not know would turn every property of `context` into a value. */
type Known<S extends string> = string extends S ? never : S

type ParameterValue<E> = E extends { readonly names: readonly (infer N extends string)[] }
  ? { readonly [K in N as WithoutSelector<LastSegment<K>>]: Parsed<E, string> }
  : E extends { readonly path: string }
    ? ParameterTree<E>
    : Parsed<
        E,
        E extends { readonly list: infer L } ? Chosen<L, readonly string[], string> : string
      >

type ParameterTree<E> = Readonly<Record<string, Parsed<Omit<E, 'default'>, string>>> | DefaultOf<E>

type SecretValue<E> = Parsed<
  E,
  E extends { readonly binary: infer B } ? Chosen<B, Uint8Array, string> : string
>

type ObjectValue<E> = SecretValue<E>

/** Either of them where the compiler does not know. */
type Chosen<B, Yes, No> = B extends true ? Yes : No

type Parsed<E, Unparsed> =
  | (E extends { readonly parse: (text: string) => infer T } ? T : Unparsed)
  | DefaultOf<E>

type DefaultOf<E> = E extends { readonly default: infer D } ? D : never
