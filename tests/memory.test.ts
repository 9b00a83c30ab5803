/** Reads from memory: what is worked out once, and what has to be seen all the same. */
import assert from 'node:assert/strict'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, mock, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInThisContext } from 'node:vm'
import {
  clearCache,
  type Fetch,
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  withCache,
} from '../lambda-cache.js'
import {
  cleanups,
  consoleLines,
  contextWith,
  failure,
  lambdaContext,
  MINUTE,
  mockTimeouts,
  parameters,
  pass,
  present,
  reply,
  S3,
  SECOND,
  SECRETS,
  SOURCES,
  SSM,
  scene,
  script,
  temporaryFolder,
  text,
  turns,
} from './kit.js'

/** Counts how often a variable of the environment is looked up. */
function countLookups(): { count: number } {
  const lookups = { count: 0 }
  const { env } = process
  const counting = new Proxy(env, {
    get(target, name) {
      lookups.count += 1
      return Reflect.get(target, name) as unknown
    },
  })
  process.env = counting
  cleanups.push(() => {
    process.env = env
  })
  return lookups
}

describe('a direct read from memory', () => {
  for (const { source, answer, read } of SOURCES) {
    test(`works nothing out again: ${source}`, async () => {
      const { fetch, sent } = script(answer('one'))
      mock.method(globalThis, 'fetch', fetch)
      const reads = [
        () => read({ maxAge: 60 }),
        () => read({ maxAge: 60, parse: text }),
        () => read({ maxAge: 60, default: {} }),
        () => read(),
      ]
      for (const one of reads) assert.equal(await one(), 'one')
      const canParse = mock.method(URL, 'canParse')
      const lookups = countLookups()
      for (let time = 0; time < 50; time += 1)
        for (const one of reads) assert.equal(await one(), 'one')
      assert.equal(canParse.mock.callCount(), 0)
      assert.ok(lookups.count < 20, `${lookups.count} lookups in one turn`)
      assert.equal(sent.length, 1)
    })

    test(`sees that its time is up: ${source}`, async () => {
      const { fetch, sent, say } = scene(answer('one'))
      const one = () => read({ fetch, maxAge: 10 })
      assert.deepEqual([await one(), await one()], ['one', 'one'])
      say(answer('two'))
      pass(10 * SECOND - 1)
      assert.equal(await one(), 'one')
      pass(1)
      assert.equal(await one(), 'two')
      assert.equal(await one(), 'two')
      assert.equal(sent.length, 2)
    })

    test(`sees a clock that was set back: ${source}`, async () => {
      const { fetch, say } = scene(answer('one'))
      const one = () => read({ fetch, maxAge: 10 })
      assert.deepEqual([await one(), await one()], ['one', 'one'])
      say(answer('two'))
      mock.timers.setTime(Date.now() - MINUTE)
      assert.equal(await one(), 'two')
    })

    test(`sees what somebody else has read meanwhile: ${source}`, async () => {
      const { fetch, say } = scene(answer('one'))
      const one = () => read({ fetch })
      assert.deepEqual([await one(), await one()], ['one', 'one'])
      say(answer('two'))
      pass(1)
      assert.equal(await read({ fetch, maxAge: 0 }), 'two')
      assert.equal(await one(), 'two')
    })

    test(`forgets all of it with clearCache: ${source}`, async () => {
      const { fetch, sent } = script(answer('one'))
      for (let time = 0; time < 3; time += 1) {
        await read({ fetch })
        await read({ fetch })
        clearCache()
      }
      assert.equal(sent.length, 3)
    })

    test(`always asks where maxAge is 0: ${source}`, async () => {
      const { fetch, sent } = script(answer('one'))
      for (let time = 0; time < 3; time += 1) await read({ fetch, maxAge: 0 })
      assert.equal(sent.length, 3)
    })

    test(`sees a region and an address that change: ${source}`, async () => {
      const { fetch, sent } = script(answer('one'))
      const hosts = () => sent.map(({ url }) => new URL(url).host)
      const settings = [
        { AWS_REGION: 'eu-west-1' },
        { AWS_REGION: 'eu-west-3' },
        { AWS_REGION: '', AWS_DEFAULT_REGION: 'eu-west-2' },
        { AWS_ENDPOINT_URL: 'https://one.example' },
        { AWS_ENDPOINT_URL: '', AWS_USE_FIPS_ENDPOINT: 'true' },
      ]
      for (const [index, setting] of settings.entries()) {
        Object.assign(process.env, setting)
        await read({ fetch })
        await turns(1)
        await read({ fetch })
        assert.equal(sent.length, index + 1, String(hosts()))
        await turns(1)
      }
      assert.equal(new Set(hosts()).size, settings.length)
      // All of it is in memory still.
      for (const setting of [
        { AWS_USE_FIPS_ENDPOINT: '', AWS_DEFAULT_REGION: '', AWS_REGION: 'eu-west-3' },
        { AWS_REGION: 'eu-west-1' },
        { AWS_REGION: 'eu-west-3' },
      ]) {
        Object.assign(process.env, setting)
        await read({ fetch })
      }
      assert.equal(sent.length, settings.length)
    })
  }

  test('sees a changed LAMBDA_CACHE_MAX_AGE', async () => {
    const { fetch, sent } = script(SSM.answer('one'))
    await SSM.read({ fetch })
    await SSM.read({ fetch })
    await turns(1)
    process.env.LAMBDA_CACHE_MAX_AGE = '0'
    await SSM.read({ fetch })
    assert.equal(sent.length, 2)
  })

  test('is no read with other options', async () => {
    const { fetch, sent } = script(({ headers, body }) => {
      const scope = present(headers.authorization)
      return parameters({ '/app/value': `${scope.includes('eu-west-2')} ${body.includes('true')}` })
    })
    const options = [
      {},
      { decrypt: false },
      { region: 'eu-west-2' },
      { region: 'eu-west-2', decrypt: false },
    ]
    const expected = ['false true', 'false false', 'true true', 'true false']
    for (let time = 0; time < 3; time += 1)
      for (const [index, more] of options.entries())
        assert.equal(await getParameter('/app/value', { fetch, ...more }), expected[index])
    assert.equal(sent.length, options.length)
  })

  test('with more than it remembers ways to read one thing gets the value of each', async () => {
    const { fetch, sent } = script(SSM.answer('a,b'))
    const ages = Array.from({ length: 12 }, (_, index) => 100 + index)
    for (let time = 0; time < 3; time += 1)
      for (const maxAge of ages)
        assert.deepEqual(await getParameter('/app/value', { fetch, maxAge, list: true }), [
          'a',
          'b',
        ])
    assert.equal(sent.length, 1)
  })

  test('is not mistaken for a read of another kind with the same name', async () => {
    const { fetch } = script(({ headers }) => {
      const action = present(headers['x-amz-target'])
      if (action.startsWith('secrets')) return reply(200, { SecretString: 'of the secret' })
      return parameters(action.endsWith('Path') ? { '/a/b': action } : { '/a': action })
    })
    for (let time = 0; time < 3; time += 1) {
      assert.equal(await getParameter('/a', { fetch }), 'AmazonSSM.GetParameters')
      assert.equal(await getSecret('/a', { fetch }), 'of the secret')
      assert.deepEqual(await getParametersByPath('/a', { fetch }), {
        b: 'AmazonSSM.GetParametersByPath',
      })
    }
  })

  test('calls each parse that is written in the call, and one that stays once', async () => {
    const { fetch, sent } = script(SSM.answer('[1]'))
    let calls = 0
    const parse = (value: string): unknown => {
      calls += 1
      return JSON.parse(value)
    }
    const first = await SSM.read({ fetch, parse })
    for (let time = 0; time < 3; time += 1) {
      assert.equal(await SSM.read({ fetch, parse }), first, 'the same object')
      const other = await SSM.read({ fetch, parse: (value) => `${value}${time}` })
      assert.equal(other, `[1]${time}`)
    }
    assert.deepEqual([calls, sent.length], [1, 1])
  })

  test('gives the default of each call where there is no such thing', async () => {
    const { fetch, sent } = script(parameters({}, ['/app/value']))
    for (let time = 0; time < 3; time += 1)
      assert.deepEqual(await getParameter('/app/value', { fetch, default: { time } }), { time })
    await failure(getParameter('/app/value', { fetch }), { code: 'ParameterNotFound' })
    assert.equal(await getParameter('/app/value', { fetch, default: undefined }), undefined)
    assert.equal(sent.length, 2)
  })

  test('with a parse that fails says so, and keeps the last value that another took', async () => {
    const lines = consoleLines()
    const { fetch, say } = scene(SSM.answer('[1]'))
    const parse = (value: string): unknown => JSON.parse(value)
    const read = () => getParameter('/app/value', { fetch, parse, maxAge: 10 })
    assert.deepEqual([await read(), await read()], [[1], [1]])
    say(SSM.answer('[1'))
    pass(10 * SECOND)
    assert.deepEqual([await read(), await read()], [[1], [1]])
    assert.equal(lines.length, 1)
    const inline = getParameter('/app/value', {
      fetch,
      parse: (value) => JSON.parse(value),
      maxAge: 10,
    })
    await failure(inline, { code: 'ParseError' })
    say(SSM.answer('[2]'))
    pass(10 * SECOND)
    assert.deepEqual([await read(), await read()], [[2], [2]])
  })

  test('refuses wrong options after right ones', async () => {
    const { fetch } = script(SSM.answer('one'))
    mock.method(globalThis, 'fetch', fetch)
    await SSM.read()
    await SSM.read()
    const wrong: readonly unknown[] = [null, 1, '', [], () => {}, { maxage: 5 }, { maxAge: '5' }]
    for (const options of wrong)
      await failure(getParameter('/app/value', options as never), { code: 'InvalidOptions' })
    await failure(SSM.read({ parse: 'json' as never }), { code: 'InvalidOptions' })
    await SSM.read({ parse: text })
    await failure(SSM.read({ parse: 'json' as never }), { code: 'InvalidOptions' })
  })

  test('keeps to the options as they were when it was called', async () => {
    const { fetch, sent } = script(SSM.answer('one'))
    const options = { fetch, maxAge: 60 }
    const first = getParameter('/app/value', options)
    options.maxAge = 0
    await first
    await getParameter('/app/value', options)
    assert.equal(sent.length, 2)
  })

  test('is remembered for the environment in which it ended', async () => {
    mockTimeouts()
    const { fetch, hold } = scene(SSM.answer('one'))
    const regions: string[] = []
    const counting: Fetch = async (url, init) => {
      regions.push(new URL(url).host)
      return fetch(url, init)
    }
    const read = (maxAge: number) => getParameter('/app/value', { fetch: counting, maxAge })
    const release = hold()
    const first = read(60)
    await turns(1)
    const second = read(0.05)
    pass(100)
    process.env.AWS_REGION = 'eu-west-1'
    release()
    await Promise.all([first, second])
    await turns(1)
    assert.deepEqual(regions, ['ssm.us-east-1.amazonaws.com', 'ssm.eu-west-1.amazonaws.com'])
    process.env.AWS_REGION = 'us-east-1'
    await read(0.05)
    assert.equal(regions.at(-1), 'ssm.us-east-1.amazonaws.com')
  })

  test('of a name with spaces around it is one of the name', async () => {
    const { fetch, sent } = script(SSM.answer('one'))
    for (const name of ['/app/value', ' /app/value', '/app/value  ', '/app/value'])
      assert.equal(await getParameter(name, { fetch }), 'one')
    assert.equal(sent.length, 1)
  })

  test('that was too late to ask takes no place of what was read', async () => {
    const { fetch, sent } = script(({ body }) => {
      const { Names } = JSON.parse(body) as { Names: string[] }
      return parameters(Object.fromEntries(Names.map((name) => [name, name])))
    })
    const read = (name: string) => getParameter(name, { fetch })
    await read('/good')
    const handler = withCache(
      () => Promise.allSettled(Array.from({ length: 1100 }, (_, index) => read(`/late/${index}`))),
      { ...SECRETS.entry(), fetch: script(SECRETS.answer('one')).fetch },
    )
    await handler.prefetch()
    const outcomes = await handler({}, contextWith(150))
    assert.ok(outcomes.every(({ status }) => status === 'rejected'))
    await read('/other')
    const before = sent.length
    await read('/good')
    assert.equal(sent.length, before)
  })

  test('of a file looks whether it is there', async () => {
    const file = join(await temporaryFolder(), 'value')
    const { fetch, sent } = script(S3.answer('one'))
    const read = () => getObject('s3://bucket/app/value', { fetch, file })
    assert.deepEqual([await read(), await read()], [file, file])
    await rm(file)
    assert.deepEqual([await read(), await read()], [file, file])
    assert.equal(sent.length, 2)
  })

  test('of something that was evicted asks again', async () => {
    const { fetch, sent } = script(({ body }) => {
      const { Names } = JSON.parse(body) as { Names: string[] }
      return parameters(Object.fromEntries(Names.map((name) => [name, name])))
    })
    const read = (index: number) => getParameter(`/p/${index}`, { fetch })
    const all = Array.from({ length: 1001 }, (_, index) => index)
    await Promise.all(all.map(read))
    const requests = sent.length
    await read(1000)
    assert.equal(sent.length, requests)
    await read(0)
    assert.equal(sent.length, requests + 1)
  })
})

describe('a download', () => {
  test('of a body that somebody has made is read as its stream likes it', async () => {
    const file = join(await temporaryFolder(), 'value')
    let isSent = false
    const body = new ReadableStream({
      type: 'bytes',
      pull(controller) {
        if (isSent) return controller.close()
        isSent = true
        controller.enqueue(new TextEncoder().encode('hello'))
      },
    })
    const fetch: Fetch = async () => new Response(body, { headers: { etag: '"x"' } }) as never
    assert.equal(await getObject('s3://bucket/app/value', { fetch, file }), file)
    assert.equal(await readFile(file, 'utf8'), 'hello')
  })
})

describe('a warm invocation', () => {
  test('whose context cannot tell the time rejects, warm and cold', async () => {
    const { fetch } = script(SSM.answer('one'))
    const context = {
      ...lambdaContext(),
      getRemainingTimeInMillis: () => {
        throw new Error('no clock')
      },
    }
    const handler = withCache(() => {}, { ...SSM.entry(), fetch, refreshOn: () => false })
    await assert.rejects(handler({}, { ...context }), { message: 'no clock' })
    for (let time = 0; time < 2; time += 1) await handler({}, lambdaContext())
    await assert.rejects(handler({}, { ...context }), { message: 'no clock' })
  })

  test('that throws at once rejects, with and without refreshOn', async () => {
    const { fetch } = script(SSM.answer('one'))
    for (const refreshOn of [undefined, () => false]) {
      const handler = withCache(
        () => {
          throw new Error('its own')
        },
        { ...SSM.entry(), fetch, refreshOn },
      )
      for (let time = 0; time < 3; time += 1)
        await assert.rejects(handler({}, lambdaContext()), { message: 'its own' })
    }
  })

  test('passes on what the runtime gives beyond the context', async () => {
    const { fetch } = script(SSM.answer('one'))
    const seen: unknown[] = []
    const inner = (_: unknown, __: object, ...more: unknown[]): void => void seen.push(more)
    const handler = withCache(inner, { ...SSM.entry(), fetch }) as (...args: unknown[]) => unknown
    for (let time = 0; time < 2; time += 1) await handler({}, lambdaContext(), 'callback')
    assert.deepEqual(seen, [['callback'], ['callback']])
  })

  test('returns the promise of the handler itself', async () => {
    const { fetch } = script(SSM.answer('one'))
    const promise = Promise.resolve('done')
    const handler = withCache(() => promise, { ...SSM.entry(), fetch })
    for (let time = 0; time < 2; time += 1) await handler({}, lambdaContext())
    assert.equal(handler({}, lambdaContext()), promise)
  })

  test('with refreshOn reads nothing until the handler fails, and then runs it once more', async () => {
    const { fetch, sent, say } = scene(SSM.answer('one'))
    const seen: unknown[] = []
    const handler = withCache(
      async (event: { fails: string }, context) => {
        seen.push(context.value)
        if (context.value === event.fails) throw new Error('out of date')
        return context.value
      },
      { ssm: ['/app/value'], fetch, refreshOn: () => true },
    )
    for (let time = 0; time < 3; time += 1)
      assert.equal(await handler({ fails: 'none' }, contextWith(3000)), 'one')
    assert.equal(sent.length, 1)
    say(SSM.answer('two'))
    pass(1)
    assert.equal(await handler({ fails: 'one' }, contextWith(3000)), 'two')
    assert.equal(await handler({ fails: 'none' }, contextWith(3000)), 'two')
    assert.deepEqual(seen, ['one', 'one', 'one', 'one', 'two', 'two'])
    assert.equal(sent.length, 2)
  })
})

describe('contexts', () => {
  /** Whether V8 keeps its properties in the order of a class, and not in a dictionary. */
  function hasFastProperties(context: object): boolean {
    setFlagsFromString('--allow-natives-syntax')
    return (runInThisContext('(object) => %HasFastProperties(object)') as (o: object) => boolean)(
      context,
    )
  }

  test('stay what V8 is fast with, however often values change', async () => {
    let version = 0
    const { fetch } = script(() => parameters({ '/fast/a': `a${version}`, '/fast/b': 'b' }))
    // Names that no other test has: V8 knows their getters.
    const ssm = [
      { name: '/fast/a', as: 'fast_a' },
      { name: '/fast/b', as: 'fast_b' },
    ] as const
    const handler = withCache(async (_: unknown, { fast_a, fast_b }) => `${fast_a} ${fast_b}`, {
      ssm,
      fetch,
      maxAge: 10,
    })
    for (version = 0; version < 5; version += 1) {
      for (let time = 0; time < 3; time += 1) {
        const context = lambdaContext()
        assert.equal(await handler({}, context), `a${version} b`)
        assert.equal(hasFastProperties(context), true)
        assert.deepEqual(Object.keys(context), Object.keys(lambdaContext()))
      }
      pass(10 * SECOND)
    }
  })

  test('may be used again after values have changed', async () => {
    const { fetch, say } = scene(SSM.answer('one'))
    const context = lambdaContext()
    const handler = withCache((_: unknown, { value }) => value, {
      ssm: ['/app/value'],
      fetch,
      maxAge: 10,
    })
    for (const value of ['one', 'two', 'three']) {
      say(SSM.answer(value))
      for (let time = 0; time < 3; time += 1) assert.equal(await handler({}, context), value)
      pass(10 * SECOND)
    }
    assert.equal(Reflect.ownKeys(context).length, Reflect.ownKeys(lambdaContext()).length + 1)
  })

  test('that are frozen are refused by the name of an entry, after a change, too', async () => {
    const { fetch, say } = scene(SSM.answer('one'))
    const handler = withCache(() => {}, { ssm: ['/app/value'], fetch, maxAge: 10 })
    for (const value of ['one', 'two']) {
      say(SSM.answer(value))
      await handler({}, lambdaContext())
      await failure(
        handler({}, Object.freeze(lambdaContext())),
        { code: 'InvalidOptions' },
        'value',
        'ssm[0]',
      )
      pass(10 * SECOND)
    }
  })
})
