/**
 * `npm run bench`: measures everything and writes results.json, RESULTS.md and the charts.
 *
 *     npm run bench                    the whole: some minutes
 *     npm run bench -- --short         a few rounds: prints, and writes nothing
 *     npm run bench -- --report        writes RESULTS.md and the charts anew from results.json
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { arch, cpus, loadavg, tmpdir, totalmem, type } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { present } from '../present.js'
import { hasHttpsFetch } from './alternatives.js'
import { measureColdStarts } from './cold-start.js'
import { measureLargeObject } from './large-object.js'
import type { Bench } from './processes.js'
import { charts, report } from './report.js'
import type { Results } from './results.js'
import { measureLibrary, measureSizes } from './size.js'
import { measureWarm } from './warm.js'

const peers = new URL('../', import.meta.url)
const resultsFile = new URL('bench/results.json', peers)

const { values: flags } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    report: { type: 'boolean', default: false },
  },
})

if (flags.report) {
  write(JSON.parse(readFileSync(resultsFile, 'utf8')) as Results)
} else {
  const results = await measure(flags.short)
  console.log(report(results))
  if (!flags.short) {
    writeFileSync(resultsFile, `${JSON.stringify(results, null, 2)}\n`)
    write(results)
  }
}

async function measure(short: boolean): Promise<Results> {
  const bench: Bench = { folder: mkdtempSync(join(tmpdir(), 'lambda-cache-bench-')), short }
  const [before] = loadavg() as [number]
  if (!hasHttpsFetch) console.error('lambda-cache.ts has no httpsFetch: its rows are left out')
  try {
    const library = await step('size', async () => measureLibrary())
    const sizes = await measureSizes()
    const coldStart = await step('cold start', () => measureColdStarts(bench))
    const warm = await step('warm invocation', () => measureWarm(bench))
    const largeObject = await step('large object', () => measureLargeObject(bench))
    const [after] = loadavg() as [number]
    const machine = {
      cpu: present(cpus()[0]).model,
      cores: cpus().length,
      memory: Math.round(totalmem() / 2 ** 30),
      system: `${type()} ${arch()}`,
      load: { before, after },
    }
    const command = `npm run bench${short ? ' -- --short' : ''}`
    return {
      date: new Date().toISOString().slice(0, 10),
      command,
      machine,
      versions: versions(),
      library,
      sizes,
      coldStart,
      warm,
      largeObject,
    }
  } finally {
    rmSync(bench.folder, { recursive: true })
  }
}

async function step<T>(name: string, work: () => Promise<T>): Promise<T> {
  const begin = performance.now()
  const result = await work()
  console.error(`${name}: ${((performance.now() - begin) / 1000).toFixed(0)} s`)
  return result
}

/** Those that are installed of what package.json asks for, as far as it is measured or measures. */
function versions(): Record<string, string> {
  const { devDependencies } = readPackage('package.json') as {
    devDependencies: Record<string, string>
  }
  const used = Object.keys(devDependencies).filter((name) =>
    /^@aws|^@middy|^aws4fetch$|^esbuild$|^node2[24]$/.test(name),
  )
  return Object.fromEntries(
    used.map((name) => [
      name,
      (readPackage(`node_modules/${name}/package.json`) as { version: string }).version,
    ]),
  )
}

function readPackage(file: string): unknown {
  return JSON.parse(readFileSync(new URL(file, peers), 'utf8'))
}

function write(results: Results): void {
  const folder = new URL('charts/', peers)
  mkdirSync(folder, { recursive: true })
  for (const [file, svg] of Object.entries(charts(results)))
    writeFileSync(new URL(file, folder), `${svg}\n`)
  writeFileSync(new URL('RESULTS.md', peers), report(results))
}
