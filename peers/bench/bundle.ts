/** The bundles: as a project that counts bytes would make them. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type BuildOptions, build } from 'esbuild'
import { present } from '../present.js'
import type { Alternative, Entry } from './alternatives.js'
import type { Size } from './results.js'

const REQUIRE =
  "import{createRequire}from'node:module';const require=createRequire(import.meta.url);"

const here = dirname(fileURLToPath(import.meta.url))

/** Writes an alternative's bundle, or a probe's, and returns its path. */
export async function writeBundle(
  folder: string,
  { entry, format }: Pick<Alternative, 'entry' | 'format'>,
): Promise<string> {
  const file = join(folder, entry.file.replace(/\.ts$/, format === 'cjs' ? '.cjs' : '.mjs'))
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, await bundle(entry, format))
  return file
}

/** `esbuild --bundle --minify --format=esm --platform=node --target=node22 --main-fields=module,main`, or with `--format=cjs`. */
export async function bundle(
  { file, contents }: Entry,
  format: 'esm' | 'cjs' = 'esm',
  external: string[] = [],
): Promise<string> {
  const options: BuildOptions = {
    ...(contents === undefined
      ? { entryPoints: [file] }
      : { stdin: { contents, resolveDir: here, sourcefile: basename(file), loader: 'ts' } }),
    absWorkingDir: here,
    bundle: true,
    minify: true,
    format,
    platform: 'node',
    target: 'node22',
    // The SDK's ES modules, of which a bundler can leave out what is not used.
    mainFields: ['module', 'main'],
    external,
    write: false,
    logLevel: 'error',
  }
  const code = await outputOf(options)
  // CommonJS within an ES module needs a `require`: everyone who bundles such a thing for Lambda adds this line.
  const needsRequire = format === 'esm' && code.includes('Dynamic require of')
  return needsRequire ? outputOf({ ...options, banner: { js: REQUIRE } }) : code
}

export function weigh(code: string): Size {
  return {
    minified: Buffer.byteLength(code),
    gzipped: execFileSync('gzip', ['-9'], { input: code }).length,
  }
}

async function outputOf(options: BuildOptions): Promise<string> {
  const { outputFiles = [] } = await build(options)
  return present(outputFiles[0]).text
}
