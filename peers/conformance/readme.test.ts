/** The examples with other people's packages, in the README and its pages: compiled, and run against the local AWS. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { LocalDurableTestRunner } from '@aws/durable-execution-sdk-js-testing'
import { startLocalAws } from '../../examples/local-aws.js'
import { blocksOf, compile, PROSE, packagesOf, projectOf } from '../../tests/blocks.js'
import { failureOf, startSts, useEnvironment } from './kit.js'

const blocks = blocksOf(PROSE).filter((block) =>
  // CDK's is built by the compositions.
  packagesOf(block).some((name) => name !== 'aws-lambda' && !name.startsWith('aws-cdk-lib')),
)
const folder = await mkdtemp(join(tmpdir(), 'readme-'))
const modules = fileURLToPath(new URL('../node_modules', import.meta.url))
await projectOf(blocks, folder, modules, ['node'])
after(() => rm(folder, { recursive: true }))

let aws: Awaited<ReturnType<typeof startLocalAws>>
before(async () => {
  aws = await startLocalAws({ secrets: { '/prod/api_key': 'first-key' } })
})
after(() => aws.close())
useEnvironment(() => ({ AWS_ENDPOINT_URL: aws.url }))

/** What the example that imports this package exports. The library beside it has a cache of its own. */
async function example<Exports>(name: string): Promise<Exports> {
  const index = blocks.findIndex((block) => packagesOf(block).includes(name))
  const { href } = pathToFileURL(folder)
  const { clearCache } = await import(`${href}/lambda-cache.ts`)
  clearCache()
  return (await import(`${href}/block-${index}.ts`)) as Exports
}

test('every example with other packages compiles', async () => {
  assert.ok(blocks.length > 1)
  assert.equal(await compile(folder), '')
})

describe('middy and durable functions', () => {
  /** What the example's own function was called with. */
  const charges: string[] = []

  beforeEach(() => {
    charges.length = 0
    aws.putSecret('/prod/api_key', 'first-key')
    Object.assign(globalThis, {
      charge: async (order: string, key: string) => {
        charges.push(`${order} with ${key}`)
        // As the month goes by, the secret is rotated.
        aws.putSecret('/prod/api_key', 'second-key')
        return `receipt ${charges.length}`
      },
    })
  })

  test('a handler inside middy has its value, beside the middleware of Powertools', async () => {
    const { withMiddy } = await example<{
      withMiddy: (event: object, context: object) => Promise<unknown>
    }>('@middy/core')
    assert.equal(
      await withMiddy({ id: 'a' }, { getRemainingTimeInMillis: () => 3000 }),
      'receipt 1',
    )
    assert.deepEqual(charges, ['a with first-key'])
  })

  test('a durable function has the value of its time in each step, and keeps none', async () => {
    await LocalDurableTestRunner.setupTestEnvironment({ skipTime: true })
    try {
      const { durable } = await example<{ durable: never }>('@aws/durable-execution-sdk-js')
      const runner = new LocalDurableTestRunner({ handlerFunction: durable })
      const execution = await runner.run({ payload: { id: 'b' } })
      assert.equal(execution.getStatus(), 'SUCCEEDED')
      assert.deepEqual(execution.getResult(), ['receipt 1', 'receipt 2'])
      // The second invocation replays the first step without running it.
      assert.equal(execution.getInvocations().length, 2)
      assert.deepEqual(charges, ['b with first-key', 'b with second-key'])
      const kept = JSON.stringify([
        execution.getHistoryEvents(),
        execution.getOperations().map((operation) => operation.getOperationData()),
      ])
      assert.match(kept, /receipt 1/)
      assert.doesNotMatch(kept, /(first|second)-key/)
    } finally {
      await LocalDurableTestRunner.teardownTestEnvironment()
    }
  })
})

test('another role reads what the function itself may not', async () => {
  const sts = await startSts()
  try {
    const id = 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-AbCdEf'
    aws.putSecret(id, 'of-the-other-account')
    Object.assign(process.env, {
      AWS_ENDPOINT_URL_STS: sts.url,
      AWS_ACCESS_KEY_ID: 'unknown-to-secrets-manager',
      AWS_SESSION_TOKEN: '',
    })
    const { handler } = await example<{
      handler: (event: { token: string }, context: object) => Promise<boolean>
    }>('@aws-sdk/credential-providers')
    assert.equal(await handler({ token: 'of-the-other-account' }, {}), true)
    assert.equal(await handler({ token: 'another' }, {}), false)
    assert.deepEqual(sts.roles, ['arn:aws:iam::123456789012:role/reader'])
  } finally {
    await sts.close()
  }
})

describe('a schema', () => {
  type Handler = (event: { kid: string }, context: object) => Promise<boolean>

  beforeEach(() => {
    aws.putParameter('/prod/flags', '{"beta":true}')
    aws.putSecret('/prod/key', new TextEncoder().encode('{"kid":"current","k":"c2VjcmV0"}'))
  })

  test('checks the value, beside a binary secret that holds JSON', async () => {
    const { handler } = await example<{ handler: Handler }>('zod')
    assert.equal(await handler({ kid: 'current' }, {}), true)
    assert.equal(await handler({ kid: 'former' }, {}), false)
  })

  test('fails with the kind of what it threw, and without its words', async () => {
    aws.putParameter('/prod/flags', '{"beta":"hunter2"}')
    const { handler } = await example<{ handler: Handler }>('zod')
    const error = await failureOf(handler({ kid: 'current' }, {}))
    const hint = 'its words may quote the value: call `parse` yourself to see them'
    assert.deepEqual(
      { ...error },
      { name: 'LambdaCacheError', code: 'ParseError', hint, source: 'ssm', id: '/prod/flags' },
    )
    assert.equal(error.message, `ssm /prod/flags: parse failed with ZodError: ${hint}`)
  })
})

test('the metrics of Powertools count what became of each refresh', async ({ mock }) => {
  // It then writes to the console that there is.
  Object.assign(process.env, { POWERTOOLS_DEV: 'true', POWERTOOLS_METRICS_DISABLED: 'false' })
  const lines: string[] = []
  mock.method(console, 'log', (line: string) => lines.push(line))
  const { handler } = await example<{
    handler: (event: object, context: object) => Promise<string>
  }>('@aws-lambda-powertools/metrics')
  aws.putParameter('/prod/app/level', 'info')
  for (let time = 0; time < 2; time += 1)
    assert.equal(await handler({ id: 'a' }, { getRemainingTimeInMillis: () => 3000 }), 'a info')
  const [written, ...more] = lines.filter((line) => line.includes('values fetched'))
  assert.deepEqual(more, [])
  assert.equal((JSON.parse(written ?? '{}') as Record<string, unknown>)['values fetched'], 1)
})
