/** A program as it runs: the file, what surrounds it, and a record of what has happened. */
import { inspect } from 'node:util'
import type * as Library from '../lambda-cache.js'
import type { Options } from '../lambda-cache.js'
import { lambdaContext } from './context.js'
import type { Instantiate } from './instance.js'
import {
  type Delivery,
  isYoungerThan,
  OF_COLD_STARTS,
  OF_CONTEXTS,
  OF_DIRECT_ACCESS,
  OF_ENDS,
  OF_ERRORS,
  OF_RECOVERY,
  OF_REQUESTS,
  OF_REST,
  OF_RUNS,
  OF_VALUES,
  type Reader,
  type Served,
  type Want,
} from './laws.js'
import { SharedStorage } from './storage.js'
import {
  Aws,
  answer,
  BAD,
  CANARY,
  Clock,
  Disk,
  etagOf,
  fetchFrom,
  HOME,
  type Listener,
  loadFrom,
  type Outcome,
  type Request,
  type State,
  settled,
  type Thing,
  type ThingKind,
  TREE,
  textOf,
} from './world.js'

// ---- Programs ----

/** An entry of a wrapper. */
export interface EntryPlan {
  readonly kind: ThingKind | 'group'
  /** Which thing of that kind. */
  readonly index: number
  readonly region?: string | undefined
  readonly maxAge?: number | undefined
  readonly hasDefault: boolean
  readonly parse?: 'a' | 'b' | undefined
}

/** A wrapped function. */
export interface WrapperPlan {
  readonly entries: readonly EntryPlan[]
  readonly maxAge?: number | undefined
  readonly staleIfError?: number | undefined
  readonly refreshes: boolean
  /** Whether its names are those of other wrappers, too. */
  readonly sharesNames: boolean
  /** Whether it has a provider of credentials of its own. */
  readonly hasProvider: boolean
  /** Whether its handler calls the wrapper before it, with the same context. */
  readonly isOuter: boolean
}

/** An invocation. */
export interface InvocationPlan {
  readonly wrapper: number
  /** Whether it gets the context of the last one. */
  readonly reuses: boolean
  /** What `getRemainingTimeInMillis` says at the beginning; without it, there is no such function. */
  readonly remaining?: number | undefined
  /** Milliseconds that the handler waits. */
  readonly takes: number
  /** Milliseconds for which the handler blocks the event loop. */
  readonly blocks: number
  /** Whether the handler reads something directly. */
  readonly reads: boolean
  readonly fails?: 'stale' | 'other' | undefined
}

const THINGS = [
  ['parameter', 12],
  ['tree', 1],
  ['secret', 2],
  ['file', 2],
  ['object', 1],
  ['custom', 2],
] as const satisfies readonly (readonly [ThingKind, number])[]

export const REGIONS = ['eu-west-1', 'us-east-1']

const IDS: Record<ThingKind, (index: number) => string> = {
  parameter: (index) => `/app/p${index}`,
  tree: () => '/tree',
  secret: (index) => `s${index}`,
  file: (index) => `s3://bucket/f${index}`,
  object: (index) => `s3://bucket/o${index}`,
  custom: (index) => `load${index}`,
}

/** What is read only to fill the cache or the line. */
const CROWD = /^crowd/

/** The handler's error for which `refreshOn` returns true. */
class Stale extends Error {}

// ---- A run of a program ----

/** The first law that did not hold. */
export class BrokenLaw extends Error {
  readonly law: string
  constructor(law: string, details: string) {
    super(`${law}: ${details}`)
    this.law = law
  }
}

type Handler = ((event: Call, context: object) => Promise<unknown>) & { prefetch(): Promise<void> }

/** What an invocation hands to its handlers, as the event. */
interface Call {
  readonly plan: InvocationPlan
  readonly reader: Reader
}

interface Wrapper {
  readonly wants: readonly Want[]
  readonly handler: Handler
  readonly inner: Wrapper | undefined
}

/** The file, what surrounds it, and a record of what has happened. */
export class Run implements Listener {
  readonly clock = new Clock()
  readonly disk = new Disk(this.clock.now)
  readonly aws = new Aws()
  readonly library: typeof Library
  readonly wrappers: Wrapper[] = []
  /** Those that have not settled. */
  readonly readers = new Set<Reader>()
  /** Those that have not been answered. */
  readonly requests = new Set<Request>()
  readonly unhandled: unknown[] = []
  /** The law that broke first, unless it is one of `ignored`. */
  broken: BrokenLaw | undefined
  /** What each new request meets, if anything. */
  automatic: Outcome | undefined
  /** What the providers of credentials do when they are asked. */
  providers: 'answer' | 'hang' | 'fail' | 'read' = 'answer'
  /** When the bucket moved last. */
  #moved = 0
  #order = 0
  /** How often the cache has been cleared. */
  #era = 0
  /** When the line was last full. */
  #crowded = 0
  /** Whether so much has been read directly that something may have been evicted. */
  #hasCrowds = false
  /** How many reads of a crowd have not settled. */
  #crowd = 0
  /** Whoever reads first, while nothing has been answered. */
  #first: Reader | undefined
  #context: object | undefined
  #warnings: string[] = []
  readonly #ignored: ReadonlySet<string>
  readonly #deliveries = new Map<Thing, Delivery[]>()
  readonly #failures = new Map<Thing, { readonly order: number; readonly time: number }[]>()
  readonly #begun = new Map<Thing, number[]>()
  /** Things that a wrapper has read: they are not evicted. */
  readonly #stay = new Set<Thing>()
  readonly #wereMissing = new Set<Thing>()
  readonly #touched = new Map<string, number>()
  /** The last download to a path. */
  readonly #written = new Map<string, { readonly thing: Thing; readonly order: number }>()
  readonly #loads = new Map<Thing, () => Promise<string>>()
  /** The names of the batches there were. */
  readonly #batches = new Set<string>()
  readonly #firstPages = new Map<Thing, Request>()
  /** First pages of trees in which something is bad. */
  readonly #badTrees = new WeakSet<Request>()
  readonly #eras = new WeakMap<Request, number>()
  /** Requests for what is still fresh. */
  readonly #ahead = new WeakSet<Request>()
  readonly #fetch = fetchFrom(this.aws, this)
  /** What each `parse` took. */
  readonly #taken = { a: new Set<string>(), b: new Set<string>() }
  readonly #parses = {
    a: (text: string): string => this.#parse('a', text),
    b: (text: string): string => this.#parse('b', text),
  }

  constructor(
    instantiate: Instantiate,
    plans: readonly WrapperPlan[],
    luck: number,
    ignored: ReadonlySet<string>,
  ) {
    this.#ignored = ignored
    const { clock } = this
    // Never the same twice: temporary files are named by it.
    let chance = luck
    const random = (): number => {
      chance += 1e-9
      return chance
    }
    const replaced: Record<string, unknown> = {
      async_hooks: { AsyncLocalStorage: SharedStorage },
      crypto: CRYPTO,
      fs: this.disk,
      'fs/promises': this.disk.promises,
      'stream/consumers': {
        text: textFrom,
        buffer: async (body: never) => Buffer.from(await textFrom(body)),
      },
    }
    const builtin = (name: string): unknown => {
      const bare = name.replace('node:', '')
      return replaced[bare] ?? process.getBuiltinModule(bare)
    }
    this.library = instantiate({
      require: builtin,
      process: {
        env: {
          AWS_REGION: 'eu-west-1',
          AWS_ACCESS_KEY_ID: `${CANARY}-access-key-id`,
          AWS_SECRET_ACCESS_KEY: `${CANARY}-secret-access-key`,
          AWS_SESSION_TOKEN: `${CANARY}-session-token`,
        },
        getBuiltinModule: builtin,
        uptime: () => clock.monotonic / 1000,
        pid: 1,
        kill: () => true,
      },
      console: { ...console, warn: (line: string) => this.#warnings.push(line) },
      Date: clock.Date,
      Math: Object.assign(Object.create(Math) as Math, { random }),
      setTimeout: clock.setTimeout,
      clearTimeout: clock.clearTimeout,
      setImmediate: clock.setImmediate,
    })
    for (const [index, plan] of plans.entries()) this.wrappers.push(this.#wrap(plan, index))
  }

  // -- What the file does

  moment(): { readonly order: number; readonly time: number } {
    this.#order += 1
    return { order: this.#order, time: this.clock.now() }
  }

  began(request: Request): void {
    this.#eras.set(request, this.#era)
    // What is younger than the first page of a tree counts as young as that.
    const [thing] = request.things
    if (thing?.kind === 'tree') {
      if (request.input.NextToken) request.first = this.#firstPages.get(thing)
      else this.#firstPages.set(thing, request)
    }
    const { automatic } = this
    if (automatic) this.clock.setImmediate(() => this.answer(request, automatic, false))
    const things = request.things.filter(({ id }) => !CROWD.test(id))
    // A batch goes on with all its names while somebody waits for one of them.
    const anyone = [...this.readers].filter((reader) =>
      things.some((thing) => isWantedBy(reader, thing)),
    )
    for (const thing of things) {
      const readers = anyone.filter((reader) => isWantedBy(reader, thing))
      if (!readers.some(({ lacks }) => lacks.has(thing))) this.#ahead.add(request)
      this.#check(OF_REQUESTS, {
        request,
        thing,
        readers,
        anyone,
        others: [...this.requests].filter((other) => this.#competes(other, request, thing)),
        now: this.clock.monotonic,
        lost: this.clock.lost,
      })
      keep(this.#begun, thing, request.order)
    }
    this.#batches.add(String(request.input.Names))
    this.requests.add(request)
    if (this.#isCrowded()) this.#crowded = request.order
  }

  /** Whether an earlier request for a thing should have served for this one. */
  #competes(earlier: Request, request: Request, thing: Thing): boolean {
    const isSamePage = earlier.input.NextToken === request.input.NextToken
    // A batch is tried again with all its names, also those that nobody waits for any more.
    const isRetry = [earlier, request].some(({ input }) => this.#isTriedAgain(input.Names))
    if (isRetry || !isSamePage || !earlier.isUnderWay || !earlier.things.includes(thing))
      return false
    const readers = [...this.readers].filter((reader) => isWantedBy(reader, thing))
    // What began before the cache was cleared goes on for those who waited then.
    if (readers.some(({ era }) => era < this.#era)) return false
    // A `load` is not told when the last one who waited for it gives up.
    const isWaitedFor = readers.some(
      ({ wants, runs, remaining, order }) =>
        wants.length === 1 && runs === 0 && remaining === Infinity && order < earlier.order,
    )
    return this.#eras.get(earlier) === this.#era && (!!earlier.signal || isWaitedFor)
  }

  #isTriedAgain(names: unknown): boolean {
    return ((names as string[] | undefined)?.length ?? 0) > 1 && this.#batches.has(String(names))
  }

  #isCrowded(): boolean {
    return [...this.requests].filter(({ signal, isUnderWay }) => signal && isUnderWay).length >= 20
  }

  brought(request: Request, states: ReadonlyMap<Thing, State>): void {
    if (!request.isUnderWay) return
    const { time, order } = this.moment()
    for (const [thing, { version, isMissing }] of states) {
      // Ahead of time, that there is no such thing changes nothing.
      if (CROWD.test(thing.id) || (isMissing && this.#ahead.has(request))) continue
      if (!isMissing && this.#isLost(request, thing, version)) continue
      // A directory that is in the way of a download may be gone by its end.
      const isDoubtful = this.#hasDirectory(thing)
      if (thing.kind === 'file' && !isDoubtful && request.input.etag !== etagOf(thing, version))
        this.#written.set(pathOf(thing.id), { thing, order })
      const first = request.first ?? request
      if (thing.bad.has(version)) this.#badTrees.add(first)
      // What was abandoned and comes in late may be kept or not.
      const wanted = [...this.readers].filter(
        (reader) => reader.order < request.order && isWantedBy(reader, thing),
      )
      keep(this.#deliveries, thing, {
        request: first,
        version: isMissing ? undefined : version,
        time,
        order,
        era: this.#eras.get(request) as number,
        isDoubtful,
        isBad: !isMissing && this.#badTrees.has(first),
        isKept:
          !request.hasNext &&
          wanted.length > 0 &&
          !isDoubtful &&
          (!this.#hasCrowds || this.#stay.has(thing)) &&
          // What began before the cache was cleared is kept for nobody else.
          wanted.every(({ era }) => era === this.#era),
      })
    }
  }

  /** Whether a download comes to nothing: somebody has touched what S3 says is unchanged. */
  #isLost({ input }: Request, thing: Thing, version: number): boolean {
    if (thing.kind !== 'file' || input.etag !== etagOf(thing, version)) return false
    const path = pathOf(thing.id)
    return (this.#touched.get(path) ?? 0) > (this.#written.get(path)?.order ?? 0)
  }

  #hasDirectory(thing: Thing): boolean {
    return thing.kind === 'file' && !!this.disk.files.get(pathOf(thing.id))?.isDirectory
  }

  /** Whether somebody has changed a file since it was downloaded. */
  #isTouched(thing: Thing): boolean {
    const deliveries = this.#deliveries.get(thing) ?? []
    const last = deliveries.filter(({ isDoubtful }) => !isDoubtful).at(-1)
    return this.#lastTouch(thing) > (last?.order ?? 0)
  }

  /** When somebody else last wrote to the path of a download, or read it with other credentials. */
  #lastTouch(thing: Thing): number {
    const path = pathOf(thing.id)
    const written = this.#written.get(path)
    const ofOthers = written && written.thing !== thing ? written.order : 0
    return Math.max(this.#touched.get(path) ?? 0, ofOthers)
  }

  failed({ things }: Pick<Request, 'things'>): void {
    for (const thing of things)
      if (!CROWD.test(thing.id)) keep(this.#failures, thing, this.moment())
  }

  // -- What the program does

  /** Begins an invocation. */
  invoke(plan: InvocationPlan): void {
    const wrapper = this.wrappers[plan.wrapper % this.wrappers.length] as Wrapper
    const context = (plan.reuses && this.#context) || this.#contextFor(plan.remaining)
    this.#context = context
    this.#call(wrapper, plan, context).catch(() => {})
  }

  #contextFor(remaining: number | undefined): object {
    const end = this.clock.now() + (remaining ?? 0)
    const context = lambdaContext(remaining ? () => end - this.clock.now() : () => 0)
    if (remaining === undefined) Reflect.deleteProperty(context, 'getRemainingTimeInMillis')
    return context
  }

  async #call(wrapper: Wrapper, plan: InvocationPlan, context: object): Promise<unknown> {
    const { getRemainingTimeInMillis: left } = context as Partial<Library.LambdaContext>
    const remaining = left?.() ?? 0
    const reader = this.#begin('invocation', wrapper.wants, remaining > 0 ? remaining : Infinity)
    const names = namesOn(context)
    const isClash = (): boolean =>
      wrapper.wants.some(({ as }) => (names.get(as) ?? wrapper) !== wrapper)
    try {
      return await wrapper.handler({ plan, reader }, context)
    } catch (error) {
      if (reader.runs === 0) this.#fail(reader, error, isClash())
      throw error
    } finally {
      this.#settle(reader)
    }
  }

  /** What a direct read is for. */
  thingOf(plan: EntryPlan): Thing {
    const [{ thing }] = this.#wantsOf(plan, 'direct', {}) as [Want]
    return thing
  }

  /** Begins a direct read. */
  read(plan: EntryPlan): void {
    const [want] = this.#wantsOf(plan, 'direct', {}) as [Want]
    const { option } = this.#entryOf(plan, 'direct')
    const {
      as: _,
      name: _name,
      id: _id,
      uri: _uri,
      path: _path,
      ...options
    } = option as Record<string, unknown>
    const { getParameter, getParametersByPath, getSecret, getObject } = this.library
    const { kind, id } = want.thing
    const reads: Readonly<Record<string, (id: string, options: object) => Promise<unknown>>> = {
      parameter: getParameter,
      tree: getParametersByPath,
      secret: getSecret,
      file: getObject,
      object: getObject,
    }
    const reader = this.#begin('read', [want], Infinity)
    reads[kind]?.(id, { ...options, fetch: this.#fetch })
      .then(
        (value) => this.#serve(reader, want, value),
        (error: unknown) => this.#fail(reader, error, false),
      )
      .finally(() => this.#settle(reader))
  }

  /** Reads so many things directly. */
  crowd(size: number): void {
    // What no wrapper has read may have to go.
    if (size > 1000) {
      this.#hasCrowds = true
      for (const [thing, deliveries] of this.#deliveries)
        if (!this.#stay.has(thing)) for (const delivery of deliveries) delivery.isKept = false
    }
    const options = { fetch: this.#fetch }
    for (let index = 0; index < size; index += 1) {
      const id = `crowd/${index}`
      // Those that make no room for 1,000 others have a request each.
      const value: Promise<unknown> =
        size > 1000
          ? this.library.getParameter(id, options)
          : this.library.getSecret(id, { ...options, maxAge: 0 })
      this.#crowd += 1
      value
        .catch(() => {})
        .finally(() => {
          // Until now, a reader may have waited for a place, and have given up by now.
          if (this.#crowd >= 20) this.#crowded = this.moment().order
          this.#crowd -= 1
        })
    }
  }

  /** Reads something directly in a handler, and ends with it. */
  async #readInHandler(reader: Reader): Promise<void> {
    const begun = this.clock.monotonic
    const time = this.clock.now()
    this.#crowd += 1
    const options = { fetch: this.#fetch, maxAge: 0 }
    await this.library.getSecret('crowd/inner', options).catch(() => {})
    this.#crowd -= 1
    const { monotonic: now, lost } = this.clock
    this.#check(OF_DIRECT_ACCESS, { reader, begun, now, lost, time })
  }

  prefetch(index: number): void {
    const wrapper = this.wrappers[index % this.wrappers.length] as Wrapper
    const wants = allWantsOf(wrapper)
    const reader = this.#begin('prefetch', wants, Infinity)
    wrapper.handler
      .prefetch()
      .then(() => {
        for (const { thing } of wants) this.#stay.add(thing)
      })
      .catch((error: unknown) => this.#fail(reader, error, false))
      .finally(() => this.#settle(reader))
  }

  clearCache(): void {
    this.library.clearCache()
    this.#era += 1
    this.#stay.clear()
    for (const taken of Object.values(this.#taken)) taken.clear()
  }

  answer(request: Request, outcome: Outcome, isAsSent: boolean): void {
    if (request.isOpen) answer(request, outcome, isAsSent, this)
    if (!request.isOpen) this.requests.delete(request)
  }

  change(thing: Thing, { isBad, ...state }: Partial<State> & { readonly isBad?: boolean }): void {
    thing.state = { ...thing.state, ...state, version: thing.state.version + 1 }
    if (isBad) thing.bad.add(thing.state.version)
    if (state.isMissing) this.#wereMissing.add(thing)
  }

  /** The bucket is in another region from now on. */
  moveBucket(region: string): void {
    this.#moved = this.moment().order
    this.aws.bucketRegion = region
  }

  /** What somebody else does to a download. */
  touch(index: number, how: 'remove' | 'change' | 'directory'): void {
    const path = `/tmp/f${index}`
    this.#touched.set(path, this.moment().order)
    // Whoever is to be given the path has it downloaded again.
    for (const { wants, lacks } of this.readers)
      for (const { thing } of wants) if (pathOf(thing.id) === path) lacks.add(thing)
    if (how === 'remove') this.disk.files.delete(path)
    else this.disk.put(path, how, how === 'directory')
  }

  /** The wall clock is set, or goes on while the process is frozen. */
  shift(milliseconds: number): void {
    this.#noteTime()
    this.clock.shift(milliseconds)
    this.#noteTime()
  }

  #noteTime(): void {
    for (const { times } of this.readers) times.push(this.clock.now())
  }

  /** Everything moves that can, then what holds at rest is checked. */
  async rest(): Promise<void> {
    await this.clock.settle()
    if (this.#first && !this.automatic)
      this.#check(OF_COLD_STARTS, { reader: this.#first, requests: [...this.requests] })
    this.#first = undefined
    for (const request of this.requests) if (!request.isOpen) this.requests.delete(request)
    this.#check(OF_REST, {
      isIdle: this.readers.size === 0 && this.#crowd === 0,
      requests: [...this.requests],
      files: [...this.disk.files.keys()],
      unhandled: this.unhandled.splice(0),
      warnings: this.#warnings.splice(0),
    })
    if (this.broken) throw this.broken
  }

  // -- What comes of it

  #begin(kind: Reader['kind'], wants: readonly Want[], remaining: number): Reader {
    const { clock } = this
    const now = clock.now()
    const among = (is: (want: Want, newest: Delivery | undefined) => boolean): Set<Thing> =>
      new Set(wants.filter((want) => is(want, this.#newest(want))).map(({ thing }) => thing))
    const isYoung = (seconds: number, newest: Delivery | undefined): boolean =>
      !!newest && now >= newest.request.time && now - newest.request.time < seconds * 1000
    const reader: Reader = {
      kind,
      wants,
      remaining,
      order: this.moment().order,
      era: this.#era,
      begun: clock.monotonic,
      lost: clock.lost,
      isAmidst: kind === 'read' && [...this.readers].some(({ isHandling }) => isHandling),
      joins: new Set([...this.readers].flatMap(({ needs }) => [...needs])),
      usable: among((want) =>
        wants
          .filter(({ thing }) => thing === want.thing)
          .every((same) => isYoung(same.maxAge + same.staleIfError, this.#newest(same))),
      ),
      needs: among((want, newest) => !isYoung(want.maxAge * 0.8, newest) || this.#isBad(want)),
      lacks: among((want, newest) => !isYoung(want.maxAge, newest) || this.#isBad(want)),
      times: [now],
      handling: 0,
      runs: 0,
      values: [],
      again: new Set(),
      isHandling: false,
    }
    this.readers.add(reader)
    if (reader.order === 1) this.#first = reader
    return reader
  }

  /** Whether `parse` does not take the newest. */
  #isBad(want: Want): boolean {
    return !!want.parse && !!this.#kept(want).at(-1)?.isBad
  }

  #kept({ thing }: Want): readonly Delivery[] {
    return (this.#deliveries.get(thing) ?? [])
      .filter(({ isKept, era }) => isKept && era === this.#era)
      .sort((one, other) => one.request.order - other.request.order)
  }

  /** What the cache should hold of a thing, for somebody who wants it. */
  #newest(want: Want): Delivery | undefined {
    const newest = this.#kept(want)
      .filter(({ isBad }) => !want.parse || !isBad)
      .at(-1)
    if (want.thing.kind === 'file' && this.#isTouched(want.thing)) return undefined
    return newest?.version === undefined && want.default === undefined ? undefined : newest
  }

  #parse(name: 'a' | 'b', text: string): string {
    if (text.startsWith(BAD)) throw new SyntaxError(text)
    this.#taken[name].add(text)
    return `${name}(${text})`
  }

  /** Whether `parse` took a version of a thing, as it is in this account. */
  #hasTaken({ thing, parse }: Want, version = -1): boolean {
    const names = thing.kind === 'tree' ? TREE : ['']
    const taken = parse ? this.#taken[parse] : new Set<string>()
    return (
      !thing.account &&
      names.every((name) => taken.has(textOf(thing, { ...thing.state, version }, name)))
    )
  }

  /** What `parse` took and may be served: that a newer one is bad is no reason for an error. */
  #parsed({ wants, order }: Reader): Thing[] {
    const now = this.clock.now()
    const isGood = (want: Want): boolean => {
      const newest = want.parse && this.#newest(want)
      // What came later may have come after the reader had failed, and waited for the rest.
      if (newest && newest.order > order) return false
      // Nobody knows which of several deliveries of a version `parse` has seen.
      const isYoung = this.#kept(want)
        .filter(({ version }) => version === newest?.version)
        .map(({ request }) => now - request.time)
        .every((age) => age >= 0 && age < 1000 * (want.maxAge + want.staleIfError))
      return isYoung && !!newest && this.#hasTaken(want, newest.version)
    }
    // An error names what was asked for, be it in several regions.
    const ofOne = (id: string): readonly Want[] => wants.filter(({ thing }) => thing.id === id)
    return wants.map(({ thing }) => thing).filter(({ id }) => ofOne(id).every(isGood))
  }

  #fail(reader: Reader, error: unknown, isClash: boolean): void {
    // So does what would have been served, had the rest not failed.
    this.failed({ things: reader.wants.map(({ thing }) => thing) })
    this.#check(OF_ERRORS, {
      reader,
      error,
      isClash,
      hasMoved: this.#moved > reader.order,
      parsed: this.#parsed(reader),
      hasCrowds: this.#hasCrowds,
      now: this.clock.monotonic,
    })
  }

  #settle(reader: Reader): void {
    this.readers.delete(reader)
    // What is read again in vain shows in no value, but leaves AWS alone, too.
    for (const thing of reader.again) this.failed({ things: [thing] })
    const { monotonic: now, lost } = this.clock
    this.#check(OF_ENDS, { reader, now, lost })
  }

  #serve(reader: Reader, want: Want, value: unknown): void {
    this.#noteTime()
    const { thing } = want
    const { version, expected, isThere } = this.#versionOf(want, value, reader.order)
    const deliveries = (this.#deliveries.get(thing) ?? []).filter(
      (delivery) => delivery.era >= reader.era && delivery.version === version,
    )
    const isCrowded = this.#crowd >= 20 || this.#isCrowded() || this.#crowded > reader.order
    const newest = Math.max(...deliveries.map(({ order }) => order))
    const lastRead = this.#kept(want).at(-1)?.order ?? 0
    const hasFailed =
      isCrowded ||
      (this.#deliveries.get(thing) ?? []).some(
        ({ isBad, order, era }) => want.parse && isBad && order > newest && era >= reader.era,
      ) ||
      isTimeUp(reader, this.clock) ||
      [...this.requests].some(({ things, isUnderWay }) => isUnderWay && things.includes(thing)) ||
      (this.#failures.get(thing) ?? []).some(
        // What was read since ends the pause after a failure, but for whom it has met already.
        ({ order, time }) =>
          order > reader.order || (order > lastRead && isYoungerThan(5, reader, time)),
      )
    this.#check(OF_VALUES, {
      reader,
      want,
      value,
      expected,
      isThere,
      version,
      deliveries,
      isCrowded,
      requests: (this.#begun.get(thing) ?? []).filter((order) => order > reader.order).length,
      hasFailed,
      now: this.clock.monotonic,
      lost: this.clock.lost,
    })
    // AWS is left alone from when somebody has waited in vain.
    if (hasFailed && this.clock.monotonic > reader.begun) this.failed({ things: [thing] })
  }

  #recognise(want: Want, value: unknown): void {
    const { aReaderGetsWhatItAskedFor } = OF_VALUES
    const { expected } = this.#versionOf(want, value)
    this.#check({ aReaderGetsWhatItAskedFor }, { want, value, expected })
  }

  /** Which version a value shows to a reader who began then, and the value as it should be in it. */
  #versionOf(
    want: Want,
    value: unknown,
    since = Infinity,
  ): Pick<Served, 'expected' | 'isThere'> & Pick<Delivery, 'version'> {
    const { thing } = want
    const isMissing = value === want.default
    const parse = (text: string): string => (want.parse ? `${want.parse}(${text})` : text)
    const versionIn = (text: unknown): number => Number(/#(\d+)\)?$/.exec(String(text))?.[1])
    const as = (version: number, name?: string): string =>
      parse(textOf(thing, { ...thing.state, version }, name))
    if (isMissing) return { version: undefined, expected: want.default, isThere: true }
    if (thing.kind === 'tree') {
      if (Object.keys(value as object).length === 0)
        return { version: undefined, expected: {}, isThere: true }
      // What went missing between two pages is not in the second.
      const names = TREE.map((name) => name.slice(1)).filter(
        (name) => !this.#wereMissing.has(thing) || name in (value as object),
      )
      const expected = names.map((name) => [
        name,
        as(versionIn((value as never)[name]), `/${name}`),
      ])
      return {
        version: versionIn(Object.values(value as object)[0]),
        expected: Object.fromEntries(expected),
        isThere: true,
      }
    }
    if (thing.kind !== 'file') {
      const version = versionIn(value)
      return { version, expected: as(version), isThere: true }
    }
    const path = pathOf(thing.id)
    const file = this.disk.files.get(path)
    // What happens to a file while a reader waits for something else goes unnoticed.
    const isTouchedMeanwhile = this.#lastTouch(thing) > since
    const version = isTouchedMeanwhile
      ? this.#deliveries.get(thing)?.at(-1)?.version
      : versionIn(file?.content)
    const isWhole = file?.content === textOf(thing, { ...thing.state, version: Number(version) })
    return {
      version,
      expected: path,
      isThere: isTouchedMeanwhile || (file?.isDirectory === false && isWhole),
    }
  }

  #check<T>(laws: Readonly<Record<string, (event: T) => boolean>>, event: T): void {
    for (const [name, holds] of Object.entries(laws)) {
      if (this.broken || this.#ignored.has(name) || holds(event)) continue
      this.broken = new BrokenLaw(name, shown(event))
    }
  }

  // -- Wrappers

  #thing({ kind, index, region }: EntryPlan, account = ''): Thing {
    const ofKind = kind === 'group' ? 'parameter' : kind
    const [, count] = THINGS.find(([name]) => name === ofKind) as (typeof THINGS)[number]
    const isRegional = ofKind === 'parameter' || ofKind === 'tree' || ofKind === 'secret'
    return this.aws.thing(
      ofKind,
      IDS[ofKind](index % count),
      isRegional ? region : HOME,
      ofKind === 'custom' ? '' : account,
    )
  }

  /** An entry as the file takes it. */
  #entryOf(plan: EntryPlan, as: string) {
    const { kind, index, maxAge, hasDefault } = plan
    const { id, region } = this.#thing(plan)
    const parse = parseOf(plan)
    const common = {
      as,
      maxAge,
      ...(plan.region && { region }),
      ...(parse && { parse: this.#parses[parse] }),
      ...(hasDefault && { default: `default ${as}` }),
    }
    switch (kind) {
      case 'parameter':
        return { source: 'ssm', option: { name: id, ...common } }
      case 'group':
        return { source: 'ssm', option: { names: groupNames(index), ...common } }
      case 'tree':
        return { source: 'ssm', option: { path: id, ...common } }
      case 'secret':
        return { source: 'secrets', option: { id, ...common } }
      case 'custom':
        return { source: 'custom', option: { as, maxAge, load: this.#loadOf(this.#thing(plan)) } }
      default:
        return { source: 's3', option: { uri: id, ...common } }
    }
  }

  #loadOf(thing: Thing): () => Promise<string> {
    const load = this.#loads.get(thing) ?? loadFrom(thing, this)
    this.#loads.set(thing, load)
    return load
  }

  /** One for each name of a group, else one. */
  #wantsOf(plan: EntryPlan, as: string, defaults: Partial<WrapperPlan>, account = ''): Want[] {
    const { kind, index, hasDefault, maxAge = defaults.maxAge ?? 60 } = plan
    const { staleIfError = 300 } = defaults
    const hasNone = kind === 'custom' || !hasDefault
    const want = {
      as,
      maxAge,
      staleIfError,
      parse: kind === 'custom' ? undefined : parseOf(plan),
      default: hasNone ? undefined : `default ${as}`,
    }
    if (kind !== 'group') return [{ ...want, thing: this.#thing(plan, account) }]
    return groupNames(index).map((id) => ({
      ...want,
      name: id.replace('/app/', ''),
      thing: this.aws.thing('parameter', id, plan.region, account),
    }))
  }

  #wrap(plan: WrapperPlan, index: number): Wrapper {
    const inner = plan.isOuter ? this.wrappers[index - 1] : undefined
    const options: Record<string, unknown[]> = { ssm: [], secrets: [], s3: [], custom: [] }
    const wants: Want[] = []
    const account = plan.hasProvider ? `${CANARY}-provider-${index}` : ''
    for (const [position, entry] of plan.entries.entries()) {
      const as = `abc`[position] + (plan.sharesNames ? '' : String(index))
      wants.push(...this.#wantsOf(entry, as, plan, account))
      const { source, option } = this.#entryOf(entry, as)
      options[source]?.push(option)
    }
    const handler = async ({ plan: call, reader }: Call, context: object): Promise<unknown> => {
      const begun = this.clock.monotonic
      reader.runs += 1
      reader.isHandling = true
      const names = namesOn(context)
      for (const { as } of wants) names.set(as, wrapper)
      try {
        const values = wants.map((want) => valueOn(context, want))
        for (const [index, want] of wants.entries()) this.#serve(reader, want, values[index])
        for (const { thing } of wants) this.#stay.add(thing)
        this.#check(OF_RUNS, { reader, values })
        reader.values = values
        this.#check(OF_CONTEXTS, { context })
        if (inner) {
          const result = await this.#call(inner, call, context)
          // What is inside has not put its own values in their place.
          for (const want of wants) this.#recognise(want, valueOn(context, want))
          return result
        }
        if (call.reads) await this.#readInHandler(reader)
        this.clock.block(call.blocks)
        if (call.takes > 0)
          await new Promise<void>((resolve) => this.clock.setTimeout(resolve, call.takes))
        if (call.fails === 'stale') throw new Stale()
        if (call.fails === 'other') throw new Error('handler')
        return 'done'
      } catch (error) {
        if (plan.refreshes && error instanceof Stale)
          for (const { thing } of wants) {
            reader.lacks.add(thing)
            reader.again.add(thing)
          }
        throw error
      } finally {
        reader.isHandling = false
        reader.handling += this.clock.monotonic - begun
      }
    }
    const wrapper: Wrapper = {
      wants,
      inner,
      handler: this.library.withCache(
        Object.assign(handler, inner && { prefetch: inner.handler.prefetch }) as never,
        {
          ...(options as Options),
          maxAge: plan.maxAge,
          staleIfError: plan.staleIfError,
          refreshOn: plan.refreshes ? (error: unknown) => error instanceof Stale : undefined,
          fetch: this.#fetch,
          credentials: account ? this.#provider(account, wants) : undefined,
        },
      ) as never,
    }
    return wrapper
  }

  /** Of credentials that are good for ten minutes. */
  #provider(account: string, wants: readonly Want[]): () => Promise<Library.Credentials> {
    const credentials = (): Library.Credentials => ({
      accessKeyId: account,
      secretAccessKey: `${CANARY}-secret-access-key`,
      expiration: new Date(this.clock.now() + 600_000),
    })
    return async () => {
      if (this.providers === 'answer') return credentials()
      for (const { thing } of wants) {
        this.failed({ things: [thing] })
        keep(this.#begun, thing, this.moment().order)
      }
      if (this.providers === 'fail') throw new Error(`${CANARY}: no credentials`)
      if (this.providers === 'hang') return new Promise(() => {})
      this.#crowd += 1
      await this.library.getSecret('crowd/credentials', { fetch: this.#fetch }).finally(() => {
        this.#crowd -= 1
      })
      return credentials()
    }
  }

  // -- The end

  /** AWS answers again: whatever has happened, the next invocation succeeds. */
  async recover(): Promise<void> {
    for (const thing of this.aws.things) this.change(thing, { isMissing: false, isDenied: false })
    for (const [path, { isDirectory }] of this.disk.files)
      if (isDirectory) this.disk.files.delete(path)
    this.automatic = 'whole'
    this.providers = 'answer'
    await this.clock.pass(60_000)
    // Whoever waits for a `load` without a deadline waits until it ends.
    if (this.readers.size > 0)
      for (const request of this.requests)
        if (!request.signal) this.answer(request, 'refused', false)
    await this.clock.pass(60_000)
    await this.rest()
    this.#check(OF_RECOVERY.readers, { readers: [...this.readers] })

    this.automatic = undefined
    this.crowd(20)
    await settled()
    const sent = [...this.requests].filter(({ things }) => CROWD.test(String(things[0]?.id)))
    this.#check(OF_RECOVERY.line, { places: sent.filter(({ isUnderWay }) => isUnderWay).length })
    for (const request of sent) this.answer(request, 'whole', false)
    await this.rest()

    this.automatic = 'whole'
    for (const [index, wrapper] of this.wrappers.entries()) {
      const plan = { wrapper: index, reuses: false, takes: 0, blocks: 0, reads: false }
      const call = this.#call(wrapper, plan, this.#contextFor(30_000))
      let outcome: unknown = 'pending'
      call.then(
        (value) => {
          outcome = value
        },
        (error: unknown) => {
          outcome = error
        },
      )
      await this.clock.pass(30_000)
      this.#check(OF_RECOVERY.invocation, { outcome, isClash: hasClash(wrapper) })
    }
    await this.rest()
  }
}

/** Which wrapper has given a context which name. */
const NAMES = new WeakMap<object, Map<string, Wrapper>>()

function namesOn(context: object): Map<string, Wrapper> {
  const names = NAMES.get(context) ?? new Map<string, Wrapper>()
  NAMES.set(context, names)
  return names
}

function allWantsOf({ wants, inner }: Wrapper): readonly Want[] {
  return [...wants, ...(inner ? allWantsOf(inner) : [])]
}

/** Whether a wrapper and those inside it claim one name. */
function hasClash({ wants, inner }: Wrapper, taken: ReadonlySet<string> = new Set()): boolean {
  const all = new Set([...taken, ...wants.map(({ as }) => as)])
  return wants.some(({ as }) => taken.has(as)) || (!!inner && hasClash(inner, all))
}

function pathOf(uri: string): string {
  return uri.replace('s3://bucket', '/tmp')
}

/** By whichever clock is ahead. */
function isTimeUp({ begun, times, remaining }: Reader, { monotonic, now }: Clock): boolean {
  return Math.max(monotonic - begun, now() - (times[0] as number)) >= remaining - 200
}

function isWantedBy({ wants }: Reader, thing: Thing): boolean {
  return wants.some((want) => want.thing === thing)
}

/** The property that holds a value, or in the record of a group the one in that. */
function valueOn(context: object, { as, name }: Want): unknown {
  const value: unknown = Reflect.get(context, as)
  return name ? Reflect.get(Object(value), name) : value
}

function parseOf({ kind, parse }: EntryPlan): 'a' | 'b' | undefined {
  if (kind === 'file') return undefined
  return kind === 'object' ? (parse ?? 'a') : parse
}

/** Eleven of them: one more than a request takes. */
function groupNames(first: number): string[] {
  return Array.from({ length: 11 }, (_, index) => IDS.parameter((first + index) % 12))
}

function keep<T>(lists: Map<Thing, T[]>, thing: Thing, item: T): void {
  const list = lists.get(thing) ?? []
  list.push(item)
  if (list.length > 50) list.shift()
  lists.set(thing, list)
}

async function textFrom(body: AsyncIterable<Uint8Array>): Promise<string> {
  let text = ''
  for await (const piece of body) text += Buffer.from(piece).toString()
  return text
}

/** Nobody checks the signatures. What differs has different hashes. */
const CRYPTO = (() => {
  const hashOf = (text = '') => {
    const hash = {
      update: (data: unknown) => hashOf(text + String(data)),
      digest: (encoding?: string) =>
        encoding ? Buffer.from([...text].reverse().join('')).toString('hex') : 'key',
    }
    return hash
  }
  let count = 0
  const randomUUID = (): string => {
    count += 1
    return String(count)
  }
  return { createHash: () => hashOf(), createHmac: () => hashOf(), randomUUID }
})()

/** In one line, without what is not set. */
export function shown(plan: unknown): string {
  return inspect(plan, { depth: 5, breakLength: 150, compact: 9 })
    .replace(/\w+: (undefined|false)(,\s*)?/g, '')
    .replace(/,\s*}/g, ' }')
}
