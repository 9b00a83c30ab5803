/** Projects with a compiler, a bundler, a test runner or a linter of their own, each made in a folder of its own. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { type LocalAws, startLocalAws } from '../../examples/local-aws.js'

interface Project {
  readonly what: string
  /** By name; what is no text is written as JSON. */
  readonly files: Readonly<Record<string, unknown>>
  /** Programs in node_modules, each with what it is given. */
  readonly commands: readonly (readonly string[])[]
  /** Where the bundle is that the handler is taken from. */
  readonly bundle?: string
  /** How the files import each other, if they need an ending. @default '' */
  readonly ending?: string
  /** Which has nothing to do with a transport, and needs no AWS. */
  readonly isStatic?: boolean
}

const here = fileURLToPath(new URL('./', import.meta.url))
const root = fileURLToPath(new URL('../../', import.meta.url))
const TIMEOUT = 90_000
const EXPECTED = [
  'marker-parameter',
  'marker-secret',
  'marker-object',
  'the password is out of date',
  'ParameterNotFound',
  2,
]

const STRICT = {
  strict: true,
  esModuleInterop: true,
  skipLibCheck: true,
  types: ['node'],
  lib: ['es2022'],
}
const FOR_BUNDLERS = {
  compilerOptions: { ...STRICT, target: 'es2022', module: 'es2022', moduleResolution: 'bundler' },
  files: ['handler.ts'],
}
const JEST = { testEnvironment: 'node', testMatch: ['**/handler.test.ts'] }
const WITHOUT_ENDING = { '^(\\.{1,2}/.*)\\.js$': '$1' }
const webpackLike = {
  mode: 'production',
  target: 'node',
  entry: './handler.ts',
  devtool: false,
  output: { path: '.', filename: 'bundle.cjs', library: { type: 'commonjs2' } },
  resolve: { extensions: ['.ts', '.js'] },
}

/** An example of how to test, in one folder with what it imports. */
function example(name: string): string {
  return readFileSync(join(root, 'examples/testing', name), 'utf8').replaceAll(
    /'[./]+\/(lambda-cache|local-aws)\.js'/g,
    "'./$1.js'",
  )
}

const localAwsTest = (runner: string): string => `
import { expect, test } from '${runner}'
import { getParameter } from './lambda-cache.js'
import { startLocalAws } from './local-aws.js'
test('reads from the local AWS', async () => {
  const aws = await startLocalAws({ parameters: { '/app/greeting': 'hello' } })
  Object.assign(process.env, aws.env)
  expect(await getParameter('/app/greeting')).toBe('hello')
  await aws.close()
})`

const TESTED = {
  'greet.ts': example('greet.ts'),
  'local-aws.ts': readFileSync(join(root, 'examples/local-aws.ts'), 'utf8'),
}

const PROJECTS: readonly Project[] = [
  {
    what: 'the examples of tests, jest 30 as CommonJS',
    files: {
      ...TESTED,
      'greet.spec.ts': example('jest.ts'),
      'local-aws.spec.ts': localAwsTest('@jest/globals'),
      'tsconfig.json': {
        compilerOptions: { ...STRICT, target: 'es2022', module: 'commonjs' },
      },
      'package.json': { type: 'commonjs' },
      'jest.config.json': {
        testEnvironment: 'node',
        testMatch: ['**/*.spec.ts'],
        preset: 'ts-jest',
        moduleNameMapper: WITHOUT_ENDING,
      },
    },
    commands: [['jest/bin/jest.js', '--ci']],
    isStatic: true,
  },
  {
    what: 'the examples of tests, vitest',
    files: {
      ...TESTED,
      'greet.spec.ts': example('vitest.ts'),
      'local-aws.spec.ts': localAwsTest('vitest'),
      'package.json': { type: 'module' },
      'vitest.config.mjs': "export default { test: { globals: true, include: ['*.spec.ts'] } }",
    },
    commands: [['vitest/vitest.mjs', 'run']],
    isStatic: true,
  },
  {
    what: 'jest 29 with Babel 7',
    files: {
      'babel.config.json': {
        presets: [
          ['@babel/preset-env', { targets: { node: 'current' } }],
          '@babel/preset-typescript',
        ],
      },
      'package.json': {},
      'jest.config.json': { ...JEST, transform: { '\\.ts$': 'babel-jest29' } },
    },
    commands: [['jest29/bin/jest.js', '--ci']],
  },
  {
    what: 'jest 30 with ts-jest, CommonJS',
    files: {
      'tsconfig.json': { compilerOptions: { ...STRICT, target: 'es2022', module: 'commonjs' } },
      'package.json': {},
      'jest.config.json': { ...JEST, preset: 'ts-jest' },
    },
    commands: [['jest/bin/jest.js', '--ci']],
  },
  {
    what: 'jest 30 with ts-jest, nodenext and isolated modules',
    files: {
      'tsconfig.json': {
        compilerOptions: { ...STRICT, target: 'es2022', module: 'nodenext', isolatedModules: true },
      },
      'package.json': {},
      'jest.config.json': { ...JEST, preset: 'ts-jest', moduleNameMapper: WITHOUT_ENDING },
    },
    ending: '.js',
    commands: [['jest/bin/jest.js', '--ci']],
  },
  {
    what: 'vitest',
    files: {
      'package.json': { type: 'module' },
      'vitest.config.mjs': 'export default { test: { globals: true } }',
    },
    commands: [['vitest/vitest.mjs', 'run']],
  },
  {
    what: 'vitest in vmThreads',
    files: {
      'package.json': { type: 'module' },
      'vitest.config.mjs': "export default { test: { globals: true, pool: 'vmThreads' } }",
    },
    commands: [['vitest/vitest.mjs', 'run']],
  },
  {
    what: 'webpack',
    files: {
      'tsconfig.json': FOR_BUNDLERS,
      'package.json': {},
      'build.cjs': builder('webpack', {
        ...webpackLike,
        module: { rules: [{ test: '\\.ts$', use: 'ts-loader' }] },
      }),
    },
    commands: [['../build.cjs']],
    bundle: 'bundle.cjs',
  },
  {
    what: 'rspack',
    files: {
      'package.json': {},
      'build.cjs': builder('@rspack/core', {
        ...webpackLike,
        module: {
          rules: [
            {
              test: '\\.ts$',
              loader: 'builtin:swc-loader',
              options: { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' } },
            },
          ],
        },
      }),
    },
    commands: [['../build.cjs']],
    bundle: 'bundle.cjs',
  },
  {
    what: 'rollup',
    files: {
      'tsconfig.json': FOR_BUNDLERS,
      'package.json': { type: 'module' },
      'rollup.config.mjs':
        "import typescript from '@rollup/plugin-typescript'\nexport default { input: 'handler.ts', output: { file: 'bundle.mjs', format: 'es' }, external: /^node:/, plugins: [typescript()] }",
    },
    commands: [['rollup/dist/bin/rollup', '-c']],
    bundle: 'bundle.mjs',
  },
  {
    what: 'ncc',
    files: {
      'tsconfig.json': {
        ...FOR_BUNDLERS,
        compilerOptions: {
          ...FOR_BUNDLERS.compilerOptions,
          module: 'commonjs',
          moduleResolution: 'node10',
        },
      },
      'package.json': {},
    },
    commands: [['@vercel/ncc/dist/ncc/cli.js', 'build', 'handler.ts', '-m', '-o', 'out']],
    bundle: 'out/index.js',
  },
  {
    what: 'tsup',
    files: { 'tsconfig.json': FOR_BUNDLERS, 'package.json': { type: 'module' } },
    commands: [
      ['tsup/dist/cli-default.js', 'handler.ts', '--format', 'esm', '--minify', '--out-dir', 'out'],
    ],
    bundle: 'out/handler.js',
  },
  {
    what: 'swc',
    files: {
      'package.json': {},
      'build.cjs': `const { transformFileSync } = require('@swc/core')
const { writeFileSync } = require('node:fs')
for (const name of ['handler', 'lambda-cache']) {
  const { code } = transformFileSync(\`\${name}.ts\`, { jsc: { parser: { syntax: 'typescript' }, target: 'es2019' }, module: { type: 'commonjs' } })
  writeFileSync(\`\${name}.js\`, code)
}`,
    },
    commands: [['../build.cjs']],
    bundle: 'handler.js',
  },
  ...['nock', 'msw', 'undici'].flatMap((tool): Project[] =>
    ['tool first', 'library first'].flatMap((order) =>
      // A dispatcher is fetch's own.
      (tool === 'undici' ? ['fetch'] : ['fetch', 'httpsFetch']).map((transport) => ({
        what: `${tool}, over ${transport}, ${order}`,
        files: { 'package.json': { type: 'module' } },
        commands: [['../mocked.mjs', tool, transport, order]],
        isStatic: true,
      })),
    ),
  ),
  {
    what: 'typescript-eslint, recommended',
    files: {
      'package.json': { type: 'module' },
      'eslint.config.mjs':
        "import typescript from 'typescript-eslint'\nexport default typescript.config(...typescript.configs.recommended)",
    },
    commands: [['eslint/bin/eslint.js', '--max-warnings=0', 'lambda-cache.ts']],
    isStatic: true,
  },
  {
    what: 'Biome, recommended',
    files: { 'biome.json': { formatter: { enabled: false }, assist: { enabled: false } } },
    commands: [['@biomejs/biome/bin/biome', 'lint', '--error-on-warnings', 'lambda-cache.ts']],
    isStatic: true,
  },
  {
    what: 'oxlint, as it comes',
    files: {},
    commands: [['oxlint/bin/oxlint', '--deny-warnings', 'lambda-cache.ts']],
    isStatic: true,
  },
]

export const projects = PROJECTS.flatMap((project) =>
  project.isStatic
    ? [{ what: project.what, run: () => checkProject(project, {}) }]
    : ['fetch', 'httpsFetch'].map((transport) => ({
        what: `${project.what}, over ${transport}`,
        run: () => withAws((aws) => checkProject(project, { ...aws.env, TRANSPORT: transport })),
      })),
)

/** A script for webpack and what is made like it: their options can hold what JSON cannot. */
function builder(bundler: string, options: object): string {
  const written = JSON.stringify(options)
    .replace('"test":"\\\\.ts$"', '"test":/\\.ts$/')
    .replace('"path":"."', '"path":__dirname')
  return `require('${bundler}')(${written}, (error, stats) => {
  if (error || stats.hasErrors()) throw error ?? new Error(stats.toString())
})`
}

async function withAws(check: (aws: LocalAws) => Promise<void>): Promise<void> {
  const aws = await startLocalAws({
    parameters: { '/app/parameter': 'marker-parameter' },
    secrets: { '/app/secret': 'marker-secret' },
    objects: { 's3://bucket/object': 'marker-object' },
  })
  try {
    await check(aws)
  } finally {
    await aws.close()
  }
}

async function checkProject(
  { files, commands, bundle, ending = '' }: Project,
  aws: Readonly<Record<string, string>>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'lambda-cache-project-'))
  const env = {
    PATH: process.env.PATH,
    HOME: folder,
    NO_COLOR: '1',
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: 'id',
    AWS_SECRET_ACCESS_KEY: 'key',
    ...aws,
  }
  try {
    await symlink(join(here, 'node_modules'), join(folder, 'node_modules'))
    await cp(join(here, 'projects'), folder, { recursive: true })
    await cp(join(root, 'lambda-cache.ts'), join(folder, 'lambda-cache.ts'))
    for (const [name, content] of Object.entries(files))
      await writeFile(
        join(folder, name),
        typeof content === 'string' ? content : JSON.stringify(content),
      )
    for (const name of ['handler.ts', 'handler.test.ts']) {
      const file = join(folder, name)
      await writeFile(
        file,
        (await readFile(file, 'utf8')).replace(/(from '\.\/[\w-]+)'/g, `$1${ending}'`),
      )
    }
    for (const [program = '', ...args] of commands)
      await execute(folder, env, join(folder, 'node_modules', program), ...args)
    if (!bundle) return
    const printed: unknown = JSON.parse(
      await execute(folder, env, join(folder, 'invoke.mjs'), join(folder, bundle)),
    )
    if (!isDeepStrictEqual(printed, EXPECTED))
      throw new Error(`expected ${JSON.stringify(EXPECTED)}, got ${JSON.stringify(printed)}`)
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Gives what a program printed. */
function execute(
  cwd: string,
  env: NodeJS.ProcessEnv,
  program: string,
  ...args: string[]
): Promise<string> {
  // tsx is for those that load TypeScript as it is.
  const preload = program.endsWith('mocked.mjs')
    ? ['--import', join(root, 'node_modules/tsx/dist/esm/index.mjs')]
    : []
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [...preload, program, ...args],
      { cwd, env, timeout: TIMEOUT },
      (error, stdout, stderr) => {
        if (error)
          reject(
            new Error(`${error.message.split('\n')[0]}\n${`${stdout}\n${stderr}`.slice(-3000)}`),
          )
        else resolve(stdout)
      },
    )
  })
}
