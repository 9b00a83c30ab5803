/*! lambda-cache, MIT */
//
// SSM parameters, Secrets Manager secrets and S3 objects, read once and kept in memory between Lambda invocations:
//
//   export const handler = withCache(
//     async (event: { name: string }, context) => context.conn_string,
//     { ssm: ['/prod/app/var'], secrets: ['/prod/db/conn_string'], s3: ['s3://bucket/path/to/object.json'] },
//   )
//
// In this file, callers before what they call:
//   Options and types
//   Errors
//   withCache
//   Direct access
//   Entries
//   Cache
//   Loaders
//   AWS calls
//   Fetch over node:https
//   Signature Version 4
//   Credentials
//   Endpoints
//   Helpers

import type { IncomingMessage } from 'node:http'
import type { Readable, Transform } from 'node:stream'

// ---- Options and types ----

/** What `withCache` takes. Refused at once, with `InvalidOptions`, when it makes no sense. */
export interface Options extends Defaults {
  /** SSM parameters: a name or ARN (`:version` or `:label` may follow), or an object. API: GetParameters, GetParametersByPath. */
  readonly ssm?: readonly (string | ParameterEntry | ParameterGroupEntry | ParameterTreeEntry)[] | undefined
  /** Secrets Manager secrets: a name, or an object. API: GetSecretValue. */
  readonly secrets?: readonly (string | SecretEntry)[] | undefined
  /** S3 objects: `s3://bucket/key`, or an object. API: GetObject. */
  readonly s3?: readonly (string | ObjectEntry)[] | undefined
  /** Any other slow call, under the same cache. */
  readonly custom?: readonly CustomEntry[] | undefined
  /**
   * Tells by an error of the handler that the values it used are out of date, such as a password that has been rotated. They are
   * read again then, and if one has changed the handler runs once more. Not a second time, and not where it streams its response.
   */
  readonly refreshOn?: ((error: unknown) => boolean) | undefined
}

/** What holds for every entry that does not say otherwise. */
export interface Defaults {
  /**
   * Seconds a value is served before it is read again: `0` always reads, `Infinity` reads once.
   * @default the environment variable `LAMBDA_CACHE_MAX_AGE`, else 60
   */
  readonly maxAge?: number | undefined
  /**
   * Seconds past `maxAge` for which the last value is served while AWS cannot be reached or answers 429 or 5xx.
   * @default 300
   */
  readonly staleIfError?: number | undefined
  /**
   * AWS region to call.
   * @default the environment variable `AWS_REGION`, else `AWS_DEFAULT_REGION`
   */
  readonly region?: string | undefined
  /**
   * What makes the calls. It sees signed requests and secret answers: trust it as you trust this file.
   * @default the global `fetch`
   */
  readonly fetch?: Fetch | undefined
}

/** What entries of every source can say. */
export interface EntryOptions {
  /**
   * Name of the property on `context`.
   * @default what follows the last `/`, without SSM's `:version` or `:label`; an ARN of a secret has no such name
   */
  readonly as?: string | undefined
  /** Seconds, as in {@link Defaults}, for this entry alone. */
  readonly maxAge?: number | undefined
  /** Region, as in {@link Defaults}, for this entry alone. */
  readonly region?: string | undefined
  /** The value where the parameter, secret or object does not exist. Without it that is an error. */
  readonly default?: unknown
  /**
   * Turns the text into the value, once per refresh. For a group or a tree it is given each value in turn.
   * What it throws is not passed on, since parsers quote their input.
   */
  readonly parse?: ((text: string) => unknown) | undefined
}

/** One SSM parameter. */
export interface ParameterEntry extends EntryOptions {
  /** Name or ARN; `:version` or `:label` may follow. */
  readonly name: string
  readonly names?: never
  readonly path?: never
  /**
   * Whether a SecureString comes decrypted.
   * @default true
   */
  readonly decrypt?: boolean | undefined
  /** Split a StringList at its commas, into a frozen array. */
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

/** The SSM parameters below a path as one frozen record, keyed by the name below the path. */
export interface ParameterTreeEntry extends EntryOptions {
  /** Path that begins with `/`. A path with nothing below it gives an empty record, or `default`. */
  readonly path: string
  readonly name?: never
  readonly names?: never
  /**
   * Whether to go further down than one level.
   * @default false
   */
  readonly recursive?: boolean | undefined
  readonly decrypt?: boolean | undefined
}

/** One secret. */
export interface SecretEntry extends EntryOptions {
  /** Name or ARN. An ARN ends in random characters, so it needs `as`. */
  readonly id: string
  readonly versionId?: string | undefined
  /** @default 'AWSCURRENT' */
  readonly versionStage?: string | undefined
  /** Give the bytes, as a `Uint8Array`. A binary secret is an error without it. */
  readonly binary?: boolean | undefined
}

/** One S3 object: downloaded to a file, or with `parse` or `binary` kept in memory. */
export interface ObjectEntry extends EntryOptions {
  /** `s3://bucket/key`, the key as S3 knows it, nothing percent-encoded. */
  readonly uri: string
  readonly versionId?: string | undefined
  /**
   * Where the object is downloaded to. No two objects may share a file.
   * @default the last segment of the key, in `/tmp`
   */
  readonly file?: string | undefined
  /** Give the bytes, as a `Uint8Array`. */
  readonly binary?: boolean | undefined
}

/** Any value that takes time to get. */
export interface CustomEntry {
  readonly as: string
  /** Called when the value is due. One call at a time; what it throws is the `cause` of a `LoadFailed`. */
  readonly load: () => unknown
  /** Seconds, as in {@link Defaults}, for this entry alone. */
  readonly maxAge?: number | undefined
}

/** The part of `fetch` that is used here: any function of this form will do. */
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

/** Lambda's context object, as the Node.js runtime makes it: the `C` of `withCache` unless the handler says otherwise. */
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
  client: { installationId: string; appTitle: string; appVersionName: string; appVersionCode: string; appPackageName: string }
  custom?: unknown
  env: { platformVersion: string; platform: string; make: string; model: string; locale: string }
}

/** The context without the values, for a handler that names them in the type of its own: whoever calls it need not have them. */
export type Bare<C, O extends Options> = [keyof C & keyof Cached<O>] extends [never] ? C : Omit<C, keyof Cached<O>>

/** What `withCache` returns. */
export type CachedHandler<E, R, C> = ((event: E, context: C) => Promise<Awaited<R>>) & Prefetch

/** What `withCacheStream` returns: to be given to `awslambda.streamifyResponse`, if what it was given had not been. */
export type CachedStreamHandler<E, S, R, C> = ((event: E, responseStream: S, context: C) => Promise<Awaited<R>>) & Prefetch

export interface Prefetch {
  /**
   * Reads all entries now. Awaited at the top level of an ES module, that is in Lambda's init phase, where the CPU is not throttled.
   * @throws {LambdaCacheError} as an invocation would
   */
  prefetch(): Promise<void>
}

/** The stream that Lambda gives to a handler that streams its response. */
export type ResponseStream = NodeJS.WritableStream & { setContentType(type: string): void }

/** Refuses what is misspelt, in `O` or in one of its entries: a type parameter takes more keys than its constraint has. */
export type NothingElse<O> = { readonly [K in Exclude<keyof O, keyof Options> | Misspelt<O, keyof O>]: never }

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

/** The properties that `withCache` puts on `context`, by name and type, for options of the type `O`. */
export type Cached<O extends Options> = {
  readonly [E in EntryOf<O, 'ssm'> as NameOf<E extends string ? { readonly name: E } : E>]: ParameterValue<E>
} & {
  readonly [E in EntryOf<O, 'secrets'> as NameOf<E>]: SecretValue<E>
} & {
  readonly [E in EntryOf<O, 's3'> as NameOf<E>]: ObjectValue<E>
} & {
  readonly [E in EntryOf<O, 'custom'> as NameOf<E>]: E extends { readonly load: () => infer T } ? Awaited<T> : never
}

type EntryOf<O, S extends string> = O extends { readonly [K in S]: readonly (infer E)[] } ? E : never

type NameOf<E> = E extends { readonly as: infer A extends string }
  ? Known<A>
  : E extends string
    ? Known<LastSegment<E>>
    : E extends { readonly name: infer I extends string }
      ? Known<WithoutSelector<LastSegment<Trimmed<I>>>>
      : E extends { readonly path: infer I extends string } | { readonly id: infer I extends string } | { readonly uri: infer I extends string }
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
    : Parsed<E, E extends { readonly list: infer L } ? Chosen<L, readonly string[], string> : string>

type ParameterTree<E> = Readonly<Record<string, Parsed<Omit<E, 'default'>, string>>> | DefaultOf<E>

type SecretValue<E> = Parsed<E, E extends { readonly binary: infer B } ? Chosen<B, Uint8Array, string> : string>

type ObjectValue<E> = SecretValue<E>

/** Either of them where the compiler does not know. */
type Chosen<B, Yes, No> = B extends true ? Yes : No

type Parsed<E, Unparsed> = (E extends { readonly parse: (text: string) => infer T } ? T : Unparsed) | DefaultOf<E>

type DefaultOf<E> = E extends { readonly default: infer D } ? D : never

/** A request for {@link sign}. */
export interface SignRequest {
  readonly method: string
  /** Absolute URL, the path percent-encoded as it is to be sent. */
  readonly url: string
  /** Every one of them is signed. Several values of one header stand in one text, with commas between them. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** @default '' */
  readonly body?: string | Uint8Array | undefined
  /** The service's signing name: `ssm`, `secretsmanager`, `s3`. */
  readonly service: string
  readonly region: string
  readonly credentials: Credentials
  /** The time of the request: AWS takes it within five minutes of its own. */
  readonly date: Date
}

/** AWS credentials; `sessionToken` comes with temporary ones, such as a Lambda function's. */
export interface Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string | undefined
}

// ---- Errors ----

/** Where a value comes from. */
export type Source = 'ssm' | 'secrets' | 's3' | 'custom'

/** What a {@link LambdaCacheError} says besides its message. */
export interface ErrorDetails {
  /**
   * AWS's error code as it stands, or one of: `Timeout`, `NetworkError`, `RequestFailed`, `InvalidAnswer`, `NoCredentials`, `NoRegion`,
   * `InvalidOptions`, `InvalidEndpoint`, `ParseError`, `BinarySecret`, `UnsupportedKey`, `FileError`, `EMFILE`, `LoadFailed`, or `Http` and the status,
   * such as `Http502`, where an error came without a code.
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

/** Its properties are set all at once: what is not known is not there. */
const ErrorWithDetails: new (message: string) => Error & ErrorDetails = Error as never

/** Every error that this file throws. None of its texts and properties holds a value, a credential, a body or a signature. */
export class LambdaCacheError extends ErrorWithDetails {
  override readonly name = 'LambdaCacheError' as const

  constructor(message: string, details: ErrorDetails) {
    super(message)
    // Here, not above: an own property that is enumerable survives being copied.
    Object.assign(this, details)
  }
}

function failure(code: string, message: string, details?: Partial<ErrorDetails>): LambdaCacheError {
  return new LambdaCacheError(message, { ...details, code })
}

/** HTTP 200, and not what AWS answers. */
function invalidAnswer(message: string): LambdaCacheError {
  return failure('InvalidAnswer', message, { status: 200 })
}

// ---- withCache ----

/**
 * Wraps a Lambda handler: its `context` gets a property for each entry of `options`, fetched once and then served from memory
 * for `maxAge` seconds. All that is missing or out of date is fetched side by side before the handler runs.
 * Values are not enumerable, and they are read by getters, so that logging or spreading `context` does not reveal them.
 *
 * @throws {LambdaCacheError} at once, on invalid options; from the returned function, for what cannot be read, or where `context`
 * already has a property of that name. Several failures come as one error that names each, with the errors in `cause`.
 * @example
 * export const handler = withCache(async (event: Order, context) => charge(event, context.api_key), { secrets: ['/prod/api_key'] })
 */
export function withCache<E, R, const O extends Options & NothingElse<O>, C extends object = LambdaContext>(
  handler: (event: E, context: C & Cached<O>) => R,
  options: O,
): CachedHandler<E, R, Bare<C, O>> {
  check('handler', FUNCTION, handler)
  const entries = toEntries(options)
  // Asking the cache for every value costs ten times as much as looking at the clock: while nothing is due, the last reading serves.
  let latest: Reading | undefined

  // The runtime counts parameters, of which rest is none, and takes a third one for a callback.
  function cached(event: E, second: unknown, ...rest: unknown[]): Promise<unknown> {
    // A handler that streams is called with (event, responseStream, context). A third argument alone says nothing: middy passes one.
    const streams = !!(second as Partial<ResponseStream> | undefined)?.write
    const context = Object(streams ? rest.shift() : second) as Invocation
    const run = (reading: Reading): unknown => {
      // A name that is there already is somebody else's, unless it is one of these entries' from an earlier invocation with this context.
      for (const { as } of entries) {
        if (as in context && (Object.getOwnPropertyDescriptor(context, as)?.get as Partial<Getter> | undefined)?.entries !== entries) throw refusal('as', 'a free name', as)
      }
      try {
        Object.defineProperties(context, reading.properties)
      } catch {
        throw refusal('context', 'one not frozen', context)
      }
      return streams ? (handler as Callable)(event, second, context, ...rest) : (handler as Callable)(event, context, ...rest)
    }
    if (options.refreshOn || !latest?.isFresh()) return invoke(context, run, !streams)
    // Nothing to wait for: an async function would cost as much again as all else here.
    try {
      return Promise.resolve(run(latest))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async function invoke(context: Invocation, run: (reading: Reading) => unknown, mayRepeat: boolean): Promise<unknown> {
    const ahead: Promise<unknown>[] = []
    // Where an invocation's end is not enforced, the time that remains is not positive.
    const remaining = (context.lambdaContext ?? context).getRemainingTimeInMillis?.() as number
    const reader: Reader = { end: remaining > 0 ? Date.now() + remaining : Infinity, ahead }
    try {
      if (!latest?.isFresh()) latest = await read(entries, reader)
      const given = latest
      // A handler that computes at once would keep what is refreshed ahead from going out.
      if (ahead.length > 0) await inputTaken()
      try {
        return await run(given)
      } catch (error) {
        const newer = mayRepeat && (await readAgain(error, reader, given))
        if (!newer) throw error
        latest = newer
        return await run(newer)
      }
    } finally {
      await Promise.all(ahead)
    }
  }

  /** The values read again, or nothing where they are not out of date, have not changed or cannot be read. */
  async function readAgain(error: unknown, reader: Reader, given: Reading): Promise<Reading | undefined> {
    const isChanged = (answer: Answer, index: number): boolean => !isSameAnswer(given.answers[index] as Answer, answer)
    try {
      if (!options.refreshOn?.(error)) return undefined
      // Whatever was asked for after the given values may show a change, also on behalf of another invocation that failed alike.
      // Then what is asked for after the failure of this one.
      for (const after of [Math.max(...given.answers.map((answer) => answer.order)), events]) {
        const newer = await read(entries, { ...reader, after })
        if (newer.answers.some(isChanged)) return newer
      }
    } catch {
      // The handler's own error says more.
    }
    return undefined
  }

  async function prefetch(): Promise<void> {
    const readings = await all([read(entries, {}), (handler as Partial<Prefetch>).prefetch?.() as never])
    latest = readings[0]
  }

  // The runtime knows handlers that stream by symbols.
  return Object.assign(cached, handler, { prefetch }) as never
}

/**
 * {@link withCache} for handlers that stream their response, before or after `awslambda.streamifyResponse`. It is the same function:
 * the second name is for the types alone, since an overload would cost the third parameter its inferred type.
 *
 * @example
 * export const handler = awslambda.streamifyResponse(
 *   withCacheStream(async (event: Order, responseStream, context) => report(context.api_key, responseStream), { secrets: ['/prod/api_key'] }),
 * )
 */
export const withCacheStream: <E, R, const O extends Options & NothingElse<O>, S = ResponseStream, C extends object = LambdaContext>(
  handler: (event: E, responseStream: S, context: C & Cached<O>) => R,
  options: O,
) => CachedStreamHandler<E, S, R, Bare<C, O>> = withCache as never

type Callable = (...args: unknown[]) => unknown

/** Of a value, with what `withCache` read it for. */
type Getter = (() => unknown) & { entries: readonly Entry[] }

/** All entries as they were read at one moment. */
interface Reading {
  /** In the order of the entries. */
  readonly answers: readonly Answer[]
  readonly properties: PropertyDescriptorMap
  /** Whether nothing has come since, and no value has expired or may be refreshed ahead. */
  isFresh(): boolean
}

async function read(entries: readonly Entry[], reader: Reader): Promise<Reading> {
  const event = events
  const outcomes = await all(entries.map((entry) => readEntry(entry, reader)))
  const since = Date.now()
  const until = Math.min(...outcomes.flatMap((outcome) => outcome.dueAt))
  return {
    answers: outcomes.flatMap((outcome) => outcome.answers),
    properties: Object.fromEntries(outcomes.map(({ as, value }) => [as, { get: Object.assign(() => value, { entries }), configurable: true }])),
    isFresh() {
      const now = Date.now()
      // A clock that was set back shows a time before all of this.
      return events === event && now >= since && now < until
    },
  }
}

/** What is needed of a context. That of a durable function holds Lambda's own. */
interface Invocation extends Partial<LambdaContext> {
  readonly lambdaContext?: Partial<LambdaContext>
}

// ---- Direct access ----

/** What `getParameter`, `getParametersByPath`, `getSecret` and `getObject` take: what an entry says, `fetch` and `staleIfError`. */
type Direct<E> = Omit<E, 'as' | 'name' | 'path' | 'id' | 'uri'> & Pick<Defaults, 'fetch' | 'staleIfError'>

async function readOne(kind: SourceKind, { staleIfError, fetch, ...own }: EveryOption & Partial<Defaults>): Promise<unknown> {
  const defaults = checked({ staleIfError, fetch }, FOR_ALL)
  return (await readEntry(toEntry(kind, { ...own, as: kind.source }, defaults), { direct: true })).value
}

/**
 * One S3 object: the path of the file it was downloaded to, or with `parse` or `binary` its content.
 *
 * @example
 * const model = await readFile(await getObject('s3://bucket/model.bin', { maxAge: 3600 }))
 */
export function getObject<const O extends Direct<ObjectEntry>>(uri: string, options?: O): Promise<ObjectValue<O>> {
  return readOne(S3, { ...options, uri }) as Promise<ObjectValue<O>>
}

/**
 * The SSM parameters below a path, as a frozen record keyed by the name below the path.
 *
 * @example
 * const { 'db/host': host } = await getParametersByPath('/prod/app', { recursive: true })
 */
export function getParametersByPath<const O extends Direct<ParameterTreeEntry>>(path: string, options?: O): Promise<ParameterTree<O>> {
  return readOne(SSM, { ...options, path }) as Promise<ParameterTree<O>>
}

/**
 * One secret of Secrets Manager, by name or ARN.
 *
 * @example
 * const password = await getSecret('/prod/db/password', { maxAge: 0 }) // it has just been rotated
 */
export function getSecret<const O extends Direct<SecretEntry>>(id: string, options?: O): Promise<SecretValue<O>> {
  return readOne(SECRETS, { ...options, id }) as Promise<SecretValue<O>>
}

/**
 * One SSM parameter, from the cache that `withCache` uses. `{ maxAge: 0 }` forces a refresh, which every reader then sees.
 *
 * @example
 * const limits = await getParameter('/prod/app/limits', { parse: json<Limits> })
 */
export function getParameter<const O extends Direct<ParameterEntry>>(name: string, options?: O): Promise<ParameterValue<O>> {
  return readOne(SSM, { ...options, name }) as Promise<ParameterValue<O>>
}

/** Forgets everything: values, regions of buckets, credentials of the container endpoint. For tests. */
export function clearCache(): void {
  events += 1
  cache.clear()
  bucketRegions.clear()
  line = { places: 20, waiting: [] }
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

// ---- Entries ----

/** One property of the context, with what the entry says, or else `withCache`, or else the defaults. */
interface Entry extends EveryOption {
  readonly kind: SourceKind
  readonly as: string
  /** What it reads, with the last segments: one thing, or for a group several. */
  readonly ids: readonly (readonly [segment: string, id: string])[]
  readonly maxAge: number
  readonly staleIfError: number
  readonly decrypt: boolean
  /** There for an object that is downloaded, and only then. */
  readonly file: string | undefined
}

/** A source of values: its options, and what loads them. */
interface SourceKind {
  readonly source: Source
  /** What a plain string stands for. */
  readonly option: 'name' | 'id' | 'uri' | 'as'
  readonly types: OptionTypes
  readonly load: Loader
}

type EveryOption = { readonly [O in keyof AllOptions]?: AllOptions[O] | undefined }
type AllOptions = Omit<ParameterEntry, 'names' | 'path'> & Omit<ParameterGroupEntry, 'name' | 'path'> & Omit<ParameterTreeEntry, 'name' | 'names'> & SecretEntry & ObjectEntry & CustomEntry & Defaults

/** The variables that are read by name. */
interface Environment {
  readonly AWS_REGION?: string
  readonly AWS_DEFAULT_REGION?: string
  readonly AWS_ENDPOINT_URL?: string
  readonly LAMBDA_CACHE_MAX_AGE?: string
}

/** What an option has to be, in words that contain its `typeof`. */
const ARRAY = 'array'
const RECORD = 'object'
const BOOLEAN = 'boolean'
const FUNCTION = 'function'
const NUMBER = 'number >= 0'
const TEXT = 'string'
const ANYTHING = ''

type OptionTypes = Readonly<Record<string, string>>

const SSM: SourceKind = {
  source: 'ssm',
  option: 'name',
  types: { names: ARRAY, path: TEXT, decrypt: BOOLEAN, recursive: BOOLEAN, list: BOOLEAN, region: TEXT, parse: FUNCTION, as: TEXT, name: TEXT, default: ANYTHING, maxAge: NUMBER },
  load: loadParameters,
}

const SECRETS: SourceKind = {
  source: 'secrets',
  option: 'id',
  types: { maxAge: NUMBER, id: TEXT, parse: FUNCTION, versionId: TEXT, binary: BOOLEAN, region: TEXT, versionStage: TEXT, default: ANYTHING, as: TEXT },
  load: loadSecret,
}

const S3: SourceKind = {
  source: 's3',
  option: 'uri',
  types: { maxAge: NUMBER, region: TEXT, uri: TEXT, parse: FUNCTION, versionId: TEXT, binary: BOOLEAN, file: TEXT, default: ANYTHING, as: TEXT },
  load: loadObject,
}

const CUSTOM: SourceKind = { source: 'custom', option: 'as', types: { maxAge: NUMBER, load: FUNCTION, as: TEXT }, load: loadCustom }

const FOR_ALL: OptionTypes = { refreshOn: FUNCTION, fetch: FUNCTION, maxAge: NUMBER, region: TEXT, custom: ARRAY, secrets: ARRAY, ssm: ARRAY, s3: ARRAY, staleIfError: NUMBER }

/** Names of Lambda's own context, and names that mean something to JavaScript besides those that every object has. */
const RESERVED_NAMES =
  /^(prototype|clientContext|logGroupName|identity|xRayTraceId|awsRequestId|toJSON|tenantId|functionVersion|then|logStreamName|invokedFunctionArn|getRemainingTimeInMillis|done|memoryLimitInMB|fail|succeed|functionName|w3c|callbackWaitsForEmptyEventLoop)$/

/** ARNs, directory buckets and Outposts aliases are left out: they have endpoints and signatures of their own. */
const S3_URI = /^s3:\/\/(?![^/]*--(?:xa?|op)-s3\/)([\w.-]{3,255})\/(.+)$/s

function toEntry(kind: SourceKind, given: EveryOption | string, defaults: Defaults): Entry {
  const own: EveryOption = typeof given === 'string' ? { [kind.option]: given } : given
  check(kind.source, `${kind.option} or ${RECORD}`, own)
  const options = { decrypt: true, maxAge: Number((process.env as Environment).LAMBDA_CACHE_MAX_AGE?.trim() || 60), staleIfError: 300, ...defaults, ...checked(own, kind.types) } as { -readonly [O in keyof Entry]: Entry[O] }
  check('LAMBDA_CACHE_MAX_AGE', NUMBER, options.maxAge)
  if (kind === CUSTOM) check('load', FUNCTION, options.load)
  const { names, path, file, parse, binary } = options
  if ([parse, binary, file].filter(Boolean)[1]) throw refusal('parse, binary, file', 'one', 'several')
  const ids = (names ?? [path ?? options[kind.option] as string]).map((id) => lastSegment(kind, id, own.region))
  if (new Map(ids).size < ids.length) throw refusal('names', 'a free name for each', (names as readonly string[]).join())
  const segment = names ? '' : (ids[0] as Entry['ids'][0])[0]
  const { as = segment } = options
  check('as', TEXT, as)
  if (options.list) options.parse ??= split
  if (kind === S3 && !parse && !binary && !file) {
    check('file', TEXT, segment)
    options.file = `/tmp/${segment}`
  }
  return Object.assign(options, { as, ids, kind })
}

/** A `typeof` that knows arrays. */
function typeOf(value: unknown): string {
  return Array.isArray(value) ? ARRAY : typeof value
}

function toEntries(given: Options): Entry[] {
  check('options', RECORD, given)
  const options = checked(given, FOR_ALL)
  const entries = [SSM, SECRETS, S3, CUSTOM].flatMap((kind) =>
    (options[kind.source] ?? []).map((entry: EveryOption | string) => toEntry(kind, entry, options)),
  )
  // Those that every object has are taken.
  const taken: Record<string, boolean> = {}
  for (const { as } of entries) {
    if (as in taken || RESERVED_NAMES.test(as)) throw refusal('as', 'a free name', as)
    taken[as] = true
  }
  return entries
}

function regionOfArn(id: string): string | undefined {
  return /^arn:.*?:.*?:(.*?):/.exec(id)?.[1]
}

/** `/prod/app/var:3` is `var`. A secret's ARN has none: it ends in random characters. An ARN names its region itself. */
function lastSegment(kind: SourceKind, given: string, region: string | undefined): readonly [segment: string, id: string] {
  check(kind.option, TEXT, given)
  // AWS does it too.
  const id = kind === SSM ? given.trim() : given
  const ofArn = regionOfArn(id)
  if (region && (ofArn ?? region) !== region) throw refusal('region', `${ofArn} of the ARN`, region)
  if (kind === S3 && !S3_URI.test(id)) throw refusal('uri', 's3://bucket/key', id)
  return [id.replace(kind === S3 ? /.*\//s : /^arn:.*:secret:.*|.*\/|:.*/gs, ''), id]
}

function split(list: string): readonly string[] {
  return Object.freeze(list.split(','))
}

function check(option: string, expected: string, value: unknown): void {
  const type = typeOf(value)
  const isInRange = type === 'number' ? (value as number) >= 0 : (value ?? '') !== ''
  if (expected && !(expected.includes(type) && isInRange)) throw refusal(option, expected, value)
}

/** @returns the options that are given, every one of them known and of the right type */
function checked<T extends object>(given: T, types: OptionTypes): T {
  const options = Object.entries(given).filter(([option, value]) => undefined !== value || option === 'default')
  for (const [option, value] of options) {
    // Of an option that is misspelt nobody knows whether its value is a secret.
    if (!Object.keys(types).includes(option)) throw refusal(option, 'no such option', typeof value)
    check(option, types[option] as string, value)
  }
  return Object.fromEntries(options) as T
}

function refusal(option: string, expected: string, given: unknown): LambdaCacheError {
  const shown = Object(given) === given ? typeOf(given) : builtin('node:util').inspect(given)
  return failure('InvalidOptions', `${option}: expected ${expected}, got ${shown}`)
}

// ---- Cache ----

const cache = new Map<unknown, Cell>()
/** Counts requests and answers. Their order tells which came first where the clock, which may be set back, does not. */
let events = 0
/** Failures of which a line in the log says that the last value is served. */
const warned = new WeakSet<object>()

/** How a reader waits. */
interface Reader {
  /** That of the invocation, by `Date.now()`. */
  readonly end?: number
  /** Takes the refreshes ahead that the invocation is to wait for. */
  readonly ahead?: Promise<unknown>[]
  /** Whether what it reads may be evicted. */
  readonly direct?: boolean
  /** The number of the request after which an answer has to be asked for, however fresh an earlier one may be. */
  readonly after?: number
}

/** What an entry came to: its value, and the answers that it was made of. */
interface Outcome {
  readonly as: string
  readonly value: unknown
  readonly answers: readonly Answer[]
  /** By `Date.now()`: when each of them expires or may be refreshed ahead. */
  readonly dueAt: readonly number[]
}

/** The place of one thing in the cache. */
interface Cell {
  readonly key: unknown
  /** What is read. An object that is downloaded has its file as the key, since no two may share one. */
  readonly thing: unknown
  stays?: boolean | undefined
  answer?: Answer
  /** The refresh that is under way: whoever needs one meanwhile waits for this. */
  refresh?: Refresh | undefined
}

interface Refresh {
  /** The last event before it. */
  readonly after: number
  /** What it comes to; nothing, where it was ahead of time and failed. Rejects, with nothing, at that time by `Date.now()` or with the abort. */
  wait(limit: number, signal?: AbortSignal): Promise<Answer | undefined>
}

/** When a request went out. */
interface Sent {
  order: number
  /** By `Date.now()`: the monotonic clock may stand still while Lambda has the process frozen. */
  time: number
}

/** What a loader brings. */
interface Loaded extends Partial<Sent> {
  /** A text or a file's path, bytes, the texts of a tree by name; credentials. */
  readonly value?: unknown
  /** For S3: what makes the next request a conditional one. */
  readonly etag?: string | null
  readonly identity?: string | undefined
  /** For credentials: the time, in milliseconds, until which they hold. */
  readonly expires?: number
  /** As in {@link Answer}, where others have it already. */
  readonly ahead?: number | undefined
  readonly parsed?: WeakMap<object, unknown>
  /** Where `default` stands for it: the error, there being no such thing and no value, or true for an empty tree. */
  readonly missing?: unknown
}

interface Answer extends Omit<Loaded, keyof Sent | 'ahead' | 'parsed'>, Sent {
  /** What each `parse` made of the value. */
  readonly parsed: WeakMap<object, unknown>
  /** By `Date.now()`: when it had to be served as the last one, because the refresh failed. */
  failed?: number
  /** The part of its `maxAge` after which it is refreshed ahead: random, so that a fleet does not refresh in step. */
  ahead: number
}

/** Where a call goes, by what, and for what options. */
interface Call extends Entry {
  readonly service: string
  readonly region: string
  readonly fetch: Fetch
  readonly bucket?: string
  readonly attempts: number
  /** Aborted when nobody waits any more. */
  readonly signal: AbortSignal
  /** The request that went out last. */
  readonly sent: Sent
}

type Loader = (call: Call, id: string, previous: Answer | undefined) => Promise<Loaded>

/** From memory where that is fresh; the last value while AWS is left alone; else from a refresh, or the last value where that fails. */
async function answerFor(entry: Entry, id: string, reader: Reader): Promise<Answer> {
  // Seconds for which AWS is left alone after it failed to refresh a value that can still be served.
  const RETRY_PAUSE = 5
  // Milliseconds that an invocation waits at most for what is refreshed ahead.
  const AHEAD_LIMIT = 300
  const { maxAge, staleIfError } = entry
  // Milliseconds before the end of an invocation, for the error to get out.
  const DEADLINE_MARGIN = 200
  const { end = Infinity, ahead, after = events } = reader
  const target = targetOf(entry, id)
  const isForced = !!reader.after || !maxAge
  const serves = (answer: Answer | undefined, seconds: number): answer is Answer => !!answer && ('value' in answer || 'default' in entry) && isYoungerThan(seconds, answer.time)
  const isWanted = (answer: Answer | undefined): answer is Answer => (answer?.order as number) > after || (!isForced && serves(answer, maxAge))
  const isUsable = (answer: Answer | undefined): answer is Answer => serves(answer, maxAge + staleIfError)
  for (;;) {
    const cell = cellOf(target.key, target.thing, !reader.direct)
    const { answer } = cell
    if (isWanted(answer)) {
      const limit = Math.min(Date.now() + AHEAD_LIMIT, end - DEADLINE_MARGIN)
      if (!isForced && ahead && Date.now() >= dueAt(answer, maxAge) && Date.now() < limit) {
        // One attempt, beside the handler. If it fails or finds nothing, nothing happens: the value is still good.
        answer.ahead = 1
        ahead.push(refreshOf(cell, target.bring, 1).wait(limit).catch(() => {}))
      }
      return answer
    }
    if (!isForced && isUsable(answer) && isYoungerThan(RETRY_PAUSE, (answer as Answer).failed)) return answer
    // With a value to fall back on, the handler gets the other half of the time.
    const limit = isUsable(answer) ? (Date.now() + end) / 2 : end - DEADLINE_MARGIN
    let refresh: Refresh | undefined
    try {
      if (!cell.refresh && Date.now() >= limit) throw unanswered(target.host)
      refresh = refreshOf(cell, target.bring)
      const fetched = await refresh.wait(limit)
      if (isWanted(fetched)) return fetched
    } catch (thrown) {
      // Its request may have gone out too early for this reader.
      if (isForced && refresh && refresh.after < after && Date.now() < limit) continue
      const error = thrown ?? unanswered(target.host)
      if (!isPassing(error) || !isUsable(cell.answer)) throw error
      cell.answer.failed = Date.now()
      // What was asked for together fails with one error.
      if (!warned.has(error as object)) {
        warned.add(error as object)
        console.warn(`lambda-cache: ${entry.kind.source} ${id}: ${(error as LambdaCacheError).message}: serving the last value`)
      }
      return cell.answer
    }
  }
}

/** What a read of one thing needs: where its answer is kept, and how it is brought. */
interface Target {
  readonly key: unknown
  readonly thing: unknown
  /** Named where there is no answer from it. */
  readonly host: string
  bring(how: Pick<Call, 'attempts' | 'signal' | 'sent'>, previous: Answer | undefined): Promise<Loaded>
}

async function readEntry(entry: Entry, reader: Reader): Promise<Outcome> {
  const values: [name: string, value: unknown][] = []
  const answers = await all(
    entry.ids.map(async ([name, id], index) => {
      try {
        const answer = await answerFor(entry, id, reader)
        values[index] = [name, convert(entry, answer)]
        return answer
      } catch (thrown) {
        const error = thrown as LambdaCacheError
        const { source } = entry.kind
        throw failure(error.code, `${source} ${id}: ${error.message}`, { ...error, source, id })
      }
    }),
  )
  return { answers, as: entry.as, value: entry.names ? frozen(values) : (values[0] as [string, unknown])[1], dueAt: answers.map((answer) => dueAt(answer, entry.maxAge)) }
}

/** The time by `Date.now()` from which an answer may be refreshed ahead, or where that has begun, at which it expires. */
function dueAt({ ahead, time }: Answer, maxAge: number): number {
  return time + maxAge * 1000 * ahead
}

function targetOf(entry: Entry, id: string): Target {
  const { load, source } = entry.kind
  // Its name in signatures and hosts.
  const service = source.replace('secrets', 'secretsmanager')
  // The types of Node.js and of the DOM differ in what a body is.
  const { decrypt, fetch = globalThis.fetch as never, file, versionId, versionStage } = entry
  const region = regionOfArn(id) ?? entry.region ?? ((process.env as Environment).AWS_REGION || (process.env as Environment).AWS_DEFAULT_REGION || '')
  const bring: Target['bring'] = (how, previous) => load({ ...entry, ...how, service, region, fetch }, id, previous)
  const endpoint = entry.load ? 'load' : endpointOf(service, region)
  const thing = entry.load ?? JSON.stringify([endpoint, service, !file && region, id, entry.path, entry.recursive, decrypt, versionId, versionStage, !!entry.binary])
  return { bring, key: file ? builtin('node:path').resolve(file) : thing, host: endpoint.replace(/.*\/\//, ''), thing }
}

/** Waits for all; where several fail, the error names every one of them, and each hint once. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const errors = (await Promise.allSettled(promises)).flatMap((result) => (result as PromiseRejectedResult).reason ?? [])
  if (errors[1]) throw failure(errors[0].code, errors.map(({ message }) => message).join('\n').replace(/(: (?:it|a) .*)$(?=[\s\S]*\1)/gm, ''), { ...errors[0], cause: errors })
  return Promise.all(promises)
}

/** An age below zero is that of a clock which was set back: nobody knows the true one. */
function isYoungerThan(seconds: number, time = Infinity): boolean {
  const age = Date.now() - time
  return age >= 0 && age < 1000 * seconds
}

/** The one that is under way, else a new one. One attempt is one ahead of time. */
function refreshOf(cell: Cell, bring: Target['bring'], attempts = 3): Refresh {
  if (cell.refresh) return cell.refresh
  const controller = new AbortController()
  const sent: Sent = { time: 0, order: 0 }
  async function load(): Promise<Answer | undefined> {
    const MAX_ENTRIES = 1000
    try {
      // Whoever comes in the same tick still shares the request.
      await undefined
      countRequest(sent)
      const loaded = await bring({ sent, signal: controller.signal, attempts }, cell.answer)
        // Anything but our own comes from an answer that is not what AWS documents, such as a proxy's page: its text may quote that.
        .catch((error: unknown): Loaded => ({ missing: error instanceof LambdaCacheError ? error : invalidAnswer('HTTP 200 without JSON') }))
      const { missing } = loaded as { missing?: Partial<LambdaCacheError> }
      if (attempts === 1 && missing) return undefined
      // That there is no such thing is an answer too, for those who have a default.
      if (missing?.code && !MISSING.test(missing.code)) throw missing
      return keep(loaded)
    } finally {
      if (refresh === cell.refresh) cell.refresh = undefined
      // A failure takes no room; what direct access made takes that of 1,000 at most.
      if (!cell.answer && !cell.refresh && cache.get(cell.key) === cell) cache.delete(cell.key)
      const free = [...cache.values()].filter(({ stays, refresh }) => !stays && !refresh)
      for (const { key } of free.slice(0, -MAX_ENTRIES)) cache.delete(key)
    }
  }
  function keep(loaded: Loaded): Answer {
    const answer: Answer = { parsed: new WeakMap(), ...sent, ...loaded, ahead: loaded.ahead ?? 0.8 + Math.random() / 5 }
    // What was abandoned and comes in late replaces nothing newer.
    if ((cell.answer?.order as number) > answer.order) return answer
    events += 1
    cell.answer = answer
    // Those fetched longest ago come first.
    if (cache.get(cell.key) === cell && cache.delete(cell.key)) cache.set(cell.key, cell)
    return answer
  }
  const result = load()
  let waiters = 0
  const refresh: Refresh = {
    after: events,
    async wait(limit, signal) {
      waiters += 1
      try {
        return await within(limit, result, signal)
      } finally {
        waiters -= 1
        // When the last one gives up, the refresh is abandoned: the next reader begins anew.
        if (!waiters && refresh === cell.refresh) {
          cell.refresh = undefined
          controller.abort()
        }
      }
    },
  }
  cell.refresh = refresh
  return refresh
}

const MISSING = /^(NoSuch(Key|Version)|Parameter(Version)?NotFound|ResourceNotFoundException)$/

/** Object.fromEntries defines properties: one named __proto__ is one like any other. */
function frozen<T>(entries: readonly (readonly [name: string, value: T])[]): Readonly<Record<string, T>> {
  return Object.freeze(Object.fromEntries(entries))
}

/**
 * Whether an answer is known to say the same as an earlier one: a file by its ETag, since its path says nothing of what it holds, text
 * and bytes by what they hold, and what `custom` loads if it is the same object or equal plain data.
 */
function isSameAnswer(one: Answer, other: Answer): boolean {
  if (one.identity) return !!one.etag && other.etag === one.etag
  try {
    // A clone of what is not plain, such as an object with private fields, is not equal to it, or cannot be made.
    return Object.is(one.value, other.value) || builtin('node:util').isDeepStrictEqual(structuredClone(one.value), other.value)
  } catch {
    return false
  }
}

/** What an entry makes of an answer. */
function convert(entry: Entry, answer: Answer): unknown {
  const { parse } = entry
  const { parsed, value, missing } = answer
  if (missing && 'default' in entry) return entry.default
  if (!('value' in answer)) throw missing
  if (!parse) return value
  if (!parsed.has(parse)) {
    const parseEach = (tree: object): unknown => frozen(Object.entries(tree).map(([name, text]) => [name, parseText(parse, text, ` for ${name}`)]))
    parsed.set(parse, typeof value === 'string' ? parseText(parse, value) : parseEach(value as object))
  }
  return parsed.get(parse)
}

function cellOf(key: unknown, thing: unknown, stays?: boolean): Cell {
  const cell: Cell = cache.get(key) ?? { key, thing }
  if (thing !== cell.thing) throw refusal('file', 'one of its own', key)
  cache.set(key, cell)
  cell.stays ||= stays
  return cell
}

/** What `parse` throws is not passed on, not even as `cause`: JSON.parse quotes its input, and so do most parsers. */
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
    if (/^\w{3,40}$/.test(name) && !text.includes(name)) reason = `failed with ${name}`
  }
  throw failure('ParseError', `parse${which} ${reason}`)
}

// ---- Loaders ----

/** SSM names that go out together. What they come to is refreshed like any other thing, but not kept. */
interface Batch extends Cell {
  readonly key: Call
  readonly names: Set<string>
}

/** Those that still take names: until the end of the tick. */
let openBatches: Batch[] = []

/** A parameter at the root is the same with and without its slash. */
function bare(name: string): string {
  return name.replace(/^\/(?=[^/]*$)/, '')
}

async function loadParameters(call: Call, id: string): Promise<Loaded> {
  if (call.path) return loadTree(call, id)
  // A refresh ahead has one attempt, so it shares none with the others. AWS takes ten names at a time.
  const batch: Batch = openBatches.find(({ names, key }) => names.size < 10 && call.region === key.region && call.decrypt === key.decrypt && call.fetch === key.fetch && call.attempts === key.attempts) ?? { key: call, thing: call, names: new Set() }
  openBatches.push(batch)
  const { names } = batch
  names.add(id)
  const bring: Target['bring'] = (how) => {
    openBatches = []
    return getParameters({ ...call, ...how, attempts: call.attempts }, names)
  }
  let answers: Partial<Loaded> = {}
  try {
    answers = (await refreshOf(batch, bring).wait(Infinity, call.signal)) as Answer
  } catch (error) {
    if (names.size < 2 || isPassing(error)) throw error
  }
  // AWS refuses all ten for one that is malformed or not allowed, and an emulator may leave the selectors out: then each is asked for alone.
  if (names.size > 1 && !(answers.value as Found | undefined)?.has(bare(id))) answers = await getParameters(call, new Set([id]))
  // All of them are as old as the answer, and are refreshed ahead together.
  const { missing, value, ...common } = answers
  const loaded = (value as Found | undefined)?.get(bare(id))
  if (!loaded) throw missing ?? invalidAnswer('HTTP 200 without it')
  return { ...common, ...loaded, parsed: new WeakMap() }
}

/** By name or ARN. */
type Found = Map<string, Loaded>

async function loadCustom({ load }: Call): Promise<Loaded> {
  try {
    return { value: await (load as () => unknown)() }
  } catch (cause) {
    if (cause instanceof LambdaCacheError) throw cause
    throw failure('LoadFailed', 'LoadFailed', { cause })
  }
}

interface ParametersAnswer {
  readonly Parameters: readonly { readonly Name: string; readonly ARN?: string; readonly Selector?: string; readonly Value: string }[]
  readonly InvalidParameters?: readonly string[]
  readonly NextToken?: string
}

/** API: GetObject, conditional on the ETag where the earlier content is still there. */
async function loadObject(call: Call, id: string, previous: Answer | undefined): Promise<Loaded> {
  const { versionId, binary, file } = call
  const [, bucket, key] = S3_URI.exec(id) as unknown as [string, string, string]
  const etag = (file && (await identify(file))) === previous?.identity && previous?.etag
  const { status, content, headers } = await send<Loaded>(
    { ...call, bucket },
    versionId ? 'GetObjectVersion' : 'GetObject',
    `/${encodePath(key)}${versionId ? `?versionId=${encode(versionId)}` : ''}`,
    { method: 'GET', headers: etag ? { 'if-none-match': etag } : {} },
    async (body) => (file ? download(file, body) : { value: binary ? new Uint8Array(await builtin('node:stream/consumers').buffer(body as never)) : await builtin('node:stream/consumers').text(body as never) }),
  )
  return 304 === status ? { ...previous, ...call.sent, ahead: undefined } : { ...content, etag: headers.get('etag') }
}

interface SecretAnswer {
  readonly SecretString?: string
  readonly SecretBinary: string
}

/** API: GetParameters. */
async function getParameters(call: Call, names: Set<string>): Promise<Loaded> {
  const found: Found = new Map()
  const [only = ''] = names.size < 2 ? names : []
  // Where one is asked for, the answer is its own, with or without a selector or the rest of an ARN.
  const set = (name: string, selector: string, loaded: Loaded): unknown => found.set(bare(only.includes(bare(name)) ? only : name + selector), loaded)
  const { InvalidParameters = [], Parameters } = await callJson<ParametersAnswer>(call, 'GetParameters', { Names: [...names], WithDecryption: call.decrypt })
  for (const { Value, ARN, Selector = '', Name } of Parameters) {
    // AWS gives the name without the `:version` or `:label` that was asked for.
    for (const name of [Name, ARN]) if (name) set(name, Selector, { value: Value.toString() })
  }
  const missing = failure('ParameterNotFound', 'ParameterNotFound')
  for (const name of InvalidParameters) set(name, '', { missing })
  return { value: found }
}

/** Where AWS said that a bucket is in another region than the one it was looked for in. */
const bucketRegions = new Map<string, string>()

/** API: GetSecretValue. */
async function loadSecret(call: Call, id: string): Promise<Loaded> {
  const { versionId: VersionId, binary, versionStage: VersionStage } = call
  const { SecretBinary, SecretString } = await callJson<SecretAnswer>(call, 'GetSecretValue', { SecretId: id, VersionId, VersionStage })
  if (binary) return { value: new Uint8Array(Buffer.from(SecretString ?? SecretBinary, SecretString ? 'utf8' : 'base64')) }
  if (SecretBinary) throw failure('BinarySecret', 'set binary: true')
  return { value: (SecretString as string).toString() }
}

/** What tells whether a file is still the one that was written. */
function identify(file: string): Promise<string | undefined> {
  return builtin('node:fs').promises.lstat(file).then((stat) => [stat.ino, stat.size, stat.mtimeMs].join(), (): undefined => undefined)
}

/**
 * Downloads beside the target and renames: a reader sees the old file or the new one, and a failure leaves the old one.
 * Where several threads download to one file, the last rename wins.
 */
async function download(file: string, body: Body): Promise<Loaded> {
  const fs = builtin('node:fs').promises
  const { resolve } = builtin('node:path')
  const folder = resolve(file, '..')
  // Of one length, whatever that of the target's name.
  const prefix = `.lambda-cache-${sha256(resolve(file)).slice(0, 16)}-`
  const temporary = `${folder}/${prefix}${builtin('node:crypto').randomUUID()}`
  try {
    // What a process that was killed has left: Lambda keeps /tmp when it replaces one. What is this one's own, in any thread, is younger.
    for (const name of await fs.readdir(folder).catch((): string[] => [])) {
      const path = `${folder}/${name}`
      if (name.startsWith(prefix) && ((await fs.lstat(path).catch((): undefined => undefined))?.mtimeMs as number) < Date.now() - process.uptime() * 1000) await fs.rm(path).catch(() => {})
    }
    // Exclusive creation follows no link that somebody left there.
    await fs.writeFile(temporary, body, { mode: 0o600, flag: 'wx' })
    const identity = await identify(temporary)
    await fs.rename(temporary, file)
    return { value: file, identity }
  } catch (cause) {
    await fs.rm(temporary).catch(() => {})
    const { code } = cause as NodeJS.ErrnoException
    throw cause instanceof LambdaCacheError ? cause : failure(code === 'EMFILE' ? code : 'FileError', `cannot write ${file} (${code})`, { cause })
  }
}

/** API: GetParametersByPath, page after page. */
async function loadTree(call: Call, id: string): Promise<Loaded> {
  const texts: [name: string, value: string][] = []
  const tokens = new Set<string | undefined>()
  let NextToken: string | undefined
  // The values are as old as those of the first page.
  const first = { ...call.sent }
  do {
    const page = await callJson<ParametersAnswer>(call, 'GetParametersByPath', { Path: id, Recursive: call.recursive, WithDecryption: call.decrypt, NextToken })
    for (const { Value, Name } of page.Parameters) texts.push([Name.replace(id.slice(1), '').replace(/^\/+/, ''), Value.toString()])
    NextToken = page.NextToken
    if (tokens.has(NextToken)) throw invalidAnswer('NextToken twice')
    if (NextToken) tokens.add(NextToken)
    // Lets the end of the invocation come between two pages.
    await inputTaken()
  } while (NextToken)
  return { ...first, value: frozen(texts), missing: !texts[0] }
}

// ---- AWS calls ----

/** What a request was answered with. */
interface Exchanged<T> extends Pick<FetchResponse, 'status' | 'headers'> {
  /** What was made of the body; unless the status is 200, its text. */
  readonly content: T
}

interface HttpRequest {
  readonly method: string
  readonly headers: Record<string, string>
  readonly body?: string
}

type Body = AsyncIterable<Uint8Array> | Iterable<string>
type BodyReader<T> = (body: Body) => Promise<T>

/** By error code and HTTP status. */
const THROTTLING = /SlowDown|NotComplete|TooMany|Throttl|Exceeded|InProgress| 429$/
const PASSING = /SlowDown|NotComplete|TooMany|Throttl|Exceeded|InProgress| 429$|Timeout|Network|EMFILE|LoadFailed| 408$| 5..$/

/**
 * Whatever a transport throws may pass, but for what is known to stay, such as a certificate that is wrong. The error itself is not
 * passed on: it can quote a header. Without one, time is up.
 */
function unanswered(host: string, error: unknown = { name: 'TimeoutError' }): LambdaCacheError {
  if (error instanceof LambdaCacheError) return error
  const texts: string[] = []
  // A chain of causes can be a loop. What has no code has a name.
  for (let cause = error as Thrown | undefined; cause && texts.length < 9; cause = cause.cause) {
    texts.push(typeof cause.code === 'string' ? cause.code : cause.name)
  }
  const all = texts.join()
  const code = texts.find((text) => /_|^E[A-Z]/.test(text)) ?? texts[0]
  if (/\b(Z|ERR_|ZSTD)_/.test(all)) return invalidAnswer(`cannot decode it (${code})`)
  const kind = /ERR_INVALID_|SIGNED_|CERT_|UNABLE_/.test(all) ? 'RequestFailed' : /TIME?D?OUT/i.test(all) ? 'Timeout' : 'NetworkError'
  return failure(kind, `no answer from ${host} (${code})${kind === 'Timeout' ? ': a VPC needs a VPC endpoint or NAT' : ''}`)
}

/** What is looked at of an error. */
interface Thrown extends NodeJS.ErrnoException {
  readonly cause?: Thrown
}

function isPassing(error: unknown, kinds = PASSING): boolean {
  const { code, status } = error as LambdaCacheError
  return kinds.test(`${code} ${status}`)
}

/** What goes out all at once is neither sent nor answered in time: there is room for 20 requests, first come first served. */
let line = { places: 20, waiting: [] as (() => void)[] }

function countRequest(sent: Sent): void {
  sent.order = events += 1
  sent.time = Date.now()
}

/** What AWS answered instead of doing it. Its own text stays out of the error: it can quote the request, token and all. */
function refused(action: string, host: string, { content, status, headers }: Exchanged<unknown>): LambdaCacheError {
  const [, code = `Http${status}`] = /(?:^[^{]*<Code>|"(?:__type|code)"\s*:\s*"(?:[^"]*#)?)([\w.]{1,80})/.exec(`${content}"code":"${headers.get('x-amzn-errortype') ?? ''}"`) ?? []
  const requestId = headers.get('x-amzn-requestid') ?? headers.get('x-amz-request-id')
  return failure(code, `${code} (HTTP ${status}) from ${host}${/AccessDenied/.test(code) ? `: it takes ${action}, with your own key also kms:Decrypt` : ''}`, { status, ...(requestId && { requestId }) })
}

/** One HTTP exchange. Redirects are not followed: they would take the session token along. */
async function exchange<T = string>(call: Call, url: string, request: HttpRequest, attempt: number, read?: BodyReader<T>): Promise<Exchanged<T>> {
  // Bytes of an answer in JSON or XML, 8 MiB: far more than AWS ever sends.
  const MAX_ANSWER_SIZE = 2 ** 23
  const { host } = new URL(url)
  const { signal } = call
  const controller = new AbortController()

  /** Gives a step up after 2 s without progress, in the second attempt after 4 and in the third after 8, whatever the transport does. */
  async function inTime<V>(step: () => V | Promise<V>): Promise<V> {
    try {
      return (await within(Date.now() + 1000 * 2 ** attempt, step(), signal)) as V
    } catch (error) {
      throw unanswered(host, error)
    }
  }

  // Nothing begins for a reader that has given up.
  if (signal.aborted) throw unanswered(host)
  try {
    const response = await inTime(() => {
      countRequest(call.sent)
      return call.fetch(url, { ...request, redirect: 'manual', signal: controller.signal })
    })
    const { status, headers, body } = response
    if (!headers) throw invalidAnswer('no headers from fetch')
    if (!(body ?? response.text)) throw invalidAnswer('no body from fetch')
    const isWanted = 200 === status && read

    /** The body, piece by piece. Fails where it ends before its length. */
    async function* pieces(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      const iterator = body[Symbol.asyncIterator]()
      let size = 0
      for (;;) {
        const next = await inTime(() => iterator.next())
        if (next.done) break
        size += next.value.length
        if (!isWanted && size > MAX_ANSWER_SIZE) throw invalidAnswer('over 8 MiB')
        yield next.value
      }
      // A 304 may give the length of what it does not send. Where there is a content-encoding, fetch has taken it off.
      const length = 200 === status && !headers.get('content-encoding') && headers.get('content-length')
      if (length && size !== Number(length)) throw failure('NetworkError', 'cut short')
    }

    const whole = body ? pieces(body) : [await inTime(() => response.text())]
    const content = await (isWanted ? read(whole) : builtin('node:stream/consumers').text(whole as never))
    return { content: content as T, status, headers }
  } finally {
    // Whatever has not been read is not wanted.
    controller.abort()
  }
}

/** Makes a call, up to three times where a failure may pass by itself. Each attempt is signed anew. */
async function send<T = string>(call: Call, action: string, path: string, unsigned: HttpRequest, read?: BodyReader<T>): Promise<Exchanged<T>> {
  const { service, signal, bucket = '' } = call
  let clockOffset = 0

  /** One attempt. To follow a region or a clock, each of them once, is part of it. */
  async function sendOnce(attempt: number): Promise<Exchanged<T>> {
    const region = bucketRegions.get(bucket) ?? call.region
    const url = endpointOf(service, region, bucket) + path
    const { href, host } = new URL(url)
    if (url !== href) throw failure('UnsupportedKey', 'no URL takes it')
    const headers = sign({ ...unsigned, url, service, region, credentials: await getCredentials(call, attempt), date: new Date(Date.now() + clockOffset) })
    if (/[^ -~]/.test(Object.values(headers).join())) throw failure('RequestFailed', 'no header takes it')
    const answer = await exchange(call, url, { ...unsigned, headers }, attempt, read)
    if (200 === answer.status || (answer.status === 304 && headers['if-none-match'])) return answer
    const content = answer.content as string
    const bucketRegion = answer.headers.get('x-amz-bucket-region') ?? (/Malformed<.*<Region>(.*?)</s.exec(content)?.[1] as string)
    if (bucket && call.region === region && bucketRegion !== region && REGION.test(bucketRegion)) {
      bucketRegions.set(bucket, bucketRegion)
      return sendOnce(attempt)
    }
    if (!clockOffset && /yet current|TooSkewed|Signature expired/.test(content)) {
      clockOffset = Date.parse(answer.headers.get('date') as string) - Date.now()
      if (clockOffset) return sendOnce(attempt)
    }
    throw refused(`${service}:${action}`, host, answer)
  }

  const here = line
  if (here.places > 0) here.places -= 1
  else await new Promise<void>((resolve) => here.waiting.push(resolve))
  try {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await sendOnce(attempt)
      } catch (error) {
        if (attempt >= call.attempts || !isPassing(error)) throw error
        await within(Date.now() + Math.random() * attempt * (isPassing(error, THROTTLING) ? 1000 : 50), new Promise(() => {}), signal).catch(() => {})
      }
    }
  } finally {
    const next = here.waiting.shift()
    // Not in this turn of the event loop, in which those behind may come to the end of their time, too.
    if (next) setImmediate(next)
    else here.places += 1
  }
}

/** The AWS JSON 1.1 protocol. */
async function callJson<T>(call: Call, action: string, input: object): Promise<T> {
  const headers = { 'x-amz-target': `${call.service.replace('ssm', 'AmazonSSM')}.${action}`, 'content-type': 'application/x-amz-json-1.1' }
  const { content } = await send(call, action, '/', { method: 'POST', headers, body: JSON.stringify(input) })
  return JSON.parse(content) as T
}

// ---- Fetch over node:https ----

/**
 * The part of `fetch` that is used here, over `node:https`, which loads faster than what Node's own takes.
 * Connections are those of Node's global agents, which keep them alive.
 *
 * @example
 * export const handler = withCache(async (event: Order, context) => charge(event, context.api_key), { secrets: ['/prod/api_key'], fetch: httpsFetch })
 */
export async function httpsFetch(url: string, init: Parameters<Fetch>[1]): Promise<FetchResponse & { json(): Promise<unknown> }> {
  const http = builtin(url.startsWith('https') ? 'node:https' : 'node:http') as typeof import('node:http')
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const call = http.request(url, init).on('response', (response) => resolve(response.pause()))
    call.on('error', (error) => {
      // Where one connection died while Lambda had the process frozen, the others did too: the next attempt makes a new one.
      if (call.reusedSocket) for (const socket of Object.values(http.globalAgent.freeSockets).flat()) socket?.destroy()
      reject(error)
    }).on('close', () => reject(Error('closed'))).end(init.body)
  })
  const body = untilAborted(await decoded(response), init.signal)
  const text = (): Promise<string> => builtin('node:stream/consumers').text(body)
  return {
    status: response.statusCode as number,
    headers: { get: (name) => response.headersDistinct[name.toLowerCase()]?.join(', ') ?? null },
    body,
    text,
    json: () => text().then(JSON.parse),
  }
}

/** As `fetch` does, takes off the content-encoding with which an S3 object may be stored. */
async function decoded(response: IncomingMessage): Promise<AsyncIterable<Uint8Array>> {
  const encoding = response.headers['content-encoding']
  if (!encoding) return response
  const zlib = builtin('node:zlib') as unknown as Readonly<Record<string, Decoder | undefined>>
  const pieces = response[Symbol.asyncIterator]() as AsyncGenerator<Uint8Array, void, undefined>
  const { value: first = new Uint8Array() } = await pieces.next()
  async function* whole(): AsyncGenerator<Uint8Array, void, undefined> {
    yield first
    yield* pieces
  }
  const decoders = encoding.toLowerCase().split(/\s*,\s*/).reverse().map((name, index) => {
    // Some leave out the header of zlib's format, whose first byte ends in 8.
    const deflate = !index && ((first[0] as number) & 15) !== 8 ? 'InflateRaw' : 'Inflate'
    const known: Record<string, string> = { 'x-gzip': 'Gunzip', gzip: 'Gunzip', br: 'BrotliDecompress', zstd: 'ZstdDecompress', deflate }
    // To flush at the end, and not to finish, takes what ends too early as far as it goes.
    return zlib[`create${known[name]}`]?.({ finishFlush: 1 })
  })
  return decoders.includes(undefined) ? whole() : (builtin('node:stream').pipeline([whole(), ...decoders] as never, () => {}) as unknown as Readable)
}

type Decoder = (options: { finishFlush: number }) => Transform

/** Node throws away what has come of an aborted response and has not been read, and then it may end as if that had been all. */
async function* untilAborted(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  yield* body
  signal.throwIfAborted()
}

// ---- Signature Version 4 ----
// AWS's page: "Create a signed AWS API request" in the IAM User Guide.

type SignedHeaders = Record<string, string> & { authorization?: string; host?: string }

function encodePath(path: string): string {
  return path.split('/').map(encode).join('/')
}

function sha256(data: string | Uint8Array): string {
  return builtin('node:crypto').createHash('sha256').update(data).digest('hex')
}

function hmac(key: Buffer | string, text: string): Buffer {
  return builtin('node:crypto').createHmac('sha256', key).update(text).digest()
}

/** RFC 3986, as AWS wants it: all but letters, digits and `-._~`. */
function encode(text: string): string {
  // Half a surrogate pair cannot be encoded, nor can it stand in a URL.
  return (/\p{Cs}/u.test(text) ? text : encodeURIComponent(text)).replace(/[!'()*]/g, (character) => `%${Buffer.from(character).toString('hex').toUpperCase()}`)
}

/**
 * Signs a request with AWS Signature Version 4. Pure: no clock, no environment.
 *
 * @returns the headers to send: those given, in lower case, with `x-amz-date`, `authorization`, for temporary credentials
 * `x-amz-security-token`, and for S3 `x-amz-content-sha256`. `host` is signed too; whoever sends the request derives it from the URL.
 * @example
 * const headers = sign({ method: 'GET', url, service: 's3', region: 'eu-west-1', credentials, date: new Date() })
 */
export function sign({ credentials, date, body = '', headers, method, service, region, url }: SignRequest): Record<string, string> {
  if (!(Number(date) >= 0)) throw refusal('date', 'a valid Date', String(date))
  const { pathname, host, searchParams } = new URL(url)
  const timestamp = date.toISOString().replace(/-|:|\.\d+/g, '')
  const given = {
    ...headers,
    host,
    'x-amz-date': timestamp,
    ...(credentials.sessionToken && { 'x-amz-security-token': credentials.sessionToken }),
    // S3 wants it even where the body is empty.
    ...(service === 's3' && { 'x-amz-content-sha256': sha256(body) }),
  }
  const signed: SignedHeaders = Object.fromEntries(Object.entries(given).map(([name, value]) => [name.toLowerCase(), value.trim().replace(/\s+/g, ' ')]))
  // That of an earlier signature. This one takes its place.
  delete signed.authorization
  const names = Object.keys(signed).sort()
  const signedHeaders = names.join(';')
  // S3 takes the path as it is sent; the other services normalise it and encode it a second time.
  const path = service === 's3' ? pathname : encodePath(pathname.replace(/\/+/g, '/'))
  // By name, then by value: a space comes before every character of an encoded name.
  const query = [...searchParams].map((pair) => pair.map(encode).join(' ')).sort().join('&').replace(/ /g, '=')
  const canonicalRequest = [method, path, query, ...names.map((name) => `${name}:${signed[name]}`), '', signedHeaders, sha256(body)].join('\n')

  const scope = [timestamp.slice(0, 8), region, service, 'aws4_request']
  const stringToSign = ['AWS4-HMAC-SHA256', timestamp, scope.join('/'), sha256(canonicalRequest)].join('\n')
  const signingKey = scope.reduce<Buffer | string>(hmac, `AWS4${credentials.secretAccessKey}`)
  delete signed.host
  signed.authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope.join('/')}, SignedHeaders=${signedHeaders}, Signature=${hmac(signingKey, stringToSign).toString('hex')}`
  return signed
}

// ---- Credentials ----

async function loadCredentials(call: Call, url: string, attempt: number): Promise<Loaded> {
  const { AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file, AWS_CONTAINER_AUTHORIZATION_TOKEN: token } = process.env
  const fs = builtin('node:fs').promises
  const authorization = file ? (await fs.readFile(file, 'utf8').catch(() => Promise.reject(failure('NoCredentials', 'no AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE')))).trim() : token
  const { content, status } = await exchange(call, url, { method: 'GET', headers: authorization ? { authorization } : {} }, attempt)
  if (200 !== status) throw failure('NoCredentials', `HTTP ${status} from ${new URL(url).host}`, { status })
  const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, Token: sessionToken, Expiration } = JSON.parse(content)
  if (!accessKeyId || !secretAccessKey) throw failure('NoCredentials', 'HTTP 200 without AccessKeyId')
  return { value: { accessKeyId, secretAccessKey, sessionToken }, expires: Date.parse(Expiration) }
}

/** Those of the environment, else those of the container endpoint. AWS's page: "Container credential provider" in the SDKs and Tools Reference Guide. */
async function getCredentials(call: Call, attempt: number): Promise<Credentials> {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = process.env
  if (accessKeyId && secretAccessKey) return { accessKeyId, secretAccessKey, sessionToken }
  const { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: path, AWS_CONTAINER_CREDENTIALS_FULL_URI: full } = process.env
  const url = (path ? `http://169.254.170.2${path}` : full) as string
  // Plain http only to where AWS's own endpoints are: a token that is sent anywhere else is given away.
  if (!/^(https:|http:\/\/(localhost|127(\.\d+){3}|\[::1\]|169\.254\.170\.23?|\[fd00:ec2::23\])(:\d+)?(\/|$))/.test(url) || !URL.canParse(url)) {
    throw failure('NoCredentials', 'no AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_CREDENTIALS_FULL_URI (https)')
  }
  const cell = cellOf(url, url, true)
  const { value, expires = 0 }: Partial<Answer> = cell.answer ?? {}
  if (expires - Date.now() > 60_000 * 5) return value as Credentials
  try {
    const refresh = refreshOf(cell, (how) => loadCredentials({ ...call, ...how }, url, attempt))
    return ((await refresh.wait(Infinity, call.signal)) as Answer).value as Credentials
  } catch (error) {
    if (expires > Date.now()) return value as Credentials
    const own = error as LambdaCacheError
    throw failure(own.code, `credentials: ${own.message}`, own)
  }
}

// ---- Endpoints ----
// AWS's pages: "Service-specific endpoints" and "Dual-stack and FIPS endpoints" in the SDKs and Tools Reference Guide.

const REGION = /^(?!fips)[a-z]+(-[a-z]+)+-\d+$/

/** The DNS suffixes of the partitions, by what the names of their regions have in them. */
const DNS_SUFFIXES: Record<string, string> = {
  cn: 'amazonaws.com.cn',
  eusc: 'amazonaws.eu',
  isoe: 'cloud.adc-e.uk',
  iso: 'c2s.ic.gov',
  isob: 'sc2s.sgov.gov',
  isof: 'csp.hci.ic.gov',
}

function isOn(variable: string): boolean {
  return /^true$/i.test(process.env[variable] as string)
}

/** Without a slash at its end; for S3 with the bucket. */
function endpointOf(service: string, region: string, bucket = ''): string {
  const custom = !isOn('AWS_IGNORE_CONFIGURED_ENDPOINT_URLS') && (process.env[`AWS_ENDPOINT_URL_${service.replace('manager', '_manager').toUpperCase()}`] || (process.env as Environment).AWS_ENDPOINT_URL)
  const fips = isOn('AWS_USE_FIPS_ENDPOINT')
  const dualStack = isOn('AWS_USE_DUALSTACK_ENDPOINT')
  const suffix = DNS_SUFFIXES[/^cn|^eusc|iso\w?/.exec(region)?.[0] as string]
  if (!region) throw failure('NoRegion', 'set AWS_REGION, or region')
  if (!custom && !REGION.test(region)) throw refusal('region', 'one like eu-west-1', region)
  if (((custom || suffix) && (fips || dualStack)) || (custom && !(/^https?:\/\/[^\s@?#]+$/.test(custom) && URL.canParse(custom)))) {
    throw failure('InvalidEndpoint', `no URL in AWS_ENDPOINT_URL, or FIPS or dual-stack: ${region}`)
  }
  if (custom) return new URL(custom).href.replace(/\/*$/, bucket && `/${bucket}`)
  // The plain name of SSM is the FIPS one in GovCloud; that of Secrets Manager has IPv6.
  const name = fips && (dualStack || service !== 'ssm' || !region.startsWith('us-gov-')) ? `${service}-fips` : service
  const host = `${name}${dualStack && service === 's3' ? '.dualstack' : ''}.${region}.${dualStack && service === 'ssm' ? 'api.aws' : suffix ?? 'amazonaws.com'}`
  // Virtual-hosted style, for the names that the certificate for *.s3.region.amazonaws.com covers.
  return /^[a-z\d-]+$/.test(bucket) ? `https://${bucket}.${host}` : `https://${host}${bucket && `/${bucket}`}`
}

// ---- Helpers ----

/** One of Node's own modules, as it is at the moment: an import would keep what a test has replaced, and load more. */
function builtin<M extends keyof Builtins>(name: M): Builtins[M] {
  return process.getBuiltinModule(name) as never
}

interface Builtins {
  'node:crypto': typeof import('node:crypto')
  'node:fs': typeof import('node:fs')
  'node:http': typeof import('node:http')
  'node:https': typeof import('node:https')
  'node:path': typeof import('node:path')
  'node:stream': typeof import('node:stream')
  'node:stream/consumers': typeof import('node:stream/consumers')
  'node:util': typeof import('node:util')
  'node:zlib': typeof import('node:zlib') & { createZstdDecompress?: unknown }
}

/** What the promise comes to; rejects, with nothing, if at that time by `Date.now()` or with the abort it has not settled. */
function within<T>(time: number, promise: T | Promise<T>, signal?: AbortSignal): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  let end!: () => void
  const over = new Promise<never>((_, reject) => {
    end = () => reject()
    const remaining = time - Date.now()
    // Node has no longer timers: it would let them end at once.
    if (remaining < 2 ** 31) timer = setTimeout(() => inputTaken().then(end), Math.max(remaining, 0))
    if (signal?.aborted) end()
    signal?.addEventListener('abort', end)
  })
  return Promise.race([promise, over]).finally(() => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', end)
  })
}

/**
 * Lets the event loop take in what has arrived: where a handler has blocked it, a timer is called before the sockets are looked at.
 * One turn reads what a socket has, the others deal with it.
 */
async function inputTaken(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}
