/** What surrounds the file in other people's projects: emulators, fake timers, realms of their own. */
import assert from 'node:assert/strict'
import { describe, mock, test } from 'node:test'
import { runInNewContext } from 'node:vm'
import { getParameter, getParametersByPath, type Options, withCache } from '../lambda-cache.js'
import { lambdaContext } from './context.js'
import { parameters, reply, type Sent, START, script, turns } from './kit.js'

// ---- Emulators ----

/** As moto answers: no `Selector`, and in no order. */
function likeMoto(values: Readonly<Record<string, string>>, isReversed: boolean) {
  return script(({ body }) => {
    const { Names } = JSON.parse(body) as { Names: string[] }
    const known = isReversed ? [...Names].reverse() : Names
    return reply(200, {
      Parameters: known
        .filter((name) => name in values)
        .map((name) => ({ Name: name.split(':')[0], Value: values[name] })),
      InvalidParameters: Names.filter((name) => !(name in values)),
    })
  })
}

describe('an emulator that answers without selectors', () => {
  const VALUES = { '/v': 'third', '/v:1': 'first', '/v:2': 'second', '/w': 'other', host: 'root' }
  const CASES: readonly (readonly [names: readonly string[], requests: number])[] = [
    [['/v', '/v:1'], 3],
    [['/v:1', '/v:2'], 3],
    [['/v', '/v:1', '/v:2', '/w'], 4],
    [['/v:1', '/w'], 2],
    [['/v', '/w', 'host'], 1],
  ]
  for (const [names, requests] of CASES)
    for (const isReversed of [false, true]) {
      const order = isReversed ? ', in another order' : ''
      test(`gives each its own value: ${names.join(', ')}${order}`, async () => {
        const { fetch, sent } = likeMoto(VALUES, isReversed)
        assert.deepEqual(
          await Promise.all(names.map((name) => getParameter(name, { fetch }))),
          names.map((name) => VALUES[name as keyof typeof VALUES]),
        )
        assert.equal(sent.length, requests)
      })
    }

  test('that has two versions of the same value is asked no more than it must be', async () => {
    const { fetch, sent } = likeMoto({ '/v': 'same', '/v:1': 'same' }, false)
    const values = ['/v', '/v:1'].map((name) => getParameter(name, { fetch }))
    assert.deepEqual(await Promise.all(values), ['same', 'same'])
    assert.equal(sent.length, 2)
  })
})

// ---- Fake timers ----

/** As Jest, Vitest and node:test fake them where they are told nothing else. */
function fakeTimers(): void {
  mock.timers.reset()
  const apis = ['setTimeout', 'setInterval', 'setImmediate', 'Date'] as const
  mock.timers.enable({ apis: [...apis], now: START })
}

const realImmediate = setImmediate

/** What a promise comes to, or that it is pending after so many real turns of the event loop. */
async function settled<T>(promise: Promise<T>): Promise<T | 'pending'> {
  let outcome: T | 'pending' = 'pending'
  promise.then(
    (value) => (outcome = value),
    () => {},
  )
  for (let turn = 0; turn < 200 && outcome === 'pending'; turn += 1)
    await new Promise<void>((resolve) => realImmediate(resolve))
  return outcome
}

function echo({ body }: Sent): Response {
  const { Names = [], SecretId = '' } = JSON.parse(body) as { Names?: string[]; SecretId?: string }
  if (SecretId) return reply(200, { SecretString: SecretId })
  return parameters(Object.fromEntries(Names.map((name) => [name, name])))
}

describe('with fake timers and a fetch that is stubbed', () => {
  test('a tree of two pages is read', async () => {
    fakeTimers()
    const { fetch } = script(({ body }) =>
      body.includes('more')
        ? reply(200, { Parameters: [{ Name: '/app/b', Value: '2' }] })
        : reply(200, { Parameters: [{ Name: '/app/a', Value: '1' }], NextToken: 'more' }),
    )
    assert.deepEqual(
      { ...(Object(await settled(getParametersByPath('/app', { fetch }))) as object) },
      {
        a: '1',
        b: '2',
      },
    )
  })

  test('fifty secrets are read', async () => {
    fakeTimers()
    const { fetch } = script(echo)
    const secrets = Array.from({ length: 50 }, (_, index) => `s${index}`)
    const handler = withCache(async (_: unknown, context) => Object.keys(context).length, {
      secrets: secrets.map((id) => ({ id, as: id })),
      fetch,
    })
    assert.equal(typeof (await settled(handler({}, lambdaContext()))), 'number')
  })

  test('a value is refreshed ahead of time, by their clock', async () => {
    fakeTimers()
    const { fetch, sent } = script(echo)
    const handler = withCache(async (_: unknown, context) => context.a, {
      ssm: ['/app/a'],
      maxAge: 100,
      fetch,
    })
    assert.equal(await settled(handler({}, lambdaContext())), '/app/a')
    mock.timers.tick(99_999)
    assert.equal(await settled(handler({}, lambdaContext())), '/app/a')
    assert.equal(sent.length, 2)
  })

  test('a limit is on their clock', async () => {
    fakeTimers()
    const { fetch } = script('never')
    const outcome = getParameter('/app/a', { fetch }).catch((error: Error) => error.message)
    assert.equal(await settled(outcome), 'pending')
    for (let time = 0; time < 120; time += 1) {
      mock.timers.tick(100)
      await settled(Promise.resolve())
      for (let turn = 0; turn < 10; turn += 1)
        await new Promise<void>((resolve) => realImmediate(resolve))
    }
    assert.match(String(await settled(outcome)), /no answer from/)
  })
})

// ---- Realms ----

class Private {
  readonly #secret: string
  constructor(secret: string) {
    this.#secret = secret
  }
  read(): string {
    return this.#secret
  }
}

describe('what a handler is run again for', () => {
  const CASES: readonly (readonly [what: string, load: () => unknown, runs: number])[] = [
    ['an object', () => ({ a: { b: [1, 'two', null] } }), 1],
    ['an object without a prototype', () => Object.assign(Object.create(null), { a: 1 }), 1],
    ['bytes', () => new Uint8Array([1, 2]), 1],
    ['a date', () => new Date(0), 1],
    ['a map', () => new Map([['a', new Set([{ b: 1 }])]]), 1],
    ['another date', () => new Date(performance.now() * 1e6), 2],
    ['another map', () => new Map([['a', performance.now()]]), 2],
    ['an object of a class', () => new Private('a'), 2],
    ['an object that holds one of a class', () => ({ a: [new Private('a')] }), 2],
    ['a map that holds one of a class', () => new Map([['a', new Private('a')]]), 2],
    ['an object of a class that extends a map', () => new (class extends Map {})(), 2],
    ['a function', () => () => 1, 2],
    ['a promise in an object', () => ({ a: Promise.resolve() }), 2],
  ]
  for (const [what, load, runs] of CASES) {
    test(`${what}: ${runs === 1 ? 'no change' : 'a change'}`, async () => {
      assert.equal(await runsOf({ custom: [{ as: 'value', load: async () => load() }] }), runs)
    })
  }

  test('the same object in another realm: no change', async () => {
    const make = runInNewContext(
      '() => ({ a: { b: [1] }, when: new Date(0), map: new Map([[1, 2]]) })',
    )
    assert.equal(
      await runsOf({ custom: [{ as: 'value', load: async () => (make as () => unknown)() }] }),
      1,
    )
  })

  test('an object that holds itself: no change', async () => {
    const load = async (): Promise<unknown> => {
      const self: { self?: unknown } = {}
      self.self = self
      return self
    }
    assert.equal(await runsOf({ custom: [{ as: 'value', load }] }), 1)
  })
})

/** How often a handler runs that fails, where all is read again for its error. */
async function runsOf(options: Options): Promise<number> {
  let runs = 0
  const handler = withCache(
    async () => {
      runs += 1
      throw new Error('out of date')
    },
    { ...options, refreshOn: () => true },
  )
  await assert.rejects(handler({}, lambdaContext()), /out of date/)
  await turns()
  return runs
}
