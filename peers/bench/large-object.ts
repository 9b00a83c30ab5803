/** A large object to disk, over plain HTTP, so that what is compared is not the cipher. */

import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { present } from '../present.js'
import { type Alternative, downloads, SDK } from './alternatives.js'
import { writeBundle } from './bundle.js'
import { type Bench, makeHome, nodeProgram, probe, type Server, startServer } from './processes.js'
import type { DownloadRow, Results } from './results.js'
import { medians, rotated } from './statistics.js'

const NODE = 24

interface Download {
  readonly seconds: number
  readonly memory: number
}

export async function measureLargeObject(bench: Bench): Promise<Results['largeObject']> {
  const [rounds, megabytes] = bench.short ? [1, 64] : [3, 512]
  const server = await startServer(bench, { delay: 0, tls: false })
  try {
    const download = await prepare(bench, server, megabytes * 2 ** 20)
    const measured = new Map<string, Download[]>(downloads.map(({ name }) => [name, []]))
    for (let round = 0; round < rounds; round += 1) {
      for (const alternative of rotated(downloads, round))
        present(measured.get(alternative.name)).push(await download(alternative))
    }
    return {
      node: String(NODE),
      rounds,
      megabytes,
      rows: downloads.map(({ name }) => summarise(name, measured, megabytes)),
    }
  } finally {
    server.close()
  }
}

async function prepare(
  bench: Bench,
  server: Server,
  size: number,
): Promise<(alternative: Alternative) => Promise<Download>> {
  const home = makeHome(bench)
  const probeBundle = await writeBundle(bench.folder, { entry: { file: 'probes/download.ts' } })
  return async (alternative) => {
    const bundle = await writeBundle(bench.folder, alternative)
    const folder = mkdtempSync(join(tmpdir(), 'lambda-cache-bench-'))
    const file = join(folder, 'object')
    try {
      const args = [pathToFileURL(bundle).href, 'prod-bucket', `zeros-${size}`, file]
      const measured = await probe<Download>(nodeProgram(NODE), probeBundle, args, server, home)
      if (statSync(file).size !== size)
        throw new Error(`${alternative.name}: expected ${size} bytes, got ${statSync(file).size}`)
      return measured
    } finally {
      rmSync(folder, { recursive: true })
    }
  }
}

function summarise(
  name: string,
  measured: ReadonlyMap<string, readonly Download[]>,
  megabytes: number,
): DownloadRow {
  const base = present(measured.get(SDK))
  const own = present(measured.get(name)).map((download, round) => ({
    ...download,
    rate: (megabytes * 2 ** 20) / 1e6 / download.seconds,
    ratio: download.seconds / present(base[round]).seconds,
  }))
  return { name, ...medians(own, ['seconds', 'rate', 'memory', 'ratio']) }
}
