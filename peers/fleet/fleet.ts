import type { LambdaCacheError } from '../../lambda-cache.js'
import { present } from '../present.js'
import { type Clock, createClock } from './clock.js'
import type { Load } from './environment.js'
import { createHistogram, type Histogram, type Waits } from './histogram.js'
import { createRandom } from './random.js'
import { type Answered, createSsm, type Series, type Ssm, type SsmSettings } from './ssm.js'

export interface Settings extends SsmSettings {
  readonly mode: Mode
  readonly environments: number
  /** Milliseconds within which all environments are invoked for the first time. */
  readonly startsWithin: number
  /** Milliseconds after which nothing is invoked any more. */
  readonly duration: number
  /** Milliseconds from the start of an invocation to that of the next one in the same environment: any from the first to the second. */
  readonly interval: readonly [least: number, most: number]
  /** Seconds. */
  readonly maxAge: number
  /** Seconds. */
  readonly staleIfError: number
  /** How many parameters each environment reads. */
  readonly parameters: number
  /** Where it reads them: as parameters, as secrets, or as parameters in the load of a custom entry. */
  readonly source: 'ssm' | 'secrets' | 'custom'
  /** Milliseconds that an invocation may take: the function's timeout. */
  readonly timeout: number
  /** Seconds after which the figures no longer count the start. */
  readonly steadyFrom: number
  readonly seed: number
}

/** `ahead`: as built. `fixed`: the point of the refresh ahead is at 100 % of `maxAge`, so that values expire and are then waited for. */
export type Mode = 'ahead' | 'fixed'

/** One simulation. */
export interface Run {
  readonly group: 'hour' | 'plenty' | 'parameters' | 'start' | 'spread' | 'patient'
  readonly settings: Settings
  readonly figures: Figures
  readonly series?: Series
}

export interface Figures {
  readonly invocations: number
  readonly failedInvocations: number
  /** Environments whose first invocation threw. */
  readonly failedColdStarts: number
  /** The most invocations of one environment that threw one after the other. */
  readonly failuresInARow: number
  /** Milliseconds from the start until the last invocation that threw had begun; `null` where none did. */
  readonly lastFailureAt: number | null
  /** Milliseconds from the start until the last environment had its values; `null` where one never had. */
  readonly allReadyAt: number | null
  /** First invocations, from their start to their end, whether they threw or not. */
  readonly coldStarts: Waits
  /** From the start of an invocation to that of its handler: what the handler's answer is late by. */
  readonly beforeHandler: Waits
  /** Whole invocations. The handlers take no time, so a refresh beside one counts in full. */
  readonly whole: Waits
  readonly calls: Calls
  /** Given a value that was older than `maxAge` when the invocation began, since SSM had throttled. */
  readonly staleInvocations: number
  /** Given a value that became older than `maxAge` while the invocation waited for another one. */
  readonly agedWhileWaiting: number
  readonly environmentsServedStale: number
  /** Milliseconds. */
  readonly oldestValue: number
  readonly warnings: number
}

export interface Calls {
  readonly allowed: number
  readonly throttled: number
  /** Those that asked for some of the parameters and not for all. */
  readonly partial: number
  /** Calls in a second, over all of them, and after the start is over where it comes to that. */
  readonly all: Rate
  readonly steady:
    | (Rate & { readonly throttled: number; readonly perEnvironmentAndMaxAge: number })
    | null
}

export interface Rate {
  readonly mean: number
  readonly standardDeviation: number
  readonly peak: number
}

export interface Result {
  readonly settings: Settings
  readonly figures: Figures
  readonly series: Series
}

interface Environment {
  readonly handler: (event: object, context: Context) => Promise<void>
  readonly known: Map<string, Known>
  lastStatus: number
  calls: number
  invocations: number
  /** When the invocation under way began. */
  startedAt: number | undefined
  handlerAt: number | undefined
  failuresInARow: number
  isReady: boolean
  servedStale: boolean
}

/** What SSM said of a parameter. */
interface Known {
  /** The last value, and the one before. */
  readonly answers: readonly Arrived[]
  readonly lastStatus: number
}

interface Arrived {
  readonly value: string
  readonly askedAt: number
  readonly arrivedAt: number
}

interface Fleet {
  readonly settings: Settings
  readonly clock: Clock
  readonly random: () => number
  readonly ssm: Ssm
  readonly environments: Environment[]
  readonly coldStarts: Histogram
  readonly beforeHandler: Histogram
  readonly whole: Histogram
  failedColdStarts: number
  failedInvocations: number
  failuresInARow: number
  readyEnvironments: number
  lastFailureAt: number | null
  allReadyAt: number | null
  staleInvocations: number
  agedWhileWaiting: number
  oldestValue: number
  partialCalls: number
  warnings: number
  /** What must not happen. */
  readonly defects: Map<string, number>
}

/** The properties are there for the types: the values are put on the prototype. */
type Context = Readonly<Record<string, unknown>> & { getRemainingTimeInMillis(): number }

/** Throws where anything happened that must not, whatever the settings. */
export async function simulate(load: Load, settings: Settings): Promise<Result> {
  const clock = createClock()
  const random = createRandom(settings.seed)
  const fleet: Fleet = {
    settings,
    clock,
    random,
    ssm: createSsm(clock, random, settings),
    environments: [],
    coldStarts: createHistogram(),
    beforeHandler: createHistogram(),
    whole: createHistogram(),
    failedColdStarts: 0,
    failedInvocations: 0,
    failuresInARow: 0,
    readyEnvironments: 0,
    lastFailureAt: null,
    allReadyAt: null,
    staleInvocations: 0,
    agedWhileWaiting: 0,
    oldestValue: 0,
    partialCalls: 0,
    warnings: 0,
    defects: new Map(),
  }
  for (let index = 0; index < settings.environments; index += 1) {
    const environment = createEnvironment(
      fleet,
      load,
      createRandom(settings.seed * 1_000_003 + index),
    )
    fleet.environments.push(environment)
    clock.at(
      1 + Math.floor(random() * settings.startsWithin),
      () => void invoke(fleet, environment),
    )
  }
  await clock.run()
  const figures = figuresOf(fleet)
  checkCounts(fleet)
  const defects = [...fleet.defects].map(([defect, times]) => `${defect} (${times} times)`)
  if (defects.length > 0)
    throw new Error(`the simulation of ${settings.mode} broke: ${defects.join('; ')}`)
  return { settings, figures, series: fleet.ssm.series }
}

function createEnvironment(fleet: Fleet, load: Load, random: () => number): Environment {
  const { settings, clock, ssm } = fleet
  const names = parameterNames(settings)
  const warn = (): void => {
    fleet.warnings += 1
  }
  const {
    getParameter,
    withCache,
    LambdaCacheError: CacheError,
  } = load(clock, () => drawFor(settings.mode, environment, random), warn)
  const onCall = (asked: readonly string[]): void => {
    environment.calls += 1
    if (asked.length < names.length) fleet.partialCalls += 1
    // Lambda freezes an environment between invocations: a call that is under way then is lost.
    if (environment.startedAt === undefined) note(fleet, 'a call outside of an invocation')
    // An entry with a load counts its age from the beginning of that.
    if (settings.source !== 'custom') checkAges(fleet, environment, asked)
  }
  const onAnswer = ({ status, names: asked, askedAt, answeredAt }: Answered): void => {
    environment.lastStatus = status
    if (environment.startedAt === undefined) note(fleet, 'an answer outside of an invocation')
    for (const name of asked) {
      const { answers } = environment.known.get(name) ?? { answers: [] }
      const arrived =
        status === 200
          ? [{ value: ssm.valueAt(name, answeredAt), askedAt, arrivedAt: clock.now }]
          : []
      environment.known.set(name, {
        answers: [...arrived, ...answers].slice(0, 2),
        lastStatus: status,
      })
    }
  }
  const fetch = ssm.connect(onCall, onAnswer)
  const entries = {
    ssm: { ssm: names },
    secrets: { secrets: names },
    custom: {
      custom: names.map((name) => ({
        as: name.slice(1),
        load: () => getParameter(name, { fetch, maxAge: 0 }),
      })),
    },
  }[settings.source]
  const cached = withCache(
    async (_event: object, context: Context) => {
      environment.handlerAt = clock.now
      checkValues(fleet, environment, names, context)
    },
    {
      ...entries,
      maxAge: settings.maxAge,
      staleIfError: settings.staleIfError,
      fetch,
    },
  ) as Environment['handler']
  // A load that AWS throttles may take longer than its invocation.
  const expected = settings.source === 'custom' ? /Throttling|Timeout/ : /Throttling/
  const isThrottling = (error: unknown): boolean =>
    error instanceof CacheError && expected.test((error as LambdaCacheError).code)
  const environment: Environment = {
    handler: async (event, context) => {
      try {
        return await cached(event, context)
      } catch (error) {
        if (!isThrottling(error)) note(fleet, String(error))
        throw error
      }
    },
    known: new Map(),
    lastStatus: 0,
    calls: 0,
    invocations: 0,
    startedAt: undefined,
    handlerAt: undefined,
    failuresInARow: 0,
    isReady: false,
    servedStale: false,
  }
  return environment
}

/**
 * The library draws the point of the refresh ahead when an answer has come, and the pause before the next attempt when it was throttled.
 * Only the former is what the modes differ in: pauses are random in both.
 */
function drawFor(mode: Mode, { lastStatus }: Environment, random: () => number): number {
  return mode === 'fixed' && lastStatus === 200 ? 0.99999999 : random()
}

async function invoke(fleet: Fleet, environment: Environment): Promise<void> {
  const { clock, settings, random } = fleet
  const startedAt = clock.now
  const isFirst = environment.invocations === 0
  environment.invocations += 1
  environment.startedAt = startedAt
  environment.handlerAt = undefined
  try {
    await environment.handler({}, {
      getRemainingTimeInMillis: () => startedAt + settings.timeout - clock.now,
    } as never)
    fleet.beforeHandler.add(present(environment.handlerAt as number | undefined) - startedAt)
    environment.failuresInARow = 0
  } catch {
    fleet.failedInvocations += 1
    fleet.lastFailureAt = Math.max(fleet.lastFailureAt ?? 0, startedAt)
    if (isFirst) fleet.failedColdStarts += 1
    environment.failuresInARow += 1
    fleet.failuresInARow = Math.max(fleet.failuresInARow, environment.failuresInARow)
  }
  environment.startedAt = undefined
  const took = clock.now - startedAt
  if (took >= settings.timeout) note(fleet, 'an invocation that takes longer than its timeout')
  if (isFirst) fleet.coldStarts.add(took)
  fleet.whole.add(took)
  const [least, most] = settings.interval
  // One invocation at a time: the next one waits for this.
  const next = Math.max(
    clock.now + 1,
    startedAt + least + Math.floor(random() * (most - least + 1)),
  )
  if (next < settings.duration) clock.at(next, () => void invoke(fleet, environment))
}

/** That nothing is asked for before the mode's first point of a refresh ahead. */
function checkAges(fleet: Fleet, { known }: Environment, asked: readonly string[]): void {
  const { clock, settings } = fleet
  const least = settings.maxAge * (settings.mode === 'fixed' ? 1000 : 800)
  const ages = asked
    .flatMap((name) => known.get(name)?.answers[0] ?? [])
    .map(({ askedAt }) => clock.now - askedAt)
  if (ages.some((age) => age < least)) note(fleet, `a call for a value younger than ${least} ms`)
}

/** That the handler is given what SSM answered last, and nothing that is too old. */
function checkValues(
  fleet: Fleet,
  environment: Environment,
  names: readonly string[],
  context: Context,
): void {
  const { clock, settings } = fleet
  const startedAt = present(environment.startedAt)
  let [age, ageAtStart] = [0, 0]
  for (const name of names) {
    const { answers = [], lastStatus } = environment.known.get(name) ?? {}
    // What has arrived since the invocation began may have been asked for ahead, for the next one.
    const given = answers.find(
      ({ value }, index) =>
        value === context[name.slice(1)] &&
        (index === 0 || present(answers[0]).arrivedAt >= startedAt),
    )
    if (!given) note(fleet, 'a value that SSM did not answer last')
    else {
      age = Math.max(age, clock.now - given.askedAt)
      ageAtStart = Math.max(ageAtStart, startedAt - given.askedAt)
      if (startedAt - given.askedAt >= settings.maxAge * 1000 && lastStatus !== 400)
        note(fleet, 'a value older than maxAge although SSM had answered')
    }
  }
  if (age >= (settings.maxAge + settings.staleIfError) * 1000)
    note(fleet, 'a value older than maxAge and staleIfError')
  const isStale = ageAtStart >= settings.maxAge * 1000
  if (isStale) fleet.staleInvocations += 1
  else if (age >= settings.maxAge * 1000) fleet.agedWhileWaiting += 1
  environment.servedStale ||= isStale
  fleet.oldestValue = Math.max(fleet.oldestValue, age)
  if (!environment.isReady) fleet.readyEnvironments += 1
  environment.isReady = true
  if (fleet.readyEnvironments === settings.environments) fleet.allReadyAt ??= clock.now
}

/** That both ends counted the same. */
function checkCounts({ environments, ssm, staleInvocations, warnings, defects }: Fleet): void {
  const made = environments.reduce((calls, environment) => calls + environment.calls, 0)
  const recorded = sum(ssm.series.allowed) + sum(ssm.series.throttled)
  if (made !== recorded) defects.set(`${made} calls made and ${recorded} recorded`, 1)
  if (staleInvocations > 0 !== warnings > 0)
    defects.set(`${staleInvocations} invocations with stale values and ${warnings} warnings`, 1)
}

function note({ defects }: Fleet, defect: string): void {
  defects.set(defect, (defects.get(defect) ?? 0) + 1)
}

function figuresOf(fleet: Fleet): Figures {
  const { environments, ssm, settings } = fleet
  const seconds = settings.duration / 1000
  const total = Array.from(
    { length: seconds },
    (_, second) => (ssm.series.allowed[second] ?? 0) + (ssm.series.throttled[second] ?? 0),
  )
  const steady = total.slice(settings.steadyFrom)
  return {
    invocations: environments.reduce(
      (invocations, environment) => invocations + environment.invocations,
      0,
    ),
    failedInvocations: fleet.failedInvocations,
    failedColdStarts: fleet.failedColdStarts,
    failuresInARow: fleet.failuresInARow,
    lastFailureAt: fleet.lastFailureAt,
    allReadyAt: fleet.allReadyAt,
    coldStarts: fleet.coldStarts.summary(),
    beforeHandler: fleet.beforeHandler.summary(),
    whole: fleet.whole.summary(),
    calls: {
      allowed: sum(ssm.series.allowed),
      throttled: sum(ssm.series.throttled),
      partial: fleet.partialCalls,
      all: rateOf(total),
      steady:
        steady.length === 0
          ? null
          : {
              ...rateOf(steady),
              throttled: sum(ssm.series.throttled.slice(settings.steadyFrom)),
              perEnvironmentAndMaxAge:
                (rateOf(steady).mean / settings.environments) * settings.maxAge,
            },
    },
    staleInvocations: fleet.staleInvocations,
    agedWhileWaiting: fleet.agedWhileWaiting,
    environmentsServedStale: environments.filter(({ servedStale }) => servedStale).length,
    oldestValue: fleet.oldestValue,
    warnings: fleet.warnings,
  }
}

function rateOf(counts: readonly number[]): Rate {
  const mean = sum(counts) / Math.max(1, counts.length)
  const variance = sum(counts.map((count) => (count - mean) ** 2)) / Math.max(1, counts.length)
  return { mean, standardDeviation: Math.sqrt(variance), peak: Math.max(0, ...counts) }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

function parameterNames({ parameters }: Settings): string[] {
  return Array.from({ length: parameters }, (_, index) => `/parameter${index + 1}`)
}
