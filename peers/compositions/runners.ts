/** What stands in for Lambda on a developer's machine: each invokes a handler twice, in a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { transform } from '@swc/core'
import { type LocalAws, startLocalAws } from '../../examples/local-aws.js'

interface Runner {
  readonly what: string
  /** Whether the second invocation finds the first one's process. */
  readonly isWarm: boolean
  /** By name, beside the handler. */
  readonly files?: Readonly<Record<string, string>>
  /** Where the handler is. @default '.' */
  readonly folder?: string
  /** Programs in node_modules or here, in turn. Each prints its answers in lines that begin with `answer`, or holds them in JSON. */
  readonly commands?: readonly (readonly string[])[]
  /** A server, which is asked twice and ended. */
  readonly server?: (port: number) => readonly string[]
}

interface Answer {
  readonly values: readonly string[]
  readonly remaining?: number
}

const here = fileURLToPath(new URL('./', import.meta.url))
const root = fileURLToPath(new URL('../../', import.meta.url))
const VALUES = ['marker-parameter', 'marker-secret', 'marker-object']
const TIMEOUT = 60_000
/** Milliseconds: Lambda allows no more. */
const LONGEST_INVOCATION = 900_000

const RUNNERS: readonly Runner[] = [
  { what: 'lambda-local', isWarm: true, commands: [['runners/lambda-local.cjs', '.']] },
  { what: 'lambda-tester', isWarm: true, commands: [['runners/lambda-tester.cjs', '.']] },
  {
    what: 'node-lambda',
    isWarm: false,
    files: { 'event.json': '{}', 'context.json': '{}' },
    commands: [0, 1].map(() => [
      'node-lambda/bin/node-lambda',
      ...['run', '--handler', 'handler.handler', '--eventFile', 'event.json'],
      ...['--contextFile', 'context.json', '--timeout', '30'],
    ]),
  },
  ...['', ' in process'].map(
    (mode): Runner => ({
      what: `serverless-offline${mode}`,
      isWarm: true,
      files: {
        'serverless.yml': `service: composition
provider: { name: aws, runtime: nodejs22.x, region: eu-west-1, timeout: 30 }
plugins: [serverless-offline]
functions:
  value: { handler: handler.handler, events: [{ httpApi: 'GET /' }] }
`,
      },
      server: (port) => [
        'osls/bin/serverless.js',
        ...['offline', 'start', '--httpPort', String(port), '--lambdaPort', String(port + 1)],
        ...['--noPrependStageInUrl', ...(mode ? ['--useInProcess'] : [])],
      ],
    }),
  ),
  {
    what: '@architect/sandbox',
    // Each invocation has a process of its own.
    isWarm: false,
    folder: 'src/http/get-index',
    files: { 'app.arc': '@app\ncomposition\n@aws\nruntime nodejs22.x\n@http\nget /\n' },
    server: (port) => ['@architect/sandbox/src/cli/cli.js', '--port', String(port), '--quiet'],
  },
]

export const runners = RUNNERS.flatMap((runner) =>
  ['fetch', 'httpsFetch'].map((transport) => ({
    what: `${runner.what}, over ${transport}`,
    run: () => check(runner, transport),
  })),
)

async function check(runner: Runner, transport: string): Promise<void> {
  const aws = await startLocalAws({
    parameters: { '/app/parameter': 'marker-parameter' },
    secrets: { '/app/secret': 'marker-secret' },
    objects: { 's3://bucket/object': 'marker-object' },
  })
  const folder = await mkdtemp(join(tmpdir(), 'lambda-cache-runner-'))
  try {
    const env = { ...aws.env, TRANSPORT: transport }
    await prepare(runner, folder, env)
    const answers = await answersOf(runner, folder, env)
    if (answers.length !== 2) throw new Error(`${answers.length} answers`)
    for (const { values, remaining = 0 } of answers) {
      if (!isDeepStrictEqual(values, VALUES)) throw new Error(`got ${JSON.stringify(values)}`)
      if (remaining <= 0 || remaining > LONGEST_INVOCATION)
        throw new Error(`${remaining} ms remain`)
    }
    checkRequests(runner, aws)
  } finally {
    await aws.close()
    await rm(folder, { recursive: true, maxRetries: 5 })
  }
}

function checkRequests({ isWarm }: Runner, { requests }: LocalAws): void {
  const expected = VALUES.length * (isWarm ? 1 : 2)
  if (requests.length !== expected)
    throw new Error(`${requests.length} requests, expected ${expected}`)
}

async function prepare(
  { files = {}, folder: inner = '.' }: Runner,
  folder: string,
  env: Readonly<Record<string, string>>,
): Promise<void> {
  await symlink(join(here, 'node_modules'), join(folder, 'node_modules'))
  await mkdir(join(folder, inner), { recursive: true })
  // What is not passed on of the environment.
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}\n`)
  await writeFile(join(folder, '.env'), variables.join(''))
  await writeFile(join(folder, 'package.json'), '{ "name": "composition", "version": "1.0.0" }')
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content)
  const sources = { handler: join(here, 'runners'), 'lambda-cache': root }
  for (const [name, from] of Object.entries(sources)) {
    const { code } = await transform(await readFile(join(from, `${name}.ts`), 'utf8'), {
      jsc: { parser: { syntax: 'typescript' }, target: 'es2022' },
      module: { type: 'commonjs' },
    })
    const file = inner === '.' || name !== 'handler' ? `${name}.js` : 'index.js'
    await writeFile(join(folder, inner, file), code)
  }
}

async function answersOf(
  { commands = [], server }: Runner,
  folder: string,
  env: Readonly<Record<string, string>>,
): Promise<readonly Answer[]> {
  if (server) return askServer(server, folder, env)
  const answers: Answer[] = []
  for (const command of commands) {
    const { child, printed } = start(command, folder, env)
    const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT)
    await once(child, 'close')
    clearTimeout(timer)
    const found = answersIn(printed())
    if (found.length === 0) throw new Error(`no answer in:\n${printed()}`)
    answers.push(...found)
  }
  return answers
}

/** The bodies, as JSON or as a text in it. */
function answersIn(printed: string): Answer[] {
  const plain = printed.replace(/\\"/g, '"')
  return [...plain.matchAll(/\{"values":\[[^\]]*\](?:,"remaining":-?[\d.]+)?\}/g)].map(
    ([text]) => JSON.parse(text) as Answer,
  )
}

async function askServer(
  server: (port: number) => readonly string[],
  folder: string,
  env: Readonly<Record<string, string>>,
): Promise<readonly Answer[]> {
  const port = await freePort()
  const { child, printed } = start(server(port), folder, env)
  try {
    const answers: Answer[] = []
    const end = Date.now() + TIMEOUT
    while (answers.length < 2) {
      if (child.exitCode !== null || Date.now() > end) throw new Error(`no answer:\n${printed()}`)
      const response = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined)
      const body = await response?.text()
      if (response?.status === 200) answers.push(JSON.parse(body as string) as Answer)
      else if (body) throw new Error(`HTTP ${response?.status}: ${body}\n${printed()}`)
      else await pause(200)
    }
    return answers
  } finally {
    // Its workers, too.
    if (child.pid) process.kill(-child.pid, 'SIGKILL')
  }
}

function start(
  [program = '', ...args]: readonly string[],
  folder: string,
  env: Readonly<Record<string, string>>,
): { readonly child: ChildProcess; printed(): string } {
  const isOwn = program.startsWith('runners/')
  const file = isOwn ? join(here, program) : join(folder, 'node_modules', program)
  const given = isOwn ? [folder] : args
  let output = ''
  const child = spawn(process.execPath, [file, ...given], {
    cwd: folder,
    detached: true,
    env: {
      PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
      HOME: folder,
      NO_COLOR: '1',
      ARC_DISABLE_TELEMETRY: '1',
      SLS_TELEMETRY_DISABLED: '1',
      SLS_NOTIFICATIONS_MODE: 'off',
      ...env,
    },
  })
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => (output += chunk))
  return { child, printed: () => output.slice(-3000) }
}

/** One that is free, with the next one. */
async function freePort(): Promise<number> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  await once(server.close(), 'close')
  return port
}
