#!/usr/bin/env bash
# The region `aws-global` is us-east-1 to the S3 client, and to that of SSM only with `fips-` before it.
#
# Versions: @aws-sdk/client-s3 3.1173.0, @aws-sdk/client-ssm 3.1169.0, on the Node.js that runs this.
# One would guess: a name that the SDK knows as one that stands for us-east-1 does so for all clients, or for S3's alone.
# What happens: S3 takes `aws-global` for us-east-1 in the signature, and SSM makes a host of it that there is not. `fips-aws-global`
#   is us-east-1 with FIPS to both of them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund @aws-sdk/client-s3@3.1173.0 @aws-sdk/client-ssm@3.1169.0 >/dev/null
cat >check.mjs <<'JS'
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm'

// Stands in for the network: says where the request was to go, and for which region it is signed.
const requestHandler = {
  handle: async ({ hostname, headers }) => {
    const [, , region] = /Credential=([^,]*)/.exec(headers.authorization)[1].split('/')
    throw new Error(`${hostname}, signed for ${region}`)
  },
}
const credentials = { accessKeyId: 'id', secretAccessKey: 'key' }
for (const region of ['aws-global', 'fips-aws-global'])
  for (const [Client, command] of [
    [S3Client, new GetObjectCommand({ Bucket: 'bucket', Key: 'key' })],
    [SSMClient, new GetParameterCommand({ Name: 'name' })],
  ]) {
    const client = new Client({ region, credentials, requestHandler, maxAttempts: 1 })
    console.log(`${region}: ${await client.send(command).catch((error) => error.message)}`)
  }
JS
diff - <(node check.mjs) <<'SEEN'
aws-global: bucket.s3.amazonaws.com, signed for us-east-1
aws-global: ssm.aws-global.amazonaws.com, signed for aws-global
fips-aws-global: bucket.s3-fips.us-east-1.amazonaws.com, signed for us-east-1
fips-aws-global: ssm-fips.us-east-1.amazonaws.com, signed for us-east-1
SEEN
echo 'as it was seen'
