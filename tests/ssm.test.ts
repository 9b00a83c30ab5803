/** SSM parameters. */
import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { LocalAws } from '../examples/local-aws.js'
import {
  clearCache,
  getParameter,
  getParametersByPath,
  getSecret,
  json,
  type LambdaCacheError,
  withCache,
} from '../lambda-cache.js'
import {
  assertKeepsSecrets,
  CANARY,
  contextWith,
  describeOverBoth,
  failure,
  invoking,
  lambdaContext,
  local,
  parameters,
  pass,
  refusal,
  reply,
  SECOND,
  script,
} from './kit.js'

describeOverBoth('ssm', () => {
  const names = (aws: LocalAws) => aws.requests.map(({ input }) => input.Names)

  test('asks for the names of one tick together, ten at a time', async () => {
    const all = Array.from({ length: 23 }, (_, index) => `/app/p${index}`)
    const aws = await local({
      parameters: Object.fromEntries(all.map((name) => [name, `value of ${name}`])),
    })
    const values = await Promise.all(all.map((name) => getParameter(name)))
    assert.deepEqual(
      values,
      all.map((name) => `value of ${name}`),
    )
    assert.deepEqual(
      aws.requests.map(({ input }) => (input.Names as string[]).length).sort(),
      [10, 10, 3],
    )
    assert.deepEqual(names(aws).flat().sort(), [...all].sort())
  })

  test('asks for a name once, whoever wants it', async () => {
    const aws = await local({ parameters: { '/a': '1', '/b': '2' } })
    const handlers = [
      invoking({ ssm: ['/a', '/b'] }, 'a', 'b'),
      invoking({ ssm: [{ names: ['/b', '/a'], as: 'group' }] }, 'group'),
    ]
    assert.deepEqual(
      await Promise.all([...handlers.map((invoke) => invoke()), getParameter('/a')]),
      [['1', '2'], [{ a: '1', b: '2' }], '1'],
    )
    assert.deepEqual(names(aws), [['/a', '/b']])
  })

  test('asks for what is due alone', async () => {
    const aws = await local({ parameters: { '/a': '1', '/b': '2' } })
    const invoke = invoking({ ssm: [{ name: '/a', maxAge: 10 }, '/b'] }, 'a', 'b')
    await invoke()
    pass(20 * SECOND)
    await invoke()
    assert.deepEqual(names(aws), [['/a', '/b'], ['/a']])
  })

  test('groups by decrypt and region', async () => {
    const aws = await local({
      parameters: { '/a': '1', '/b': { value: '2', type: 'SecureString' }, '/c': '3', '/d': '4' },
    })
    const invoke = invoking(
      {
        ssm: [
          '/a',
          { name: '/b', decrypt: false },
          { name: '/c', region: 'eu-west-1' },
          { name: '/d', decrypt: true },
        ],
      },
      'a',
      'b',
      'c',
      'd',
    )
    const [a, b, c, d] = await invoke()
    assert.deepEqual([a, c, d], ['1', '3', '4'])
    assert.match(String(b), /^AQICAH/, 'what AWS gives without decryption')
    const asked = aws.requests.map(({ input, region }) => [
      region,
      input.WithDecryption,
      input.Names,
    ])
    assert.deepEqual(asked.sort(), [
      ['eu-west-1', true, ['/c']],
      ['us-east-1', false, ['/b']],
      ['us-east-1', true, ['/a', '/d']],
    ])
    assert.equal(await getParameter('/b'), '2', 'encrypted and decrypted do not share an entry')
  })

  test('finds names, ARNs and selectors in the answer, in whatever order it comes', async () => {
    const aws = await local({ parameters: { plain: 'plain', '/app/p': 'one' } })
    aws.putParameter('/app/p', 'two', { labels: ['current'] })
    aws.putParameter('/app/p', 'three')
    const arn = 'arn:aws:ssm:us-east-1:123456789012:parameter'
    const asked = {
      plain: 'plain',
      '/app/p': 'three',
      '/app/p:1': 'one',
      '/app/p:current': 'two',
      [`${arn}/app/p`]: 'three',
      [`${arn}/app/p:1`]: 'one',
      [`${arn}/app/p:current`]: 'two',
      [`${arn}/plain`]: 'plain',
    }
    assert.deepEqual(
      await Promise.all(Object.keys(asked).map((name) => getParameter(name))),
      Object.values(asked),
    )
    assert.equal(aws.requests.length, 1)
  })

  test('names properties without the selector', async () => {
    const aws = await local({ parameters: { '/app/p': 'one' } })
    aws.putParameter('/app/p', 'two', { labels: ['current'] })
    assert.deepEqual(await invoking({ ssm: ['/app/p:1'] }, 'p')(), ['one'])
    assert.deepEqual(await invoking({ ssm: [{ name: '/app/p:current' }] }, 'p')(), ['two'])
    assert.deepEqual(
      await invoking({ ssm: ['arn:aws:ssm:us-east-1:123456789012:parameter/app/p'] }, 'p')(),
      ['two'],
    )
    await failure(getParameter('/app/p:3'), { code: 'ParameterNotFound', id: '/app/p:3' })
  })

  for (const [what, refuse, code] of [
    ['missing', () => {}, 'ParameterNotFound'],
    ['denied', (aws: LocalAws) => aws.deny('ssm:GetParameters', '/b'), 'AccessDeniedException'],
  ] as const) {
    test(`lets one ${what} name fail alone, and keeps its neighbours`, async () => {
      const aws = await local({ parameters: { '/a': '1', '/c': '3' } })
      refuse(aws)
      const results = await Promise.allSettled(['/a', '/b', '/c'].map((name) => getParameter(name)))
      assert.deepEqual(
        results.map((result) =>
          result.status === 'fulfilled' ? result.value : (result.reason as LambdaCacheError).code,
        ),
        ['1', code, '3'],
      )
      await failure(getParameter('/b'), { code, source: 'ssm', id: '/b' }, '/b')
      aws.requests.length = 0
      assert.deepEqual([await getParameter('/a'), await getParameter('/c')], ['1', '3'])
      assert.equal(aws.requests.length, 0)
    })
  }

  test('says that an answer without the name is none', async () => {
    for (const body of [
      {},
      { Parameters: [] },
      { Parameters: [{ Name: '/other', Value: `${CANARY}-value` }] },
      { Parameters: [{ Name: '/a' }] },
      null,
      [],
      '""',
      '7',
    ]) {
      clearCache()
      const { fetch } = script(reply(200, body === null ? 'null' : body))
      assertKeepsSecrets(
        await failure(getParameter('/a', { fetch }), {
          code: 'InvalidAnswer',
          source: 'ssm',
          id: '/a',
          httpStatus: 200,
        }),
      )
    }
  })

  test('gives the default where the only name of a request does not exist, however AWS says so', async () => {
    for (const answer of [
      refusal('ParameterNotFound'),
      refusal('ParameterVersionNotFound'),
      parameters({}, ['/a:3']),
    ]) {
      clearCache()
      assert.equal(
        await getParameter('/a:3', { default: 'default', fetch: script(answer).fetch }),
        'default',
      )
    }
  })

  test('gives a parameter named undefined its own value', async () => {
    const { fetch } = script(
      reply(200, {
        Parameters: [
          { Name: 'undefined', Value: 'own' },
          { Name: '/a', Value: 'other' },
        ],
      }),
    )
    assert.deepEqual(
      await Promise.all([getParameter('undefined', { fetch }), getParameter('/a', { fetch })]),
      ['own', 'other'],
    )
  })

  test('finds a parameter at the root with and without its slash, whichever AWS answers with', async () => {
    const aws = await local({ parameters: { solo: '1', '/rooted': '2', '/app/a': '3' } })
    assert.deepEqual(
      await invoking({ ssm: ['/solo', 'rooted', '/app/a'] }, 'solo', 'rooted', 'a')(),
      ['1', '2', '3'],
    )
    assert.deepEqual(
      await Promise.all(
        ['solo', '/rooted', '/rooted:1', 'solo:1'].map((name) => getParameter(name)),
      ),
      ['1', '2', '2', '1'],
    )
    await failure(getParameter('/none'), { code: 'ParameterNotFound', id: '/none' })
    assert.equal(aws.requests.length, 3)
    for (const [asked, other] of [
      ['/none', 'none'],
      ['none', '/none'],
    ] as const) {
      clearCache()
      const { fetch } = script(parameters({ b: '2' }, [other]))
      assert.deepEqual(
        await Promise.all([
          getParameter(asked, { default: 'default', fetch }),
          getParameter('/b', { fetch }),
        ]),
        ['default', '2'],
      )
    }
  })

  test('counts the age of a tree from the attempt that brought its first page', async () => {
    const slow = (): Response => {
      pass(30 * SECOND)
      return reply(503)
    }
    const { fetch, sent } = script(slow, parameters({ '/app/a': '1' }))
    for (let time = 0; time < 2; time += 1) {
      assert.deepEqual(await getParametersByPath('/app', { fetch }), { a: '1' })
      pass(50 * SECOND)
    }
    assert.equal(sent.length, 2)
  })

  test('trims names and paths, as AWS does', async () => {
    const aws = await local({ parameters: { '/app/a': '1', '/app/b': '2', '/list': 'x,y' } })
    const options = {
      ssm: [
        ' /app/a ',
        '/app/b\t',
        { name: ' /list', list: true },
        { path: ' /app ', as: 'tree' },
        { names: ['/app/a ', ' /app/b'], as: 'group' },
      ],
    } as const
    const handler = withCache(
      (_: unknown, { a, list, tree, group, ...context }) => [
        a,
        list,
        tree,
        group,
        Reflect.get(context, 'b'),
      ],
      options,
    )
    assert.deepEqual(await handler({}, lambdaContext()), [
      '1',
      ['x', 'y'],
      { a: '1', b: '2' },
      { a: '1', b: '2' },
      undefined,
    ])
    assert.equal(aws.requests.length, 2)
  })

  test('takes the one answer to the one name, though it lacks the selector or the rest of the ARN', async () => {
    for (const [asked, answered] of [
      ['/a:3', '/a'],
      ['a:label', '/a'],
      ['arn:aws:ssm:us-east-1:123456789012:parameter/app/a', '/app/a'],
      ['arn:aws:ssm:us-east-1:123456789012:parameter/a:3', 'a'],
    ] as const) {
      clearCache()
      assert.equal(
        await getParameter(asked, { fetch: script(parameters({ [answered]: 'value' })).fetch }),
        'value',
        asked,
      )
      clearCache()
      assert.equal(
        await getParameter(asked, {
          default: 'default',
          fetch: script(parameters({}, [answered])).fetch,
        }),
        'default',
        asked,
      )
    }
  })

  test('asks alone for what an answer to several names lacks, and never mixes versions up', async () => {
    const { fetch, sent } = script(({ body }) => {
      const { Names: names } = JSON.parse(body) as { Names: string[] }
      return reply(200, {
        Parameters: names.map((name) => ({
          Name: name.replace(/:.*/, ''),
          Value: names.length > 1 ? 'whose?' : `only ${name}`,
        })),
        InvalidParameters: [],
      })
    })
    assert.deepEqual(
      await Promise.all(['/a:1', '/a:2', '/b'].map((name) => getParameter(name, { fetch }))),
      ['only /a:1', 'only /a:2', 'whose?'],
    )
    assert.equal(sent.length, 3)
  })

  test('says of an answer that lacks a name that it does', async () => {
    const { fetch } = script(parameters({ '/other': `${CANARY}-value` }))
    for (const read of [
      getParameter('/a', { fetch }),
      invoking({ ssm: ['/a', '/other'], fetch })(),
    ]) {
      assertKeepsSecrets(
        await failure(
          read,
          { code: 'InvalidAnswer', httpStatus: 200 },
          'ssm /a: the answer (HTTP 200) has no parameter /a',
        ),
      )
    }
  })

  test('passes on that a name is malformed, for that name alone', async () => {
    const aws = await local({ parameters: { '/a': '1' } })
    for (const name of ['a/b', '/a//b', '/a/']) {
      clearCache()
      const [good, bad] = [
        getParameter('/a'),
        failure(getParameter(name), { code: 'ValidationException', source: 'ssm', id: name }),
      ]
      assert.deepEqual([await good, (await bad).httpStatus], ['1', 400])
    }
    assert.equal(aws.requests.length, 9)
  })

  test('calls the region of an ARN, before that of the options', async () => {
    const aws = await local({ parameters: { '/a': '1', '/b': '2' } })
    const arn = 'arn:aws:ssm:eu-west-1:123456789012:parameter/a'
    await failure(getParameter(arn, { region: 'eu-west-2' }), { code: 'InvalidOptions' }, 'region')
    for (const entry of [{ name: arn }, { name: arn, region: 'eu-west-1' }]) {
      clearCache()
      aws.requests.length = 0
      await invoking({ ssm: [entry, '/b'], region: 'eu-west-3' })().catch(() => {})
      assert.deepEqual(aws.requests.map(({ region }) => region).sort(), ['eu-west-1', 'eu-west-3'])
    }
    aws.requests.length = 0
    await getSecret('arn:aws:secretsmanager:eu-central-1:123456789012:secret:a-AbCdEf').catch(
      () => {},
    )
    assert.deepEqual(
      aws.requests.map(({ region }) => region),
      ['eu-central-1'],
    )
  })

  test('gives a group as one frozen record', async () => {
    const aws = await local({
      parameters: { '/db/host': 'h', '/db/port': '1', '/db/__proto__': '2' },
    })
    aws.putParameter('/db/port', '5432', { labels: ['current'] })
    const invoke = invoking(
      { ssm: [{ names: ['/db/host', '/db/port:current', '/db/__proto__'], as: 'db' }] },
      'db',
    )
    const [db] = await invoke()
    assert.deepEqual(Object.entries(db as object), [
      ['host', 'h'],
      ['port', '5432'],
      ['__proto__', '2'],
    ])
    assert.ok(Object.isFrozen(db))
    assert.deepEqual(await invoke(), [db])
    const parsed = invoking(
      { ssm: [{ names: ['/db/port', '/db/none'], as: 'db', parse: Number, default: 'none' }] },
      'db',
    )
    assert.deepEqual(await parsed(), [{ port: 5432, none: 'none' }])
  })

  test('names the one name of a group that is missing', async () => {
    await local({ parameters: { '/db/host': 'h' } })
    const error = await failure(
      invoking({ ssm: [{ names: ['/db/host', '/db/port'], as: 'db' }] })(),
      { code: 'ParameterNotFound', source: 'ssm', id: '/db/port' },
    )
    assert.ok(!error.message.includes('/db/host'))
  })

  test('splits a StringList into a frozen array', async () => {
    const aws = await local({
      parameters: { '/hosts': { value: 'a,b,,c', type: 'StringList' }, '/one': 'a' },
    })
    const invoke = invoking(
      {
        ssm: [
          { name: '/hosts', list: true },
          { name: '/one', list: true },
          { name: '/hosts', as: 'whole' },
        ],
      },
      'hosts',
      'one',
      'whole',
    )
    const [hosts, one, whole] = await invoke()
    assert.deepEqual([hosts, one, whole], [['a', 'b', '', 'c'], ['a'], 'a,b,,c'])
    assert.ok(Object.isFrozen(hosts))
    assert.deepEqual(await getParameter('/hosts', { list: true }), hosts)
    assert.equal(aws.requests.length, 1)
  })

  test('reads a tree, page after page', async () => {
    const below = Object.fromEntries(
      Array.from({ length: 25 }, (_, index) => [
        `p${String(index).padStart(2, '0')}`,
        `value ${index}`,
      ]),
    )
    const aws = await local({
      parameters: {
        ...Object.fromEntries(
          Object.entries(below).map(([name, value]) => [`/app/${name}`, value]),
        ),
        '/app/sub/deep': 'deep',
        '/apples': 'no',
      },
    })
    const [tree] = await invoking({ ssm: [{ path: '/app' }] }, 'app')()
    assert.deepEqual(tree, below)
    assert.ok(Object.isFrozen(tree))
    assert.equal(aws.requests.length, 3)
    assert.deepEqual(await getParametersByPath('/app', { recursive: true }), {
      ...below,
      'sub/deep': 'deep',
    })
    assert.deepEqual(await getParametersByPath('/app/', { recursive: true }), {
      ...below,
      'sub/deep': 'deep',
    })
    aws.requests.length = 0
    await getParametersByPath('/app')
    assert.equal(aws.requests.length, 0)
  })

  test('reads a tree from the root', async () => {
    await local({ parameters: { '/a': '1', '/b/c': '2', d: '3' } })
    assert.deepEqual(await getParametersByPath('/'), { a: '1', d: '3' })
    assert.deepEqual(await getParametersByPath('/', { recursive: true }), {
      a: '1',
      'b/c': '2',
      d: '3',
    })
  })

  test('gives {} for a path with nothing below it, or the default', async () => {
    await local()
    assert.deepEqual(await getParametersByPath('/none'), {})
    assert.equal(await getParametersByPath('/none', { default: null }), null)
  })

  test('parses each value of a tree, and decrypts unless told not to', async () => {
    await local({
      parameters: { '/limits/low': '1', '/limits/high': { value: '2', type: 'SecureString' } },
    })
    assert.deepEqual(await getParametersByPath('/limits', { parse: Number }), { low: 1, high: 2 })
    assert.match((await getParametersByPath('/limits', { decrypt: false })).high ?? '', /^AQICAH/)
  })

  test('says which parameter of a tree could not be parsed', async () => {
    await local({ parameters: { '/app/db/port': '1', '/app/db/host': `${CANARY}-value` } })
    assertKeepsSecrets(
      await failure(
        getParametersByPath('/app', { recursive: true, parse: json }),
        { code: 'ParseError', id: '/app' },
        'db/host',
        'SyntaxError',
      ),
    )
  })

  test('takes names that mean something to JavaScript like any other', async () => {
    const special = ['__proto__', 'constructor', 'hasOwnProperty', 'toString']
    await local({
      parameters: Object.fromEntries(special.map((name) => [`/app/${name}`, `value of ${name}`])),
    })
    const tree = await getParametersByPath('/app')
    assert.deepEqual(
      Object.entries(tree),
      special.map((name) => [name, `value of ${name}`]),
    )
    assert.equal(Object.getPrototypeOf(tree), Object.prototype)
    const parsed = await getParametersByPath('/app', { parse: (value) => value.length })
    assert.deepEqual(Object.keys(parsed), special)
    assert.equal(Reflect.get({}, 'polluted'), undefined)
  })

  test('gives no half of a tree', async () => {
    const { fetch } = script(
      reply(200, { Parameters: [{ Name: '/app/a', Value: '1' }], NextToken: 'next' }),
      refusal('InvalidNextToken'),
    )
    await failure(getParametersByPath('/app', { fetch }), {
      code: 'InvalidNextToken',
      source: 'ssm',
      id: '/app',
    })
  })

  test('finds the names of a tree with and without their slash', async () => {
    const { fetch } = script(parameters({ 'app/app/a': '1', '/app/b': '2' }))
    for (const path of ['/app', '/app/'])
      assert.deepEqual(await getParametersByPath(path, { recursive: true, fetch }), {
        'app/a': '1',
        b: '2',
      })
  })

  test('reads no page of a tree for an invocation that has ended', async () => {
    let pages = 0
    const { fetch } = script(() =>
      reply(200, {
        Parameters: [{ Name: '/app/a', Value: '1' }],
        NextToken: `token ${++pages}`,
      }),
    )
    mock.timers.reset()
    await failure(
      withCache(() => assert.fail('half a tree'), { ssm: [{ path: '/app' }], fetch })(
        {},
        contextWith(300),
      ),
      { code: 'Timeout', id: '/app' },
    )
    const read = pages
    await sleep(20)
    assert.ok(pages <= read + 1 && read > 1, `${read} pages, then ${pages}`)
  })

  test('takes a NextToken that comes twice for no answer', async () => {
    for (const tokens of [['a'], ['a', 'b']]) {
      let page = 0
      const { fetch, sent } = script(() =>
        reply(200, { Parameters: [], NextToken: `${CANARY}-${tokens[page++ % tokens.length]}` }),
      )
      clearCache()
      assertKeepsSecrets(
        await failure(
          getParametersByPath('/app', { fetch }),
          { code: 'InvalidAnswer', id: '/app', httpStatus: 200 },
          'NextToken',
        ),
      )
      assert.equal(sent.length, tokens.length + 1)
    }
  })

  test('names the action for a tree that is denied', async () => {
    const aws = await local()
    aws.deny('ssm:GetParametersByPath', '/app')
    await failure(
      getParametersByPath('/app'),
      { code: 'AccessDeniedException', id: '/app' },
      'ssm:GetParametersByPath',
    )
  })
})
