/** `npm run size`: what lambda-cache.ts weighs, whole, by import and by section, beside its ceilings. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { buildSync, transformSync } from 'esbuild'

export interface Size {
  readonly minified: number
  readonly gzipped: number
}

/** Ceilings, in bytes: of the whole file, and of a bundle that imports one of its functions. */
export const BUDGETS = [
  { name: 'lambda-cache.ts', budget: 13_312 },
  { name: 'withCache', budget: 12_288 },
  { name: 'getParameter', budget: 9728 },
  { name: 'getSecret', budget: 9216 },
  { name: 'getObject', budget: 9728 },
  { name: 'sign', budget: 1152 },
] as const

const root = fileURLToPath(new URL('..', import.meta.url))
const source = readFileSync(new URL('../lambda-cache.ts', import.meta.url), 'utf8')

/** The whole file: `esbuild --minify --format=esm | gzip -9`. */
export function sizeOfFile(code: string = source): Size {
  return weigh(transformSync(code, { loader: 'ts', format: 'esm', minify: true }).code)
}

/** A bundle of what is imported, as in {@link bundleOf}. */
export function sizeOfImport(names: string): Size {
  return weigh(bundleOf(names))
}

/** `esbuild --bundle --minify --format=esm --platform=node`. */
export function bundleOf(names: string): string {
  const contents = `export { ${names} } from './lambda-cache.js'`
  const { outputFiles } = buildSync({
    stdin: { contents, resolveDir: root, loader: 'ts' },
    bundle: true,
    format: 'esm',
    minify: true,
    platform: 'node',
    write: false,
  })
  return outputFiles[0]?.text ?? ''
}

function weigh(code: string): Size {
  const gzipped = execFileSync('gzip', ['-9'], { input: code })
  return { minified: Buffer.byteLength(code), gzipped: gzipped.length }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log('minified  gzipped  ceiling         whole, and imported alone')
  for (const { name, budget } of BUDGETS) {
    const size = name === 'lambda-cache.ts' ? sizeOfFile() : sizeOfImport(name)
    const isKept = size.gzipped <= budget
    console.log(
      `${row(size.minified, size.gzipped, budget)}  ${isKept ? 'kept ' : 'above'}  ${name}`,
    )
  }
  console.log(
    '\nThe ceilings are goals, and being readable comes first: nothing fails by them. What is',
  )
  console.log('above them, and why, is in peers/README.md.')
  console.log('\nminified  gzipped           what the file would save without this section')
  const whole = sizeOfFile()
  const sections = source.split(/^(?=\/\/ ---- )/m)
  for (const [index, section] of sections.entries()) {
    const title = /^\/\/ ---- (.*) ----/.exec(section)?.[1] ?? 'header and imports'
    const rest = sizeOfFile(sections.filter((_, other) => other !== index).join(''))
    console.log(
      `${row(whole.minified - rest.minified, whole.gzipped - rest.gzipped)}           ${title}`,
    )
  }
}

function row(...figures: number[]): string {
  return figures.map((figure) => String(figure).padStart(8)).join(' ')
}
