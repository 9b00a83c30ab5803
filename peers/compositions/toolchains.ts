/** A handler with `await handler.prefetch()` at its top level, built by each tool of the table in docs/toolchains.md as that says; and the policies of docs/operations.md. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { parse } from 'yaml'
import { startLocalAws } from '../../examples/local-aws.js'

const run = promisify(execFile)
const here = fileURLToPath(new URL('./', import.meta.url))
const root = fileURLToPath(new URL('../../', import.meta.url))

const HANDLER = `
import { withCache } from './lambda-cache.js'

export const handler = withCache(
  async (event: { name: string }, context) => [event.name, context.var],
  { ssm: ['/prod/app/var'] },
)
await handler.prefetch()
`

interface Toolchain {
  /** As in the first column of the table. */
  readonly tool: string
  readonly files: Readonly<Record<string, unknown>>
  /** A program in node_modules, or one of the project's own, with what it is given. */
  readonly command: readonly string[]
  /** Where the bundle is. */
  readonly bundle: string
}

const COMPILER = {
  strict: true,
  target: 'es2022',
  lib: ['es2022'],
  types: ['node'],
  skipLibCheck: true,
}
const TYPES = { compilerOptions: { ...COMPILER, module: 'esnext', moduleResolution: 'bundler' } }
const ESBUILD = ['.bin/esbuild', 'handler.ts', '--bundle', '--platform=node']

/** Configuration of webpack and of what is made like it, in the words of the table. */
const asModule = (loader: string) => `import { createRequire } from 'node:module'
const { default: build } = await import(process.argv[2])
build({
  mode: 'production',
  target: 'node22',
  entry: './handler.ts',
  devtool: false,
  experiments: { outputModule: true },
  output: { path: import.meta.dirname, filename: 'index.mjs', module: true, library: { type: 'module' } },
  resolve: { extensions: ['.ts', '.js'], extensionAlias: { '.js': ['.ts', '.js'] } },
  module: { rules: [{ test: /\\.ts$/, ${loader} }] },
}, (error, stats) => {
  if (error || stats.hasErrors()) throw error ?? new Error(stats.toString())
})`

const TOOLCHAINS: readonly Toolchain[] = [
  {
    tool: 'tsc',
    files: {
      'package.json': { type: 'module' },
      'tsconfig.json': {
        compilerOptions: { ...COMPILER, module: 'nodenext' },
        files: ['handler.ts'],
      },
    },
    command: ['typescript/bin/tsc'],
    bundle: 'handler.js',
  },
  {
    tool: 'esbuild',
    files: {},
    command: [...ESBUILD, '--format=esm', '--outfile=index.mjs'],
    bundle: 'index.mjs',
  },
  {
    tool: 'tsup',
    files: { 'tsconfig.json': TYPES, 'package.json': { type: 'module' } },
    command: ['tsup/dist/cli-default.js', 'handler.ts', '--format', 'esm', '--out-dir', '.'],
    bundle: 'handler.js',
  },
  {
    tool: 'rollup',
    files: {
      'tsconfig.json': TYPES,
      'package.json': { type: 'module' },
      'rollup.config.mjs':
        "import typescript from '@rollup/plugin-typescript'\nexport default { input: 'handler.ts', output: { file: 'index.mjs', format: 'es' }, plugins: [typescript()] }",
    },
    command: ['rollup/dist/bin/rollup', '-c'],
    bundle: 'index.mjs',
  },
  {
    tool: 'webpack',
    files: { 'tsconfig.json': TYPES, 'build.mjs': asModule("use: 'ts-loader'") },
    command: ['../build.mjs', 'webpack'],
    bundle: 'index.mjs',
  },
  {
    tool: 'rspack',
    files: {
      'build.mjs': asModule(
        "loader: 'builtin:swc-loader', options: { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' } }",
      ),
    },
    command: ['../build.mjs', '@rspack/core'],
    bundle: 'index.mjs',
  },
  {
    tool: 'ncc',
    files: {
      'package.json': { type: 'module' },
      'tsconfig.json': {
        compilerOptions: { ...COMPILER, module: 'esnext', moduleResolution: 'bundler' },
      },
    },
    command: ['@vercel/ncc/dist/ncc/cli.js', 'build', 'handler.ts', '-o', 'out'],
    bundle: 'out/index.js',
  },
  {
    tool: "CDK's `NodejsFunction`",
    files: {
      'package.json': { type: 'module' },
      'package-lock.json': {},
      'stack.ts': '',
      'synth.mjs': `import { App } from 'aws-cdk-lib'
import { Orders } from './stack.ts'
const app = new App({ outdir: 'cdk.out' })
new Orders(app)
app.synth()`,
    },
    command: ['../synth.mjs'],
    bundle: 'cdk.out',
  },
  {
    tool: 'SAM',
    files: {},
    // As aws-lambda-builders calls it.
    command: [
      ...ESBUILD,
      '--minify',
      '--format=esm',
      '--target=es2022',
      '--out-extension:.js=.mjs',
      '--outdir=out',
    ],
    bundle: 'out/handler.mjs',
  },
]

/** What Lambda's runtime turns off. */
const FLAGS = ['--no-experimental-require-module', '--no-experimental-detect-module']
const INVOKE =
  'const { handler } = await import(process.argv.at(-1)); console.log(JSON.stringify(await handler({ name: "world" }, {})))'

async function inProject<T>(
  files: Readonly<Record<string, unknown>>,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'lambda-cache-toolchain-'))
  try {
    await symlink(join(here, 'node_modules'), join(folder, 'node_modules'))
    await cp(join(root, 'lambda-cache.ts'), join(folder, 'lambda-cache.ts'))
    await writeFile(join(folder, 'handler.ts'), HANDLER)
    for (const [name, content] of Object.entries(files))
      await writeFile(
        join(folder, name),
        typeof content === 'string' ? content : JSON.stringify(content),
      )
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function build({ tool, files, command, bundle }: Toolchain): Promise<void> {
  const stack = await cdkExample()
  const own = 'stack.ts' in files ? { ...files, 'stack.ts': stack } : files
  const aws = await startLocalAws({ parameters: { '/prod/app/var': 'hello' } })
  try {
    await inProject(own, async (folder) => {
      const [program = '', ...args] = command
      const environment = { PATH: process.env.PATH, HOME: folder, NO_COLOR: '1' }
      const options = { cwd: folder, env: environment, timeout: 120_000 }
      const file = join(folder, 'node_modules', program)
      // esbuild's is a binary, or a script that finds it.
      if (program.startsWith('.bin/')) await run(file, args, options)
      else await run(process.execPath, [file, ...args], options)
      if (tool.startsWith('CDK')) await checkCdkPolicy(join(folder, bundle))
      const place = join(folder, bundle)
      const built = tool.startsWith('CDK') ? await assetIn(place) : place
      const { stdout } = await run(
        process.execPath,
        [...FLAGS, '--input-type=module', '--eval', INVOKE, '--', pathToFileURL(built).href],
        { env: { ...environment, ...aws.env } },
      )
      assert.deepEqual(JSON.parse(stdout), ['world', 'hello'])
    })
  } finally {
    await aws.close()
  }
}

async function cdkExample(): Promise<string> {
  const page = await readFile(join(root, 'docs/operations.md'), 'utf8')
  const blocks = [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block = '']) => block)
  return blocks.find((block) => block.includes("'aws-cdk-lib'")) ?? assert.fail('no example of CDK')
}

async function assetIn(folder: string): Promise<string> {
  const [asset = ''] = (await readdir(folder)).filter((name) => name.startsWith('asset.'))
  return join(folder, asset, 'index.mjs')
}

interface Statement {
  readonly Effect: string
  readonly Action: string | readonly string[]
  readonly Resource: unknown
}

/** What `grantRead` has come to in CDK's own template: each action that the handler needs. */
async function checkCdkPolicy(folder: string): Promise<void> {
  const template = JSON.parse(await readFile(join(folder, 'Orders.template.json'), 'utf8')) as {
    Resources: Record<
      string,
      { Type: string; Properties: { PolicyDocument: { Statement: Statement[] } } }
    >
  }
  const policies = Object.values(template.Resources).filter(
    ({ Type }) => Type === 'AWS::IAM::Policy',
  )
  const allowed = policies
    .flatMap(({ Properties }) => Properties.PolicyDocument.Statement)
    .flatMap(({ Action }) => Action)
  for (const action of [
    'ssm:GetParameters',
    'secretsmanager:GetSecretValue',
    's3:GetObject',
    's3:ListBucket',
  ])
    assert.ok(
      allowed.some((one) => new RegExp(`^${one.replaceAll('*', '.*')}$`).test(action)),
      `${action} in ${allowed.join()}`,
    )
}

/** What the README's policy says, as the other notations say it, and as osls puts it into its template. */
async function checkPolicies(): Promise<void> {
  const readme = await readFile(join(root, 'README.md'), 'utf8')
  const [, json = ''] = /^```json\n(\{\n {2}"Version".*?)^```$/ms.exec(readme) ?? []
  const { Statement: expected } = JSON.parse(json) as { Statement: Statement[] }
  const page = await readFile(join(root, 'docs/operations.md'), 'utf8')
  const [, yaml = ''] = /^```yaml\n(Policies:.*?)^```$/ms.exec(page) ?? []
  const { Policies } = parse(yaml) as { Policies: { Statement: Statement[] }[] }
  assert.deepEqual(Policies[0]?.Statement, expected)
  const serverless = {
    service: 'orders',
    package: { excludeDevDependencies: false, patterns: ['!**', 'handler.js'] },
    provider: {
      name: 'aws',
      runtime: 'nodejs22.x',
      region: 'eu-west-1',
      iam: { role: { statements: Policies[0]?.Statement } },
    },
    functions: { handler: { handler: 'handler.handler' } },
  }
  const files = {
    'serverless.yml': JSON.stringify(serverless),
    'handler.js': 'exports.handler = () => {}',
  }
  await inProject(files, async (folder) => {
    const env = {
      PATH: process.env.PATH,
      HOME: folder,
      AWS_ACCESS_KEY_ID: 'id',
      AWS_SECRET_ACCESS_KEY: 'key',
      CI: '1',
      SLS_TELEMETRY_DISABLED: '1',
    }
    await run(process.execPath, [join(folder, 'node_modules/osls/bin/serverless.js'), 'package'], {
      cwd: folder,
      env,
      timeout: 120_000,
    })
    const template = JSON.parse(
      await readFile(join(folder, '.serverless/cloudformation-template-update-stack.json'), 'utf8'),
    ) as {
      Resources: {
        IamRoleLambdaExecution: {
          Properties: { Policies: { PolicyDocument: { Statement: Statement[] } }[] }
        }
      }
    }
    const [policy] = template.Resources.IamRoleLambdaExecution.Properties.Policies
    for (const statement of expected)
      assert.ok(
        policy?.PolicyDocument.Statement.some(
          (one) =>
            JSON.stringify([one.Action, one.Resource].flat()) ===
            JSON.stringify([statement.Action, statement.Resource].flat()),
        ),
        JSON.stringify(statement),
      )
  })
}

/** Every row of the page's table is one of these. */
async function checkTable(): Promise<void> {
  const page = await readFile(join(root, 'docs/toolchains.md'), 'utf8')
  const [, table = ''] = /\| tool \|.*\n\|---.*\n((?:\|.*\n)+)/.exec(page) ?? []
  const tools = table
    .trim()
    .split('\n')
    .map((row) => row.split(' | ')[0]?.slice(2))
  assert.deepEqual(
    tools,
    TOOLCHAINS.map(({ tool }) => tool),
  )
}

export const toolchains = [
  { what: 'toolchains, the table', run: checkTable },
  { what: 'toolchains, policies of SAM and osls', run: checkPolicies },
  ...TOOLCHAINS.map((toolchain) => ({
    what: `toolchains, ${toolchain.tool}`,
    run: () => build(toolchain),
  })),
]
