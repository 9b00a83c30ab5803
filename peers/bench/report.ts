/** RESULTS.md and the charts, from results.json: nothing in them is typed by hand. */

import { BUDGETS } from '../../tests/size.js'
import { present } from '../present.js'
import { DEFAULT, FETCH_FLOOR, HTTPS_FLOOR, SDK, WITH_HTTPS_FETCH } from './alternatives.js'
import { barChart, format } from './charts.js'
import type {
  ColdStartRow,
  ColdStarts,
  DownloadRow,
  HandlerSize,
  Results,
  WarmRow,
} from './results.js'

const BUSY =
  '**The machine was busy with something else when this began: sizes hold, times and limits of time do not.**\n\n'
const OURS = [DEFAULT, WITH_HTTPS_FETCH]

/** What is allowed: a budget, what was measured, and whether it keeps to it. */
export interface Limit {
  readonly what: string
  readonly limit: string
  readonly measured: string
  readonly kept: boolean
}

export function report(results: Results): string {
  const { coldStart, warm, largeObject } = results
  return `# Measured against the alternatives

A handler that reads two SSM parameters, one secret and one JSON object from S3, written with each of them. All figures of a table come
from one run, in interleaved rounds; they are medians. Smaller is better unless a heading says otherwise. This page is made by
\`${results.command}\` from \`bench/results.json\`.

${machineSection(results)}
## Limits

${limitsTable(results)}
## Size

Bytes of the handler in one file, by \`esbuild --bundle --minify --format=esm --platform=node --target=node22\` and \`gzip -9\`: with everything
in the bundle, and with the AWS SDK left to the runtime.

${sizeTable(results.sizes)}
![Size of the handler](charts/size.svg)

## Cold start

A new process each time, ${coldStart.rounds} rounds: milliseconds to import the handler's bundle, and until its first invocation has its result, from a
server with TLS on the same machine that takes ${coldStart.delay} ms to answer. The floors make the same three calls, unsigned, at once, with nothing else. The ratio is that of
the times of import and first invocation in the same round, for what sends with \`fetch\` to the floor over \`fetch\`, for the others to that over \`node:https\`.
Memory is the process's RSS at the end.

${coldStart.nodes.map(coldStartSection).join('\n')}
## Warm invocation

Nanoseconds that an invocation takes over the bare handler's when all four values are in memory. Node.js ${warm.node}, ${warm.rounds} rounds of a process each, in which
the handler and the bare one take turns of ${format(warm.invocations)} invocations. The SDK, aws-lite and aws4fetch keep nothing: with them every invocation calls AWS.

${warmTable('cache', warm.rows)}
![Warm invocation](charts/warm.svg)

lambda-cache with other numbers of values, of which the handler takes one:

${warmTable('values', warm.values)}
## Large object

An object of ${largeObject.megabytes} MiB to disk, over plain HTTP, ${largeObject.rounds} rounds on Node.js ${largeObject.node}. The SDK's is \`pipeline(Body, createWriteStream(file))\`, and the
floor the same with the body that \`fetch\` gives. Memory is the process's RSS at its peak, over what it was before. The ratio is that of the times in the same round.

${downloadTable(largeObject.rows)}
![Large object](charts/large-object.svg)
`
}

/** By file name. */
export function charts(results: Results): Record<string, string> {
  const { sizes, coldStart, warm, largeObject } = results
  const highlighted = OURS
  return {
    'size.svg': barChart({
      title: 'Size of the handler',
      subtitle:
        'bytes, minified and gzipped, everything in the bundle; logarithmic; less is better',
      unit: 'bytes',
      names: sizes.map(({ name }) => name),
      series: [{ name: 'bundled', values: sizes.map(({ bundled }) => bundled.gzipped) }],
      highlighted,
      logarithmic: true,
    }),
    ...Object.fromEntries(
      coldStart.nodes.map((starts) => [
        `cold-start-node${starts.node}.svg`,
        coldStartChart(starts),
      ]),
    ),
    'warm.svg': barChart({
      title: 'Warm invocation',
      subtitle: 'microseconds over the bare handler, four values; less is better',
      unit: 'µs',
      names: warm.rows.slice(1).map(({ name }) => name),
      series: [{ name: 'over', values: warm.rows.slice(1).map(({ over }) => over / 1000) }],
      highlighted,
      digits: 2,
    }),
    'large-object.svg': barChart({
      title: `${largeObject.megabytes} MiB to disk`,
      subtitle: 'MB per second; more is better',
      unit: 'MB/s',
      names: largeObject.rows.map(({ name }) => name),
      series: [{ name: 'rate', values: largeObject.rows.map(({ rate }) => rate) }],
      highlighted,
    }),
  }
}

/** Bytes that `httpsFetch` may add, minified and gzipped. */
const MAX_HTTPS_FETCH_SIZE = 768

/** The budgets, against what was measured. */
export function limits(results: Results): Limit[] {
  const { whole, withoutHttpsFetch } = results.library
  const added = whole.gzipped - (withoutHttpsFetch ?? whole).gzipped
  const sizes = [
    { what: 'lambda-cache.ts', bytes: whole.gzipped, budget: BUDGETS[0].budget },
    { what: 'httpsFetch', bytes: added, budget: MAX_HTTPS_FETCH_SIZE },
  ].map(({ what, bytes, budget }) => ({
    what: `size of ${what}, minified and gzipped`,
    limit: `${format(budget)} bytes`,
    measured: `${format(bytes)} bytes`,
    kept: bytes <= budget,
  }))
  return [
    ...sizes,
    ...results.coldStart.nodes.flatMap(coldStartLimits),
    ...warmLimits(results),
    ...largeObjectLimits(results),
  ]
}

function coldStartLimits({ node, rows, moduleLoad }: ColdStarts): Limit[] {
  const ratioTo = (name: string, most: number, floor: string): Limit[] =>
    rows
      .filter((row) => row.name === name)
      .map(({ ratio }) => ({
        what: `import and first invocation of ${name}, Node.js ${node}`,
        limit: `${most.toFixed(2)} × the ${floor}`,
        measured: `${ratio.toFixed(2)} ×`,
        kept: ratio <= most,
      }))
  const peers = rows.filter(({ name }) => ![...OURS, FETCH_FLOOR, HTTPS_FLOOR].includes(name))
  const fastest = peers.reduce((one, other) => (other.both < one.both ? other : one))
  const race = rows
    .filter(({ name }) => name === WITH_HTTPS_FETCH)
    .map(({ name, both }) => ({
      what: `the same of ${name}, against the fastest peer, Node.js ${node}`,
      limit: `less than ${format(fastest.both, 1)} ms (${fastest.name})`,
      measured: `${format(both, 1)} ms`,
      kept: both < fastest.both,
    }))
  const load = {
    what: `import of lambda-cache over an empty module, Node.js ${node}`,
    limit: '6.0 ms',
    measured: `${format(moduleLoad.difference, 1)} ms`,
    kept: moduleLoad.difference <= 6,
  }
  return [
    ...ratioTo(DEFAULT, 1.1, FETCH_FLOOR),
    ...ratioTo(WITH_HTTPS_FETCH, 1.15, HTTPS_FLOOR),
    ...race,
    load,
  ]
}

function warmLimits({ warm }: Results): Limit[] {
  const rows = warm.rows.filter(({ name }) => name === DEFAULT)
  return rows.map(({ over }) => ({
    what: 'warm invocation with four values over the bare handler',
    limit: '500 ns',
    measured: `${format(over)} ns`,
    kept: over <= 500,
  }))
}

function largeObjectLimits({ largeObject: { megabytes, rows } }: Results): Limit[] {
  const sdk = present(rows.find(({ name }) => name === SDK))
  const most = Math.min(sdk.memory, 128)
  return rows
    .filter(({ name }) => OURS.includes(name))
    .flatMap(({ name, ratio, memory }) => [
      {
        what: `time for ${megabytes} MiB to disk, ${name}`,
        limit: "1.20 × the SDK's",
        measured: `${ratio.toFixed(2)} ×`,
        kept: ratio <= 1.2,
      },
      {
        what: `memory for that, ${name}`,
        limit: `${format(most)} MiB (no more than the SDK's, and 128 MiB at most)`,
        measured: `${format(memory)} MiB`,
        kept: memory <= most,
      },
    ])
}

function machineSection({ date, command, machine, versions }: Results): string {
  const { cpu, cores, memory, system, load } = machine
  // The bench itself keeps about one core busy, but not before it begins.
  const isBusy = load.before > cores / 4
  return `${isBusy ? BUSY : ''}- ${cpu}, ${cores} cores, ${format(memory)} GiB, ${system}
- Load average of the minute before: ${load.before.toFixed(1)}, and at the end: ${load.after.toFixed(1)}
- ${date}, \`${command}\`
- ${Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(', ')}
`
}

function limitsTable(results: Results): string {
  return table(
    ['what', 'at most', 'measured', ''],
    limits(results).map(({ what, limit, measured, kept }) => [
      what,
      limit,
      measured,
      kept ? 'kept' : '**exceeded**',
    ]),
  )
}

function sizeTable(sizes: readonly HandlerSize[]): string {
  return table(
    ['handler with', 'minified', 'gzipped', 'gzipped, without the SDK'],
    sizes.map(({ name, bundled, sdkExternal }) => [
      name,
      format(bundled.minified),
      format(bundled.gzipped),
      sdkExternal ? format(sdkExternal.gzipped) : '',
    ]),
  )
}

function coldStartSection({ node, rows, moduleLoad }: ColdStarts): string {
  const { library, empty, difference } = moduleLoad
  return `### Node.js ${node}

${coldStartTable(rows)}
![Cold start on Node.js ${node}](charts/cold-start-node${node}.svg)

To import lambda-cache.ts alone takes ${format(library, 1)} ms, an empty module ${format(empty, 1)} ms, the difference being ${format(difference, 1)} ms.
`
}

function coldStartTable(rows: readonly ColdStartRow[]): string {
  return table(
    [
      'handler with',
      'import, ms',
      'first, ms',
      'both, ms',
      'ratio to floor',
      'CPU, ms',
      'memory, MiB',
    ],
    rows.map(({ name, over, ratio, memory, ...times }) => [
      name,
      ...[times.import, times.first, times.both].map((time) => format(time, 1)),
      `${ratio.toFixed(2)} (${over})`,
      format(times.cpu),
      format(memory),
    ]),
  )
}

function coldStartChart({ node, rows }: ColdStarts): string {
  return barChart({
    title: `Cold start on Node.js ${node}`,
    subtitle: 'milliseconds to import the handler and to run it once; less is better',
    unit: 'ms',
    names: rows.map(({ name }) => name),
    series: [
      { name: 'import', values: rows.map((row) => row.import) },
      { name: 'first invocation', values: rows.map(({ first }) => first) },
    ],
    highlighted: OURS,
  })
}

function warmTable(heading: string, rows: readonly WarmRow[]): string {
  return table(
    [heading, 'over the bare handler, ns', 'lowest and highest round', 'the bare handler, ns'],
    rows.map(({ name, over, lowest, highest, base }) => [
      name,
      format(over),
      `${format(lowest)} to ${format(highest)}`,
      format(base),
    ]),
  )
}

function downloadTable(rows: readonly DownloadRow[]): string {
  return table(
    ['download with', 'seconds', 'MB/s', 'ratio to the SDK', 'memory, MiB'],
    rows.map(({ name, seconds, rate, ratio, memory }) => [
      name,
      seconds.toFixed(2),
      format(rate),
      ratio.toFixed(2),
      format(memory),
    ]),
  )
}

/** All columns but the first are aligned to the right. */
function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const rules = headings.map((_, index) => (index ? '---:' : '---'))
  return [headings, rules, ...rows].map((cells) => `| ${cells.join(' | ')} |\n`).join('')
}
