/** Waiting and time: providers, deadlines, slow trees, slow disks. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, mock, test } from 'node:test'
import { inspect } from 'node:util'
import type * as Library from '../lambda-cache.js'
import {
  type Credentials,
  type Fetch,
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  type Options,
  withCache,
} from '../lambda-cache.js'
import { lambdaContext } from './context.js'
import { instancesOf } from './instance.js'
import {
  advance,
  assertKeepsSecrets,
  CANARY,
  consoleLines,
  contextWith,
  describeOverBoth,
  failure,
  HOUR,
  invoking,
  isSettled,
  local,
  MINUTE,
  mockTimeouts,
  parameters,
  pass,
  refusal,
  reply,
  SECOND,
  SECRETS,
  type Sent,
  scene,
  script,
  temporaryFolder,
  turns,
  until,
} from './kit.js'

const CREDENTIALS: Credentials = { accessKeyId: 'id', secretAccessKey: 'secret' }
const throttled = refusal('ThrottlingException')

/** The library as it is in a new process. */
async function anew(): Promise<typeof Library> {
  const instantiate = await instancesOf()
  return instantiate({
    process,
    console,
    Date,
    Math,
    setTimeout,
    clearTimeout,
    setImmediate,
    require: (name: string): unknown => process.getBuiltinModule(name),
  })
}

/** What a handler may return. */
class Unreadable {
  [inspect.custom](): string {
    throw new Error('nobody looks at this')
  }
}

/** What another instance throws is of another class. */
async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'none',
    (error: unknown) => (error as Error & { code?: string }).code,
  )
}

/** Answers with the name that was asked for. */
function echo({ body }: Sent): Response {
  const { Names = [], SecretId = '' } = JSON.parse(body) as { Names?: string[]; SecretId?: string }
  if (SecretId) return reply(200, { SecretString: SecretId })
  return parameters(Object.fromEntries(Names.map((name) => [name, name])))
}

function manySecrets(count: number): Options {
  return { secrets: Array.from({ length: count }, (_, index) => `s${index}`) }
}

describe('a provider of credentials', () => {
  test('that never answers is given up like a request, and named', async () => {
    mockTimeouts()
    let calls = 0
    const credentials = () => {
      calls += 1
      return new Promise<Credentials>(() => {})
    }
    const { fetch, sent } = script(echo)
    const read = failure(
      getSecret('a', { fetch, credentials }),
      { code: 'Timeout' },
      'the function `credentials` did not answer, 3 attempts in 10 s',
    )
    await advance(9900)
    assert.equal(await isSettled(read), false)
    await advance(200)
    await read
    assert.deepEqual([calls, sent.length], [3, 0])
  })

  test('that never answers keeps nobody else from AWS', async () => {
    mockTimeouts()
    const { fetch } = script(echo)
    const stuck = withCache(() => {}, {
      ...manySecrets(25),
      fetch,
      credentials: () => new Promise<Credentials>(() => {}),
    })
    const invocation = failure(stuck({}, contextWith(3000)), { code: 'Timeout' }, '`credentials`')
    await advance(SECOND)
    assert.equal(await getSecret('other', { fetch }), 'other')
    await advance(1900)
    await invocation
    assert.equal(await getSecret('another', { fetch }), 'another')
  })

  test('may read this very cache, however much is due', async () => {
    const { fetch } = script(echo)
    const credentials = async (): Promise<Credentials> => ({
      accessKeyId: await getSecret('key-id', { fetch }),
      secretAccessKey: await getSecret('key', { fetch }),
    })
    const handler = withCache((_: unknown, context) => Reflect.get(context, 's24'), {
      ...manySecrets(25),
      fetch,
      credentials,
    })
    assert.equal(await handler({}, lambdaContext()), 's24')
  })

  test('that waits for a value that needs its credentials comes to an end', async () => {
    mockTimeouts()
    const { fetch } = script(echo)
    const credentials = async (): Promise<Credentials> => ({
      accessKeyId: await getSecret('key-id', { fetch, credentials }),
      secretAccessKey: 'secret',
    })
    const read = failure(
      getSecret('a', { fetch, credentials }),
      { code: 'Timeout' },
      '`credentials`',
    )
    await advance(11_000)
    await read
  })

  test('that fails for a moment is asked again', async () => {
    let calls = 0
    const { fetch } = script(echo)
    const credentials = () => {
      calls += 1
      if (calls < 3) throw new Error(`${CANARY}: STS throttles`)
      return CREDENTIALS
    }
    assert.equal(await getSecret('a', { fetch, credentials }), 'a')
    assert.equal(calls, 3)
  })

  test('that goes on failing costs no value while there is a last one', async () => {
    const lines = consoleLines()
    let isBroken = false
    const { fetch } = script(echo)
    const credentials = () => {
      if (isBroken) throw new Error(`${CANARY}: STS throttles`)
      return CREDENTIALS
    }
    const invoke = invoking({ secrets: ['a'], fetch, credentials }, 'a')
    await invoke()
    isBroken = true
    pass(MINUTE)
    assert.deepEqual(await invoke(), ['a'])
    assert.equal(lines.length, 1)
    assert.ok(!lines.join().includes(CANARY))
    pass(5 * MINUTE)
    const error = await failure(
      invoke(),
      { code: 'NoCredentials' },
      'failed with Error, 3 attempts',
    )
    assertKeepsSecrets(error)
  })

  test('that returns no texts gives none', async () => {
    const { fetch, sent } = script(echo)
    const given = { accessKeyId: 1, secretAccessKey: 'secret' }
    const credentials = () => given as never
    await failure(getSecret('a', { fetch, credentials }), { code: 'NoCredentials' })
    assert.equal(sent.length, 0)
  })
})

describe('a fetch that reads secrets', () => {
  test('gets one that stands in the line behind it, at once', async () => {
    const { fetch } = script(echo)
    let times = 0
    // The last of them is due itself, and has no place while the others hold all.
    const reading: Fetch = async (url, init) => {
      const isOwn = init.body?.includes('"s24"')
      if (!isOwn) await getSecret('s24', { fetch: reading })
      times += 1
      return fetch(url, init)
    }
    const handler = withCache(() => 'done', { ...manySecrets(25), fetch: reading })
    const began = performance.now()
    assert.equal(await handler({}, lambdaContext()), 'done')
    assert.equal(times, 25)
    assert.ok(performance.now() - began < 1900, 'it did not wait for the limit of an attempt')
  })

  test('gets a second one, too', async () => {
    const { fetch } = script(echo)
    const reading: Fetch = async (url, init) => {
      if (init.body?.includes('"s')) {
        await getParameter('/a', { fetch: reading })
        await getParameter('/b', { fetch: reading })
      }
      return fetch(url, init)
    }
    const began = performance.now()
    await withCache(() => {}, { ...manySecrets(20), fetch: reading })({}, lambdaContext())
    assert.ok(performance.now() - began < 1900, 'it did not wait for the limit of an attempt')
  })

  test('leaves its place free only while it waits', async () => {
    const { fetch } = script(echo)
    let [underWay, peak] = [0, 0]
    const counting: Fetch = async (url, init) => {
      underWay += 1
      peak = Math.max(peak, underWay)
      await turns(3)
      underWay -= 1
      return fetch(url, init)
    }
    const reading: Fetch = async (url, init) => {
      await getParameter(`/p${init.body?.length}`, { fetch: counting, maxAge: 0 })
      return counting(url, init)
    }
    await withCache(() => {}, { ...manySecrets(60), fetch: reading })({}, lambdaContext())
    peak = 0
    const crowd = Array.from({ length: 60 }, (_, index) =>
      getSecret(`c${index}`, { fetch: counting }),
    )
    await Promise.all(crowd)
    assert.equal(peak, 20, 'all places have come back, and no more')
  })
})

describe('direct access in a handler', () => {
  const unanswered: Fetch = () => new Promise(() => {})

  /** A wrapped handler, warm, in a process in which there was no direct access before. */
  async function warmHandler() {
    mockTimeouts()
    const { withCache, getSecret } = await anew()
    const { fetch } = script(echo)
    const handler = withCache((_: unknown) => getSecret('direct', { fetch: unanswered }), {
      secrets: ['a'],
      fetch,
    })
    await handler.prefetch()
    return (milliseconds: number) => codeOf(handler({}, contextWith(milliseconds)))
  }

  test('ends before the invocation, be it the first of a process and the invocation warm', async () => {
    const invoke = await warmHandler()
    for (const _ of ['first', 'second']) {
      const code = invoke(3000)
      await advance(2700)
      assert.equal(await isSettled(code), false)
      await advance(200)
      assert.equal(await code, 'Timeout')
    }
  })

  for (const [what, environment] of [
    ['in an instance for several', { AWS_LAMBDA_MAX_CONCURRENCY: '10' }],
    ['after an earlier one', {}],
  ] as const) {
    test(`has the time of its own invocation where there are several: ${what}`, async () => {
      Object.assign(process.env, environment)
      const invoke = await warmHandler()
      if (what === 'after an earlier one') {
        const first = invoke(1000)
        await advance(1000)
        await first
      }
      const codes = [9000, 3000, 9000].map((milliseconds) => invoke(milliseconds))
      await advance(2900)
      const settled = await Promise.all(codes.map((code) => isSettled(code)))
      assert.deepEqual(settled, [false, true, false])
      await advance(6000)
      assert.deepEqual(await Promise.all(codes), ['Timeout', 'Timeout', 'Timeout'])
    })
  }

  for (const returned of ['state <pending>', { text: 'Promise { <pending> }' }, new Unreadable()])
    test(`is over when its handler has returned: ${typeof returned}`, async () => {
      const library = await anew()
      const handler = library.withCache(() => returned, { custom: [{ as: 'one', load: () => 1 }] })
      await handler.prefetch()
      for (let time = 0; time < 3; time += 1) await handler({}, contextWith(time === 2 ? 1 : 1000))
      const later = library.withCache(() => {}, { custom: [{ as: 'two', load: () => 2 }] })
      await later.prefetch()
    })
})

describe('before the first invocation', () => {
  const FAILING = [
    ['throttled', throttled, 'ThrottlingException'],
    ['unanswered', 'never', 'Timeout'],
  ] as const
  const PLACES: readonly (readonly [string, (library: typeof Library, fetch: Fetch) => unknown])[] =
    [
      [
        'prefetch',
        ({ withCache }, fetch) => withCache(() => {}, { secrets: ['a'], fetch }).prefetch(),
      ],
      ['direct access', ({ getSecret }, fetch) => getSecret('a', { fetch })],
    ]
  for (const [what, answer, code] of FAILING)
    for (const [place, read] of PLACES) {
      test(`${place} ends before Lambda ends the init phase: ${what}`, async () => {
        mockTimeouts()
        mock.method(Math, 'random', () => 1)
        mock.method(process, 'uptime', () => 0.5)
        Object.assign(process.env, { AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand' })
        const outcome = codeOf(read(await anew(), script(answer).fetch) as Promise<unknown>)
        await advance(7500)
        assert.equal(await isSettled(outcome), false)
        await advance(1500)
        assert.equal(await isSettled(outcome), true)
        assert.equal(await outcome, code)
      })

      for (const environment of [
        { AWS_LAMBDA_INITIALIZATION_TYPE: 'provisioned-concurrency' },
        // What the runtime sets when an invocation begins: the handler may not be wrapped.
        { AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand', _X_AMZN_TRACE_ID: 'Root=1' },
        {},
      ]) {
        test(`${place} ends after 10 s elsewhere: ${what}, ${JSON.stringify(environment)}`, async () => {
          mockTimeouts()
          mock.method(Math, 'random', () => 1)
          mock.method(process, 'uptime', () => 0.5)
          Object.assign(process.env, environment)
          const outcome = codeOf(read(await anew(), script(answer).fetch) as Promise<unknown>)
          await advance(9700)
          assert.equal(await isSettled(outcome), false)
          await advance(500)
          assert.equal(await isSettled(outcome), true)
          assert.equal(await outcome, code)
        })
      }
    }
})

describe('a long tree', () => {
  test('has the patience of a read for each of its pages', async () => {
    mockTimeouts()
    mock.method(Math, 'random', () => 1)
    let page = 0
    const throttledOnce = new Set<number>()
    const { fetch } = script(() => {
      // The first page of twelve takes a second, and each is throttled once.
      if (!throttledOnce.has(page)) {
        throttledOnce.add(page)
        return throttled.clone()
      }
      page += 1
      return reply(200, {
        Parameters: [{ Name: `/t/${page}`, Value: String(page) }],
        ...(page < 12 && { NextToken: String(page) }),
      })
    })
    const read = getParametersByPath('/t', { fetch })
    await advance(10_500)
    assert.equal(await isSettled(read), false)
    await advance(5000)
    assert.equal(Object.keys(await read).length, 12)
  })

  test('comes to an end where a server always has another page', async () => {
    let page = 0
    const { fetch } = script(() => {
      page += 1
      return reply(200, { Parameters: [], NextToken: String(page) })
    })
    await failure(getParametersByPath('/t', { fetch }), { code: 'InvalidAnswer' }, '10000 pages')
    assert.equal(page, 10_000)
  })
})

describe('waiting', () => {
  test('ends 200 ms before the deadline with a last value at hand, too', async () => {
    mockTimeouts()
    consoleLines()
    const aws = scene(SECRETS.answer('one'))
    const options = { secrets: ['a'], fetch: aws.fetch }
    const handler = withCache((_: unknown, context) => Reflect.get(context, 'a'), options)
    await handler({}, contextWith(MINUTE))
    await advance(MINUTE, MINUTE)
    aws.say('never')
    const invocation = handler({}, contextWith(300))
    await advance(90, 10)
    assert.equal(await isSettled(invocation), false)
    await advance(20, 10)
    assert.equal(await isSettled(invocation), true, 'half of it would be 150 ms')
    assert.equal(await invocation, 'one')
  })

  test('that was too short for a healthy AWS does not keep the next invocation from it', async () => {
    mockTimeouts()
    consoleLines()
    const aws = scene(SECRETS.answer('one'))
    const options = { secrets: ['a'], fetch: aws.fetch }
    const handler = withCache((_: unknown, context) => Reflect.get(context, 'a'), options)
    await handler({}, contextWith(MINUTE))
    await advance(MINUTE, MINUTE)
    const release = aws.hold()
    const hurried = handler({}, contextWith(500))
    await advance(300)
    assert.equal(await hurried, 'one')
    release()
    aws.say(SECRETS.answer('two'))
    assert.equal(await handler({}, contextWith(MINUTE)), 'two')
    // One that AWS had time to answer does.
    await advance(MINUTE, MINUTE)
    aws.say('never')
    const patient = handler({}, contextWith(3000))
    await advance(1600)
    assert.equal(await patient, 'two')
    const { length } = aws.sent
    assert.equal(await handler({}, contextWith(MINUTE)), 'two')
    assert.equal(aws.sent.length, length, 'AWS is left alone')
  })

  test('takes half of the time in all where it is for one refresh after another', async () => {
    mockTimeouts()
    consoleLines()
    const aws = scene(SECRETS.answer('one'))
    const options = { secrets: ['a'], maxAge: 0, fetch: aws.fetch }
    const handler = withCache((_: unknown, context) => Reflect.get(context, 'a'), options)
    await handler({}, contextWith(MINUTE))
    const release = aws.hold()
    const first = handler({}, contextWith(MINUTE))
    await advance(10, 10)
    // It needs a newer answer than the one that is on its way.
    const second = handler({}, contextWith(3000))
    await advance(1000)
    aws.say('never')
    release()
    await first
    await advance(400)
    assert.equal(await isSettled(second), false)
    await advance(200)
    assert.equal(await isSettled(second), true)
    assert.equal(await second, 'one')
  })

  test('is not longer where the clock is set back meanwhile', async () => {
    mockTimeouts()
    mock.method(Math, 'random', () => 1)
    const { fetch, sent } = script(throttled)
    const read = failure(getSecret('a', { fetch }), { code: 'ThrottlingException' }, 'attempts in')
    await advance(5000)
    // Timers go on; what the clock shows does not matter to them.
    const now = Date.now.bind(Date)
    mock.method(Date, 'now', () => now() - HOUR)
    // The pause in which that happens does not count.
    await advance(10_000)
    assert.equal(await isSettled(read), true)
    assert.ok(sent.length < 9, `${sent.length} attempts`)
    assert.match((await read).message, / in (\d|1\d)(\.\d)? s:/)
  })
})

describe('a forced read', () => {
  for (const [what, answer] of [
    ['304', reply(304)],
    ['200', reply(200, 'one', { etag: '"1"' })],
  ] as const) {
    test(`that is answered ${what} ends the pause after a failure`, async () => {
      consoleLines()
      const aws = scene(reply(200, 'one', { etag: '"1"' }))
      const uri = 's3://bucket/value'
      const invoke = invoking({ s3: [{ uri, parse: (text) => text }], fetch: aws.fetch }, 'value')
      await invoke()
      pass(MINUTE)
      aws.say(reply(500))
      await invoke()
      aws.say(answer)
      await getObject(uri, { parse: (text) => text, fetch: aws.fetch, maxAge: 0 })
      aws.say(reply(200, 'two', { etag: '"2"' }))
      pass(SECOND)
      const { length } = aws.sent
      assert.deepEqual(await invoke(), ['one'])
      assert.equal(aws.sent.length, length, 'the value is a second old')
      pass(MINUTE)
      assert.deepEqual(await invoke(), ['two'])
    })
  }
})

describeOverBoth('a slow disk', () => {
  test('delays no abort, and the next reader has the only request', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'value')
    const aws = await local({ objects: { 's3://bucket/value': 'content' } })
    const open = new Set<unknown>()
    let answered = 0
    aws.intercept = (_, response) => {
      open.add(response)
      response.once('close', () => open.delete(response))
      answered += 1
      // The first one goes on and on, as fast as it is written.
      if (answered > 1) return false
      response.writeHead(200)
      response.write('begin')
      return true
    }
    // A write that takes for ever, as on a file system that is out of reach.
    const { writeFile } = fs.promises
    let stuck = true
    mock.method(fs.promises, 'writeFile', async (...args: Parameters<typeof writeFile>) => {
      if (!stuck) return writeFile(...args)
      const [, body] = args
      for await (const _ of body as AsyncIterable<Uint8Array>) await new Promise(() => {})
    })
    const handler = withCache((_: unknown, context) => Reflect.get(context, 'value'), {
      s3: [{ uri: 's3://bucket/value', file }],
    })
    const began = performance.now()
    const hurried = failure(handler({}, contextWithTime(500)), { code: 'Timeout' })
    await until(() => open.size === 1)
    await hurried
    assert.ok(performance.now() - began < 1500)
    await until(() => open.size === 0)
    stuck = false
    assert.equal(await handler({}, lambdaContext()), file)
    assert.equal(await readFile(file, 'utf8'), 'content')
  })
})

/** A context whose time passes although the clock is mocked. */
function contextWithTime(milliseconds: number) {
  return lambdaContext(() => milliseconds)
}
