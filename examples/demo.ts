/**
 * What `npm run demo` shows: the quick start's handler, invoked as Lambda would, against the AWS of local-aws.ts.
 * Ends with exit code 1 if an invocation did not give what it should.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { startLocalAws } from './local-aws.js'

const PARAMETER = '/prod/app/var'
const SECRET = '/prod/db/conn_string'
const OBJECT = 's3://bucket/path/to/object.json'

const before = {
  var: 'hello',
  conn_string: 'postgres://app:first@db/prod',
  object: '{"release":1}',
}
const after = {
  var: 'hello again',
  conn_string: 'postgres://app:second@db/prod',
  object: '{"release":2}',
}

const aws = await startLocalAws({
  parameters: { [PARAMETER]: { value: before.var, type: 'SecureString' } },
  secrets: { [SECRET]: before.conn_string },
  objects: { [OBJECT]: before.object },
})
// Whatever else the shell has set, the demo calls loopback only.
for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name]
Object.assign(process.env, aws.env, { LAMBDA_CACHE_MAX_AGE: '1' })
const { handler } = await import('./handler.js')

const mistakes: string[] = []
const files = new Set<string>()

console.log(
  `A handler with an SSM parameter, a secret and an S3 object, against a local AWS on ${aws.url}`,
)
console.log(
  'Values are kept for 1 second here (LAMBDA_CACHE_MAX_AGE=1), so that expiry can be watched. The default is 60.',
)
try {
  await expectValues('First invocation', before, 3)
  await expectValues('Warm: the same again', before, 0)
  aws.putParameter(PARAMETER, after.var, { type: 'SecureString' })
  aws.putSecret(SECRET, after.conn_string)
  aws.putObject(OBJECT, after.object)
  await expectValues('All three changed in AWS, but not yet expired here', before, 0)
  await pause(1100)
  await expectValues('More than a second later: expired', after, 3)
  aws.delete(PARAMETER)
  await pause(1100)
  await expectError('The parameter was deleted, and a second has passed', 'ParameterNotFound')
} finally {
  await aws.close()
  for (const file of files) rmSync(file, { force: true })
}

console.log(mistakes.length === 0 ? '\nAll as it should be.' : `\nWRONG: ${mistakes.join('; ')}`)
process.exitCode = mistakes.length === 0 ? 0 : 1

async function expectValues(title: string, values: typeof before, calls: number): Promise<void> {
  const { result, error } = await invoke(title)
  if (result === undefined) {
    line('error', String(error))
    mistakes.push(`"${title}" failed`)
    return
  }
  files.add(result.file)
  const object = readFileSync(result.file, 'utf8')
  line('var', result.var)
  line('conn_string', result.conn_string)
  line('object.json', `${object}  in ${result.file}`)
  const right =
    result.var === values.var &&
    result.conn_string === values.conn_string &&
    object === values.object
  if (!right) mistakes.push(`"${title}" gave other values`)
  if (aws.requests.length !== calls)
    mistakes.push(`"${title}" made ${aws.requests.length} calls, not ${calls}`)
}

async function expectError(title: string, code: string): Promise<void> {
  const { error } = await invoke(title)
  const given = (error as { code?: string } | undefined)?.code
  line('error', error instanceof Error ? error.message : 'none')
  line('code', String(given))
  if (given !== code) mistakes.push(`"${title}" was to end with ${code}`)
}

async function invoke(
  title: string,
): Promise<{ result?: Awaited<ReturnType<typeof handler>>; error?: unknown }> {
  aws.requests.length = 0
  const event = { name: 'world' }
  const context = lambdaContext()
  const start = performance.now()
  const [outcome] = await Promise.allSettled([handler(event, context)])
  const time = performance.now() - start
  const calls = aws.requests.map(({ service, action }) => `${service} ${action}`)
  console.log(`\n${title}`)
  line('time', `${time.toFixed(2)} ms`)
  line('calls', calls.length === 0 ? 'none' : `${calls.length}: ${calls.join(', ')}`)
  return outcome.status === 'fulfilled' ? { result: outcome.value } : { error: outcome.reason }
}

function lambdaContext() {
  const deadline = Date.now() + 3000
  return {
    functionName: 'demo',
    functionVersion: '$LATEST',
    invokedFunctionArn: 'arn:aws:lambda:us-east-1:123456789012:function:demo',
    memoryLimitInMB: '128',
    awsRequestId: randomUUID(),
    logGroupName: '/aws/lambda/demo',
    logStreamName: 'demo',
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => deadline - Date.now(),
    done: () => {},
    fail: () => {},
    succeed: () => {},
  }
}

function line(label: string, text: string): void {
  console.log(`  ${label.padEnd(11)}  ${text}`)
}
