/** What goes wrong around a function: tables of faults, hostile surroundings, chaos. */
import assert from 'node:assert/strict'
import crypto, { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { lstat, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { inspect } from 'node:util'
import { gzipSync } from 'node:zlib'
import type { LocalAws, LocalRequest } from '../examples/local-aws.js'
import {
  type Credentials,
  clearCache,
  type Fetch,
  getObject,
  getSecret,
  json,
  LambdaCacheError,
  type Source,
  withCache,
} from '../lambda-cache.js'
import { buffersUsed, heapUsed } from './heap.js'
import {
  assertKeepsSecrets,
  CANARY,
  callLoopback,
  calm,
  cleanups,
  consoleLines,
  contextWith,
  describeOverBoth,
  everythingIn,
  failure,
  HOUR,
  lambdaContext,
  local,
  MINUTE,
  mockTimeouts,
  paced,
  pass,
  present,
  reply,
  S3,
  SECOND,
  SECRETS,
  SOURCES,
  type SourceCase,
  SSM,
  script,
  seeded,
  serve,
  setEnvironment,
  temporaryFolder,
  text,
  turns,
  unreachable,
  until,
  xml,
} from './kit.js'

// ---- Faults ----

describeOverBoth('faults', () => {
  /** A request in the hands of a server that does not do what it should. */
  interface Victim {
    readonly source: SourceCase
    readonly request: LocalRequest
    readonly response: ServerResponse
    /** A right answer. */
    readonly whole: string
    /** 1 for the first. */
    readonly attempt: number
  }

  interface Fault {
    readonly what: string
    /** What the server does instead of answering, unless it gives false. Without it, there is no server. */
    readonly inject?: (victim: Victim) => unknown
    /** What makes the call meanwhile, in the place of the transport itself. */
    readonly fetch?: Fetch
    readonly attempts: number
    /** Whether more of them are made while there is nothing to serve. */
    readonly isThrottling?: boolean
    /** Of the error; without it, all goes well in the end. */
    readonly code?: string | Readonly<Record<Source, string>>
    /** That pass meanwhile, pauses left out. */
    readonly milliseconds?: number
    /** All three, unless it says otherwise. */
    readonly sources?: readonly SourceCase[]
    /** What is read where nothing fails. */
    readonly value?: string
    /** How it ends after one attempt where there is an earlier value, if not after as many. */
    readonly again?: 'not modified' | 'stale'
  }

  const STALL = 2 * SECOND

  /** Stalls: the client gives up neither earlier nor later than after 2, 4 and the rest of 10 s. */
  async function stall({ response, attempt }: Victim): Promise<void> {
    await calm()
    mock.timers.tick(STALL * Math.min(attempt, 2) - 1)
    await calm()
    assert.equal(response.destroyed, false)
    mock.timers.tick(1)
    await new Promise((resolve) =>
      response.destroyed ? resolve(undefined) : response.once('close', resolve),
    )
  }

  /** Sends headers and a part of the body, and sees that they arrive. */
  async function half(
    { response, whole }: Victim,
    headers: Record<string, number> = { 'content-length': Buffer.byteLength(whole) },
    part = whole.slice(0, -3),
  ): Promise<void> {
    response.writeHead(200, headers)
    await new Promise((resolve) => response.write(part, resolve))
    await until(() => arrived === Buffer.byteLength(part))
  }

  async function* counted(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of body) {
      arrived += piece.length
      yield piece
    }
  }

  function refuse(
    { source, response }: Victim,
    status: number,
    code: string,
    headers: Record<string, string> = {},
  ): void {
    const message = 'AWS says why'
    const detail = `${CANARY}-body`
    const body =
      source === S3
        ? `<Error><Code>${code}</Code><Message>${message}</Message><Detail>${detail}</Detail></Error>`
        : JSON.stringify({ __type: code, message, detail })
    response.writeHead(status, headers).end(body)
  }

  /** A server with another idea of the time. */
  function skewed(milliseconds: number): (victim: Victim) => unknown {
    return (victim) => {
      const { source, request } = victim
      request.at += milliseconds
      const sent = Date.parse(
        present(request.headers['x-amz-date']).replace(
          /(....)(..)(..)T(..)(..)(..)Z/,
          '$1-$2-$3T$4:$5:$6Z',
        ),
      )
      if (Math.abs(sent - request.at) < MINUTE) return false
      const code =
        source === S3 ? 'RequestTimeTooSkewed' : 'InvalidSignatureException","x":"Signature expired'
      return refuse(victim, source === S3 ? 403 : 400, code, {
        date: new Date(request.at).toUTCString(),
      })
    }
  }

  const JSON_SERVICES = [SSM, SECRETS]
  const NETWORK = { attempts: 3, code: 'NetworkError' } as const
  const visitors: unknown[] = []
  /** Bytes of the last answer that have come to the library. */
  let arrived = 0
  let elsewhere = ''

  const FAULTS: readonly Fault[] = [
    { what: 'connection refused', ...NETWORK },
    {
      what: 'reset before headers',
      inject: ({ response }) => response.socket?.resetAndDestroy(),
      ...NETWORK,
    },
    { what: 'closed before headers', inject: ({ response }) => response.socket?.end(), ...NETWORK },
    {
      what: 'an upgrade that nobody asked for',
      inject: ({ response }) =>
        response.socket?.write(
          'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n',
        ),
      ...NETWORK,
    },
    {
      what: 'reset mid-body',
      inject: async (victim) => {
        await half(victim)
        return victim.response.socket?.resetAndDestroy()
      },
      ...NETWORK,
    },
    {
      what: 'stall before headers',
      inject: stall,
      attempts: 3,
      code: 'Timeout',
      milliseconds: 5 * STALL,
    },
    {
      what: 'stall after headers',
      inject: async (victim) => {
        victim.response.flushHeaders()
        return await stall(victim)
      },
      attempts: 3,
      code: 'Timeout',
      milliseconds: 5 * STALL,
    },
    {
      what: 'stall mid-body',
      inject: async (victim) => {
        await half(victim)
        return await stall(victim)
      },
      attempts: 3,
      code: 'Timeout',
      milliseconds: 5 * STALL,
    },
    {
      what: 'slow drip',
      inject: async ({ response, whole }) => {
        response.writeHead(200, { etag: '"drip"' })
        for (let sent = 0; sent < whole.length; sent += whole.length / 4) {
          mock.timers.tick(STALL - 1)
          await new Promise((resolve) =>
            response.write(whole.slice(sent, sent + whole.length / 4), resolve),
          )
          await until(() => arrived === Math.floor(sent + whole.length / 4))
        }
        response.end()
      },
      attempts: 1,
      milliseconds: 4 * (STALL - 1),
    },
    {
      what: 'an answer that comes while the event loop is blocked',
      inject: async ({ response, whole }) => {
        await calm()
        response.end(whole)
        mock.timers.tick(STALL)
      },
      attempts: 1,
      milliseconds: STALL,
    },
    {
      what: 'an answer after 2.5 s',
      inject: async (victim) => {
        if (victim.attempt === 1) return stall(victim)
        await calm()
        mock.timers.tick(2500)
        victim.response.end(victim.whole)
      },
      attempts: 2,
      milliseconds: STALL + 2500,
    },
    {
      what: "the timeout of the user's own fetch",
      inject: () => {},
      fetch: (url, init) =>
        globalThis.fetch(url, {
          ...init,
          signal: AbortSignal.any([init.signal, AbortSignal.timeout(20)]),
        }) as never,
      attempts: 3,
      code: 'Timeout',
    },
    {
      what: 'too many open files',
      fetch: () => Promise.reject(unreachable('EMFILE')),
      attempts: 3,
      code: 'NetworkError',
    },
    {
      what: 'end of connection before content-length',
      inject: async (victim) => {
        await half(victim, { 'content-length': 10_000 })
        return victim.response.socket?.end()
      },
      ...NETWORK,
    },
    {
      what: 'end of connection without the last chunk',
      inject: async (victim) => {
        await half(victim, {}, victim.whole)
        return victim.response.socket?.end()
      },
      ...NETWORK,
    },
    {
      what: 'HTTP 500',
      inject: (victim) => refuse(victim, 500, 'InternalError'),
      attempts: 3,
      code: 'InternalError',
    },
    {
      what: 'HTTP 502 with a page',
      inject: ({ response }) =>
        response.writeHead(502, { 'content-type': 'text/html' }).end(`<html>${CANARY}-body`),
      attempts: 3,
      code: 'Http502',
    },
    {
      what: 'HTTP 503 SlowDown',
      inject: (victim) => refuse(victim, 503, 'SlowDown'),
      attempts: 3,
      isThrottling: true,
      code: 'SlowDown',
    },
    {
      what: 'HTTP 429',
      inject: ({ response }) => response.writeHead(429).end(),
      attempts: 3,
      isThrottling: true,
      code: 'Http429',
    },
    {
      what: 'throttling as HTTP 400',
      inject: (victim) => refuse(victim, 400, 'ThrottlingException'),
      attempts: 3,
      isThrottling: true,
      code: 'ThrottlingException',
    },
    {
      what: 'malformed JSON',
      inject: ({ response, whole }) => response.end(whole.slice(0, -1)),
      attempts: 3,
      code: 'InvalidAnswer',
      sources: JSON_SERVICES,
    },
    {
      what: 'JSON without the field',
      inject: ({ response }) => response.end(`{"Other":"${CANARY}-body"}`),
      attempts: 1,
      code: 'InvalidAnswer',
      again: 'stale',
      sources: JSON_SERVICES,
    },
    {
      what: 'JSON with null in the field',
      inject: ({ response }) =>
        response.end('{"Parameters":[{"Name":"/app/value","Value":null}],"SecretString":null}'),
      attempts: 1,
      code: 'InvalidAnswer',
      again: 'stale',
      sources: JSON_SERVICES,
    },
    {
      what: 'an empty body',
      inject: ({ response }) => response.end(),
      attempts: 3,
      code: 'InvalidAnswer',
      sources: JSON_SERVICES,
    },
    {
      what: 'an empty object',
      inject: ({ response }) => response.end(),
      attempts: 1,
      value: '',
      sources: [S3],
    },
    {
      what: 'a wrong content type',
      inject: ({ response, whole }) => response.setHeader('content-type', 'text/html').end(whole),
      attempts: 1,
    },
    { what: 'a clock that is an hour behind', inject: skewed(HOUR), attempts: 2 },
    { what: 'a clock that is an hour ahead', inject: skewed(-HOUR), attempts: 2 },
    {
      what: 'an expired token',
      inject: (victim) => refuse(victim, 400, 'ExpiredTokenException'),
      attempts: 1,
      code: 'ExpiredTokenException',
    },
    {
      what: '301 with another region',
      inject: (victim) =>
        victim.request.region !== 'eu-west-1' &&
        refuse(victim, 301, 'PermanentRedirect', { 'x-amz-bucket-region': 'eu-west-1' }),
      attempts: 2,
      sources: [S3],
    },
    {
      what: '301 with another region',
      inject: (victim) =>
        refuse(victim, 301, 'PermanentRedirect', { 'x-amz-bucket-region': 'eu-west-1' }),
      attempts: 1,
      code: 'PermanentRedirect',
      sources: JSON_SERVICES,
    },
    {
      what: '301 without a region',
      inject: (victim) => refuse(victim, 301, 'PermanentRedirect'),
      attempts: 1,
      code: 'PermanentRedirect',
    },
    {
      what: '307',
      inject: ({ request, response }) =>
        response.writeHead(307, { location: request.target }).end(),
      attempts: 3,
      code: 'Http307',
    },
    ...[301, 302, 303, 307, 308].map((status) => ({
      what: `${status} to a foreign host`,
      inject: ({ response }: Victim) => response.writeHead(status, { location: elsewhere }).end(),
      attempts: 3,
      code: `Http${status}`,
    })),
    {
      what: '304 without having asked',
      inject: ({ response }) => response.writeHead(304).end(),
      attempts: 3,
      code: 'Http304',
      sources: JSON_SERVICES,
    },
    {
      what: '304 without having asked',
      inject: ({ response }) => response.writeHead(304).end(),
      attempts: 3,
      code: 'Http304',
      sources: [S3],
      again: 'not modified',
    },
  ]

  for (const {
    what,
    inject,
    fetch: own,
    attempts,
    isThrottling = false,
    code,
    milliseconds = 0,
    sources = SOURCES,
    value: given = `${CANARY}-two`,
    again,
  } of FAULTS) {
    for (const source of sources) {
      test(`${what}: ${source.source}`, async () => {
        elsewhere = await serve(({ headers }, response) => {
          visitors.push(headers)
          return response.end(`${CANARY}-foreign`)
        })
        const closed = await serve(() => {})
        await present(cleanups.pop())()
        const folder = await temporaryFolder()
        const aws = await local()
        let [faulty, calls] = [true, 0]
        aws.intercept = async (request, response) => {
          if (!faulty || !inject) return false
          const victim = {
            source,
            request,
            response,
            attempt: calls,
            whole: await source.answer(`${CANARY}-two`).text(),
          }
          return (await inject(victim)) !== false
        }
        const fetch: Fetch = async (url, init) => {
          calls += 1
          arrived = 0
          const make = (faulty && own) || (globalThis.fetch as Fetch)
          const response = await make(faulty && !inject ? url.replace(aws.url, closed) : url, init)
          const { status, headers, body } = response
          // Throttled with nothing to serve, attempts go on for 10 s.
          if (isThrottling && faulty && !hasValue) pass(1900)
          return { status, headers, body: body && counted(body), text: () => response.text() }
        }
        let hasValue = false
        const file = join(folder, 'value')
        const read = async () =>
          source === S3
            ? readFile(await getObject('s3://bucket/app/value', { file, fetch }), 'utf8')
            : source.read({ fetch })
        const fails = async () => {
          const error = await failure(read(), {
            code: typeof code === 'object' ? code[source.source] : present(code),
            source: source.source,
            id: source.id,
          })
          assertKeepsSecrets(error)
          for (const secret of Object.values(aws.env).slice(2))
            assert.ok(!everythingIn(error).includes(secret))
        }
        const expect = async (
          outcome: string | undefined,
          requests: number,
          time: number,
          warnings: number,
        ) => {
          const [began, lines] = [Date.now(), consoleLines()]
          calls = 0
          await paced(async () =>
            outcome === undefined ? fails() : assert.equal(await read(), outcome),
          )
          assert.deepEqual([calls, Date.now() - began, lines.length], [requests, time, warnings])
        }
        const one = `${CANARY}-one`
        source.put(aws, one)

        await expect(
          code === undefined
            ? what.startsWith('a clock') || what.startsWith('301')
              ? one
              : given
            : undefined,
          isThrottling ? 6 : attempts,
          isThrottling ? 6 * 1900 : milliseconds,
          0,
        )
        hasValue = true
        if (code) assert.deepEqual(await readdir(folder), [])
        else clearCache()
        faulty = false
        await expect(one, 1, 0, 0)
        faulty = true
        source.put(aws, `${CANARY}-two`)
        pass(MINUTE)
        const passing = again === 'stale' || (!again && attempts === 3)
        await expect(
          passing || again ? one : code ? undefined : given,
          again ? 1 : attempts,
          milliseconds,
          Number(passing),
        )
        if (source === S3)
          assert.deepEqual(
            [await readdir(folder), await readFile(file, 'utf8')],
            [['value'], code ? one : given],
          )
        faulty = false
        pass(MINUTE)
        await expect(`${CANARY}-two`, 1, 0, 0)
        assert.deepEqual(visitors, [])
      })
    }
  }
})

// ---- Providers and odd values ----

describeOverBoth('a provider of credentials and a server', () => {
  /** Those that the local AWS knows. */
  function credentialsOf({ env }: LocalAws): Credentials {
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = env
    return {
      accessKeyId: present(AWS_ACCESS_KEY_ID),
      secretAccessKey: present(AWS_SECRET_ACCESS_KEY),
      sessionToken: AWS_SESSION_TOKEN,
    }
  }

  /** Reads that are due together, more than go out at a time. */
  function crowd(count: number): { names: string[]; seed: Record<string, string> } {
    const names = Array.from({ length: count }, (_, index) => `s${index}`)
    return { names, seed: Object.fromEntries(names.map((name) => [name, `value of ${name}`])) }
  }

  test('that never answers holds no place: others are served, and the error names it', async () => {
    const { names, seed } = crowd(25)
    const aws = await local({ secrets: { ...seed, other: 'served' } })
    await turns()
    mockTimeouts()
    const stuck = withCache(() => {}, {
      secrets: names,
      credentials: () => new Promise<never>(() => {}),
    })
    const invocation = failure(stuck({}, contextWith(3000)), { code: 'Timeout' }, '`credentials`')
    await calm()
    mock.timers.tick(SECOND)
    assert.equal(await getSecret('other'), 'served')
    mock.timers.tick(2000)
    await invocation
    assert.equal(aws.requests.length, 1)
  })

  test('that never answers one direct read has the limits of three attempts', async () => {
    const aws = await local({ secrets: { a: 'value' } })
    let calls = 0
    const credentials = () => {
      calls += 1
      return new Promise<never>(() => {})
    }
    const began = Date.now()
    await turns()
    mockTimeouts()
    let settled = false
    const read = failure(getSecret('a', { credentials }), { code: 'Timeout' }, '3 attempts').then(
      () => {
        settled = true
      },
    )
    for (let step = 0; step < 200 && !settled; step += 1) {
      mock.timers.tick(100)
      await turns()
    }
    await read
    const seconds = Math.round((Date.now() - began) / SECOND)
    assert.deepEqual([seconds, calls, aws.requests.length], [10, 3, 0])
  })

  test('may read secrets with another provider, however much is due', async () => {
    const { names, seed } = crowd(25)
    const aws = await local({ secrets: seed })
    const own = credentialsOf(aws)
    aws.putSecret('key-id', own.accessKeyId)
    aws.putSecret('key', own.secretAccessKey)
    const credentials = async () => ({
      ...own,
      accessKeyId: await getSecret('key-id'),
      secretAccessKey: await getSecret('key'),
    })
    const handler = withCache((_: unknown, context) => Reflect.get(context, 's24'), {
      secrets: names,
      credentials,
    })
    assert.equal(await handler({}, contextWith(5 * SECOND)), 'value of s24')
  })

  test('may be waited for by a fetch that reads secrets itself', async () => {
    const { names, seed } = crowd(25)
    await local({ secrets: { ...seed, inner: 'inside' } })
    const inner: string[] = []
    const fetch: Fetch = async (url, init) => {
      inner.push(await getSecret('inner'))
      return callLoopback(url, init)
    }
    const handler = withCache((_: unknown, context) => Reflect.get(context, 's24'), {
      secrets: names,
      fetch,
    })
    assert.equal(await handler({}, contextWith(5 * SECOND)), 'value of s24')
    assert.deepEqual([inner.length, new Set(inner)], [25, new Set(['inside'])])
  })

  test('that fails for a moment is asked again, and failing on costs no value', async () => {
    const aws = await local({ secrets: { a: 'one' } })
    let failuresLeft = 2
    const credentials = () => {
      failuresLeft -= 1
      if (failuresLeft >= 0) throw new Error(`${CANARY}: STS throttles`)
      return credentialsOf(aws)
    }
    const read = () => getSecret('a', { credentials })
    assert.equal(await read(), 'one')
    assert.deepEqual([failuresLeft, aws.requests.length], [-1, 1])
    const lines = consoleLines()
    failuresLeft = Infinity
    pass(MINUTE)
    assert.equal(await read(), 'one')
    assert.equal(lines.length, 1)
    assert.ok(!lines.join().includes(CANARY))
    failuresLeft = 0
    pass(MINUTE)
    assert.equal(await read(), 'one')
    assert.equal(aws.requests.length, 2)
  })
})

describeOverBoth('an answer with other types than AWS documents', () => {
  const WRONG: readonly unknown[] = [1, true, {}, ['text'], null]
  const CASES = WRONG.flatMap((wrong) => [
    [SSM, 'Value', { Parameters: [{ Name: '/app/value', Value: wrong }] }] as const,
    [SSM, 'Parameters', { Parameters: [wrong] }] as const,
    [SECRETS, 'SecretString', { SecretString: wrong }] as const,
  ])
  for (const [source, field, answer] of CASES)
    test(`is no value: ${field} in ${JSON.stringify(answer)}`, async () => {
      const aws = await local()
      source.put(aws, 'right')
      let isWrong = true
      aws.intercept = (_, response) => {
        if (isWrong) response.end(JSON.stringify(answer))
        return isWrong
      }
      await failure(source.read(), { code: 'InvalidAnswer', httpStatus: 200 })
      isWrong = false
      assert.equal(await source.read(), 'right', 'nothing of it was kept')
    })

  const DATES = ['tomorrow', 'Fri, 01 Jan 12026 00:00:00 GMT', '1969-01-01']
  for (const date of DATES)
    test(`corrects no clock by a date that cannot be: '${date}'`, async () => {
      const aws = await local()
      aws.intercept = (_, response) => {
        response
          .writeHead(400, { date })
          .end(
            JSON.stringify({ __type: 'InvalidSignatureException', message: 'Signature expired' }),
          )
        return true
      }
      await failure(SSM.read(), { code: 'InvalidSignatureException' })
      assert.equal(aws.requests.length, 1)
    })

  test('is signed once more where the clock of AWS is exactly this one', async () => {
    const aws = await local()
    aws.intercept = (_, response) => {
      response
        .writeHead(400, { date: new Date(Date.now()).toISOString() })
        .end(JSON.stringify({ __type: 'InvalidSignatureException', message: 'Signature expired' }))
      return true
    }
    await failure(SSM.read(), { code: 'InvalidSignatureException' })
    assert.equal(aws.requests.length, 2)
  })
})

// ---- Hostile surroundings ----

describeOverBoth('hostile surroundings', () => {
  test('gain nothing by a link at the target of a download, or at a temporary name that they guessed', async () => {
    const folder = await temporaryFolder()
    const [file, victim] = [join(folder, 'value'), join(folder, 'victim')]
    await writeFile(victim, 'precious')
    await symlink(victim, file)
    const aws = await local({ objects: { 's3://bucket/value': 'one' } })
    const read = () => getObject('s3://bucket/value', { file, maxAge: 0 })
    mock.method(Math, 'random', () => 0.123)
    let temporary: string[] = []
    aws.intercept = async (_, response) => {
      response.writeHead(200, { 'content-length': 3 }).write('tw')
      while (temporary.length === 0) {
        await turns(1)
        const names = await readdir(folder)
        temporary = names.filter((name) => !['value', 'victim'].includes(name))
      }
      const { mode, nlink } = await lstat(join(folder, present(temporary[0])))
      assert.deepEqual([mode & 0o777, nlink], [0o600, 1])
      response.end('o')
      return true
    }
    await read()
    assert.deepEqual(
      [
        await readFile(file, 'utf8'),
        await readFile(victim, 'utf8'),
        (await lstat(file)).isSymbolicLink(),
      ],
      ['two', 'precious', false],
    )
    assert.ok(
      temporary.length === 1 && present(temporary[0]).includes('-0.123'),
      'the name can be guessed now',
    )
    for (const planted of [victim, join(folder, 'dangling')]) {
      await symlink(planted, join(folder, present(temporary[0])))
      aws.intercept = undefined
      const lines = consoleLines()
      await read()
      assert.match(present(lines[0]), /EEXIST/)
      assert.deepEqual(
        [await readFile(file, 'utf8'), await readFile(victim, 'utf8')],
        ['two', 'precious'],
      )
      await rm(join(folder, present(temporary[0])), { force: true })
    }
    await read()
    assert.deepEqual(
      [await readFile(file, 'utf8'), (await readdir(folder)).sort()],
      ['one', ['value', 'victim']],
    )
  })

  test('gain nothing by names that mean something to JavaScript', async () => {
    const names = [
      '__proto__',
      'constructor',
      'prototype',
      'toString',
      'hasOwnProperty',
      '__defineGetter__',
      'a/__proto__',
    ]
    await local({
      parameters: Object.fromEntries(names.map((name) => [`/app/${name}`, `value of ${name}`])),
    })
    const handler = withCache(async (_: unknown, context) => context.app, {
      ssm: [{ path: '/app', recursive: true, parse: (value: string) => ({ value }) }],
    })
    const tree = await handler({}, lambdaContext())
    assert.deepEqual(
      Object.entries(tree)
        .map(([name, { value }]) => [name, value])
        .sort(),
      names.map((name) => [name, `value of ${name}`]).sort(),
    )
    assert.equal(Object.getPrototypeOf(tree), Object.prototype)
    for (const name of ['value', 'a', 'a/__proto__'])
      assert.equal(Reflect.get({}, name), undefined, 'no object has gained a property')
    const group = withCache(async (_: unknown, context) => context.group, {
      ssm: [{ names: ['/app/__proto__', '/app/toString'], as: 'group' }],
    })
    assert.deepEqual(Object.entries(await group({}, lambdaContext())).sort(), [
      ['__proto__', 'value of __proto__'],
      ['toString', 'value of toString'],
    ])
  })

  const FULL_URIS = [
    'http://169.254.169.254/latest/meta-data/',
    'http://169.254.170.3/c',
    'http://169.254.170.22/c',
    'http://10.0.0.1/c',
    'http://192.168.0.1/c',
    'http://172.17.0.1/c',
    'http://0.0.0.0/c',
    'http://[::]/c',
    'http://169.254.170.2.example.com/c',
    'http://127.0.0.1.example.com/c',
    'http://localhost.example.com/c',
    'http://127.0.0.1.nip.io/c',
    'http://metadata.google.internal/c',
    'http://localtest.me/c',
    'http://127.0.0.1@example.com/c',
    'http://127.0.0.1:80@example.com/c',
    'http://localhost:a@example.com/c',
    'http://[::1]@example.com/c',
    'http://[::ffff:169.254.169.254]/c',
    'http://[fd00:ec2::254]/c',
    'http://2130706433.example.com/c',
    'http://169.254.170.2.',
    'http://127.0.0.1\\@example.com/c',
    'http://127.0.0.1#@example.com/c',
    'http:\\\\example.com/c',
    'ftp://127.0.0.1/c',
    'file:///etc/passwd',
    '//example.com/c',
    ' http://example.com/c',
  ]
  const RELATIVE_URIS = [
    '@example.com/c',
    '.example.com/c',
    ':80@example.com/c',
    '\\@example.com/c',
    '0/c',
    ':a@example.com/c',
  ]
  const URIS = [
    ...FULL_URIS.map((uri) => ['FULL', uri] as const),
    ...RELATIVE_URIS.map((uri) => ['RELATIVE', uri] as const),
  ]
  for (const [variable, uri] of URIS) {
    test(`are not asked for credentials: ${variable} ${uri}`, async () => {
      setEnvironment({
        AWS_REGION: 'us-east-1',
        [`AWS_CONTAINER_CREDENTIALS_${variable}_URI`]: uri,
        AWS_CONTAINER_AUTHORIZATION_TOKEN: `${CANARY}-token`,
      })
      const { fetch, sent } = script(
        reply(200, { AccessKeyId: 'a', SecretAccessKey: 'b', Expiration: '2099-01-01T00:00:00Z' }),
      )
      assertKeepsSecrets(
        await failure(SSM.read({ fetch }), { code: 'NoCredentials', source: 'ssm' }),
      )
      assert.deepEqual(sent, [])
    })
  }

  test('gain no token by a redirect of the credentials endpoint', async () => {
    const visitors: unknown[] = []
    const foreign = await serve(({ headers }, response) => {
      visitors.push(headers)
      return response.end('{"AccessKeyId":"a","SecretAccessKey":"b"}')
    })
    for (const status of [301, 302, 303, 307, 308]) {
      const endpoint = await serve((_, response) =>
        response.writeHead(status, { location: foreign }).end(),
      )
      setEnvironment({
        AWS_REGION: 'us-east-1',
        AWS_CONTAINER_CREDENTIALS_FULL_URI: `${endpoint}/c`,
        AWS_CONTAINER_AUTHORIZATION_TOKEN: `${CANARY}-token`,
      })
      assertKeepsSecrets(await failure(SSM.read(), { code: 'NoCredentials', httpStatus: status }))
    }
    assert.deepEqual(visitors, [])
  })

  const MEBIBYTE = 1024 * 1024
  const FLOODS: readonly [
    what: string,
    status: number,
    headers: Record<string, string | number>,
    source: SourceCase,
  ][] = [
    ...JSON_FLOODS(SSM),
    ...JSON_FLOODS(SECRETS),
    ['an error', 400, {}, SSM],
    ['an error', 404, {}, S3],
  ]
  function JSON_FLOODS(source: SourceCase): (typeof FLOODS)[number][] {
    return [
      ['an answer', 200, {}, source],
      ['an answer that says so', 200, { 'content-length': 100 * MEBIBYTE }, source],
    ]
  }
  for (const [what, status, headers, source] of FLOODS) {
    test(`do not fill the memory with ${what} of 100 MiB: ${source.source}`, async () => {
      const piece = Buffer.alloc(64 * 1024, `${CANARY} `)
      let [sent, peak, requests] = [0, 0, 0]
      const before = buffersUsed(0)
      let closed: Promise<unknown> = Promise.resolve()
      const aws = await local()
      aws.intercept = (_, response) => {
        requests += 1
        sent = 0
        closed = new Promise((resolve) => response.once('close', resolve))
        response.writeHead(status, headers)
        const more = (): void => {
          peak = Math.max(peak, buffersUsed(before + 48 * MEBIBYTE) - before)
          let isRoom = !response.destroyed
          for (; isRoom && sent < 100 * MEBIBYTE; sent += piece.length) {
            isRoom = response.write(piece)
          }
          if (sent >= 100 * MEBIBYTE) response.end()
        }
        response.on('drain', more)
        more()
        return true
      }
      assertKeepsSecrets(
        await failure(source.read(), {
          code: status === 200 ? 'InvalidAnswer' : `Http${status}`,
          source: source.source,
          id: source.id,
        }),
      )
      await closed
      assert.equal(requests, 3)
      assert.equal(sent > 8 * MEBIBYTE, status === 200, 'the beginning of an error says enough')
      assert.ok(sent < 40 * MEBIBYTE, `${sent} bytes went out`)
      assert.ok(peak < 48 * MEBIBYTE, `${peak} bytes were held`)
    })
  }

  test('do not fill the memory with little that unpacks to much', async () => {
    const packed = gzipSync(Buffer.alloc(24 * MEBIBYTE, 'x'))
    const aws = await local()
    aws.intercept = (_, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(packed)
      return true
    }
    const before = buffersUsed(0)
    let [peak, isReading] = [0, true]
    const reading = failure(SSM.read(), { code: 'InvalidAnswer' }).finally(() => {
      isReading = false
    })
    while (isReading) {
      await new Promise(setImmediate)
      peak = Math.max(peak, buffersUsed(before + 20 * MEBIBYTE) - before)
    }
    await reading
    assert.ok(peak < 20 * MEBIBYTE, `${peak} bytes were held`)
  })

  const REGIONS = [
    '',
    'mars',
    'us-east-1',
    'US-EAST-1',
    'eu-west-1.example.com',
    'eu-west-1/',
    'eu-west-1/../..',
    '@example.com',
    'eu-west-1@example.com',
    'eu-west-1#',
    'eu-west-1:80',
    'eu_west_1',
    '..',
    'eu-west-1, eu-west-2',
    'x'.repeat(5000),
  ]
  test('lead nowhere by a region that is none', async () => {
    for (const region of REGIONS) {
      clearCache()
      const { fetch, sent } = script(
        xml(301, 'PermanentRedirect', { 'x-amz-bucket-region': region }),
      )
      await failure(S3.read({ fetch }), { code: 'PermanentRedirect', httpStatus: 301 })
      assert.deepEqual(
        sent.map(({ url }) => url),
        ['https://bucket.s3.us-east-1.amazonaws.com/app/value'],
        region,
      )
    }
  })

  const PARSERS: readonly [what: string, parse: (content: string) => unknown][] = [
    ['JSON', json],
    ['a parser that quotes its input', (content) => assert.equal(content, 'something else')],
    [
      'a parser whose error carries its input',
      (content) => {
        throw Object.assign(new Error('wrong', { cause: content }), {
          content,
          toString: () => content,
        })
      },
    ],
    [
      'a parser that throws its input',
      (content) => {
        throw content
      },
    ],
    [
      'a parser that throws an object',
      (content) => {
        throw { content }
      },
    ],
    [
      'a parser that throws nothing',
      () => {
        throw undefined
      },
    ],
    [
      'a parser that passes for this library',
      (content) => {
        throw new LambdaCacheError(content, { code: content, cause: content })
      },
    ],
  ]
  for (const [what, parse] of PARSERS) {
    test(`see nothing of a value that breaks ${what}`, async () => {
      const lines = consoleLines()
      for (const source of SOURCES) {
        clearCache()
        const aws = await local()
        source.put(aws, `{"password":"${CANARY}-value`)
        const handler = withCache(() => assert.fail('no handler without its values'), {
          ...source.entry({ parse }),
          refreshOn: () => true,
        })
        for (const call of [
          source.read({ parse }),
          handler({}, lambdaContext()),
          handler.prefetch(),
        ]) {
          const error = await failure(call, {
            code: 'ParseError',
            source: source.source,
            id: source.id,
          })
          assertKeepsSecrets(error)
          assert.ok(!inspect(handler, { depth: 10, showHidden: true }).includes(CANARY))
        }
      }
      assert.ok(!lines.join('\n').includes(CANARY))
    })
  }
})

// ---- Chaos ----

describeOverBoth('chaos', () => {
  /** A text that shows whether it is whole. */
  function sealed(version: number): string {
    const body = `${version} ${'x'.repeat(500 + (version % 500))}`
    return `${createHash('sha256').update(body).digest('hex')} ${body}`
  }

  function unsealed(value: string): number {
    const [, seal, body = '', version] = /^(\w+) ((\d+) x+)$/.exec(value) ?? []
    assert.equal(
      createHash('sha256').update(body).digest('hex'),
      seal,
      `torn: ${value.slice(0, 200)}`,
    )
    return Number(version)
  }

  test('2,000 invocations get true values or a clear error, though one call in five fails', async () => {
    consoleLines()
    const rejections: unknown[] = []
    const onRejection = (reason: unknown) => void rejections.push(reason)
    process.on('unhandledRejection', onRejection)
    cleanups.push(() => process.off('unhandledRejection', onRejection))
    const folder = await temporaryFolder()
    const aws = await local()
    const [random, chance] = [seeded(7), seeded(11)]
    // Not by a mock, which would remember every call.
    Math.random = chance
    mockTimeouts()

    /** The time at which each version was put in place of the one before. */
    const history: number[] = []
    const change = (): void => {
      const value = sealed(history.push(Date.now()) - 1)
      for (const source of SOURCES) aws.delete(source.id)
      for (const source of SOURCES) source.put(aws, value)
    }
    change()

    const faults: ((response: ServerResponse) => unknown)[] = [
      (response) => response.socket?.resetAndDestroy(),
      (response) => response.writeHead(500).end(),
      (response) =>
        response.writeHead(400).end('{"__type":"ThrottlingException"}<Code>SlowDown</Code>'),
      () => {},
      (response) =>
        response
          .writeHead(200, { 'content-length': 500 })
          .write('{"Parameters":[{"Name":"/app/value","Value":"', () => response.socket?.end()),
      (response) =>
        response
          .writeHead(200, { 'content-length': 500 })
          .write('x', () => response.socket?.resetAndDestroy()),
      (response) =>
        response.writeHead(403).end('{"__type":"AccessDeniedException"}<Code>AccessDenied</Code>'),
    ]
    let [calls, failed, started] = [0, 0, 0]
    /** Calls that the library waits for, and those of them for which an answer is on its way: the clock waits for these, and for the disk. */
    const [open, arriving] = [new Set<string>(), new Set<string>()]
    aws.intercept = async ({ headers: { 'x-id': id = '' } }, response) => {
      aws.requests.length = 0
      calls += 1
      await turns(Math.floor(random() * 4))
      if (random() >= 0.2) {
        if (open.has(id)) arriving.add(id)
        return false
      }
      present(faults[failed++ % faults.length])(response)
      return true
    }

    const fetch: Fetch = async (url, init) => {
      const id = crypto.randomUUID()
      const end = () => void [open, arriving].map((ids) => ids.delete(id))
      open.add(id)
      // What the library has given up it does not read.
      init.signal.addEventListener('abort', end)
      try {
        const response = await callLoopback(url, {
          ...init,
          headers: { ...init.headers, 'x-id': id },
        })
        const { status, headers, body } = response
        if (status !== 200 || !body) {
          end()
          return response
        }
        return {
          status,
          headers,
          body: ending(body, end),
          text: () => assert.fail('there is a body to read'),
        }
      } catch (error) {
        end()
        throw error
      }
    }

    const KINDS = [
      [0, 1],
      [0.1, 0],
      [0.5, 2],
    ] as const
    const handlers = KINDS.map(([maxAge, staleIfError], index) => {
      const file = join(folder, `${index}`)
      const options = {
        ssm: ['/app/value'],
        secrets: [{ id: 'app/value', as: 'secret' }],
        s3: [
          { uri: 's3://bucket/app/value', parse: text, as: 'object' },
          { uri: 's3://bucket/app/value', file, as: 'file' },
        ],
        maxAge,
        staleIfError,
        fetch,
      } as const
      return withCache(async (began: number, context) => {
        const values = [
          context.value,
          context.secret,
          context.object,
          await readFile(context.file, 'utf8'),
        ]
        for (const value of values) {
          const version = unsealed(value)
          const [from, to = Infinity] = history.slice(version, version + 2)
          const age = began - to
          // And a little for the way from the server to here.
          assert.ok(
            present(from) <= Date.now() && age <= (maxAge + staleIfError + 0.3) * SECOND,
            `${age} ms old, with maxAge ${maxAge} and staleIfError ${staleIfError}`,
          )
        }
        await new Promise((resolve) => setTimeout(resolve, random() * 30))
      }, options)
    })

    const outcomes = { good: 0, failed: 0 }
    const worker = async (last: number): Promise<void> => {
      while (started < last) {
        const handler = present(handlers[started++ % handlers.length])
        try {
          await handler(Date.now(), contextWith(random() < 0.1 ? SECOND : MINUTE))
          outcomes.good += 1
        } catch (error) {
          if (!(error instanceof LambdaCacheError)) throw error
          assertKeepsSecrets(error)
          outcomes.failed += 1
        }
      }
    }
    /** Runs so many invocations, 16 at a time. */
    const runUntil = async (last: number): Promise<number> => {
      let [running, waits] = [true, 0]
      const workers = Promise.all(Array.from({ length: 16 }, () => worker(last))).finally(() => {
        running = false
      })
      workers.catch(() => {})
      while (running) {
        await turns(1)
        const files = readdirSync(folder).filter((file) => !/^\d$/.test(file))
        const writes = process
          .getActiveResourcesInfo()
          .filter((resource) => /^(FS|Close)Req/.test(resource))
        if (arriving.size + files.length + writes.length > 0) {
          // A busy machine gets a minute.
          if (++waits > 10_000) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
          assert.ok(waits < 70_000, `left half-way: ${inspect({ arriving, files, writes })}`)
          continue
        }
        waits = 0
        mock.timers.tick(10)
        if (Date.now() - present(history.at(-1)) >= 50) change()
      }
      await workers
      return heapUsed()
    }
    const early = await runUntil(200)
    const late = await runUntil(2000)

    assert.equal(outcomes.good + outcomes.failed, 2000)
    assert.ok(outcomes.good > 1000 && outcomes.failed > 0, inspect(outcomes))
    assert.ok(
      failed > 100 && failed > calls / 10 && history.length > 50,
      inspect({ calls, failed, changes: history.length }),
    )
    assert.ok(late - early < 8 * 1024 * 1024, `${late - early} bytes more`)
    await calm()
    assert.deepEqual(rejections, [])
    assert.deepEqual((await readdir(folder)).sort(), ['0', '1', '2'], 'no temporary file is left')
    assert.ok(
      process.getActiveResourcesInfo().filter((resource) => resource === 'TCPSocketWrap').length <
        200,
    )
  })

  async function* ending(
    body: AsyncIterable<Uint8Array>,
    end: () => void,
  ): AsyncGenerator<Uint8Array> {
    try {
      yield* body
    } finally {
      end()
    }
  }
})
