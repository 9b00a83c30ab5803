/** Charts of the fleet simulation, from fleet/results.json. */
import { lineChart } from './charts.js'

/** What the charts need of a run. */
export interface FleetRun {
  readonly group: string
  readonly settings: { readonly mode: string; readonly environments: number; readonly quota: { readonly rate: number } }
  /** Calls in each second. */
  readonly series?: { readonly allowed: readonly number[]; readonly throttled: readonly number[] }
}

const MODE_NAMES: Readonly<Record<string, string>> = { ahead: 'as built', fixed: 'fixed expiry' }
/** Seconds that a point of a line stands for. */
const STEP = 5

/** By file name: one for each group of runs that have a series. */
export function fleetCharts(runs: readonly FleetRun[]): Record<string, string> {
  const charted = runs.filter(({ series }) => series)
  const groups = [...new Set(charted.map(({ group }) => group))]
  return Object.fromEntries(groups.map((group) => [`fleet-${group}.svg`, fleetChart(charted.filter((run) => run.group === group))]))
}

function fleetChart(runs: readonly FleetRun[]): string {
  const { environments, quota } = runs[0]!.settings
  return lineChart({
    title: `${environments} environments, ${quota.rate} calls a second allowed`,
    subtitle: `calls to SSM, those refused included, in the busiest second of every ${STEP}`,
    x: 'minutes',
    y: 'calls per second',
    series: runs.map(({ settings: { mode }, series }) => ({ name: MODE_NAMES[mode] ?? mode, points: peaks(series!) })),
  })
}

function peaks({ allowed, throttled }: NonNullable<FleetRun['series']>): [minutes: number, calls: number][] {
  const calls = allowed.map((count, second) => count + (throttled[second] ?? 0))
  const points: [number, number][] = []
  for (let second = 0; second < calls.length; second += STEP) points.push([second / 60, Math.max(...calls.slice(second, second + STEP))])
  return points
}
