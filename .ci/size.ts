/** `npm run size`: what lambda-cache.ts weighs, whole and by section. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { transformSync } from 'esbuild'

const source = readFileSync(new URL('../lambda-cache.ts', import.meta.url), 'utf8')
const whole = weigh(source)

console.log(`${source.length} bytes of TypeScript`)
console.log(`${whole.minified} bytes minified (esbuild --minify --format=esm)`)
console.log(`${whole.gzipped} bytes minified and gzipped (gzip -9)`)
console.log('\nminified  gzipped  what the file would save without this section')
const sections = source.split(/^(?=\/\/ ---- )/m)
for (const [index, section] of sections.entries()) {
  const title = /^\/\/ ---- (.*) ----/.exec(section)?.[1] ?? 'header and imports'
  const rest = weigh(sections.toSpliced(index, 1).join(''))
  console.log(`${String(whole.minified - rest.minified).padStart(8)} ${String(whole.gzipped - rest.gzipped).padStart(8)}  ${title}`)
}

function weigh(code: string): { minified: number; gzipped: number } {
  const minified = transformSync(code, { loader: 'ts', format: 'esm', minify: true }).code
  return { minified: Buffer.byteLength(minified), gzipped: execFileSync('gzip', ['-9'], { input: minified }).length }
}
