import type { Figures, Mode } from './fleet.js'
import type { Run } from './run.js'

/** AWS's default quota for Parameter Store, in calls a second. */
const DEFAULT_QUOTA = 40

const MODE_NAMES: Readonly<Record<Mode, string>> = { ahead: 'as built', fixed: 'fixed expiry', together: 'one point for each answer' }

/** FLEET.md, with every number taken from the runs. */
export function report(runs: readonly Run[]): string {
  const hour = runs.filter(({ group }) => group === 'hour')
  const sections = [
    introduction(hour[0]!),
    theHour(hour),
    theStart(runs.filter(({ group }) => group === 'start')),
    theParameters(runs.filter(({ group }) => group === 'parameters')),
    theSizes([...runs.filter(({ group }) => group === 'smaller'), ...hour]),
    plenty(runs.filter(({ group }) => group === 'plenty')),
    onPaper(hour, runs.filter(({ group }) => group === 'plenty')),
    advice(runs),
  ]
  return `${sections.join('\n\n')}\n`
}

function introduction({ settings }: Run): string {
  const { environments, startsWithin, interval, latency, parameters, maxAge, quota, timeout, changesEvery, seed } = settings
  return `# A fleet against a quota

Made by \`npm run fleet\`; the same numbers come out on every machine (seed ${seed}).

Each environment is an instance of its own of lambda-cache.ts, with a cache and a random number generator of its own, on a virtual clock.
${whole(environments)} of them are invoked for the first time within ${startsWithin / 1000} s, and from then on every ${interval[0] / 1000} to
${interval[1] / 1000} s, one invocation
at a time, unless a table says otherwise. The handler takes no time and reads ${parameters} parameters with \`maxAge: ${maxAge}\`. A call takes
${latency[0]} to ${latency[1]} ms. SSM allows
${quota.rate} calls a second: a token bucket, full at the start, that holds ${quota.burst} (AWS documents the rate and not the size of the bucket),
and answers the rest with HTTP 400
ThrottlingException. The function's timeout is ${timeout / 1000} s. An invocation that throws leaves its environment alive, as in Lambda: the next
one tries again.

Three modes, all with the same code; they differ only in what \`Math.random\` answers when the library draws the point of the refresh ahead:

- **${MODE_NAMES.ahead}**: a random point from 80 to 100 % of \`maxAge\` for each parameter.
- **${MODE_NAMES.fixed}**: the point is at 100 %, so nothing is refreshed ahead and an invocation waits for what has expired.
- **${MODE_NAMES.together}**: as built, but parameters that came in one answer get the same point, so they stay in one call. Not built: for
  comparison.

Checked in every run, which fails otherwise: SSM recorded as many calls as the environments made; no call or answer outside of an invocation; every
value is what SSM
answered last (the parameters change every ${changesEvery / 1000} s); none is older than \`maxAge\` when its invocation begins, unless SSM had
throttled; none is older than \`maxAge + staleIfError\`; no
invocation throws anything but ThrottlingException; warnings where stale values were served and only there.`
}

function theHour(runs: readonly Run[]): string {
  const [{ settings }] = runs as [Run]
  return `## ${whole(settings.environments)} environments, ${settings.duration / 60_000} minutes

${columns(runs, MODES_ABOVE, [
  ['invocations', ({ invocations }) => whole(invocations)],
  ['cold starts that failed', ({ failedColdStarts }) => whole(failedColdStarts)],
  ['invocations that failed, these included', ({ failedInvocations }) => whole(failedInvocations)],
  ['most failures in a row of an environment', ({ failuresInARow }) => whole(failuresInARow)],
  ['the last of these began after', ({ lastFailureAt }) => (lastFailureAt === null ? '' : seconds(lastFailureAt))],
  ['all environments have values after', ({ allReadyAt }) => (allReadyAt === null ? 'never' : seconds(allReadyAt))],
  ['cold start: median, p99, longest', ({ coldStarts }) => `${coldStarts.median}, ${coldStarts.p99}, ${coldStarts.longest} ms`],
  ['wait before the handler: median, p99, p99.9, longest', ({ beforeHandler: waits }) => `${waits.median}, ${waits.p99}, ${waits.p999}, ${waits.longest} ms`],
  ['invocations that waited before the handler', ({ beforeHandler: { waited, count } }) => percent(waited / count)],
  ['whole invocation: median, p99, p99.9, longest', ({ whole: waits }) => `${waits.median}, ${waits.p99}, ${waits.p999}, ${waits.longest} ms`],
  ['invocations with a stale value; environments', ({ staleInvocations, environmentsServedStale }) => `${whole(staleInvocations)}; ${whole(environmentsServedStale)}`],
  ['invocations with a value that passed `maxAge` while they waited for another', ({ agedWhileWaiting }) => whole(agedWhileWaiting)],
  ['oldest value served', ({ oldestValue }) => seconds(oldestValue)],
  ['`console.warn` lines', ({ warnings }) => whole(warnings)],
  ['calls allowed, throttled', ({ calls }) => `${whole(calls.allowed)}, ${whole(calls.throttled)}`],
  ['calls a second: mean, standard deviation, peak', ({ calls }) => rate(calls.all)],
  [`the same after ${settings.steadyFrom} s`, ({ calls }) => rate(calls.steady!)],
  [`throttled after ${settings.steadyFrom} s`, ({ calls }) => whole(calls.steady!.throttled)],
  ['calls of an environment in each `maxAge`', ({ calls }) => calls.steady!.perEnvironmentAndMaxAge.toFixed(2)],
])}`
}

function theStart(runs: readonly Run[]): string {
  const [first] = runs as [Run]
  const { settings, figures } = first
  const rows = runs.map(({ settings: { startsWithin, quota, whenThrottled }, figures: { failedColdStarts, failedInvocations, coldStarts, allReadyAt, calls } }) => [
    `${quota.rate}/s, all within ${startsWithin / 1000} s${{ throw: '', repeat: ', function repeats', 'back off': ', function repeats after a pause' }[whenThrottled]}`,
    whole(failedColdStarts),
    whole(failedInvocations),
    `${seconds(coldStarts.median)}, ${seconds(coldStarts.p99)}, ${seconds(coldStarts.longest)}`,
    allReadyAt === null ? 'never' : seconds(allReadyAt),
    whole(calls.throttled),
  ])
  return `## The start

${whole(settings.environments)} calls at ${settings.quota.rate} a second take ${(settings.environments - settings.quota.burst) / settings.quota.rate}
s, whoever makes them. Three attempts with pauses of up to 1 and 2 s last at most about 3 s, 1.5 s on average:
${whole(figures.failedColdStarts)} of the ${whole(settings.environments)} first invocations throw ThrottlingException, and the environments get their
values in the order of luck. Each environment is invoked every
${settings.interval[0] / 1000} to ${settings.interval[1] / 1000} s here, for ${settings.duration / 1000} s. "Function repeats": what a user can write
today around the cached handler, with a timeout of 60 s: call it again when it throws
ThrottlingException, as long as there are 4 s left; with a pause, a random time up to 1 s, then 2, 4, 8, 16 s.

${table(['quota and start', 'cold starts failed', 'invocations failed', 'cold start: median, p99, longest', 'all have values after', 'throttled'], rows)}

Repeating makes failures into waits, which are as long as the quota makes them: it helps where a caller waits that long (queues, streams), and not
behind an API. The pause saves
throttled calls, which count for AWS's other callers of the same quota. A start that is spread, or a quota that fits, helps everybody.`
}

function theParameters(runs: readonly Run[]): string {
  const [{ settings }] = runs as [Run]
  const counts = [...new Set(runs.map(({ settings }) => settings.parameters))]
  const of = (parameters: number, mode: Mode): number =>
    runs.find(({ settings }) => settings.parameters === parameters && settings.mode === mode)!.figures.calls.steady!.perEnvironmentAndMaxAge
  const rows = counts.map((count) => [String(count), of(count, 'ahead').toFixed(2), of(count, 'together').toFixed(2)])
  const most = counts.at(-1)!
  const factor = of(most, 'ahead') / of(most, 'together')
  const finding = `Each parameter draws a point of its own, and an invocation past the first of them refreshes that one alone. So what one GetParameters
brought at the start comes in calls of its own later: ${factor.toFixed(1)} times as many for ${most} parameters. Fixed expiry makes one call in each
\`maxAge\`, however many
parameters; so would a refresh ahead with one point for each answer.`
  return `## Parameters that came together part

Calls of an environment in each \`maxAge\`, ${whole(settings.environments)} environments, nothing throttled, after ${settings.steadyFrom} s:

${table(['parameters', MODE_NAMES.ahead, MODE_NAMES.together], rows)}${factor > 1.2 ? `\n\n${finding}` : ''}`
}

function theSizes(runs: readonly Run[]): string {
  const [{ settings }] = runs as [Run]
  const rows = runs.map(({ settings: { environments, mode, duration }, figures: { failedColdStarts, beforeHandler, staleInvocations, calls } }) => [
    `${whole(environments)}, ${duration / 60_000} min`,
    MODE_NAMES[mode],
    whole(failedColdStarts),
    `${beforeHandler.longest} ms`,
    whole(staleInvocations),
    rate(calls.steady!),
    whole(calls.steady!.throttled),
  ])
  const header = ['environments', 'mode', 'cold starts failed', 'longest wait', 'stale invocations', `calls/s after ${settings.steadyFrom} s: mean, sd, peak`, 'throttled after that']
  return `## By size, at the same quota

${table(header, rows)}`
}

function plenty(runs: readonly Run[]): string {
  const [{ settings }] = runs as [Run]
  return `## Where the quota does not matter

${whole(settings.environments)} environments, ${whole(settings.quota.rate)} calls a second, ${settings.duration / 60_000} minutes. Nothing is
throttled, so nothing but the library
and the moments of the invocations spread the calls. The start, ${whole(settings.environments)} calls in its first second, is left out; the rounds
that follow it are not:

${columns(runs, MODES_ABOVE, [
  [`calls a second after ${settings.steadyFrom} s: mean, standard deviation, peak`, ({ calls }) => rate(calls.steady!)],
  ['invocations that waited before the handler', ({ beforeHandler: { waited, count } }) => percent(waited / count)],
  ['wait before the handler: p99, longest', ({ beforeHandler: { p99, longest } }) => `${p99}, ${longest} ms`],
])}`
}

function onPaper(hour: readonly Run[], plenty: readonly Run[]): string {
  const { maxAge, parameters, quota, startsWithin } = hour[0]!.settings
  const callsOf = (runs: readonly Run[], mode: Mode): { perEnvironmentAndMaxAge: number; peak: number } =>
    runs.find(({ settings }) => settings.mode === mode)!.figures.calls.steady!
  const rows = [1000, 10_000, 100_000].flatMap((environments) =>
    (['ahead', 'fixed', 'together'] as const).map((mode) => {
      const mean = (environments * callsOf(hour, mode).perEnvironmentAndMaxAge) / maxAge
      const peak = (callsOf(plenty, mode).peak * environments) / plenty[0]!.settings.environments
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
  const header = ['environments', 'mode', 'mean calls/s', 'quota once spread', 'quota for the rounds after a start', `start at ${quota.rate}/s`, `\`maxAge\` for 80 % of ${quota.rate}/s`]
  return `## On paper: 10,000 and 100,000 environments

For one parameter the mean is N / (0.9 · ${maxAge}) calls a second for each distinct call: 90 % of \`maxAge\` is the middle of where the refresh
ahead begins. The table has N / ${maxAge} times the calls of an
environment in each \`maxAge\` that the hour above measured, for ${parameters} parameters. "Once spread": that mean and four standard deviations of a
Poisson process, which calls come to that are independent of each other.
"For the rounds after a start": the peak above, where nothing is throttled and all start within ${startsWithin / 1000} s, in proportion to N. The
start itself is N calls, and at ${quota.rate} a second takes as long as it says.

${table(header, rows)}

Of AWS's figures:

- Parameter Store's default is ${DEFAULT_QUOTA} calls a second for an account and Region, shared by GetParameter, GetParameters and
  GetParametersByPath, and by everything else in the account that
  calls them. Page: "AWS Systems Manager endpoints and quotas", AWS General Reference.
- The account's setting "higher throughput" raises that for GetParameter and GetParameters, for a price (pages: "Changing Parameter Store
  throughput", AWS Systems Manager User Guide, and "AWS Systems Manager pricing").
  How far is on the page of the quotas, which AWS has changed over the years: quoted in 2022, it said 3,000 a second for the two together, and 100
  for GetParametersByPath. Look up the figure
  for **GetParameters** in particular: it is the action that lambda-cache calls, even for one name, and its figure need not be that of GetParameter.
- Lambda itself adds at most 1,000 environments in 10 s to a function (page: "Lambda scaling behavior", AWS Lambda Developer Guide). So 10,000 take
  100 s to start and 100,000 take 17 minutes: 100 new ones a
  second, more than ${DEFAULT_QUOTA} even so. Several functions together start faster.
- Secrets Manager allows 10,000 a second for GetSecretValue and DescribeSecret together (page: "AWS Secrets Manager quotas"): what these tables show
  is a matter of Parameter Store.`
}

function advice(runs: readonly Run[]): string {
  const hourOf = (mode: Mode): Figures => runs.find(({ group, settings }) => group === 'hour' && settings.mode === mode)!.figures
  const [built, together] = [hourOf('ahead'), hourOf('together')]
  const { settings } = runs.find(({ group }) => group === 'hour')!
  const { steadyFrom, maxAge, quota } = settings
  const mostSteady = (quota.rate * 0.8 * maxAge) / built.calls.steady!.perEnvironmentAndMaxAge
  const mostAtOnce = quota.burst + 3 * quota.rate
  return `## What to do

A user, the most effective first:

1. Turn on Parameter Store's higher throughput for an account and Region with more than about ${whole(mostSteady)} environments of such a function
   (\`maxAge\` ${maxAge}, 80 % of the default quota), or where more than about
   ${mostAtOnce} can start at once: what the quota allows in the 3 s that three attempts last at most.
2. Set \`maxAge\` to what the values need: 600 instead of 60 makes a tenth of the calls. \`refreshOn\` reads again when a password has been rotated,
   so it need not be short for that.
3. Keep what belongs together in one parameter, as JSON with \`parse: json\`: about one call in each \`maxAge\`, however many settings.
4. A longer \`maxAge\` does nothing for the start, where each environment makes one call at least. There: higher throughput, or Secrets Manager.
   \`prefetch()\` moves the wait into the init phase, which ends
   after 10 s; it makes no fewer calls, and where it throws the environment starts anew and calls again.
5. Behind a queue, repeat on ThrottlingException as above, with a pause and a timeout that is long enough.
6. Leave \`staleIfError\` as it is: in the hour above ${whole(built.staleInvocations)} invocations got a stale value, and no error.

The library, as measured and not changed here:

1. One point of the refresh ahead for all that came in one answer: ${built.calls.steady!.mean.toFixed(1)} calls a second become
   ${together.calls.steady!.mean.toFixed(1)}, throttled answers after ${steadyFrom} s ${whole(built.calls.steady!.throttled)} become
   ${whole(together.calls.steady!.throttled)}, invocations with
   stale values ${whole(built.staleInvocations)} become ${whole(together.staleInvocations)}.
2. Without a value to fall back on, attempts after throttling until the deadline with growing pauses, instead of three: the table of the start has
   what comes of it.`
}

const MODES_ABOVE = ({ settings }: Run): string => MODE_NAMES[settings.mode]

type Row = readonly [name: string, show: (figures: Figures) => string]

/** A column for each run. */
function columns(runs: readonly Run[], title: (run: Run) => string, rows: readonly Row[]): string {
  return table(['', ...runs.map(title)], rows.map(([name, show]) => [name, ...runs.map(({ figures }) => show(figures))]))
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function rate({ mean, standardDeviation, peak }: { mean: number; standardDeviation: number; peak: number }): string {
  return `${mean.toFixed(1)}, ${standardDeviation.toFixed(1)}, ${whole(peak)}`
}

function whole(number: number): string {
  return Math.round(number).toLocaleString('en')
}

function seconds(milliseconds: number): string {
  return milliseconds < 100_000 ? `${(milliseconds / 1000).toFixed(1)} s` : `${whole(milliseconds / 1000)} s`
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`
}
