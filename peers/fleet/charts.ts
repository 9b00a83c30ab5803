/** Charts of the fleet simulation. */

import { lineChart } from '../bench/charts.js'
import { present } from '../present.js'
import type { Run } from './fleet.js'

const MODE_NAMES: Readonly<Record<string, string>> = { ahead: 'as built', fixed: 'fixed expiry' }
/** Seconds that a point of a line stands for. */
const STEP = 5

/** By file name: one for each group of runs that have a series. */
export function fleetCharts(runs: readonly Run[]): Record<string, string> {
  const charted = runs.filter(({ series }) => series)
  const groups = [...new Set(charted.map(({ group }) => group))]
  return Object.fromEntries(
    groups.map((group) => [
      `fleet-${group}.svg`,
      fleetChart(charted.filter((run) => run.group === group)),
    ]),
  )
}

function fleetChart(runs: readonly Run[]): string {
  const { environments, quota } = present(runs[0]).settings
  return lineChart({
    title: `${environments} environments, ${quota.rate} calls a second allowed`,
    subtitle: `calls to SSM, those refused included, in the busiest second of every ${STEP}`,
    x: 'minutes',
    y: 'calls per second',
    series: runs.map(({ settings: { mode }, series }) => ({
      name: MODE_NAMES[mode] ?? mode,
      points: peaks(present(series)),
    })),
  })
}

function peaks({
  allowed,
  throttled,
}: NonNullable<Run['series']>): [minutes: number, calls: number][] {
  const calls = allowed.map((count, second) => count + (throttled[second] ?? 0))
  const points: [number, number][] = []
  for (let second = 0; second < calls.length; second += STEP)
    points.push([second / 60, Math.max(...calls.slice(second, second + STEP))])
  return points
}
