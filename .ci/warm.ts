/** `npm run warm`: what a warm invocation with four values costs over the bare handler, as the median of interleaved rounds. */
import { readFileSync } from 'node:fs'
import { transformSync } from 'esbuild'
import type * as Library from '../lambda-cache.js'

const ROUNDS = 21
const INVOCATIONS = 100_000

// As a bundler would make it: tsx adds calls that keep the functions' names.
const { code } = transformSync(readFileSync(new URL('../lambda-cache.ts', import.meta.url), 'utf8'), { loader: 'ts', format: 'esm', minify: true })
const { withCache } = (await import(`data:text/javascript,${encodeURIComponent(code)}`)) as typeof Library

interface Context {
  getRemainingTimeInMillis(): number
  a?: number
}
type Handler = (event: object, context: Context) => Promise<number | undefined>

const bare: Handler = async (_event, context) => context.a
const value = (as: string): Library.CustomEntry => ({ as, load: () => 1, maxAge: 3600 })
const cached = withCache(bare, { custom: [value('a'), value('b'), value('c'), value('d')] }) as Handler

const rounds: [bare: number, cached: number][] = []
for (let round = 0; round < ROUNDS; round += 1) rounds.push([await time(bare), await time(cached)])
const over = rounds.map(([one, other]) => other - one)
console.log(`bare handler    ${median(rounds.map(([one]) => one))} ns an invocation`)
console.log(`with 4 values   ${median(rounds.map(([, other]) => other))} ns`)
console.log(`the difference  ${median(over)} ns (median of ${ROUNDS} rounds, each of ${INVOCATIONS} invocations of both)`)

async function time(handler: Handler): Promise<number> {
  const begin = process.hrtime.bigint()
  for (let count = 0; count < INVOCATIONS; count += 1) await handler({}, { getRemainingTimeInMillis: () => 3000 })
  return Number(process.hrtime.bigint() - begin) / INVOCATIONS
}

function median(figures: number[]): number {
  return Math.round(figures.toSorted((one, other) => one - other)[Math.floor(figures.length / 2)]!)
}
