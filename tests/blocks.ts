/** What the README and its pages say, their blocks of TypeScript, and a project in which these compile. */

import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const ROOT = fileURLToPath(new URL('../', import.meta.url))

/** The README, and the pages that are one click away from it, by their paths. */
export const PAGES: ReadonlyMap<string, string> = new Map(
  ['README.md', ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`)].map((path) => [
    path,
    readFileSync(join(ROOT, path), 'utf8'),
  ]),
)

/** All of them. */
export const PROSE = [...PAGES.values()].join('\n')

export function blocksOf(readme: string): string[] {
  return [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block = '']) => block)
}

/** Names of the packages that a block imports, without Node's own. */
export function packagesOf(block: string): string[] {
  return [...block.matchAll(/ from '(?![.]|node:)([^']+)'/g)].map(([, name = '']) => name)
}

/** Makes `block-0.ts` and so on in a folder, beside the library, as users are told to have it. */
export async function projectOf(
  blocks: readonly string[],
  folder: string,
  modules: string,
  types: readonly string[],
): Promise<void> {
  await mkdir(join(folder, 'examples'))
  for (const file of ['lambda-cache.ts', 'examples/local-aws.ts'])
    await cp(join(ROOT, file), join(folder, file))
  await Promise.all(
    blocks.map((block, index) => writeFile(join(folder, `block-${index}.ts`), block)),
  )
  await symlink(modules, join(folder, 'node_modules'))
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }))
  const compilerOptions = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: true,
    module: 'nodenext',
    target: 'es2022',
    lib: ['es2022'],
    noEmit: true,
    types,
  }
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions }))
}

/** What the compiler of the project's node_modules has to say. */
export function compile(folder: string): Promise<string> {
  const tsc = join(folder, 'node_modules/typescript/bin/tsc')
  return promisify(execFile)(process.execPath, [tsc, '-p', folder]).then(
    () => '',
    ({ stdout }: { stdout: string }) => stdout,
  )
}
