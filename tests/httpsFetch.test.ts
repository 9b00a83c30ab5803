/** `fetch` over `node:https`. */
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { describe, mock, test } from 'node:test'
import { inspect, promisify } from 'node:util'
import zlib, { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { buildSync } from 'esbuild'
import {
  clearCache,
  type Fetch,
  type FetchResponse,
  getObject,
  getSecret,
  httpsFetch,
} from '../lambda-cache.js'
import {
  assertKeepsSecrets,
  CANARY,
  calm,
  cleanups,
  describeOverBoth,
  failure,
  local,
  present,
  S3,
  SSM,
  serve,
  TRANSPORTS,
  temporaryFolder,
  text,
  transport,
  until,
} from './kit.js'
import { HANGS, MEBIBYTE, ROOT } from './remote.js'

describe('httpsFetch', () => {
  /** A call as the library makes it, and what aborts it. */
  function call(url: string, init: Partial<Parameters<Fetch>[1]> = {}) {
    const controller = new AbortController()
    const response = httpsFetch(url, {
      method: 'GET',
      headers: {},
      redirect: 'manual',
      signal: controller.signal,
      ...init,
    })
    response.catch(() => {})
    return { response, abort: () => controller.abort() }
  }

  async function contentOf({ body }: Pick<FetchResponse, 'body'>): Promise<string> {
    const pieces: Uint8Array[] = []
    for await (const piece of present(body)) pieces.push(piece)
    return Buffer.concat(pieces).toString()
  }

  /** A certificate for localhost that nobody has signed. */
  function certificate(folder: string): { key: Buffer; cert: Buffer } {
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
        '-keyout',
        key,
        '-out',
        cert,
        ...subject,
      ],
      { stdio: 'pipe' },
    )
    return { key: readFileSync(key), cert: readFileSync(cert) }
  }

  /** A server on loopback that nobody trusts, unless they trust its certificate. */
  async function serveSecurely(listener: RequestListener) {
    const { key, cert } = certificate(await temporaryFolder())
    const server = https.createServer({ key, cert }, listener)
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve))
    cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
    return { server, cert, url: `https://localhost:${(server.address() as AddressInfo).port}` }
  }

  function trust(cert: Buffer): void {
    https.globalAgent.options.ca = cert
    cleanups.push(() => {
      delete https.globalAgent.options.ca
      https.globalAgent.destroy()
    })
  }

  const hasOpenssl = (() => {
    try {
      return execFileSync('openssl', ['version'], { stdio: 'pipe' }).length > 0
    } catch {
      return false
    }
  })()
  const TLS = { skip: !hasOpenssl && 'no openssl here' }

  test('loses nothing to an agent that listens to the data of every response', async () => {
    const http = process.getBuiltinModule('node:http')
    const { request } = http
    const heard: Buffer[] = []
    mock.method(http, 'request', (...given: Parameters<typeof request>) =>
      request(...given).on('response', (response) =>
        response.on('data', (chunk: Buffer) => void heard.push(chunk)),
      ),
    )
    for (const [headers, content] of [
      [{ 'content-length': 4 }, Buffer.from('text')],
      [{}, Buffer.from('text')],
      [{ 'content-encoding': 'gzip' }, gzipSync('text')],
    ] as const) {
      process.env.AWS_ENDPOINT_URL = await serve((_, response) =>
        response.writeHead(200, headers).end(content),
      )
      heard.length = 0
      clearCache()
      assert.equal(await getObject('s3://bucket/key', { parse: text, fetch: httpsFetch }), 'text')
      assert.deepEqual(Buffer.concat(heard), content)
    }
  })

  describeOverBoth('as fetch does', () => {
    const send = (url: string, init: Partial<Parameters<Fetch>[1]> = {}) =>
      TRANSPORTS[transport](url, {
        method: 'GET',
        headers: {},
        redirect: 'manual',
        signal: new AbortController().signal,
        ...init,
      })

    test('gives status and headers, whatever their case, and those that come twice as one', async () => {
      const url = await serve((_, response) =>
        response
          .writeHead(418, { 'X-Once': 'one', ETag: ['"a"', '"b"'], 'x-twice': ['one', 'two'] })
          .end(),
      )
      const { status, headers } = await send(url)
      assert.equal(status, 418)
      assert.deepEqual(
        ['x-once', 'X-TWICE', 'etag', 'x-none', 'constructor'].map((name) => headers.get(name)),
        ['one', 'one, two', '"a", "b"', null, null],
      )
    })

    /** Each with what takes the place of `text`. */
    const ENCODED: readonly [encoding: string, content: Buffer, comesTo?: string][] = [
      ...['gzip', 'GZIP', 'x-gzip'].map((encoding): (typeof ENCODED)[number] => [
        encoding,
        gzipSync('text'),
      ]),
      ['deflate', deflateSync('text')],
      ['deflate', deflateRawSync('text')],
      ['Br', brotliCompressSync('text')],
      ['gzip', Buffer.concat([gzipSync('te'), gzipSync('xt')])],
      ...['gzip', 'deflate', 'br'].map((encoding): (typeof ENCODED)[number] => [
        encoding,
        Buffer.alloc(0),
        '',
      ]),
      ...['utf-8', 'identity', 'aws-chunked', '__proto__', 'constructor', ''].map(
        (encoding): (typeof ENCODED)[number] => [encoding, Buffer.from('text')],
      ),
      ['gzip, br', brotliCompressSync(gzipSync('text'))],
      ['br ,GZIP', gzipSync(brotliCompressSync('text'))],
      ['deflate, x-gzip, gzip', gzipSync(gzipSync(deflateSync('text')))],
      ['gzip, deflate', deflateRawSync(gzipSync('text'))],
      ...['gzip, none', 'none, gzip', 'gzip,'].map((encoding): (typeof ENCODED)[number] => [
        encoding,
        gzipSync('text'),
        gzipSync('text').toString('latin1'),
      ]),
      ['gzip', gzipSync('text').subarray(0, -8)],
    ]
    for (const [index, [encoding, content, comesTo = 'text']] of ENCODED.entries()) {
      test(`takes off the content-encoding ${inspect(encoding)} (${index})`, async () => {
        const url = await serve((_, response) =>
          response
            .writeHead(200, { 'content-encoding': encoding, 'content-length': content.length })
            .end(content),
        )
        const pieces: Uint8Array[] = []
        for await (const piece of (await send(url)).body ?? []) pieces.push(piece)
        assert.equal(Buffer.concat(pieces).toString('latin1'), comesTo)
      })
    }

    for (const [encoding, content] of [
      ['gzip', 'no gzip'],
      ['br', 'no brotli'],
      ['gzip', deflateSync('text')],
    ] as const) {
      test(`says of a body that it cannot be decoded: ${encoding}, ${content.length} bytes`, async () => {
        const url = await serve((_, response) =>
          response.writeHead(200, { 'content-encoding': encoding }).end(content),
        )
        process.env.AWS_ENDPOINT_URL = url
        const folder = await temporaryFolder()
        for (const options of [{ binary: true }, { file: join(folder, 'object') }]) {
          await failure(
            getObject('s3://bucket/key', options),
            { code: 'InvalidAnswer', httpStatus: 200 },
            'decode',
          )
        }
        assert.deepEqual(await readdir(folder), [])
      })
    }

    test('gives the body as text, as JSON and piece by piece', async () => {
      const url = await serve((_, response) => {
        response.write('\ufeff{"text":"\u{1f680}')
        response.end('"}')
      })
      assert.equal(await (await send(url)).text(), '{"text":"\u{1f680}"}')
      assert.deepEqual(await (await send(url)).json(), { text: '\u{1f680}' })
      assert.equal(await contentOf(await send(url)), '\ufeff{"text":"\u{1f680}"}')
    })

    for (const status of [200, 204, 304]) {
      test(`gives an empty text for HTTP ${status} without a body`, async () => {
        const url = await serve((_, response) => response.writeHead(status).end())
        assert.equal(await (await send(url)).text(), '')
      })
    }

    test('sends method, path, headers and body as they are, and the length', async () => {
      let [line, body]: [string[], string] = [[], '']
      const url = await serve(async (request, response) => {
        const { method, url: path, headers } = request
        line = [
          method,
          path,
          headers.host,
          headers['x-header'],
          headers['content-length'],
          headers['transfer-encoding'],
        ].map(String)
        for await (const piece of request) body += piece
        response.end()
      })
      await (
        await send(`${url}//a/%41%2f?b=%20&c`, {
          method: 'POST',
          headers: { 'X-Header': 'one, two' },
          body: 'h\u00e9',
        })
      ).text()
      assert.deepEqual(
        [line, body],
        [
          ['POST', '//a/%41%2f?b=%20&c', new URL(url).host, 'one, two', '3', 'undefined'],
          'h\u00e9',
        ],
      )
    })

    test('calls an address of IPv6', async (t) => {
      const server = createServer(({ headers }, response) => response.end(headers.host))
      const isThere = await new Promise((resolve) =>
        server.once('error', () => resolve(false)).listen(0, '::1', () => resolve(true)),
      )
      if (!isThere) return t.skip('no IPv6 here')
      cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
      const host = `[::1]:${(server.address() as AddressInfo).port}`
      assert.equal(await (await send(`http://${host}/`)).text(), host)
    })

    test('reads nothing ahead without bound', async () => {
      const size = 64 * MEBIBYTE
      let [sent, stalls] = [0, 0]
      const url = await serve((_, response) => {
        const piece = Buffer.alloc(64 * 1024)
        const more = (): void => {
          stalls = 0
          for (let isRoom = true; isRoom && sent < size; sent += piece.length)
            isRoom = response.write(piece)
          if (sent >= size) response.end()
        }
        response.on('drain', more)
        more()
      })
      const before = process.memoryUsage().arrayBuffers
      const response = await send(url)
      while (++stalls < 50) await calm()
      assert.ok(sent < size / 2, `${sent} bytes went out that nobody reads`)
      assert.ok(process.memoryUsage().arrayBuffers - before < size / 4)
      let read = 0
      // Node's fetch drops the body of a response that nobody holds any more.
      for await (const piece of present(response.body)) read += piece.length
      assert.equal(read, size)
    })

    test('asks once where a header cannot be sent, and does not show it', async () => {
      const aws = await local()
      process.env.AWS_SESSION_TOKEN = `${CANARY}-\u{1f680}`
      assertKeepsSecrets(await failure(SSM.read(), { code: 'RequestFailed', source: 'ssm' }))
      assert.equal(aws.requests.length, 0)
    })

    test('asks once where a certificate is not trusted', TLS, async () => {
      const { server, url } = await serveSecurely((_, response) => response.end('{}'))
      let handshakes = 0
      server
        .on('tlsClientError', () => {
          handshakes += 1
        })
        .on('secureConnection', () => {
          handshakes += 1
        })
      process.env.AWS_ENDPOINT_URL = url
      assertKeepsSecrets(
        await failure(
          SSM.read({ fetch: TRANSPORTS[transport] }),
          { code: 'RequestFailed', source: 'ssm' },
          'SELF_SIGNED',
        ),
      )
      await until(() => handshakes > 0)
      await calm()
      assert.equal(handshakes, 1)
    })
  })

  test('uses a connection again, though every exchange ends with an abort', async () => {
    const ports = new Set<number | undefined>()
    const url = await serve((request, response) => {
      ports.add(request.socket.remotePort)
      request
        .resume()
        .on('end', () => response.end('{"Parameters":[{"Name":"/app/value","Value":"value"}]}'))
    })
    process.env.AWS_ENDPOINT_URL = url
    for (let time = 0; time < 5; time += 1)
      assert.equal(await SSM.read({ maxAge: 0, fetch: httpsFetch }), 'value')
    assert.equal(ports.size, 1)
  })

  test("takes off zstd where Node's fetch does", {
    skip: 'zstdCompressSync' in zlib ? false : 'not in this Node',
  }, async () => {
    const content = Reflect.apply(
      Reflect.get(zlib, 'zstdCompressSync') as (text: string) => Buffer,
      zlib,
      ['text'],
    )
    const url = await serve((_, response) =>
      response.writeHead(200, { 'content-encoding': 'zstd' }).end(content),
    )
    const init = {
      method: 'GET',
      headers: {},
      redirect: 'manual',
      signal: new AbortController().signal,
    } as const
    const { body } = await httpsFetch(url, init)
    const own = await fetch(url, init)
    assert.deepEqual(
      await buffer(body as AsyncIterable<Uint8Array>),
      Buffer.from(await own.arrayBuffer()),
    )
  })

  test('fails for more codings than fetch undoes', async () => {
    const codings = Array(6).fill('gzip').join()
    const url = await serve((_, response) =>
      response.writeHead(200, { 'content-encoding': codings }).end(gzipSync('text')),
    )
    process.env.AWS_ENDPOINT_URL = url
    await failure(S3.read({ fetch: httpsFetch }), { code: 'NetworkError', source: 's3' })
  })

  for (const pieces of [1, 2])
    test(`survives an abort of a body of which ${pieces} of 2 pieces are read`, async () => {
      const url = await serve((_, response) => {
        response.writeHead(200, { 'content-length': 8 }).write('half')
        setTimeout(() => response.end('half'), 10)
      })
      const controller = new AbortController()
      const { signal } = controller
      const init = { method: 'GET', headers: {}, redirect: 'manual', signal } as const
      const { body } = await httpsFetch(url, init)
      const iterator = (body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]()
      for (let piece = 0; piece < pieces; piece += 1) await iterator.next()
      controller.abort()
      // An error that nobody listens to would end the process.
      await new Promise((resolve) => setTimeout(resolve, 30))
      await assert.rejects(iterator.next())
    })

  const DEAD: readonly [what: string, treat: (socket: Socket) => unknown][] = [
    ['reset', (socket) => socket.resetAndDestroy()],
    ['closed', (socket) => socket.destroy()],
    ['silent', () => {}],
  ]
  for (const [what, treat] of DEAD) {
    test(`spends one attempt on connections that died in a freeze, ${what}, however many there are`, async () => {
      let [dead, requests] = [new Set<Socket>(), 0]
      const sockets = new Set<Socket>()
      const url = await serve(({ socket }, response) => {
        requests += 1
        sockets.add(socket)
        if (dead.has(socket)) return void treat(socket)
        setImmediate(() => response.end('{"SecretString":"value"}'))
      })
      process.env.AWS_ENDPOINT_URL = url
      const read = (id: string) => getSecret(id, { maxAge: 0, fetch: httpsFetch })
      await Promise.all(Array.from({ length: 8 }, (_, index) => read(`${index}`)))
      assert.equal(sockets.size, 8)
      ;[dead, requests] = [new Set(sockets), 0]
      mock.timers.reset()
      assert.deepEqual(await Promise.all(['a', 'b'].map(read)), ['value', 'value'])
      assert.ok(requests <= 4, `${requests} requests`)
      await read('c')
      assert.ok(requests <= 5, `${requests} requests`)
    })
  }

  test('speaks TLS, over one connection', TLS, async () => {
    const ports = new Set<number | undefined>()
    const { url, cert } = await serveSecurely(({ socket }, response) => {
      ports.add(socket.remotePort)
      response.end('value')
    })
    trust(cert)
    process.env.AWS_ENDPOINT_URL = url
    for (let time = 0; time < 5; time += 1)
      assert.equal(await S3.read({ maxAge: 0, fetch: httpsFetch }), 'value')
    assert.equal(ports.size, 1)
  })

  test('lets no broken connection pass for a disk that cannot be written', TLS, async () => {
    const { url, cert } = await serveSecurely(({ socket }, response) =>
      response
        .writeHead(200, { 'content-length': 100 })
        .write('half of it', () => socket.destroy()),
    )
    trust(cert)
    process.env.AWS_ENDPOINT_URL = url
    await failure(
      getObject(S3.id, { file: join(await temporaryFolder(), 'object'), fetch: httpsFetch }),
      { code: 'NetworkError' },
    )
  })

  const CUTS: readonly [
    how: string,
    headers: Record<string, number>,
    cut: (response: ServerResponse) => unknown,
  ][] = [
    ['before its length', { 'content-length': 100 }, (response) => response.socket?.end()],
    ['before the last chunk', {}, (response) => response.socket?.end()],
    ['with a chunk that is none', {}, (response) => response.socket?.write('none\r\n')],
    ['with a reset', {}, (response) => response.socket?.resetAndDestroy()],
  ]
  for (const [how, headers, cut] of CUTS) {
    for (const isLate of [false, true]) {
      test(`gives no part of a body for the whole: ended ${how}, ${isLate ? 'before' : 'while'} it is read`, async () => {
        let closed = false
        const url = await serve(async ({ socket }, response) => {
          socket.once('close', () => {
            closed = true
          })
          response.writeHead(200, headers).write('half of it')
          // By then it is being read, unless the reader waits for the end.
          await calm()
          cut(response)
        })
        const response = await call(url).response
        if (isLate) await until(() => closed)
        if (isLate) await calm()
        await assert.rejects(contentOf(response), { code: 'ECONNRESET' })
      })
    }
  }

  /** A server that shows how far it has come: to a request, to a half of the answer, or to all of it. */
  async function serveUntil(moment: 'request' | 'half' | 'all') {
    const seen: IncomingMessage[] = []
    let closed = 0
    const url = await serve((request, response) => {
      seen.push(request)
      request.socket.once('close', () => {
        closed += 1
      })
      if (moment !== 'request') response.write('half of it')
      if (moment === 'all') response.end('the rest')
    })
    return {
      url,
      hasCome: () => until(() => seen.length > 0),
      isClosed: () => until(() => closed > 0),
      closed: () => closed,
    }
  }

  /** What comes out of order, to whoever looks for it. */
  function unhandled(): unknown[] {
    const errors: unknown[] = []
    const note = (error: unknown): void => void errors.push(error)
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
      process.on(event, note)
      cleanups.push(() => process.off(event, note))
    }
    return errors
  }

  test('ends with an abort before the headers', async () => {
    const errors = unhandled()
    const { url, hasCome, isClosed } = await serveUntil('request')
    const early = call(url)
    early.abort()
    await assert.rejects(early.response, { name: 'AbortError' })
    const { response, abort } = call(url)
    await hasCome()
    abort()
    await assert.rejects(response, { name: 'AbortError' })
    await isClosed()
    assert.deepEqual(errors, [])
  })

  test('ends with an abort while the body comes', async () => {
    const errors = unhandled()
    const { url, isClosed } = await serveUntil('half')
    const { response, abort } = call(url)
    const content = contentOf(await response)
    await calm()
    abort()
    await assert.rejects(content)
    await isClosed()
    assert.deepEqual(errors, [])
  })

  test('ends with an abort where nobody reads the body, and gives no part of it for the whole', async () => {
    const errors = unhandled()
    for (const moment of ['half', 'all'] as const) {
      const { url, isClosed } = await serveUntil(moment)
      const { response, abort } = call(url)
      const unread = await response
      await calm()
      abort()
      await isClosed()
      await calm()
      await assert.rejects(contentOf(unread), moment)
    }
    assert.deepEqual(errors, [])
  })

  test('keeps its connection where an abort comes after the end', async () => {
    const errors = unhandled()
    const { url, closed } = await serveUntil('all')
    const { response, abort } = call(url)
    assert.equal(await contentOf(await response), 'half of itthe rest')
    abort()
    await calm()
    assert.equal(closed(), 0)
    assert.deepEqual(errors, [])
  })

  /** The file as a bundler makes it of an entry, minified. */
  function bundle(entry: string): string {
    const stdin = { contents: entry, resolveDir: ROOT, loader: 'ts' as const }
    return present(
      buildSync({
        stdin,
        bundle: true,
        write: false,
        minify: true,
        platform: 'node',
        format: 'esm',
      }).outputFiles[0],
    ).text
  }

  /** Runs a module in a process of its own, to its end. */
  async function run(code: string, environment: Record<string, string> = {}): Promise<string> {
    const file = join(await temporaryFolder(), 'module.mjs')
    await writeFile(file, code)
    const { stdout } = await promisify(execFile)(process.execPath, [file], {
      env: { ...process.env, ...environment },
      timeout: HANGS.timeout,
    })
    return stdout
  }

  test('holds no process back once a call has ended or is aborted', async () => {
    const [request, half, all] = [
      await serveUntil('request'),
      await serveUntil('half'),
      await serveUntil('all'),
    ]
    const code = `import { httpsFetch } from './lambda-cache.ts'
      const call = (url) => {
        const controller = new AbortController()
        return [httpsFetch(url, { method: 'GET', headers: {}, redirect: 'manual', signal: controller.signal }), () => controller.abort()]
      }
      const [read] = call('${all.url}')
      await (await read).text()
      const [waiting, stop] = call('${request.url}')
      setTimeout(stop, 20)
      await waiting.catch(() => {})
      for (const url of ['${half.url}', '${all.url}']) {
        const [response, abort] = call(url)
        await response
        abort()
      }
      console.log('done')`
    assert.equal(await run(bundle(code)), 'done\n')
  })

  test('is left out of a bundle that does not use it', () => {
    const size = (code: string): number => execFileSync('gzip', ['-9'], { input: code }).length
    const [without, used] = ['withCache', 'withCache, httpsFetch'].map((names) =>
      bundle(`export { ${names} } from './lambda-cache.ts'`),
    ) as [string, string]
    assert.doesNotMatch(without, /node:https?"/)
    assert.match(used, /"https"/)
    assert.ok(size(used) - size(without) <= 768, `${size(used) - size(without)} bytes more`)
  })

  test('has nothing of Node to load but internals in the first invocation', TLS, async () => {
    const { url, cert } = await serveSecurely((_, response) => response.end('value'))
    const authority = join(await temporaryFolder(), 'authority.pem')
    await writeFile(authority, cert)
    const code = bundle(`import { httpsFetch as fetch, withCache } from './lambda-cache.ts'
      const options = { s3: [{ uri: 's3://bucket/key', parse: String }], fetch }
      const handler = withCache((_, { key }) => key, options)
      const before = new Set(process.moduleLoadList)
      const value = await handler({}, {})
      const news = process.moduleLoadList.filter((name) => !before.has(name))
      console.log(value, news.filter((name) => !/ internal\\//.test(name)).join())`)
    const environment = { AWS_ENDPOINT_URL: url, NODE_EXTRA_CA_CERTS: authority }
    assert.equal(await run(code, environment), 'value \n')
  })

  test("loads nothing of fetch's", TLS, async () => {
    const { url, cert } = await serveSecurely((_, response) => response.end('value'))
    const authority = join(await temporaryFolder(), 'authority.pem')
    await writeFile(authority, cert)
    const look = (fetch: string): string =>
      bundle(`import { getObject, httpsFetch } from './lambda-cache.ts'
      console.log(await getObject('s3://bucket/key', { parse: String, fetch: ${fetch} }), process.moduleLoadList.some((name) => /undici/.test(name)))`)
    const environment = { AWS_ENDPOINT_URL: url, NODE_EXTRA_CA_CERTS: authority }
    assert.equal(await run(look('httpsFetch'), environment), 'value false\n')
    assert.equal(await run(look('fetch'), environment), 'value true\n')
  })
})
