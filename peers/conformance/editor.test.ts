/** Mistakes in the options, as the compiler and so the editor reports them: on the line of the mistake, and in words that help. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { COMPILERS } from './kit.js'

const run = promisify(execFile)
const peers = fileURLToPath(new URL('..', import.meta.url))

interface Mistake {
  readonly what: string
  /** The options, a line each. */
  readonly options: readonly string[]
  /** The line of the options that is to be reported, counted from 0, and what is to be said of it. */
  readonly line: number
  readonly says: RegExp
}

const MISTAKES: readonly Mistake[] = [
  {
    what: 'maxage',
    options: ["ssm: ['/a'],", 'maxage: 30,'],
    line: 1,
    says: /'maxage' is not an option of withCache/,
  },
  {
    what: 'secret in the singular',
    options: ["secret: ['/a'],"],
    line: 0,
    says: /'secret' is not an option of withCache/,
  },
  {
    what: 'ssm as a text',
    options: ["ssm: '/a',"],
    line: 0,
    says: /Type 'string' is not assignable to type 'readonly \(string \| ParameterEntry/,
  },
  {
    what: 'maxAge as a text',
    options: ["ssm: ['/a'],", "maxAge: '60',"],
    line: 1,
    says: /Type 'string' is not assignable to type 'number/,
  },
  {
    what: 'a secret with name',
    options: ['secrets: [', "  { name: 'db' },", '],'],
    line: 1,
    says: /'name' does not exist in type 'SecretEntry/,
  },
  {
    what: 'maxage in an entry, after good ones',
    options: [
      'ssm: [',
      "  '/x',",
      "  { name: '/y', parse: Number },",
      "  { name: '/a', maxage: 30 },",
      '],',
    ],
    line: 3,
    says: /'maxage' does not exist in type 'ParameterEntry.*Did you mean to write 'maxAge'\?/s,
  },
  {
    what: 'versionid in a secret',
    options: ['secrets: [', "  { id: '/a', versionid: 'a' },", "  'b',", '],'],
    line: 1,
    says: /'versionid' does not exist in type 'SecretEntry.*Did you mean to write 'versionId'\?/s,
  },
  {
    what: 'binray in an object',
    options: ['s3: [', "  { uri: 's3://b/a', binray: true },", '],'],
    line: 1,
    says: /'binray' does not exist in type 'ObjectEntry.*Did you mean to write 'binary'\?/s,
  },
  {
    what: 'lod in a custom entry',
    options: ['custom: [', "  { as: 'a', lod: () => 1 },", '],'],
    line: 1,
    says: /'lod' does not exist in type 'CustomEntry.*Did you mean to write 'load'\?/s,
  },
  {
    what: 'staleIfError in an entry',
    options: ['ssm: [', "  { name: '/a', staleIfError: 1 },", '],'],
    line: 1,
    says: /'staleIfError' does not exist in type 'ParameterEntry/,
  },
  {
    what: 'a group without as',
    options: ['ssm: [', "  { names: ['/a', '/b'] },", '],'],
    line: 1,
    says: /Property 'as' is missing .*required in type 'ParameterGroupEntry'/s,
  },
  {
    what: 'list of a tree',
    options: ['ssm: [', "  { path: '/a', list: true },", '],'],
    line: 1,
    says: /'list' does not exist in type 'ParameterTreeEntry/,
  },
  {
    what: 'a variable that may not be set',
    options: ['ssm: [', '  process.env.NAME,', '],'],
    line: 1,
    says: /Type 'string \| undefined' is not assignable to type 'string/,
  },
  {
    what: 'a variable that may not be set, as a name',
    options: ['ssm: [', "  { name: process.env.NAME, as: 'a' },", '],'],
    line: 1,
    says: /Type 'string \| undefined' is not assignable to type 'string'/,
  },
  {
    what: 'a URI that is none',
    options: ["s3: ['bucket/key'],"],
    line: 0,
    says: /Type '"bucket\/key"' is not assignable to type '`s3:\/\/\$\{string\}\/\$\{string\}`'/,
  },
]

/** What the compiler does not know of the names, as the error says that a property is missing. */
const UNKNOWN: readonly (readonly [options: string, says: RegExp])[] = [
  ['secrets: [process.env.ID as string],', /set `as`, or write the options `as const satisfies/],
  [
    "secrets: ['arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf'],",
    /the ARN of a secret ends in random characters: set `as`/,
  ],
]

const FINE: readonly (readonly string[])[] = [
  ["ssm: ['/a', { names: ['/x/a', '/x/b'], as: 'all' }, { path: '/p', recursive: true }],"],
  ['s3: [process.env.URI as string],', 'maxAge: 1,'],
  ["custom: [{ as: 'rates', load: async () => 1 }],", 'refreshOn: () => true,'],
  ["secrets: [{ id: process.env.NAME ?? '', as: 'a', default: undefined }],"],
]

for (const wrapper of ['withCache', 'withCacheStream'] as const) {
  const parameters = wrapper === 'withCache' ? '' : 'stream, '
  const head = `${wrapper}(async (event: { id: number }, ${parameters}context) => void [event, context], {`

  describe(`${wrapper}: a mistake in the options is reported where it stands`, async () => {
    // In this folder, where the compiler finds the types of Node.js.
    const folder = await mkdtemp(join(peers, 'conformance', '.editor-'))
    after(() => rm(folder, { recursive: true }))
    await copyFile(join(peers, '..', 'lambda-cache.ts'), join(folder, 'lambda-cache.ts'))
    const programs = [...MISTAKES.map(({ options }) => options), ...FINE]
    const names = programs.map((_, index) => `program-${index}.ts`)
    const using = head.replace('void [event, context]', 'void [event, context.db]')
    for (const [index, [options]] of UNKNOWN.entries()) {
      const lines = [`import { ${wrapper} } from './lambda-cache.js'`, using, options, '})']
      names.push(`unknown-${index}.ts`)
      await writeFile(join(folder, `unknown-${index}.ts`), lines.join('\n'))
    }
    for (const [index, options] of programs.entries()) {
      const lines = [`import { ${wrapper} } from './lambda-cache.js'`, head, ...options, '})']
      await writeFile(join(folder, names[index] as string), lines.join('\n'))
    }

    for (const [version, [name, ...more]] of Object.entries(COMPILERS)) {
      const compiler = join(peers, 'node_modules', name, 'bin', 'tsc')
      const strict = ['--strict', '--exactOptionalPropertyTypes', '--noEmit', '--pretty', 'false']
      const target = ['--target', 'es2022', '--module', 'nodenext', '--types', 'node']
      const args = [compiler, ...strict, ...target, '--skipLibCheck', ...more, ...names]
      const { stdout } = await run(process.execPath, args, { cwd: folder }).catch(
        (error: { stdout: string }) => error,
      )
      /** Of one program, with what is indented below each. */
      const errorsOf = (index: number): readonly string[] =>
        stdout.split(/\n(?=\S)/).filter((text) => text.startsWith(`program-${index}.ts(`))

      for (const [index, { what, line, says }] of MISTAKES.entries()) {
        test(`${what}, TypeScript ${version}`, () => {
          const errors = errorsOf(index)
          const [first = ''] = errors
          assert.equal(errors.length, 1, errors.join('\n'))
          assert.equal(Number(/\((\d+),/.exec(first)?.[1]), line + 3, first)
          assert.match(first, says)
        })
      }
      for (const [index, [options, says]] of UNKNOWN.entries()) {
        test(`a name that is not known: ${options}, TypeScript ${version}`, () => {
          const errors = stdout.split(/\n(?=\S)/)
          const [first = '', second] = errors.filter((text) => text.startsWith(`unknown-${index}`))
          assert.match(first, /Property 'db' does not exist/)
          assert.match(first, says)
          assert.equal(second, undefined)
        })
      }
      for (const [index, options] of FINE.entries()) {
        test(`${options.join(' ')} is fine, TypeScript ${version}`, () => {
          assert.deepEqual(errorsOf(MISTAKES.length + index), [])
        })
      }
    }
  })
}
