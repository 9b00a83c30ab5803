/** Hostile surroundings, and chaos. */
import assert from 'node:assert/strict'
import crypto, { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { lstat, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { inspect } from 'node:util'
import { gzipSync } from 'node:zlib'
import {
  clearCache,
  type Fetch,
  getObject,
  json,
  LambdaCacheError,
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
  failure,
  lambdaContext,
  local,
  MINUTE,
  mockTimeouts,
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
  xml,
} from './kit.js'

describeOverBoth('hostile surroundings', () => {
  test('gain nothing by a link at the target of a download, or at a temporary name that they guessed', async () => {
    const folder = await temporaryFolder()
    const [file, victim] = [join(folder, 'value'), join(folder, 'victim')]
    await writeFile(victim, 'precious')
    await symlink(victim, file)
    const aws = await local({ objects: { 's3://bucket/value': 'one' } })
    const read = () => getObject('s3://bucket/value', { file, maxAge: 0 })
    const guess = crypto.randomUUID()
    mock.method(crypto, 'randomUUID', () => guess)
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
      temporary.length === 1 && present(temporary[0]).endsWith(`-${guess}`),
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
