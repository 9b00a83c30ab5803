/** At most 1,000 entries of direct access. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Fetch, getParameter } from '../lambda-cache.js'
import { failure, invoking, parameters, reply, SECRETS, script } from './kit.js'

describe('the size of the cache', () => {
  /** Reads by number, each with a request of its own. */
  function numbered() {
    const { fetch, sent } = script(({ body }) => {
      const { Names } = JSON.parse(body) as { Names: string[] }
      return parameters(Object.fromEntries(Names.map((name) => [name, name])))
    })
    const read = async (first: number, last = first, maxAge = Infinity) => {
      sent.length = 0
      for (let number = first; number <= last; number += 1)
        assert.equal(await getParameter(`/${number}`, { fetch, maxAge }), `/${number}`)
      return sent.length
    }
    return { fetch, read }
  }

  test('is 1,000 entries of direct access, and the one fetched longest ago is evicted', async () => {
    const { read } = numbered()
    assert.equal(await read(1, 1000), 1000)
    assert.equal(await read(1, 1000), 0, '1,000 are kept')
    assert.equal(await read(1, 1, 0), 1, 'the first is fetched anew')
    assert.equal(await read(1001), 1)
    assert.equal(await read(1), 0, 'it has not been fetched longest ago')
    assert.equal(await read(3, 1001), 0)
    assert.equal(await read(2), 1, 'the second has')
  })

  test('is not used up by failures', async () => {
    const { read } = numbered()
    await read(1, 999)
    const { fetch } = script(reply(403))
    for (let number = 0; number < 50; number += 1)
      await failure(SECRETS.read({ fetch, region: `eu-west-${number}` }))
    assert.equal(await read(1, 1000), 1)
  })

  test('never evicts what a withCache reads: 1,100 entries get warm, and stay', async () => {
    const { fetch, read } = numbered()
    let calls = 0
    const counted: Fetch = (url, init) => {
      calls += 1
      return fetch(url, init)
    }
    const names = Array.from({ length: 1100 }, (_, index) => `${index}`)
    const invoke = invoking(
      { ssm: names.map((as) => ({ name: `/${as}`, as: `n${as}` })), fetch: counted },
      'n0',
      'n1099',
    )
    for (let time = 0; time < 3; time += 1) assert.deepEqual(await invoke(), ['/0', '/1099'])
    assert.equal(calls, 110)
    assert.equal(await read(2000, 3100), 1101)
    assert.deepEqual([await invoke(), calls], [['/0', '/1099'], 110])
    assert.equal(await read(2000), 1, 'the one of direct access that was fetched longest ago went')
  })

  test('limits no invocation', async () => {
    const { fetch } = numbered()
    const names = Array.from({ length: 1200 }, (_, index) => `${index}`)
    const invoke = invoking(
      { ssm: names.map((as) => ({ name: `/${as}`, as: `n${as}` })), fetch },
      ...names.map((as) => `n${as}`),
    )
    assert.deepEqual(
      await invoke(),
      names.map((as) => `/${as}`),
    )
    assert.deepEqual(
      await invoke(),
      names.map((as) => `/${as}`),
    )
  })
})
