/** The URL of every call, for every region that the SDK knows, is the SDK's URL; or the library says that it has none. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { GetParametersCommand, SSMClient } from '@aws-sdk/client-ssm'
import { type Fetch, getObject, getParameter, getSecret } from '../../lambda-cache.js'
import { failureOf, innerModule, refusalOf, SDK_OPTIONS, useEnvironment } from './kit.js'

interface PartitionsModule {
  readonly partitionsInfo: { readonly partitions: readonly Partition[] }
}

interface Partition {
  readonly id: string
  readonly regions: Readonly<Record<string, unknown>>
  readonly outputs: { readonly dnsSuffix: string }
}

interface Place {
  readonly region: string
}

interface Variant {
  readonly fips: boolean
  readonly dualStack: boolean
}

interface RequestOfSdk {
  readonly protocol: string
  readonly hostname: string
  readonly port?: number | undefined
  readonly path: string
}

const SERVICES = [
  'ssm',
  'secretsmanager',
  's3 with the bucket a-bucket',
  's3 with the bucket a.bucket',
  's3 with the bucket -bucket',
  's3 with the bucket bucket-',
  's3 with the bucket abc',
  `s3 with the bucket ${'b'.repeat(63)}`,
  `s3 with the bucket ${'b'.repeat(64)}`,
] as const
type Service = (typeof SERVICES)[number]

const VARIANTS: readonly Variant[] = [false, true].flatMap((fips) =>
  [false, true].map((dualStack) => ({ fips, dualStack })),
)

/** As they are now. A new partition has to be looked at: it may have a DNS suffix that the library does not know. */
const PARTITIONS = [
  'aws',
  'aws-cn',
  'aws-eusc',
  'aws-iso',
  'aws-iso-b',
  'aws-iso-e',
  'aws-iso-f',
  'aws-us-gov',
]

const { partitionsInfo } = await innerModule<PartitionsModule>(
  '@aws-sdk/client-ssm',
  '@aws-sdk/core',
  'dist-es/submodules/client/util-endpoints/lib/aws/partitions.js',
)
const places: readonly Place[] = partitionsInfo.partitions.flatMap(({ regions }) =>
  Object.keys(regions).map((region) => ({ region })),
)

useEnvironment(() => ({}))

test("knows every partition of the SDK's", () => {
  assert.deepEqual(partitionsInfo.partitions.map(({ id }) => id).sort(), PARTITIONS)
  assert.ok(places.length > 50)
})

for (const service of SERVICES) {
  for (const variant of VARIANTS) {
    test(`calls where the SDK calls, or declines: ${describeVariant(service, variant)}`, async () => {
      setVariant(variant)
      for (const place of places) await comparePlace(service, place)
    })
  }
}

describe('with a configured endpoint', () => {
  const configured: Record<string, string>[] = [
    { AWS_ENDPOINT_URL: 'http://localhost:4566' },
    { AWS_ENDPOINT_URL: 'https://example.com/a/path' },
    { AWS_ENDPOINT_URL: 'https://example.com/a/path/' },
    { AWS_ENDPOINT_URL: 'https://example.com:443' },
    { AWS_ENDPOINT_URL: 'http://[::1]:4566' },
    { AWS_ENDPOINT_URL: 'https://example.com', AWS_ENDPOINT_URL_SSM: 'https://ssm.example.com' },
    {
      AWS_ENDPOINT_URL: 'https://example.com',
      AWS_ENDPOINT_URL_SECRETS_MANAGER: 'https://secrets.example.com/x',
    },
    { AWS_ENDPOINT_URL_S3: 'https://s3.example.com:8443' },
    {
      AWS_ENDPOINT_URL: 'https://example.com',
      AWS_ENDPOINT_URL_S3: 'https://s3.example.com',
      AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true',
    },
    { AWS_ENDPOINT_URL: 'https://example.com', AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'false' },
  ]
  for (const variables of configured) {
    for (const service of SERVICES) {
      test(`calls where the SDK calls: ${service}, ${JSON.stringify(variables)}`, async () => {
        Object.assign(process.env, variables)
        assert.equal(await urlOfLibrary(service, 'eu-west-1'), await urlOfSdk(service, 'eu-west-1'))
      })
    }
  }
  for (const variant of VARIANTS.filter(({ fips, dualStack }) => fips || dualStack)) {
    test(`declines where the SDK declines: ${describeVariant('ssm', variant)}`, async () => {
      setVariant(variant)
      process.env.AWS_ENDPOINT_URL = 'https://example.com'
      await failureOf(urlOfSdk('ssm', 'eu-west-1'))
      assert.equal((await refusalOf(urlOfLibrary('ssm', 'eu-west-1'))).code, 'InvalidEndpoint')
    })
  }
})

async function comparePlace(service: Service, { region }: Place): Promise<void> {
  // Such a name stands for what a whole partition has in common. No function runs there, and these services are regional.
  if (region.endsWith('-global')) return decline(service, region, 'InvalidOptions')
  const expected = await urlOfSdk(service, region).catch((error: Error) => error)
  if (typeof expected === 'string')
    return assert.equal(await urlOfLibrary(service, region), expected, region)
  assert.match(expected.message, /Partition does not support FIPS/)
  await decline(service, region, 'InvalidEndpoint')
}

async function decline(service: Service, region: string, code: string): Promise<void> {
  assert.equal((await refusalOf(urlOfLibrary(service, region))).code, code, region)
}

function describeVariant(service: string, { fips, dualStack }: Variant): string {
  return [service, fips && 'FIPS', dualStack && 'dual-stack'].filter(Boolean).join(', ')
}

/** For both: the SDK reads the same variables. */
function setVariant({ fips, dualStack }: Variant): void {
  Object.assign(process.env, {
    AWS_USE_FIPS_ENDPOINT: String(fips),
    AWS_USE_DUALSTACK_ENDPOINT: String(dualStack),
  })
}

/** Up to the query. */
async function urlOfLibrary(service: Service, region: string): Promise<string> {
  let seen: string | undefined
  const fetch: Fetch = async (url) => {
    seen = url
    throw new Error('the URL was all that was wanted')
  }
  const [, bucket] = / (\S+)$/.exec(service) ?? []
  const error = await refusalOf(
    service === 'ssm'
      ? getParameter('name', { region, fetch })
      : service === 'secretsmanager'
        ? getSecret('id', { region, fetch })
        : getObject(`s3://${bucket}/key`, { region, binary: true, fetch }),
  )
  if (seen === undefined) throw error
  return seen
}

async function urlOfSdk(service: Service, region: string): Promise<string> {
  let seen: string | undefined
  const handle = async ({ protocol, hostname, port, path }: RequestOfSdk): Promise<never> => {
    seen = `${protocol}//${hostname}${port ? `:${port}` : ''}${path}`
    throw new Error('the URL was all that was wanted')
  }
  const options = { ...SDK_OPTIONS, region, requestHandler: { handle } }
  const [, bucket] = / (\S+)$/.exec(service) ?? []
  const error = await failureOf(
    service === 'ssm'
      ? new SSMClient(options).send(new GetParametersCommand({ Names: ['name'] }))
      : service === 'secretsmanager'
        ? new SecretsManagerClient(options).send(new GetSecretValueCommand({ SecretId: 'id' }))
        : // A server of one's own seldom has a name for each bucket: there the library uses path style, and so does the SDK when told.
          new S3Client({ ...options, forcePathStyle: isConfigured() }).send(
            new GetObjectCommand({ Bucket: bucket, Key: 'key' }),
          ),
  )
  if (seen === undefined) throw error
  return seen
}

function isConfigured(): boolean {
  const {
    AWS_ENDPOINT_URL: common,
    AWS_ENDPOINT_URL_S3: own,
    AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: ignored,
  } = process.env
  return ignored !== 'true' && (common ?? own) !== undefined
}
