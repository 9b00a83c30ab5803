/** Cold starts: a process each, all alternatives in turn, round after round. */

import { pathToFileURL } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { present } from '../present.js'
import { type Alternative, alternatives, FETCH_FLOOR, HTTPS_FLOOR } from './alternatives.js'
import { writeBundle } from './bundle.js'
import { type Bench, makeHome, nodeProgram, probe, type Server, startServer } from './processes.js'
import type { ColdStart, ColdStartRow, ColdStarts, Results } from './results.js'
import { median, medians, rotated } from './statistics.js'

/** Milliseconds before each answer. */
const DELAY = 5
const NODES = [22, 24]

const LIBRARY: Alternative = {
  name: 'lambda-cache alone',
  entry: { file: 'library.ts', contents: "export * from '../../lambda-cache.js'" },
  over: 'fetch',
}
const EMPTY: Alternative = {
  name: 'an empty module',
  entry: { file: 'empty.ts', contents: 'export {}' },
  over: 'fetch',
}

type Round = ReadonlyMap<string, ColdStart>

export async function measureColdStarts(bench: Bench): Promise<Results['coldStart']> {
  const rounds = bench.short ? 3 : 15
  const server = await startServer(bench, { delay: DELAY, tls: true })
  try {
    const start = await prepare(bench, server)
    await compareValues(start)
    const measured = new Map<number, Round[]>(NODES.map((node) => [node, []]))
    for (let round = 0; round < rounds; round += 1) {
      for (const node of NODES)
        present(measured.get(node)).push(await measureRound(start, node, round))
    }
    return {
      rounds,
      delay: DELAY,
      nodes: NODES.map((node) => summarise(node, present(measured.get(node)))),
    }
  } finally {
    server.close()
  }
}

type Start = (
  alternative: Alternative,
  node: number,
) => Promise<ColdStart & { readonly value: unknown }>

async function prepare(bench: Bench, server: Server): Promise<Start> {
  const home = makeHome(bench)
  const probeBundle = await writeBundle(bench.folder, { entry: { file: 'probes/cold-start.ts' } })
  const bundles = new Map<string, string>()
  for (const alternative of [...alternatives, LIBRARY, EMPTY])
    bundles.set(alternative.name, await writeBundle(bench.folder, alternative))
  return ({ name, format }, node) => {
    const bundle = present(bundles.get(name))
    return probe(
      nodeProgram(node),
      probeBundle,
      [format === 'cjs' ? bundle : pathToFileURL(bundle).href],
      server,
      home,
    )
  }
}

/** All do the same job, or the comparison is none. It also brings their files into the system's cache. */
async function compareValues(start: Start): Promise<void> {
  for (const node of NODES) {
    const { value: expected } = await start(present(alternatives[0]), node)
    for (const alternative of alternatives) {
      const { value } = await start(alternative, node)
      if (!isDeepStrictEqual(value, expected))
        throw new Error(
          `${alternative.name}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(value)}`,
        )
    }
  }
}

async function measureRound(start: Start, node: number, round: number): Promise<Round> {
  const measured = new Map<string, ColdStart>()
  for (const alternative of rotated([...alternatives, LIBRARY, EMPTY], round))
    measured.set(alternative.name, await start(alternative, node))
  return measured
}

function summarise(node: number, rounds: readonly Round[]): ColdStarts {
  const library = rounds.map((round) => present(round.get(LIBRARY.name)).import)
  const empty = rounds.map((round) => present(round.get(EMPTY.name)).import)
  const difference = median(library.map((time, round) => time - present(empty[round])))
  return {
    node: String(node),
    rows: alternatives.map((alternative) => summariseRow(alternative, rounds)),
    moduleLoad: { library: median(library), empty: median(empty), difference },
  }
}

function summariseRow({ name, over }: Alternative, rounds: readonly Round[]): ColdStartRow {
  const floor = over === 'https' ? HTTPS_FLOOR : FETCH_FLOOR
  const own = rounds.map((round) => present(round.get(name)))
  const ratio = median(
    rounds.map((round) => present(round.get(name)).both / present(round.get(floor)).both),
  )
  return { name, over, ...medians(own, ['import', 'first', 'both', 'cpu', 'memory']), ratio }
}
