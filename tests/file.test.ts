/** The file itself: its header, what is in a bundle, and that it compiles. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import crypto from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { present, temporaryFolder } from './kit.js'
import { bundleOf } from './size.js'

describe('lambda-cache.ts', () => {
  const path = fileURLToPath(new URL('../lambda-cache.ts', import.meta.url))
  const source = readFileSync(path, 'utf8')
  const code = source.replace(/^\s*(\/\/|\/\*|\*).*$/gm, '')

  test('begins with its licence, version and copyright, and a map that its banners match', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    const [, holder] = /Copyright \(c\) \d+ (.*)/.exec(readFileSync('LICENSE', 'utf8')) ?? []
    const [licence = ''] = source.split('\n')
    const [, date] = / \| (\d{4}-\d\d-\d\d) \| /.exec(licence) ?? []
    assert.equal(licence, `/*! lambda-cache ${version} | ${date} | MIT | (c) ${holder} */`)
    // The newest entry is of this very file: one that has changed is another version.
    const [, newest = ''] = readFileSync('CHANGELOG.md', 'utf8').split(/^(?=## )/m)
    const [title = '', , hash] = newest.split('\n')
    assert.equal(title, `## ${version}, ${date}`)
    const sha256 = crypto.createHash('sha256').update(source).digest('hex')
    assert.equal(hash, `sha256 of lambda-cache.ts: \`${sha256}\``)
    const [, list = ''] = /In this file.*\n.*:\n((?:\/\/ {3}\S.*\n)+)/.exec(source) ?? []
    const map = [...list.matchAll(/^\/\/ {3}(.+)$/gm)].map(([, name]) => name)
    const banners = [...source.matchAll(/^\/\/ -+ (.+?) -+$/gm)].map(([, name]) => name)
    assert.ok(map.length > 5, 'a map')
    assert.deepEqual(banners, map)
  })

  test('is tested by parts of which each is in the list, and none is long', () => {
    const list = readFileSync(new URL('../lambda-cache.test.ts', import.meta.url), 'utf8')
    const listed = [...list.matchAll(/^ {2}'(.+)',$/gm)].map(([, name]) => `${name}.test.ts`)
    const folder = new URL('./', import.meta.url)
    const parts = readdirSync(folder).filter((name) => name.endsWith('.test.ts'))
    assert.deepEqual(parts.sort(), listed.sort())
    for (const part of parts) {
      const lines = readFileSync(new URL(part, folder), 'utf8').split('\n').length
      assert.ok(lines <= 900, `${part}: ${lines} lines`)
    }
  })

  test('leaves a bundle without what it does not import', () => {
    const CARRIED: readonly [names: string, has: RegExp[], hasNot: RegExp[]][] = [
      ['sign', [/AWS4/], [/GetParameter|GetSecretValue|GetObject/, /NoCredentials/, /stream/]],
      ['getSecret', [/GetSecretValue/], [/GetParameter/, /GetObject/, /writeFile/, /Decompress/]],
      ['getParameter', [/GetParameters/], [/GetSecretValue/, /GetObject/, /writeFile/]],
      ['getObject', [/GetObject/], [/GetParameter/, /GetSecretValue/]],
      ['withCache', [/GetParameters/, /GetSecretValue/, /GetObject/], [/Decompress/]],
    ]
    for (const [names, has, hasNot] of CARRIED) {
      const code = bundleOf(names)
      for (const words of has) assert.match(code, words, names)
      for (const words of hasNot) assert.doesNotMatch(code, words, names)
    }
  })

  test('has no `any`, no invisible characters, and imports what Node has', () => {
    assert.deepEqual(code.match(/(?:\bas|[:<|&,=(])\s*any\b.*/g) ?? [], [])
    assert.deepEqual(source.match(/[^\P{C}\n]|[^\P{Z} ]/gu) ?? [], [])
    assert.deepEqual(source.match(/(eslint|@ts|prettier|biome)-\w+/g) ?? [], [])
    assert.deepEqual(
      source.split('\n').filter((line) => /^ *(\*|\/\/|\/\*)/.test(line) && line.length > 100),
      [],
      'comments of more than 100 columns',
    )
    const modules = [...code.matchAll(/(?:\bfrom|\bimport\(|\brequire\()\s*'([^']+)'/g)].map(
      ([, name]) => present(name),
    )
    assert.ok(modules.length > 0)
    assert.deepEqual(
      modules.filter((name) => !name.startsWith('node:')),
      [],
    )
  })

  const STRICT = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    noPropertyAccessFromIndexSignature: true,
    noImplicitOverride: true,
    noImplicitReturns: true,
    noUnusedLocals: true,
    noUnusedParameters: true,
    verbatimModuleSyntax: true,
    isolatedModules: true,
    isolatedDeclarations: true,
    erasableSyntaxOnly: true,
    declaration: true,
    noEmit: true,
    lib: ['es2022'],
    types: ['node'],
  }
  const PROJECTS: readonly [title: string, type: string, compilerOptions: object][] = [
    ['nodenext', 'module', { module: 'nodenext', target: 'es2022' }],
    [
      'nodenext, the latest target',
      'module',
      { module: 'nodenext', target: 'esnext', lib: ['esnext'] },
    ],
    ['a bundler', 'module', { module: 'esnext', moduleResolution: 'bundler', target: 'esnext' }],
    ['no types named', 'module', { module: 'nodenext', target: 'es2022', types: [] }],
    ['as ES2020', 'module', { module: 'nodenext', target: 'es2020' }],
    [
      'as ES2019, with the DOM',
      'module',
      { module: 'nodenext', target: 'es2019', lib: ['es2019', 'dom'] },
    ],
    [
      'strict but for null',
      'module',
      {
        module: 'nodenext',
        target: 'es2022',
        strictNullChecks: false,
        exactOptionalPropertyTypes: false,
      },
    ],
    [
      'strict alone',
      'module',
      {
        module: 'nodenext',
        target: 'es2022',
        exactOptionalPropertyTypes: false,
        noUncheckedIndexedAccess: false,
        noPropertyAccessFromIndexSignature: false,
        isolatedDeclarations: false,
      },
    ],
    ['CommonJS', 'commonjs', { module: 'commonjs', target: 'es2022', verbatimModuleSyntax: false }],
  ]
  const USER = `
import { getSecret, json, LambdaCacheError, withCache, type LambdaContext } from './lambda-cache.js'

interface Flags { readonly dark: boolean }

async function handle(event: { readonly id: number }, context: LambdaContext & { readonly url: string; readonly flags: Flags }): Promise<string> {
  return context.flags.dark ? context.url : String(event.id)
}

export const handler: (event: { readonly id: number }, context: LambdaContext) => Promise<string> = withCache(
  async (event: { readonly id: number }, context) => handle(event, context),
  { ssm: ['/app/url'], secrets: [{ id: 'flags', parse: json<Flags> }] },
)

export async function password(): Promise<string | undefined> {
  try {
    return await getSecret('password', { maxAge: 0 })
  } catch (error) {
    if (error instanceof LambdaCacheError && error.code === 'ResourceNotFoundException') return undefined
    throw error
  }
}
`
  for (const [title, type, compilerOptions] of PROJECTS) {
    test(`compiles in somebody else's project: ${title}`, async () => {
      const folder = await temporaryFolder()
      const typeRoots = [fileURLToPath(new URL('../node_modules/@types', import.meta.url))]
      await writeFile(join(folder, 'lambda-cache.ts'), source)
      await writeFile(join(folder, 'handler.ts'), USER)
      await writeFile(join(folder, 'package.json'), JSON.stringify({ type }))
      await writeFile(
        join(folder, 'tsconfig.json'),
        JSON.stringify({ compilerOptions: { ...STRICT, typeRoots, ...compilerOptions } }),
      )
      const typescript = fileURLToPath(
        new URL('../node_modules/typescript/bin/tsc', import.meta.url),
      )
      const output = await promisify(execFile)(process.execPath, [typescript, '-p', folder]).then(
        () => '',
        ({ stdout }: { stdout: string }) => stdout,
      )
      assert.equal(output, '')
    })
  }
})
