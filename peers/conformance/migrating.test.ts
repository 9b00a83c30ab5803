/** Every row of docs/migrating.md, as it stands there: what the other package gives, and what this one does. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, beforeEach, describe, test } from 'node:test'
import { clearCaches } from '@aws-lambda-powertools/parameters'
import * as powertoolsSecrets from '@aws-lambda-powertools/parameters/secrets'
import * as powertoolsParameters from '@aws-lambda-powertools/parameters/ssm'
import * as s3 from '@aws-sdk/client-s3'
import * as secretsManagerClient from '@aws-sdk/client-secrets-manager'
import * as ssmClient from '@aws-sdk/client-ssm'
import middy from '@middy/core'
import secretsManager from '@middy/secrets-manager'
import ssm from '@middy/ssm'
import { clearCache as clearMiddy } from '@middy/util'
import { startLocalAws } from '../../examples/local-aws.js'
import * as library from '../../lambda-cache.js'
import { useEnvironment } from './kit.js'

const page = await readFile(new URL('../../docs/migrating.md', import.meta.url), 'utf8')

/** What the code of a row may name. */
const SCOPES: Readonly<Record<string, object>> = {
  'AWS SDK': { ...ssmClient, ...secretsManagerClient, ...s3 },
  middy: { ssm, secretsManager },
  Powertools: { ...powertoolsParameters, ...powertoolsSecrets, clearCaches },
}

const rows = [...page.matchAll(/^\| (AWS SDK|middy|Powertools) \| `(.+?)` \| `(.+?)` \| (.*)\|$/gm)]
  .map(([, from = '', theirs = '', ours = '', differs = '']) => ({ from, theirs, ours, differs }))
  // The table of ages has as many columns.
  .filter(({ theirs }) => theirs.includes('('))

let aws: Awaited<ReturnType<typeof startLocalAws>>
before(async () => {
  aws = await startLocalAws({
    parameters: {
      '/prod/token': { value: 'token', type: 'SecureString' },
      '/prod/app/level': 'info',
      '/prod/app/db/host': 'db.internal',
      '/prod/app/flags': '{"beta":true}',
    },
    secrets: { '/prod/db': '{"user":"app"}', '/prod/key': 'key' },
    objects: { 's3://bucket/flags.json': '{"beta":true}' },
  })
})
after(() => aws.close())
beforeEach(() => {
  clearCaches()
  // middy keeps what an `ssm()` has fetched for every other one.
  clearMiddy()
})
useEnvironment(() => aws.env)

/** The value of an expression, which may have `await` in it. */
function evaluate(expression: string, scope: object): Promise<unknown> {
  const names = Object.keys(scope).filter((name) => /^[a-z]\w*$/i.test(name) && name !== 'default')
  const run = new Function(...names, `return (async () => (${expression}))()`)
  return run(...names.map((name) => Reflect.get(scope, name))) as Promise<unknown>
}

const CONTEXT = { getRemainingTimeInMillis: () => 3000 }

/** What a middleware puts on the context. */
async function contextOf(middleware: unknown): Promise<object> {
  let seen: object = {}
  const handler = middy(async (_event: unknown, context: object) => {
    const { getRemainingTimeInMillis: _, ...values } = context as typeof CONTEXT
    seen = values
  }).use(middleware as never) as unknown as (event: object, context: object) => Promise<unknown>
  await handler({}, { ...CONTEXT })
  return seen
}

/** What `withCache` puts there. */
async function cached(options: library.Options): Promise<object> {
  const { as = '' } = [...(options.ssm ?? []), ...(options.secrets ?? [])][0] as { as?: string }
  const handler = library.withCache(
    (_event: object, context) => ({ [as]: Reflect.get(context, as) as unknown }),
    options,
  )
  return (await handler({}, CONTEXT as library.LambdaContext)) as object
}

describe('a row of docs/migrating.md gives the same', () => {
  test('there are rows for each package', () => {
    for (const from of Object.keys(SCOPES))
      assert.ok(rows.filter((row) => row.from === from).length > 3, from)
  })

  for (const { from, theirs, ours, differs } of rows)
    test(`${from}: ${theirs}`, async () => {
      const given = await evaluate(theirs, SCOPES[from] ?? {})
      const before = from === 'middy' ? await contextOf(given) : given
      const isOptions = /^(ssm|secrets|s3): /.test(ours)
      const now = await evaluate(isOptions ? `{ ${ours} }` : ours, library)
      const after = isOptions ? await cached(now as library.Options) : now
      if (differs.trim()) assert.notDeepEqual(plain(after), plain(before))
      else assert.deepEqual(plain(after), plain(before))
    })

  test('what differs of a tree is the names and the JSON', async () => {
    const { app: before } = (await contextOf(
      ssm({ fetchData: { app: '/prod/app/' }, setToContext: true } as never),
    )) as { app: object }
    const tree = await library.getParametersByPath('/prod/app', { recursive: true })
    const renamed = Object.entries(tree).map(([name, value]) => [
      name.replaceAll('/', '_'),
      value.startsWith('{') ? (JSON.parse(value) as unknown) : value,
    ])
    assert.deepEqual(Object.fromEntries(renamed), plain(before))
  })

  test('both have a variable for how long a value stays', async () => {
    process.env.POWERTOOLS_PARAMETERS_MAX_AGE = '0'
    process.env.LAMBDA_CACHE_MAX_AGE = '0'
    const reads = [powertoolsParameters.getParameter, library.getParameter] as ((
      name: string,
    ) => Promise<unknown>)[]
    for (const read of reads) {
      const asked = aws.requests.length
      for (let time = 0; time < 3; time += 1) await read('/prod/app/level')
      assert.equal(aws.requests.length - asked, 3)
    }
  })
})

/** Without prototypes and freezing. */
function plain(value: unknown): unknown {
  return structuredClone(value)
}
