/** Custom loads. */
import assert from 'node:assert/strict'
import { describe, mock, test } from 'node:test'
import {
  assertKeepsSecrets,
  cleanups,
  failure,
  invoking,
  pass,
  present,
  refusal,
  SECOND,
  SECRETS,
  SSM,
  script,
  turns,
} from './kit.js'

describe('custom', () => {
  test('needs no fetch', async () => {
    const { fetch } = globalThis
    cleanups.push(() => Object.assign(globalThis, { fetch }))
    Reflect.deleteProperty(globalThis, 'fetch')
    const invoke = invoking({ custom: [{ as: 'read', load: () => 'value' }] }, 'read')
    assert.deepEqual(await invoke(), ['value'])
  })

  test('loads once for all who wait, and then for maxAge', async () => {
    const load = mock.fn(async () => {
      await turns()
      return { release: load.mock.callCount() }
    })
    const invoke = invoking({ custom: [{ as: 'value', load, maxAge: 10 }] }, 'value')
    const [[one], [other]] = (await Promise.all([invoke(), invoke()])) as [[unknown], [unknown]]
    assert.equal(one, other, 'the same object')
    pass(8 * SECOND - 1)
    assert.equal((await invoke())[0], one)
    assert.equal(load.mock.callCount(), 1)
    pass(2 * SECOND + 1)
    assert.notEqual((await invoke())[0], one)
    assert.equal(load.mock.callCount(), 2)
  })

  test('takes whatever a load gives for a value, whether it waits or not', async () => {
    for (const value of [undefined, null, false, 0, '', NaN, [], Symbol.iterator, () => {}]) {
      for (const load of [mock.fn(() => value), mock.fn(async () => value)]) {
        const invoke = invoking({ custom: [{ as: 'value', load }] }, 'value')
        for (let time = 0; time < 3; time += 1) assert.deepEqual(await invoke(), [value])
        assert.equal(load.mock.callCount(), 1)
      }
    }
  })

  test('says which LoadFailed, and gives its error as the cause', async () => {
    for (const reason of [new Error('down'), 'down', undefined, null, 7]) {
      for (const load of [
        () => Promise.reject(reason),
        () => {
          throw reason
        },
      ]) {
        const error = await failure(
          invoking({ custom: [{ as: 'token', load }] }, 'token'),
          { code: 'LoadFailed', source: 'custom', id: 'token' },
          'custom token',
        )
        assert.equal(error.cause, reason)
      }
    }
  })

  test('does not cache a failure', async () => {
    const outcomes = [() => Promise.reject(new Error('down')), () => Promise.resolve('up')]
    const invoke = invoking(
      { custom: [{ as: 'value', load: () => present(outcomes.shift())() }] },
      'value',
    )
    await failure(invoke(), { code: 'LoadFailed' })
    assert.deepEqual(await invoke(), ['up'])
  })

  test('shares one value between all wrappers with the same load, and no value between others', async () => {
    const [load, other] = [mock.fn(() => 'one'), mock.fn(() => 'other')]
    const invocations = [
      invoking({ custom: [{ as: 'a', load }] }, 'a'),
      invoking(
        {
          custom: [
            { as: 'b', load },
            { as: 'a', load: other },
          ],
        },
        'b',
        'a',
      ),
    ]
    assert.deepEqual(await Promise.all(invocations.map((invoke) => invoke())), [
      ['one'],
      ['one', 'other'],
    ])
    assert.deepEqual([load.mock.callCount(), other.mock.callCount()], [1, 1])
  })

  test('passes on what a load says that reads from this cache itself', async () => {
    const { fetch } = script(refusal('AccessDeniedException'))
    const load = () => SECRETS.read({ fetch })
    assertKeepsSecrets(
      await failure(
        invoking({ custom: [{ as: 'value', load }] }),
        { code: 'AccessDeniedException', source: 'custom', id: 'value', httpStatus: 400 },
        'app/value',
      ),
    )
  })

  test('loads beside the others, and is named beside them where several fail', async () => {
    const { fetch } = script(refusal('AccessDeniedException'))
    const invoke = invoking({
      ...SSM.entry(),
      custom: [{ as: 'token', load: () => Promise.reject(new Error('down')) }],
      fetch,
    })
    await failure(invoke(), {}, 'custom token', 'ssm /app/value')
  })
})
