/** What `onRefresh` is told: once for each refresh, and never a value. */
import assert from 'node:assert/strict'
import { describe, mock, test } from 'node:test'
import { inspect } from 'node:util'
import {
  getParameter,
  LambdaCacheError,
  type Options,
  type RefreshEvent,
  withCache,
} from '../lambda-cache.js'
import {
  advance,
  CACHED,
  CANARY,
  consoleLines,
  contextWith,
  failure,
  invoking,
  lambdaContext,
  MINUTE,
  mockTimeouts,
  parameters,
  pass,
  refusal,
  reply,
  S3,
  SECOND,
  SECRETS,
  SSM,
  scene,
  script,
  temporaryFolder,
  turns,
  xml,
} from './kit.js'

const UNAVAILABLE = reply(503, '')

/** Options that note what they are told. */
function noting(options: Options) {
  const events: RefreshEvent[] = []
  return { events, options: { ...options, onRefresh: (event) => events.push(event) } as Options }
}

/** Without how long it took. */
function briefly({ outcome, ageSeconds, attempts, error }: RefreshEvent) {
  return [outcome, ageSeconds, attempts, ...(error ? [error.code] : [])]
}

describe('onRefresh', () => {
  for (const { source, id, attempts, answer, options } of CACHED) {
    const requests = source === 'custom' ? 0 : 1

    test(`is told of values that are new, unchanged and changed: ${source}`, async () => {
      const aws = scene(answer('one'))
      const { events, options: noted } = noting({ ...options(aws), maxAge: 10 })
      const invoke = invoking(noted, 'value')
      for (const [value, outcome] of [
        ['one', 'fetched'],
        ['one', 'unchanged'],
        ['two', 'fetched'],
      ] as const) {
        aws.say(answer(value))
        for (let time = 0; time < 3; time += 1) assert.deepEqual(await invoke(), [value])
        assert.deepEqual(events.splice(0), [
          { source, id, outcome, ms: 0, ageSeconds: 0, attempts: requests },
        ])
        pass(11 * SECOND)
      }
    })

    test(`is told of the last value that is served instead, and how old it is: ${source}`, async () => {
      const aws = scene(answer(`${CANARY}-value`))
      const { events, options: noted } = noting({ ...options(aws), maxAge: 10 })
      const invoke = invoking(noted, 'value')
      const lines = consoleLines()
      await invoke()
      pass(30 * SECOND)
      aws.say(UNAVAILABLE)
      await invoke()
      const [, { error, ...event } = assert.fail('was told nothing')] = events
      assert.deepEqual(event, {
        source,
        id,
        outcome: 'stale',
        ms: 0,
        ageSeconds: 30,
        attempts: requests * attempts,
      })
      assert.ok(error instanceof LambdaCacheError)
      assert.ok(error.message.startsWith(`${source} ${id}: `), error.message)
      assert.equal(lines.length, 1)
      assert.ok(!inspect(events, { depth: 9, showHidden: true }).includes(CANARY))
      // While AWS is left alone there is no refresh.
      await invoke()
      assert.equal(events.length, 2)
    })

    test(`is told of a failure that nothing can stand in for: ${source}`, async () => {
      const aws = scene(UNAVAILABLE)
      const { events, options: noted } = noting(options(aws))
      await assert.rejects(invoking(noted, 'value'))
      const code = source === 'custom' ? 'LoadFailed' : 'Http503'
      assert.deepEqual(events.map(briefly), [['failed', 0, requests * attempts, code]])
    })
  }

  for (const { source, entry, answer } of [SSM, SECRETS, S3]) {
    const missing = {
      ssm: parameters({}, ['/app/value']),
      secrets: refusal('ResourceNotFoundException'),
      s3: xml(404, 'NoSuchKey'),
    }[source]

    test(`is told that there is no such thing, with and without a default: ${source}`, async () => {
      const { fetch } = script(missing)
      const { events, options } = noting({ ...entry({ default: 'none' }), fetch })
      assert.deepEqual(await invoking(options, 'value')(), ['none'])
      await failure(invoking({ ...options, ...entry() }, 'value'))
      assert.deepEqual(events.map(briefly), [
        ['missing', 0, 1],
        ['missing', 0, 1],
      ])
    })

    test(`is told of refreshes ahead of time, and of their failures: ${source}`, async () => {
      const aws = scene(answer('one'))
      const { events, options } = noting({ ...entry({ maxAge: 100 }), fetch: aws.fetch })
      const invoke = invoking(options, 'value')
      await invoke()
      for (const [next, expected] of [
        [answer('one'), ['unchanged', 0, 1]],
        [missing, ['missing', 90, 1]],
      ] as const) {
        aws.say(next)
        pass(90 * SECOND)
        assert.deepEqual(await invoke(), ['one'])
        assert.deepEqual(events.map(briefly).at(-1), expected)
      }
      pass(MINUTE)
      aws.say(answer('two'))
      await invoke()
      aws.say(UNAVAILABLE)
      pass(90 * SECOND)
      assert.deepEqual(await invoke(), ['two'])
      assert.deepEqual(events.map(briefly).slice(-2), [
        ['fetched', 0, 1],
        ['failed', 90, 1, 'Http503'],
      ])
    })
  }

  test('is told of an object that S3 says is unchanged, and of another one in the same file', async () => {
    const etag = { etag: '"one"' }
    const { fetch } = script(
      reply(200, 'one', etag),
      reply(304, '', etag),
      reply(200, 'two', { etag: '"two"' }),
    )
    const file = `${await temporaryFolder()}/value`
    const s3 = [{ uri: 's3://bucket/value', file }] as const
    const { events, options } = noting({ s3, fetch, maxAge: 10 })
    const invoke = invoking(options, 'value')
    for (let time = 0; time < 3; time += 1) {
      await invoke()
      pass(11 * SECOND)
    }
    assert.deepEqual(
      events.map(({ outcome }) => outcome),
      ['fetched', 'unchanged', 'fetched'],
    )
  })

  test('is told of each parameter of a request, and counts the pages of a tree', async () => {
    const page = (name: string, NextToken?: string) =>
      reply(200, { Parameters: [{ Name: `/tree/${name}`, Value: name }], NextToken })
    const { fetch } = script(
      parameters({ '/app/a': 'a', '/app/b': 'b' }),
      page('one', 'next'),
      page('two'),
    )
    const group = noting({ ssm: [{ names: ['/app/a', '/app/b'], as: 'group' }], fetch })
    await invoking(group.options, 'group')()
    const tree = noting({ ssm: [{ path: '/tree', as: 'tree' }], fetch })
    await invoking(tree.options, 'tree')()
    const told = [...group.events, ...tree.events].map(({ id, attempts }) => [id, attempts])
    assert.deepEqual(told, [
      ['/app/a', 1],
      ['/app/b', 1],
      ['/tree', 2],
    ])
  })

  test('is told how long it took', async () => {
    mockTimeouts()
    const aws = scene(SSM.answer('one'))
    const release = aws.hold()
    const { events, options } = noting({ ...SSM.entry(), fetch: aws.fetch })
    const invocation = invoking(options, 'value')()
    await turns()
    await advance(300)
    release()
    await invocation
    assert.deepEqual(
      events.map(({ ms, ageSeconds }) => [ms, ageSeconds]),
      [[300, 0.3]],
    )
  })

  test('is told once of a load that nobody waits for any more, however it ends', async () => {
    mockTimeouts()
    let finish = (_: string): void => {}
    const load = (): Promise<string> => new Promise((resolve) => (finish = resolve))
    const { events, options } = noting({ custom: [{ as: 'value', load }] })
    const invocation = withCache(() => {}, options)({}, contextWith(SECOND))
    invocation.catch(() => {})
    await advance(900)
    await failure(invocation, { code: 'Timeout' })
    assert.deepEqual(events.map(briefly), [['failed', 0, 0, 'Timeout']])
    finish('late')
    await turns()
    assert.equal(events.length, 1)
  })

  test('is told by the wrapper that began a refresh, and not of direct access', async () => {
    const { fetch, sent } = script(SSM.answer('one'))
    const [first, second] = [noting({ ...SSM.entry(), fetch }), noting({ ...SSM.entry(), fetch })]
    await Promise.all([invoking(first.options, 'value')(), invoking(second.options, 'value')()])
    pass(MINUTE)
    await getParameter('/app/value', { fetch })
    assert.equal(sent.length, 2)
    assert.deepEqual([first.events.length, second.events.length], [1, 0])
  })

  test('is told no age where nothing is served, and has no say in what a load gave', async () => {
    const aws = scene(SSM.answer('one'))
    const { events, options } = noting({ ...SSM.entry({ maxAge: 10 }), fetch: aws.fetch })
    const invoke = invoking(options, 'value')
    await invoke()
    pass(30 * SECOND)
    aws.say(refusal('AccessDeniedException'))
    await failure(invoke)
    pass(1000 * SECOND)
    aws.say(UNAVAILABLE)
    await failure(invoke)
    assert.deepEqual(events.map(briefly).slice(1), [
      ['failed', 0, 1, 'AccessDeniedException'],
      ['failed', 0, 3, 'Http503'],
    ])

    let looks = 0
    const load = () => ({
      get next() {
        looks += 1
        return looks
      },
    })
    const custom = noting({ custom: [{ as: 'value', load, maxAge: 10 }] })
    const read = invoking(custom.options, 'value')
    for (let time = 0; time < 3; time += 1) {
      await read()
      pass(11 * SECOND)
    }
    assert.equal(looks, 0)
    assert.deepEqual(custom.events.map(briefly), Array(3).fill(['fetched', 0, 0]))
  })

  test('is told of a value that parse does not take', async () => {
    const aws = scene(SSM.answer('{{'))
    const parse = (text: string) => JSON.parse(text) as unknown
    const entry = SSM.entry({ maxAge: 10, parse })
    const { events, options } = noting({ ...entry, fetch: aws.fetch })
    const invoke = invoking(options, 'value')
    await failure(invoke, { code: 'ParseError' })
    for (const text of ['1', '{{']) {
      pass(30 * SECOND)
      aws.say(SSM.answer(text))
      consoleLines()
      assert.deepEqual(await invoke(), [1])
    }
    assert.deepEqual(events.map(briefly), [
      ['failed', 0, 1, 'ParseError'],
      ['fetched', 0, 1],
      ['stale', 30, 1, 'ParseError'],
    ])
  })

  test('is told that there is nothing below a path, each time', async () => {
    const { fetch } = script(reply(200, { Parameters: [] }))
    const ssm = [{ path: '/tree', as: 'tree', maxAge: 100 }] as const
    const { events, options } = noting({ ssm, fetch })
    const invoke = invoking(options, 'tree')
    for (let time = 0; time < 4; time += 1) {
      assert.deepEqual(await invoke(), [{}])
      pass(90 * SECOND)
    }
    assert.deepEqual([...new Set(events.map(({ outcome }) => outcome))], ['missing'])
  })

  test('costs a read from memory nothing', async () => {
    const { fetch } = script(SSM.answer('one'))
    const { events, options } = noting({ ...SSM.entry(), fetch })
    const invoke = invoking(options, 'value')
    for (let time = 0; time < 100; time += 1) await invoke()
    assert.equal(events.length, 1)
  })

  for (const [how, onRefresh] of [
    ['throws', () => assert.fail(`${CANARY}-words`)],
    ['rejects', async () => assert.fail(`${CANARY}-words`)],
  ] as const) {
    test(`that ${how} changes nothing, and has one line in the log`, async () => {
      const lines = consoleLines()
      const { fetch } = script(SSM.answer('one'))
      const invoke = invoking({ ...SSM.entry(), fetch, onRefresh }, 'value')
      for (let time = 0; time < 3; time += 1) {
        assert.deepEqual(await invoke(), ['one'])
        await turns()
        pass(2 * MINUTE)
      }
      assert.deepEqual(lines, ['lambda-cache: the function `onRefresh` failed with AssertionError'])
    })
  }

  test('rejects nothing that nobody handles, whatever is thrown at it', async (t) => {
    const unhandled = t.mock.fn()
    process.on('unhandledRejection', unhandled)
    const trap = () => {
      throw new Error(`${CANARY}-words`)
    }
    const thrown = Object.defineProperty({}, 'name', { get: trap })
    const onRefresh = () => {
      throw thrown
    }
    const { fetch } = script(SSM.answer('one'))
    const lines = consoleLines()
    assert.deepEqual(await invoking({ ...SSM.entry(), fetch, onRefresh }, 'value')(), ['one'])
    await turns()
    assert.deepEqual(lines, ['lambda-cache: the function `onRefresh` failed with object'])
    mock.method(console, 'warn', trap)
    const another = () => trap()
    const options = { ...SSM.entry({ maxAge: 0 }), fetch, onRefresh: another }
    assert.deepEqual(await invoking(options, 'value')(), ['one'])
    await turns()
    process.off('unhandledRejection', unhandled)
    assert.equal(unhandled.mock.callCount(), 0)
  })

  test('is refused where it is no function, and unknown to direct access and entries', async () => {
    const onRefresh = 'log' as never
    const say = 'withCache.onRefresh: expected a function, got a string'
    await failure(() => withCache(() => {}, { onRefresh }), { code: 'InvalidOptions' }, say)
    const entry = { name: '/app/value', onRefresh: mock.fn() } as never
    const elsewhere = '`onRefresh` is an option of withCache, not of an entry'
    await failure(() => withCache(() => {}, { ssm: [entry] }), {}, elsewhere)
    await failure(getParameter('/app/value', { onRefresh: mock.fn() } as never), {}, elsewhere)
    await withCache(() => {}, { onRefresh: undefined })({}, lambdaContext())
  })
})
