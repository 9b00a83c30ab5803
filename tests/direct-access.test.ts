/** Reads without a wrapper. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  clearCache,
  type Fetch,
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  json,
  withCache,
} from '../lambda-cache.js'
import {
  advance,
  contextWith,
  type Flags,
  failure,
  invoking,
  isSettled,
  local,
  mockTimeouts,
  SECOND,
  SECRETS,
  SSM,
  script,
  turns,
} from './kit.js'

describe('direct access', () => {
  test('parse JSON that Windows wrote, with a byte order mark', async () => {
    await local({ secrets: { flags: '\uFEFF{"dark":true}' } })
    assert.deepEqual(await getSecret('flags', { parse: json<Flags> }), { dark: true })
  })

  test('shares the cache with every handler', async () => {
    const aws = await local({ parameters: { '/a': '1' } })
    const invoke = invoking({ ssm: ['/a'] }, 'a')
    await invoke()
    assert.equal(await getParameter('/a'), '1')
    assert.equal(aws.requests.length, 1)
    aws.putParameter('/a', '2')
    assert.equal(await getParameter('/a', { maxAge: 0 }), '2')
    assert.deepEqual(await invoke(), ['2'])
    assert.equal(aws.requests.length, 2)
  })

  test('ends 200 ms before the deadline of the invocation it is in, warm and several at a time', async () => {
    mockTimeouts()
    const never: Fetch = () => new Promise(() => {})
    const fetch = script(SSM.answer('value')).fetch
    const handler = withCache((id: string) => getSecret(id, { fetch: never }), {
      ...SSM.entry(),
      fetch,
    })
    for (const state of ['cold', 'warm']) {
      const ends = [1000, 1500].map((milliseconds) =>
        failure(handler(`${state}/${milliseconds}`, contextWith(milliseconds)), {
          code: 'Timeout',
          id: `${state}/${milliseconds}`,
        }),
      )
      const outside = getSecret(`${state}/outside`, { fetch: never }).catch(() => 'three attempts')
      const settled = () => Promise.all([...ends, outside].map(isSettled))
      await advance(799)
      assert.deepEqual(await settled(), [false, false, false], state)
      await advance(1)
      assert.deepEqual(await settled(), [true, false, false], state)
      await advance(500)
      assert.deepEqual(await settled(), [true, true, false], state)
      await advance(20 * SECOND)
      assert.equal(await outside, 'three attempts')
      await Promise.all(ends)
    }
  })

  test('has the deadline of the invocation that called last where handlers are nested', async () => {
    mockTimeouts()
    const never: Fetch = () => new Promise(() => {})
    const inner = withCache(() => getSecret('inner', { fetch: never }), {})
    const outer = withCache(async () => {
      await failure(inner({}, contextWith(1000)), { code: 'Timeout' })
      return getSecret('outer', { fetch: never })
    }, {})
    const result = failure(outer({}, contextWith(2000)), { code: 'Timeout', id: 'outer' })
    await advance(1799)
    assert.equal(await isSettled(result), false)
    await advance(1)
    assert.equal(await isSettled(result), true)
    await result
  })

  test('forgets with clearCache who is under way, so that the next 20 do not wait in line', async () => {
    mockTimeouts()
    const deaf: Fetch = () => new Promise(() => {})
    for (let index = 0; index < 20; index += 1)
      getSecret(`app/${index}`, { fetch: deaf }).catch(() => {})
    await turns()
    clearCache()
    const { fetch } = script(SECRETS.answer('value'))
    assert.equal(await getSecret('app/value', { fetch }), 'value')
  })

  test('forgets everything with clearCache', async () => {
    const aws = await local({ parameters: { '/a': '1' } })
    const invoke = invoking({ ssm: ['/a'] }, 'a')
    await invoke()
    aws.putParameter('/a', '2')
    clearCache()
    assert.deepEqual(await invoke(), ['2'])
    assert.equal(await getParameter('/a'), '2')
    assert.equal(aws.requests.length, 2)
  })

  test('refuses what it cannot use, by rejecting', async () => {
    for (const call of [
      () => getParameter(''),
      () => getParameter('/a', { maxAge: -1 }),
      () => getParametersByPath('/a', { parse: 'JSON' } as never),
      () => getSecret(7 as never),
      () => getObject('https://bucket/key'),
      () => getObject('s3://bucket/key', { fetch: 'fetch' } as never),
      () => getParameter('/a', { refreshOn: () => true } as never),
      () => getSecret('a', { ssm: ['/a'] } as never),
    ]) {
      const promise = call()
      assert.ok(promise instanceof Promise)
      await failure(promise, { code: 'InvalidOptions' })
    }
  })

  test('parses JSON with json', () => {
    assert.deepEqual(json<{ a: number }>('{"a":1}'), { a: 1 })
  })
})
