/** A wrapped handler, and what is on its context. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, mock, test } from 'node:test'
import { format, inspect } from 'node:util'
import type { Seed } from '../examples/local-aws.js'
import {
  clearCache,
  getParameter,
  type LambdaContext,
  type Options,
  withCache,
} from '../lambda-cache.js'
import { heapUsed } from './heap.js'
import {
  advance,
  CANARY,
  contextWith,
  failure,
  HOUR,
  invoking,
  isSettled,
  lambdaContext,
  local,
  MINUTE,
  mockTimeouts,
  pass,
  present,
  SECOND,
  SSM,
  scene,
  temporaryFolder,
  text,
  turns,
  until,
} from './kit.js'

describe('withCache', () => {
  const seed: Seed = {
    parameters: { '/prod/app/var': 'hello', '/prod/hosts': { value: 'a,b', type: 'StringList' } },
    secrets: { '/prod/db/conn_string': 'postgres://' },
    objects: { 's3://bucket/path/to/object.json': '{"release":1}' },
  }

  test('puts the values on the context, under the names of the things', async () => {
    const aws = await local(seed)
    const file = join(await temporaryFolder(), 'object.json')
    const handler = withCache(
      async (event: { name: string }, context) => [
        event.name,
        context.var,
        context.conn_string,
        context['object.json'],
        context.functionName,
      ],
      {
        ssm: ['/prod/app/var'],
        secrets: ['/prod/db/conn_string'],
        s3: [{ uri: 's3://bucket/path/to/object.json', file }],
      },
    )
    const expected = ['Ada', 'hello', 'postgres://', file, 'function']
    assert.deepEqual(await handler({ name: 'Ada' }, lambdaContext()), expected)
    assert.equal(await readFile(file, 'utf8'), '{"release":1}')
    assert.equal(aws.requests.length, 3)
    pass(30 * SECOND)
    assert.deepEqual(await handler({ name: 'Ada' }, lambdaContext()), expected)
    assert.equal(aws.requests.length, 3, 'the second time from memory')
    pass(30 * SECOND)
    await handler({ name: 'Ada' }, lambdaContext())
    assert.equal(aws.requests.length, 6, 'after a minute anew')
  })

  test('fetches nothing before the first invocation', async () => {
    const aws = await local(seed)
    invoking({ ssm: ['/prod/app/var'] })
    await turns()
    assert.equal(aws.requests.length, 0)
  })

  test('puts values on the context that are not enumerable: logging, spreading or serialising it reveals none', async () => {
    await local(seed)
    const handler = withCache((_: unknown, context) => context, { ssm: ['/prod/app/var'] })
    const given = lambdaContext()
    const context = await handler({}, given)
    assert.equal(context, given)
    assert.equal(context.var, 'hello')
    const names = Object.keys(lambdaContext())
    assert.deepEqual(Object.keys(context), names)
    assert.deepEqual(Object.keys({ ...context }), names)
    const visible: string[] = []
    for (const name in context) visible.push(name)
    assert.deepEqual(visible, names)
    for (const shown of [JSON.stringify(context), inspect(context), JSON.stringify({ ...context })])
      assert.ok(!shown.includes('hello'), shown)
  })

  test('leaves the prototype that a context has', async () => {
    await local(seed)
    class RuntimeContext {
      readonly left = 7
      getRemainingTimeInMillis(): number {
        return this.left * MINUTE
      }
    }
    const handler = withCache((_: unknown, context: RuntimeContext) => context, {
      ssm: ['/prod/app/var'],
    })
    for (let invocation = 0; invocation < 2; invocation += 1) {
      const context = await handler({}, new RuntimeContext())
      assert.ok(context instanceof RuntimeContext)
      assert.equal(context.getRemainingTimeInMillis(), 7 * MINUTE)
      assert.equal(Reflect.get(context, 'var'), 'hello')
    }
  })

  test('gives a context that comes twice the newer values', async () => {
    const aws = await local(seed)
    const handler = withCache((_: unknown, context) => context.var, { ssm: ['/prod/app/var'] })
    const other = withCache(
      (_: unknown, context) => [context.hosts, Reflect.get(context, 'var') as unknown],
      { ssm: [{ name: '/prod/hosts', list: true }] },
    )
    const context = lambdaContext()
    assert.equal(await handler({}, context), 'hello')
    aws.putParameter('/prod/app/var', 'hello again')
    pass(MINUTE)
    assert.equal(await handler({}, context), 'hello again')
    assert.deepEqual((await other({}, context))[0], ['a', 'b'], 'through another handler')
    for (let invocation = 0; invocation < 20; invocation += 1) await handler({}, context)
    let depth = 0
    for (let object: unknown = context; object; object = Object.getPrototypeOf(object)) depth += 1
    assert.ok(depth < 8, `${depth} objects in the prototype chain`)
  })

  test('shows no value to inspect, not even with showHidden, and not to %o', async () => {
    await local({ secrets: { password: `${CANARY}-value` } })
    const handler = withCache((_: unknown, context) => context, { secrets: ['password'] })
    const context = await handler({}, lambdaContext())
    assert.equal(context.password, `${CANARY}-value`)
    for (const shown of [
      inspect(context, { showHidden: true, depth: 9 }),
      format('%o', context),
      format('%O', context),
    ])
      assert.ok(!shown.includes(CANARY), shown)
  })

  test('gives each wrapped function its own values, though they share a context', async () => {
    await local({ parameters: { '/a': '1', '/b': '2' } })
    const inner = withCache(async (_: unknown, context) => context.b, { ssm: ['/b'] })
    const outer = withCache(
      async (event: unknown, context) => [context.a, await inner(event, context), context.a],
      { ssm: ['/a'] },
    )
    const context = lambdaContext()
    for (let time = 0; time < 3; time += 1)
      assert.deepEqual(await outer({}, context), ['1', '2', '1'], 'one inside the other')
    const handlers = ['a', 'b'].map((as) =>
      withCache(
        async (_: unknown, given) => {
          await turns()
          return Reflect.get(given, as) as unknown
        },
        {
          ssm: [`/${as}`],
        },
      ),
    )
    const shared = lambdaContext()
    assert.deepEqual(
      await Promise.all(handlers.map((handler) => handler({}, shared))),
      ['1', '2'],
      'side by side',
    )
  })

  test('refuses a name that a context already has, whosever it is', async () => {
    await local({ parameters: { '/a/password': 'A', '/b/password': 'B' } })
    const [a, b] = ['/a/password', '/b/password'].map((name) =>
      withCache((_: unknown, context) => Reflect.get(context, 'password') as unknown, {
        ssm: [name],
      }),
    )
    const nested = withCache((event: unknown, context) => present(b)(event, context), {
      ssm: ['/a/password'],
    })
    const context = lambdaContext()
    assert.equal(await present(a)({}, context), 'A')
    await failure(
      present(b)({}, context),
      { code: 'InvalidOptions' },
      'context.password is there already',
    )
    assert.equal(await present(a)({}, context), 'A')
    await failure(
      nested({}, lambdaContext()),
      { code: 'InvalidOptions' },
      'context.password is there already',
    )
    for (const taken of [
      { password: 'own' },
      Object.create({ password: 'inherited' }) as object,
      {
        get password() {
          return 'got'
        },
      },
    ]) {
      await failure(
        present(a)({}, Object.assign(taken, { functionName: 'function' }) as never),
        { code: 'InvalidOptions' },
        'context.password is there already',
      )
      assert.notEqual(Reflect.get(taken, 'password'), 'A')
    }
  })

  test('does not grow a context that comes again and again, nor keep earlier values alive with it', async () => {
    const aws = await local({ parameters: { '/a': 'first', '/b': '2' } })
    const [a, b] = ['a', 'b'].map((as) =>
      withCache((_: unknown, context) => Reflect.get(context, as) as unknown, { ssm: [`/${as}`] }),
    )
    const context = lambdaContext()
    const large = withCache((_: unknown, given) => given.large.length, {
      custom: [{ as: 'large', load: () => new Array<number>(100_000).fill(0) }],
      maxAge: 0,
    })
    await large({}, context)
    const size = () => [
      Reflect.ownKeys(context).length,
      Object.getPrototypeOf(context) === Object.prototype,
    ]
    await Promise.all([present(a)({}, context), present(b)({}, context)])
    const expected = size()
    aws.putParameter('/a', 'second')
    pass(MINUTE)
    for (let time = 0; time < 1000; time += 1)
      await (time % 2 ? present(a) : present(b))({}, context)
    assert.equal(await present(a)({}, context), 'second')
    assert.deepEqual(size(), expected)
    // Not by a mock, which would remember every call, and with its stack the values.
    Math.random = () => 0
    const before = heapUsed()
    for (let time = 0; time < 100; time += 1) await large({}, context)
    const more = heapUsed() - before
    assert.ok(more < 16 * 1024 * 1024, `${more} bytes more, of 80 MB of values`)
  })

  test('refuses a context that cannot take properties', async () => {
    await local({ parameters: { '/a': '1' } })
    const handler = withCache((_: unknown, context) => context.a, { ssm: ['/a'] })
    for (const fix of [Object.freeze, Object.seal, Object.preventExtensions]) {
      for (let time = 0; time < 2; time += 1)
        await failure(
          handler({}, fix(lambdaContext()) as LambdaContext),
          { code: 'InvalidOptions' },
          'context',
          'frozen',
        )
    }
    assert.equal(
      await withCache(() => 'nothing to give', {})({}, Object.freeze(lambdaContext())),
      'nothing to give',
    )
  })

  test('takes no third argument for the context of a stream, and hands it on', async () => {
    mockTimeouts()
    const aws = scene(SSM.answer('one'))
    const seen: unknown[] = []
    const handler = withCache(
      (_: unknown, context, ...rest: unknown[]) => {
        seen.push(context.value, ...rest)
        if (context.value === 'one') throw new Error('out of date')
        return context.value
      },
      {
        ssm: ['/app/value'],
        fetch: aws.fetch,
        refreshOn: () => {
          aws.say(SSM.answer('two'))
          return true
        },
      },
    ) as (...args: unknown[]) => Promise<unknown>
    const third = { signal: new AbortController().signal }
    assert.equal(await handler({}, lambdaContext(), third, 4), 'two', 'refreshOn')
    assert.deepEqual(seen, ['one', third, 4, 'two', third, 4])
    clearCache()
    aws.say('never')
    const result = failure(handler({}, contextWith(1000), third), { code: 'Timeout' })
    await advance(800)
    assert.equal(await isSettled(result), true, 'the deadline')
    await result
  })

  test('gives each of several concurrent invocations a consistent context of its own', async () => {
    const aws = await local({ parameters: { '/a': '1', '/b': '1' } })
    const gate: (() => void)[] = []
    const handler = withCache(
      async (event: { id: number }, context) => {
        const before = [context.a, context.b]
        await new Promise<void>((resolve) => gate.push(resolve))
        return {
          id: event.id,
          request: context.awsRequestId,
          before,
          after: [context.a, context.b],
        }
      },
      { ssm: ['/a', '/b'] },
    )
    const invoke = (id: number) =>
      handler({ id }, { ...lambdaContext(), awsRequestId: `request ${id}` })
    const first = [invoke(1), invoke(2)]
    await until(() => gate.length === 2)
    aws.putParameter('/a', '2')
    aws.putParameter('/b', '2')
    pass(MINUTE)
    const second = [invoke(3), invoke(4)]
    await until(() => gate.length === 4)
    for (const open of gate) open()
    const results = await Promise.all([...first, ...second])
    assert.deepEqual(
      results,
      [1, 2, 3, 4].map((id) => {
        const values = id < 3 ? ['1', '1'] : ['2', '2']
        return { id, request: `request ${id}`, before: values, after: values }
      }),
    )
    assert.equal(aws.requests.length, 2)
  })

  test('passes on what the handler returns and throws, async or not', async () => {
    await local(seed)
    const thrown = new Error("the handler's own")
    const run = (handler: () => unknown) =>
      withCache(handler, { ssm: ['/prod/app/var'] })({}, lambdaContext())
    assert.equal(await run(() => 'plain'), 'plain')
    assert.equal(await run(async () => 'async'), 'async')
    const plain = () => {
      throw thrown
    }
    await assert.rejects(run(plain), (error) => error === thrown)
    await assert.rejects(
      run(async () => plain()),
      (error) => error === thrown,
    )
  })

  test('returns a function of two parameters', () => {
    assert.equal(withCache(() => {}, {}).length, 2)
  })

  test('works without any entry', async () => {
    assert.deepEqual(await invoking({})(), [])
  })

  test('loads all entries in parallel', async () => {
    const aws = await local(seed)
    const waiting: (() => void)[] = []
    aws.intercept = () => new Promise<void>((resolve) => waiting.push(resolve))
    const result = invoking(
      {
        ssm: ['/prod/app/var'],
        secrets: ['/prod/db/conn_string'],
        s3: [{ uri: 's3://bucket/path/to/object.json', parse: text }],
      },
      'var',
    )()
    await until(() => waiting.length === 3)
    for (const answer of waiting) answer()
    assert.deepEqual(await result, ['hello'])
  })

  test('names every one of several entries that fail, and keeps the others', async () => {
    const aws = await local(seed)
    const handler = invoking({
      ssm: ['/prod/app/var', '/prod/none'],
      secrets: ['no-secret'],
      s3: ['s3://bucket/no-object'],
    })
    const error = await failure(handler(), {}, '/prod/none', 'no-secret', 's3://bucket/no-object')
    assert.equal(error.message.split('\n').length, 3)
    assert.ok(!error.message.includes('/prod/app/var'))
    aws.requests.length = 0
    assert.equal(await getParameter('/prod/app/var'), 'hello')
    assert.equal(aws.requests.length, 0)
  })

  test('runs no handler where something is missing', async () => {
    await local(seed)
    const handler = mock.fn()
    await failure(withCache(handler, { ssm: ['/prod/none'] })({}, lambdaContext()), {
      code: 'ParameterNotFound',
      source: 'ssm',
      id: '/prod/none',
    })
    assert.equal(handler.mock.callCount(), 0)
  })

  const AGES: readonly [
    title: string,
    environment: string | undefined,
    options: Pick<Options, 'maxAge'>,
    entry: Pick<Options, 'maxAge'>,
    seconds: number,
  ][] = [
    ['60 seconds by default', undefined, {}, {}, 60],
    ['LAMBDA_CACHE_MAX_AGE', '5', {}, {}, 5],
    ['60 seconds where LAMBDA_CACHE_MAX_AGE is empty', '', {}, {}, 60],
    ['the option before the environment', '5', { maxAge: 10 }, {}, 10],
    ['the entry before the option', '5', { maxAge: 10 }, { maxAge: 20 }, 20],
    ['0: always', undefined, { maxAge: 0 }, {}, 0],
    ['0 of an entry', undefined, { maxAge: 10 }, { maxAge: 0 }, 0],
    ['0 of the environment', '0', {}, {}, 0],
    ['a fraction', undefined, { maxAge: 0.5 }, {}, 0.5],
    ['Infinity: once', undefined, { maxAge: Infinity }, {}, Infinity],
    ['Infinity of the environment', 'Infinity', {}, {}, Infinity],
  ]
  for (const [title, environment, options, entry, seconds] of AGES) {
    test(`serves a value for maxAge: ${title}`, async () => {
      const aws = await local({ parameters: { '/a': '1' } })
      if (environment !== undefined) process.env.LAMBDA_CACHE_MAX_AGE = environment
      const invoke = invoking({ ...options, ssm: [{ name: '/a', ...entry }] }, 'a')
      assert.deepEqual(await invoke(), ['1'])
      aws.putParameter('/a', '2')
      const lifetime = Math.min(seconds * SECOND, 365 * 24 * HOUR)
      if (lifetime > 0) {
        pass(lifetime / 2)
        assert.deepEqual(await invoke(), ['1'])
        assert.equal(aws.requests.length, 1)
        pass(lifetime / 2)
      }
      assert.deepEqual(await invoke(), [seconds === Infinity ? '1' : '2'])
    })
  }

  test('fetches one parameter under two names once', async () => {
    const aws = await local(seed)
    const invoke = invoking(
      {
        ssm: [
          { name: '/prod/app/var', as: 'one' },
          { name: '/prod/app/var', as: 'two' },
          { names: ['/prod/app/var'], as: 'group' },
        ],
      },
      'one',
      'two',
      'group',
    )
    assert.deepEqual(await invoke(), ['hello', 'hello', { var: 'hello' }])
    assert.deepEqual(
      aws.requests.map(({ input }) => input.Names),
      [['/prod/app/var']],
    )
  })

  test('tells entries apart by what they read, not by their last segment', async () => {
    await local({ parameters: { '/a/key': 'A', '/b/key': 'B' }, secrets: { '/a/key': 'C' } })
    const invoke = invoking(
      {
        ssm: [
          { name: '/a/key', as: 'one' },
          { name: '/b/key', as: 'two' },
        ],
        secrets: ['/a/key'],
      },
      'one',
      'two',
      'key',
    )
    assert.deepEqual(await invoke(), ['A', 'B', 'C'])
  })
})
