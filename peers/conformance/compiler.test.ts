/** What the types cost the compiler: its work grows with the number of entries, and no faster. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { COMPILERS } from './kit.js'

const run = promisify(execFile)
const peers = fileURLToPath(new URL('..', import.meta.url))

/** An entry of each kind, by its number. */
const KINDS: readonly (readonly [source: string, entry: (index: number) => string])[] = [
  ['ssm', (index) => `'/app/p${index}'`],
  ['ssm', (index) => `{ name: '/app/q${index}', parse: Number, maxAge: 5 }`],
  ['secrets', (index) => `{ id: '/app/s${index}', parse: JSON.parse }`],
  ['s3', (index) => `{ uri: 's3://bucket/o${index}.json', as: 'o${index}', binary: true }`],
]

function handlerWith(count: number): string {
  const entries = Array.from({ length: count }, (_, index) => {
    const [source, entry] = KINDS[index % KINDS.length] as (typeof KINDS)[number]
    return { source, text: entry(index) }
  })
  const listOf = (wanted: string): string =>
    entries.flatMap(({ source, text }) => (source === wanted ? [`    ${text},\n`] : [])).join('')
  const lists = ['ssm', 'secrets', 's3'].map((source) => `  ${source}: [\n${listOf(source)}  ],\n`)
  const first: string = count > 0 ? 'context.p0' : 'context'
  return `import { withCache } from './lambda-cache.js'
export const handler = withCache(async (_: object, context) => ${first}, {
${lists.join('')}})
`
}

describe('the types', () => {
  let folder = ''
  before(async () => {
    folder = await mkdtemp(join(peers, '.compiler-'))
    await copyFile(join(peers, '../lambda-cache.ts'), join(folder, 'lambda-cache.ts'))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  async function instantiations(compiler: keyof typeof COMPILERS, count: number): Promise<number> {
    const [packageName, ...more] = COMPILERS[compiler]
    const file = join(folder, `handler-${compiler}-${count}.ts`)
    await writeFile(file, handlerWith(count))
    const { stdout } = await run(process.execPath, [
      join(peers, 'node_modules', packageName, 'bin/tsc'),
      ...['--noEmit', '--strict', '--skipLibCheck', '--extendedDiagnostics'],
      ...[
        '--module',
        'nodenext',
        '--target',
        'es2022',
        '--lib',
        'es2022',
        '--types',
        'node',
        ...more,
        file,
      ],
    ])
    const [, figure] = /Instantiations:\s+([\d,]+)/.exec(stdout) ?? []
    assert.ok(figure, stdout)
    return Number(figure.replaceAll(',', ''))
  }

  for (const compiler of Object.keys(COMPILERS) as (keyof typeof COMPILERS)[])
    test(`take work in proportion to the entries, TypeScript ${compiler}`, async () => {
      const [none, some, many] = [
        await instantiations(compiler, 0),
        await instantiations(compiler, 50),
        await instantiations(compiler, 200),
      ]
      // Four times the entries.
      const ratio = (many - none) / (some - none)
      assert.ok(ratio < 5, `${none}, ${some}, ${many}: ${ratio.toFixed(2)} times`)
      assert.ok(many - none < 60_000, `${many - none} for 200 entries`)
    })
})
