#!/usr/bin/env bash
# Powertools' getParameters answers { recursive: true } with what it has kept of a read that was not recursive.
#
# Version: @aws-lambda-powertools/parameters 2.35.0, @aws-sdk/client-ssm 3.1169.0.
# One would guess: a tree and its first level are two values, and each read gives the one that was asked for.
# What happens: the key of its cache is the path alone. Whoever reads first decides for all others what is below the path, for as long
#   as that is kept. `forceFetch` or `clearCaches()` in between helps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund @aws-lambda-powertools/parameters@2.35.0 @aws-sdk/client-ssm@3.1169.0 >/dev/null
cat >check.mjs <<'JS'
import { createServer } from 'node:http'
const NAMES = ['/app/level', '/app/db/host']
const server = createServer(async (request, response) => {
  let body = ''
  for await (const piece of request) body += piece
  const { Recursive = false } = JSON.parse(body)
  const names = NAMES.filter((name) => Recursive || name.split('/').length === 3)
  response.end(JSON.stringify({ Parameters: names.map((Name) => ({ Name, Value: 'value' })) }))
})
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
process.env.AWS_ENDPOINT_URL = `http://127.0.0.1:${server.address().port}`
const { clearCaches } = await import('@aws-lambda-powertools/parameters')
const { getParameters } = await import('@aws-lambda-powertools/parameters/ssm')
const names = async (options) => Object.keys((await getParameters('/app', options)) ?? {}).sort().join(' ')
console.log(`first level: ${await names()}`)
console.log(`recursive, after that: ${await names({ recursive: true })}`)
clearCaches()
console.log(`recursive, of its own: ${await names({ recursive: true })}`)
console.log(`first level, after that: ${await names()}`)
server.close()
process.exit()
JS
export AWS_REGION=eu-west-1 AWS_ACCESS_KEY_ID=id AWS_SECRET_ACCESS_KEY=key
diff - <(node check.mjs 2>/dev/null) <<'SEEN'
first level: level
recursive, after that: level
recursive, of its own: db/host level
first level, after that: db/host level
SEEN
echo 'as it was seen'
