/** `npm run fleet`: a fleet of Lambda environments on a virtual clock. Writes FLEET.md and its charts; with `--short` it only prints. */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { fleetCharts } from './charts.js'
import { bundle, type Load } from './environment.js'
import { type Mode, type Run, type Settings, simulate } from './fleet.js'
import { report } from './report.js'

const MODES: readonly Mode[] = ['ahead', 'fixed']
const MINUTE = 60_000

const BASE: Settings = {
  mode: 'ahead',
  environments: 1000,
  startsWithin: 1000,
  duration: 60 * MINUTE,
  interval: [4000, 6000],
  maxAge: 60,
  staleIfError: 300,
  parameters: 2,
  source: 'ssm',
  timeout: 10_000,
  seed: 1,
  quota: { rate: 40, burst: 40 },
  latency: [5, 15],
  changesEvery: 30_000,
  // Two rounds of values, and what their retries take.
  steadyFrom: 180,
}
const PLENTY = { rate: 10_000, burst: 10_000 }
const START: Partial<Settings> = { duration: MINUTE, interval: [750, 1250] }
/** Of the starts: environments, and calls in a second. */
const SIZES = [100, 300, 1000, 2000]
const RATES = [40, 100, 400, 1000]

const { values: flags } = parseArgs({ options: { short: { type: 'boolean', default: false } } })
// Thousands of expected errors would each carry a stack.
Error.stackTraceLimit = 0
const load = await bundle()
if (flags.short) await runShort(load)
else await runAll(load)

async function runShort(load: Load): Promise<void> {
  for (const mode of MODES)
    await run(load, 'hour', {
      mode,
      environments: 200,
      quota: { rate: 8, burst: 8 },
      duration: 5 * MINUTE,
    })
}

async function runAll(load: Load): Promise<void> {
  const runs: Run[] = []
  const add = async (group: Run['group'], settings: Partial<Settings>): Promise<void> =>
    void runs.push(await run(load, group, settings))

  for (const mode of MODES) await add('hour', { mode })
  for (const mode of MODES)
    await add('plenty', { mode, quota: PLENTY, duration: 6 * MINUTE, steadyFrom: 30 })
  for (const parameters of [1, 2, 5, 10])
    await add('parameters', { parameters, environments: 100, quota: PLENTY, duration: 10 * MINUTE })
  for (const environments of SIZES) {
    // As long as it takes for all to get their values.
    for (const rate of RATES)
      await add('start', {
        ...START,
        environments,
        quota: { rate, burst: rate },
        duration: 10_000 + Math.ceil(environments / rate) * 2000,
      })
  }
  for (const startsWithin of [10_000, 30_000]) await add('spread', { ...START, startsWithin })
  // Until all have their values, and no longer: nothing ends a load that is under way with the invocation.
  for (const source of ['ssm', 'secrets', 'custom'] as const) {
    for (const timeout of [10_000, 30_000])
      await add('patient', { ...START, source, timeout, parameters: 1, duration: 40_000 })
  }

  const here = new URL('.', import.meta.url)
  writeFileSync(new URL('FLEET.md', here), report(runs))
  for (const [file, svg] of Object.entries(fleetCharts(runs))) {
    writeFileSync(new URL(`../charts/${file}`, here), `${svg}\n`)
  }
}

async function run(load: Load, group: Run['group'], own: Partial<Settings>): Promise<Run> {
  const startedAt = performance.now()
  const { settings, figures, series } = await simulate(load, { ...BASE, ...own })
  const { environments, mode, parameters, quota, duration } = settings
  const { failedColdStarts, failedInvocations, beforeHandler, calls, staleInvocations } = figures
  console.log(
    `${environments} environments, ${mode}, ${parameters} parameters, ${quota.rate} calls/s, ${duration / 1000} s: ` +
      `${failedColdStarts} cold starts and ${failedInvocations - failedColdStarts} other invocations failed, ${staleInvocations} got stale values, ` +
      `longest wait ${beforeHandler.longest} ms, ${calls.allowed} calls and ${calls.throttled} throttled ` +
      `(simulated in ${((performance.now() - startedAt) / 1000).toFixed(1)} s)`,
  )
  return { group, settings, figures, ...((group === 'hour' || group === 'plenty') && { series }) }
}
