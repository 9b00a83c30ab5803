/** Endpoints, in all partitions. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { inspect } from 'node:util'
import { assertKeepsSecrets, failure, local, SOURCES, SSM, script } from './kit.js'

describe('endpoints', () => {
  const [FIPS, DUAL_STACK] = [
    { AWS_USE_FIPS_ENDPOINT: 'true' },
    { AWS_USE_DUALSTACK_ENDPOINT: 'true' },
  ]
  const BOTH = { ...FIPS, ...DUAL_STACK }
  const HERE = 'http://127.0.0.1:4566'

  /** By region, what the official SDK calls: for SSM, Secrets Manager and S3. */
  const SDK: readonly [
    region: string,
    environment: Record<string, string>,
    ssm: string,
    secrets: string,
    s3: string,
  ][] = [
    ...(
      [
        ['us-east-1', 'amazonaws.com'],
        ['ap-southeast-5', 'amazonaws.com'],
        ['us-gov-west-1', 'amazonaws.com'],
        ['cn-northwest-1', 'amazonaws.com.cn'],
        ['us-iso-east-1', 'c2s.ic.gov'],
        ['us-isob-east-1', 'sc2s.sgov.gov'],
        ['eu-isoe-west-1', 'cloud.adc-e.uk'],
        ['us-isof-south-1', 'csp.hci.ic.gov'],
        ['eusc-de-east-1', 'amazonaws.eu'],
      ] as const
    ).map(([region, suffix]): (typeof SDK)[number] => [
      region,
      {},
      `ssm.${region}.${suffix}`,
      `secretsmanager.${region}.${suffix}`,
      `bucket.s3.${region}.${suffix}`,
    ]),
    [
      'us-east-1',
      FIPS,
      'ssm-fips.us-east-1.amazonaws.com',
      'secretsmanager-fips.us-east-1.amazonaws.com',
      'bucket.s3-fips.us-east-1.amazonaws.com',
    ],
    [
      'us-east-1',
      DUAL_STACK,
      'ssm.us-east-1.api.aws',
      'secretsmanager.us-east-1.amazonaws.com',
      'bucket.s3.dualstack.us-east-1.amazonaws.com',
    ],
    [
      'us-east-1',
      BOTH,
      'ssm-fips.us-east-1.api.aws',
      'secretsmanager-fips.us-east-1.amazonaws.com',
      'bucket.s3-fips.dualstack.us-east-1.amazonaws.com',
    ],
    [
      'us-gov-west-1',
      FIPS,
      'ssm.us-gov-west-1.amazonaws.com',
      'secretsmanager-fips.us-gov-west-1.amazonaws.com',
      'bucket.s3-fips.us-gov-west-1.amazonaws.com',
    ],
    [
      'us-gov-west-1',
      DUAL_STACK,
      'ssm.us-gov-west-1.api.aws',
      'secretsmanager.us-gov-west-1.amazonaws.com',
      'bucket.s3.dualstack.us-gov-west-1.amazonaws.com',
    ],
    [
      'us-gov-west-1',
      BOTH,
      'ssm-fips.us-gov-west-1.api.aws',
      'secretsmanager-fips.us-gov-west-1.amazonaws.com',
      'bucket.s3-fips.dualstack.us-gov-west-1.amazonaws.com',
    ],
    [
      'cn-north-1',
      DUAL_STACK,
      'ssm.cn-north-1.api.amazonwebservices.com.cn',
      'secretsmanager.cn-north-1.amazonaws.com.cn',
      'bucket.s3.dualstack.cn-north-1.amazonaws.com.cn',
    ],
    ...(
      [
        ['us-iso-east-1', 'c2s.ic.gov', 'api.aws.ic.gov'],
        ['us-isob-east-1', 'sc2s.sgov.gov', 'api.aws.scloud'],
        ['eu-isoe-west-1', 'cloud.adc-e.uk', 'api.cloud-aws.adc-e.uk'],
        ['us-isof-south-1', 'csp.hci.ic.gov', 'api.aws.hci.ic.gov'],
        ['eusc-de-east-1', 'amazonaws.eu', 'api.amazonwebservices.eu'],
      ] as const
    ).flatMap(([region, suffix, dualStackSuffix]): (typeof SDK)[number][] => [
      [
        region,
        FIPS,
        `ssm-fips.${region}.${suffix}`,
        `secretsmanager-fips.${region}.${suffix}`,
        `bucket.s3-fips.${region}.${suffix}`,
      ],
      [
        region,
        DUAL_STACK,
        `ssm.${region}.${dualStackSuffix}`,
        `secretsmanager.${region}.${dualStackSuffix}`,
        `bucket.s3.dualstack.${region}.${suffix}`,
      ],
      [
        region,
        BOTH,
        `ssm-fips.${region}.${dualStackSuffix}`,
        `secretsmanager-fips.${region}.${dualStackSuffix}`,
        `bucket.s3-fips.dualstack.${region}.${suffix}`,
      ],
    ]),
    [
      'eu-west-1',
      { AWS_USE_FIPS_ENDPOINT: 'false', AWS_USE_DUALSTACK_ENDPOINT: '' },
      'ssm.eu-west-1.amazonaws.com',
      'secretsmanager.eu-west-1.amazonaws.com',
      'bucket.s3.eu-west-1.amazonaws.com',
    ],
    [
      'eu-west-1',
      { AWS_USE_FIPS_ENDPOINT: 'TRUE' },
      'ssm-fips.eu-west-1.amazonaws.com',
      'secretsmanager-fips.eu-west-1.amazonaws.com',
      'bucket.s3-fips.eu-west-1.amazonaws.com',
    ],
  ]
  /** Variables, and where the calls to SSM, Secrets Manager and S3 go. */
  const CUSTOM: readonly [
    environment: Record<string, string>,
    ssm: string,
    secrets: string,
    s3: string,
  ][] = [
    [{ AWS_ENDPOINT_URL: HERE }, `${HERE}/`, `${HERE}/`, `${HERE}/bucket/app/value`],
    [{ AWS_ENDPOINT_URL: `${HERE}/` }, `${HERE}/`, `${HERE}/`, `${HERE}/bucket/app/value`],
    [
      { AWS_ENDPOINT_URL: `${HERE}/a/path` },
      `${HERE}/a/path/`,
      `${HERE}/a/path/`,
      `${HERE}/a/path/bucket/app/value`,
    ],
    [
      { AWS_ENDPOINT_URL: 'https://host/a%20b/' },
      'https://host/a%20b/',
      'https://host/a%20b/',
      'https://host/a%20b/bucket/app/value',
    ],
    [
      { AWS_ENDPOINT_URL: HERE, AWS_ENDPOINT_URL_SSM: `${HERE}/ssm` },
      `${HERE}/ssm/`,
      `${HERE}/`,
      `${HERE}/bucket/app/value`,
    ],
    [
      { AWS_ENDPOINT_URL: HERE, AWS_ENDPOINT_URL_SECRETS_MANAGER: `${HERE}/secrets` },
      `${HERE}/`,
      `${HERE}/secrets/`,
      `${HERE}/bucket/app/value`,
    ],
    [
      { AWS_ENDPOINT_URL: HERE, AWS_ENDPOINT_URL_S3: `${HERE}/s3` },
      `${HERE}/`,
      `${HERE}/`,
      `${HERE}/s3/bucket/app/value`,
    ],
    [
      { AWS_ENDPOINT_URL: HERE, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'false' },
      `${HERE}/`,
      `${HERE}/`,
      `${HERE}/bucket/app/value`,
    ],
    ...[
      { AWS_ENDPOINT_URL: HERE },
      { AWS_ENDPOINT_URL: HERE, ...FIPS },
      {
        AWS_ENDPOINT_URL_SSM: HERE,
        AWS_ENDPOINT_URL_SECRETS_MANAGER: HERE,
        AWS_ENDPOINT_URL_S3: HERE,
      },
    ].map((environment: Record<string, string>): (typeof CUSTOM)[number] => {
      const fips = 'AWS_USE_FIPS_ENDPOINT' in environment ? '-fips' : ''
      const [ssm, secrets, s3] = ['ssm', 'secretsmanager', 'bucket.s3'].map(
        (name) => `https://${name}${fips}.us-east-1.amazonaws.com/`,
      ) as [string, string, string]
      return [
        { ...environment, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true' },
        ssm,
        secrets,
        `${s3}app/value`,
      ]
    }),
  ]

  const ADDRESSES = [
    ...SDK.map(
      ([region, environment, ssm, secrets, s3]) =>
        [
          { AWS_REGION: region, ...environment },
          [`https://${ssm}/`, `https://${secrets}/`, `https://${s3}/app/value`],
        ] as const,
    ),
    ...CUSTOM.map(
      ([environment, ...urls]) => [{ AWS_REGION: 'us-east-1', ...environment }, urls] as const,
    ),
  ]
  for (const [environment, urls] of ADDRESSES) {
    test(`are as AWS has them for ${inspect(environment, { breakLength: Infinity })}`, async () => {
      Object.assign(process.env, environment)
      const got = await Promise.all(
        SOURCES.map(async (source) => {
          const { fetch, sent } = script(source.answer('value'))
          assert.equal(await source.read({ fetch }), 'value')
          return sent[0]?.url
        }),
      )
      assert.deepEqual(got, urls)
    })
  }

  const REFUSED: readonly [
    environment: Record<string, string>,
    code: string,
    ...texts: string[],
  ][] = [
    ...[FIPS, DUAL_STACK, BOTH].map((variables): (typeof REFUSED)[number] => [
      { AWS_ENDPOINT_URL: HERE, ...variables },
      'InvalidEndpoint',
      'AWS_ENDPOINT_URL',
      'exclude each other',
      'AWS_ENDPOINT_URL',
    ]),
    ...[
      'localhost:4566',
      '127.0.0.1',
      'ftp://127.0.0.1',
      'http://',
      'http://user:canary@127.0.0.1',
      'http://127.0.0.1/?a=b',
      'http://127.0.0.1/#a',
      'http://a b',
      'http://[',
      'http://a:99999',
    ].map((AWS_ENDPOINT_URL): (typeof REFUSED)[number] => [
      { AWS_ENDPOINT_URL },
      'InvalidEndpoint',
      'AWS_ENDPOINT_URL',
    ]),
    ...[
      'mars',
      'example.com/',
      'us-east-1.example.com#',
      'us-east-1/',
      '@example.com',
      'us east 1',
      'fips-us-east-1',
      'us-east-1-fips',
    ].map((AWS_REGION): (typeof REFUSED)[number] => [
      { AWS_REGION },
      'InvalidOptions',
      'region',
      AWS_REGION,
    ]),
  ]
  for (const [environment, code, ...texts] of REFUSED) {
    test(`are refused for ${inspect(environment, { breakLength: Infinity })}`, async () => {
      Object.assign(process.env, environment)
      for (const source of SOURCES) {
        const { fetch, sent } = script(source.answer('value'))
        assertKeepsSecrets(
          await failure(
            source.read({ fetch }),
            { code, source: source.source, id: source.id },
            ...texts,
          ),
        )
        assert.equal(sent.length, 0)
      }
    })
  }

  test('have entries of their own in the cache', async () => {
    const [one, two] = [
      await local({ parameters: { '/app/value': 'one' } }),
      await local({ parameters: { '/app/value': 'two' } }),
    ]
    for (const [aws, value] of [
      [one, 'one'],
      [two, 'two'],
      [one, 'one'],
    ] as const) {
      process.env.AWS_ENDPOINT_URL = aws.url
      assert.equal(await SSM.read(), value)
    }
    assert.equal(one.requests.length, 1)
  })
})
