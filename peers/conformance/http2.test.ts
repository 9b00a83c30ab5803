/**
 * From Node.js 26 on, `fetch` speaks HTTP/2 wherever the server does, and goes on using a connection that has gone silent. After an
 * attempt in vain, the library's next one reaches a new connection, through whatever `fetch` would have gone through.
 */

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { CREDENTIALS, freePort, REGION } from './kit.js'
import type { Report } from './silent.js'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const TIMEOUT = 60_000
/** What `fetch` speaks with a server that offers both, and how many idle connections it has after one read. */
const NODES = [
  ['node24', '1.1', 1],
  ['node26', '2.0', 0],
] as const

const folder = mkdtempSync(join(tmpdir(), 'lambda-cache-h2-'))
after(() => rmSync(folder, { recursive: true }))
// Before anything is described: that is over before a hook is called.
execFileSync(
  'openssl',
  [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'],
    ...['-addext', 'subjectAltName=DNS:localhost'],
    ...['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem')],
  ],
  { stdio: 'pipe' },
)

for (const [node, version, idle] of NODES) {
  describe(`a connection that goes silent, on ${node}`, () => {
    test('costs one attempt, and no later read', async () => {
      const { values, inVain } = await run(node, 'silence')
      assert.deepEqual(values, [version, '1.1', '1.1', '1.1'])
      assert.ok(inVain <= idle, `${inVain} attempts in vain`)
    })

    test('costs one attempt through a proxy, and the next goes there, too', async () => {
      const port = String(await freePort())
      const { values, tunnels } = await run(node, 'proxy', {
        NODE_USE_ENV_PROXY: '1',
        https_proxy: `http://127.0.0.1:${port}`,
        PROXY_PORT: port,
      })
      assert.deepEqual(values, [version, '1.1'])
      assert.equal(tunnels, 2)
    })

    test("does not lead around undici's MockAgent", async () => {
      assert.deepEqual((await run(node, 'mock')).values, ['mocked'])
    })

    test('does not lead around a fetch that is stubbed', async () => {
      assert.deepEqual((await run(node, 'stub')).values, ['stub, call 2'])
    })
  })
}

async function run(
  node: string,
  what: string,
  variables: Readonly<Record<string, string>> = {},
): Promise<Report> {
  const { stdout } = await promisify(execFile)(
    here(`../node_modules/${node}/bin/node`),
    ['--import', 'tsx', here('silent.ts'), what, folder],
    {
      cwd: here('..'),
      timeout: TIMEOUT,
      env: {
        PATH: process.env.PATH,
        NODE_EXTRA_CA_CERTS: join(folder, 'cert.pem'),
        AWS_REGION: REGION,
        AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
        AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
        ...variables,
      },
    },
  )
  return JSON.parse(stdout) as Report
}
