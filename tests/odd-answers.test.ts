/** Providers that hang or throw, and answers of other types than AWS documents, over real sockets. */
import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import type { LocalAws } from '../examples/local-aws.js'
import { type Credentials, type Fetch, getSecret, withCache } from '../lambda-cache.js'
import {
  CANARY,
  callLoopback,
  calm,
  consoleLines,
  contextWith,
  describeOverBoth,
  failure,
  local,
  MINUTE,
  mockTimeouts,
  pass,
  present,
  SECOND,
  SECRETS,
  SSM,
  turns,
} from './kit.js'

describeOverBoth('a provider of credentials and a server', () => {
  /** Those that the local AWS knows. */
  function credentialsOf({ env }: LocalAws): Credentials {
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = env
    return {
      accessKeyId: present(AWS_ACCESS_KEY_ID),
      secretAccessKey: present(AWS_SECRET_ACCESS_KEY),
      sessionToken: AWS_SESSION_TOKEN,
    }
  }

  /** Reads that are due together, more than go out at a time. */
  function crowd(count: number): { names: string[]; seed: Record<string, string> } {
    const names = Array.from({ length: count }, (_, index) => `s${index}`)
    return { names, seed: Object.fromEntries(names.map((name) => [name, `value of ${name}`])) }
  }

  test('that never answers holds no place: others are served, and the error names it', async () => {
    const { names, seed } = crowd(25)
    const aws = await local({ secrets: { ...seed, other: 'served' } })
    await turns()
    mockTimeouts()
    const stuck = withCache(() => {}, {
      secrets: names,
      credentials: () => new Promise<never>(() => {}),
    })
    const invocation = failure(stuck({}, contextWith(3000)), { code: 'Timeout' }, '`credentials`')
    await calm()
    mock.timers.tick(SECOND)
    assert.equal(await getSecret('other'), 'served')
    mock.timers.tick(2000)
    await invocation
    assert.equal(aws.requests.length, 1)
  })

  test('that never answers one direct read has the limits of three attempts', async () => {
    const aws = await local({ secrets: { a: 'value' } })
    let calls = 0
    const credentials = () => {
      calls += 1
      return new Promise<never>(() => {})
    }
    const began = Date.now()
    await turns()
    mockTimeouts()
    let settled = false
    const read = failure(getSecret('a', { credentials }), { code: 'Timeout' }, '3 attempts').then(
      () => {
        settled = true
      },
    )
    for (let step = 0; step < 200 && !settled; step += 1) {
      mock.timers.tick(100)
      await turns()
    }
    await read
    const seconds = Math.round((Date.now() - began) / SECOND)
    assert.deepEqual([seconds, calls, aws.requests.length], [10, 3, 0])
  })

  test('may read secrets with another provider, however much is due', async () => {
    const { names, seed } = crowd(25)
    const aws = await local({ secrets: seed })
    const own = credentialsOf(aws)
    aws.putSecret('key-id', own.accessKeyId)
    aws.putSecret('key', own.secretAccessKey)
    const credentials = async () => ({
      ...own,
      accessKeyId: await getSecret('key-id'),
      secretAccessKey: await getSecret('key'),
    })
    const handler = withCache((_: unknown, context) => Reflect.get(context, 's24'), {
      secrets: names,
      credentials,
    })
    assert.equal(await handler({}, contextWith(5 * SECOND)), 'value of s24')
  })

  test('may be waited for by a fetch that reads secrets itself', async () => {
    const { names, seed } = crowd(25)
    await local({ secrets: { ...seed, inner: 'inside' } })
    const inner: string[] = []
    const fetch: Fetch = async (url, init) => {
      inner.push(await getSecret('inner'))
      return callLoopback(url, init)
    }
    const handler = withCache((_: unknown, context) => Reflect.get(context, 's24'), {
      secrets: names,
      fetch,
    })
    assert.equal(await handler({}, contextWith(5 * SECOND)), 'value of s24')
    assert.deepEqual([inner.length, new Set(inner)], [25, new Set(['inside'])])
  })

  test('that fails for a moment is asked again, and failing on costs no value', async () => {
    const aws = await local({ secrets: { a: 'one' } })
    let failuresLeft = 2
    const credentials = () => {
      failuresLeft -= 1
      if (failuresLeft >= 0) throw new Error(`${CANARY}: STS throttles`)
      return credentialsOf(aws)
    }
    const read = () => getSecret('a', { credentials })
    assert.equal(await read(), 'one')
    assert.deepEqual([failuresLeft, aws.requests.length], [-1, 1])
    const lines = consoleLines()
    failuresLeft = Infinity
    pass(MINUTE)
    assert.equal(await read(), 'one')
    assert.equal(lines.length, 1)
    assert.ok(!lines.join().includes(CANARY))
    failuresLeft = 0
    pass(MINUTE)
    assert.equal(await read(), 'one')
    assert.equal(aws.requests.length, 2)
  })
})

describeOverBoth('an answer with other types than AWS documents', () => {
  const WRONG: readonly unknown[] = [1, true, {}, ['text'], null]
  const CASES = WRONG.flatMap((wrong) => [
    [SSM, 'Value', { Parameters: [{ Name: '/app/value', Value: wrong }] }] as const,
    [SSM, 'Parameters', { Parameters: [wrong] }] as const,
    [SECRETS, 'SecretString', { SecretString: wrong }] as const,
  ])
  for (const [source, field, answer] of CASES)
    test(`is no value: ${field} in ${JSON.stringify(answer)}`, async () => {
      const aws = await local()
      source.put(aws, 'right')
      let isWrong = true
      aws.intercept = (_, response) => {
        if (isWrong) response.end(JSON.stringify(answer))
        return isWrong
      }
      await failure(source.read(), { code: 'InvalidAnswer', httpStatus: 200 })
      isWrong = false
      assert.equal(await source.read(), 'right', 'nothing of it was kept')
    })

  const DATES = ['tomorrow', 'Fri, 01 Jan 12026 00:00:00 GMT', '1969-01-01']
  for (const date of DATES)
    test(`corrects no clock by a date that cannot be: '${date}'`, async () => {
      const aws = await local()
      aws.intercept = (_, response) => {
        response
          .writeHead(400, { date })
          .end(
            JSON.stringify({ __type: 'InvalidSignatureException', message: 'Signature expired' }),
          )
        return true
      }
      await failure(SSM.read(), { code: 'InvalidSignatureException' })
      assert.equal(aws.requests.length, 1)
    })

  test('is signed once more where the clock of AWS is exactly this one', async () => {
    const aws = await local()
    aws.intercept = (_, response) => {
      response
        .writeHead(400, { date: new Date(Date.now()).toISOString() })
        .end(JSON.stringify({ __type: 'InvalidSignatureException', message: 'Signature expired' }))
      return true
    }
    await failure(SSM.read(), { code: 'InvalidSignatureException' })
    assert.equal(aws.requests.length, 2)
  })
})
