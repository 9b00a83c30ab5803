/**
 * Objects that are stored with a content-encoding: what Node's `fetch` and `httpsFetch` make of each is the same, on every Node.js.
 */

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import zlib, { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import type { Outcomes } from './decoding.js'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const TIMEOUT = 60_000
const NODES: Readonly<Record<string, string>> = {
  // That of npm, where this runs in one of its scripts.
  ...(process.env.npm_node_execpath && { 'the oldest': process.env.npm_node_execpath }),
  22: here('../node_modules/node22/bin/node'),
  24: here('../node_modules/node24/bin/node'),
  26: here('../node_modules/node26/bin/node'),
}

// Node.js 22 has it, the types of 20 have not.
const { zstdCompressSync } = zlib as unknown as { zstdCompressSync(bytes: string | Buffer): Buffer }

const TEXT = 'the content of an object '.repeat(100)
const MORE = 'and more of it '.repeat(100)
const bytes = Buffer.from(TEXT)
const times = (count: number): Buffer =>
  Array.from({ length: count }).reduce<Buffer>((body) => gzipSync(body), bytes)
const cut = (body: Buffer): Buffer => body.subarray(0, body.length - 20)
const list = (count: number): string => Array(count).fill('gzip').join(', ')

/** An object as it is stored. */
interface Stored {
  readonly coding: string
  readonly body: Buffer
}

const STORED: Readonly<Record<string, Stored>> = {
  identity: { coding: 'identity', body: bytes },
  'a coding that nobody knows': { coding: 'foo', body: bytes },
  compress: { coding: 'compress', body: bytes },
  'no name': { coding: '', body: bytes },
  gzip: { coding: 'gzip', body: gzipSync(bytes) },
  'x-gzip': { coding: 'x-gzip', body: gzipSync(bytes) },
  'gzip in capitals': { coding: 'GZIP', body: gzipSync(bytes) },
  br: { coding: 'br', body: brotliCompressSync(bytes) },
  'deflate with a header': { coding: 'deflate', body: deflateSync(bytes) },
  'deflate without one': { coding: 'deflate', body: deflateRawSync(bytes) },
  'gzip twice': { coding: list(2), body: times(2) },
  'gzip and br': { coding: 'gzip, br', body: brotliCompressSync(gzipSync(bytes)) },
  'gzip five times': { coding: list(5), body: times(5) },
  'gzip six times': { coding: list(6), body: times(6) },
  'aws-chunked and gzip': { coding: 'aws-chunked,gzip', body: gzipSync(bytes) },
  'identity and gzip': { coding: 'identity, gzip', body: gzipSync(bytes) },
  'gzip and identity': { coding: 'gzip, identity', body: gzipSync(bytes) },
  'gzip and nothing': { coding: 'gzip,', body: gzipSync(bytes) },
  'gzip with a weight': { coding: 'gzip;q=1', body: gzipSync(bytes) },
  'gzip of two members': {
    coding: 'gzip',
    body: Buffer.concat([gzipSync(bytes), gzipSync(MORE)]),
  },
  'gzip and text behind it': {
    coding: 'gzip',
    body: Buffer.concat([gzipSync(bytes), Buffer.from('text')]),
  },
  'gzip and zeros behind it': {
    coding: 'gzip',
    body: Buffer.concat([gzipSync(bytes), Buffer.alloc(8)]),
  },
  'gzip that is cut': { coding: 'gzip', body: cut(gzipSync(bytes)) },
  'gzip of nothing at all': { coding: 'gzip', body: Buffer.alloc(0) },
  'br and text behind it': {
    coding: 'br',
    body: Buffer.concat([brotliCompressSync(bytes), Buffer.from('text')]),
  },
  'br that is cut': { coding: 'br', body: cut(brotliCompressSync(bytes)) },
  'br of nothing at all': { coding: 'br', body: Buffer.alloc(0) },
  'deflate that is cut': { coding: 'deflate', body: cut(deflateSync(bytes)) },
  'deflate of nothing at all': { coding: 'deflate', body: Buffer.alloc(0) },
  zstd: { coding: 'zstd', body: zstdCompressSync(bytes) },
  'zstd in two frames': {
    coding: 'zstd',
    body: Buffer.concat([zstdCompressSync(bytes), zstdCompressSync(MORE)]),
  },
  'zstd and text behind it': {
    coding: 'zstd',
    body: Buffer.concat([zstdCompressSync(bytes), Buffer.from('text')]),
  },
  'zstd that is cut': { coding: 'zstd', body: cut(zstdCompressSync(bytes)) },
  'zstd of nothing at all': { coding: 'zstd', body: Buffer.alloc(0) },
}

const digests = {
  [digest(bytes)]: 'decoded',
  [digest(Buffer.alloc(0))]: 'nothing',
  [digest(Buffer.from(TEXT + MORE))]: 'decoded, both parts',
}

describe('objects with a content-encoding', () => {
  const paths = Object.keys(STORED)
  const server = createServer(({ url = '' }, response) => {
    const { coding, body } = STORED[paths[Number(url.slice(1))] as string] as Stored
    response.writeHead(200, { 'content-encoding': coding, 'content-length': body.length }).end(body)
  })
  before(() => once(server.listen(0, '127.0.0.1'), 'listening'))
  after(() => {
    server.closeAllConnections()
    return once(server.close(), 'close')
  })

  for (const [node, program] of Object.entries(NODES)) {
    test(`are the same over both transports, on Node.js ${node}`, async () => {
      const outcomes = await outcomesOn(program, (server.address() as AddressInfo).port)
      const different = Object.entries(outcomes)
        .filter(([, outcome]) => outcome.fetch !== outcome.httpsFetch)
        .map(([stored, outcome]) => `${stored}: ${outcome.fetch}, and ${outcome.httpsFetch}`)
      assert.deepEqual(different, [])
    })
  }

  async function outcomesOn(program: string, port: number): Promise<Outcomes> {
    const args = [here('decoding.ts'), `http://127.0.0.1:${port}`, ...paths.keys()].map(String)
    const { stdout } = await promisify(execFile)(program, ['--import', 'tsx', ...args], {
      cwd: here('..'),
      timeout: TIMEOUT,
    })
    const outcomes = JSON.parse(stdout) as Outcomes
    return Object.fromEntries(
      Object.entries(outcomes).map(([index, byTransport]) => {
        const stored = paths[Number(index)] as string
        const raw = digest((STORED[stored] as Stored).body)
        const named = Object.entries(byTransport).map(([transport, found]) => [
          transport,
          digests[found] ?? (found === raw ? 'as it is stored' : found),
        ])
        return [stored, Object.fromEntries(named)]
      }),
    )
  }
})

function digest(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}
