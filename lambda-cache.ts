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

import { createHash, createHmac, randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

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
  /** Split a StringList at its commas, into a frozen `string[]`. */
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
  clientContext?: unknown
  tenantId?: string | undefined
  getRemainingTimeInMillis(): number
}

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
      ? Known<WithoutSelector<LastSegment<I>>>
      : E extends { readonly path: infer I extends string } | { readonly id: infer I extends string } | { readonly uri: infer I extends string }
        ? Known<LastSegment<I>>
        : never

type LastSegment<S extends string> = S extends `${string}/${infer Rest}` ? LastSegment<Rest> : S

type WithoutSelector<S extends string> = S extends `${infer Name}:${string}` ? Name : S

/** A name that the compiler does not know would turn every property of `context` into a value. */
type Known<S extends string> = string extends S ? never : S

type ParameterValue<E> = E extends { readonly names: readonly (infer N extends string)[] }
  ? { readonly [K in N as WithoutSelector<LastSegment<K>>]: Parsed<E, string> }
  : E extends { readonly path: string }
    ? ParameterTree<E>
    : Parsed<E, E extends { readonly list: true } ? string[] : string>

type ParameterTree<E> = Readonly<Record<string, Parsed<Omit<E, 'default'>, string>>> | DefaultOf<E>

type SecretValue<E> = Parsed<E, E extends { readonly binary: true } ? Uint8Array : string>

type ObjectValue<E> = Parsed<E, E extends { readonly binary: true } ? Uint8Array : string>

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
   * `InvalidOptions`, `InvalidEndpoint`, `ParseError`, `BinarySecret`, `UnsupportedKey`, `FileError`, `LoadFailed`, or `Http` and the status,
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

/** Every error that this file throws. None of its texts and properties holds a value, a credential, a body or a signature. */
export class LambdaCacheError extends Error implements ErrorDetails {
  override readonly name = 'LambdaCacheError' as const
  declare readonly code: string
  declare readonly source?: Source
  declare readonly id?: string
  declare readonly status?: number
  declare readonly requestId?: string

  constructor(message: string, details: ErrorDetails) {
    super(message)
    // Here, not above: an own property that is enumerable survives being copied.
    Object.assign(this, details)
  }
}

function fail(code: string, message: string, details?: Partial<ErrorDetails>): never {
  throw new LambdaCacheError(message, { ...details, code })
}

// ---- withCache ----

/**
 * Wraps a Lambda handler: its `context` gets a property for each entry of `options`, fetched once and then served from memory
 * for `maxAge` seconds. All that is missing or out of date is fetched side by side before the handler runs.
 * The properties are not enumerable, so that a logged or spread context gives no secret away.
 *
 * @throws {LambdaCacheError} at once, for options that make no sense; from the returned function, for what cannot be read.
 * Several failures come as one error that names each, with the errors in `cause`.
 * @example
 * export const handler = withCache(async (event: Order, context) => charge(event, context.api_key), { secrets: ['/prod/api_key'] })
 */
export function withCache<E, R, const O extends Options, C extends object = LambdaContext>(
  handler: (event: E, context: C & Cached<O>) => R,
  options: O,
): CachedHandler<E, R, C> {
  check('handler', FUNCTION, handler)
  const entries = toEntries(options)
  let reading: Reading | undefined
  const isDue = (): boolean => reading?.generation !== generation || Date.now() >= reading.dueAt

  // The runtime counts parameters, and takes a third one for a callback.
  function cached(event: E, second: unknown): Promise<unknown> {
    // A handler that streams is called with (event, responseStream, context); the others may have a callback in third place.
    const third: unknown = arguments[2]
    const streams = !!third && typeof third === 'object'
    const context = Object(streams ? third : second)
    const run = (): unknown => {
      provide(context, reading!)
      const call = handler as (...args: unknown[]) => unknown
      return streams ? call(event, second, context) : call(event, context)
    }
    if (isDue() || options.refreshOn) return invoke(run, context, streams)
    // Nothing to wait for: an async function would cost as much again as all else here.
    try {
      return Promise.resolve(run())
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async function invoke(run: () => unknown, context: object, streams: boolean): Promise<unknown> {
    const ahead: Promise<unknown>[] = []
    try {
      if (isDue()) reading = await read(entries, context, ahead)
      const given = reading!
      try {
        return await run()
      } catch (error) {
        if (streams || !options.refreshOn?.(error)) throw error
        // Here, not above: it would make a cold start longer by some milliseconds.
        const { isDeepStrictEqual } = await import('node:util')
        const isUnchanged = (): boolean => isDeepStrictEqual(reading!.contents, given.contents)
        // Another invocation may have read them again meanwhile.
        if (isUnchanged()) reading = await read(entries, context, ahead, true).catch(() => given)
        if (isUnchanged()) throw error
        return await run()
      }
    } finally {
      if (ahead.length > 0) await Promise.all(ahead)
    }
  }

  const prefetch = async (): Promise<void> => {
    reading = await read(entries, {})
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
export const withCacheStream: <E, R, const O extends Options, S = ResponseStream, C extends object = LambdaContext>(
  handler: (event: E, responseStream: S, context: C & Cached<O>) => R,
  options: O,
) => CachedStreamHandler<E, S, R, C> = withCache as never

/** One reading of all entries: what it has to heed, and what it came to. */
interface Reading {
  /** That of the cache before: if anything has changed meanwhile, the next invocation looks again. */
  readonly generation: number
  /** The time by `Date.now()` until which the invocation can wait. */
  readonly deadline: number
  /** Takes the refreshes ahead that the invocation is to wait for. */
  readonly ahead: Promise<unknown>[] | undefined
  /** Whether no answer is good enough, however fresh. */
  readonly forced: boolean | undefined
  /** When the first of the values expires or may be refreshed ahead of that: by `Date.now()`. */
  dueAt: number
  /** What AWS gave for each value: in these a change shows. */
  readonly contents: Record<string, unknown>
  readonly values: PropertyDescriptorMap
  /** What the values are put on, and its prototype: that of the contexts. */
  holder?: object
  base?: object
}

/** Milliseconds before the end of an invocation, for the error to get out. */
const DEADLINE_MARGIN = 200

async function read(entries: readonly Entry[], context: Partial<LambdaContext>, ahead?: Promise<unknown>[], forced?: boolean): Promise<Reading> {
  const deadline = Date.now() + (context.getRemainingTimeInMillis?.() ?? Infinity) - DEADLINE_MARGIN
  const reading: Reading = { generation, deadline, ahead, forced, dueAt: Infinity, contents: {}, values: {} }
  await all(entries.map(async (entry) => (reading.values[entry.as] = { value: await readEntry(entry, reading) })))
  return reading
}

/**
 * Puts an object that holds the values into the context's prototype chain: four times faster than defining the properties
 * on every context, and they stay out of `{ ...context }`, `JSON.stringify` and logs.
 */
function provide(context: object, reading: Reading): void {
  const prototype = Object.getPrototypeOf(context)
  if (prototype === reading.holder) return
  if (prototype !== reading.base) {
    reading.base = prototype
    reading.holder = Object.create(prototype, reading.values)
  }
  Object.setPrototypeOf(context, reading.holder!)
}

// ---- Direct access ----

/** What `getParameter`, `getParametersByPath`, `getSecret` and `getObject` take: what an entry says, `fetch` and `staleIfError`. */
type Direct<E> = Omit<E, 'as' | 'name' | 'path' | 'id' | 'uri'> & Pick<Defaults, 'fetch' | 'staleIfError'>

/**
 * One SSM parameter, from the cache that `withCache` uses. `{ maxAge: 0 }` forces a refresh, which every reader then sees.
 *
 * @example
 * const limits = await getParameter('/prod/app/limits', { parse: json<Limits> })
 */
export async function getParameter<const O extends Direct<ParameterEntry>>(name: string, options?: O): Promise<ParameterValue<O>> {
  return readOne('ssm', { ...options, name }) as Promise<ParameterValue<O>>
}

/**
 * The SSM parameters below a path, as a frozen record keyed by the name below the path.
 *
 * @example
 * const { 'db/host': host } = await getParametersByPath('/prod/app', { recursive: true })
 */
export async function getParametersByPath<const O extends Direct<ParameterTreeEntry>>(path: string, options?: O): Promise<ParameterTree<O>> {
  return readOne('ssm', { ...options, path }) as Promise<ParameterTree<O>>
}

/**
 * One secret of Secrets Manager, by name or ARN.
 *
 * @example
 * const password = await getSecret('/prod/db/password', { maxAge: 0 }) // it has just been rotated
 */
export async function getSecret<const O extends Direct<SecretEntry>>(id: string, options?: O): Promise<SecretValue<O>> {
  return readOne('secrets', { ...options, id }) as Promise<SecretValue<O>>
}

/**
 * One S3 object: the path of the file it was downloaded to, or with `parse` or `binary` its content.
 *
 * @example
 * const model = await readFile(await getObject('s3://bucket/model.bin', { maxAge: 3600 }))
 */
export async function getObject<const O extends Direct<ObjectEntry>>(uri: string, options?: O): Promise<ObjectValue<O>> {
  return readOne('s3', { ...options, uri }) as Promise<ObjectValue<O>>
}

async function readOne(source: Source, own: EveryOption): Promise<unknown> {
  return readEntry(toEntry(source, { ...own, as: source }, {}), { contents: {} })
}

/** Forgets everything: values, regions of buckets, credentials of the container endpoint. For tests. */
export function clearCache(): void {
  generation += 1
  cache.clear()
  bucketRegions.clear()
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

/** One property of the context. */
interface Entry {
  readonly source: Source
  readonly as: string
  /** What it reads, by last segment: one thing, or for a group several. */
  readonly ids: Readonly<Record<string, string>>
  readonly options: ReadOptions
}

/** What an entry says, or else `withCache`, or else the defaults. `file` is there for an object that is downloaded, and only then. */
type ReadOptions = EveryOption & Defaults & { readonly maxAge: number; readonly staleIfError: number; readonly decrypt: boolean }
type EveryOption = { readonly [O in keyof AllOptions]?: AllOptions[O] | undefined }
type AllOptions = Omit<ParameterEntry, 'names' | 'path'> & Omit<ParameterGroupEntry, 'name' | 'path'> & Omit<ParameterTreeEntry, 'name' | 'names'> & SecretEntry & ObjectEntry & CustomEntry

/** What an option has to be, in words that contain its `typeof`. */
const ARRAY = 'array'
const BOOLEAN = 'boolean'
const FUNCTION = 'function'
const NUMBER = 'number >= 0'
const TEXT = 'non-empty string'

const DEFAULTS = { region: TEXT, maxAge: NUMBER, staleIfError: NUMBER, fetch: FUNCTION }
const EVERY_ENTRY = { ...DEFAULTS, as: TEXT, default: '', parse: FUNCTION }

/** Of each source what a plain string stands for, what loads it, and the options. */
const SOURCES: Readonly<Record<Source, readonly [id: 'name' | 'id' | 'uri' | 'as', loader: Loader, types: Readonly<Record<string, string>>]>> = {
  ssm: ['name', loadParameters, { ...EVERY_ENTRY, name: TEXT, names: ARRAY, path: TEXT, recursive: BOOLEAN, decrypt: BOOLEAN, list: BOOLEAN }],
  secrets: ['id', loadSecret, { ...EVERY_ENTRY, id: TEXT, versionId: TEXT, versionStage: TEXT, binary: BOOLEAN }],
  s3: ['uri', loadObject, { ...EVERY_ENTRY, uri: TEXT, versionId: TEXT, file: TEXT, binary: BOOLEAN }],
  custom: ['as', loadCustom, { ...EVERY_ENTRY, load: FUNCTION }],
}

/** Names that Lambda's own context has, and names that mean something to JavaScript. */
const RESERVED_NAMES =
  /^(awsRequestId|callbackWaitsForEmptyEventLoop|clientContext|done|fail|functionName|functionVersion|getRemainingTimeInMillis|identity|invokedFunctionArn|logGroupName|logStreamName|memoryLimitInMB|succeed|tenantId|__proto__|constructor|prototype)$/

/** ARNs and directory buckets are left out: they have endpoints and signatures of their own. */
const S3_URI = /^s3:\/\/(?![^/]*--xa?-s3\/)([\w.-]{3,255})\/(.+)$/s

function toEntries(options: Options): Entry[] {
  const defaults = checked(options, { ...DEFAULTS, ssm: ARRAY, secrets: ARRAY, s3: ARRAY, custom: ARRAY, refreshOn: FUNCTION })
  const entries = Object.entries(defaults).flatMap(([source, own]) => (Array.isArray(own) ? own.map((entry) => toEntry(source as Source, entry, defaults)) : []))
  const names = new Set<string>()
  for (const { as } of entries) {
    if (RESERVED_NAMES.test(as) || names.size === names.add(as).size) refuse('as', 'a name that is not taken', as)
  }
  return entries
}

function toEntry(source: Source, given: EveryOption | string, defaults: Defaults): Entry {
  const [option, , types] = SOURCES[source]
  const own: EveryOption = checked(typeof given === 'string' ? { [option]: given } : given, types)
  const options = { maxAge: Number(process.env['LAMBDA_CACHE_MAX_AGE'] || 60), staleIfError: 300, decrypt: true, ...defaults, ...own } as ReadOptions
  check('LAMBDA_CACHE_MAX_AGE', NUMBER, options.maxAge)
  if (source === 'custom') check('load', FUNCTION, options.load)
  const { names, path, list, binary } = options
  const things = names ?? [path ?? options[option]!]
  const ids = Object.fromEntries(things.map((id) => [lastSegment(option, id), id]))
  const segments = Object.keys(ids)
  if (segments.length < things.length) refuse('names', 'different last segments', things.join())
  const { as = names ? '' : segments[0]!, parse = list ? split : undefined, file = `/tmp/${segments[0]}` } = options
  check('as', TEXT, as)
  return { source, as, ids, options: { ...options, parse, file: source === 's3' && !parse && !binary ? file : undefined } }
}

/** `/prod/app/var:3` is `var`. A secret's ARN has none: it ends in random characters. */
function lastSegment(option: string, id: string): string {
  check(option, TEXT, id)
  const segment = id.slice(id.lastIndexOf('/') + 1)
  if (option === 'uri') return S3_URI.test(id) ? segment : refuse(option, 's3://bucket/key', id)
  return option === 'id' && id.startsWith('arn:') ? '' : segment.replace(/:.*/, '')
}

function split(list: string): readonly string[] {
  return Object.freeze(list.split(','))
}

/** @returns the options that are given, every one of them known and of the right type */
function checked<T extends object>(given: T, types: Readonly<Record<string, string>>): T {
  const options = Object.entries(Object(given)).filter(([option, value]) => value !== undefined || option === 'default')
  for (const [option, value] of options) check(option, types[option], value)
  return Object.fromEntries(options) as T
}

function check(option: string, expected = 'no such option here', value: unknown): void {
  const type = Array.isArray(value) ? ARRAY : typeof value
  if (expected && !(expected.includes(type) && (type === 'number' ? (value as number) >= 0 : value !== ''))) refuse(option, expected, value)
}

function refuse(option: string, expected: string, given: unknown): never {
  return fail('InvalidOptions', `${option}: expected ${expected}, got ${typeof given === 'string' ? `'${given}'` : Object(given) === given ? typeof given : given}`)
}

// ---- Cache ----

const cache = new Map<unknown, Slot>()
/** Counts the answers. */
let generation = 0

const MAX_ENTRIES = 1000
/** Milliseconds for which AWS is left alone after it failed to refresh a value that can still be served. */
const RETRY_PAUSE = 5000
/** Milliseconds that an invocation waits at most for what is refreshed ahead. */
const AHEAD_LIMIT = 300

interface Slot {
  readonly key: unknown
  /** What is read. An object that is downloaded has its file as the key, since no two may share one. */
  thing?: unknown
  answer?: Answer
  /** The refresh that is under way: whoever needs one meanwhile waits for this. */
  refreshing?: Promise<Answer | undefined> | undefined
  retryAt?: number
}

/** What a loader brings. */
interface Loaded {
  /** A text or a file's path, bytes, the texts of a tree by name; credentials. */
  readonly value?: unknown
  /** For S3: what makes the next request a conditional one. */
  readonly etag?: string | null
  readonly identity?: string | undefined
  /** For credentials: the time, in milliseconds, until which they hold. */
  readonly expiresAt?: number
  /** Between 0 and 1, the same for all that came in one answer, so that they are refreshed ahead together. Else a random one. */
  readonly jitter?: number
  /** Where `default` stands for it: the error, there being no such thing and no value, or true for an empty tree. */
  readonly missing?: unknown
}

interface Answer extends Loaded {
  /** By `Date.now()`: the monotonic clock may stand still while Lambda has the process frozen. */
  readonly arrivedAt: number
  /** What each `parse` made of the value. */
  readonly parsed: WeakMap<object, unknown>
  /** The part of its `maxAge` after which it is refreshed ahead: random, so that a fleet does not refresh in step. */
  aheadAt: number
}

/** Where a call goes, by what, and for what options. */
interface Call extends ReadOptions {
  readonly service: string
  readonly region: string
  readonly fetch: Fetch
  readonly bucket?: string
  /** By `Date.now()`: the time at which to give up, after one attempt. */
  readonly until: number
}

type Loader = (call: Call, id: string, previous: Answer | undefined) => Promise<Loaded>

/** That of direct access has but the contents. */
type OneReading = Pick<Reading, 'contents'> & Partial<Reading>

async function readEntry(entry: Entry, reading: OneReading): Promise<unknown> {
  const values = await all(Object.entries(entry.ids).map(async ([name, id]) => [name, await readThing(entry, id, reading)] as const))
  return entry.options.names ? frozen(values) : values[0]![1]
}

async function readThing(entry: Entry, id: string, reading: OneReading): Promise<unknown> {
  const { source, as, options } = entry
  try {
    const answer = await answerFor(entry, id, reading)
    reading.contents[`${as} ${id}`] = [answer.value, answer.etag]
    reading.dueAt = Math.min(reading.dueAt!, dueAt(answer, options.maxAge))
    return convert(options, answer)
  } catch (error) {
    // Anything but our own comes from an answer that is not what AWS documents, such as a proxy's page: its text may quote that.
    const { message, code, ...details } = error instanceof LambdaCacheError ? error : { message: 'HTTP 200, but not with the JSON that AWS documents', code: 'InvalidAnswer', status: 200 }
    return fail(code, `${source} ${id}: ${message}`, { ...details, source, id })
  }
}

async function answerFor(entry: Entry, id: string, reading: OneReading): Promise<Answer> {
  const { source, options } = entry
  // The types of Node.js and of the DOM differ in what a body is.
  const { maxAge, staleIfError, file, load, fetch = globalThis.fetch as never } = options
  const { deadline = Infinity, ahead } = reading
  const service = source === 'secrets' ? 'secretsmanager' : source
  const region = options.region ?? (process.env['AWS_REGION'] || process.env['AWS_DEFAULT_REGION'] || '')
  const endpoint = load ? 'custom://load' : endpointOf(service, region)
  const thing = load ?? JSON.stringify([endpoint, service, region, id, options.path, options.recursive, options.decrypt, options.versionId, options.versionStage, options.binary])
  const slot = slotOf(file ?? thing)
  if ((slot.thing ??= thing) !== thing) refuse('file', 'a file of its own', file)
  const bring = (until = Infinity): Promise<Loaded> => SOURCES[source][1]({ ...options, service, region, fetch, until }, id, slot.answer)
  const { answer, refreshing } = slot
  const isYoungerThan = (seconds: number): boolean => Date.now() - slot.answer?.arrivedAt! < seconds * 1000 && ('value' in slot.answer! || 'default' in options)
  const isUsable = (): boolean => isYoungerThan(maxAge + staleIfError)
  if (answer && !reading.forced && isYoungerThan(maxAge)) {
    if (ahead && Date.now() >= dueAt(answer, maxAge)) {
      answer.aheadAt = 1
      ahead.push(refreshAhead(slot, bring, Math.min(Date.now() + AHEAD_LIMIT, deadline)))
    }
    return answer
  }
  if (isUsable() && Date.now() < slot.retryAt!) return answer!
  try {
    // Where it has waited for a refresh ahead that failed, it goes on to one of its own.
    return (await within(deadline, refresh(slot, bring), () => tooLate(new URL(endpoint).host))) ?? answerFor(entry, id, reading)
  } catch (error) {
    if (!isPassing(error) || !isUsable()) throw error
    slot.retryAt = Date.now() + RETRY_PAUSE
    if (!refreshing) console.warn(`lambda-cache: ${source} ${id}: ${(error as LambdaCacheError).message}: serving the last value`)
    return slot.answer!
  }
}

/** One attempt, beside the handler. If it fails, nothing happens: the value is still good. */
async function refreshAhead(slot: Slot, bring: (until: number) => Promise<Loaded>, until: number): Promise<void> {
  const nothing = (): void => {}
  await within(until, refresh(slot, () => bring(until).catch(nothing)).catch(nothing), nothing)
}

/** The time by `Date.now()` from which an answer may be refreshed ahead, or where that has begun, at which it expires. */
function dueAt({ arrivedAt, aheadAt }: Answer, maxAge: number): number {
  return arrivedAt + maxAge * 1000 * aheadAt
}

function slotOf(key: unknown): Slot {
  const slot: Slot = cache.get(key) ?? { key }
  cache.set(key, slot)
  if (cache.size > MAX_ENTRIES) cache.delete(cache.keys().next().value)
  return slot
}

/** One at a time. */
function refresh(slot: Slot, bring: () => Promise<Loaded | void>): Promise<Answer | undefined> {
  return (slot.refreshing ??= bring()
    .catch((error: LambdaCacheError): Loaded => {
      // That there is no such thing is an answer too, for those who have a default.
      if (/NotFound|NoSuch(Key|Version)$/.test(error.code)) return { missing: error }
      throw error
    })
    .then((loaded) => {
      if (!loaded) return
      generation += 1
      slot.retryAt = 0
      return (slot.answer = { parsed: new WeakMap(), ...loaded, arrivedAt: Date.now(), aheadAt: 0.8 + (loaded.jitter ?? Math.random()) / 5 })
    })
    .finally(() => {
      slot.refreshing = undefined
      // Those fetched longest ago come first. A failure takes no room.
      if (cache.get(slot.key) === slot && cache.delete(slot.key) && slot.answer) cache.set(slot.key, slot)
    }))
}

/** What an entry makes of an answer. */
function convert(options: ReadOptions, answer: Answer): unknown {
  const { parse, binary } = options
  const { value, missing, parsed } = answer
  if (missing && 'default' in options) return options.default
  if (!('value' in answer)) throw missing
  if (!parse || binary) return value
  try {
    if (!parsed.has(parse)) parsed.set(parse, typeof value === 'string' ? parse(value) : frozen(Object.entries(value as object).map(([name, text]) => [name, parse(text)])))
    return parsed.get(parse)
  } catch {
    // Not even as `cause`: JSON.parse quotes its input, and so do most parsers.
    fail('ParseError', 'parse failed')
  }
}

/** Object.fromEntries defines properties: one named __proto__ is one like any other. */
function frozen<T>(entries: readonly (readonly [name: string, value: T])[]): Readonly<Record<string, T>> {
  return Object.freeze(Object.fromEntries(entries))
}

/** Waits for all; where several fail, the error names every one of them. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const errors = (await Promise.allSettled(promises)).flatMap((result) => (result as PromiseRejectedResult).reason ?? [])
  if (errors[1]) fail(errors[0].code, errors.map(({ message }) => message).join('\n'), { ...errors[0], cause: errors })
  return Promise.all(promises)
}

// ---- Loaders ----

/** SSM names that go out together, and what comes back for each. */
interface Batch {
  readonly key: string
  readonly fetch: Fetch
  readonly names: Set<string>
  readonly found: Promise<Map<string, Loaded>>
}

/** Those that still take names: until the end of the tick. */
let openBatches: Batch[] = []

async function loadParameters(call: Call, id: string): Promise<Loaded> {
  if (call.path) return loadTree(call, id)
  const { region, decrypt, fetch, until } = call
  // A refresh ahead has one attempt, so it shares none with the others.
  const key = [region, decrypt, until < Infinity].join()
  // AWS takes ten at a time.
  let batch = openBatches.find(({ names, ...open }) => open.key === key && open.fetch === fetch && names.size < 10)
  if (!batch) {
    const names = new Set<string>()
    const found = Promise.resolve().then(() => {
      openBatches = []
      return getParameters(call, names)
    })
    openBatches.push((batch = { key, fetch, names, found }))
  }
  const { names, found } = batch
  names.add(id)
  const answers = await found.catch((error: unknown) => {
    // It refuses all ten for one that is malformed or not allowed: then each is asked for alone.
    if (names.size < 2 || isPassing(error)) throw error
    return getParameters(call, [id])
  })
  // Throws where AWS has left the name out.
  const { ...loaded } = answers.get(id)!
  return loaded
}

/** API: GetParameters. */
async function getParameters(call: Call, names: Iterable<string>): Promise<Map<string, Loaded>> {
  const found = new Map<string, Loaded>()
  const { Parameters, InvalidParameters = [] } = await callJson<ParametersAnswer>(call, 'GetParameters', { Names: [...names], WithDecryption: call.decrypt })
  const jitter = Math.random()
  for (const { Name, ARN, Selector = '', Value } of Parameters) {
    // AWS gives the name without the `:version` or `:label` that was asked for.
    const selector = Selector.replace(/^:?(?=.)/, ':')
    const loaded = { value: Value.toString(), jitter }
    found.set(Name + selector, loaded).set(ARN + selector, loaded)
  }
  for (const name of InvalidParameters) found.set(name, { missing: new LambdaCacheError('no such parameter', { code: 'ParameterNotFound' }) })
  return found
}

interface ParametersAnswer {
  readonly Parameters: readonly { readonly Name: string; readonly ARN?: string; readonly Selector?: string; readonly Value: string }[]
  readonly InvalidParameters?: readonly string[]
  readonly NextToken?: string
}

/** API: GetParametersByPath, page after page. */
async function loadTree(call: Call, id: string): Promise<Loaded> {
  const texts: [name: string, value: string][] = []
  let NextToken: string | undefined
  do {
    const input = { Path: id, Recursive: call.recursive, WithDecryption: call.decrypt, NextToken }
    const page = await callJson<ParametersAnswer>(call, 'GetParametersByPath', input)
    for (const { Name, Value } of page.Parameters) texts.push([Name.replace(id, '').replace(/^\//, ''), Value.toString()])
    NextToken = page.NextToken
  } while (NextToken)
  return { value: frozen(texts), missing: !texts[0] }
}

/** API: GetSecretValue. */
async function loadSecret(call: Call, id: string): Promise<Loaded> {
  const input = { SecretId: id, VersionId: call.versionId, VersionStage: call.versionStage }
  const { SecretString, SecretBinary } = await callJson<{ SecretString?: string; SecretBinary: string }>(call, 'GetSecretValue', input)
  if (call.binary) return { value: new Uint8Array(Buffer.from(SecretString ?? SecretBinary, SecretString ? 'utf8' : 'base64')) }
  if (SecretBinary) fail('BinarySecret', 'it is binary: ask for it with binary: true')
  return { value: SecretString!.toString() }
}

/** Where AWS said that a bucket is in another region than the one it was looked for in. */
const bucketRegions = new Map<string, string>()

/** API: GetObject, conditional on the ETag where the earlier content is still there. */
async function loadObject(call: Call, id: string, previous: Answer | undefined): Promise<Loaded> {
  const { file, versionId, binary } = call
  const [, bucket, key] = S3_URI.exec(id) as unknown as [string, string, string]
  const etag = (!file || (await identify(file)) === previous?.identity) && previous?.etag
  const askedAt = new Date()
  const { status, headers, content } = await send<Loaded>(
    { ...call, bucket },
    versionId ? 'GetObjectVersion' : 'GetObject',
    `/${encodePath(key)}${versionId ? `?versionId=${encode(versionId)}` : ''}`,
    { method: 'GET', headers: etag ? { 'if-none-match': etag } : {} },
    async (body) => (file ? download(file, body, askedAt) : { value: binary ? new Uint8Array(await readAll(body)) : new TextDecoder().decode(await readAll(body)) }),
  )
  return status === 304 ? previous! : { ...content, etag: headers.get('etag') }
}

/** Downloads beside the target and renames: a reader sees the old file or the new one, and a failure leaves the old one. */
async function download(file: string, body: AsyncIterable<Uint8Array>, askedAt: Date): Promise<Loaded> {
  const { lstat, rename, rm, utimes, writeFile } = await import('node:fs/promises')
  const temporary = `${file}.${randomUUID()}`
  try {
    // Exclusive creation follows no link that somebody left there.
    await writeFile(temporary, body, { flag: 'wx', mode: 0o600 })
    // A file has the time of its request: where another thread has brought what was asked for later, that stays.
    await utimes(temporary, askedAt, askedAt)
    const identity = await identify(temporary)
    const { mtime } = await lstat(file).catch(() => ({ mtime: askedAt }))
    if (mtime <= askedAt || mtime > new Date()) await rename(temporary, file)
    else await rm(temporary)
    return { value: file, identity }
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {})
    const { syscall = 'read', code } = cause as NodeJS.ErrnoException
    // The body's own errors go on as they are.
    if (syscall === 'read') throw cause
    return fail('FileError', `cannot write ${file} (${code})`, { cause })
  }
}

/** What tells whether a file is still the one that was written. */
async function identify(file: string): Promise<string | undefined> {
  const { lstat } = await import('node:fs/promises')
  return lstat(file).then(({ ino, size, mtimeMs }) => [ino, size, mtimeMs].join(), () => undefined)
}

async function loadCustom({ load }: Call): Promise<Loaded> {
  try {
    return { value: await load!() }
  } catch (cause) {
    if (cause instanceof LambdaCacheError) throw cause
    return fail('LoadFailed', 'load failed', { cause })
  }
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

type Reader<T> = (body: AsyncIterable<Uint8Array>) => Promise<T>

const MAX_ATTEMPTS = 3
/** Milliseconds without any progress after which an attempt is given up. */
const STALL_LIMIT = 2000
/** Bytes of an answer in JSON or XML, 8 MiB: far more than AWS ever sends. */
const MAX_ANSWER_SIZE = 2 ** 23

/** By error code and HTTP status. */
const THROTTLING = /Throttl|Exceeded|SlowDown|TooManyRequests|NotComplete|InProgress| 429$/
const PASSING = RegExp(`${THROTTLING.source}|^(Timeout|NetworkError|RequestTimeout|LoadFailed)| 50[0234]$`)

/** The AWS JSON 1.1 protocol. */
async function callJson<T>(call: Call, action: string, input: object): Promise<T> {
  const headers = { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `${call.service.replace('ssm', 'AmazonSSM')}.${action}` }
  const { content } = await send(call, action, '/', { method: 'POST', headers, body: JSON.stringify(input) })
  return JSON.parse(content) as T
}

/** Makes a call, up to three times where a failure may pass by itself. Each attempt is signed anew. */
async function send<T = string>(call: Call, action: string, path: string, unsigned: HttpRequest, read?: Reader<T>): Promise<Exchanged<T>> {
  const { service, bucket = '', until } = call
  let clockOffset = 0
  let moved = false
  for (let attempt = 1; ; attempt += 1) {
    try {
      const region = bucketRegions.get(bucket) ?? call.region
      const url = endpointOf(service, region, bucket) + path
      const { href, host } = new URL(url)
      if (href !== url) fail('UnsupportedKey', 'no URL can carry a "." or ".." segment')
      const headers = sign({ ...unsigned, url, service, region, credentials: await getCredentials(call), date: new Date(Date.now() + clockOffset) })
      const answer = await exchange(call, url, { ...unsigned, headers }, read)
      if (answer.status === 200 || (answer.status === 304 && headers['if-none-match'])) return answer
      const bucketRegion = answer.headers.get('x-amz-bucket-region')!
      if (bucket && !moved && bucketRegion !== region && REGION.test(bucketRegion)) {
        bucketRegions.set(bucket, bucketRegion)
        moved = true
        continue
      }
      if (!clockOffset && /RequestTimeTooSkewed|Signature expired|not yet current/.test(answer.content as string)) {
        clockOffset = Date.parse(answer.headers.get('date')!) - Date.now()
        if (clockOffset) continue
      }
      refused(`${service}:${action}`, host, answer)
    } catch (error) {
      if (attempt >= MAX_ATTEMPTS || until < Infinity || !isPassing(error)) throw error
      const pause = isPassing(error, THROTTLING) ? 1000 : 50
      await new Promise((resolve) => setTimeout(resolve, Math.random() * attempt * pause))
    }
  }
}

function isPassing(error: unknown, kinds = PASSING): boolean {
  const { code, status } = error as LambdaCacheError
  return kinds.test(`${code} ${status}`)
}

/** What AWS answered instead of doing it. Its own text stays out of the error: it can quote the request, token and all. */
function refused(action: string, host: string, { status, headers, content }: Exchanged<unknown>): never {
  const pattern = /^\s*</.test(content as string) ? /<Code>([\w.]+)/ : /"(?:__type|code)"\s*:\s*"(?:[^"]*#)?([\w.]+)/
  const [, code = `Http${status}`] = pattern.exec(`"code":"${headers.get('x-amzn-errortype') ?? ''}"${content}`) ?? []
  const requestId = headers.get('x-amzn-requestid') ?? headers.get('x-amz-request-id')
  const hint = code.startsWith('AccessDenied') ? `: the function's role needs ${action}, and kms:Decrypt if a key of yours encrypts it` : ''
  return fail(code, `${code} (HTTP ${status}) from ${host}${hint}`, { status, ...(requestId && { requestId }) })
}

function tooLate(host: string): never {
  return fail('Timeout', `no answer from ${host} in time: in a VPC it takes a VPC endpoint or a NAT gateway`)
}

/** One HTTP exchange. Redirects are not followed: they would take the session token along. */
async function exchange<T = string>({ fetch, until }: Call, url: string, request: HttpRequest, read?: Reader<T>): Promise<Exchanged<T>> {
  const controller = new AbortController()
  const { signal } = controller
  let timer: NodeJS.Timeout | undefined
  const progress = (): void => {
    clearTimeout(timer)
    timer = setTimeout(() => controller.abort(), Math.min(STALL_LIMIT, until - Date.now()))
  }
  try {
    progress()
    const response = await fetch(url, { ...request, redirect: 'manual', signal })
    const { status, headers } = response
    const content = await (status === 200 && read ? read(pieces(response, progress)) : readAll(pieces(response, progress, MAX_ANSWER_SIZE)))
    return { status, headers, content: content as T }
  } catch (error) {
    if (error instanceof LambdaCacheError) throw error
    const { host } = new URL(url)
    if (signal.aborted) tooLate(host)
    // ECONNRESET and the like may pass; a certificate that is wrong will stay so. The error itself is not passed on: it can quote a header.
    const { cause, code = cause?.code } = Object(error) as { code?: string; cause?: { code?: string } }
    return fail(/^(E(?!RR)|UND_ERR|HPE)/.test(code!) ? 'NetworkError' : 'RequestFailed', `no answer from ${host} (${code})`)
  } finally {
    clearTimeout(timer)
    // Whatever has not been read is not wanted.
    controller.abort()
  }
}

/** The body, piece by piece. Fails where it ends before its length. */
async function* pieces(response: FetchResponse, progress: () => void, limit = Infinity): AsyncGenerator<Uint8Array> {
  const { headers, body } = response
  let size = 0
  for await (const piece of body ?? [Buffer.from(await response.text())]) {
    progress()
    size += piece.length
    if (size > limit) fail('InvalidAnswer', `more than ${limit} bytes`)
    yield piece
  }
  // Where there is a content-encoding, fetch has taken it off: the length is that of something else.
  const length = !headers.get('content-encoding') && headers.get('content-length')
  if (length && size !== Number(length)) fail('NetworkError', 'the body was cut short')
}

async function readAll(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) chunks.push(chunk)
  return Buffer.concat(chunks)
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
  const { request }: Pick<typeof import('node:http'), 'request'> = url.startsWith('https:') ? await import('node:https') : await import('node:http')
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    // An upgrade that nobody asked for ends in neither a response nor an error.
    const closed = (): void => reject(Object.assign(new Error('closed'), { code: 'ECONNRESET' }))
    request(url, init).on('response', resolve).on('error', reject).on('close', closed).end(init.body)
  })
  const body = untilAborted(await decoded(response), init.signal)
  const text = async (): Promise<string> => new TextDecoder().decode(await readAll(body))
  return {
    status: response.statusCode!,
    headers: { get: (name) => response.headersDistinct[name.toLowerCase()]?.join(', ') ?? null },
    body,
    text,
    json: async () => JSON.parse(await text()),
  }
}

/** As `fetch` does, takes off the content-encoding with which an S3 object may be stored. */
async function decoded(response: IncomingMessage): Promise<AsyncIterable<Uint8Array>> {
  const encoding = response.headers['content-encoding']
  if (!encoding || response.statusCode !== 200) return response
  const { createBrotliDecompress: br, createUnzip: gzip } = await import('node:zlib')
  const { pipeline } = await import('node:stream')
  const decoder = new Map([['br', br], ['gzip', gzip], ['deflate', gzip]]).get(encoding)
  return decoder ? pipeline(response, decoder(), () => {}) : response
}

/** Node throws away what has come of an aborted response and has not been read, and then it may end as if that had been all. */
async function* untilAborted(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  yield* body
  signal.throwIfAborted()
}

// ---- Signature Version 4 ----
// AWS's page: "Create a signed AWS API request" in the IAM User Guide.

/**
 * Signs a request with AWS Signature Version 4. Pure: no clock, no environment.
 *
 * @returns the headers to send: those given, in lower case, with `x-amz-date`, `authorization`, for temporary credentials
 * `x-amz-security-token`, and for S3 `x-amz-content-sha256`. `host` is signed too; whoever sends the request derives it from the URL.
 * @example
 * const headers = sign({ method: 'GET', url, service: 's3', region: 'eu-west-1', credentials, date: new Date() })
 */
export function sign({ method, url, headers, body = '', service, region, credentials, date }: SignRequest): Record<string, string> {
  const { host, pathname, searchParams } = new URL(url)
  const timestamp = date.toISOString().replace(/[-:]|\.\d+/g, '')
  const given = {
    ...headers,
    host,
    'x-amz-date': timestamp,
    ...(credentials.sessionToken && { 'x-amz-security-token': credentials.sessionToken }),
    // S3 wants it even where the body is empty.
    ...(service === 's3' && { 'x-amz-content-sha256': sha256(body) }),
  }
  const signed = Object.fromEntries(Object.entries(given).map(([name, value]) => [name.toLowerCase(), value.trim().replace(/\s+/g, ' ')]))
  const names = Object.keys(signed).sort()
  const signedHeaders = names.join(';')
  // S3 takes the path as it is sent; the other services normalise it and encode it a second time.
  const path = service === 's3' ? pathname : encodePath(pathname.replace(/\/+/g, '/'))
  // By name, then by value: a space comes before every character of an encoded name.
  const query = [...searchParams].map((pair) => pair.map(encode).join(' ')).sort().join('&').replaceAll(' ', '=')
  const canonicalRequest = [method, path, query, ...names.map((name) => `${name}:${signed[name]}`), '', signedHeaders, sha256(body)].join('\n')

  const scope = [timestamp.slice(0, 8), region, service, 'aws4_request']
  const stringToSign = ['AWS4-HMAC-SHA256', timestamp, scope.join('/'), sha256(canonicalRequest)].join('\n')
  const signingKey = scope.reduce<Buffer | string>(hmac, `AWS4${credentials.secretAccessKey}`)
  const authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope.join('/')}, SignedHeaders=${signedHeaders}, Signature=${hmac(signingKey, stringToSign).toString('hex')}`
  const { host: _, ...sent } = signed
  return { ...sent, authorization }
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

/** RFC 3986, as AWS wants it: all but letters, digits and `-._~`. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${Buffer.from(character).toString('hex').toUpperCase()}`)
}

function encodePath(path: string): string {
  return path.split('/').map(encode).join('/')
}

// ---- Credentials ----

/** Those of the environment, else those of the container endpoint. AWS's page: "Container credential provider" in the SDKs and Tools Reference Guide. */
async function getCredentials(call: Call): Promise<Credentials> {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = process.env
  if (accessKeyId && secretAccessKey) return { accessKeyId, secretAccessKey, sessionToken }
  const { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: path, AWS_CONTAINER_CREDENTIALS_FULL_URI: full } = process.env
  const url = path ? `http://169.254.170.2${path}` : full
  // Plain http only to where AWS's own endpoints are: a token that is sent anywhere else is given away.
  if (!url || !/^(https:\/\/|http:\/\/(localhost|127(\.\d+){3}|\[::1\]|169\.254\.170\.23?|\[fd00:ec2::23\])(:\d+)?\/)/.test(url)) return noCredentials()
  const slot = slotOf(url)
  const holdFor = (milliseconds: number): boolean => Date.now() + milliseconds < slot.answer?.expiresAt!
  try {
    if (!holdFor(5 * 60_000)) await refresh(slot, () => loadCredentials(call, url))
  } catch (error) {
    if (!holdFor(0)) throw error
  }
  return slot.answer!.value as Credentials
}

async function loadCredentials(call: Call, url: string): Promise<Loaded> {
  const { AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file, AWS_CONTAINER_AUTHORIZATION_TOKEN: token } = process.env
  const { readFile } = await import('node:fs/promises')
  const authorization = file ? (await readFile(file, 'utf8').catch(() => noCredentials())).trim() : token
  const { status, content } = await exchange(call, url, { method: 'GET', headers: authorization ? { authorization } : {} })
  if (status !== 200) noCredentials({ status })
  const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, Token: sessionToken, Expiration } = JSON.parse(content)
  if (!accessKeyId || !secretAccessKey) noCredentials()
  return { value: { accessKeyId, secretAccessKey, sessionToken }, expiresAt: Date.parse(Expiration) }
}

function noCredentials(details?: Partial<ErrorDetails>): never {
  return fail('NoCredentials', 'no credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, nor from AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or AWS_CONTAINER_CREDENTIALS_FULL_URI (https or a host of AWS)', details)
}

// ---- Endpoints ----
// AWS's pages: "Service-specific endpoints" and "Dual-stack and FIPS endpoints" in the SDKs and Tools Reference Guide.

const REGION = /^[a-z]{2,}(-[a-z]+)+-\d+$/

/** The DNS suffixes of the partitions, by how their regions begin. */
const DNS_SUFFIXES = {
  'cn-': 'amazonaws.com.cn',
  'us-iso-': 'c2s.ic.gov',
  'us-isob-': 'sc2s.sgov.gov',
  'eu-isoe-': 'cloud.adc-e.uk',
  'us-isof-': 'csp.hci.ic.gov',
  'eusc-': 'amazonaws.eu',
  '': 'amazonaws.com',
}

/** Without a slash at its end; for S3 with the bucket. */
function endpointOf(service: string, region: string, bucket = ''): string {
  const custom = !isOn('AWS_IGNORE_CONFIGURED_ENDPOINT_URLS') && (process.env[`AWS_ENDPOINT_URL_${service.replace('manager', '_manager').toUpperCase()}`] || process.env['AWS_ENDPOINT_URL'])
  if (!region) fail('NoRegion', 'no region: set AWS_REGION, or region')
  if (!custom && !REGION.test(region)) refuse('region', 'one such as eu-west-1', region)
  const [, suffix] = Object.entries(DNS_SUFFIXES).find(([prefix]) => region.startsWith(prefix))!
  const fips = isOn('AWS_USE_FIPS_ENDPOINT')
  const dualStack = isOn('AWS_USE_DUALSTACK_ENDPOINT')
  const isValid = custom ? /^https?:\/\/[^\s@?#]+$/.test(custom) && URL.canParse(custom) && !fips && !dualStack : suffix === 'amazonaws.com' || !(fips || dualStack)
  if (!isValid) fail('InvalidEndpoint', `AWS_ENDPOINT_URL has to be an http or https URL; FIPS and dual-stack work neither with it nor in ${region}`)
  if (custom) return new URL(custom).href.replace(/\/*$/, bucket && `/${bucket}`)
  // The plain name of SSM is the FIPS one in GovCloud; that of Secrets Manager has IPv6.
  const name = fips && (dualStack || service !== 'ssm' || !region.startsWith('us-gov-')) ? `${service}-fips` : service
  const host = `${name}${dualStack && service === 's3' ? '.dualstack' : ''}.${region}.${dualStack && service === 'ssm' ? 'api.aws' : suffix}`
  // Virtual-hosted style, for the names that the certificate for *.s3.region.amazonaws.com covers.
  return /^[a-z\d-]+$/.test(bucket) ? `https://${bucket}.${host}` : `https://${host}${bucket && `/${bucket}`}`
}

function isOn(variable: string): boolean {
  return /^true$/i.test(process.env[variable] ?? '')
}

// ---- Helpers ----

/** Waits until then at most, by `Date.now()`. */
async function within<T>(time: number, promise: Promise<T>, otherwise: () => T): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<void>((resolve) => {
    // Node has no longer timers: it would let them end at once.
    timer = setTimeout(resolve, Math.min(time - Date.now(), 2 ** 31 - 1))
  })
  return Promise.race([promise, timeout.then(otherwise)]).finally(() => clearTimeout(timer))
}
