/**
 * Random programs against lambda-cache.ts, on a clock that does not move by itself and with an AWS that answers when it is
 * told to: `npm run model -- --runs 100000 --seed 1 --file lambda-cache.ts`, and in `npm test`.
 *
 * `npm test` runs 600 programs. One that breaks a law is shrunk to a few commands, which are printed with the law's name. With
 * `--file`, the programs run against another version of the file, and go on after each finding with the laws that still hold.
 *
 * To add a law, write a function of a line or two in `laws.ts`, named after what it promises: it gets what has happened and
 * returns whether the promise is kept. To add a command, write a `commandOf(name, plans, run)` here and list it in
 * `commandsOfPrograms`. What AWS, the disk or the clock then do is in `world.ts`.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import fc from 'fast-check'
import { heapUsed } from './heap.js'
import { type Instantiate, instancesOf } from './instance.js'
import {
  BrokenLaw,
  type EntryPlan,
  type InvocationPlan,
  REGIONS,
  Run,
  shown,
  type WrapperPlan,
} from './run.js'
import type { Outcome, Request, Thing } from './world.js'

// ---- Commands ----

class Command implements fc.AsyncCommand<Run, Run> {
  readonly #name: string
  readonly #plan: unknown
  readonly #run: (run: Run) => unknown
  readonly #isPossible: (run: Readonly<Run>) => boolean

  constructor(
    name: string,
    plan: unknown,
    run: (run: Run) => unknown,
    isPossible: (run: Readonly<Run>) => boolean = () => true,
  ) {
    this.#name = name
    this.#plan = plan
    this.#run = run
    this.#isPossible = isPossible
  }

  check(run: Readonly<Run>): boolean {
    return this.#isPossible(run)
  }

  async run(run: Run): Promise<void> {
    await this.#run(run)
    await run.rest()
  }

  toString(): string {
    return `${this.#name}(${shown(this.#plan)})`
  }
}

function commandOf<T>(
  name: string,
  plans: fc.Arbitrary<T>,
  run: (run: Run, plan: T) => unknown,
  isPossible?: (run: Readonly<Run>, plan: T) => boolean,
): fc.Arbitrary<Command> {
  return plans.map(
    (plan) =>
      new Command(
        name,
        plan,
        (model) => run(model, plan),
        (model) => isPossible?.(model, plan) ?? true,
      ),
  )
}

const maxAges = fc.constantFrom(undefined, 0, 1, 60, Infinity)
const optional = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined })

function entryPlans(...kinds: EntryPlan['kind'][]): fc.Arbitrary<EntryPlan> {
  return fc.record({
    kind: fc.constantFrom(...kinds),
    index: fc.nat(1),
    region: optional(fc.constantFrom(...REGIONS)),
    maxAge: maxAges,
    hasDefault: fc.boolean(),
    parse: optional(fc.constantFrom('a' as const, 'b' as const)),
  })
}

const wrapperPlans: fc.Arbitrary<WrapperPlan> = fc.record({
  entries: fc.array(
    entryPlans('parameter', 'secret', 'file', 'object', 'custom', 'tree', 'group'),
    {
      minLength: 1,
      maxLength: 3,
    },
  ),
  maxAge: maxAges,
  staleIfError: optional(fc.constantFrom(0, 10)),
  refreshes: fc.boolean(),
  sharesNames: fc.boolean(),
  hasProvider: fc.boolean(),
  isOuter: fc.boolean(),
})

const invocations = commandOf(
  'invoke',
  fc.record<InvocationPlan>({
    wrapper: fc.nat(2),
    reuses: fc.boolean(),
    remaining: fc.constantFrom(undefined, 0, 100, 1000, 3000, 30_000),
    takes: fc.constantFrom(0, 10, 1000),
    blocks: fc.constantFrom(0, 0, 500, 5000),
    reads: fc.constantFrom(false, false, true),
    fails: fc.constantFrom(undefined, undefined, 'stale' as const, 'other' as const),
  }),
  (run, plan) => run.invoke(plan),
)

const answers = commandOf(
  'answer',
  fc.record({
    which: fc.nat(3),
    outcome: fc.constantFrom<Outcome>(
      'whole',
      'whole',
      'half',
      'refused',
      'throttled',
      'broken',
      'reset',
    ),
    isAsSent: fc.boolean(),
  }),
  (run, { which, outcome, isAsSent }) =>
    run.answer([...run.requests][which] as Request, outcome, isAsSent),
  (run, { which }) => which < run.requests.size,
)

const answersToAll = commandOf(
  'answerAll',
  fc.record({
    outcome: fc.constantFrom<Outcome>(
      'whole',
      'whole',
      'whole',
      'refused',
      'throttled',
      'broken',
      'reset',
    ),
    isAsSent: fc.boolean(),
  }),
  (run, { outcome, isAsSent }) => {
    for (const request of run.requests) run.answer(request, outcome, isAsSent)
  },
  (run) => run.requests.size > 0,
)

const deaf = commandOf(
  'deafen',
  fc.nat(3),
  (run, which) => {
    ;([...run.requests][which] as Request).isDeaf = true
  },
  (run, which) => which < run.requests.size,
)

const automatic = commandOf(
  'answerByItself',
  optional(fc.constantFrom<Outcome>('whole', 'refused', 'throttled')),
  (run, outcome) => {
    run.automatic = outcome
  },
)

const changes = commandOf(
  'change',
  fc.record({
    which: fc.nat(11),
    state: fc.constantFrom(
      {},
      { isMissing: true },
      { isMissing: false },
      { isDenied: true },
      { isDenied: false },
      { isBad: true },
    ),
  }),
  (run, { which, state }) => run.change([...run.aws.things][which] as Thing, state),
  (run, { which }) => which < [...run.aws.things].length,
)

const passing = commandOf(
  'pass',
  fc.constantFrom(1, 50, 100, 300, 1000, 2000, 5000, 49_000, 60_000, 400_000),
  (run, milliseconds) => run.clock.pass(milliseconds),
)

const shifts = commandOf(
  'shiftClock',
  fc.constantFrom(-3_600_000, -10_000, 10_000, 59_000, 3_600_000),
  (run, milliseconds) => run.shift(milliseconds),
)

const touches = commandOf(
  'touch',
  fc.record({
    index: fc.nat(1),
    how: fc.constantFrom('remove' as const, 'change' as const, 'directory' as const),
  }),
  (run, { index, how }) => run.touch(index, how),
)

const providers = commandOf(
  'providers',
  fc.constantFrom(
    'answer' as const,
    'answer' as const,
    'hang' as const,
    'fail' as const,
    'read' as const,
  ),
  (run, behaviour) => {
    run.providers = behaviour
  },
)

/** One thing is read again and again while AWS comes and goes. */
const outages = commandOf(
  'readOften',
  fc.record({
    entry: entryPlans('parameter', 'secret', 'file', 'object', 'tree'),
    steps: fc.array(
      fc.record({
        outcome: fc.constantFrom<Outcome>('whole', 'whole', 'refused', 'throttled'),
        maxAge: fc.constantFrom(0, 1, 60),
        pause: fc.constantFrom(300, 1000, 2000),
        becomes: fc.oneof(
          { weight: 5, arbitrary: fc.constant(undefined) },
          { weight: 2, arbitrary: fc.constantFrom('good' as const, 'bad' as const) },
        ),
      }),
      { minLength: 2, maxLength: 6 },
    ),
  }),
  async (run, { entry, steps }) => {
    for (const { outcome, maxAge, pause, becomes } of steps) {
      if (becomes) run.change(run.thingOf(entry), { isBad: becomes === 'bad' })
      run.automatic = outcome
      run.read({ ...entry, maxAge })
      await run.rest()
      await run.clock.pass(pause)
    }
    run.automatic = undefined
  },
)

const moves = commandOf('moveBucket', fc.constantFrom(...REGIONS), (run, region) =>
  run.moveBucket(region),
)

const commandsOfPrograms: fc.Arbitrary<Command>[] = [
  providers,
  moves,
  outages,
  invocations,
  invocations,
  answers,
  answers,
  answersToAll,
  automatic,
  changes,
  passing,
  passing,
  shifts,
  deaf,
  touches,
  commandOf('read', entryPlans('parameter', 'secret', 'file', 'object', 'tree'), (run, plan) =>
    run.read(plan),
  ),
  commandOf('prefetch', fc.nat(2), (run, index) => run.prefetch(index)),
  commandOf('clearCache', fc.constant(''), (run) => run.clearCache()),
  commandOf(
    'crowd',
    fc.oneof(
      { weight: 50, arbitrary: fc.constant(20) },
      { weight: 1, arbitrary: fc.constant(1100) },
    ),
    (run, size) => run.crowd(size),
  ),
]

// ---- What is run ----

interface Finding {
  readonly law: string
  /** After so many programs. */
  readonly programs: number
  readonly details: string
  readonly program: string
}

/** Runs random programs until one breaks a law. */
export async function findFault(
  instantiate: Instantiate,
  parameters: fc.Parameters<unknown>,
  ignored: ReadonlySet<string> = new Set(),
): Promise<Finding | undefined> {
  /** The program is to shrink to one that breaks the same law. */
  let law: string | undefined
  let details = ''
  const current: { run?: Run } = {}
  const note = (error: unknown): void => void current.run?.unhandled.push(error)
  process.on('unhandledRejection', note)
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  const property = fc.asyncProperty(
    fc.array(wrapperPlans, { minLength: 1, maxLength: 3 }),
    // With no pause at all, whoever is throttled would ask again and again in no time.
    fc.constantFrom(0.01, 0.5, 0.99),
    fc.commands(commandsOfPrograms, { maxCommands: 30, size: 'max' }),
    async (plans, luck, commands) => {
      const run = new Run(instantiate, plans, luck, ignored)
      current.run = run
      try {
        await fc.asyncModelRun(() => ({ model: run, real: run }), commands)
        await run.recover()
      } catch (error) {
        if (!(error instanceof BrokenLaw)) throw error
        law ??= error.law
        if (error.law !== law) return
        details = error.message
        throw error
      }
    },
  )
  const result = await fc.check(property, parameters as never)
  process.off('unhandledRejection', note)
  Error.stackTraceLimit = stackTraceLimit
  if (!result.failed) return undefined
  if (!law) throw result.errorInstance
  const [plans, luck, commands] = result.counterexample as unknown[]
  return {
    law,
    details,
    programs: result.numRuns,
    program: `${shown(plans)}\nluck ${luck}\n${commands}`,
  }
}

/** Runs one long program. Returns by how many bytes the heap has grown in its second half. */
async function growth(instantiate: Instantiate, length: number, seed: number): Promise<number> {
  Error.stackTraceLimit = 0
  const plans = fc.sample(wrapperPlans, { numRuns: 3, seed })
  const commands = fc.sample(fc.oneof(...commandsOfPrograms), { numRuns: length, seed })
  const run = new Run(instantiate, plans, 0.5, new Set())
  let before = 0
  for (const [index, command] of commands.entries()) {
    if (command.check(run)) await command.run(run)
    // What is never answered is kept by whoever does not answer it.
    if (index % 50 === 0) for (const request of run.requests) run.answer(request, 'whole', false)
    if (index === length >> 1) {
      await run.clock.pass(60_000)
      before = heapUsed()
    }
  }
  await run.recover()
  return heapUsed() - before
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '1000' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      file: { type: 'string' },
    },
  })
  const ignored = new Set<string>()
  const instantiate = await instancesOf(values.file)
  const [numRuns, seed] = [Number(values.runs), Number(values.seed)]
  for (;;) {
    const finding = await findFault(instantiate, { numRuns, seed }, ignored)
    if (!finding) break
    const { law, details, program, programs } = finding
    console.log(`${law}, after ${programs} programs\n${program}\n${details.slice(0, 3000)}\n`)
    ignored.add(law)
  }
  console.log(`${numRuns} programs, seed ${seed}: ${ignored.size} laws broken`)
  if (ignored.size > 0) process.exit(1)
  const grown = await growth(instantiate, 10_000, seed)
  console.log(`10000 commands in one program: the heap grew by ${grown} bytes in its second half`)
  // What these commands read would be more.
  if (grown > 1_000_000) process.exit(1)
}
