/**
 * `npm run bench`: measures everything and writes results.json, RESULTS.md and the charts.
 *
 *     npm run bench                    the whole: some minutes
 *     npm run bench -- --short         a few rounds: prints, and writes nothing
 *     npm run bench -- --only warm     reads from memory alone, in place of those in results.json
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
import { charts, memorySection, report } from './report.js'
import type { Results, Run } from './results.js'
import { measureLibrary, measureSizes } from './size.js'
import { measureMemory } from './warm.js'

const peers = new URL('../', import.meta.url)
const resultsFile = new URL('bench/results.json', peers)

const { values: flags } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    report: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
})

if (flags.only !== undefined && flags.only !== 'warm')
  throw new Error(`--only warm, and nothing else: got ${flags.only}`)
if (flags.report) {
  write(earlierResults())
} else if (flags.only) {
  const memory = await inFolder(measureMemoryAlone)
  console.log(memorySection(memory))
  if (!flags.short) save({ ...earlierResults(), memory })
} else {
  const results = await inFolder(measure)
  console.log(report(results))
  if (!flags.short) save(results)
}

function earlierResults(): Results {
  return JSON.parse(readFileSync(resultsFile, 'utf8')) as Results
}

function save(results: Results): void {
  writeFileSync(resultsFile, `${JSON.stringify(results, null, 2)}\n`)
  write(results)
}

async function inFolder<T>(work: (bench: Bench) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'lambda-cache-bench-'))
  try {
    return await work({ folder, short: flags.short })
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function measureMemoryAlone(bench: Bench): Promise<Results['memory']> {
  const before = loadNow()
  const memory = await step('reads from memory', () => measureMemory(bench))
  return { ...memory, run: runSince(before) }
}

async function measure(bench: Bench): Promise<Results> {
  const before = loadNow()
  if (!hasHttpsFetch) console.error('lambda-cache.ts has no httpsFetch: its rows are left out')
  const library = await step('size', async () => measureLibrary())
  const sizes = await measureSizes()
  const coldStart = await step('cold start', () => measureColdStarts(bench))
  const memory = await step('reads from memory', () => measureMemory(bench))
  const largeObject = await step('large object', () => measureLargeObject(bench))
  const run = runSince(before)
  return {
    ...run,
    versions: versions(),
    library,
    sizes,
    coldStart,
    memory: { ...memory, run },
    largeObject,
  }
}

function loadNow(): number {
  return present(loadavg()[0])
}

function runSince(before: number): Run {
  const flagsGiven = [flags.short && '--short', flags.only && `--only ${flags.only}`]
  const given = flagsGiven.filter(Boolean).join(' ')
  return {
    date: new Date().toISOString().slice(0, 10),
    command: `npm run bench${given && ` -- ${given}`}`,
    machine: {
      cpu: present(cpus()[0]).model,
      cores: cpus().length,
      memory: Math.round(totalmem() / 2 ** 30),
      system: `${type()} ${arch()}`,
      load: { before, after: loadNow() },
    },
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
