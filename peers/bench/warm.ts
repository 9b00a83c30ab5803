/** Warm invocations: what each cache costs an invocation that finds everything in memory. */

import { pathToFileURL } from 'node:url'
import { present } from '../present.js'
import { MAX_AGE } from './alternatives/job.js'
import { type Alternative, caches, withValues } from './alternatives.js'
import { writeBundle } from './bundle.js'
import { type Bench, makeHome, nodeProgram, probe, type Server, startServer } from './processes.js'
import type { Results, WarmRow } from './results.js'
import { median, rotated } from './statistics.js'

const NODE = 24
const BARE: Alternative = {
  name: 'the bare handler',
  entry: { file: 'alternatives/bare.ts' },
  over: 'fetch',
}
const BARE_VALUE: Alternative = {
  name: 'the bare handler, one value',
  entry: {
    file: 'bare-value.ts',
    contents: 'export const handler = async (event, context) => context.functionName',
  },
  over: 'fetch',
}
const VALUES = [1, 10, 100].map(withValues)

/** How often all values have been read again before time is taken. */
const REFRESHES = 20

interface Measurement {
  readonly measured: Alternative
  /** A handler that returns as much. */
  readonly bare: Alternative
  readonly refreshes: number
}

const FIRST = [BARE, ...caches].map((measured) => ({ measured, bare: BARE, refreshes: 0 }))
const REFRESHED = caches.map((measured) => ({ measured, bare: BARE, refreshes: REFRESHES }))
const BY_VALUES = VALUES.map((measured) => ({ measured, bare: BARE_VALUE, refreshes: 0 }))
const MEASUREMENTS: readonly Measurement[] = [...FIRST, ...REFRESHED, ...BY_VALUES]

/** Nanoseconds per invocation: of the bare handler, and of the measured one over that. */
interface Warmth {
  readonly base: number
  readonly over: number
}

export async function measureWarm(bench: Bench): Promise<Results['warm']> {
  const [rounds, invocations, turns] = bench.short ? [2, 20_000, 5] : [9, 50_000, 5]
  const server = await startServer(bench, { delay: 0, tls: true })
  try {
    const time = await prepare(bench, server, [invocations, turns])
    const results = new Map<Measurement, Warmth[]>(MEASUREMENTS.map((one) => [one, []]))
    for (let round = 0; round < rounds; round += 1) {
      for (const measurement of rotated(MEASUREMENTS, round))
        present(results.get(measurement)).push(await time(measurement))
    }
    const summarise = (measurement: Measurement): WarmRow =>
      summariseRow(measurement.measured.name, present(results.get(measurement)))
    return {
      node: String(NODE),
      rounds,
      invocations,
      refreshes: REFRESHES,
      rows: FIRST.map(summarise),
      refreshed: REFRESHED.map(summarise),
      values: BY_VALUES.map(summarise),
    }
  } finally {
    server.close()
  }
}

type Time = (measurement: Measurement) => Promise<Warmth>

async function prepare(bench: Bench, server: Server, counts: readonly number[]): Promise<Time> {
  const home = makeHome(bench)
  const probeBundle = await writeBundle(bench.folder, { entry: { file: 'probes/warm.ts' } })
  const bundles = new Map<string, string>()
  for (const alternative of [BARE_VALUE, ...MEASUREMENTS.map(({ measured }) => measured)]) {
    bundles.set(alternative.name, pathToFileURL(await writeBundle(bench.folder, alternative)).href)
  }
  return async ({ measured, bare, refreshes }) => {
    // The query makes it a module of its own where a handler is compared with itself.
    const args = [
      present(bundles.get(measured.name)),
      `${present(bundles.get(bare.name))}?bare`,
      ...counts,
      refreshes,
      MAX_AGE,
    ]
    return probe<Warmth>(nodeProgram(NODE), probeBundle, args, server, home)
  }
}

function summariseRow(name: string, measured: readonly Warmth[]): WarmRow {
  const over = measured.map((one) => one.over)
  return {
    name,
    base: median(measured.map(({ base }) => base)),
    over: median(over),
    lowest: Math.min(...over),
    highest: Math.max(...over),
  }
}
