/** The contract of every source: hit, miss, expiry, failures. */
import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import type { Seed } from '../examples/local-aws.js'
import { clearCache, json, withCache } from '../lambda-cache.js'
import {
  AWS_HOSTS,
  assertKeepsSecrets,
  CANARY,
  cleanups,
  consoleLines,
  contextWith,
  describeOverBoth,
  failure,
  HOUR,
  invoking,
  local,
  MINUTE,
  pass,
  present,
  reply,
  SECOND,
  SOURCES,
  scene,
  script,
  text,
  turns,
  until,
} from './kit.js'

for (const { source, id, action, codes, malformed, read, entry, put, answer } of SOURCES) {
  describeOverBoth(`${source}: the contract`, () => {
    const name = 'value'
    // S3 tells a missing key from a missing bucket.
    const bucket: Seed = { objects: { 's3://bucket/app/other': '' } }

    test('reads once and then serves from memory', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const invoke = invoking(entry(), name)
      assert.deepEqual(await invoke(), ['one'])
      put(aws, 'two')
      assert.deepEqual(await invoke(), ['one'])
      assert.equal(await read(), 'one')
      assert.equal(aws.requests.length, 1)
    })

    test('expires at maxAge, to the millisecond', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      await read({ maxAge: 10 })
      put(aws, 'two')
      pass(10 * SECOND - 1)
      assert.equal(await read({ maxAge: 10 }), 'one')
      pass(2)
      assert.equal(await read({ maxAge: 10 }), 'two')
      assert.equal(aws.requests.length, 2)
    })

    test('counts the age from the request, so that an answer that waited out a freeze is not new', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      aws.intercept = () => pass(5 * SECOND)
      await read()
      pass(55 * SECOND - 1)
      await read()
      assert.equal(aws.requests.length, 1)
      pass(1)
      aws.intercept = () => pass(HOUR)
      assert.equal(await read(), 'one', 'whose own request it was')
      aws.intercept = undefined
      put(aws, 'two')
      assert.equal(await read(), 'two', 'to all others it is an hour old')
      assert.equal(aws.requests.length, 3)
    })

    test("judges freshness by the reader's own maxAge", async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const patient = invoking({ ...entry(), maxAge: 600 }, name)
      const hasty = invoking({ ...entry(), maxAge: 10 }, name)
      assert.deepEqual(await patient(), ['one'])
      put(aws, 'two')
      pass(30 * SECOND)
      assert.deepEqual(await patient(), ['one'])
      assert.deepEqual(await hasty(), ['two'])
      assert.deepEqual(await patient(), ['two'], 'what one reader fetched, every reader sees')
      assert.equal(aws.requests.length, 2)
    })

    test('shows a forced refresh to every reader', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const [first, second] = [
        invoking(entry(), name),
        invoking({ ...entry(), maxAge: Infinity }, name),
      ]
      await Promise.all([first(), second()])
      put(aws, 'two')
      assert.equal(await read({ maxAge: 0 }), 'two')
      assert.deepEqual([await first(), await second(), await read()], [['two'], ['two'], 'two'])
      assert.equal(aws.requests.length, 2)
    })

    test('is a single flight: one refresh for all who wait', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      let open = (): void => {}
      aws.intercept = () =>
        new Promise<void>((resolve) => {
          open = resolve
        })
      const invoke = invoking(entry(), name)
      const waiting = [read(), invoke()]
      await until(() => aws.requests.length === 1)
      waiting.push(read(), invoke())
      await turns()
      open()
      assert.deepEqual(await Promise.all(waiting), ['one', ['one'], 'one', ['one']])
      assert.equal(aws.requests.length, 1)
    })

    test('answers no forced read by a request that began before it, and all forced reads by the next one', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      await read()
      const gates: (() => void)[] = []
      aws.intercept = () => new Promise<void>((resolve) => gates.push(resolve))
      pass(MINUTE)
      const usual = read()
      await until(() => gates.length === 1)
      const forced = [
        read({ maxAge: 0 }),
        read({ maxAge: 0 }),
        invoking({ ...entry(), maxAge: 0 }, name)(),
      ]
      await turns()
      assert.equal(gates.length, 1, 'one request at a time')
      present(gates[0])()
      assert.equal(await usual, 'one')
      await until(() => gates.length === 2)
      put(aws, 'two')
      present(gates[1])()
      assert.deepEqual(await Promise.all(forced), ['two', 'two', ['two']])
      assert.equal(await read(), 'two')
      assert.equal(aws.requests.length, 3)
    })

    test('takes a value for expired once the clock has been set back', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const invoke = invoking(entry(), name)
      await invoke()
      put(aws, 'two')
      pass(-HOUR)
      assert.deepEqual([await invoke(), await read()], [['two'], 'two'])
      assert.equal(aws.requests.length, 2)
    })

    test('leaves a forced read no pause after a failure', async () => {
      const { fetch, say, sent } = scene(answer('one'))
      const lines = consoleLines()
      await read({ fetch })
      pass(MINUTE)
      say(reply(500))
      await read({ fetch })
      say(answer('two'))
      assert.equal(await read({ fetch }), 'one', 'for 5 s AWS is left alone')
      assert.equal(await read({ fetch, maxAge: 0 }), 'two')
      assert.deepEqual([sent.length, lines.length], [5, 1])
    })

    test('asks again after an invocation that had no time left to ask', async () => {
      const { fetch, say, sent } = scene(answer('one'))
      const handler = withCache(
        async ({ milliseconds }: { milliseconds: number }, context) => {
          pass(milliseconds)
          if (milliseconds > 0) throw new Error('out of date')
          return Reflect.get(context, name)
        },
        { ...entry(), fetch, maxAge: 1, refreshOn: () => true },
      )
      await assert.rejects(handler({ milliseconds: 2000 }, contextWith(1000)), /out of date/)
      say(answer('two'))
      assert.equal(await handler({ milliseconds: 0 }, contextWith(1000)), 'two')
      assert.equal(sent.length, 2)
    })

    test('refuses a parse that returns a promise, and lets nothing of it go unhandled', async () => {
      const rejections: unknown[] = []
      const onRejection = (reason: unknown) => void rejections.push(reason)
      process.on('unhandledRejection', onRejection)
      cleanups.push(() => process.off('unhandledRejection', onRejection))
      const aws = await local(bucket)
      put(aws, `${CANARY}-value`)
      for (const parse of [
        async (content: string) => json(content),
        (content: string) => Promise.resolve(content),
      ]) {
        const error = await failure(
          read({ parse }),
          { code: 'ParseError', source, id, cause: undefined },
          'promise',
          'custom',
        )
        assertKeepsSecrets(error)
        assertKeepsSecrets(
          await failure(
            invoking({
              ...entry({ parse }),
              custom: [{ as: 'other', load: () => Promise.reject(new Error('down')) }],
            })(),
            {},
            'promise',
          ),
        )
      }
      await turns()
      assert.deepEqual(rejections, [])
    })

    test('never caches a failure: all who wait get it, and the next read asks again', async () => {
      const aws = await local(bucket)
      const results = await Promise.allSettled([read(), read(), read()])
      assert.deepEqual(
        results.map(({ status }) => status),
        ['rejected', 'rejected', 'rejected'],
      )
      assert.equal(aws.requests.length, 1)
      put(aws, 'there now')
      assert.equal(await read(), 'there now', 'a failure is not cached')
    })

    test('says what was denied, without asking twice', async () => {
      const aws = await local(bucket)
      put(aws, `${CANARY}-value`)
      aws.deny(action, id)
      const error = await failure(
        read(),
        { code: codes.denied, source, id, httpStatus: source === 's3' ? 403 : 400 },
        id,
        action,
      )
      assert.match(error.requestId ?? '', /^[\w-]{16,}$/)
      assert.equal(aws.requests.length, 1)
      assertKeepsSecrets(error)
    })

    test('says what is missing, without asking twice', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      await read()
      aws.delete(id)
      await failure(read({ maxAge: 0 }), { code: codes.missing, source, id }, id)
      assert.equal(aws.requests.length, 2)
    })

    test('gives the default for what is missing, and keeps that for maxAge', async () => {
      for (const fallback of [null, undefined, '', 0, false, 'default']) {
        clearCache()
        const aws = await local(bucket)
        const invoke = invoking(entry({ default: fallback }), name)
        assert.deepEqual(await invoke(), [fallback])
        put(aws, 'there now')
        pass(MINUTE / 2)
        assert.deepEqual(await invoke(), [fallback])
        assert.equal(await read({ default: 'another' }), 'another')
        assert.equal(aws.requests.length, 1)
        pass(MINUTE / 2)
        assert.deepEqual(await invoke(), ['there now'])
      }
    })

    test('gives those without a default the error', async () => {
      await local(bucket)
      assert.equal(await read({ default: 'default' }), 'default')
      await failure(read(), { code: codes.missing, source, id })
    })

    test('gives no default where access is denied', async () => {
      const aws = await local(bucket)
      aws.deny(action, id)
      await failure(read({ default: 'default' }), { code: codes.denied })
    })

    for (const status of malformed) {
      test(`says that a page with status ${status} is no answer, and not what it holds`, async () => {
        const page = `<html><body>${CANARY}-body: the proxy wants a password</body></html>`
        const { fetch, sent } = script(
          ...Array.from({ length: 3 }, () => reply(status, page, { 'content-type': 'text/html' })),
          answer('one'),
        )
        const error = await failure(
          read({ fetch }),
          { source, id, httpStatus: status },
          String(status),
        )
        assertKeepsSecrets(error)
        assert.equal(sent.length, 3)
        assert.equal(await read({ fetch }), 'one')
      })
    }

    test('says which host cannot be reached', async () => {
      const aws = await local(bucket)
      await aws.close()
      assertKeepsSecrets(
        await failure(
          read(),
          { code: 'NetworkError', source, id },
          new URL(aws.url).host,
          'ECONNREFUSED',
        ),
      )
    })

    test('takes an empty string, 0 and false for values like any other', async () => {
      for (const [stored, parse, value] of [
        ['', text, ''],
        ['0', Number, 0],
        ['false', json<boolean>, false],
        ['null', json<null>, null],
      ] as const) {
        clearCache()
        const aws = await local(bucket)
        put(aws, stored)
        for (let time = 0; time < 2; time += 1)
          assert.equal(await read({ parse, default: 'default' }), value)
        assert.equal(aws.requests.length, 1)
      }
    })

    test('parses once per refresh', async () => {
      const aws = await local(bucket)
      put(aws, '{"release":1}')
      const parse = mock.fn(json<{ release: number }>)
      const invoke = invoking(entry({ parse }), name)
      const [first] = await invoke()
      assert.deepEqual(first, { release: 1 })
      assert.equal((await invoke())[0], first)
      assert.equal(await read({ parse }), first)
      assert.equal(parse.mock.callCount(), 1)
      put(aws, '{"release":2}')
      pass(MINUTE)
      assert.deepEqual(await invoke(), [{ release: 2 }])
      assert.equal(parse.mock.callCount(), 2)
    })

    test('parses for each parser, from one request', async () => {
      const aws = await local(bucket)
      put(aws, '7')
      assert.deepEqual(
        await Promise.all([read({ parse: Number }), read({ parse: text }), read({ parse: json })]),
        [7, '7', 7],
      )
      assert.equal(aws.requests.length, 1)
    })

    test('says that a parse failed, and nothing of what it said', async () => {
      const parsers: ((content: string) => unknown)[] = [
        json,
        (content) => assert.fail(`cannot read ${content}`),
        (content) => {
          throw content
        },
        () => {
          throw undefined
        },
      ]
      for (const parse of parsers) {
        clearCache()
        const aws = await local(bucket)
        put(aws, `${CANARY}-value`)
        assertKeepsSecrets(
          await failure(read({ parse }), { code: 'ParseError', source, id, cause: undefined }, id),
        )
      }
    })

    test('calls the region of the entry, of the options, of the environment', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const fallback = { AWS_REGION: '', AWS_DEFAULT_REGION: 'eu-west-3' }
      await read()
      await invoking({ ...entry(), region: 'eu-west-1' })()
      await invoking({ ...entry({ region: 'eu-west-2' }), region: 'eu-west-1' })()
      await read({ region: 'eu-west-2' })
      Object.assign(process.env, fallback)
      await read()
      assert.deepEqual(
        aws.requests.map(({ region }) => region),
        ['us-east-1', 'eu-west-1', 'eu-west-2', 'eu-west-3'],
      )
    })

    test('asks nobody without a region', async () => {
      const { fetch, sent } = script(answer('one'))
      delete process.env.AWS_REGION
      await failure(read({ fetch }), { code: 'NoRegion', source, id }, 'AWS_REGION')
      assert.equal(sent.length, 0)
    })

    test("takes a fetch of the user's", async () => {
      const { fetch, sent } = script(answer('one'))
      assert.deepEqual(await invoking({ ...entry(), fetch }, name)(), ['one'])
      assert.equal(new URL(present(sent[0]).url).host, AWS_HOSTS[source])
    })
  })
}
