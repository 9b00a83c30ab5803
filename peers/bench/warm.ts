/** Warm invocations: what each cache costs an invocation that finds everything in memory. */

import { pathToFileURL } from 'node:url'
import { present } from '../present.js'
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

/** Compared with a handler that returns as much. */
const COMPARED = [
  ...[BARE, ...caches].map((measured) => [measured, BARE] as const),
  ...VALUES.map((measured) => [measured, BARE_VALUE] as const),
]

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
    const measured = new Map<string, Warmth[]>(COMPARED.map(([{ name }]) => [name, []]))
    for (let round = 0; round < rounds; round += 1) {
      for (const [alternative, bare] of rotated(COMPARED, round))
        present(measured.get(alternative.name)).push(await time(alternative, bare))
    }
    const summarise = ({ name }: Alternative): WarmRow =>
      summariseRow(name, present(measured.get(name)))
    return {
      node: String(NODE),
      rounds,
      invocations,
      rows: [BARE, ...caches].map(summarise),
      values: VALUES.map(summarise),
    }
  } finally {
    server.close()
  }
}

type Time = (alternative: Alternative, bare: Alternative) => Promise<Warmth>

async function prepare(bench: Bench, server: Server, counts: readonly number[]): Promise<Time> {
  const home = makeHome(bench)
  const probeBundle = await writeBundle(bench.folder, { entry: { file: 'probes/warm.ts' } })
  const bundles = new Map<string, string>()
  for (const alternative of [BARE_VALUE, ...COMPARED.map(([measured]) => measured)]) {
    bundles.set(alternative.name, pathToFileURL(await writeBundle(bench.folder, alternative)).href)
  }
  return async (alternative, bare) => {
    // The query makes it a module of its own where a handler is compared with itself.
    const args = [
      present(bundles.get(alternative.name)),
      `${present(bundles.get(bare.name))}?bare`,
      ...counts,
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
