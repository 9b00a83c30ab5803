#!/usr/bin/env bash
# Fake timers, as they are by default, hold back `queueMicrotask` and `process.nextTick` in Jest, and let both run in Vitest.
#
# Versions: jest 30.5.2, vitest 4.1.12, on the Node.js that runs this.
# One would guess: "timers" are what waits for a time: `setTimeout`, `setInterval`, perhaps `setImmediate`, in both alike. What is to run
#   at the end of the turn, as code that batches calls has it, does.
# What happens: in Jest it does not, while promises go on. What batches by `queueMicrotask` never sends there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund jest@30.5.2 vitest@4.1.12 >/dev/null
cat >microtasks.test.cjs <<'JS'
const { appendFileSync } = require('node:fs')

const timers = typeof vi === 'undefined' ? jest : vi
const runner = typeof vi === 'undefined' ? 'jest' : 'vitest'
test('what runs under fake timers', async () => {
  timers.useFakeTimers()
  const ran = []
  Promise.resolve().then(() => ran.push('promise'))
  queueMicrotask(() => ran.push('queueMicrotask'))
  process.nextTick(() => ran.push('process.nextTick'))
  setImmediate(() => ran.push('setImmediate'))
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve()
  timers.useRealTimers()
  await new Promise((resolve) => setTimeout(resolve, 50))
  appendFileSync('seen', `${runner}: ${ran.sort().join(', ')}\n`)
})
JS
echo '{ "testMatch": ["**/microtasks.test.cjs"] }' >jest.config.json
npx jest --ci >/dev/null 2>&1
echo "export default { test: { globals: true, include: ['microtasks.test.cjs'] } }" >vitest.config.mjs
npx vitest run >/dev/null 2>&1
diff - seen <<'SEEN'
jest: promise
vitest: process.nextTick, promise, queueMicrotask
SEEN
echo 'as it was seen'
