/**
 * `npm run compositions`: lambda-cache inside other people's tools. For each: the handler has its values, signed requests arrive as they
 * were signed, and no value and no credential is in what the tool prints, sends or stores. Over both transports.
 *
 *     npm run compositions                      what CI runs
 *     npm run compositions -- sentry jest       those whose names contain one of the words
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { type LocalAws, startLocalAws } from '../../examples/local-aws.js'
import { frameworks } from './frameworks.js'
import type { Report } from './harness.js'
import { projects } from './projects.js'
import { runners } from './runners.js'
import { toolchains } from './toolchains.js'

interface Row {
  readonly what: string
  readonly run: () => Promise<void>
}

const here = new URL('./', import.meta.url)
const TIMEOUT = 60_000
const VALUES = ['marker-parameter', 'marker-secret', 'marker-object']

const words = process.argv.slice(2)
const wrappers = readdirSync(new URL('wrappers', here)).map((file) => file.replace('.ts', ''))
const rows: Row[] = [
  ...wrappers.flatMap((name) =>
    ['fetch', 'httpsFetch'].map(
      (transport): Row => ({
        what: `${name}, over ${transport}`,
        run: () => checkWrapper(name, transport),
      }),
    ),
  ),
  ...frameworks,
  ...projects,
  ...runners,
  ...toolchains,
].filter(({ what }) => words.length === 0 || words.some((word) => what.includes(word)))

const outcomes: { what: string; outcome: string }[] = []
for (const { what, run } of rows) {
  const problem = await run().then(
    () => undefined,
    (error: Error) => error,
  )
  const outcome = problem ? `FAILS: ${problem.message.split('\n')[0]}` : 'works'
  outcomes.push({ what, outcome })
  console.log(`${what}: ${outcome}`)
  if (problem) console.log(problem.message)
}
console.table(outcomes)
process.exitCode = outcomes.every(({ outcome }) => outcome === 'works') ? 0 : 1

async function checkWrapper(name: string, transport: string): Promise<void> {
  const aws = await startLocalAws({
    parameters: { '/app/parameter': { value: VALUES[0] as string, type: 'SecureString' } },
    secrets: { '/app/secret': VALUES[1] as string },
    objects: { 's3://bucket/object': VALUES[2] as string },
  })
  try {
    const { seen, outcomes, emitted, emits = '' } = await invokeWrapper(name, transport, aws)
    expect('the values', seen.works, VALUES)
    expect('the values of the invocation that fails', seen.throws, VALUES)
    expect('no values where they are denied', seen.denied, [])
    if (!/done|batchItemFailures":\[\]/.test(outcomes.works))
      throw new Error(`the invocation came to ${outcomes.works}`)
    if (!new RegExp(emits).test(emitted)) throw new Error(`nothing like ${emits} in what it emits`)
    const { AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ACCESS_KEY_ID } = aws.env
    const shown = [...VALUES, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ACCESS_KEY_ID].filter(
      (marker) => emitted.includes(marker as string),
    )
    if (shown.length > 0) throw new Error(`${shown.join()} in what it emits`)
    if (aws.requests.some(({ headers }) => !headers.authorization?.startsWith('AWS4-HMAC-SHA256')))
      throw new Error('a request without a signature')
  } finally {
    await aws.close()
  }
}

/** In a process of its own, whose output is taken for something that the tool emits. */
async function invokeWrapper(name: string, transport: string, aws: LocalAws): Promise<Report> {
  const env = { PATH: process.env.PATH, HOME: '/nonexistent', ...aws.env }
  const child = fork(fileURLToPath(new URL('harness.ts', here)), [name, transport], {
    env,
    silent: true,
    execArgv: ['--import', 'tsx'],
    timeout: TIMEOUT,
  })
  let printed = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => (printed += chunk))
  const report = new Promise<Omit<Report, 'printed'>>((resolve) => {
    child.on('message', (message: string | Report) => {
      if (typeof message !== 'string') return resolve(message)
      if (message === 'denied') aws.deny('secretsmanager:GetSecretValue', '/app/secret')
      child.send('ready')
    })
  })
  const ended = once(child, 'close').then(([code, signal]) =>
    Promise.reject(new Error(`ended with ${code ?? signal}\n${printed.slice(-3000)}`)),
  )
  const { emitted, ...rest } = await Promise.race([report, ended])
  await ended.catch(() => {})
  if (process.env.VERBOSE) console.log(printed, emitted, rest)
  return { ...rest, emitted: `${printed}\n${emitted}` }
}

function expect(what: string, actual: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(actual, expected))
    throw new Error(`${what}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`)
}
