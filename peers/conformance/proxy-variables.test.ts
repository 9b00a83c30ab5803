/** Where NODE_USE_ENV_PROXY is set, Node's `fetch` and `node:https` read the variables in ways of their own: what the README says of it. */

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { CREDENTIALS, FETCHES, REGION } from './kit.js'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const TIMEOUT = 60_000
const NODES = ['node24', 'node26']

/** Which transports go through the proxy, from whose address the variables are made. */
const CASES: readonly (readonly [
  what: string,
  variables: (proxy: string) => Readonly<Record<string, string>>,
  through: readonly string[],
])[] = [
  ['HTTPS_PROXY', (proxy) => ({ HTTPS_PROXY: proxy }), ['fetch', 'httpsFetch']],
  ['HTTP_PROXY alone', (proxy) => ({ HTTP_PROXY: proxy }), ['fetch']],
  [
    'NO_PROXY with a dot',
    (proxy) => ({ HTTPS_PROXY: proxy, NO_PROXY: '.other.test,.lambda.test' }),
    [],
  ],
  [
    'NO_PROXY without a dot',
    (proxy) => ({ HTTPS_PROXY: proxy, NO_PROXY: 'lambda.test' }),
    ['httpsFetch'],
  ],
  [
    'NO_PROXY with blanks for commas',
    (proxy) => ({ HTTPS_PROXY: proxy, NO_PROXY: '.other.test .lambda.test' }),
    ['httpsFetch'],
  ],
]

for (const node of NODES)
  for (const [what, variables, through] of CASES) {
    test(`${what}, on ${node}: the proxy of ${through.join(' and ') || 'nobody'}`, async () => {
      const seen: string[] = []
      for (const transport of Object.keys(FETCHES))
        if (await goesThroughProxy(node, transport, variables)) seen.push(transport)
      assert.deepEqual(seen, through)
    })
  }

async function goesThroughProxy(
  node: string,
  transport: string,
  variables: (proxy: string) => Readonly<Record<string, string>>,
): Promise<boolean> {
  let requests = 0
  const proxy = createServer()
  proxy.on('connect', (_, socket) => {
    requests += 1
    socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')
  })
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
  const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
  await promisify(execFile)(
    here(`../node_modules/${node}/bin/node`),
    ['--import', 'tsx', here('through.ts'), transport],
    {
      cwd: here('..'),
      timeout: TIMEOUT,
      env: {
        PATH: process.env.PATH,
        NODE_USE_ENV_PROXY: '1',
        // On loopback, where nothing listens: see through.ts.
        AWS_ENDPOINT_URL: 'https://ssm.lambda.test:4443',
        AWS_REGION: REGION,
        AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
        AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
        ...variables(url),
      },
    },
  )
  proxy.closeAllConnections()
  await once(proxy.close(), 'close')
  return requests > 0
}
