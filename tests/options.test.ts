/** Options, and what is said of those that are wrong. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { inspect } from 'node:util'
import { getParameter, withCache } from '../lambda-cache.js'
import { assertKeepsSecrets, CANARY, failure, invoking, local, MINUTE, pass, text } from './kit.js'

describe('options', () => {
  const fine = '/app/fine'
  const REFUSED: readonly [option: string, options: object, got: string][] = [
    ['maxAge', { maxAge: -1 }, '-1'],
    ['maxAge', { maxAge: NaN }, 'NaN'],
    ['maxAge', { maxAge: '60' }, "'60'"],
    ['maxAge', { maxAge: null }, 'null'],
    ['maxAge', { ssm: [{ name: fine, maxAge: -0.1 }] }, '-0.1'],
    ['region', { region: '' }, "''"],
    ['region', { region: 1 }, '1'],
    ['withCache.fetch', { fetch: 'fetch' }, 'a string'],
    ['retries', { retries: 3 }, ''],
    ['ssm', { ssm: fine }, "'/app/fine'"],
    ['secrets', { secrets: { id: 'a' } }, 'object'],
    ['s3', { s3: null }, 'null'],
    ['ssm[0]', { ssm: [7] }, '7'],
    ['ssm[0]', { ssm: [null] }, 'null'],
    ['name', { ssm: [{}] }, ''],
    ['name', { ssm: [''] }, "''"],
    ['name', { ssm: [{ name: 7 }] }, '7'],
    ['names', { ssm: [{ names: fine, as: 'a' }] }, "'/app/fine'"],
    ['names', { ssm: [{ names: ['/a/x', '/b/x'], as: 'a' }] }, 'x'],
    ['as', { ssm: [{ names: [fine] }] }, ''],
    ['path', { ssm: [{ path: 7, as: 'a' }] }, '7'],
    ['as', { ssm: [{ path: '/' }] }, ''],
    ['decrypt', { ssm: [{ name: fine, decrypt: 'yes' }] }, "'yes'"],
    ['list', { ssm: [{ name: fine, list: 1 }] }, '1'],
    ['recursive', { ssm: [{ path: fine, recursive: 'no' }] }, "'no'"],
    ['parse', { ssm: [{ name: fine, parse: {} }] }, 'object'],
    ['prase', { ssm: [{ name: fine, prase: JSON.parse }] }, ''],
    ['as', { secrets: ['arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf'] }, ''],
    ['as', { secrets: ['folder/'] }, ''],
    ['id', { secrets: [{ id: [] }] }, ''],
    ['binary', { secrets: [{ id: 'a', binary: 'yes' }] }, "'yes'"],
    ['versionId', { secrets: [{ id: 'a', versionId: 1 }] }, '1'],
    ['versionStage', { secrets: [{ id: 'a', versionStage: '' }] }, "''"],
    ['recursive', { secrets: [{ id: 'a', recursive: true }] }, ''],
    ['file', { s3: [{ uri: 's3://bucket/key', file: 7 }] }, '7'],
    ...[
      'key',
      's3://',
      's3://bucket',
      's3://bucket/',
      's3:///key',
      'S3://bucket/key',
      'https://bucket/key',
      's3://b/key',
    ].map((uri): [string, object, string] => [
      's3://bucket/key',
      { s3: [{ uri, as: 'a' }] },
      `'${uri}'`,
    ]),
    ['uri', { s3: [''] }, "''"],
    [
      's3',
      { s3: [{ uri: 's3://bucket--usw2-az1--x-s3/key' }] },
      "'s3://bucket--usw2-az1--x-s3/key'",
    ],
    ['s3', { s3: [{ uri: 's3://alias-o1--op-s3/key' }] }, "'s3://alias-o1--op-s3/key'"],
    ['s3[0].uri', { s3: ['s3://mfzwi23gnjvgw.mrap/key' as string] }, 'are not supported'],
    [
      's3',
      { s3: [{ uri: 's3://arn:aws:s3:eu-west-1:123456789012:accesspoint/name/key' }] },
      'arn:',
    ],
    ['as', { s3: [{ uri: 's3://bucket/folder/', file: '/tmp/a' }] }, ''],
    ['file', { s3: [{ uri: 's3://bucket/folder/', as: 'folder' }] }, 'names a folder'],
    ...[
      { parse: text, binary: true },
      { parse: text, file: '/tmp/a' },
      { binary: true, file: '/tmp/a' },
    ].map((several): [string, object, string] => [
      's3[0]: takes only one of `parse`, `binary` and `file`',
      { s3: [{ uri: 's3://bucket/key', ...several }] },
      Object.keys(several)
        .map((name) => `\`${name}\``)
        .join(' and '),
    ]),
    [
      'secrets[0]: takes only one',
      { secrets: [{ id: 'a', parse: text, binary: true }] },
      '`parse` and `binary`',
    ],
    ['ssm[0]: takes only one', { ssm: [{ name: fine, path: fine }] }, '`name` and `path`'],
    [
      'ssm[0]: takes only one',
      { ssm: [{ name: fine, list: true, parse: text }] },
      '`list` and `parse`',
    ],
    ['ssm[0]: takes only one', { ssm: [{ path: fine, list: true }] }, '`list` and `path`'],
    ['ssm[0]: takes only one', { ssm: [{ name: fine, recursive: true }] }, '`recursive` and'],
    ['ssm[0].path', { ssm: [{ path: 'app' }] }, "a path that starts with '/', got 'app'"],
    ['ssm[0]', { ssm: [{ name: fine, staleIfError: 1 }] }, 'an option of withCache, not of'],
    ['ssm[0].maxAge', { ssm: [{ name: fine, maxAge: -1, prase: 1 }] }, 'unknown option `prase`'],
    ...['constructor', 'toString', 'hasOwnProperty'].flatMap(
      (option): [string, object, string][] => [
        [`withCache: unknown option \`${option}\``, { [option]: 1 }, 'Known: ssm'],
        [
          `ssm[0]: unknown option \`${option}\``,
          { ssm: [{ name: fine, [option]: 1 }] },
          'Known: as',
        ],
      ],
    ),
    ['__proto__', JSON.parse('{"__proto__":1}') as object, 'unknown option'],
    ['valueOf', { ssm: [{ name: fine, valueOf: () => fine }] }, 'unknown option'],
    ['parse', { custom: [{ as: 'a', load: () => 1, parse: text }] }, 'custom[0]: unknown option'],
    [
      'region',
      { ssm: [{ name: 'arn:aws:ssm:eu-west-1:123456789012:parameter/a', region: 'eu-west-2' }] },
      'says eu-west-2',
    ],
    [
      'region',
      {
        secrets: [
          {
            id: 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf',
            as: 'a',
            region: 'eu-west-2',
          },
        ],
      },
      'says eu-west-2',
    ],
    ['as', { ssm: [{ name: fine, as: '' }] }, "''"],
    ['as', { ssm: [{ name: fine, as: 7 }] }, '7'],
    ['ssm[0] and ssm[1]', { ssm: ['/a/key', '/b/key'] }, '(/a/key and /b/key): set `as`'],
    ['ssm[0] and secrets[0]', { ssm: ['/a/key'], secrets: ['key'] }, '`key`'],
    ...[
      ...[
        'awsRequestId',
        'callbackWaitsForEmptyEventLoop',
        'clientContext',
        'done',
        'fail',
        'functionName',
        'functionVersion',
      ],
      ...[
        'getRemainingTimeInMillis',
        'identity',
        'invokedFunctionArn',
        'logGroupName',
        'logStreamName',
        'memoryLimitInMB',
        'succeed',
      ],
      ...[
        'tenantId',
        'w3c',
        'xRayTraceId',
        '__proto__',
        'constructor',
        'prototype',
        'toString',
        'valueOf',
        'hasOwnProperty',
        'then',
        'toJSON',
      ],
    ].flatMap((as): [string, object, string][] => [
      ['secrets[0]: ', { secrets: [{ id: 'a', as }] }, as],
      ['ssm[0]: ', { ssm: [`/app/${as}`] }, `${as}`],
    ]),
  ]
  for (const [option, options, got] of REFUSED) {
    test(`refuse ${inspect(options, { breakLength: Infinity })}`, async () => {
      await failure(() => withCache(() => {}, options), { code: 'InvalidOptions' }, option, got)
    })
  }

  test('refuse a LAMBDA_CACHE_MAX_AGE that is no number', async () => {
    for (const value of ['-1', 'soon', 'NaN']) {
      process.env.LAMBDA_CACHE_MAX_AGE = value
      await failure(
        () => withCache(() => {}, { ssm: [fine] }),
        { code: 'InvalidOptions' },
        'LAMBDA_CACHE_MAX_AGE',
        'expected ',
        'got ',
      )
    }
  })

  test('refuse options that are none', async () => {
    for (const options of ['ssm', [{ ssm: [] }], null, undefined, [], 5, () => {}])
      await failure(
        () => withCache(() => {}, options as never),
        { code: 'InvalidOptions' },
        'options',
      )
  })

  test('take a LAMBDA_CACHE_MAX_AGE of blanks for none', async () => {
    const aws = await local({ parameters: { '/a': '1' } })
    process.env.LAMBDA_CACHE_MAX_AGE = ' '
    await getParameter('/a')
    pass(MINUTE - 1)
    await getParameter('/a')
    assert.equal(aws.requests.length, 1)
  })

  test('do not show the value of an option that is misspelt', async () => {
    for (const options of [
      { pasword: `${CANARY}-value` },
      { ssm: [{ name: fine, defualt: `${CANARY}-value` }] },
    ]) {
      assertKeepsSecrets(
        await failure(
          () => withCache(() => {}, options as never),
          { code: 'InvalidOptions' },
          'unknown option',
        ),
      )
    }
  })

  test('take undefined as not given', async () => {
    await local({ parameters: { '/a': '1' } })
    const nothing = {
      as: undefined,
      maxAge: undefined,
      region: undefined,
      parse: undefined,
      decrypt: undefined,
      list: undefined,
    }
    const invoke = invoking(
      {
        ssm: [{ name: '/a', ...nothing }],
        secrets: undefined,
        s3: undefined,
        maxAge: undefined,
        region: undefined,
        fetch: undefined,
      },
      'a',
    )
    assert.deepEqual(await invoke(), ['1'])
  })
})
