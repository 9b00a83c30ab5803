/** The AWS SDK's own credential providers as `credentials`. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import {
  fromIni,
  fromNodeProviderChain,
  fromTemporaryCredentials,
} from '@aws-sdk/credential-providers'
import { startLocalAws } from '../../examples/local-aws.js'
import { clearCache, getObject, getParameter, getSecret, withCache } from '../../lambda-cache.js'
import { CREDENTIALS, REGION, refusalOf, startSts, useEnvironment } from './kit.js'

const folder = await mkdtemp(join(tmpdir(), 'credentials-'))
const file = join(folder, 'credentials')
after(() => rm(folder, { recursive: true }))

let aws: Awaited<ReturnType<typeof startLocalAws>>
before(async () => {
  aws = await startLocalAws({
    parameters: { '/app/value': 'parameter' },
    secrets: { 'app/value': 'secret' },
    objects: { 's3://bucket/value': 'object' },
  })
})
after(() => aws.close())
useEnvironment(() => ({
  AWS_ENDPOINT_URL: aws.url,
  AWS_SHARED_CREDENTIALS_FILE: file,
  AWS_CONFIG_FILE: join(folder, 'config'),
  // Nothing but the file, and nobody on the network, has credentials that the local AWS knows.
  AWS_ACCESS_KEY_ID: '',
  AWS_SECRET_ACCESS_KEY: '',
  AWS_SESSION_TOKEN: '',
  AWS_EC2_METADATA_DISABLED: 'true',
}))

beforeEach(() =>
  writeFile(
    file,
    `[default]
aws_access_key_id = somebody
aws_secret_access_key = else
[reader]
aws_access_key_id = ${CREDENTIALS.accessKeyId}
aws_secret_access_key = ${CREDENTIALS.secretAccessKey}
aws_session_token = ${CREDENTIALS.sessionToken}
[broken]
role_arn = arn:aws:iam::123456789012:role/hunter2
source_profile = hunter2
`,
  ),
)

const text = (content: string): string => content

describe('a profile in a credentials file', () => {
  for (const [name, provider] of Object.entries({ fromIni, fromNodeProviderChain }))
    test(`reads all sources: ${name}`, async () => {
      const credentials = provider({ profile: 'reader' })
      const handler = withCache(async (_: object, context) => [context.value, context.secret], {
        ssm: ['/app/value'],
        secrets: [{ id: 'app/value', as: 'secret' }],
        credentials,
      })
      assert.deepEqual(await handler({}, {} as never), ['parameter', 'secret'])
      clearCache()
      const values = await Promise.all([
        getParameter('/app/value', { credentials }),
        getSecret('app/value', { credentials }),
        getObject('s3://bucket/value', { credentials, parse: text }),
      ])
      assert.deepEqual(values, ['parameter', 'secret', 'object'])
    })

  test('that AWS does not know is refused, beside one that it knows', async () => {
    await getSecret('app/value', { credentials: fromIni({ profile: 'reader' }) })
    const { code } = await refusalOf(getSecret('app/value', { credentials: fromIni() }))
    assert.equal(code, 'UnrecognizedClientException')
  })

  test('that leads nowhere is an error without a word of what the SDK says', async () => {
    for (const profile of ['broken', 'hunter2']) {
      const error = await refusalOf(
        getParameter('/app/value', { credentials: fromIni({ profile }) }),
      )
      assert.equal(error.code, 'NoCredentials')
      assert.equal(error.cause, undefined)
      assert.doesNotMatch(`${error.stack} ${JSON.stringify(error)}`, /hunter2/)
    }
  })
})

test('a role is assumed once for all that is read within its hour', async () => {
  const sts = await startSts()
  try {
    const credentials = fromTemporaryCredentials({
      masterCredentials: { accessKeyId: 'id', secretAccessKey: 'key' },
      params: { RoleArn: 'arn:aws:iam::123456789012:role/reader' },
      clientConfig: { region: REGION, endpoint: sts.url },
    })
    // A provider of the SDK called by itself assumes the role again each time.
    let calls = 0
    const counting = () => {
      calls += 1
      return credentials()
    }
    for (let round = 0; round < 3; round += 1) {
      await Promise.all([
        getParameter('/app/value', { credentials: counting, maxAge: 0 }),
        getSecret('app/value', { credentials: counting, maxAge: 0 }),
      ])
    }
    assert.equal(calls, 1)
    assert.deepEqual(sts.roles, ['arn:aws:iam::123456789012:role/reader'])
  } finally {
    await sts.close()
  }
})
