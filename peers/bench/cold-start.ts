/** Cold starts: a process each, all alternatives in turn, round after round. */

import { rmdirSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { present } from '../present.js'
import {
  type Alternative,
  alternatives,
  FETCH_FLOOR,
  HTTPS_FLOOR,
  prefetched,
} from './alternatives.js'
import { writeBundle } from './bundle.js'
import { type Bench, makeHome, nodeProgram, probe, type Server, startServer } from './processes.js'
import type { ColdStart, ColdStartRow, ColdStarts, Duration, Results } from './results.js'
import { makeGroup } from './share.js'
import { median, medians, rotated } from './statistics.js'

/** Milliseconds before each answer. */
const DELAY = 5
const NODES = [22, 24]
/** MB. Lambda gives a whole core to the last of them. */
const SIZES = [128, 512, 1769]
const CORE = present(SIZES.at(-1))

const compared = [...alternatives, ...prefetched]

/** By name, what was measured with each of the sizes. */
type Round = ReadonlyMap<string, readonly ColdStart[]>

export async function measureColdStarts(bench: Bench): Promise<Results['coldStart']> {
  const rounds = bench.short ? 1 : 9
  const server = await startServer(bench, { delay: DELAY, tls: true })
  const groups = SIZES.map((memory) => makeGroup(memory / CORE))
  const hasShares = groups.every((group) => group !== undefined)
  try {
    const start = await prepare(bench, server)
    await compareValues(start)
    const measured = new Map<number, Round[]>(NODES.map((node) => [node, []]))
    for (let round = 0; round < rounds; round += 1) {
      for (const node of NODES)
        present(measured.get(node)).push(
          await measureRound(start, node, round, hasShares ? groups : [undefined]),
        )
    }
    return {
      rounds,
      delay: DELAY,
      sizes: hasShares
        ? SIZES.map((memory) => ({ memory, share: memory / CORE }))
        : [{ memory: CORE, share: undefined }],
      nodes: NODES.map((node) => summarise(node, present(measured.get(node)))),
    }
  } finally {
    server.close()
    for (const group of groups) if (group) rmdirSync(group)
  }
}

type Start = (
  alternative: Alternative,
  node: number,
  group: string | undefined,
) => Promise<ColdStart & { readonly value: unknown }>

async function prepare(bench: Bench, server: Server): Promise<Start> {
  const home = makeHome(bench)
  const probeBundle = await writeBundle(bench.folder, { entry: { file: 'probes/cold-start.ts' } })
  const bundles = new Map<string, string>()
  for (const alternative of compared)
    bundles.set(alternative.name, await writeBundle(bench.folder, alternative))
  return ({ name, format }, node, group) => {
    const bundle = present(bundles.get(name))
    return probe(
      nodeProgram(node),
      probeBundle,
      [format === 'cjs' ? bundle : pathToFileURL(bundle).href, ...(group ? [group] : [])],
      server,
      home,
    )
  }
}

/** All do the same job, or the comparison is none. It also brings their files into the system's cache. */
async function compareValues(start: Start): Promise<void> {
  for (const node of NODES) {
    const { value: expected } = await start(present(alternatives[0]), node, undefined)
    for (const alternative of compared) {
      const { value } = await start(alternative, node, undefined)
      if (!isDeepStrictEqual(value, expected))
        throw new Error(
          `${alternative.name}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(value)}`,
        )
    }
  }
}

async function measureRound(
  start: Start,
  node: number,
  round: number,
  groups: readonly (string | undefined)[],
): Promise<Round> {
  const measured = new Map<string, ColdStart[]>(compared.map(({ name }) => [name, []]))
  for (const group of groups)
    for (const alternative of rotated(compared, round))
      present(measured.get(alternative.name)).push(await start(alternative, node, group))
  return measured
}

function summarise(node: number, rounds: readonly Round[]): ColdStarts {
  return {
    node: String(node),
    rows: compared.map((alternative) => summariseRow(alternative, rounds)),
  }
}

function summariseRow({ name, over }: Alternative, rounds: readonly Round[]): ColdStartRow {
  const floor = over === 'https' ? HTTPS_FLOOR : FETCH_FLOOR
  const own = rounds.map((round) => present(round.get(name)))
  const sizes = present(own[0]).keys()
  return {
    name,
    over,
    import: medianDuration(own.flat().map((start) => start.import)),
    first: [...sizes].map((size) =>
      medianDuration(own.map((starts) => present(starts[size]).first)),
    ),
    ratio: median(rounds.map((round) => cpuOf(round, name) / cpuOf(round, floor))),
    memory: median(own.flat().map(({ memory }) => memory)),
  }
}

function medianDuration(durations: readonly Duration[]): Duration {
  return medians(durations, ['time', 'cpu'])
}

/** Of import and first invocation, with a whole core. */
function cpuOf(round: Round, name: string): number {
  const { import: loaded, first } = present(present(round.get(name)).at(-1))
  return loaded.cpu + first.cpu
}
