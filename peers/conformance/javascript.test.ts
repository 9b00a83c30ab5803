/** What `npm run build` makes, beside handlers in JavaScript as docs/toolchains.md shows them, with the flags of Lambda's runtime. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { startLocalAws } from '../../examples/local-aws.js'
import { NODE_PROGRAMS } from './kit.js'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))
const page = await readFile(join(root, 'docs/toolchains.md'), 'utf8')

/** Lambda turns these features off. AWS's page: "Building Lambda functions with Node.js". */
const FLAGS = ['--no-experimental-require-module', '--no-experimental-detect-module']

/** By the extension of the library that each of them loads. */
const HANDLERS = Object.fromEntries(
  [...page.matchAll(/^```js\n(.*?)^```$/gms)].flatMap(([, block = '']) => {
    const [, extension] = /lambda-cache(\.[mc]js)'/.exec(block) ?? []
    return extension ? [[extension, block]] : []
  }),
)

/** Where package.json says nothing, as the console has it, what `npm init -y` writes, and the other one. */
const PACKAGES = { nothing: {}, commonjs: { type: 'commonjs' }, module: { type: 'module' } }

const LAYOUTS = [
  ...Object.keys(PACKAGES).map((type) => ({ type, file: 'index.mjs', library: '.mjs' })),
  { type: 'module', file: 'index.js', library: '.mjs' },
  ...Object.keys(PACKAGES).map((type) => ({ type, file: 'index.cjs', library: '.cjs' })),
  { type: 'nothing', file: 'index.js', library: '.cjs' },
  { type: 'commonjs', file: 'index.js', library: '.cjs' },
] as const

/** As the runtime client loads a handler: by `require` where a file is CommonJS. */
const INVOKE = `
  const file = process.argv.at(-1)
  const isModule = file.endsWith('.mjs') || process.argv.includes('module')
  const load = isModule && !file.endsWith('.cjs') ? import(file) : Promise.resolve(require(file))
  load.then(async ({ handler }) => process.stdout.write(JSON.stringify(await handler({ name: 'world' }, {}))))`

let folder: string
let aws: Awaited<ReturnType<typeof startLocalAws>>

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'javascript-'))
  await run('npm', ['run', 'build'], { cwd: root })
  await cp(join(root, 'dist'), join(folder, 'dist'), { recursive: true })
  aws = await startLocalAws({
    parameters: { '/prod/app/var': 'hello', '/prod/app/flags': '{"beta":true}' },
  })
})
after(async () => {
  await aws.close()
  await rm(folder, { recursive: true })
})

async function projectOf({ type, file, library }: (typeof LAYOUTS)[number]): Promise<string> {
  const place = await mkdtemp(join(folder, 'project-'))
  await cp(join(folder, 'dist'), place, { recursive: true })
  if (type !== 'nothing')
    await writeFile(join(place, 'package.json'), JSON.stringify(PACKAGES[type as 'module']))
  await writeFile(join(place, file), HANDLERS[library] ?? '')
  return place
}

describe('JavaScript', () => {
  for (const layout of LAYOUTS) {
    const { type, file, library } = layout
    for (const [major, program] of Object.entries(NODE_PROGRAMS))
      test(`${file} with lambda-cache${library} beside a package.json with type ${type}, on Node.js ${major}`, async () => {
        const place = await projectOf(layout)
        const env = { ...process.env, ...aws.env }
        const args = [...FLAGS, '--eval', INVOKE, '--', type, join(place, file)]
        const { stdout } = await run(program, args, { env })
        assert.deepEqual(JSON.parse(stdout), ['world', 'hello', true])
      })

    test(`${file} with lambda-cache${library} compiles beside type ${type}`, async () => {
      const place = await projectOf(layout)
      const args = [
        '--ignoreConfig',
        '--allowJs',
        '--checkJs',
        '--noEmit',
        '--strict',
        '--noImplicitAny',
        'false',
      ]
      const types = [
        '--module',
        'nodenext',
        '--target',
        'es2022',
        '--typeRoots',
        join(root, 'peers/node_modules/@types'),
      ]
      const tsc = join(root, 'peers/node_modules/typescript/bin/tsc')
      const { stdout } = await run(process.execPath, [
        tsc,
        ...args,
        ...types,
        join(place, file),
      ]).catch((error: { stdout: string }) => error)
      assert.equal(stdout, '')
    })
  }
})

test('TypeScript that Node.js 24 runs itself, behind one file that the runtime finds', async () => {
  const place = await mkdtemp(join(folder, 'stripping-'))
  await cp(join(root, 'lambda-cache.ts'), join(place, 'lambda-cache.ts'))
  const [, index = ''] = /^```js\n(export .*?)^```$/ms.exec(page) ?? []
  const [, specifier = ''] = /`(import \{ withCache \} from '.\/lambda-cache.ts')`/.exec(page) ?? []
  await writeFile(join(place, 'index.mjs'), index)
  await writeFile(
    join(place, 'handler.ts'),
    `${specifier}
    const work = async (event: { name: string }, context: { var: string }) => [event.name, context.var]
    export const handler = withCache(work, { ssm: ['/prod/app/var'] })
    await handler.prefetch()`,
  )
  await writeFile(join(place, 'package.json'), JSON.stringify({ type: 'module' }))
  const args = [...FLAGS, '--eval', INVOKE, '--', 'module', join(place, 'index.mjs')]
  const env = { ...process.env, ...aws.env }
  const { stdout, stderr } = await run(NODE_PROGRAMS['24'] ?? '', args, { env })
  assert.deepEqual(JSON.parse(stdout), ['world', 'hello'])
  assert.equal(stderr, '')
})
