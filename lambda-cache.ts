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
import { isDeepStrictEqual } from 'node:util'

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
  readonly as: string
  readonly decrypt?: boolean | undefined
}

/** The SSM parameters below a path as one frozen record, keyed by the name below the path. */
export interface ParameterTreeEntry extends EntryOptions {
  /** Path that begins with `/`. A path with nothing below it gives an empty record, or `default`. */
  readonly path: string
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

/** What {@link signature} gives, in AWS's terms. */
export interface Signature {
  readonly canonicalRequest: string
  readonly stringToSign: string
  readonly headers: Record<string, string>
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
  check('handler', handler)
  const entries = toEntries(options)
  const bases = new WeakMap<object, object>()
  let snapshot: Snapshot | undefined

  // The runtime counts parameters, and takes a third one for a callback.
  async function cached(event: E, second: unknown, ...[third]: unknown[]): Promise<unknown> {
    // A handler that streams is called with (event, responseStream, context); the others may have a callback in third place.
    const streams = !!third && typeof third === 'object'
    const context = Object(streams ? third : second)
    const run = (given: Snapshot): unknown => {
      const provided = provide(context, given, bases)
      const call = handler as (...args: unknown[]) => unknown
      return streams ? call(event, second, provided) : call(event, provided)
    }
    const ahead: Promise<unknown>[] = []
    try {
      const now = Date.now()
      // A clock that has been set back says nothing of an age.
      if (snapshot?.generation !== generation || now >= snapshot.dueAt || now < snapshot.takenAt) {
        snapshot = await takeSnapshot(entries, { deadline: deadlineOf(context), ahead })
      }
      const given = snapshot
      try {
        return await run(given)
      } catch (error) {
        if (streams || !options.refreshOn?.(error)) throw error
        const renewed = await takeSnapshot(entries, { outdated: given.answers, deadline: deadlineOf(context) }).catch(() => given)
        if (isDeepStrictEqual(given.answers.map(contentOf), renewed.answers.map(contentOf))) throw error
        return await run((snapshot = renewed))
      }
    } finally {
      if (ahead.length > 0) await Promise.all(ahead)
    }
  }
  const prefetch = async (): Promise<void> => {
    snapshot = await takeSnapshot(entries)
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

/** The values of one moment, and what they were made from. */
interface Snapshot {
  readonly answers: readonly Answer[]
  readonly values: PropertyDescriptorMap
  /** That of the cache before the values were read: if anything has changed meanwhile, the next invocation looks again. */
  readonly generation: number
  /** When the first of the values expires or may be refreshed ahead of that: by `Date.now()`. */
  readonly dueAt: number
  readonly takenAt: number
  /** What the values are put on, and its prototype: that of the contexts. */
  holder?: object
  base?: object
}

/** Milliseconds before the end of an invocation, for the error to get out. */
const DEADLINE_MARGIN = 200

/** By `Date.now()`. */
function deadlineOf(context: Partial<LambdaContext>): number {
  return Date.now() + (context.getRemainingTimeInMillis?.() ?? Infinity) - DEADLINE_MARGIN
}

async function takeSnapshot(entries: readonly Entry[], occasion?: Occasion): Promise<Snapshot> {
  const before = generation
  const readings = await all(entries.map((entry) => readEntry(entry, occasion)))
  return {
    answers: readings.flatMap(({ answers }) => answers),
    values: Object.fromEntries(readings.map(({ as, value }) => [as, { value }])),
    generation: before,
    takenAt: Date.now(),
    dueAt: Math.min(...readings.map(({ dueAt }) => dueAt)),
  }
}

/** The time by `Date.now()` from which an answer may be refreshed ahead, or where that has begun, at which it expires. */
function dueAt({ arrivedAt, aheadAt }: Answer, maxAge: number): number {
  return arrivedAt + maxAge * 1000 * aheadAt
}

/** What a change of the values shows in, other than for when they came. */
function contentOf({ value, etag, missing }: Answer): unknown {
  return [value, etag, !missing]
}

/**
 * Puts an object that holds the values into the context's prototype chain: four times faster than defining the properties
 * on every context, and they stay out of `{ ...context }`, `JSON.stringify` and logs.
 */
function provide(context: object, snapshot: Snapshot, bases: WeakMap<object, object>): object {
  const prototype = Object.getPrototypeOf(context)
  if (prototype === snapshot.holder) return context
  if (prototype !== snapshot.base) {
    // A context that comes a second time has an earlier holder there, which must go.
    snapshot.base = bases.get(prototype) ?? prototype
    snapshot.holder = Object.create(snapshot.base!, snapshot.values) as object
    bases.set(snapshot.holder, snapshot.base!)
  }
  return Object.setPrototypeOf(context, snapshot.holder!)
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
  return readOne('name', name, options) as Promise<ParameterValue<O>>
}

/**
 * The SSM parameters below a path, as a frozen record keyed by the name below the path.
 *
 * @example
 * const { 'db/host': host } = await getParametersByPath('/prod/app', { recursive: true })
 */
export async function getParametersByPath<const O extends Direct<ParameterTreeEntry>>(path: string, options?: O): Promise<ParameterTree<O>> {
  return readOne('path', path, options) as Promise<ParameterTree<O>>
}

/**
 * One secret of Secrets Manager, by name or ARN.
 *
 * @example
 * const password = await getSecret('/prod/db/password', { maxAge: 0 }) // it has just been rotated
 */
export async function getSecret<const O extends Direct<SecretEntry>>(id: string, options?: O): Promise<SecretValue<O>> {
  return readOne('id', id, options) as Promise<SecretValue<O>>
}

/**
 * One S3 object: the path of the file it was downloaded to, or with `parse` or `binary` its content.
 *
 * @example
 * const model = await readFile(await getObject('s3://bucket/model.bin', { maxAge: 3600 }))
 */
export async function getObject<const O extends Direct<ObjectEntry>>(uri: string, options?: O): Promise<ObjectValue<O>> {
  return readOne('uri', uri, options) as Promise<ObjectValue<O>>
}

async function readOne(kind: Kind, id: string, options: object = {}): Promise<unknown> {
  const { value } = await readEntry(toEntry(kind, { ...options, [kind]: id, as: kind }, {}))
  return value
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
  readonly kind: Kind
  readonly as: string
  /** What it reads: one thing, or for a group one for each name. */
  readonly ids: readonly string[]
  readonly options: ReadOptions
}

/** What an entry says, or else `withCache`, or else the defaults. `file` is there for an object that is downloaded, and only then. */
type ReadOptions = EveryOption & Defaults & { readonly maxAge: number; readonly staleIfError: number; readonly decrypt: boolean }
type EveryOption = { readonly [O in keyof AllOptions]?: AllOptions[O] | undefined }
type AllOptions = ParameterEntry & ParameterGroupEntry & ParameterTreeEntry & SecretEntry & ObjectEntry & CustomEntry

/** The option that says what is asked for. */
type Kind = 'name' | 'names' | 'path' | 'id' | 'uri' | 'load'

/** Where each kind comes from, what loads it, and the options of its own. */
const KINDS: Readonly<Record<Kind, readonly [source: Source, loader: Loader, options: string]>> = {
  name: ['ssm', loadParameter, 'decrypt list'],
  names: ['ssm', loadParameter, 'decrypt'],
  path: ['ssm', loadTree, 'decrypt recursive'],
  id: ['secrets', loadSecret, 'versionId versionStage binary'],
  uri: ['s3', loadObject, 'versionId file binary'],
  load: ['custom', loadCustom, ''],
}

/** What options have to be, other than a non-empty string; `default` may be anything. */
const OPTIONS = {
  'number >= 0': 'maxAge staleIfError LAMBDA_CACHE_MAX_AGE',
  boolean: 'decrypt list recursive binary',
  function: 'fetch parse load refreshOn handler',
  array: 'ssm secrets s3 custom names',
}

/** Names that Lambda's own context has, and names that mean something to JavaScript. */
const RESERVED_NAMES =
  /^(awsRequestId|callbackWaitsForEmptyEventLoop|clientContext|done|fail|functionName|functionVersion|getRemainingTimeInMillis|identity|invokedFunctionArn|logGroupName|logStreamName|memoryLimitInMB|succeed|tenantId|__proto__|constructor|prototype)$/

/** ARNs and directory buckets are left out: they have endpoints and signatures of their own. */
const S3_URI = /^s3:\/\/(?![^/]*--xa?-s3\/)([\w.-]{3,255})\/(.+)$/s

/** Of each source's kinds, the last is the one whose entries may be plain strings. */
const SOURCES: Readonly<Record<Source, readonly Kind[]>> = { ssm: ['names', 'path', 'name'], secrets: ['id'], s3: ['uri'], custom: ['load'] }

function toEntries(options: Options): Entry[] {
  const defaults = checked(options, 'ssm secrets s3 custom refreshOn region maxAge staleIfError fetch')
  const entries = Object.entries(SOURCES).flatMap(([source, kinds]) =>
    ((options[source as Source] ?? []) as EveryOption[]).map((own) => toEntry(kinds.find((kind) => Object(own)[kind]) ?? kinds.at(-1)!, own, defaults)),
  )
  const names = entries.map(({ as }) => as)
  const refused = names.find((name, index) => RESERVED_NAMES.test(name) || names.indexOf(name) < index)
  if (refused) refuse('as', 'a name that is not taken', refused)
  return entries
}

function toEntry(kind: Kind, given: EveryOption | string, defaults: Defaults): Entry {
  const own = checked(typeof given === 'string' ? { [kind]: given } : given, `${kind} ${KINDS[kind][2]} as maxAge staleIfError region fetch default parse`)
  const options = { maxAge: Number(process.env['LAMBDA_CACHE_MAX_AGE'] || 60), staleIfError: 300, decrypt: true, ...defaults, ...own } as ReadOptions
  check('LAMBDA_CACHE_MAX_AGE', options.maxAge)
  const [one, another] = (['parse', 'list', 'binary', 'file'] as const).filter((option) => options[option])
  if (another) refuse(one!, `it without ${another}`, 'both')
  const ids = kind === 'load' ? [options.as!] : ([options[kind]].flat() as string[])
  for (const id of ids) check('name', id, kind)
  if (kind === 'uri' && !S3_URI.test(ids[0]!)) refuse(kind, 's3://bucket/key', ids[0])
  const segments = ids.map((id) => lastSegment(kind, id))
  if (new Set(segments).size < segments.length) refuse('names', 'different last segments', segments.join())
  const { as = options.names ? '' : segments[0]!, file = `/tmp/${segments[0]}` } = options
  check('as', as)
  return { kind, as, ids, options: { ...options, file: kind === 'uri' && (!one || one === 'file') ? file : undefined } }
}

/** `/prod/app/var:3` is `var`. A secret's ARN has none: it ends in random characters. */
function lastSegment(kind: Kind, id: string): string {
  const segment = id.slice(id.lastIndexOf('/') + 1)
  if (kind === 'uri') return segment
  return kind === 'id' && id.startsWith('arn:') ? '' : segment.replace(/:.*/, '')
}

/** @returns the options that are given, every one of them known and of the right type */
function checked<T extends object>(given: T, allowed: string): T {
  const options = Object.entries(Object(given)).filter(([option, value]) => value !== undefined || option === 'default')
  for (const [option, value] of options) {
    if (!allowed.split(' ').includes(option)) refuse(option, 'no such option here', value)
    if (option !== 'default') check(option, value)
  }
  return Object.fromEntries(options) as T
}

function check(option: string, value: unknown, shownAs = option): void {
  const [expected] = Object.entries(OPTIONS).find(([, names]) => names.split(' ').includes(option)) ?? ['non-empty string']
  const type = Array.isArray(value) ? 'array' : typeof value
  if (!(expected.includes(type) && value !== '' && (type !== 'number' || Number(value) >= 0))) refuse(shownAs, expected, value)
}

function refuse(option: string, expected: string, given: unknown): never {
  return fail('InvalidOptions', `${option}: expected ${expected}, got ${typeof given === 'string' ? `"${given}"` : Object(given) === given ? typeof given : given}`)
}

// ---- Cache ----

const cache = new Map<unknown, Slot>()
/** Counts the changes of the cache. */
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
  refreshing?: Promise<Answer> | undefined
  /** The last refresh ahead of time. */
  ahead?: Promise<Answer>
  retryAt?: number
}

/** What a loader brings. */
interface Loaded {
  /** A text or a file's path, bytes, the texts of a tree by name; credentials. */
  readonly value: unknown
  /** For S3: what makes the next request a conditional one. */
  readonly etag?: string | null
  readonly identity?: string | undefined
  /** For credentials: the time, in milliseconds, until which they hold. */
  readonly expiresAt?: number
  /** The error for those who have no default: AWS said that there is no such thing. */
  readonly missing?: unknown
}

interface Answer extends Loaded {
  /** By `Date.now()`: the monotonic clock may stand still while Lambda has the process frozen. */
  readonly arrivedAt: number
  /** What each `parse` made of the value. */
  readonly parsed: WeakMap<object, unknown>
  /** The part of its `maxAge` after which it is refreshed ahead: a random one, so that a fleet does not refresh in step. */
  aheadAt: number
}

/** What an entry comes to. */
interface Reading {
  readonly as: string
  readonly value: unknown
  readonly answers: readonly Answer[]
  /** As in {@link Snapshot}. */
  readonly dueAt: number
}

type Loader = (target: Target, id: string, options: ReadOptions, previous: Answer | undefined) => Promise<Loaded>

/** Why something is read. */
interface Occasion {
  /** The time by `Date.now()` until which the invocation can wait. */
  readonly deadline?: number
  /** Answers that are not good enough, however fresh. */
  readonly outdated?: readonly Answer[]
  /** Takes the refreshes ahead that the invocation is to wait for. */
  readonly ahead?: Promise<unknown>[]
}

/** What a reader wants, and how to get it. */
interface Wanted {
  readonly options: ReadOptions
  readonly id: string
  readonly host: string
  readonly slot: Slot
  readonly bring: (until?: number) => Promise<Loaded>
}

async function readEntry(entry: Entry, occasion: Occasion = {}): Promise<Reading> {
  const { kind, as, ids, options } = entry
  const loaded = await all(ids.map((id) => load(entry, id, occasion)))
  const value = kind === 'names' ? frozen(loaded.map(([, value], index) => [lastSegment(kind, ids[index]!), value])) : loaded[0]![1]
  const answers = loaded.map(([answer]) => answer)
  return { as, value, answers, dueAt: Math.min(...answers.map((answer) => dueAt(answer, options.maxAge))) }
}

async function load(entry: Entry, id: string, occasion: Occasion): Promise<readonly [answer: Answer, value: unknown]> {
  const { kind, options } = entry
  const [source, loader] = KINDS[kind]
  try {
    const { path, recursive, decrypt, versionId, versionStage, binary, file, fetch = globalThis.fetch } = options
    const service = source === 'secrets' ? 'secretsmanager' : source
    const region = options.region ?? (process.env['AWS_REGION'] || process.env['AWS_DEFAULT_REGION'] || '')
    const endpoint = kind === 'load' ? '' : endpointOf(service, region)
    const thing = options.load ?? JSON.stringify([endpoint, service, region, id, path, recursive, decrypt, versionId, versionStage, binary])
    const slot = slotOf(file ?? thing)
    if ((slot.thing ??= thing) !== thing) refuse('file', 'a file of its own', file)
    const bring = (until = Infinity): Promise<Loaded> => loader({ service, region, fetch, until }, id, options, slot.answer)
    const answer = await answerFor({ options, id, host: endpoint && new URL(endpoint).host, slot, bring }, occasion)
    return [answer, convert(options, answer)]
  } catch (error) {
    // Anything but our own comes from an answer that is not what AWS documents, such as a proxy's page: its text may quote that.
    const { message, code, ...details } = error instanceof LambdaCacheError ? error : { message: 'HTTP 200, but not with the JSON that AWS documents', code: 'InvalidAnswer', status: 200 }
    return fail(code, `${source} ${id}: ${message}`, { ...details, source, id })
  }
}

async function answerFor(wanted: Wanted, occasion: Occasion): Promise<Answer> {
  const { options, id, host, slot, bring } = wanted
  const { outdated = [], deadline = Infinity, ahead } = occasion
  const { maxAge, staleIfError } = options
  const { answer, refreshing } = slot
  const isYoungerThan = (seconds: number): boolean => {
    const age = Date.now() - slot.answer?.arrivedAt!
    return age >= 0 && age < seconds * 1000 && (!slot.answer!.missing || 'default' in options)
  }
  const isUsable = (): boolean => isYoungerThan(maxAge + staleIfError)
  if (answer && isYoungerThan(maxAge) && !outdated.includes(answer)) {
    if (ahead && Date.now() >= dueAt(answer, maxAge)) {
      // One attempt, beside the handler. If it fails, nothing happens: the value is still good.
      answer.aheadAt = 1
      const until = Math.min(Date.now() + AHEAD_LIMIT, deadline)
      const early = refresh(slot, () => bring(until))
      if (!refreshing) slot.ahead = early
      ahead.push(within<unknown>(until, early.catch(() => {}), () => {}))
    }
    return answer
  }
  if (isUsable() && Date.now() < slot.retryAt!) return answer!
  try {
    return await within(deadline, refresh(slot, bring), () => fail('Timeout', `no answer${host && ` from ${host}`} before the invocation ends${ROUTE_HINT}`))
  } catch (error) {
    // One attempt is what a refresh ahead has. Here it takes all three.
    if (refreshing && refreshing === slot.ahead && Date.now() < deadline) return answerFor(wanted, occasion)
    if (!isPassing(error) || !isUsable()) throw error
    slot.retryAt = Date.now() + RETRY_PAUSE
    if (!refreshing) console.warn(`lambda-cache: ${id}: ${(error as LambdaCacheError).message}: serving the last value`)
    return slot.answer!
  }
}

function slotOf(key: unknown): Slot {
  const slot = cache.get(key) ?? { key }
  cache.set(key, slot)
  return slot
}

/** One at a time. */
function refresh(slot: Slot, bring: () => Promise<Loaded>): Promise<Answer> {
  return (slot.refreshing ??= bring()
    .catch((error: LambdaCacheError): Loaded => {
      // That there is no such thing is an answer too, for those who have a default.
      if (/^(Parameter(Version)?NotFound|ResourceNotFoundException|NoSuch(Key|Version))$/.test(error.code)) return { value: '', missing: error }
      throw error
    })
    .then((loaded) => {
      generation += 1
      slot.retryAt = 0
      return (slot.answer = { parsed: new WeakMap(), ...loaded, arrivedAt: Date.now(), aheadAt: 0.8 + Math.random() / 5 })
    })
    .finally(() => {
      slot.refreshing = undefined
      // Those fetched longest ago come first. A failure takes no room.
      if (cache.get(slot.key) === slot && cache.delete(slot.key) && slot.answer) cache.set(slot.key, slot)
      if (cache.size > MAX_ENTRIES) cache.delete(cache.keys().next().value)
    }))
}

/** What an entry makes of an answer. */
function convert(options: ReadOptions, { value, missing, parsed }: Answer): unknown {
  const { parse, list, binary } = options
  if ('default' in options && (missing || isDeepStrictEqual(value, {}))) return options.default
  if (missing) throw missing
  if (binary) return typeof value === 'string' ? new Uint8Array(Buffer.from(value)) : value
  if (list) return Object.freeze(String(value).split(','))
  if (!parse) return value
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
  const results = await Promise.allSettled(promises)
  const errors = results.flatMap((result) => (result.status === 'rejected' ? (result.reason as LambdaCacheError) : []))
  if (errors[1]) fail(errors[0]!.code, [...new Set(errors.flatMap(({ message }) => message.split('\n')))].join('\n'), { ...errors[0]!, cause: errors })
  return Promise.all(promises)
}

// ---- Loaders ----

/** SSM names that go out together, and what comes back for each. */
interface Batch {
  readonly target: Target
  readonly names: Set<string>
  readonly found: Promise<Map<string, unknown>>
}

const openBatches = new Map<string, Batch>()

async function loadParameter(target: Target, id: string, { decrypt }: ReadOptions): Promise<Loaded> {
  // A refresh ahead has one attempt, so it shares none with the others.
  const key = JSON.stringify([target.region, target.until < Infinity, decrypt])
  let batch = openBatches.get(key)
  if (batch?.target.fetch !== target.fetch) {
    const names = new Set<string>()
    // Takes names until the end of the tick.
    const found = Promise.resolve().then(() => {
      openBatches.delete(key)
      return getParameters(target, names, decrypt)
    })
    openBatches.set(key, (batch = { target, names, found }))
  }
  const { names, found } = batch!
  // AWS takes ten at a time.
  if (names.add(id).size > 9) openBatches.delete(key)
  const values = await found.catch((error: LambdaCacheError) => {
    // It refuses all ten for one that is malformed or not allowed: then each is asked for alone.
    if (names.size < 2 || !/^(AccessDenied|Validation)/.test(error.code)) throw error
    return getParameters(target, [id], decrypt)
  })
  const value = values.get(id)
  if (typeof value !== 'string') throw value
  return { value }
}

/** API: GetParameters. */
async function getParameters(target: Target, names: Iterable<string>, decrypt: boolean): Promise<Map<string, unknown>> {
  const found = new Map<string, unknown>()
  const { Parameters, InvalidParameters = [] } = await callJson<ParametersAnswer>(target, 'ssm:GetParameters', { Names: [...names], WithDecryption: decrypt })
  for (const { Name, ARN, Selector = '', Value } of Parameters) {
    // AWS gives the name without the `:version` or `:label` that was asked for.
    const selector = Selector.replace(/^:?(?=.)/, ':')
    found.set(Name + selector, Value).set(ARN + selector, Value)
  }
  for (const name of InvalidParameters) found.set(name, new LambdaCacheError('no such parameter', { code: 'ParameterNotFound' }))
  return found
}

interface ParametersAnswer {
  readonly Parameters: readonly { readonly Name: string; readonly ARN?: string; readonly Selector?: string; readonly Value: string }[]
  readonly InvalidParameters?: readonly string[]
  readonly NextToken?: string
}

/** API: GetParametersByPath, page after page. */
async function loadTree(target: Target, id: string, { recursive, decrypt }: ReadOptions): Promise<Loaded> {
  const texts: [name: string, value: string][] = []
  let NextToken: string | undefined
  do {
    const page: ParametersAnswer = await callJson(target, 'ssm:GetParametersByPath', { Path: id, Recursive: recursive, WithDecryption: decrypt, NextToken })
    for (const { Name, Value } of page.Parameters) texts.push([Name.replace(id, '').replace(/^\//, ''), Value.toString()])
    NextToken = page.NextToken
  } while (NextToken)
  return { value: frozen(texts) }
}

/** API: GetSecretValue. */
async function loadSecret(target: Target, id: string, { versionId, versionStage, binary }: ReadOptions): Promise<Loaded> {
  const input = { SecretId: id, VersionId: versionId, VersionStage: versionStage }
  const { SecretString, SecretBinary } = await callJson<{ SecretString?: string; SecretBinary: string }>(target, 'secretsmanager:GetSecretValue', input)
  const value = SecretString ?? new Uint8Array(Buffer.from(SecretBinary, 'base64'))
  if (!binary && value !== SecretString) fail('BinarySecret', 'it is binary: ask for it with binary: true')
  return { value }
}

/** Where AWS said that a bucket is in another region than the one it was looked for in. */
const bucketRegions = new Map<string, string>()

/** API: GetObject, conditional on the ETag where the earlier content is still there. */
async function loadObject(target: Target, id: string, { file, versionId, binary }: ReadOptions, previous: Answer | undefined): Promise<Loaded> {
  const [, bucket, key] = S3_URI.exec(id) as unknown as [string, string, string]
  const etag = (!file || (await identify(file)) === previous?.identity) && previous?.etag
  const askedAt = new Date()
  const { status, headers, content } = await send<Loaded>(
    { ...target, bucket },
    versionId ? 's3:GetObjectVersion' : 's3:GetObject',
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

async function loadCustom(_: Target, __: string, { load }: ReadOptions): Promise<Loaded> {
  try {
    return { value: await load!() }
  } catch (cause) {
    if (cause instanceof LambdaCacheError) throw cause
    return fail('LoadFailed', 'load failed', { cause })
  }
}

// ---- AWS calls ----

/** Where a call goes, and by what. */
interface Target {
  readonly service: string
  readonly region: string
  readonly bucket?: string
  readonly fetch: Fetch
  /** By `Date.now()`: the time at which to give up, after one attempt. */
  readonly until: number
}

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

const ROUTE_HINT = ': in a VPC it takes a VPC endpoint or a NAT gateway'

/** The AWS JSON 1.1 protocol. */
async function callJson<T>(target: Target, action: string, input: object): Promise<T> {
  const headers = { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': action.replace('ssm:', 'AmazonSSM.').replace(':', '.') }
  const { content } = await send(target, action, '/', { method: 'POST', headers, body: JSON.stringify(input) })
  return JSON.parse(content) as T
}

/** Makes a call, up to three times where a failure may pass by itself. Each attempt is signed anew. */
async function send<T = string>(target: Target, action: string, path: string, unsigned: HttpRequest, read?: Reader<T>): Promise<Exchanged<T>> {
  const { service, bucket = '', until } = target
  let clockOffset = 0
  let moved = false
  for (let attempt = 1; ; attempt += 1) {
    try {
      const region = bucketRegions.get(bucket) ?? target.region
      const url = endpointOf(service, region, bucket) + path
      if (new URL(url).href !== url) fail('UnsupportedKey', 'no URL can carry a "." or ".." segment')
      const credentials = await getCredentials(target)
      const headers = sign({ ...unsigned, url, service, region, credentials, date: new Date(Date.now() + clockOffset) })
      const answer = await exchange(target, url, { ...unsigned, headers }, read)
      if (answer.status === 200 || (answer.status === 304 && headers['if-none-match'])) return answer
      const bucketRegion = answer.headers.get('x-amz-bucket-region')!
      if (bucket && !moved && bucketRegion !== region && REGION.test(bucketRegion)) {
        bucketRegions.set(bucket, bucketRegion)
        moved = true
        continue
      }
      if (!clockOffset && /RequestTimeTooSkewed|Signature expired|not yet current/.test(answer.content as string)) {
        clockOffset = Date.parse(answer.headers.get('date')!) - Date.now() || 0
        if (clockOffset) continue
      }
      refused(url, action, answer)
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
function refused(url: string, action: string, { status, headers, content }: Exchanged<unknown>): never {
  const [, code = `Http${status}`] = /(?:"__type": *"(?:[^"]*#)?|<Code>)(\w+)/.exec(content as string) ?? []
  const requestId = headers.get('x-amzn-requestid') ?? headers.get('x-amz-request-id')
  const hint = /^AccessDenied/.test(code) ? `: the function's role needs ${action}, and kms:Decrypt if a key of yours encrypts it` : ''
  return fail(code, `${code} (HTTP ${status}) from ${new URL(url).host}${hint}`, { status, ...(requestId && { requestId }) })
}

/** One HTTP exchange. Redirects are not followed: they would take the session token along. */
async function exchange<T = string>({ fetch, until }: Target, url: string, request: HttpRequest, read?: Reader<T>): Promise<Exchanged<T>> {
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
    if (signal.aborted) fail('Timeout', `no progress from ${host} in ${STALL_LIMIT} ms${ROUTE_HINT}`)
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
 * The part of `fetch` that is used here, over `node:https`, which loads faster than what Node's own takes. Other than that one it
 * decompresses nothing: an S3 object that is stored with a content-encoding comes as it is stored. Connections are those of Node's
 * global agents, which keep them alive.
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
  const body = untilAborted(response, init.signal)
  const text = async (): Promise<string> => new TextDecoder().decode(await readAll(body))
  return {
    status: response.statusCode!,
    headers: { get: (name) => response.headersDistinct[name.toLowerCase()]?.join(', ') ?? null },
    body,
    text,
    json: async () => JSON.parse(await text()),
  }
}

/** Node throws away what has come of an aborted response and has not been read, and then it may end as if that had been all. */
async function* untilAborted(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
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
export function sign(request: SignRequest): Record<string, string> {
  return signature(request).headers
}

/** {@link sign}, with the texts on the way to the signature, so that they can be held against AWS's examples. */
export function signature({ method, url, headers, body = '', service, region, credentials, date }: SignRequest): Signature {
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
  const signed = Object.entries(given).map(([name, value]) => [name.toLowerCase(), value.trim().replace(/\s+/g, ' ')] as const).sort()
  const signedHeaders = signed.map(([name]) => name).join(';')
  // S3 takes the path as it is sent; the other services normalise it and encode it a second time.
  const path = service === 's3' ? pathname : encodePath(pathname.replace(/\/+/g, '/'))
  // By name, then by value: a space comes before every character of an encoded name.
  const query = [...searchParams].map((pair) => pair.map(encode).join(' ')).sort().join('&').replaceAll(' ', '=')
  const canonicalRequest = [method, path, query, ...signed.map((header) => header.join(':')), '', signedHeaders, sha256(body)].join('\n')

  const scope = [timestamp.slice(0, 8), region, service, 'aws4_request']
  const stringToSign = ['AWS4-HMAC-SHA256', timestamp, scope.join('/'), sha256(canonicalRequest)].join('\n')
  const signingKey = scope.reduce<Buffer | string>(hmac, `AWS4${credentials.secretAccessKey}`)
  const authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope.join('/')}, SignedHeaders=${signedHeaders}, Signature=${hmac(signingKey, stringToSign).toString('hex')}`
  return { canonicalRequest, stringToSign, headers: { ...Object.fromEntries(signed.filter(([name]) => name !== 'host')), authorization } }
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
async function getCredentials(target: Target): Promise<Credentials> {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = process.env
  if (accessKeyId && secretAccessKey) return { accessKeyId, secretAccessKey, sessionToken }
  const { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: path, AWS_CONTAINER_CREDENTIALS_FULL_URI: full } = process.env
  const url = path ? `http://169.254.170.2${path}` : full
  // Plain http only to where AWS's own endpoints are: a token that is sent anywhere else is given away.
  if (!url || !/^(https:\/\/|http:\/\/(localhost|127(\.\d+){3}|\[::1\]|169\.254\.170\.23?|\[fd00:ec2::23\])(:\d+)?\/)/.test(url)) {
    return noCredentials('set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, or AWS_CONTAINER_CREDENTIALS_FULL_URI with https or a host of AWS')
  }
  const slot = slotOf(url)
  const { value } = Date.now() < slot.answer?.expiresAt! - 5 * 60_000 ? slot.answer! : await refresh(slot, () => loadCredentials(target, url))
  return value as Credentials
}

async function loadCredentials(target: Target, url: string): Promise<Loaded> {
  const { AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file, AWS_CONTAINER_AUTHORIZATION_TOKEN: token } = process.env
  const { readFile } = await import('node:fs/promises')
  const unreadable = (): never => noCredentials('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE cannot be read')
  const authorization = file ? (await readFile(file, 'utf8').catch(unreadable)).trim() : token
  const { status, content } = await exchange(target, url, { method: 'GET', headers: authorization ? { authorization } : {} })
  if (status !== 200) noCredentials(`HTTP ${status} from the container endpoint`)
  const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, Token: sessionToken, Expiration } = JSON.parse(content)
  if (!accessKeyId || !secretAccessKey) noCredentials('none in the answer of the container endpoint')
  return { value: { accessKeyId, secretAccessKey, sessionToken }, expiresAt: Date.parse(Expiration) }
}

function noCredentials(reason: string): never {
  return fail('NoCredentials', `no credentials: ${reason}`)
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
  if (!region || !(custom || REGION.test(region))) fail(region ? 'InvalidOptions' : 'NoRegion', `region or AWS_REGION: expected one such as "eu-west-1", got "${region}"`)
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
  if (time === Infinity) return promise
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<void>((resolve) => {
    // Node has no longer timers: it would let them end at once.
    timer = setTimeout(resolve, Math.min(time - Date.now(), 2 ** 31 - 1))
  })
  return Promise.race([promise, timeout.then(otherwise)]).finally(() => clearTimeout(timer))
}
