/** RESULTS.md and the charts, from results.json: nothing in them is typed by hand. */

import { BUDGETS } from '../../tests/size.js'
import { present } from '../present.js'
import {
  DEFAULT,
  FETCH_FLOOR,
  HTTPS_FLOOR,
  MAP,
  PREFETCHED,
  SDK,
  WITH_HTTPS_FETCH,
} from './alternatives.js'
import { barChart, format } from './charts.js'
import { EARLIER, MAP_READ, POWERTOOLS_READ, REFRESH_ON } from './memory.js'
import type {
  ColdStartRow,
  ColdStarts,
  Direct,
  DirectRow,
  DownloadRow,
  Duration,
  Growth,
  HandlerSize,
  Results,
  Warm,
  WarmRow,
} from './results.js'
import { GETTERS } from './warm.js'

const BUSY =
  '**The machine was busy with something else when this began: sizes hold, times and limits of time do not.**\n\n'
const OURS = [DEFAULT, WITH_HTTPS_FETCH]
const HIGHLIGHTED = [...OURS, ...OURS.map((name) => name + PREFETCHED)]

/** What is allowed: a budget, what was measured, and whether it keeps to it. */
export interface Limit {
  readonly what: string
  readonly limit: string
  readonly measured: string
  readonly kept: boolean
}

export function report(results: Results): string {
  const { coldStart, largeObject } = results
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

A new process each time, ${coldStart.rounds} rounds: milliseconds to import the handler's bundle, as in Lambda's init phase with a whole core, and for the first
invocation, ${shareSentence(coldStart)}. In brackets the CPU time, of all threads. The server has TLS, is on the same machine and takes ${coldStart.delay} ms to
answer. The floors make the same three calls, signed by hand, at once, with nothing else. Where a row says prefetch, the module waits for its values. The ratio is that of the
CPU time of import and first invocation with a whole core in the same round, for what sends with \`fetch\` to the floor over \`fetch\`, for the others to that over
\`node:https\`. Memory is the process's RSS at the end.

${coldStart.nodes.map((starts) => coldStartSection(coldStart, starts)).join('\n')}
${memorySection(results.memory)}
## Large object

An object of ${largeObject.megabytes} MiB to disk, over plain HTTP, ${largeObject.rounds} rounds on Node.js ${largeObject.node}. The SDK's is \`pipeline(Body, createWriteStream(file))\`, and the
floor the same with the body that \`fetch\` gives. Memory is the process's RSS at its peak, over what it was before. The ratio is that of the times in the same round.

${downloadTable(largeObject.rows)}
![Large object](charts/large-object.svg)
`
}

export function memorySection({ warm, direct, growth, run }: Results['memory']): string {
  return `## Reads from memory

Nanoseconds, ${run.date}, \`${run.command}\`, with a load average of ${run.machine.load.before.toFixed(1)} in the minute before. \`${EARLIER}\` is the
file as it was before reads from memory were looked at.

![A read from memory](charts/memory.svg)

### A wrapped handler with four values

What an invocation takes over the bare handler's when all values are in memory: ${warm.rounds} rounds of a process each, in which the handler and the bare one take turns. The Map's are put on the context by \`Object.assign\`, where every log shows them; four getters that hide them take what the row \`${GETTERS.name}\` says,
with no clock and no check. The SDK, aws-lite and aws4fetch keep nothing: with them every invocation calls AWS.

${warm.nodes
  .map(
    ({ node, rows, refreshed, changed }) => `Node.js ${node}, as first read:

${warmTable('cache', rows)}
Node.js ${node}, after ${warm.refreshes} refreshes with the same values:

${warmTable('cache', refreshed)}
Node.js ${node}, after ${warm.refreshes} refreshes with other values each:

${warmTable('cache', changed)}`,
  )
  .join('\n')}
### Direct access

A read of one value that is in memory, the \`await\` included: ${direct.rounds} rounds of one process with all rows, which take turns, each with a copy of its library of its own. \`all of these in turn\` is the mean of those
with one copy for all, as in a function that reads many things. Options are written in the call. A parse that is written there runs each time, since it is another function each time. The path of a file is given out only while the file is there, which takes an \`lstat\`.

${direct.nodes.map(({ node, rows }) => `Node.js ${node}:\n\n${directTable(rows)}`).join('\n')}
### How it grows

Medians of ${growth.rounds} processes. Nanoseconds for each value: on a context, all of whose values are read, and by direct access. Memory is the heap that each of 10,000 parameters takes,
with a value of 30 bytes, in a wrapper and read directly. The tree has 10,000 parameters in 1,000 pages.

${growthTable(growth)}`
}

/** By file name. */
export function charts(results: Results): Record<string, string> {
  const { sizes, coldStart, memory, largeObject } = results
  const { warm, direct } = memory
  const [afterRefreshes, afterChanges] = [', after refreshes', ', after changes']
  const { node, rows, refreshed, changed } = present(warm.nodes.at(-1))
  const readsOf = (prefix: string): string => `${prefix} getParameter`
  const directBars = [MAP_READ, POWERTOOLS_READ, readsOf(DEFAULT), readsOf(EARLIER)]
  const memoryBars = [
    ...present(direct.nodes.at(-1))
      .rows.filter(({ name }) => directBars.includes(name))
      .map(({ name, time }) => ({ name: `${name}, direct`, over: time })),
    ...rows.slice(1),
    ...refreshed.map((row) => ({ ...row, name: row.name + afterRefreshes })),
    ...changed.map((row) => ({ ...row, name: row.name + afterChanges })),
  ]
  const highlighted = [
    ...HIGHLIGHTED,
    ...memoryBars.map(({ name }) => name).filter((name) => /^lambda-cache( |, |$)(?!0)/.test(name)),
  ]
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
        `first-invocation-node${starts.node}.svg`,
        firstInvocationChart(coldStart, starts),
      ]),
    ),
    'memory.svg': barChart({
      title: 'A read from memory',
      subtitle: `nanoseconds of CPU time on Node.js ${node}: one direct read, and an invocation with four values; logarithmic; less is better`,
      unit: 'ns',
      names: memoryBars.map(({ name }) => name),
      series: [{ name: 'over', values: memoryBars.map(({ over }) => over) }],
      highlighted,
      logarithmic: true,
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
    ...results.coldStart.nodes.flatMap((starts) => coldStartLimits(results.coldStart, starts)),
    ...memoryLimits(results),
    ...largeObjectLimits(results),
  ]
}

function coldStartLimits({ sizes }: Results['coldStart'], { node, rows }: ColdStarts): Limit[] {
  const ratios = OURS.flatMap((name) =>
    rows
      .filter((row) => row.name === name)
      .map(({ over, ratio }) => ({
        what: `CPU time of import and first invocation of ${name}, Node.js ${node}`,
        limit: `1.05 × the ${over === 'fetch' ? FETCH_FLOOR : HTTPS_FLOOR}`,
        measured: `${ratio.toFixed(2)} ×`,
        kept: ratio <= 1.05,
      })),
  )
  return sizes[0]?.share === undefined ? ratios : [...ratios, ...smallestLimits(node, rows)]
}

/** Of the first invocation with the least memory. */
function smallestLimits(node: string, rows: readonly ColdStartRow[]): Limit[] {
  const cpu = ({ first }: ColdStartRow): number => present(first[0]).cpu
  const fastest = (candidates: readonly ColdStartRow[]): ColdStartRow =>
    candidates.reduce((one, other) => (cpu(other) < cpu(one) ? other : one))
  const peer = fastest(
    rows.filter(({ name }) => ![...HIGHLIGHTED, FETCH_FLOOR, HTTPS_FLOOR].includes(name)),
  )
  const sdk = fastest(rows.filter(({ name }) => name.startsWith(SDK)))
  const compared = [
    { name: WITH_HTTPS_FETCH, other: peer },
    { name: DEFAULT, other: sdk },
  ]
  return compared.flatMap(({ name, other }) =>
    rows
      .filter((row) => row.name === name)
      .flatMap((row) =>
        (['cpu', 'time'] as const).map((kind) => {
          const ratio = present(row.first[0])[kind] / present(other.first[0])[kind]
          const what = kind === 'cpu' ? 'CPU time' : 'time'
          return {
            what: `${what} of the first invocation of ${name} at 128 MB, Node.js ${node}`,
            limit: `0.75 × that of ${other.name}`,
            measured: `${ratio.toFixed(2)} ×`,
            kept: ratio <= 0.75,
          }
        }),
      ),
  )
}

function memoryLimits({ memory: { warm, direct, growth } }: Results): Limit[] {
  return [
    ...direct.nodes.flatMap(directLimits),
    ...warm.nodes.flatMap(warmLimits),
    ...growth.nodes.flatMap(growthLimits),
  ]
}

function ratioLimit(what: string, most: number, of: string, ratio: number): Limit {
  return {
    what,
    limit: `${most.toFixed(2)} × ${of}`,
    measured: `${ratio.toFixed(2)} ×`,
    kept: ratio <= most,
  }
}

function directLimits({ node, rows }: Direct['nodes'][number]): Limit[] {
  const timeOf = (wanted: string): number => present(rows.find(({ name }) => name === wanted)).time
  return rows
    .filter(({ name }) => name.startsWith(`${DEFAULT} get`))
    .flatMap(({ name, time }) => {
      const what = `direct read from memory, ${name}, Node.js ${node}`
      return [
        ratioLimit(what, 0.75, POWERTOOLS_READ, time / timeOf(POWERTOOLS_READ)),
        ratioLimit(what, 1.5, MAP_READ, time / timeOf(MAP_READ)),
      ]
    })
}

function warmLimits({ node, rows, refreshed, changed }: Warm['nodes'][number]): Limit[] {
  const cases = [
    { name: DEFAULT, some: rows, when: 'as first read', most: 0.8 },
    { name: DEFAULT, some: refreshed, when: 'after refreshes', most: 0.8 },
    { name: DEFAULT + REFRESH_ON, some: rows, when: 'as first read', most: 0.85 },
    { name: DEFAULT + REFRESH_ON, some: refreshed, when: 'after refreshes', most: 0.85 },
    { name: DEFAULT, some: changed, when: 'after values changed', most: 1.3 },
  ]
  return cases.map(({ name, some, when, most }) => {
    const { ratio } = present(some.find((row) => row.name === name))
    const what = `warm invocation with four values, ${name}, ${when}, Node.js ${node}`
    return ratioLimit(what, most, MAP, ratio)
  })
}

function growthLimits({ node, onContext, direct, tree }: Growth['nodes'][number]): Limit[] {
  const growthOf = (series: readonly number[]): number =>
    present(series.at(-1)) / present(series[0])
  return [
    ratioLimit(
      `each of 1,000 values on a context, Node.js ${node}`,
      2,
      'one alone',
      growthOf(onContext),
    ),
    ratioLimit(`each of 10,000 direct reads, Node.js ${node}`, 2, 'one alone', growthOf(direct)),
    ratioLimit(
      `CPU time for a tree of 10,000 parameters, Node.js ${node}`,
      1.2,
      `the ${SDK}'s`,
      tree,
    ),
  ]
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

function shareSentence({ sizes }: Results['coldStart']): string {
  const shares = sizes.flatMap(({ memory, share }) =>
    share === undefined ? [] : [`${(share * 100).toFixed(1)} % of a core at ${format(memory)} MB`],
  )
  return shares.length > 0
    ? `in a cgroup with the share that Lambda gives to the memory: ${shares.join(', ')}`
    : 'with the whole machine, since no cgroup can be made here'
}

function coldStartSection({ sizes }: Results['coldStart'], { node, rows }: ColdStarts): string {
  return `### Node.js ${node}

${table(
  [
    'handler with',
    'import',
    ...sizes.map(({ memory }) => `first, ${format(memory)} MB`),
    'ratio to floor',
    'memory, MiB',
  ],
  rows.map((row) => [
    row.name,
    duration(row.import, 1),
    ...row.first.map((first) => duration(first)),
    `${row.ratio.toFixed(2)} (${row.over})`,
    format(row.memory),
  ]),
)}
![The first invocation on Node.js ${node}](charts/first-invocation-node${node}.svg)
`
}

function duration({ time, cpu }: Duration, digits = 0): string {
  return `${format(time, time < 10 ? 1 : digits)} (${format(cpu, cpu < 10 ? 1 : digits)})`
}

function firstInvocationChart({ sizes }: Results['coldStart'], { node, rows }: ColdStarts): string {
  const { memory, share } = present(sizes[0])
  const where =
    share === undefined
      ? 'with the whole machine'
      : `with ${(share * 100).toFixed(1)} % of a core, as Lambda gives to ${memory} MB`
  return barChart({
    title: `The first invocation on Node.js ${node}`,
    subtitle: `milliseconds ${where}; less is better`,
    unit: 'ms',
    names: rows.map(({ name }) => name),
    series: [{ name: 'first invocation', values: rows.map(({ first }) => present(first[0]).time) }],
    highlighted: HIGHLIGHTED,
  })
}

function warmTable(heading: string, rows: readonly WarmRow[]): string {
  return table(
    [
      heading,
      'over the bare handler, ns',
      'lowest and highest round',
      'the bare handler, ns',
      `ratio to ${MAP}`,
    ],
    rows.map(({ name, over, lowest, highest, base, ratio }) => [
      name,
      format(over),
      `${format(lowest)} to ${format(highest)}`,
      format(base),
      ratio.toFixed(2),
    ]),
  )
}

function directTable(rows: readonly DirectRow[]): string {
  return table(
    ['read', 'ns', 'lowest and highest round'],
    rows.map(({ name, time, lowest, highest }) => [
      name,
      format(time),
      `${format(lowest)} to ${format(highest)}`,
    ]),
  )
}

function growthTable({ nodes }: Growth): string {
  return table(
    [
      'Node.js',
      ...['1', '10', '100', '1,000'].map((count) => `${count} on a context, ns`),
      ...['1', '100', '10,000'].map((count) => `${count} direct, ns`),
      'bytes for each',
      "tree, ratio to the SDK's",
    ],
    nodes.map(({ node, onContext, direct, bytes, tree }) => [
      node,
      ...[...onContext, ...direct, bytes].map((figure) => format(figure)),
      tree.toFixed(2),
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
