/** `npm run warm`: what a warm invocation with four values costs over the bare handler, as the median of interleaved rounds. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildSync } from 'esbuild'

const ROUNDS = 11

// As a bundler would make it, and each in a process of its own: the engine learns from one what slows down the other.
const folder = mkdtempSync(join(tmpdir(), 'lambda-cache-warm-'))
const program = join(folder, 'program.mjs')
buildSync({
  stdin: {
    resolveDir: fileURLToPath(new URL('..', import.meta.url)),
    contents: `
      import { withCache } from './lambda-cache.js'
      const bare = async (event, context) => context.a
      const custom = ['a', 'b', 'c', 'd'].map((as) => ({ as, load: () => 1, maxAge: 3600 }))
      const handler = process.argv[2] === 'cached' ? withCache(bare, { custom }) : bare
      const time = async (invocations) => {
        const begin = process.hrtime.bigint()
        for (let count = 0; count < invocations; count += 1) await handler({}, { getRemainingTimeInMillis: () => 3000 })
        return Number(process.hrtime.bigint() - begin) / invocations
      }
      await time(100_000)
      console.log(await time(400_000))`,
  },
  bundle: true,
  format: 'esm',
  minify: true,
  outfile: program,
  platform: 'node',
})

try {
  const rounds = Array.from({ length: ROUNDS }, () => [run('bare'), run('cached')] as const)
  console.log(`bare handler    ${median(rounds.map(([bare]) => bare))} ns an invocation`)
  console.log(`with 4 values   ${median(rounds.map(([, cached]) => cached))} ns`)
  console.log(`the difference  ${median(rounds.map(([bare, cached]) => cached - bare))} ns (median of ${ROUNDS} rounds of a process each)`)
} finally {
  rmSync(folder, { recursive: true })
}

function run(what: 'bare' | 'cached'): number {
  return Number(execFileSync(process.execPath, [program, what], { encoding: 'utf8' }))
}

function median(figures: number[]): number {
  return Math.round(figures.toSorted((one, other) => one - other)[Math.floor(figures.length / 2)]!)
}
