import { present } from '../present.js'
import type { Calls, Figures, Mode, Run } from './fleet.js'

const MODE_NAMES: Readonly<Record<Mode, string>> = { ahead: 'as built', fixed: 'fixed expiry' }

/** The runs by what they are for. */
type Runs = Readonly<Record<Run['group'], readonly Run[]>>

type Steady = NonNullable<Calls['steady']>

/** FLEET.md, with every number taken from the runs. */
export function report(all: readonly Run[]): string {
  const of = (group: Run['group']): readonly Run[] => all.filter((run) => run.group === group)
  const runs: Runs = {
    hour: of('hour'),
    plenty: of('plenty'),
    parameters: of('parameters'),
    start: of('start'),
    spread: of('spread'),
    patient: of('patient'),
  }
  const sections = [
    introduction(runs),
    theHour(runs),
    theStarts(runs),
    theParameters(runs),
    onPaper(runs),
    advice(runs),
  ]
  return `${sections.join('\n\n')}\n`
}

function introduction({ hour }: Runs): string {
  const {
    environments,
    startsWithin,
    interval,
    latency,
    parameters,
    maxAge,
    quota,
    timeout,
    changesEvery,
    seed,
  } = present(hour[0]).settings
  return `# A fleet against a quota

Made by \`npm run fleet\`; the same numbers come out on every machine (seed ${seed}).

What is simulated, unless a table says otherwise:

- ${whole(environments)} environments, each with an instance of lambda-cache.ts of its own, on a virtual clock. All are invoked for the first time
  within ${startsWithin / 1000} s, then every ${interval[0] / 1000} to ${interval[1] / 1000} s. The timeout is ${timeout / 1000} s.
  After an error the environment lives on, as in Lambda.
- The handler reads ${parameters} parameters with \`maxAge: ${maxAge}\` and takes no time.
- SSM takes ${latency[0]} to ${latency[1]} ms and allows ${quota.rate} calls a second: a token bucket of ${quota.burst}, full at the start
  (AWS documents the rate, not the bucket). The rest get ThrottlingException.

Two modes of the same code, which differ in a random number alone:

- **${MODE_NAMES.ahead}**: what came in one answer is refreshed ahead, beside the handler, from one random point between 80 and 100 % of \`maxAge\`.
- **${MODE_NAMES.fixed}**: that point is at 100 %, so values expire and the invocation waits for new ones.

A run fails if SSM counted other calls than the environments, a call or an answer comes outside of an invocation, a value is asked for
again before 80 % of \`maxAge\` (100 % with ${MODE_NAMES.fixed}), a handler gets anything but SSM's last answer (the values change every
${changesEvery / 1000} s) or, unless SSM throttled, one older than \`maxAge\`, or an invocation throws anything but ThrottlingException.`
}

function theHour({ hour }: Runs): string {
  const [{ settings }] = hour as [Run]
  const [ahead, fixed] = [steadyOf(hour, 'ahead'), steadyOf(hour, 'fixed')]
  const failsLater = hour.some(
    ({ figures: { lastFailureAt, allReadyAt } }) => (lastFailureAt ?? 0) >= (allReadyAt ?? 0),
  )
  return `## ${whole(settings.environments)} environments, ${settings.duration / 60_000} minutes

${columns(hour, [
  ['invocations', ({ invocations }) => whole(invocations)],
  ['first invocations that failed', ({ failedColdStarts }) => whole(failedColdStarts)],
  [
    'later ones that failed',
    ({ failedColdStarts, failedInvocations }) => whole(failedInvocations - failedColdStarts),
  ],
  [
    'the last that failed began after',
    ({ lastFailureAt }) => (lastFailureAt === null ? 'none did' : seconds(lastFailureAt)),
  ],
  ['all environments have values after', readyAt],
  [
    'invocations that waited before the handler',
    ({ beforeHandler: { waited, count } }) => percent(waited / count),
  ],
  [
    'that wait, over all invocations: p99, p99.9, longest',
    ({ beforeHandler: { p99, p999, longest } }) =>
      `${whole(p99)}, ${whole(p999)}, ${whole(longest)} ms`,
  ],
  ['invocations with a stale value', ({ staleInvocations }) => whole(staleInvocations)],
  ['calls throttled', ({ calls }) => whole(calls.throttled)],
  [
    `calls throttled after ${settings.steadyFrom} s`,
    ({ calls }) => whole(present(calls.steady).throttled),
  ],
  [
    `calls a second after ${settings.steadyFrom} s: mean, standard deviation, peak`,
    ({ calls }) => rate(present(calls.steady)),
  ],
  [
    'calls of an environment in each `maxAge`',
    ({ calls }) => present(calls.steady).perEnvironmentAndMaxAge.toFixed(2),
  ],
])}

${failsLater ? 'Invocations fail after the start too.' : 'No invocation fails once all environments have their values.'} After ${settings.steadyFrom} s, "${MODE_NAMES.ahead}" makes
${percent(ahead.mean / fixed.mean, 0)} of the calls of "${MODE_NAMES.fixed}", with a standard deviation of ${ahead.standardDeviation.toFixed(1)} instead of ${fixed.standardDeviation.toFixed(1)}.`
}

function theStarts({ start, spread, patient }: Runs): string {
  const sizes = [...new Set(start.map(({ settings }) => settings.environments))]
  const rates = [...new Set(start.map(({ settings }) => settings.quota.rate))]
  const of = (size: number, callsPerSecond: number): Figures =>
    present(
      start.find(
        ({ settings }) => settings.environments === size && settings.quota.rate === callsPerSecond,
      ),
    ).figures
  const show = (figures: Figures): string =>
    `${whole(figures.failedColdStarts)} failed, ${readyAt(figures)}`
  const rows = sizes.map((size) => [
    whole(size),
    ...rates.map((callsPerSecond) => show(of(size, callsPerSecond))),
  ])
  const [{ settings }] = start as [Run]
  const { startsWithin, interval, timeout } = settings
  const [{ settings: own }] = patient as [Run]
  const plain = of(own.environments, own.quota.rate)
  return `## Cold starts

How many first invocations fail, and after how long all environments have their values, by size and calls a second allowed. All start within
${startsWithin / 1000} s and are invoked every ${interval[0] / 1000} to ${interval[1] / 1000} s, with a timeout of ${timeout / 1000} s.

${table(['environments', ...rates.map((callsPerSecond) => `${whole(callsPerSecond)}/s`)], rows)}

Each environment makes one call at least, so N of them take N / quota seconds, whoever makes the calls. An invocation with nothing to serve goes on until its
deadline, with random pauses of up to 1, 2, 4 and then 5 s. For ${whole(own.environments)} environments at ${own.quota.rate} a second:

${spread.map((run) => spreading(run, plain)).join('\n')}

With one value each, by where it is read and by the function's timeout. "On paper" is how many can have no answer in that time, whoever asks. "Custom" is the \`load\` of an
entry that calls \`getParameter\`.

${table(
  [
    'read as',
    'timeout',
    'first invocations that failed',
    'on paper',
    'they took: median, longest',
    'calls throttled, in each second that an environment waits',
  ],
  patient.map(waiting),
)}`
}

function waiting({
  settings,
  figures: { failedColdStarts, coldStarts, whole: all, calls },
}: Run): string[] {
  const { environments, quota, timeout, source } = settings
  const answered = quota.burst + (quota.rate * timeout) / 1000
  return [
    source,
    seconds(timeout),
    whole(failedColdStarts),
    whole(Math.max(0, environments - answered)),
    `${seconds(coldStarts.median)}, ${seconds(coldStarts.longest)}`,
    (calls.throttled / ((all.count * all.mean) / 1000)).toFixed(2),
  ]
}

function spreading({ settings, figures }: Run, plain: Figures): string {
  return `- started within ${settings.startsWithin / 1000} s instead: ${whole(figures.failedColdStarts)} fail, not ${whole(plain.failedColdStarts)}.`
}

function theParameters({ parameters: runs }: Runs): string {
  const [{ settings }] = runs as [Run]
  const rows = runs.map(({ settings: { parameters }, figures: { calls } }) => [
    String(parameters),
    present(calls.steady).perEnvironmentAndMaxAge.toFixed(2),
    `${whole(calls.partial)} of ${whole(calls.allowed + calls.throttled)}`,
  ])
  const partial = runs.reduce((sum, { figures }) => sum + figures.calls.partial, 0)
  const finding =
    partial === 0
      ? 'Parameters that came in one call stay in one call'
      : 'Parameters that came in one call part'
  return `## Several parameters

As built, ${whole(settings.environments)} environments, nothing throttled, after ${settings.steadyFrom} s:

${table(['parameters', 'calls of an environment in each `maxAge`', 'calls for some of them only, in the whole run'], rows)}

${finding}: of all calls, ${whole(partial)} asked for some of an environment's parameters only. GetParameters takes up to 10 names.`
}

function onPaper({ hour, plenty }: Runs): string {
  const { maxAge, parameters, quota, startsWithin } = present(hour[0]).settings
  const rows = [10_000, 100_000].flatMap((environments) =>
    (['ahead', 'fixed'] as const).map((mode) => {
      const mean = (environments * steadyOf(hour, mode).perEnvironmentAndMaxAge) / maxAge
      const peak =
        (steadyOf(plenty, mode).peak * environments) / present(plenty[0]).settings.environments
      return [
        whole(environments),
        MODE_NAMES[mode],
        whole(mean),
        whole(mean + 4 * Math.sqrt(mean)),
        whole(peak),
        seconds(((environments - quota.burst) / quota.rate) * 1000),
        `${whole((mean * maxAge) / (quota.rate * 0.8))} s`,
      ]
    }),
  )
  const header = [
    'environments',
    'mode',
    'calls/s',
    'quota once spread',
    'quota for the rounds after a start',
    `start at ${quota.rate}/s`,
    `\`maxAge\` for 80 % of ${quota.rate}/s`,
  ]
  return `## On paper: 10,000 and 100,000 environments

From the hour's calls of an environment in each \`maxAge\` of ${maxAge} s, for ${parameters} parameters:

${table(header, rows)}

- Once spread: the mean and four standard deviations of a Poisson process, which independent calls come to.
- Rounds after a start: the peak after the first ${present(plenty[0]).settings.steadyFrom} s of ${whole(present(plenty[0]).settings.environments)} environments that start within ${startsWithin / 1000} s
  where nothing is throttled (${MODE_NAMES.ahead} ${whole(steadyOf(plenty, 'ahead').peak)}, ${MODE_NAMES.fixed} ${whole(steadyOf(plenty, 'fixed').peak)}), in proportion.

AWS's figures, to be looked up for your account:

- The default throughput of the SSM Get actions is 40 a second, shared by GetParameter, GetParameters and GetParametersByPath, for an account
  and Region. Parameter Store's higher throughput setting raises it. Pages: "AWS Systems Manager endpoints and quotas" and "Increasing
  Parameter Store throughput". Look up the figure for **GetParameters** there: it is the action that lambda-cache calls, even for one name.
- Lambda adds up to 1,000 environments to a function every 10 s (page: "Lambda scaling behavior"): 100 new ones a second, which is more than 40.
- Secrets Manager's quota for GetSecretValue is a different and larger one (page: "AWS Secrets Manager quotas").`
}

function advice({ hour }: Runs): string {
  const { maxAge, quota, timeout } = present(hour[0]).settings
  const most = (quota.rate * 0.8 * maxAge) / steadyOf(hour, 'ahead').perEnvironmentAndMaxAge
  return `## What to do

1. Turn on higher throughput where more than about ${whole(roundedDown(most))} environments read parameters (\`maxAge\` ${maxAge}, 80 % of ${quota.rate} a second),
   or more than about ${whole(quota.burst + (quota.rate * timeout) / 1000)} can start at once: what ${quota.rate} a second allow in a timeout of ${timeout / 1000} s.
2. Set \`maxAge\` to what the values need: 600 instead of 60 makes a tenth of the calls. \`refreshOn\` reads again when a password has been rotated.
   The start stays as it is.
3. Keep to ten parameters in a function: they are one call. More that belong together fit into one parameter, as JSON with \`parse\`.
4. Give the function a timeout that is long enough: it waits for its first values until then.
5. Do not count on \`prefetch()\` here: it moves the wait into the init phase and makes no fewer calls.`
}

function steadyOf(runs: readonly Run[], mode: Mode): Steady {
  return present(present(runs.find(({ settings }) => settings.mode === mode)).figures.calls.steady)
}

type Row = readonly [name: string, show: (figures: Figures) => string]

/** A column for each run. */
function columns(runs: readonly Run[], rows: readonly Row[]): string {
  const names = runs.map(({ settings }) => MODE_NAMES[settings.mode])
  return table(
    ['', ...names],
    rows.map(([name, show]) => [name, ...runs.map(({ figures }) => show(figures))]),
  )
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n')
}

function readyAt({ allReadyAt }: Figures): string {
  return allReadyAt === null ? 'never' : seconds(allReadyAt)
}

function rate({ mean, standardDeviation, peak }: Steady): string {
  return `${mean.toFixed(1)}, ${standardDeviation.toFixed(1)}, ${whole(peak)}`
}

function whole(number: number): string {
  return Math.round(number).toLocaleString('en')
}

/** To hundreds. */
function roundedDown(number: number): number {
  return Math.floor(number / 100) * 100
}

function seconds(milliseconds: number): string {
  return milliseconds < 100_000
    ? `${(milliseconds / 1000).toFixed(1)} s`
    : `${whole(milliseconds / 1000)} s`
}

function percent(share: number, digits = 2): string {
  return `${(share * 100).toFixed(digits)} %`
}
