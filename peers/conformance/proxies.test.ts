/**
 * What stands in front of S3 in other people's networks, started on loopback: nginx, nginx that caches, squid, haproxy. The
 * signature has to arrive as it was made. Debian has all of them: `apt-get install nginx-light squid haproxy`.
 */

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { type LocalAws, startLocalAws } from '../../examples/local-aws.js'
import { getObject, getParameter, getSecret } from '../../lambda-cache.js'
import { FETCHES, freePort, useEnvironment } from './kit.js'

interface Proxy {
  readonly name: string
  readonly program: string
  /** Gets the file with the configuration. */
  args(file: string): readonly string[]
  /** For a port of its own, that of the local AWS, and a folder that is removed afterwards. */
  configuration(port: number, upstream: number, folder: string): string
}

const NGINX = {
  program: '/usr/sbin/nginx',
  args: (file: string) => ['-c', file],
}

/** Seconds for which nginx answers from its own copy. */
const NGINX_COPY = 1

const PROXIES: readonly Proxy[] = [
  {
    ...NGINX,
    name: 'nginx',
    configuration: (port, upstream, folder) => nginxConfiguration(port, upstream, folder, ''),
  },
  {
    ...NGINX,
    name: 'nginx with proxy_cache',
    configuration: (port, upstream, folder) =>
      nginxConfiguration(port, upstream, folder, `proxy_cache copies;`),
  },
  {
    ...NGINX,
    name: 'nginx with proxy_cache_revalidate',
    configuration: (port, upstream, folder) =>
      nginxConfiguration(port, upstream, folder, `proxy_cache copies; proxy_cache_revalidate on;`),
  },
  {
    name: 'squid, as a reverse proxy with login=PASSTHRU',
    program: '/usr/sbin/squid',
    args: (file) => ['-N', '-f', file],
    configuration: (port, upstream, folder) => `
      http_port 127.0.0.1:${port} accel defaultsite=127.0.0.1:${port}
      cache_peer 127.0.0.1 parent ${upstream} 0 no-query originserver login=PASSTHRU
      http_access allow all
      cache deny all
      pid_filename ${folder}/squid.pid
      cache_log /dev/null
      access_log none
      shutdown_lifetime 0 seconds`,
  },
  {
    name: 'haproxy',
    program: '/usr/sbin/haproxy',
    args: (file) => ['-db', '-q', '-f', file],
    configuration: (port, upstream) => `
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend here
  bind 127.0.0.1:${port}
  default_backend aws
backend aws
  server aws 127.0.0.1:${upstream}
`,
  },
]

function nginxConfiguration(
  port: number,
  upstream: number,
  folder: string,
  caching: string,
): string {
  return `
    daemon off;
    user root;
    pid ${folder}/nginx.pid;
    error_log ${folder}/error.log;
    events {}
    http {
      access_log off;
      client_body_temp_path ${folder}/body;
      proxy_temp_path ${folder}/proxy;
      fastcgi_temp_path ${folder}/fastcgi;
      uwsgi_temp_path ${folder}/uwsgi;
      scgi_temp_path ${folder}/scgi;
      proxy_cache_path ${folder}/copies keys_zone=copies:1m;
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://127.0.0.1:${upstream};
          proxy_set_header Host $http_host;
          proxy_cache_key $request_uri;
          proxy_cache_valid 200 ${NGINX_COPY}s;
          ${caching}
        }
      }
    }`
}

/** Keys that something in between may want to tidy up. */
const KEYS = [
  'plain.txt',
  'a//b',
  '/begins',
  'ends/',
  'with blank',
  'plus+plus',
  'per%2Fcent',
  'semi;colon',
  '(brackets)',
  '~tilde',
  'question?mark',
  'and&equals=signs',
  'Grüße',
]

for (const proxy of PROXIES) {
  const skip = existsSync(proxy.program) ? false : `${proxy.program} is not installed`
  describe(`behind ${proxy.name}`, { skip }, () => {
    let aws: LocalAws
    let running: { readonly url: string; close(): Promise<void> }
    before(async () => {
      aws = await startLocalAws({
        parameters: { '/app/name': 'value' },
        secrets: { 'app/key': 'secret' },
        objects: Object.fromEntries(KEYS.map((key) => [`s3://bucket/${key}`, `content of ${key}`])),
      })
      running = await start(proxy, Number(new URL(aws.url).port))
    })
    after(async () => {
      await running?.close()
      await aws.close()
    })
    useEnvironment(() => ({ AWS_ENDPOINT_URL: running.url }))

    for (const [transport, fetch] of Object.entries(FETCHES)) {
      test(`parameters, secrets and odd keys arrive, over ${transport}`, async () => {
        assert.equal(await getParameter('/app/name', { fetch }), 'value')
        assert.equal(await getSecret('app/key', { fetch }), 'secret')
        for (const key of KEYS)
          assert.equal(
            await getObject(`s3://bucket/${key}`, { fetch, parse: String }),
            `content of ${key}`,
          )
      })

      test(`an object is read again, unchanged and changed, over ${transport}`, async () => {
        const uri = `s3://bucket/read again over ${transport}`
        const read = (): Promise<string> => getObject(uri, { fetch, parse: String, maxAge: 0 })
        aws.putObject(uri, 'first')
        assert.equal(await read(), 'first')
        assert.equal(await read(), 'first')
        await pause(1000 * NGINX_COPY + 1100)
        assert.equal(await read(), 'first')
        aws.putObject(uri, 'second')
        await pause(1000 * NGINX_COPY + 1100)
        assert.equal(await read(), 'second')
        assert.equal(await read(), 'second')
      })
    }
  })
}

async function start(
  { program, args, configuration }: Proxy,
  upstream: number,
): Promise<{ readonly url: string; close(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'lambda-cache-proxy-'))
  const port = await freePort()
  const file = join(folder, 'configuration')
  await writeFile(file, configuration(port, upstream, folder))
  const child = spawn(program, args(file), { stdio: 'ignore' })
  const close = async (): Promise<void> => {
    await end(child)
    await rm(folder, { recursive: true })
  }
  try {
    await listening(port, child)
  } catch (error) {
    await close()
    throw error
  }
  return { url: `http://127.0.0.1:${port}`, close }
}

async function listening(port: number, child: ChildProcess): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    assert.equal(child.exitCode, null, 'the proxy has ended')
    const socket = connect(port, '127.0.0.1')
    const isOpen = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (isOpen) return
    await pause(100)
  }
  assert.fail('the proxy does not listen')
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.kill('SIGTERM')
  const hard = setTimeout(() => child.kill('SIGKILL'), 5000)
  await exit
  clearTimeout(hard)
}
