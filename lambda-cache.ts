/*! lambda-cache, MIT licence */
//
// SSM parameters, Secrets Manager secrets and S3 objects, read once and kept in memory between Lambda invocations:
//
//   export const handler = withCache(
//     async (event: { name: string }, context) => context.conn_string,
//     { ssm: ['/prod/app/var'], secrets: ['/prod/db/conn_string'], s3: ['s3://bucket/path/to/object.json'] },
//   )
//
// In this file, each part calling only those below it:
//   Options and types
//   Errors
//   withCache
//   Direct access
//   Entries
//   Cache
//   Loaders
//   AWS calls
//   Signature Version 4
//   Credentials
//   Endpoints
//   Helpers

import { createHash, createHmac, randomUUID } from 'node:crypto'

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
  const entries = toEntries(options)
  const bases = new WeakMap<object, object>()
  let snapshot: Snapshot | undefined

  // The runtime counts parameters, and takes a third one for a callback.
  async function cached(event: E, second: unknown, ...[third]: unknown[]): Promise<unknown> {
    // A handler that streams is called with (event, responseStream, context); the others may have a callback in third place.
    const streams = typeof third === 'object'
    const context = Object(streams ? third : second)
    const run = (given: Snapshot): unknown => {
      const provided = provide(context, given, bases)
      const call = handler as (...args: unknown[]) => unknown
      return streams ? call(event, second, provided) : call(event, provided)
    }
    if (!snapshot || !isCurrent(snapshot)) {
      snapshot = await takeSnapshot(entries, { deadline: deadlineOf(context) })
    }
    const given = snapshot
    const ahead = Date.now() < given.aheadAt ? undefined : refreshAhead(given, deadlineOf(context))
    try {
      return await run(given)
    } catch (error) {
      if (streams || !options.refreshOn?.(error)) throw error
      const renewed = await takeSnapshot(entries, { outdated: given.results, deadline: deadlineOf(context) }).catch(() => given)
      if (await isSame(given, renewed)) throw error
      return await run((snapshot = renewed))
    } finally {
      if (ahead) await ahead
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
  readonly results: readonly Result[]
  readonly values: PropertyDescriptorMap
  readonly generation: number
  /** When the first of the values expires, and when one may be refreshed ahead of that: by `Date.now()`. */
  readonly expiresAt: number
  readonly aheadAt: number
  readonly takenAt: number
  base?: object
  holder?: object
}

/** Milliseconds before the end of an invocation, for the error to get out. */
const DEADLINE_MARGIN = 200
/** Milliseconds that an invocation waits at most for what is refreshed ahead. */
const AHEAD_LIMIT = 300

/** By `Date.now()`. */
function deadlineOf(context: Partial<LambdaContext>): number {
  return Date.now() + (context.getRemainingTimeInMillis?.() ?? Infinity) - DEADLINE_MARGIN
}

function isCurrent(snapshot: Snapshot): boolean {
  const now = Date.now()
  return snapshot.generation === generation && now >= snapshot.takenAt && now < snapshot.expiresAt
}

async function takeSnapshot(entries: readonly Entry[], occasion?: Occasion): Promise<Snapshot> {
  const results: Result[] = []
  const values = await all(entries.map((entry) => valueOf(entry, results, occasion)))
  return {
    results,
    values: Object.fromEntries(entries.map(({ as }, index) => [as, { value: values[index] }])),
    // What has changed while the others were read makes the next invocation look again.
    generation: results.every(({ slot, answer }) => cache.get(slot.key)?.answer === answer) ? generation : -1,
    takenAt: Date.now(),
    expiresAt: Math.min(...results.map((result) => dueAt(result, 1))),
    aheadAt: Math.min(...results.map((result) => dueAt(result))),
  }
}

/** The time by `Date.now()` at which a value has reached that part of its `maxAge`. */
function dueAt({ read, answer }: Result, part = answer.aheadAt): number {
  return answer.arrivedAt + read.maxAge * 1000 * part
}

/** One attempt for what is nearly out of date, beside the handler. If it fails, nothing happens: the value is still good. */
async function refreshAhead({ results }: Snapshot, deadline: number): Promise<void> {
  const now = Date.now()
  const until = Math.min(now + AHEAD_LIMIT, deadline)
  const due = results.filter((result) => now >= dueAt(result) && now < dueAt(result, 1))
  const refreshes = due.map(({ read, answer }) => {
    answer.aheadAt = 1
    return load(read, { outdated: due, until })
  })
  await within<unknown>(until, Promise.allSettled(refreshes), () => {})
}

async function isSame(one: Snapshot, other: Snapshot): Promise<boolean> {
  const { isDeepStrictEqual } = await import('node:util')
  const answersOf = ({ results }: Snapshot): unknown => results.map(({ answer: { value, etag, missing } }) => [value, etag, !missing])
  return isDeepStrictEqual(answersOf(one), answersOf(other))
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

/** What `getParameter`, `getParametersByPath`, `getSecret` and `getObject` take: what an entry says, and `fetch`. */
type Direct<E> = Omit<E, 'as' | 'name' | 'path' | 'id' | 'uri'> & Pick<Defaults, 'fetch'>

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

function readOne(kind: Kind, id: string, options: object = {}): Promise<unknown> {
  return valueOf(toEntry(kind, { ...options, [kind]: id, as: kind }, {}, 'staleIfError fetch'))
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
  readonly as: string
  /** What it reads: one thing, or for a group one for each name. */
  readonly reads: readonly Read[]
  /** The keys of a group's record. */
  readonly keys: readonly string[] | undefined
}

/** One thing to read, from the cache or from AWS. */
interface Read {
  readonly kind: Kind
  readonly id: string
  readonly options: EveryOption & Defaults
  readonly maxAge: number
  /** Where an S3 object is downloaded to; without it, the content stays in memory. */
  readonly file: string | undefined
}

type EveryOption = { readonly [O in keyof AllOptions]?: AllOptions[O] | undefined }
type AllOptions = ParameterEntry & ParameterGroupEntry & ParameterTreeEntry & SecretEntry & ObjectEntry & CustomEntry

/** The option that says what is asked for. */
type Kind = 'name' | 'names' | 'path' | 'id' | 'uri' | 'load'

const KINDS: Readonly<Record<Kind, readonly [source: Source, loader: Loader, options: string]>> = {
  name: ['ssm', loadParameter, 'decrypt list region default parse'],
  names: ['ssm', loadParameter, 'decrypt region default parse'],
  path: ['ssm', loadTree, 'decrypt recursive region default parse'],
  id: ['secrets', loadSecret, 'versionId versionStage binary region default parse'],
  uri: ['s3', loadObject, 'versionId file binary region default parse'],
  load: ['custom', loadCustom, ''],
}

/** Every option, by what it has to be. */
const OPTIONS = {
  'non-empty string': 'as region name path id uri versionId versionStage file',
  'number >= 0': 'maxAge staleIfError',
  boolean: 'decrypt list recursive binary',
  function: 'fetch parse load refreshOn',
  array: 'ssm secrets s3 custom names',
}

/** Names that Lambda's own context has, and names that mean something to JavaScript. */
const RESERVED_NAMES =
  /^(awsRequestId|callbackWaitsForEmptyEventLoop|clientContext|done|fail|functionName|functionVersion|getRemainingTimeInMillis|identity|invokedFunctionArn|logGroupName|logStreamName|memoryLimitInMB|succeed|tenantId|__proto__|constructor|prototype)$/

/** ARNs and directory buckets are left out: they have endpoints and signatures of their own. */
const S3_URI = /^s3:\/\/(?![^/]*--xa?-s3\/)([\w.-]{3,255})\/(.+)$/s

function toEntries(options: Options): Entry[] {
  const { ssm = [], secrets = [], s3 = [], custom = [], refreshOn: _, ...defaults } = checked(options, 'ssm secrets s3 custom refreshOn region maxAge staleIfError fetch')
  const entries = [
    ...ssm.map((given: EveryOption | string) => toEntry(Object(given).names ? 'names' : Object(given).path ? 'path' : 'name', given, defaults)),
    ...secrets.map((given) => toEntry('id', given, defaults)),
    ...s3.map((given) => toEntry('uri', given, defaults)),
    ...custom.map((given) => toEntry('load', given, defaults)),
  ]
  const names = entries.map(({ as }) => as)
  const refused = names.find((name, index) => RESERVED_NAMES.test(name) || names.indexOf(name) < index)
  if (refused) refuse('as', 'a name that is not taken', refused)
  return entries
}

function toEntry(kind: Kind, given: EveryOption | string, defaults: Defaults = {}, direct = ''): Entry {
  const options: EveryOption & Defaults = { ...defaults, ...checked(typeof given === 'string' ? { [kind]: given } : given, `${kind} ${KINDS[kind][2]} as maxAge ${direct}`) }
  const exclusive = (['parse', 'list', 'binary', 'file'] as const).filter((option) => options[option])
  if (exclusive[1]) refuse(exclusive[0]!, 'it without ' + exclusive[1], 'both')
  if (!options[kind]) refuse(kind, 'it to be there', options[kind])
  const reads = (kind === 'load' ? [options.as] : [options[kind]].flat()).map((id) => toRead(kind, id, options))
  const keys = reads.map(({ id }) => lastSegment(kind, id))
  if (new Set(keys).size < keys.length) refuse('names', 'different last segments', keys.join())
  const { as = options.names ? '' : keys[0] } = options
  return { as: as || refuse('as', 'a name for what has none', as), reads, keys: options.names && keys }
}

function toRead(kind: Kind, id: unknown, options: EveryOption & Defaults): Read {
  const { maxAge = Number(process.env['LAMBDA_CACHE_MAX_AGE'] || 60), parse, binary } = options
  if (!(maxAge >= 0)) refuse('LAMBDA_CACHE_MAX_AGE', 'number >= 0', maxAge)
  if (!id || typeof id !== 'string') return refuse(kind, 'non-empty string', id)
  if (kind === 'uri' && !S3_URI.test(id)) refuse(kind, 's3://bucket/key, the bucket by its name or alias', id)
  const { file = `/tmp/${lastSegment(kind, id)}` } = options
  return { kind, id, options, maxAge, file: kind === 'uri' && !parse && !binary ? file : undefined }
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
    const [expected] = Object.entries(OPTIONS).find(([, names]) => names.split(' ').includes(option)) ?? ['']
    const type = Array.isArray(value) ? 'array' : typeof value
    const holds = expected.includes(type) && value !== '' && (type !== 'number' || Number(value) >= 0)
    if (expected && !holds) refuse(option, expected, value)
  }
  return Object.fromEntries(options) as T
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

interface Slot {
  readonly key: unknown
  /** What is read. An object that is downloaded has its file as the key, since no two may share one. */
  thing?: unknown
  answer?: Answer
  /** The refresh that is under way: whoever needs one meanwhile waits for this. */
  refreshing?: Promise<Answer> | undefined
  isAhead?: boolean
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
}

interface Answer extends Loaded {
  /** By `Date.now()`: the monotonic clock may stand still while Lambda has the process frozen. */
  readonly arrivedAt: number
  /** The error for those who have no default: AWS said that there is no such thing. */
  readonly missing?: unknown
  /** What each `parse` made of the value. */
  readonly parsed: WeakMap<object, unknown>
  /** The part of its `maxAge` after which it is refreshed ahead: a random one, so that a fleet does not refresh in step. */
  aheadAt: number
}

/** What a handler is given for a read, and the answer that it was made from. */
interface Result {
  readonly read: Read
  readonly slot: Slot
  readonly answer: Answer
  readonly value: unknown
}

type Loader = (target: Target, read: Read, previous: Answer | undefined) => Promise<Loaded>

/** Why something is read. */
interface Occasion {
  /** The time by `Date.now()` until which the invocation can wait. */
  readonly deadline?: number
  /** Answers that are not good enough, however fresh. */
  readonly outdated?: readonly { readonly answer: Answer }[]
  /** For a refresh ahead: the time by `Date.now()` at which to give up. */
  readonly until?: number
}

async function valueOf({ reads, keys }: Entry, results: Result[] = [], occasion: Occasion = {}): Promise<unknown> {
  const own = await all(reads.map((read) => load(read, occasion)))
  results.push(...own)
  return keys ? frozen(own.map(({ value }, index) => [keys[index]!, value])) : own[0]!.value
}

async function load(read: Read, occasion: Occasion): Promise<Result> {
  const { kind, id, options, file } = read
  const [source] = KINDS[kind]
  try {
    const target = toTarget(source, options, occasion.until)
    const { path, recursive, decrypt = true, versionId, versionStage, binary } = options
    const thing = options.load ?? JSON.stringify([target.service, target.region, target.endpoint, id, path, recursive, decrypt, versionId, versionStage, binary])
    const slot = slotOf(file ?? thing)
    if ((slot.thing ??= thing) !== thing) refuse('file', 'a path that no other object is downloaded to', file)
    const answer = await answerFor(read, slot, target, occasion)
    return { read, slot, answer, value: convert(read, answer) }
  } catch (error) {
    // Anything but our own comes from an answer that is not what AWS documents, such as a proxy's page: its text may quote that.
    const { message, ...details } = error instanceof LambdaCacheError ? error : { message: 'HTTP 200, but not with the JSON that AWS documents', code: 'InvalidAnswer', status: 200 }
    throw new LambdaCacheError(`${source} ${id}: ${message}`, { ...details, source, id })
  }
}

async function answerFor(read: Read, slot: Slot, target: Target, occasion: Occasion): Promise<Answer> {
  const { answer, refreshing, isAhead } = slot
  const { outdated = [], deadline = Infinity, until } = occasion
  if (answer && isFresh(answer, read) && !outdated.some((result) => result.answer === answer)) return answer
  const isUsable = (): boolean => !!slot.answer && isFresh(slot.answer, read, read.options.staleIfError ?? 300)
  if (!until && isUsable() && Date.now() < slot.retryAt!) return answer!
  try {
    return await within(deadline, refresh(slot, !!until, () => KINDS[read.kind][1](target, read, answer)), () =>
      fail('Timeout', `still waiting for ${hostOf(target.endpoint)} as the invocation ends${ROUTE_HINT}`),
    )
  } catch (error) {
    if (until) throw error
    // One attempt is what a refresh ahead has. Here it takes all three.
    if (isAhead && refreshing) return answerFor(read, slot, target, occasion)
    if (!isPassing(error) || !isUsable()) throw error
    slot.retryAt = Date.now() + RETRY_PAUSE
    if (!refreshing) console.warn(`lambda-cache: ${read.id}: ${(error as LambdaCacheError).message}: serving the last value`)
    return slot.answer!
  }
}

function isFresh({ arrivedAt, missing }: Answer, { maxAge, options }: Read, extra = 0): boolean {
  const age = Date.now() - arrivedAt
  return age >= 0 && age < (maxAge + extra) * 1000 && (!missing || 'default' in options)
}

function slotOf(key: unknown): Slot {
  const slot = cache.get(key) ?? { key }
  cache.set(key, slot)
  return slot
}

/** One at a time. */
function refresh(slot: Slot, isAhead: boolean, loader: () => Promise<Loaded>): Promise<Answer> {
  if (slot.refreshing) return slot.refreshing
  const isKept = (): boolean => cache.get(slot.key) === slot
  slot.isAhead = isAhead
  return (slot.refreshing = loader()
    .catch((error: LambdaCacheError) => {
      // That there is no such thing is an answer too, for those who have a default.
      if (/^(Parameter(Version)?NotFound|ResourceNotFoundException|NoSuchKey|NoSuchVersion)$/.test(error.code)) return { value: '', missing: error }
      // A failure takes no room.
      if (!slot.answer && isKept()) cache.delete(slot.key)
      throw error
    })
    .then((loaded) => {
      slot.retryAt = 0
      slot.answer = { parsed: new WeakMap(), ...loaded, arrivedAt: Date.now(), aheadAt: 0.8 + Math.random() / 5 }
      generation += 1
      // Those fetched longest ago come first.
      if (isKept()) cache.delete(slot.key) && cache.set(slot.key, slot)
      for (const key of cache.keys()) if (cache.size > MAX_ENTRIES) cache.delete(key)
      return slot.answer
    })
    .finally(() => (slot.refreshing = undefined)))
}

/** What an entry makes of an answer. */
function convert({ kind, options }: Read, { value, missing, parsed }: Answer): unknown {
  const { parse, list, binary } = options
  if ('default' in options && (missing || (kind === 'path' && !Object.keys(value as object)[0]))) return options.default
  if (missing) throw missing
  if (binary) return new Uint8Array(Buffer.from(value as string))
  if (kind === 'id' && typeof value !== 'string') fail('BinarySecret', 'it is binary: ask for it with binary: true')
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
  if (errors[1]) throw new LambdaCacheError([...new Set(errors.flatMap(({ message }) => message.split('\n')))].join('\n'), { ...errors[0]!, cause: errors })
  return Promise.all(promises)
}

// ---- Loaders ----

/** SSM names that go out together, and what comes back for each. */
interface Batch {
  readonly names: Set<string>
  readonly fetch: Fetch
  readonly found: Promise<Map<string, unknown>>
}

const openBatches = new Map<string, Batch>()

async function loadParameter(target: Target, { id, options: { decrypt = true } }: Read): Promise<Loaded> {
  const key = JSON.stringify([target, decrypt])
  const open = openBatches.get(key)
  const batch = open?.fetch === target.fetch ? open : openBatch(key, target, decrypt)
  // AWS takes ten at a time.
  if (batch.names.add(id).size > 9) openBatches.delete(key)
  const found = await batch.found.catch((error: LambdaCacheError) => {
    // AWS refuses all ten for one that is malformed or not allowed: then each is asked for alone.
    if (batch.names.size < 2 || !/^(AccessDenied|Validation)/.test(error.code)) throw error
    return getParameters(target, [id], decrypt)
  })
  const value = found.get(id)
  if (typeof value !== 'string') throw value
  return { value }
}

/** Takes names until the end of the tick. */
function openBatch(key: string, target: Target, decrypt: boolean): Batch {
  const names = new Set<string>()
  const found = Promise.resolve().then(() => {
    openBatches.delete(key)
    return getParameters(target, names, decrypt)
  })
  const batch = { names, found, fetch: target.fetch }
  openBatches.set(key, batch)
  return batch
}

/** API: GetParameters. */
async function getParameters(target: Target, names: Iterable<string>, decrypt: boolean): Promise<Map<string, unknown>> {
  const found = new Map<string, unknown>()
  const input = { Names: [...names], WithDecryption: decrypt }
  const { Parameters, InvalidParameters = [] } = await callJson<ParametersAnswer>(target, 'ssm:GetParameters', input)
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
async function loadTree(target: Target, { id, options: { recursive = false, decrypt = true } }: Read): Promise<Loaded> {
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
async function loadSecret(target: Target, { id, options: { versionId, versionStage } }: Read): Promise<Loaded> {
  const input = { SecretId: id, VersionId: versionId, VersionStage: versionStage }
  const { SecretString, SecretBinary } = await callJson<{ SecretString?: string; SecretBinary: string }>(target, 'secretsmanager:GetSecretValue', input)
  return { value: SecretString ?? new Uint8Array(Buffer.from(SecretBinary, 'base64')) }
}

/** Where AWS said that a bucket is in another region than the one it was looked for in. */
const bucketRegions = new Map<string, string>()

/** API: GetObject, conditional on the ETag where the earlier content is still there. */
async function loadObject(target: Target, { id, file, options: { versionId, binary } }: Read, previous: Answer | undefined): Promise<Loaded> {
  const [, bucket = '', key = ''] = S3_URI.exec(id)!
  const etag = (!file || (previous && (await identify(file)) === previous.identity)) && previous?.etag
  const conditions: Record<string, string> = etag ? { 'if-none-match': etag } : {}
  return send(target, {
    action: versionId ? 's3:GetObjectVersion' : 's3:GetObject',
    bucket,
    request: (endpoint) => {
      const url = `${endpoint}/${encodePath(key)}`
      if (new URL(url).href !== url) fail('UnsupportedKey', 'a URL cannot carry a key with a segment "." or ".."')
      return { method: 'GET', url: versionId ? `${url}?versionId=${encode(versionId)}` : url, headers: conditions }
    },
    read: async ({ status, headers }, body) => {
      if (status === 304) return previous!
      const loaded = file ? await download(file, body) : { value: binary ? new Uint8Array(await readAll(body)) : await readText(body) }
      return { ...loaded, etag: headers.get('etag') }
    },
  })
}

/** Downloads beside the target and renames: a reader sees the old file or the new one, and a failure leaves the old one. */
async function download(file: string, body: AsyncIterable<Uint8Array>): Promise<Loaded> {
  const { rename, rm, writeFile } = await import('node:fs/promises')
  const temporary = `${file}.${randomUUID()}`
  try {
    // Exclusive creation follows no link that somebody left there.
    await writeFile(temporary, body, { flag: 'wx', mode: 0o600 })
    const identity = await identify(temporary)
    await rename(temporary, file)
    return { value: file, identity }
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {})
    const { syscall = 'read', code } = cause as NodeJS.ErrnoException
    // The body's own errors go on as they are.
    throw syscall === 'read' ? cause : new LambdaCacheError(`cannot write ${file} (${code})`, { code: 'FileError', cause })
  }
}

/** What tells whether a file is still the one that was written. */
async function identify(file: string): Promise<string | undefined> {
  const { lstat } = await import('node:fs/promises')
  return lstat(file).then(({ ino, size, mtimeMs }) => [ino, size, mtimeMs].join(), () => undefined)
}

async function loadCustom(_: Target, { options }: Read): Promise<Loaded> {
  try {
    return { value: await options.load!() }
  } catch (cause) {
    throw cause instanceof LambdaCacheError ? cause : new LambdaCacheError('load failed', { code: 'LoadFailed', cause })
  }
}

// ---- AWS calls ----

/** Where a call goes, and by what. */
interface Target {
  readonly service: string
  readonly region: string
  readonly endpoint: string
  readonly fetch: Fetch
  /** By `Date.now()`: the time at which to give up, after one attempt. */
  readonly until: number
}

interface HttpRequest {
  readonly method: string
  readonly url: string
  readonly headers: Record<string, string>
  readonly body?: string
}

interface Call<T> {
  /** As IAM knows it: `ssm:GetParameters`. */
  readonly action: string
  readonly bucket?: string
  /** Makes the request, from the endpoint: without a slash at its end, for S3 with the bucket. */
  readonly request: (endpoint: string) => HttpRequest
  readonly read: Reader<T>
}

type Reader<T> = (response: FetchResponse, body: AsyncIterable<Uint8Array>) => Promise<T>

const MAX_ATTEMPTS = 3
/** Milliseconds without any progress after which an attempt is given up. */
const STALL_LIMIT = 2000
/** Bytes of an answer in JSON or XML: far more than AWS ever sends. */
const MAX_ANSWER_SIZE = 8 * 1024 * 1024

/** By error code and HTTP status. */
const THROTTLING = /Throttl|Exceeded|SlowDown|TooManyRequests|NotComplete|InProgress| 429$/
const PASSING = RegExp(`${THROTTLING.source}|^(Timeout|NetworkError|RequestTimeout|LoadFailed)| 50[0234]$`)

const ROUTE_HINT = ': in a VPC it takes a VPC endpoint or a NAT gateway'

/** The AWS JSON 1.1 protocol. */
async function callJson<T>(target: Target, action: string, input: object): Promise<T> {
  const headers = { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': action.replace('ssm:', 'AmazonSSM.').replace(':', '.') }
  const answer = await send(target, {
    action,
    request: (endpoint) => ({ method: 'POST', url: `${endpoint}/`, headers, body: JSON.stringify(input) }),
    read: (_, body) => readText(body, MAX_ANSWER_SIZE),
  })
  return JSON.parse(answer) as T
}

/** Makes a call, up to three times where a failure may pass by itself. Each attempt is signed anew. */
async function send<T>(target: Target, { action, bucket, request, read }: Call<T>): Promise<T> {
  const { service, until } = target
  let clockOffset = 0
  let moved = false
  for (let attempt = 1; ; attempt += 1) {
    let corrected = false
    try {
      const region = bucketRegions.get(bucket!) ?? target.region
      const unsigned = request(endpointOf(service, region, bucket))
      const credentials = await getCredentials(target)
      const headers = sign({ ...unsigned, region, service, credentials, date: new Date(Date.now() + clockOffset) })
      return await exchange(target, { ...unsigned, headers }, async (response, body) => {
        const { status, headers: answered } = response
        if (status === 200 || (status === 304 && headers['if-none-match'])) return read(response, body)
        const text = await readText(body, MAX_ANSWER_SIZE)
        const bucketRegion = answered.get('x-amz-bucket-region') ?? ''
        if (bucket && !moved && bucketRegion !== region && REGION.test(bucketRegion)) {
          bucketRegions.set(bucket, bucketRegion)
          corrected = moved = true
        }
        if (!clockOffset && /RequestTimeTooSkewed|Signature expired|not yet current/.test(text)) {
          clockOffset = Date.parse(answered.get('date') ?? '') - Date.now() || 0
          corrected = clockOffset !== 0
        }
        throw toFailure(unsigned.url, action, response, text)
      })
    } catch (error) {
      if (attempt >= MAX_ATTEMPTS || !(corrected || (isPassing(error) && until === Infinity))) throw error
      const pause = corrected ? 0 : isPassing(error, THROTTLING) ? 1000 : 50
      await new Promise((resolve) => setTimeout(resolve, Math.random() * attempt * pause))
    }
  }
}

function isPassing(error: unknown, kinds = PASSING): boolean {
  const { code, status } = error as LambdaCacheError
  return kinds.test(`${code} ${status}`)
}

/** What AWS answered instead of doing it. Its own text stays out of the error: it can quote the request, token and all. */
function toFailure(url: string, action: string, { status, headers }: FetchResponse, text: string): LambdaCacheError {
  const [, code = `Http${status}`] = /(?:"__type": *"(?:[^"]*#)?|<Code>)(\w+)/.exec(text) ?? []
  const requestId = headers.get('x-amzn-requestid') ?? headers.get('x-amz-request-id')
  const hint = /^AccessDenied/.test(code) ? `: the function's role needs ${action}, and kms:Decrypt if a key of yours encrypts it` : ''
  return new LambdaCacheError(`${code} (HTTP ${status}) from ${hostOf(url)}${hint}`, { code, status, ...(requestId && { requestId }) })
}

/** One HTTP exchange. Redirects are not followed: they would take the session token along. */
async function exchange<T>({ fetch, until }: Target, { url, ...request }: HttpRequest, read: Reader<T>): Promise<T> {
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
    return await read(response, pieces(response, progress))
  } catch (error) {
    throw toNetworkError(hostOf(url), signal.aborted, error)
  } finally {
    clearTimeout(timer)
    // Whatever has not been read is not wanted.
    controller.abort()
  }
}

/** The body, piece by piece. Fails where it ends before its length. */
async function* pieces(response: FetchResponse, progress: () => void): AsyncGenerator<Uint8Array> {
  const { headers, body } = response
  let size = 0
  for await (const piece of body ?? [Buffer.from(await response.text())]) {
    progress()
    size += piece.length
    yield piece
  }
  // Where there is a content-encoding, fetch has taken it off: the length is that of something else.
  const length = !headers.get('content-encoding') && headers.get('content-length')
  if (length && size !== Number(length)) fail('NetworkError', 'the answer was cut short')
}

function toNetworkError(host: string, timedOut: boolean, error: unknown): unknown {
  const { cause, code = cause?.code } = Object(error) as { code?: string; cause?: { code?: string } }
  if (error instanceof LambdaCacheError) return error
  if (timedOut) return new LambdaCacheError(`no progress from ${host} in ${STALL_LIMIT} ms${ROUTE_HINT}`, { code: 'Timeout' })
  // ECONNRESET and the like may pass; a certificate that is wrong will stay so. The error itself is not passed on: it can quote a header.
  return new LambdaCacheError(`no answer from ${host} (${code})`, { code: /^(E(?!RR)|UND_ERR|HPE)/.test(code!) ? 'NetworkError' : 'RequestFailed' })
}

async function readAll(body: AsyncIterable<Uint8Array>, limit = Infinity): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body) {
    chunks.push(chunk)
    size += chunk.length
    if (size > limit) fail('InvalidAnswer', `more than ${limit} bytes`)
  }
  return Buffer.concat(chunks)
}

async function readText(body: AsyncIterable<Uint8Array>, limit?: number): Promise<string> {
  return new TextDecoder().decode(await readAll(body, limit))
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
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
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
  const uri = path ? `http://169.254.170.2${path}` : full
  if (!uri) return fail('NoCredentials', 'none in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_CREDENTIALS_FULL_URI')
  const slot = slotOf(uri)
  const holds = slot.answer && Date.now() < slot.answer.expiresAt! - 5 * 60_000
  return (holds ? slot.answer! : await refresh(slot, false, () => loadCredentials(target, uri))).value as Credentials
}

async function loadCredentials(target: Target, url: string): Promise<Loaded> {
  // Plain http only to where AWS's own endpoints are: a token that is sent anywhere else is given away.
  if (!/^(https:\/\/|http:\/\/(localhost|127(\.\d+){3}|\[::1\]|169\.254\.170\.23?|\[fd00:ec2::23\])(:\d+)?\/)/.test(url)) {
    fail('NoCredentials', 'AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor on a host of ECS, EKS or this one')
  }
  const { AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file, AWS_CONTAINER_AUTHORIZATION_TOKEN: token } = process.env
  const authorization = file ? await readToken(file) : token
  const answer = await exchange(target, { method: 'GET', url, headers: authorization ? { authorization } : {} }, async ({ status }, body) => {
    const text = await readText(body, MAX_ANSWER_SIZE)
    return status === 200 ? text : fail('NoCredentials', `no credentials: HTTP ${status} from the container endpoint`)
  })
  const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, Token: sessionToken, Expiration } = JSON.parse(answer)
  if (!accessKeyId || !secretAccessKey) fail('NoCredentials', 'no credentials: none in the answer of the container endpoint')
  return { value: { accessKeyId, secretAccessKey, sessionToken }, expiresAt: Date.parse(Expiration) }
}

async function readToken(file: string): Promise<string> {
  const { readFile } = await import('node:fs/promises')
  return readFile(file, 'utf8').then(
    (text) => text.trim(),
    () => fail('NoCredentials', 'no credentials: AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE cannot be read'),
  )
}

// ---- Endpoints ----
// AWS's pages: "Service-specific endpoints" and "Dual-stack and FIPS endpoints" in the SDKs and Tools Reference Guide.

const REGION = /^[a-z]{2,}(-[a-z]+)+-\d+$/

/** The DNS suffixes of the partitions, by how their regions begin. */
const DNS_SUFFIXES = [
  ['cn-', 'amazonaws.com.cn'],
  ['us-iso-', 'c2s.ic.gov'],
  ['us-isob-', 'sc2s.sgov.gov'],
  ['eu-isoe-', 'cloud.adc-e.uk'],
  ['us-isof-', 'csp.hci.ic.gov'],
  ['eusc-', 'amazonaws.eu'],
  ['', 'amazonaws.com'],
] as const

function toTarget(source: Source, { region: given, fetch = globalThis.fetch }: Defaults, until = Infinity): Target {
  const region = given ?? (process.env['AWS_REGION'] || process.env['AWS_DEFAULT_REGION'] || '')
  const service = source === 'secrets' ? 'secretsmanager' : source
  return { service, region, endpoint: source === 'custom' ? '' : endpointOf(service, region), fetch, until }
}

/** Without a slash at its end; for S3 with the bucket. */
function endpointOf(service: string, region: string, bucket = ''): string {
  const variable = `AWS_ENDPOINT_URL_${service === 'secretsmanager' ? 'SECRETS_MANAGER' : service.toUpperCase()}`
  const custom = process.env[variable] || process.env['AWS_ENDPOINT_URL']
  const path = bucket && `/${bucket}`
  if (!region) fail('NoRegion', 'no region: set AWS_REGION or the option region')
  const fips = isOn('AWS_USE_FIPS_ENDPOINT')
  const dualStack = isOn('AWS_USE_DUALSTACK_ENDPOINT')
  if (custom && !isOn('AWS_IGNORE_CONFIGURED_ENDPOINT_URLS')) {
    if (fips || dualStack || !/^https?:\/\/[^\s@?#]+$/.test(custom) || !URL.canParse(custom)) fail('InvalidEndpoint', `AWS_ENDPOINT_URL has to be an http or https URL, and goes with neither FIPS nor dual-stack`)
    return new URL(custom).href.replace(/\/*$/, path)
  }
  if (!REGION.test(region)) refuse('region', 'one such as "eu-west-1"', region)
  const [, suffix] = DNS_SUFFIXES.find(([prefix]) => region.startsWith(prefix))!
  if ((fips || dualStack) && suffix !== 'amazonaws.com') fail('InvalidEndpoint', `FIPS and dual-stack endpoints are not known in ${region}`)
  // The plain name of SSM is the FIPS one in GovCloud; that of Secrets Manager has IPv6.
  const name = fips && (dualStack || service !== 'ssm' || !region.startsWith('us-gov-')) ? `${service}-fips` : service
  const host = `${name}${dualStack && service === 's3' ? '.dualstack' : ''}.${region}.${dualStack && service === 'ssm' ? 'api.aws' : suffix}`
  // Virtual-hosted style, for the names that the certificate for *.s3.region.amazonaws.com covers.
  return /^[a-z\d-]+$/.test(bucket) ? `https://${bucket}.${host}` : `https://${host}${path}`
}

function isOn(variable: string): boolean {
  return /^true$/i.test(process.env[variable] ?? '')
}

// ---- Helpers ----

function hostOf(url: string): string {
  return url && new URL(url).host
}

/** Waits until then, by `Date.now()`, at most. */
async function within<T>(time: number, promise: Promise<T>, otherwise: () => T): Promise<T> {
  if (time === Infinity) return promise
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, time - Date.now())
  })
  return Promise.race([promise, timeout.then(otherwise)]).finally(() => clearTimeout(timer))
}
