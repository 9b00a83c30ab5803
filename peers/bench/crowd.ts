/**
 * `npm run crowd`: 200 objects read at once by a function that has little of a core, or few files to open: as the library is, and with
 * its line of 20 requests made so long that nobody waits.
 *
 *     npm run crowd                    the whole: some minutes
 *     npm run crowd -- --short         the library as it is
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { writeBundle } from './bundle.js'
import { environment, makeHome, nodeProgram, startServer } from './processes.js'
import { type Limits, meansOfSharing, runWithLimits } from './share.js'

interface Crowd {
  readonly seconds: number
  readonly read: number
  readonly failures: Readonly<Record<string, number>>
}

const OBJECTS = 200
const NODE = 24
const LIMITS: readonly (readonly [what: string, limits: Limits])[] = [
  ['7.2 % of a core (128 MB)', { share: 0.072 }],
  ['ulimit -n 128', { openFiles: 128 }],
]

const { values: flags } = parseArgs({ options: { short: { type: 'boolean', default: false } } })
const folder = mkdtempSync(join(tmpdir(), 'lambda-cache-crowd-'))
const bench = { folder, short: flags.short }

const server = await startServer(bench, { delay: 20, tls: true })
try {
  const asItIs = await writeBundle(folder, { entry: { file: 'probes/crowd.ts' } })
  const versions: [string, string][] = [['20 at a time', asItIs]]
  if (!flags.short) versions.push(['all at once', withoutLine(asItIs)])
  console.log(
    `${OBJECTS} objects of 1 kB over TLS on Node.js ${NODE}, to files; the share of a core is kept ${meansOfSharing()}.\n`,
  )
  console.log(
    '| requests | limit | transport | read | seconds | failed |\n| --- | --- | --- | ---: | ---: | --- |',
  )
  for (const [requests, bundle] of versions) {
    for (const [what, limits] of LIMITS) {
      for (const transport of ['fetch', 'httpsFetch']) {
        const { read, seconds, failures } = await readCrowd(bundle, limits, transport)
        const failed = Object.entries(failures).map(([code, count]) => `${count} ${code}`)
        console.log(
          `| ${requests} | ${what} | ${transport} | ${read} | ${seconds.toFixed(1)} | ${failed.join(', ')} |`,
        )
      }
    }
  }
} finally {
  server.close()
  rmSync(folder, { recursive: true })
}

async function readCrowd(bundle: string, limits: Limits, transport: string): Promise<Crowd> {
  const files = join(folder, 'files')
  mkdirSync(files)
  try {
    const command = [nodeProgram(NODE), bundle, String(OBJECTS), transport, files]
    return JSON.parse(
      await runWithLimits(
        limits,
        command,
        environment(server.url, server.certificate, makeHome(bench)),
      ),
    ) as Crowd
  } finally {
    rmSync(files, { recursive: true })
  }
}

/** The same bundle, with room for everybody in the line. */
function withoutLine(bundle: string): string {
  const code = readFileSync(bundle, 'utf8')
  const [, places] = /inLine:[\w$]+\(([\w$]+)\)/.exec(code) ?? []
  const changed = code.replace(`${places}=20`, `${places}=${OBJECTS}`)
  if (changed === code) throw new Error('no line of 20 in lambda-cache.ts')
  const file = bundle.replace(/(?=\.mjs$)/, '-without-line')
  writeFileSync(file, changed)
  return file
}
