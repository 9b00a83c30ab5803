/** Reads from memory: what each cache costs an invocation that finds everything in memory, direct access, and how both grow. */

import { pathToFileURL } from 'node:url'
import { present } from '../present.js'
import { MAX_AGE } from './alternatives/job.js'
import { type Alternative, caches, DEFAULT, MAP } from './alternatives.js'
import { writeBundle } from './bundle.js'
import {
  directBy,
  directByEarlier,
  directByOthers,
  directWithMore,
  EARLIER,
  earlierLibrary,
  REFRESH_ON,
  wrappedBy,
} from './memory.js'
import { type Bench, makeHome, nodeProgram, probe, type Server, startServer } from './processes.js'
import type { Direct, Growth, Memory, Warm, WarmRow } from './results.js'
import { median, rotated } from './statistics.js'

const NODES = [22, 24]
const BARE: Alternative = {
  name: 'the bare handler',
  entry: { file: 'alternatives/bare.ts' },
  over: 'fetch',
}
export const GETTERS: Alternative = {
  name: 'four getters alone',
  entry: { file: 'alternatives/getters.ts' },
  over: 'fetch',
}

/** How often all values have been read again before time is taken. */
const REFRESHES = 20

interface Measurement {
  readonly measured: Alternative
  readonly refreshes: number
  /** Whether each of them brought other values. */
  readonly isChanging: boolean
}

/** Nanoseconds per invocation: of the bare handler, and of the measured one over that. */
interface Warmth {
  readonly base: number
  readonly over: number
}

export async function measureMemory(bench: Bench): Promise<Memory> {
  const earlier = earlierLibrary(bench)
  return {
    warm: await measureWarm(bench, earlier),
    direct: await measureDirect(bench, earlier),
    growth: await measureGrowth(bench),
  }
}

type Groups = Readonly<Record<'rows' | 'refreshed' | 'changed', readonly Measurement[]>>

/** On the older Node.js, only what the limits are about. */
function measurementsFor(node: number, earlier: string | undefined): Groups {
  const isNewest = node === NODES.at(-1)
  const wanted = isNewest ? caches : caches.filter(({ name }) => [DEFAULT, MAP].includes(name))
  const own = caches.filter(({ name }) => name === DEFAULT)
  const before = earlier && isNewest ? [wrappedBy(EARLIER, earlier)] : []
  const refreshOn = [
    wrappedBy(DEFAULT + REFRESH_ON, undefined, true),
    ...(earlier && isNewest ? [wrappedBy(EARLIER + REFRESH_ON, earlier, true)] : []),
  ]
  const all = (some: readonly Alternative[], refreshes = 0, isChanging = false): Measurement[] =>
    some.map((measured) => ({ measured, refreshes, isChanging }))
  return {
    rows: all([BARE, GETTERS, ...wanted, ...refreshOn, ...before]),
    refreshed: all([...own, ...refreshOn, ...before], REFRESHES),
    changed: all([...own, ...before], REFRESHES, true),
  }
}

async function measureWarm(bench: Bench, earlier: string | undefined): Promise<Warm> {
  const [rounds, turns] = bench.short ? [1, 3] : [9, 3]
  const still = await startServer(bench, { delay: 0, tls: false })
  const changing = await startServer(bench, { delay: 0, tls: false, changing: true })
  try {
    const nodes: Warm['nodes'][number][] = []
    for (const node of NODES) {
      const groups = measurementsFor(node, earlier)
      const measurements = Object.values(groups).flat()
      const time = await prepareWarm(bench, measurements, turns)
      const results = new Map<Measurement, Warmth[]>(measurements.map((one) => [one, []]))
      for (let round = 0; round < rounds; round += 1) {
        for (const measurement of rotated(measurements, round)) {
          const server = measurement.isChanging ? changing : still
          present(results.get(measurement)).push(await time(node, measurement, server))
        }
      }
      const map = present(groups.rows.find(({ measured }) => measured.name === MAP))
      const ofMap = present(results.get(map))
      const summarise = (some: readonly Measurement[]): WarmRow[] =>
        some.map((one) => summariseRow(one.measured.name, present(results.get(one)), ofMap))
      nodes.push({
        node: String(node),
        rows: summarise(groups.rows),
        refreshed: summarise(groups.refreshed),
        changed: summarise(groups.changed),
      })
    }
    return { rounds, refreshes: REFRESHES, nodes }
  } finally {
    still.close()
    changing.close()
  }
}

type Time = (node: number, measurement: Measurement, server: Server) => Promise<Warmth>

async function prepareWarm(
  bench: Bench,
  measurements: readonly Measurement[],
  turns: number,
): Promise<Time> {
  const home = makeHome(bench)
  const probeBundle = await writeBundle(bench.folder, { entry: { file: 'probes/warm.ts' } })
  const bundles = new Map<string, string>()
  for (const alternative of new Set(measurements.map(({ measured }) => measured)))
    bundles.set(alternative.name, pathToFileURL(await writeBundle(bench.folder, alternative)).href)
  return async (node, { measured, refreshes }, server) => {
    // The query makes it a module of its own where a handler is compared with itself.
    const args = [
      present(bundles.get(measured.name)),
      `${present(bundles.get(BARE.name))}?bare`,
      turns,
      refreshes,
      MAX_AGE,
    ]
    return probe<Warmth>(nodeProgram(node), probeBundle, args, server, home)
  }
}

function summariseRow(
  name: string,
  measured: readonly Warmth[],
  ofMap: readonly Warmth[],
): WarmRow {
  const over = measured.map((one) => one.over)
  return {
    name,
    base: median(measured.map(({ base }) => base)),
    over: median(over),
    lowest: Math.min(...over),
    highest: Math.max(...over),
    // Of one round: what slows the machine down for a while meets both.
    ratio: median(over.map((one, round) => one / present(ofMap[round]).over)),
  }
}

async function measureDirect(bench: Bench, earlier: string | undefined): Promise<Direct> {
  const [rounds, turns] = bench.short ? [1, 3] : [9, 3]
  const alternatives = [
    directByOthers,
    directBy(DEFAULT),
    directWithMore,
    ...(earlier ? [directByEarlier(earlier)] : []),
  ]
  const server = await startServer(bench, { delay: 0, tls: false })
  try {
    const home = makeHome(bench)
    const probeBundle = await writeBundle(bench.folder, { entry: { file: 'probes/direct.ts' } })
    const bundles: string[] = []
    for (const one of alternatives)
      bundles.push(pathToFileURL(await writeBundle(bench.folder, one)).href)
    const nodes: Direct['nodes'][number][] = []
    for (const node of NODES) {
      const measured: Record<string, number>[] = []
      for (let round = 0; round < rounds; round += 1)
        measured.push(
          await probe(nodeProgram(node), probeBundle, [turns, ...bundles], server, home),
        )
      const names = Object.keys(present(measured[0]))
      const rows = names.map((name) => {
        const all = measured.map((one) => present(one[name]))
        return { name, time: median(all), lowest: Math.min(...all), highest: Math.max(...all) }
      })
      nodes.push({ node: String(node), rows })
    }
    return { rounds, nodes }
  } finally {
    server.close()
  }
}

async function measureGrowth(bench: Bench): Promise<Growth> {
  const [rounds, turns] = bench.short ? [1, 3] : [3, 5]
  const server = await startServer(bench, { delay: 0, tls: false })
  try {
    const home = makeHome(bench)
    const probeBundle = await writeBundle(bench.folder, { entry: { file: 'probes/growth.ts' } })
    const measure = async (node: number): Promise<Growth['nodes'][number]> => {
      const measured: Omit<Growth['nodes'][number], 'node'>[] = []
      for (let round = 0; round < rounds; round += 1)
        measured.push(await probe(nodeProgram(node), probeBundle, [turns], server, home))
      const medianOf = (pick: (one: (typeof measured)[number]) => number): number =>
        median(measured.map(pick))
      return {
        node: String(node),
        onContext: [0, 1, 2, 3].map((at) => medianOf(({ onContext }) => present(onContext[at]))),
        direct: [0, 1, 2].map((at) => medianOf(({ direct }) => present(direct[at]))),
        bytes: medianOf(({ bytes }) => bytes),
        tree: medianOf(({ tree }) => tree),
      }
    }
    // Side by side: what is compared is of one process.
    const nodes = await Promise.all(NODES.map(measure))
    return { rounds, nodes }
  } finally {
    server.close()
  }
}
