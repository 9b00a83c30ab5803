/**
 * `npm run matrix`: on which runtimes lambda-cache.ts passes its tests, with which compilers it compiles, and whether it survives
 * bundling. Prints a table, and ends with exit code 1 where something that is claimed to work does not. For Linux on x64, since
 * package.json names the runtimes for that; the Node.js that npm runs on is the oldest one to be tried.
 */

import { execFile, execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Format } from 'esbuild'
import { present } from './present.js'

/** One line of the table. */
interface Check {
  readonly what: string
  readonly on: string
  /** Why it does not work, where that is known and said: then it may fail. */
  readonly limitation?: string
  /** Gives what went wrong, or nothing. */
  run(): Promise<string | undefined>
}

interface Compiler {
  readonly version: string
  readonly folder: string
  /** What it takes where the types of the DOM go before those of Node: the first ones do not know `URL.canParse`. */
  readonly domLimitation?: string
}

type CompilerOptions = Readonly<Record<string, unknown>>

const PEERS = fileURLToPath(new URL('.', import.meta.url))
const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** Milliseconds. */
const TIMEOUT = 15 * 60_000
const COMPILERS_AT_ONCE = 2

/** npm's own Node.js: for scripts, the `node` of one of the packages goes before it. */
const NODE_OF_NPM = process.env.npm_node_execpath ?? process.execPath
const OLDEST_NODE = execFileSync(NODE_OF_NPM, ['-p', 'process.versions.node.split(".")[0]'], {
  encoding: 'utf8',
}).trim()
const NEWEST_NODE = '26'
const NODES = [...new Set([OLDEST_NODE, '22', '24', NEWEST_NODE])]
/** Those that strip types by themselves, without a flag and without a warning. */
const STRIPPING_NODES = ['24', '26']

const COMPILERS: readonly Compiler[] = [
  {
    version: '5.0',
    folder: 'typescript5.0',
    domLimitation: '`lib` has to be given, without "dom"',
  },
  { version: '5.4', folder: 'typescript5.4' },
  { version: '5.9', folder: 'typescript5.9' },
  { version: '6', folder: 'typescript6' },
  { version: '7', folder: 'typescript' },
]

/** All that can be made stricter, by the version of TypeScript that brought it. */
const STRICT: readonly (readonly [since: number, options: CompilerOptions])[] = [
  [
    5.0,
    {
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      noPropertyAccessFromIndexSignature: true,
      noImplicitOverride: true,
      noImplicitReturns: true,
      noFallthroughCasesInSwitch: true,
      noUnusedLocals: true,
      noUnusedParameters: true,
      allowUnreachableCode: false,
      allowUnusedLabels: false,
      isolatedModules: true,
      forceConsistentCasingInFileNames: true,
    },
  ],
  [5.6, { noUncheckedSideEffectImports: true }],
  [5.8, { erasableSyntaxOnly: true }],
]

const MODULES = {
  nodenext: { module: 'nodenext', verbatimModuleSyntax: true },
  bundler: { module: 'esnext', moduleResolution: 'bundler', verbatimModuleSyntax: true },
  commonjs: { module: 'commonjs' },
}
const TARGETS = ['es2022', 'esnext']

/** The library with what is written around it. */
const SOURCES = ['lambda-cache.ts', 'examples/handler.ts', 'peers/conformance/consumer.ts'].map(
  (file) => join(ROOT, file),
)

const folder = await mkdtemp(join(tmpdir(), 'lambda-cache-matrix-'))
try {
  const compiling = await inTurn(compilerChecks(), COMPILERS_AT_ONCE)
  const running = await inTurn([...bundleChecks(), ...otherRuntimeChecks(), ...testChecks()], 1)
  const rows = [...running, ...compiling]
  for (const { failure, limitation, what, on } of rows)
    if (failure !== undefined && !limitation) console.log(`\n${what} on ${on}:\n${failure}`)
  console.log()
  console.table(
    Object.fromEntries(
      rows.map(({ what, on, outcome }, index) => [index + 1, { what, on, outcome }]),
    ),
  )
  process.exitCode = rows.some(({ failure, limitation }) => failure !== undefined && !limitation)
    ? 1
    : 0
} finally {
  await rm(folder, { recursive: true })
}

async function inTurn(
  checks: readonly Check[],
  atOnce: number,
): Promise<(Check & { failure: string | undefined; outcome: string })[]> {
  const queue = checks.entries()
  const rows: (Check & { failure: string | undefined; outcome: string })[] = []
  const work = async (): Promise<void> => {
    for (const [index, check] of queue) {
      const failure = await check.run()
      const outcome =
        failure === undefined
          ? 'works'
          : check.limitation
            ? `does not work: ${check.limitation}`
            : 'FAILS'
      rows[index] = { ...check, failure, outcome }
      console.log(`${check.what} on ${check.on}: ${outcome}`)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, work))
  return rows
}

function testChecks(): Check[] {
  const stripping = ['--import', new URL('resolve-typescript.mjs', import.meta.url).href]
  const parts = readdirSync(join(ROOT, 'tests'))
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `tests/${name}`)
  const sideBySide = ['--test-concurrency=2', ...parts]
  return [
    ...NODES.map((major) =>
      testCheck('the tests, through tsx', major, ['--import', 'tsx'], sideBySide),
    ),
    ...STRIPPING_NODES.map((major) =>
      testCheck('the tests in one process, types stripped', major, stripping, [
        'lambda-cache.test.ts',
      ]),
    ),
  ]
}

function testCheck(
  what: string,
  major: string,
  preload: readonly string[],
  files: readonly string[],
): Check {
  return {
    what,
    on: `Node ${major}`,
    run: () => execute(nodeOf(major), [...preload, '--test', ...files], ROOT),
  }
}

function bundleChecks(): Check[] {
  const formats: readonly Format[] = ['esm', 'cjs']
  return formats.flatMap((format) =>
    [OLDEST_NODE, NEWEST_NODE].map((major) => ({
      what: `the demo, bundled and minified as ${format === 'esm' ? 'an ES module' : 'CommonJS'}`,
      on: `Node ${major}`,
      run: async () => execute(nodeOf(major), [await bundle(format, major)], folder),
    })),
  )
}

/** The handler and the library become one file, as for a deployment. The demo and its local AWS stay apart from it. */
async function bundle(format: Format, major: string): Promise<string> {
  const place = join(folder, `${format}-${major}`)
  await mkdir(place)
  const common = {
    bundle: true,
    platform: 'node',
    target: `node${OLDEST_NODE}`,
    logLevel: 'silent',
  } as const
  const examples = join(ROOT, 'examples')
  await build({
    ...common,
    entryPoints: [join(examples, 'demo.ts')],
    outfile: join(place, 'demo.js'),
    format: 'esm',
    external: ['./handler.js', './local-aws.js'],
  })
  await build({
    ...common,
    entryPoints: [join(examples, 'local-aws.ts')],
    outfile: join(place, 'local-aws.js'),
    format: 'esm',
  })
  const handler = join(place, format === 'esm' ? 'handler.js' : 'handler.cjs')
  await build({
    ...common,
    entryPoints: [join(examples, 'handler.ts')],
    outfile: handler,
    format,
    minify: true,
  })
  // The demo asks for handler.js. Lambda's runtime loads CommonJS with require, too.
  const required =
    "import { createRequire } from 'node:module'\nexport const { handler } = createRequire(import.meta.url)('./handler.cjs')\n"
  if (format === 'cjs') await writeFile(join(place, 'handler.js'), required)
  await writeFile(join(place, 'package.json'), '{ "type": "module" }')
  return join(place, 'demo.js')
}

function otherRuntimeChecks(): Check[] {
  // Where the package's install script has not run, the binary is still in the package for the platform.
  const bun = installed('bun/bin/bun.exe', '@oven/bun-linux-x64/bin/bun')
  const deno = installed('@deno/linux-x64-glibc/deno')
  return [
    { what: 'the demo', on: 'Bun', run: () => execute(bun, ['examples/demo.ts'], ROOT) },
    {
      what: 'the demo',
      on: 'Deno',
      run: () =>
        execute(
          deno,
          ['run', '-A', '--no-remote', '--unstable-sloppy-imports', 'examples/demo.ts'],
          ROOT,
        ),
    },
  ]
}

function compilerChecks(): Check[] {
  return COMPILERS.flatMap((compiler) => {
    const around = Object.entries(MODULES).flatMap(([name, options]) =>
      TARGETS.map((target) =>
        compilerCheck(compiler, `the types, ${name} and ${target}`, SOURCES, {
          ...options,
          target,
          lib: [target],
        }),
      ),
    )
    const strictest = { ...MODULES.nodenext, target: 'es2022', lib: ['es2022'] }
    const { domLimitation: limitation } = compiler
    const withDom = {
      ...compilerCheck(compiler, "the types, beside the DOM's", SOURCES, {
        ...strictest,
        lib: ['es2022', 'dom'],
      }),
      ...(limitation && { limitation }),
    }
    const old = ['es2020', 'es2019'].map((target) =>
      compilerCheck(
        compiler,
        `the types of the library, nodenext and ${target}`,
        SOURCES.slice(0, 1),
        { ...strictest, target, lib: [target] },
      ),
    )
    const nullable = { strictNullChecks: false, exactOptionalPropertyTypes: false }
    const lax = compilerCheck(
      compiler,
      'the types of the library, strict but for null',
      SOURCES.slice(0, 1),
      { ...strictest, ...nullable },
    )
    // As TypeScript 7's `tsc --init` writes it.
    const without = compilerCheck(compiler, 'the types, where no types are named', SOURCES, {
      ...strictest,
      types: [],
    })
    // Every export of the library says its type. What is inferred from it cannot.
    const alone = compilerCheck(compiler, 'isolated declarations', SOURCES.slice(0, 1), {
      ...strictest,
      isolatedDeclarations: true,
    })
    return [
      ...around,
      withDom,
      ...old,
      lax,
      without,
      ...(Number(compiler.version) < 5.5 ? [] : [alone]),
    ]
  })
}

function compilerCheck(
  { version, folder: compiler }: Compiler,
  what: string,
  files: readonly string[],
  options: CompilerOptions,
): Check {
  return {
    what,
    on: `TypeScript ${version}`,
    run: async () => {
      const place = await mkdtemp(join(folder, 'types-'))
      const strict = STRICT.filter(([since]) => since <= Number(version)).map(
        ([, strictOptions]) => strictOptions,
      )
      const typeRoots = [join(PEERS, 'node_modules/@types')]
      const compilerOptions = Object.assign({ types: ['node'] }, ...strict, options, {
        typeRoots,
        skipLibCheck: true,
        declaration: true,
        outDir: place,
        rootDir: ROOT,
      })
      await writeFile(join(place, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
      return execute(process.execPath, [installed(`${compiler}/bin/tsc`), '-p', place], place)
    },
  }
}

/** Gives the end of what the program printed, if it failed. */
async function execute(
  program: string,
  args: readonly string[],
  cwd: string,
): Promise<string | undefined> {
  const env = {
    ...process.env,
    DENO_DIR: join(folder, 'deno'),
    DENO_NO_UPDATE_CHECK: '1',
    NO_COLOR: '1',
  }
  return new Promise((resolve) => {
    execFile(
      program,
      args,
      { cwd, env, timeout: TIMEOUT, maxBuffer: 2 ** 28 },
      (error, stdout, stderr) => {
        resolve(
          error
            ? `${error.message.split('\n')[0]}\n${failures(stdout)}${stderr.slice(-2000)}`
            : undefined,
        )
      },
    )
  })
}

/** Of a test run what failed, of anything else its last lines. */
function failures(output: string): string {
  const failed = output.split(/^(?=\s*(?:not )?ok \d)/m).filter((part) => /^\s*not ok/.test(part))
  return (failed.length > 0 ? failed.join('') : output).slice(-4000)
}

function nodeOf(major: string): string {
  return major === OLDEST_NODE ? NODE_OF_NPM : installed(`node${major}/bin/node`)
}

/** The first of them that is there. */
function installed(...files: string[]): string {
  const paths = files.map((file) => join(PEERS, 'node_modules', file))
  return paths.find((path) => existsSync(path)) ?? present(paths[0])
}
