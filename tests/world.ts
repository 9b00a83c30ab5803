/** Where the model's programs run: a clock, an event loop, a disk and AWS, none of which moves by itself. */
import { PassThrough } from 'node:stream'
import { inspect } from 'node:util'
import type { Fetch, FetchResponse } from '../lambda-cache.js'
import { virtualDate } from './instance.js'

/** What holds this word is a value or a credential: no error and no log may show it. */
export const CANARY = 'canary'

const EPOCH = Date.parse('2026-01-02T03:04:05.678Z')

interface Task {
  readonly time: number
  readonly run: () => void
}

/** A virtual clock, with Node's event loop on it: timers, then input, then immediates. */
export class Clock {
  /** Milliseconds since the start, as a monotonic clock counts them: it stands still in a frozen process. */
  monotonic = 0
  /** Milliseconds for which the event loop has been blocked, or that the clock has been set back. */
  lost = 0
  #ahead = 0
  #timers = new Set<Task>()
  #immediates: (() => void)[] = []

  readonly now = (): number => EPOCH + this.#ahead + this.monotonic
  readonly Date = virtualDate(this.now)

  readonly setTimeout = (run: () => void, milliseconds = 0): Task => {
    // As Node has it: whole milliseconds, and one at least.
    const task = { time: this.monotonic + Math.max(1, Math.trunc(milliseconds)), run }
    this.#timers.add(task)
    return task
  }

  readonly clearTimeout = (task: Task | undefined): void => {
    if (task) this.#timers.delete(task)
  }

  readonly setImmediate = (run: () => void): void => {
    this.#immediates.push(run)
  }

  /** Time passes and the event loop does not turn. */
  block(milliseconds: number): void {
    this.monotonic += milliseconds
    this.lost += milliseconds
  }

  /** The wall clock shows a later time, or with a negative number an earlier one. */
  shift(milliseconds: number): void {
    this.#ahead += milliseconds
    this.lost += Math.max(-milliseconds, 0)
  }

  async pass(milliseconds: number): Promise<void> {
    const end = this.monotonic + milliseconds
    await this.settle()
    for (;;) {
      const next = Math.min(...[...this.#timers].map(({ time }) => time))
      if (next > end) break
      this.monotonic = Math.max(this.monotonic, next)
      await this.settle()
    }
    this.monotonic = Math.max(this.monotonic, end)
  }

  /** Everything happens that takes no time. */
  async settle(): Promise<void> {
    await settled()
    for (let rounds = 0; ; rounds += 1) {
      if (rounds > 10_000) throw new Error('the event loop never comes to rest')
      const timers = [...this.#timers]
        .filter(({ time }) => time <= this.monotonic)
        .sort((one, other) => one.time - other.time)
      for (const timer of timers) {
        // One of them may clear another.
        if (!this.#timers.delete(timer)) continue
        timer.run()
        await settled()
      }
      const immediates = this.#immediates.splice(0)
      for (const run of immediates) {
        run()
        await settled()
      }
      if (!timers[0] && !immediates[0]) return
    }
  }
}

/** After everything that promises and streams lead to. */
export function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve))
}

interface DiskFile {
  readonly inode: number
  readonly isDirectory: boolean
  content: string
  modified: number
  /** When it was written, or its name or a time of it. */
  changed: number
}

/** The part of `fs` that is used, in memory. */
export class Disk {
  readonly files = new Map<string, DiskFile>()
  #inodes = 0
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  put(path: string, content: string, isDirectory = false): DiskFile {
    this.#inodes += 1
    const [modified, changed] = [this.#now(), this.#now()]
    const file = { inode: this.#inodes, content, isDirectory, modified, changed }
    this.files.set(path, file)
    return file
  }

  #get(path: string, syscall: string): DiskFile {
    const file = this.files.get(path)
    if (!file) throw refusal('ENOENT', syscall)
    return file
  }

  readonly lstatSync = (path: string) => {
    const { inode, content, modified, changed } = this.#get(path, 'lstat')
    return { ino: inode, size: content.length, mtimeMs: modified, ctimeMs: changed }
  }

  readonly realpathSync = { native: (path: string) => path }

  /** There is no /proc. */
  readonly readFileSync = (path: string) => this.#get(path, 'open').content
  readonly readlinkSync = (path: string) => this.#get(path, 'readlink').content

  readonly promises = {
    readdir: async (folder: string): Promise<string[]> =>
      [...this.files.keys()].map((path) => path.replace(`${folder}/`, '')),
    lstat: async (path: string) => this.lstatSync(path),
    rm: async (path: string, options: { readonly force?: boolean } = {}) => {
      if (options.force && !this.files.has(path)) return
      if (this.#get(path, 'rm').isDirectory) throw refusal('ERR_FS_EISDIR', 'rm')
      this.files.delete(path)
    },
    rename: async (from: string, to: string) => {
      if (this.files.get(to)?.isDirectory) throw refusal('EISDIR', 'rename')
      const file = this.#get(from, 'rename')
      file.changed = this.#now()
      this.files.set(to, file)
      this.files.delete(from)
    },
    utimes: async (path: string, _accessed: number, modified: number) => {
      const file = this.#get(path, 'utime')
      file.modified = modified * 1000
      file.changed = this.#now()
    },
    writeFile: async (path: string, body: AsyncIterable<Uint8Array> | Iterable<string>) => {
      if (this.files.has(path)) throw refusal('EEXIST', 'open')
      const file = this.put(path, '')
      for await (const piece of body) file.content += Buffer.from(piece).toString()
      file.modified = this.#now()
      file.changed = this.#now()
    },
  }
}

function refusal(code: string, syscall: string): Error {
  return Object.assign(new Error(code), { code, syscall })
}

/** A thing in AWS, as it is at one moment. */
export interface State {
  readonly version: number
  readonly isMissing: boolean
  readonly isDenied: boolean
}

export type ThingKind = 'parameter' | 'tree' | 'secret' | 'file' | 'object' | 'custom'

/** A thing in AWS, in one region of one account. */
export class Thing {
  readonly kind: ThingKind
  readonly id: string
  readonly region: string
  /** The access key of those who see it so. */
  readonly account: string
  /** What it is now. */
  state: State = { version: 0, isMissing: false, isDenied: false }
  /** Versions that no `parse` takes. */
  readonly bad = new Set<number>()

  constructor(kind: ThingKind, id: string, region: string, account: string) {
    this.kind = kind
    this.id = id
    this.region = region
    this.account = account
  }

  [inspect.custom](): string {
    return `${this.id} in ${this.region}${this.account && ` for ${this.account}`}`
  }
}

/** What a text that no `parse` takes begins with. */
export const BAD = 'bad'

/**
 * What is in a thing. In a tree, each parameter has a text of its own. An object is the same to
 * whoever downloads it; of the rest, each account sees its own.
 */
export function textOf(
  { kind, id, region, account, bad }: Thing,
  { version }: State,
  name = '',
): string {
  const owner = kind === 'file' ? '' : account
  return `${bad.has(version) ? BAD : ''}${CANARY} ${region} ${owner} ${id}${name} #${version}`
}

export const HOME = 'eu-west-1'
/** Last segments of the parameters in the tree, which come two at a time. */
export const TREE = ['/one', '/two', '/three'] as const

export class Aws {
  readonly #things = new Map<string, Thing>()
  /** Where the bucket is now. */
  bucketRegion = HOME

  thing(kind: ThingKind, id: string, region = HOME, account = ''): Thing {
    const key = `${region} ${id} ${account}`
    const found = this.#things.get(key)
    if (found) return found
    const thing = new Thing(kind, id, region, account)
    this.#things.set(key, thing)
    return thing
  }

  get things(): Iterable<Thing> {
    return this.#things.values()
  }
}

/** How a request ends. */
export type Outcome = 'whole' | 'half' | 'refused' | 'throttled' | 'broken' | 'reset'

/** A request, or the call of a `load`, which is open until something answers it. */
export class Request {
  /** In the order of everything that happens. */
  readonly order: number
  /** When it went out, by the wall clock. */
  readonly time: number
  readonly things: readonly Thing[]
  readonly action: string
  /** The things as they were when it went out. */
  readonly sent: ReadonlyMap<Thing, State>
  isOpen = true
  /** Whether it goes on when it is aborted. */
  isDeaf = false
  /** Set when nobody waits for it any more; what has no signal never learns of it. */
  readonly signal: AbortSignal | undefined
  /** Where the bucket is, if it is not where it was looked for. */
  elsewhere: () => string | undefined = () => undefined
  /** For the second half of its body. */
  rest: (() => void) | undefined
  fail!: (error: Error) => void
  respond!: (status: number, body: string, headers?: Record<string, string>) => void
  readonly input: Readonly<Record<string, unknown>>

  constructor(
    at: { readonly order: number; readonly time: number },
    action: string,
    things: readonly Thing[],
    input: Readonly<Record<string, unknown>> = {},
    signal?: AbortSignal,
  ) {
    this.order = at.order
    this.time = at.time
    this.action = action
    this.things = things
    this.input = input
    this.signal = signal
    this.sent = new Map(things.map((thing) => [thing, thing.state]))
  }

  /** The request for the first page, if it is for another one. */
  first: Request | undefined
  /** Whether it is for a page that has another one after it. */
  get hasNext(): boolean {
    return this.action === 'GetParametersByPath' && pageOf(this)[2]
  }

  [inspect.custom](): string {
    const { action, things, order, time, isOpen, signal } = this
    const ids = things.map(({ id }) => id).join()
    return `${action} ${ids} @${order} ${time} ${isOpen && 'open'} ${signal?.aborted && 'aborted'}`
  }

  /** Whether somebody may still wait for it. */
  get isUnderWay(): boolean {
    return this.isOpen && !this.signal?.aborted
  }
}

/** What hears of requests. */
export interface Listener {
  moment(): { readonly order: number; readonly time: number }
  began(request: Request): void
  /** It brought these things in these states. */
  brought(request: Request, states: ReadonlyMap<Thing, State>): void
  /** It ended without an answer, or with one that a later request may not get. */
  failed(request: Request): void
}

/** A `fetch` whose requests wait for {@link answer}. */
export function fetchFrom(aws: Aws, listener: Listener): Fetch {
  return (url, init) =>
    new Promise<FetchResponse>((resolve, reject) => {
      const { hostname, pathname } = new URL(url)
      const region = hostname.split('.').at(-3) as string
      const input = JSON.parse(init.body ?? '{}') as Record<string, unknown>
      const action = init.headers['x-amz-target']?.replace(/.*\./, '') ?? 'GetObject'
      const request = new Request(
        listener.moment(),
        action,
        thingsOf(aws, action, input, {
          uri: `s3://${hostname.split('.')[0]}${pathname}`,
          region,
          account: accountOf(init.headers.authorization),
        }),
        { ...input, etag: init.headers['if-none-match'] },
        init.signal,
      )
      request.elsewhere = () =>
        action === 'GetObject' && region !== aws.bucketRegion ? aws.bucketRegion : undefined
      const body = new PassThrough()
      // Where nobody reads the body, nobody hears of its end either.
      body.on('error', () => {})
      request.fail = (error) => {
        request.isOpen = false
        reject(error)
        body.destroy(error)
      }
      request.respond = (status, text, headers = {}) => {
        const half = text.length >> 1
        body.write(text.slice(0, half))
        request.rest = () => {
          request.isOpen = false
          body.end(text.slice(half))
        }
        const all: Record<string, string> = { ...headers, 'content-length': String(text.length) }
        const get = (name: string): string | null => all[name.toLowerCase()] ?? null
        resolve({ status, headers: { get }, body, text: async () => text })
      }
      init.signal.addEventListener('abort', () => {
        if (!request.isOpen) return
        listener.failed(request)
        if (!request.isDeaf) request.fail(init.signal.reason as Error)
      })
      listener.began(request)
    })
}

/** The access key with which a request is signed, unless it is that of the environment. */
function accountOf(authorization = ''): string {
  const [, key = ''] = /Credential=([^/]+)/.exec(authorization) ?? []
  return key.includes('provider') ? key : ''
}

function thingsOf(
  aws: Aws,
  action: string,
  input: Readonly<Record<string, unknown>>,
  from: { readonly uri: string; readonly region: string; readonly account: string },
): readonly Thing[] {
  const { uri, region, account } = from
  switch (action) {
    case 'GetParameters':
      return (input.Names as string[]).map((name) => aws.thing('parameter', name, region, account))
    case 'GetParametersByPath':
      return [aws.thing('tree', input.Path as string, region, account)]
    case 'GetSecretValue':
      return [aws.thing('secret', input.SecretId as string, region, account)]
    default:
      return [aws.thing('file', uri, HOME, account)]
  }
}

/** A `load` for a `custom` entry, whose calls wait for {@link answer}. */
export function loadFrom(thing: Thing, listener: Listener): () => Promise<string> {
  return () =>
    new Promise<string>((resolve, reject) => {
      const request = new Request(listener.moment(), 'load', [thing])
      request.fail = (error) => {
        request.isOpen = false
        reject(error)
      }
      request.respond = (_status, text) => {
        request.rest = () => {
          request.isOpen = false
          resolve(text)
        }
      }
      listener.began(request)
    })
}

/** Ends a request, or brings its first half. `isAsSent`: with what was there when it went out. */
export function answer(
  request: Request,
  outcome: Outcome,
  isAsSent: boolean,
  listener: Listener,
): void {
  const { action, rest, things } = request
  const states = new Map(
    things.map((thing) => [thing, (isAsSent && request.sent.get(thing)) || thing.state]),
  )
  if (outcome === 'refused' || outcome === 'reset') {
    listener.failed(request)
    const code = outcome === 'reset' ? 'ECONNRESET' : 'ECONNREFUSED'
    const cause = Object.assign(new Error(`${code} ${CANARY}`), { code })
    // A load's own error is passed on.
    request.fail(new TypeError('fetch failed', action === 'load' ? {} : { cause }))
  } else if (rest) {
    rest()
  } else if (outcome === 'throttled' || outcome === 'broken') {
    listener.failed(request)
    if (action === 'load') request.fail(new Error('load failed'))
    else if (outcome === 'broken') request.respond(500, `${CANARY} internal error`)
    else if (action === 'GetObject') request.respond(503, s3Error('SlowDown'))
    else request.respond(400, jsonError('ThrottlingException'))
    request.rest?.()
  } else if (request.elsewhere()) {
    const headers = { 'x-amz-bucket-region': String(request.elsewhere()) }
    request.respond(301, s3Error('PermanentRedirect'), headers)
    request.rest?.()
  } else {
    const isDenied = [...states.values()].some((state) => state.isDenied)
    // A load that rejects is tried again.
    if (action === 'load' && (isDenied || things[0]?.state.isMissing)) listener.failed(request)
    respond(request, states, isDenied)
    const end = request.rest
    if (!end) return
    request.rest = () => {
      if (!isDenied) listener.brought(request, states)
      end()
    }
    if (outcome === 'whole') request.rest()
  }
}

/** What AWS answers, in its own words. */
function respond(request: Request, states: Map<Thing, State>, isDenied: boolean): void {
  const { action, input } = request
  const [[thing, state]] = [...states] as [[Thing, State]]
  switch (action) {
    case 'load':
      if (isDenied || state.isMissing) request.fail(new Error('load failed'))
      else request.respond(200, textOf(thing, state))
      break
    case 'GetParameters':
      if (isDenied) request.respond(400, jsonError('AccessDeniedException'))
      else {
        const all = [...states]
        const found = all.filter(([, { isMissing }]) => !isMissing)
        const missing = all.filter(([, { isMissing }]) => isMissing)
        request.respond(
          200,
          JSON.stringify({
            Parameters: found.map(([thing, state]) => ({
              Name: thing.id,
              Value: textOf(thing, state),
            })),
            InvalidParameters: missing.map(([{ id }]) => id),
          }),
        )
      }
      break
    case 'GetParametersByPath':
      if (isDenied) request.respond(400, jsonError('AccessDeniedException'))
      else {
        const [from, to, hasNext] = pageOf(request)
        // A tree with nothing in it has pages, too.
        const names = state.isMissing ? [] : TREE.slice(from, to)
        request.respond(
          200,
          JSON.stringify({
            Parameters: names.map((name) => ({
              Name: thing.id + name,
              Value: textOf(thing, state, name),
            })),
            ...(hasNext && { NextToken: String(to) }),
          }),
        )
      }
      break
    case 'GetSecretValue':
      if (isDenied) request.respond(400, jsonError('AccessDeniedException'))
      else if (state.isMissing) request.respond(400, jsonError('ResourceNotFoundException'))
      else request.respond(200, JSON.stringify({ SecretString: textOf(thing, state) }))
      break
    default: {
      const etag = etagOf(thing, state.version)
      if (isDenied) request.respond(403, s3Error('AccessDenied'))
      else if (state.isMissing) request.respond(404, s3Error('NoSuchKey'))
      else if (input.etag === etag) request.respond(304, '', { etag })
      else request.respond(200, textOf(thing, state), { etag, 'last-modified': LAST_MODIFIED })
    }
  }
}

/** Which part of a tree a request is for, and whether there is more. */
function pageOf({ input }: Request): [from: number, to: number, hasNext: boolean] {
  const from = Number(input.NextToken ?? 0)
  return [from, from + 2, from + 2 < TREE.length]
}

/** In whole seconds, of which many versions can have one. */
const LAST_MODIFIED = new Date(EPOCH).toUTCString()

export function etagOf({ bad }: Thing, version: number): string {
  return bad.has(version) ? `"${BAD} ${version}"` : `"${version}"`
}

/** AWS's own sentence, which is passed on; the rest of its answer is not. */
const WHY = 'AWS says why'

function jsonError(code: string): string {
  return JSON.stringify({
    __type: `com.amazonaws#${code}`,
    message: WHY,
    detail: `${CANARY} detail`,
  })
}

function s3Error(code: string): string {
  return `<Error><Code>${code}</Code><Message>${WHY}</Message><Detail>${CANARY} detail</Detail></Error>`
}
