/** What must hold whatever happens: DESIGN.md's promises, each a function that says whether one is kept. */
import { inspect } from 'node:util'
import type { LambdaCacheError } from '../lambda-cache.js'
import { CANARY, type Request, type Thing } from './world.js'

/** Something that a reader asked for. */
export interface Want {
  readonly thing: Thing
  /** The property's name on the context. */
  readonly as: string
  /** Seconds. */
  readonly maxAge: number
  /** Seconds. */
  readonly staleIfError: number
  /** Which name, if it is one of a group. */
  readonly name?: string
  /** Which `parse` the entry has, if any. */
  readonly parse: 'a' | 'b' | undefined
  readonly default: unknown
}

/** An invocation, a direct read or a prefetch, until it settles. */
export interface Reader {
  readonly kind: 'invocation' | 'read' | 'prefetch'
  readonly wants: readonly Want[]
  /** When it began, in the order of everything that happens. */
  readonly order: number
  /** How often the cache had been cleared by then. */
  readonly era: number
  /** When it began, by the monotonic clock. */
  readonly begun: number
  /** Milliseconds that remained then: Infinity without a deadline. */
  readonly remaining: number
  /** As {@link Served.lost}, by then. */
  readonly lost: number
  /** Whether it is a direct read that began while a handler ran, in which it may have been. */
  readonly isAmidst: boolean
  /** What others waited for when it began. */
  readonly joins: ReadonlySet<Thing>
  /** What was usable when it began, be it stale. */
  readonly usable: ReadonlySet<Thing>
  /** What it has to wait for. */
  readonly needs: Set<Thing>
  /** What has not been fresh since it began: nothing but this is reason for more than a refresh ahead. */
  readonly lacks: Set<Thing>
  /** What `refreshOn` had read again. */
  readonly again: Set<Thing>
  /** All that the wall clock has shown since. */
  readonly times: number[]
  /** Milliseconds that its handler took. */
  handling: number
  /** How often its handler has begun. */
  runs: number
  /** What it was given last. */
  values: readonly unknown[]
  isHandling: boolean
}

/** That a request brought a thing, as it was in one version. */
export interface Delivery {
  readonly request: Request
  /** None if there is no such thing. */
  readonly version: number | undefined
  /** When it came, by the wall clock and in the order of everything. */
  readonly time: number
  readonly order: number
  readonly era: number
  /** Whether the cache should hold it. */
  isKept: boolean
  /** Whether the file may not have been written. */
  isDoubtful: boolean
  /** Whether no `parse` takes it. */
  readonly isBad: boolean
}

/** A value in the hands of a handler, or of whoever read it directly. */
export interface Served {
  readonly reader: Reader
  readonly want: Want
  readonly value: unknown
  /** The version that the value shows, none for the default: not for a file that somebody touched. */
  readonly version: number | undefined
  /** The text as it should be in that version. */
  readonly expected: unknown
  /** Whether a path leads to a file. */
  readonly isThere: boolean
  /** What brought that version. */
  readonly deliveries: readonly Delivery[]
  /** Requests for the thing since the reader began. */
  readonly requests: number
  /** Whether such a request failed in a way that may pass or has no answer yet, or time is up. */
  readonly hasFailed: boolean
  /** Whether all places in the line of requests are taken. */
  readonly isCrowded: boolean
  /** By the monotonic clock. */
  readonly now: number
  /** Milliseconds that nobody could use: the event loop was blocked, or the clock set back. */
  readonly lost: number
}

const SECOND = 1000

/** All waiting ends so many milliseconds before a deadline. */
const TIME_TO_REPORT = 200

/** Whether a time was less than so many seconds ago at some moment since the reader began. */
export function isYoungerThan(seconds: number, { times }: Reader, time: number): boolean {
  return times.some((from, index) => {
    // Until it was looked at next, the clock has shown everything in between, unless it was set back.
    const to = Math.max(from, times[index + 1] ?? from)
    return to >= time && from < time + seconds * SECOND
  })
}

/** Whether it was requested since the reader began. */
function isNew({ reader, deliveries }: Served): boolean {
  return deliveries.some(({ request }) => request.order > reader.order)
}

/** Whether it was requested at a time that, by the clock, is still to come. */
function isFromTheFuture(served: Served): boolean {
  const { deliveries, reader } = served
  return (
    !isNew(served) &&
    !deliveries.some(({ request }) => isYoungerThan(Infinity, reader, request.time))
  )
}

/** The clock aside, which has a law of its own. */
function isForced(served: Served): boolean {
  return served.want.maxAge === 0 && !isFromTheFuture(served)
}

/** Laws of values. */
export const OF_VALUES = {
  aReaderGetsWhatItAskedFor: ({ value, expected }: Pick<Served, 'value' | 'expected'>) =>
    inspect(value) === inspect(expected),

  aPathLeadsToAFile: ({ isThere }: Served) => isThere,

  aValueCameFromAws: ({ deliveries }: Served) => deliveries.length > 0,

  aClockSetBackMakesAValueExpired: (served: Served) => !isFromTheFuture(served),

  aForcedReadHeedsNoPause: (served: Served) =>
    !isForced(served) ||
    served.requests > 0 ||
    served.isCrowded ||
    served.reader.remaining <= TIME_TO_REPORT ||
    served.reader.joins.has(served.want.thing),

  aForcedReadIsNotOlderThanItsBeginning: (served: Served) =>
    !isForced(served) || served.hasFailed || isNew(served),

  ageCountsFromTheRequest: (served: Served) => {
    const { want, reader, deliveries, hasFailed } = served
    const isYoung = (time: number): boolean => isYoungerThan(want.maxAge, reader, time)
    return (
      hasFailed ||
      isNew(served) ||
      isFromTheFuture(served) ||
      deliveries.some(({ request }) => isYoung(request.time)) ||
      !deliveries.some(({ time }) => isYoung(time))
    )
  },

  aValueIsNoOlderThanMaxAge: (served: Served) => {
    const { want, reader, deliveries, hasFailed } = served
    const limit = want.maxAge + (hasFailed ? want.staleIfError : 0)
    return (
      isNew(served) ||
      isFromTheFuture(served) ||
      deliveries.some(({ request }) => isYoungerThan(limit, reader, request.time))
    )
  },

  aStaleValueLeavesHalfOfTheTime: ({ reader, now, lost }: Served) =>
    reader.remaining === Infinity ||
    reader.runs > 1 ||
    !reader.wants.every(({ thing }) => reader.usable.has(thing)) ||
    now - reader.begun <=
      Math.max(0, Math.min(reader.remaining / 2, reader.remaining - TIME_TO_REPORT)) +
        lost -
        reader.lost +
        1,
}

/** An invocation or a read that failed. */
export interface Failed {
  readonly reader: Reader
  readonly error: unknown
  /** Whether another wrapper has a property of that name on the same context. */
  readonly isClash: boolean
  /** Whether the bucket has moved since the reader began. */
  readonly hasMoved: boolean
  /** What `parse` took once and may still be served, of what it does not take now. */
  readonly parsed: readonly Thing[]
  /** Whether so much has been read directly that something else has to go. */
  readonly hasCrowds: boolean
  /** By the monotonic clock. */
  readonly now: number
}

/** Laws of errors. */
export const OF_ERRORS = {
  anErrorNamesWhatItWaitedFor: ({ reader, error, isClash }: Failed) =>
    nameOf(error) === 'LambdaCacheError' &&
    (isClash ||
      reader.wants.some(({ thing, as }) => isNamed(error, thing.id) || isNamed(error, as))),

  whatIsFreshIsServed: ({ reader, error, hasCrowds }: Failed) =>
    hasCrowds || !isAboutSomethingFresh(reader, error),

  whatAWrapperReadsStays: ({ reader, error, hasCrowds }: Failed) =>
    !hasCrowds || !isAboutSomethingFresh(reader, error),

  noDeadlineIsNoTimeout: ({ reader, error, now }: Failed) =>
    reader.remaining < Infinity ||
    reader.isAmidst ||
    reader.wants.some(({ thing }) => reader.joins.has(thing)) ||
    (error as LambdaCacheError).code !== 'Timeout' ||
    // An attempt has two seconds, or one after a clock was set forward by more than ten.
    now - reader.begun >= SECOND,

  noOptionsAreInvalid: ({ error, isClash }: Failed) =>
    isClash || (error as LambdaCacheError).code !== 'InvalidOptions',

  aBucketThatMovesIsFound: ({ reader, error, hasMoved }: Failed) =>
    hasMoved ||
    // It may have moved twice since others began to wait.
    reader.wants.some(({ thing }) => reader.joins.has(thing)) ||
    (error as LambdaCacheError).code !== 'PermanentRedirect',

  aBadValueHidesNoGoodOne: ({ error, parsed }: Failed) =>
    (error as LambdaCacheError).code !== 'ParseError' ||
    !parsed.some(({ id }) => isNamed(error, id)),

  anErrorHoldsNoSecret: ({ error }: Failed) =>
    !inspect(error, { depth: 9, showHidden: true }).includes(CANARY),
}

function isAboutSomethingFresh({ wants, lacks }: Reader, error: unknown): boolean {
  const isFresh = ({ id }: Thing): boolean => ![...lacks].some((thing) => thing.id === id)
  return wants.some(({ thing }) => isNamed(error, thing.id) && isFresh(thing))
}

function isNamed(error: unknown, id: string): boolean {
  return (error as Error).message.includes(`${id}:`)
}

function nameOf(error: unknown): unknown {
  return Object(error).name
}

/** A request as it begins. */
export interface Begun {
  readonly request: Request
  readonly thing: Thing
  /** Others for the same thing, since the cache was cleared, for which somebody waits. */
  readonly others: readonly Request[]
  /** Those who want the thing and have not settled. */
  readonly readers: readonly Reader[]
  /** Those who want anything that it is for. */
  readonly anyone: readonly Reader[]
  /** By the monotonic clock. */
  readonly now: number
  readonly lost: number
}

/** Laws of requests. */
export const OF_REQUESTS = {
  noRequestBeginsForNobody: ({ anyone }: Begun) => anyone.length > 0,

  noRequestBeginsAfterTheDeadline: ({ anyone, now, lost }: Begun) =>
    anyone.length === 0 ||
    anyone.some(
      (reader) =>
        reader.isHandling ||
        now - reader.begun <= reader.remaining + reader.handling + lost - reader.lost,
    ),

  aThingHasOneRequestAtATime: ({ others }: Begun) => others.length === 0,

  memoryServesWhatIsFresh: ({ readers, thing }: Begun) =>
    readers.length === 0 ||
    readers.some(({ needs, lacks }) => needs.has(thing) || lacks.has(thing)),
}

/** The requests for whoever reads first. */
interface ColdStart {
  readonly reader: Reader
  readonly requests: readonly Request[]
}

/** Laws of cold starts. */
export const OF_COLD_STARTS = {
  aColdStartMakesNoMoreCallsThanItMust({ reader, requests }: ColdStart) {
    const things = [...new Set(reader.wants.map(({ thing }) => thing))]
    const names = things.filter(({ kind }) => kind === 'parameter')
    const placeOf = ({ region, account }: Thing): string => `${region} ${account}`
    const places = [...new Set(names.map(placeOf))]
    const batches = places.map((place) => names.filter((name) => placeOf(name) === place).length)
    const calls = batches.reduce((sum, count) => sum + Math.ceil(count / 10), 0)
    return requests.length <= calls + things.length - names.length
  },
}

/** A handler as it begins. */
interface HandlerRun {
  readonly reader: Reader
  readonly values: readonly unknown[]
}

/** Laws of handlers. */
export const OF_RUNS = {
  aHandlerRunsTwiceAtMost: ({ reader }: HandlerRun) => reader.runs <= 2,

  aHandlerRunsAgainForSomethingNew: ({ reader, values }: HandlerRun) =>
    reader.runs < 2 ||
    // The path stays the same when a file changes, and what is loaded counts as new.
    reader.wants.some(({ thing: { kind } }) => kind === 'file' || kind === 'custom') ||
    inspect(values) !== inspect(reader.values),
}

/** The end of direct access in a handler. */
interface DirectAccess {
  readonly reader: Reader
  /** When it began and when it ended, by the monotonic clock. */
  readonly begun: number
  readonly now: number
  readonly lost: number
  /** When it began, by the wall clock. */
  readonly time: number
}

/** Laws of direct access in a handler. */
export const OF_DIRECT_ACCESS = {
  directAccessEndsBeforeItsInvocation: ({ reader, begun, now, lost, time }: DirectAccess) =>
    // A remaining time that is not positive, as after the clock was set forward, is not enforced.
    time >= (reader.times[0] as number) + reader.remaining ||
    now <= Math.max(begun, reader.begun + reader.remaining) + lost - reader.lost,
}

/** The end of an invocation or a read. */
export interface Settled {
  readonly reader: Reader
  /** By the monotonic clock. */
  readonly now: number
  readonly lost: number
}

/** Laws of ends. */
export const OF_ENDS = {
  anInvocationSettlesByItsDeadline: ({ reader, now, lost }: Settled) =>
    now - reader.begun <= reader.remaining + reader.handling + lost - reader.lost,
}

/** A moment in which nothing moves. */
export interface Rest {
  /** Whether nobody reads anything. */
  readonly isIdle: boolean
  readonly requests: readonly Request[]
  readonly files: readonly string[]
  readonly unhandled: readonly unknown[]
  readonly warnings: readonly string[]
}

export const OF_REST = {
  noRequestIsLeftRunning: ({ isIdle, requests }: Rest) =>
    !isIdle || requests.every(({ isUnderWay, action }) => !isUnderWay || action === 'load'),

  noLitterIsLeft: ({ isIdle, requests, files }: Rest) =>
    !isIdle || requests.length > 0 || !files.some((path) => path.includes('lambda-cache')),

  nothingGoesUnhandled: ({ unhandled }: Rest) => unhandled.length === 0,

  aWarningHoldsNoSecret: ({ warnings }: Rest) => !warnings.some((line) => line.includes(CANARY)),
}

/** Laws of contexts with values. */
export const OF_CONTEXTS = {
  aContextShowsNoSecret: ({ context }: { readonly context: object }) =>
    !(
      inspect(context, { showHidden: true }) +
      JSON.stringify(context) +
      inspect({ ...context })
    ).includes(CANARY),
}

/** Laws of what comes after everything: AWS answers again. */
export const OF_RECOVERY = {
  readers: {
    everyReaderSettles: ({ readers }: { readonly readers: readonly Reader[] }) =>
      readers.length === 0,
  },
  line: {
    allPlacesComeBack: ({ places }: { readonly places: number }) => places === 20,
  },
  invocation: {
    noEnvironmentIsLost: ({
      outcome,
      isClash,
    }: {
      readonly outcome: unknown
      readonly isClash: boolean
    }) => isClash || outcome === 'done',
  },
}
