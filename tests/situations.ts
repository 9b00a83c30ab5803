/** Situations in which good guesses were wrong: time, identity, credentials and values. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, mock, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import ts from 'typescript6'
import type * as Library from '../lambda-cache.js'
import {
  type Credentials,
  clearCache,
  type Fetch,
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  json,
  type Options,
  sign,
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
  present,
  refusal,
  reply,
  SECOND,
  SECRETS,
  type Sent,
  SOURCES,
  SSM,
  scene,
  script,
  temporaryFolder,
  turns,
  unreachable,
  until,
  xml,
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

// ---- Waiting and time ----

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

// ---- Identity ----

describe('one object and one file', () => {
  const uri = 's3://bucket/value'

  test('go together with a provider for each invocation, at the cost of a conditional request', async () => {
    const file = join(await temporaryFolder(), 'value')
    const { fetch, sent } = script(({ headers }) =>
      headers['if-none-match'] ? reply(304) : reply(200, 'content', { etag: '"1"' }),
    )
    for (const key of ['one', 'two', 'three']) {
      const credentials = () => ({ accessKeyId: key, secretAccessKey: 'secret' })
      assert.equal(await getObject(uri, { file, fetch, credentials }), file)
      assert.equal(await readFile(file, 'utf8'), 'content')
    }
    assert.deepEqual(
      sent.map(({ headers }) => headers['if-none-match']),
      [undefined, '"1"', '"1"'],
    )
    assert.match(present(sent[2]).headers.authorization ?? '', /=three\//, 'AWS says who may')
  })

  test('go together in two wrappers with providers of their own, each of which AWS allows', async () => {
    const file = join(await temporaryFolder(), 'value')
    const { fetch, sent } = script(({ headers }) =>
      headers['if-none-match'] ? reply(304) : reply(200, 'content', { etag: '"1"' }),
    )
    const invokes = ['one', 'two'].map((key) =>
      invoking(
        {
          s3: [{ uri, file }],
          fetch,
          credentials: () => ({ accessKeyId: key, secretAccessKey: 'secret' }),
        },
        'value',
      ),
    )
    for (let round = 0; round < 3; round += 1)
      for (const invoke of invokes) assert.deepEqual(await invoke(), [file])
    assert.equal(sent.length, 2, 'one for each, and then it is in memory')
  })

  test('go together in versions, of which the one that is read is the one in the file', async () => {
    const file = join(await temporaryFolder(), 'value')
    const { fetch } = script(({ url, headers }) => {
      const version = present(new URL(url).searchParams.get('versionId'))
      if (headers['if-none-match'] === `"${version}"`) return reply(304)
      return reply(200, `content ${version}`, { etag: `"${version}"` })
    })
    for (const versionId of ['1', '2', '3', '1']) {
      assert.equal(await getObject(uri, { file, fetch, versionId }), file)
      assert.equal(await readFile(file, 'utf8'), `content ${versionId}`)
    }
  })

  test('are refused in one wrapper for two versions', () => {
    const versions = ['1', '2'].map((versionId) => ({ uri, versionId, as: `v${versionId}` }))
    assert.throws(() => withCache(() => {}, { s3: versions }), { message: /both downloaded to/ })
  })

  test('are refused for another object', async () => {
    const file = join(await temporaryFolder(), 'value')
    const { fetch } = script(() => reply(200, 'content'))
    await getObject(uri, { file, fetch })
    const other = getObject('s3://bucket/other', { file, fetch })
    await failure(other, { code: 'InvalidOptions' }, 'another object')
    clearCache()
    await getObject('s3://bucket/other', { file, fetch })
  })

  test('leave the path free where the object could not be read', async () => {
    const file = join(await temporaryFolder(), 'value')
    await failure(getObject(uri, { file, fetch: script(xml(404, 'NoSuchBucket')).fetch }))
    assert.equal(
      await getObject('s3://bucket/other', { file, fetch: script(reply(200)).fetch }),
      file,
    )
  })
})

describe('a path from memory', () => {
  const uri = 's3://bucket/value'

  for (const [what, harm] of [
    ['is gone', (file: string) => rm(file)],
    ['is another one', (file: string) => writeFile(file, 'something else')],
    [
      'is a link',
      async (file: string) => {
        await rm(file)
        await symlink('/dev/null', file)
      },
    ],
  ] as const) {
    test(`leads to the file, also where it ${what}`, async () => {
      const file = join(await temporaryFolder(), 'value')
      const { fetch, sent } = script(() => reply(200, 'content', { etag: '"1"' }))
      const options: Options = { s3: [{ uri, file, as: 'value', maxAge: Infinity }], fetch }
      const invoke = invoking(options, 'value')
      for (let round = 1; round < 4; round += 1) {
        assert.deepEqual(await invoke(), [file])
        assert.equal(await readFile(file, 'utf8'), 'content')
        assert.equal(sent.length, round)
        assert.deepEqual(await invoke(), [file])
        assert.equal(sent.length, round, 'nothing is read while it is in its place')
        await harm(file)
      }
    })
  }

  test('is no stale value where the file is gone', async () => {
    const file = join(await temporaryFolder(), 'value')
    const aws = scene(reply(200, 'content', { etag: '"1"' }))
    const invoke = invoking({ s3: [{ uri, file }], fetch: aws.fetch }, 'value')
    await invoke()
    await rm(file)
    aws.say(reply(503))
    await failure(invoke(), { code: 'Http503', source: 's3' })
    pass(MINUTE)
    await failure(invoke(), { code: 'Http503', source: 's3' })
  })

  test('is the stale value where the disk is full', async () => {
    const lines = consoleLines()
    const file = join(await temporaryFolder(), 'value')
    const aws = scene(reply(200, 'one', { etag: '"1"' }))
    const invoke = invoking({ s3: [{ uri, file }], fetch: aws.fetch }, 'value')
    await invoke()
    aws.say(reply(200, 'two', { etag: '"2"' }))
    pass(MINUTE)
    const { writeFile } = fs.promises
    const full = mock.method(fs.promises, 'writeFile', async () => {
      throw Object.assign(new Error('no space left'), { code: 'ENOSPC' })
    })
    assert.deepEqual(await invoke(), [file])
    assert.equal(await readFile(file, 'utf8'), 'one')
    assert.equal(lines.length, 1)
    assert.match(present(lines[0]), /ENOSPC/)
    pass(4 * MINUTE + 59 * SECOND)
    assert.deepEqual(await invoke(), [file])
    pass(SECOND)
    await failure(invoke(), { code: 'FileError' }, 'ephemeral storage')
    full.mock.mockImplementation(writeFile as never)
    assert.deepEqual(await invoke(), [file])
    assert.equal(await readFile(file, 'utf8'), 'two')
  })
})

describe('a folder that several processes share', () => {
  const uri = 's3://bucket/value'

  test('keeps what others are writing, and loses what nobody is', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'value')
    let during: string[] = []
    const { fetch } = script(() => reply(200, 'content'))
    const { writeFile: write } = fs.promises
    mock.method(fs.promises, 'writeFile', async (...args: Parameters<typeof write>) => {
      await write(...args)
      during = await readdir(folder)
    })
    await getObject(uri, { file, fetch })
    const [own] = during.filter((name) => name.startsWith('.lambda-cache'))
    const [prefix, host] = present(own).split(/-(?=[0-9a-f]{16}-)/) as [string, string]
    const here = host.slice(0, 16)
    const temporary = (id: string, pid: number) => `${prefix}-${id}-${pid}-0.5`
    // What another machine's names are like is all that is known of it.
    const theirs = temporary('0123456789abcdef', 1)
    const running = temporary(here, process.ppid)
    const gone = temporary(here, 2 ** 22 + 1)
    const old = temporary('0123456789abcdef', 2)
    const names = [theirs, running, gone, old]
    for (const name of names) await writeFile(join(folder, name), 'half')
    const longAgo = new Date(Date.now() - HOUR - SECOND)
    await utimes(join(folder, old), longAgo, longAgo)
    const recent = new Date(Date.now() - HOUR + MINUTE)
    await utimes(join(folder, theirs), recent, recent)
    await getObject(uri, { file, fetch, maxAge: 0 })
    assert.deepEqual((await readdir(folder)).sort(), [theirs, running, 'value'].sort())
  })
})

describe('names on a context', () => {
  test('that a stream or a durable context has mean nothing where another wrapper gave them', async () => {
    const { fetch } = script(echo)
    const custom = [
      { as: 'write', load: () => () => {} },
      { as: 'lambdaContext', load: () => ({ getRemainingTimeInMillis: () => 1 }) },
    ]
    const inner = withCache((_: unknown, context) => Reflect.get(context, 'a'), {
      secrets: ['a'],
      fetch,
    })
    const outer = withCache((event: unknown, context) => inner(event, context as never), { custom })
    assert.equal(await outer({}, lambdaContext()), 'a')
  })

  test('of a handler that is no function is no prefetch', async () => {
    const { fetch, sent } = script(echo)
    const handler = Object.assign(async () => 'done', { prefetch: true })
    const wrapped = withCache(handler, { secrets: ['a'], fetch })
    await wrapped.prefetch()
    assert.equal(sent.length, 1)
    assert.equal(await wrapped({}, lambdaContext()), 'done')
  })
})

// ---- Answers and values ----

describe('a bad value', () => {
  for (const source of SOURCES) {
    test(`that is pushed does not take the place of a good one: ${source.source}`, async () => {
      const lines = consoleLines()
      const aws = scene(source.answer('{"a":1}'))
      const options = { ...source.entry({ parse: json }), fetch: aws.fetch }
      const invoke = invoking(options, 'value')
      assert.deepEqual(await invoke(), [{ a: 1 }])
      const bad = `{"${CANARY}`
      aws.say(source.answer(bad))
      pass(MINUTE)
      assert.deepEqual(await invoke(), [{ a: 1 }])
      assert.deepEqual(await invoke(), [{ a: 1 }])
      assert.equal(lines.length, 1, 'one line for all who get it')
      assert.match(
        present(lines[0]),
        /serving the value of 60 s ago: parse failed with SyntaxError/,
      )
      assert.ok(!present(lines[0]).includes(CANARY))
      assert.equal(aws.sent.length, 2)
      pass(4999)
      await invoke()
      assert.equal(aws.sent.length, 2)
      pass(1)
      assert.deepEqual(await invoke(), [{ a: 1 }])
      assert.equal(aws.sent.length, 3, 'read again after 5 s')
      // Those without `parse` get what is there.
      const raw = await source.read({ fetch: aws.fetch, parse: (text) => text })
      assert.equal(raw, bad)
      pass(4 * MINUTE + 54 * SECOND)
      assert.deepEqual(await invoke(), [{ a: 1 }])
      pass(SECOND)
      assertKeepsSecrets(await failure(invoke(), { code: 'ParseError', source: source.source }))
      aws.say(source.answer('{"a":2}'))
      pass(5 * SECOND)
      assert.deepEqual(await invoke(), [{ a: 2 }])
    })

    test(`ahead of time leaves the one that has not expired: ${source.source}`, async () => {
      const lines = consoleLines()
      const aws = scene(source.answer('{"a":1}'))
      const options = { ...source.entry({ parse: json }), fetch: aws.fetch }
      const invoke = invoking(options, 'value')
      await invoke()
      aws.say(source.answer('{'))
      pass(50 * SECOND)
      assert.deepEqual(await invoke(), [{ a: 1 }])
      assert.deepEqual(await invoke(), [{ a: 1 }])
      assert.equal(lines.length, 1)
      aws.say(source.answer('{"a":2}'))
      pass(4999)
      assert.deepEqual(await invoke(), [{ a: 1 }])
      pass(1)
      assert.deepEqual(await invoke(), [{ a: 2 }])
    })
  }

  test('that others have read, who do not parse it, is read again', async () => {
    const aws = scene(SECRETS.answer('{'))
    await SECRETS.read({ fetch: aws.fetch, maxAge: Infinity })
    const options = { ...SECRETS.entry({ parse: json }), fetch: aws.fetch, maxAge: Infinity }
    const invoke = invoking(options, 'value')
    pass(4999)
    assertKeepsSecrets(await failure(invoke(), { code: 'ParseError', source: 'secrets' }))
    assert.equal(aws.sent.length, 1, 'it has just been read')
    aws.say(SECRETS.answer('{"a":1}'))
    pass(1)
    assert.deepEqual(await invoke(), [{ a: 1 }])
    assert.equal(aws.sent.length, 2)
    pass(HOUR)
    aws.say(SECRETS.answer('{"a":2}'))
    assert.deepEqual(await invoke(), [{ a: 1 }])
  })

  test('that is old, and that others have read, is no error for who parses it first', async () => {
    const aws = scene(SECRETS.answer('{'))
    await SECRETS.read({ fetch: aws.fetch, maxAge: Infinity })
    aws.say(SECRETS.answer('{"a":1}'))
    pass(MINUTE)
    const options = { ...SECRETS.entry({ parse: json }), fetch: aws.fetch, maxAge: Infinity }
    assert.deepEqual(await invoking(options, 'value')(), [{ a: 1 }])
  })

  test('at first is an error, and is read again after a while', async () => {
    const aws = scene(SECRETS.answer('{'))
    const options = { secrets: [{ id: 'a', parse: json }], fetch: aws.fetch }
    const invoke = invoking(options, 'a')
    await failure(invoke(), { code: 'ParseError' })
    await failure(invoke(), { code: 'ParseError' })
    assert.equal(aws.sent.length, 1)
    aws.say(SECRETS.answer('{}'))
    pass(5 * SECOND)
    assert.deepEqual(await invoke(), [{}])
  })

  test('that was read elsewhere keeps no wrapper from the next one', async () => {
    consoleLines()
    const aws = scene(SECRETS.answer('{"a":1}'))
    const options = { secrets: [{ id: 'a', parse: json, maxAge: HOUR }], fetch: aws.fetch }
    const invoke = invoking(options, 'a')
    await invoke()
    aws.say(SECRETS.answer('{'))
    await failure(
      getSecret('a', { fetch: aws.fetch, parse: (text) => JSON.parse(text), maxAge: 0 }),
    )
    assert.deepEqual(await invoke(), [{ a: 1 }])
    aws.say(SECRETS.answer('{"a":3}'))
    pass(5 * SECOND)
    assert.deepEqual(await invoke(), [{ a: 3 }])
  })

  test('is the error where there was none before, be it with a default', async () => {
    const aws = scene(refusal('ResourceNotFoundException'))
    const { fetch } = aws
    assert.equal(await getSecret('a', { fetch, parse: json, default: 0 }), 0)
    aws.say(SECRETS.answer('{'))
    await failure(getSecret('a', { fetch, parse: json, maxAge: 0 }), { code: 'ParseError' })
  })

  test('does not make a handler run once more with what it had', async () => {
    consoleLines()
    const aws = scene(SECRETS.answer('{"a":1}'))
    let runs = 0
    const handler = withCache(
      () => {
        runs += 1
        throw new Error('refused')
      },
      { secrets: [{ id: 'a', parse: json }], fetch: aws.fetch, refreshOn: () => true },
    )
    await handler.prefetch()
    aws.say(SECRETS.answer('{'))
    await assert.rejects(handler({}, lambdaContext()), { message: 'refused' })
    assert.equal(runs, 1)
  })
})

describe('an answer with other types than AWS documents', () => {
  const WRONG: readonly unknown[] = [1, true, {}, ['text'], null]
  for (const wrong of WRONG) {
    const answers: readonly (readonly [string, object])[] = [
      ['Value', { Parameters: [{ Name: '/app/value', Value: wrong }] }],
      ['SecretString', { SecretString: wrong }],
      ...(wrong === null
        ? []
        : ([
            ['Name', { Parameters: [{ Name: wrong, Value: 'value' }] }],
            ['ARN', { Parameters: [{ ARN: wrong, Value: 'value' }] }],
            ['Selector', { Parameters: [{ Name: '/app/value', Selector: wrong, Value: 'value' }] }],
            ['InvalidParameters', { Parameters: [], InvalidParameters: [wrong] }],
          ] as const)),
      ['Parameters', { Parameters: [wrong] }],
    ]
    for (const [field, answer] of answers) {
      test(`is InvalidAnswer: ${JSON.stringify(wrong)} as ${field}`, async () => {
        const { fetch } = script(reply(200, answer))
        const read = field.startsWith('Secret') ? SECRETS.read({ fetch }) : SSM.read({ fetch })
        await failure(read, { code: 'InvalidAnswer', httpStatus: 200 })
      })
    }
  }

  test('is InvalidAnswer: a NextToken that is no text', async () => {
    const { fetch } = script(reply(200, { Parameters: [], NextToken: 7 }))
    await failure(getParametersByPath('/t', { fetch }), { code: 'InvalidAnswer' })
  })

  test('is an answer where a field is null that may be missing', async () => {
    const { fetch } = script(
      reply(200, {
        Parameters: [{ Name: '/app/value', ARN: null, Selector: null, Value: 'value' }],
        InvalidParameters: null,
      }),
    )
    assert.equal(await SSM.read({ fetch }), 'value')
  })
})

describe('the code of an error', () => {
  test('is what stands in its element, whatever stands behind it', async () => {
    const body =
      '<Error><Code>NoSuchKey</Code><Message>no &#39;a#1&#39;</Message><Key>a#1</Key></Error>'
    const { fetch } = script(reply(404, body))
    assert.equal(
      await getObject('s3://bucket/a#1', { fetch, binary: true, default: 'none' }),
      'none',
    )
  })
})

describe('a batch', () => {
  test('has the time of whoever has most of it', async () => {
    mockTimeouts()
    mock.method(Math, 'random', () => 1)
    const { fetch, sent } = script(throttled)
    const [hurried, patient] = [1500, 9000].map((milliseconds, index) =>
      failure(
        withCache(() => {}, { ssm: [`/p${index}`], fetch })({}, contextWith(milliseconds)),
        index === 0 ? {} : { code: 'ThrottlingException' },
      ),
    )
    await advance(1500)
    await hurried
    await advance(6000)
    assert.equal(await isSettled(patient as Promise<unknown>), false)
    await advance(1500)
    await patient
    assert.equal(sent.length, 5)
  })
})

describe('a clock that AWS finds wrong', () => {
  const expired = (date: string): Response =>
    reply(400, { __type: 'InvalidSignatureException', message: 'Signature expired' }, { date })

  for (const date of ['tomorrow', '', 'Fri, 01 Jan 12026 00:00:00 GMT', '1969-01-01'])
    test(`without a date that can be: '${date}'`, async () => {
      const { fetch, sent } = script(expired(date))
      await failure(SSM.read({ fetch }), { code: 'InvalidSignatureException' })
      assert.equal(sent.length, 1)
    })

  test('and that is right is signed again, once', async () => {
    const { fetch, sent } = script(expired(new Date(Date.now()).toISOString()))
    await failure(SSM.read({ fetch }), { code: 'InvalidSignatureException' })
    assert.equal(sent.length, 2)
  })
})

describe('two names in one answer', () => {
  const CASES: readonly (readonly [string, string])[] = [
    ['/a/limit', '/a/limit:3'],
    ['/a/limit:2', '/a/limit:3'],
    ['/a/limit:old', '/a/limit'],
    ['host', '/a/db/host'],
    ['/host', '/a/db/host'],
    ['/a/db/host', '/b/a/db/host'],
    ['arn:aws:ssm:us-east-1:123456789012:parameter/a/db/host', '/db/host'],
  ]
  for (const [one, other] of CASES)
    for (const names of [
      [one, other],
      [other, one],
    ]) {
      test(`are told apart: ${names.join(' and ')}`, async () => {
        const { fetch } = script(({ body }) => {
          const { Names } = JSON.parse(body) as { Names: string[] }
          return reply(200, {
            Parameters: Names.map((name) => {
              const arn = name.startsWith('arn:')
              const [whole = '', version] = name.replace(/^arn:.*:parameter/, '').split(':')
              return {
                Name: whole,
                ARN: `arn:aws:ssm:us-east-1:123456789012:parameter${arn || whole.startsWith('/') ? whole : `/${whole}`}`,
                ...(version && { Selector: `:${version}` }),
                Value: `value of ${name}`,
              }
            }).reverse(),
          })
        })
        const values = await Promise.all(names.map((name) => getParameter(name, { fetch })))
        assert.deepEqual(
          values,
          names.map((name) => `value of ${name}`),
        )
      })
    }
})

// ---- Expressions ----

/** All expressions of the file: AWS's answers, or what stands in for them, are read with them. */
function expressions(): RegExp[] {
  const path = fileURLToPath(new URL('../lambda-cache.ts', import.meta.url))
  const source = ts.createSourceFile(path, fs.readFileSync(path, 'utf8'), ts.ScriptTarget.ES2022)
  const found: RegExp[] = []
  function visit(node: ts.Node): void {
    if (ts.isRegularExpressionLiteral(node)) {
      const [, body = '', flags] = /^\/(.*)\/(\w*)$/s.exec(node.text) ?? []
      found.push(new RegExp(body, flags))
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

/** Whether work is done in time, be it once in many tries: others use the machine, too. */
function isDoneWithin(milliseconds: number, work: () => unknown): boolean {
  return Array.from({ length: 20 }).some(() => {
    const began = performance.now()
    work()
    return performance.now() - began < milliseconds
  })
}

describe('expressions', () => {
  const SIGNS = ['a', 'A', '0', ' ', '\n', '/', '-', '.', '"', '<', '=', '&#1', '://', '-a', 'a1']
  const AROUND = [
    ['', '\0'],
    ['\0', ''],
    ['s3://', '\0'],
  ] as const
  /** What takes a quarter of a second for 32 KiB would take minutes for 1 MiB. */
  const LIMITS = [
    [2 ** 15, 250],
    [2 ** 20, 50],
  ] as const
  const all = expressions()

  test('are found', () => assert.ok(all.length > 20))

  for (const expression of all) {
    test(`take no longer than their text is long: ${expression}`, () => {
      const words = expression.source.match(/[\w"<= ]{2,}/g) ?? []
      for (const sign of new Set([...SIGNS, ...words]))
        for (const [start, end] of AROUND)
          for (const [size, limit] of LIMITS) {
            const input = start + sign.repeat(size / sign.length) + end
            const isShort = isDoneWithin(limit, () => input.search(expression))
            assert.ok(isShort, `over ${limit} ms for ${size} bytes of ${JSON.stringify(sign)}`)
          }
    })
  }

  test('see 64 KiB of an error and no more', async () => {
    const code = `<Code>TooLate</Code>`
    for (const [answer, expected] of [
      [`<Error>${' '.repeat(2 ** 16 - 100)}${code}`, 'TooLate'],
      [`<Error>${' '.repeat(2 ** 16)}${code}`, 'Http400'],
    ] as const) {
      const { fetch } = script(reply(400, answer))
      await failure(getObject('s3://bucket/value', { fetch, binary: true }), { code: expected })
    }
  })
})

describe('addresses', () => {
  const NAMES: readonly (readonly [bucket: string, host: string, path: string])[] = [
    ['-bucket', 's3.us-east-1.amazonaws.com', '/-bucket/key'],
    ['bucket-', 's3.us-east-1.amazonaws.com', '/bucket-/key'],
    ['b'.repeat(63), `${'b'.repeat(63)}.s3.us-east-1.amazonaws.com`, '/key'],
    ['b'.repeat(64), 's3.us-east-1.amazonaws.com', `/${'b'.repeat(64)}/key`],
    ['My_Bucket', 's3.us-east-1.amazonaws.com', '/My_Bucket/key'],
    ['a.b', 's3.us-east-1.amazonaws.com', '/a.b/key'],
  ]
  for (const [bucket, host, path] of NAMES) {
    test(`have the bucket where it can stand: ${bucket}`, async () => {
      const { fetch, sent } = script(reply(200, 'content'))
      await getObject(`s3://${bucket}/key`, { fetch, binary: true })
      assert.equal(sent[0]?.url, `https://${host}${path}`)
    })
  }

  test('of a bucket that no URL can carry are refused, and no others', async () => {
    const { fetch, sent } = script(() => reply(200, 'content'))
    const read = () => getObject('s3://xn--bucket/key', { fetch, binary: true })
    // From Node.js 24 on, URLs take such a name, too.
    const isCarried = URL.canParse('https://xn--bucket.s3.us-east-1.amazonaws.com')
    if (isCarried) await read()
    else await failure(read(), { code: 'UnsupportedKey' }, 'xn--')
    await getObject('s3://xn--mnchen-3ya/key', { fetch, binary: true })
    assert.equal(sent.length, isCarried ? 2 : 1)
  })

  test('for S3 there is none with FIPS in China, and for the others there is', async () => {
    Object.assign(process.env, { AWS_REGION: 'cn-north-1', AWS_USE_FIPS_ENDPOINT: 'true' })
    const { fetch, sent } = script(echo)
    await failure(
      getObject('s3://bucket/key', { fetch }),
      { code: 'InvalidEndpoint' },
      'cn-north-1',
    )
    await getSecret('a', { fetch })
    await getParameter('/a', { fetch })
    assert.deepEqual(
      sent.map(({ url }) => url),
      [
        'https://secretsmanager-fips.cn-north-1.amazonaws.com.cn/',
        'https://ssm-fips.cn-north-1.amazonaws.com.cn/',
      ],
    )
  })
})

describe('what an error says', () => {
  const SECRET = `${CANARY} of a header`

  test('is no name or code that is not one word', async () => {
    for (const thrown of [
      Object.assign(new Error('x'), { name: SECRET }),
      Object.assign(new Error('x'), { code: SECRET }),
      new Error('x', { cause: Object.assign(new Error('y'), { code: SECRET }) }),
      new Error('x', { cause: Object.assign(new Error('y'), { name: SECRET }) }),
    ]) {
      const fetch: Fetch = () => Promise.reject(thrown)
      assertKeepsSecrets(await failure(getSecret('a', { fetch }), { code: 'NetworkError' }))
    }
  })

  test('is what is wrong with a Response that is given twice', async () => {
    const shared = reply(200, { SecretString: 'value' })
    const fetch = async () => shared
    const reads = ['a', 'b'].map((id) => getSecret(id, { fetch }))
    const results = await Promise.allSettled(reads)
    const failed = results.find(({ status }) => status === 'rejected') as PromiseRejectedResult
    assert.equal((failed.reason as { code?: string }).code, 'RequestFailed')
    assert.match(String(failed.reason), /a new Response for each call/)
  })

  test('is that a body has been read, and not that the object is empty', async () => {
    const shared = new Response('content')
    const fetch = async () => shared
    await getObject('s3://bucket/a', { fetch, binary: true })
    const again = getObject('s3://bucket/b', { fetch, binary: true })
    await failure(again, { code: 'RequestFailed' }, 'or has read')
  })

  test('is which dates can be signed', () => {
    const request = { method: 'GET', url: 'https://a', service: 's3', region: 'a' }
    for (const date of [new Date(8.64e15), new Date(-1), new Date(NaN), Object.create(null)])
      assert.throws(() => sign({ ...request, credentials: CREDENTIALS, date }), {
        code: 'InvalidOptions',
        message: /^sign: date: expected a valid Date from 1970 to 9999, got /,
      })
  })

  test('is not that a local address is none, however it is written', async () => {
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) delete process.env[name]
    const given = { AccessKeyId: 'id', SecretAccessKey: 'secret' }
    for (const url of ['http://[FD00:EC2::23]/v1', 'http://LOCALHOST/x', 'http://127.0.0.1?x']) {
      process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = url
      const { fetch } = script((sent) =>
        sent.headers['x-amz-date'] ? echo(sent) : reply(200, given),
      )
      assert.equal(await getSecret('a', { fetch }), 'a')
      clearCache()
    }
    process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = 'http://127.0.0.1\\@example.com/'
    const read = getSecret('a', { fetch: script(echo).fetch })
    await failure(read, { code: 'NoCredentials' }, 'written plainly')
  })

  const UNPRINTABLE: readonly (readonly [string, () => Promise<unknown>])[] = [
    [
      'the accessKeyId of `credentials`',
      () =>
        getSecret('a', {
          fetch: script(echo).fetch,
          credentials: () => ({ ...CREDENTIALS, accessKeyId: 'é' }),
        }),
    ],
    [
      'the access key has',
      () => {
        for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'])
          delete process.env[name]
        process.env.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI = '/c'
        const given = reply(200, { AccessKeyId: 'é', SecretAccessKey: 'secret' })
        return getSecret('a', { fetch: script(given).fetch })
      },
    ],
    [
      'AWS_ACCESS_KEY_ID has',
      () => {
        process.env.AWS_ACCESS_KEY_ID = 'é'
        return getSecret('a', { fetch: script(echo).fetch })
      },
    ],
    [
      'the ETag of the object',
      async () => {
        const etagged: Fetch = async () => {
          const response = reply(200, 'x')
          const headers = { get: (name: string) => (name === 'etag' ? '"é"' : null) }
          return { status: 200, headers, body: response.body as never, text: async () => 'x' }
        }
        const options = { fetch: etagged, binary: true, maxAge: 0, staleIfError: 0 } as const
        await getObject('s3://bucket/a', options)
        return getObject('s3://bucket/a', options)
      },
    ],
  ]
  for (const [what, read] of UNPRINTABLE)
    test(`is whose character no header can carry: ${what}`, async () => {
      await failure(
        read(),
        { code: 'RequestFailed' },
        `${what.replace(/ has$/, '')} has a character`,
      )
    })

  test('is which variable is wrong', async () => {
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) delete process.env[name]
    process.env.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI = 'v2/x'
    const read = getSecret('a', { fetch: script(echo).fetch })
    await failure(read, { code: 'NoCredentials' }, 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI')
  })

  test("is AWS's sentence as it is, with its characters", async () => {
    const message = 'a &lt;b&gt; &amp;lt; &#39;c&#39; &#x2F; &#38;lt; &unknown; &#x1F600; &#128512;'
    const xmlError = `<Error><Code>AccessDenied</Code><Message>${message}</Message></Error>`
    const { fetch } = script(reply(403, xmlError))
    const read = getObject('s3://bucket/a', { fetch, binary: true })
    await failure(
      read,
      { code: 'AccessDenied' },
      `"a <b> &lt; 'c' / &lt; &unknown; \u{1F600} \u{1F600}"`,
    )
  })

  test('is that the region is unknown, whatever its name means to JavaScript', async () => {
    const { fetch, sent } = script(echo)
    await getSecret('a', { fetch, region: 'constructor-a-1' })
    assert.equal(sent[0]?.url, 'https://secretsmanager.constructor-a-1.amazonaws.com/')
  })

  test('to wait is for one pause', async () => {
    mockTimeouts()
    const headers = { 'retry-after': '2' }
    const { fetch, sent } = script(reply(500, '', headers), unreachable('ECONNRESET'), echo)
    const read = getSecret('a', { fetch })
    await advance(2300)
    assert.equal(await read, 'a')
    assert.equal(sent.length, 3)
  })
})
