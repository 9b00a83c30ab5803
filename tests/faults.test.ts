/** Faults between the file and AWS, over real sockets. */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import type { LocalRequest } from '../examples/local-aws.js'
import { clearCache, type Fetch, getObject, type Source } from '../lambda-cache.js'
import {
  assertKeepsSecrets,
  CANARY,
  calm,
  cleanups,
  consoleLines,
  describeOverBoth,
  everythingIn,
  failure,
  HOUR,
  local,
  MINUTE,
  paced,
  pass,
  present,
  S3,
  SECOND,
  SECRETS,
  SOURCES,
  type SourceCase,
  SSM,
  serve,
  temporaryFolder,
  unreachable,
  until,
} from './kit.js'

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
