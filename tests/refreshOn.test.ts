/** Values that are read again where the handler's error asks for it. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, mock, test } from 'node:test'
import {
  clearCache,
  getParameter,
  json,
  type Options,
  withCache,
  withCacheStream,
} from '../lambda-cache.js'
import {
  advance,
  CANARY,
  consoleLines,
  contextWith,
  isSettled,
  lambdaContext,
  local,
  mockTimeouts,
  parameters,
  present,
  refusal,
  reply,
  responseStream,
  S3,
  type Scene,
  SECRETS,
  SSM,
  scene,
  script,
  temporaryFolder,
  turns,
  unreachable,
  until,
} from './kit.js'

describe('refreshOn', () => {
  class OutOfDate extends Error {}
  const refreshOn = (error: unknown): boolean => error instanceof OutOfDate

  const bytes = (value: string): Response =>
    reply(200, { SecretBinary: Buffer.from(value).toString('base64') })
  const tree = (value: string): Response =>
    reply(200, { Parameters: [{ Name: '/app/value', Value: value }] })
  const object = (value: string): Response => reply(200, value, { etag: `"${value}"` })

  /** Whatever a value can be: the entry under the name `value`, what AWS answers for a text, and what a handler makes of the value. */
  const KINDS: readonly [
    what: string,
    options: (aws: Scene, folder: string) => Options,
    answer: (value: string) => Response,
    textOf?: (value: never) => unknown,
  ][] = [
    ['text', () => SSM.entry(), SSM.answer],
    [
      'parsed JSON',
      () => SECRETS.entry({ parse: json<{ a: string }> }),
      (value) => SECRETS.answer(JSON.stringify({ a: value })),
      (value: { a: string }) => value.a,
    ],
    [
      'bytes',
      () => ({ secrets: [{ id: 'app/value', binary: true }] }),
      bytes,
      (value: Uint8Array) => Buffer.from(value).toString(),
    ],
    [
      'a group',
      () => ({ ssm: [{ names: ['/app/value'], as: 'value' }] }),
      SSM.answer,
      (value: { value: string }) => value.value,
    ],
    [
      'a tree',
      () => ({ ssm: [{ path: '/app', as: 'value' }] }),
      tree,
      (value: { value: string }) => value.value,
    ],
    [
      'a list',
      () => ({ ssm: [{ name: '/app/value', list: true }] }),
      (value) => SSM.answer(`${value},b`),
      (value: string[]) => value[0],
    ],
    [
      'a file',
      (_, folder) => ({ s3: [{ uri: 's3://bucket/app/value', file: `${folder}/value` }] }),
      object,
      (file: string) => readFileSync(file, 'utf8'),
    ],
    ['an object in memory', () => S3.entry(), object],
    ['custom', ({ load }) => ({ custom: [{ as: 'value', load }] }), (value) => reply(200, value)],
  ]

  /** A handler that takes one value and no other, of the kind given. */
  async function guarded(kind: (typeof KINDS)[number], more: Options = {}) {
    const [, options, answer, textOf = (value: string) => value] = kind
    const aws = scene(answer('one'))
    const accepted = { value: 'one' }
    const seen: unknown[] = []
    const handler = withCache(
      (_: unknown, context) => {
        const value = textOf(Reflect.get(context, 'value') as never)
        if (seen.push(value) && value !== accepted.value)
          throw new OutOfDate(`${CANARY}-${accepted.value}`)
        return value
      },
      { ...options(aws, await temporaryFolder()), fetch: aws.fetch, refreshOn, ...more },
    )
    return { ...aws, aws, accepted, seen, answer, invoke: () => handler({}, lambdaContext()) }
  }

  for (const kind of KINDS) {
    test(`runs the handler once more where a value has changed: ${kind[0]}`, async () => {
      const { say, sent, accepted, seen, answer, invoke } = await guarded(kind)
      await invoke()
      accepted.value = 'two'
      say(answer('two'))
      assert.equal(await invoke(), 'two')
      assert.deepEqual([seen.splice(0), sent.length], [['one', 'one', 'two'], 2])
      assert.equal(await invoke(), 'two')
      assert.deepEqual([seen, sent.length], [['two'], 2], 'the next begins with the new value')
    })

    test(`lets the error out where nothing has changed: ${kind[0]}`, async () => {
      const { sent, accepted, seen, invoke } = await guarded(kind)
      await invoke()
      accepted.value = 'two'
      await assert.rejects(invoke(), OutOfDate)
      assert.deepEqual([seen, sent.length], [['one', 'one'], 2])
    })
  }

  const [PLAIN] = KINDS as [(typeof KINDS)[number]]

  test('lets the error out of the second run, and does not run a third time', async () => {
    const { say, accepted, seen, answer, invoke } = await guarded(PLAIN)
    await invoke()
    accepted.value = 'three'
    say(answer('two'))
    await assert.rejects(invoke(), OutOfDate)
    assert.deepEqual(seen, ['one', 'one', 'two'])
  })

  test('asks nobody where the predicate says no', async () => {
    const predicate = mock.fn(() => false)
    const { sent, accepted, seen, invoke } = await guarded(PLAIN, { refreshOn: predicate })
    await invoke()
    accepted.value = 'two'
    await assert.rejects(invoke(), OutOfDate)
    assert.deepEqual([seen.length, sent.length, predicate.mock.callCount()], [2, 1, 1])
    const [error] = present(predicate.mock.calls[0]).arguments as unknown[]
    assert.ok(error instanceof OutOfDate)
  })

  test("lets the handler's error out where the values cannot be read again", async () => {
    for (const failing of [
      reply(500),
      refusal('AccessDeniedException'),
      parameters({}, ['/app/value']),
      unreachable('ECONNRESET'),
      reply(200, '<html>'),
    ]) {
      consoleLines()
      clearCache()
      const { say, accepted, seen, invoke } = await guarded(PLAIN)
      await invoke()
      accepted.value = 'two'
      say(failing)
      await assert.rejects(invoke(), OutOfDate)
      assert.deepEqual(seen, ['one', 'one'])
    }
  })

  test("lets the handler's error out before Lambda's time is over", async () => {
    mockTimeouts()
    const aws = scene(SSM.answer('one'))
    const handler = withCache(() => Promise.reject(new OutOfDate()), {
      ...SSM.entry(),
      fetch: aws.fetch,
      refreshOn,
    })
    await assert.rejects(handler({}, lambdaContext()), OutOfDate)
    aws.say('never')
    const result = handler({}, contextWith(1000))
    const outcome = assert.rejects(result, OutOfDate)
    await until(() => aws.sent.length === 3)
    await advance(800)
    assert.equal(await isSettled(result), true)
    await outcome
  })

  test('reads again all that the handler was given', async () => {
    const { fetch, sent } = script(({ headers }) =>
      (/SSM/.test(headers['x-amz-target'] ?? '') ? SSM : SECRETS).answer(String(sent.length)),
    )
    const handler = withCache(
      (_: unknown, context) =>
        sent.length < 4 ? Promise.reject(new OutOfDate()) : [context.value, context.secret].sort(),
      {
        ssm: ['/app/value'],
        secrets: [{ id: 'app/value', as: 'secret' }],
        fetch,
        refreshOn,
      },
    )
    assert.deepEqual(await handler({}, lambdaContext()), ['3', '4'])
    assert.equal(sent.length, 4)
  })

  test('costs one extra call for 50 invocations that fail at once', async () => {
    const { say, sent, accepted, seen, answer, invoke } = await guarded(PLAIN)
    await invoke()
    accepted.value = 'two'
    say(answer('two'))
    assert.deepEqual(
      await Promise.all(Array.from({ length: 50 }, invoke)),
      Array.from({ length: 50 }, () => 'two'),
    )
    assert.deepEqual([sent.length, seen.length], [2, 101])
  })

  test('gets 50 invocations through the rotation of a password, for one extra call', async () => {
    const aws = await local({ secrets: { 'db/password': 'first' } })
    const database = {
      password: 'first',
      logins: 0,
      async login(password: string) {
        await turns(1 + (this.logins++ % 7))
        if (password !== this.password) throw new OutOfDate('28P01')
        return 'rows'
      },
    }
    const handler = withCache(async (_: unknown, context) => database.login(context.password), {
      secrets: ['db/password'],
      refreshOn,
    })
    await handler({}, lambdaContext())
    const results = Array.from({ length: 50 }, async (_, index) => {
      await turns(index % 10)
      if (index === 25) {
        database.password = 'second'
        aws.putSecret('db/password', 'second')
      }
      return handler({}, lambdaContext())
    })
    assert.deepEqual(new Set(await Promise.all(results)), new Set(['rows']))
    assert.equal(aws.requests.length, 2)
    assert.ok(database.logins > 51, 'some came with the old password')
  })

  test('asks again where a request that began before the error brings the old value', async () => {
    const { say, hold, sent, accepted, seen, answer, invoke, aws } = await guarded(PLAIN)
    await invoke()
    const release = hold()
    const forced = getParameter('/app/value', { fetch: aws.fetch, maxAge: 0 })
    await until(() => sent.length === 2)
    accepted.value = 'two'
    const result = invoke()
    await turns()
    release()
    say(answer('two'))
    assert.deepEqual([await forced, await result, seen], ['one', 'two', ['one', 'one', 'two']])
    assert.equal(sent.length, 3)
  })

  test('takes for changed what is not known to be the same', async () => {
    class Secret {
      readonly #value: string
      constructor(value: string) {
        this.#value = value
      }
      get value() {
        return this.#value
      }
    }
    const loop = () => {
      const object: Record<string, unknown> = {}
      object.self = object
      return object
    }
    const CHANGES: readonly [
      what: string,
      load: (version: number) => unknown,
      isChanged: boolean,
    ][] = [
      ['private state', (version) => new Secret(String(version)), true],
      [
        'a getter that throws',
        () => ({
          get value() {
            throw new Error("not the handler's")
          },
        }),
        true,
      ],
      ['a loop that is the same', loop, false],
      ['a Map', (version) => new Map([['value', version]]), true],
      ['a function', () => () => {}, true],
      ['other plain data', (version) => ({ list: [1, { version }] }), true],
      ['a longer list', (version) => Array.from({ length: version }, () => 1), true],
      ['a property more', (version) => ({ a: 1, ...(version > 1 && { b: undefined }) }), true],
      ['plain data', () => ({ list: [1, { a: null, b: 'text' }], nan: NaN }), false],
      ['bytes', () => new TextEncoder().encode('same'), false],
      [
        'the same object',
        (
          (secret) => () =>
            secret
        )(new Secret('same')),
        false,
      ],
    ]
    for (const [what, load, isChanged] of CHANGES) {
      let [version, runs] = [0, 0]
      const handler = withCache(
        () => {
          runs += 1
          if (runs < 2) throw new OutOfDate()
          return 'recovered'
        },
        { custom: [{ as: 'value', load: () => load(++version) }], refreshOn },
      )
      const outcome = await handler({}, lambdaContext()).catch((error: unknown) => error)
      if (isChanged) assert.equal(outcome, 'recovered', what)
      else assert.ok(outcome instanceof OutOfDate, what)
    }
    const file = join(await temporaryFolder(), 'object')
    const aws = scene(reply(200, 'content'))
    let runs = 0
    const handler = withCache(
      () => {
        runs += 1
        if (runs < 2) throw new OutOfDate()
        return 'recovered'
      },
      { s3: [{ uri: 's3://bucket/object', file }], fetch: aws.fetch, refreshOn },
    )
    assert.equal(await handler({}, lambdaContext()), 'recovered', 'a file without an ETag')
  })

  test("lets the handler's error out where the predicate throws", async () => {
    const { accepted, invoke } = await guarded(PLAIN, {
      refreshOn: () => assert.fail("not the handler's"),
    })
    accepted.value = 'two'
    await assert.rejects(invoke(), OutOfDate)
  })

  test('is not for a handler that streams', async () => {
    const aws = scene(SSM.answer('one'))
    const handler = withCacheStream(
      async (_: unknown, responseStream, context) => {
        responseStream.write(String(Reflect.get(context, 'value')))
        aws.say(SSM.answer('two'))
        throw new OutOfDate()
      },
      { ...SSM.entry(), fetch: aws.fetch, refreshOn },
    )
    const stream = responseStream()
    await assert.rejects(handler({}, stream, lambdaContext()), OutOfDate)
    assert.deepEqual([aws.sent.length, String(stream.read())], [1, 'one'])
  })
})
