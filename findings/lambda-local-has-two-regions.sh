#!/usr/bin/env bash
# lambda-local gives a handler two regions at once, and keeps one that an earlier call was given.
#
# Versions: lambda-local 2.2.0, on the Node.js that runs this.
# One would guess: `AWS_REGION` and `AWS_DEFAULT_REGION` say the same, as they do in Lambda, and the option `region` is for its own call.
# What happens: where the shell has `AWS_REGION`, the other one is us-east-1 all the same. A `region` stays for all calls that follow.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund lambda-local@2.2.0 >/dev/null
cat >handler.js <<'JS'
exports.handler = async () => `${process.env.AWS_REGION} and ${process.env.AWS_DEFAULT_REGION}`
JS
cat >check.cjs <<'JS'
const lambdaLocal = require('lambda-local')

lambdaLocal.setLogger({ log() {}, transports: [] })
async function run() {
  for (const options of [{}, { region: 'us-west-2' }, {}]) {
    const answer = await lambdaLocal.execute({ event: {}, lambdaPath: `${__dirname}/handler.js`, ...options })
    console.log(`${options.region ?? 'no region'}: ${answer}`)
  }
}
run()
JS
diff - <(env -u AWS_DEFAULT_REGION AWS_REGION=eu-west-1 node check.cjs) <<'SEEN'
no region: eu-west-1 and us-east-1
us-west-2: us-west-2 and us-west-2
no region: us-west-2 and us-west-2
SEEN
echo 'as it was seen'
