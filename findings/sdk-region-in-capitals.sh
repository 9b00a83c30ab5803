#!/usr/bin/env bash
# A region in capitals reaches the right host of AWS, signed for a region that there is not.
#
# Versions: @aws-sdk/client-ssm 3.1169.0, on the Node.js that runs this.
# One would guess: `EU-WEST-1` is refused, as `eu-west-1-` is, or is put into small letters everywhere.
# What happens: the host is in small letters, by what a URL makes of it. The scope of the signature, which AWS compares letter by
#   letter, stays in capitals: so the call goes out and comes back as a signature that is wrong, and nothing names the region.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund @aws-sdk/client-ssm@3.1169.0 >/dev/null
cat >check.mjs <<'JS'
import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm'

// Stands in for the network: says where the request was to go, and for which region it is signed.
const requestHandler = {
  handle: async ({ hostname, headers }) => {
    const [, , region] = /Credential=([^,]*)/.exec(headers.authorization)[1].split('/')
    throw new Error(`${hostname}, signed for ${region}`)
  },
}
const credentials = { accessKeyId: 'id', secretAccessKey: 'key' }
for (const region of ['eu-west-1', 'EU-WEST-1', 'eu-west-1-']) {
  const client = new SSMClient({ region, credentials, requestHandler, maxAttempts: 1 })
  const outcome = await client.send(new GetParameterCommand({ Name: 'name' })).catch((error) => error.message)
  console.log(`${region}: ${outcome}`)
}
JS
diff - <(node check.mjs) <<'SEEN'
eu-west-1: ssm.eu-west-1.amazonaws.com, signed for eu-west-1
EU-WEST-1: ssm.eu-west-1.amazonaws.com, signed for EU-WEST-1
eu-west-1-: Region not accepted: region="eu-west-1-" is not a valid hostname component.
SEEN
echo 'as it was seen'
