/** Values that are bad, and answers that are odd. */
import assert from 'node:assert/strict'
import { describe, mock, test } from 'node:test'
import {
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  json,
  withCache,
} from '../lambda-cache.js'
import { lambdaContext } from './context.js'
import {
  advance,
  assertKeepsSecrets,
  CANARY,
  consoleLines,
  contextWith,
  failure,
  HOUR,
  invoking,
  isSettled,
  MINUTE,
  mockTimeouts,
  pass,
  present,
  refusal,
  reply,
  SECOND,
  SECRETS,
  SOURCES,
  SSM,
  scene,
  script,
} from './kit.js'

const throttled = refusal('ThrottlingException')

describe('a bad value', () => {
  for (const source of SOURCES) {
    test(`that is pushed does not take the place of a good one: ${source.source}`, async () => {
      const lines = consoleLines()
      const aws = scene(source.answer('{"a":1}'))
      const options = { ...source.entry({ parse: json }), fetch: aws.fetch }
      const invoke = invoking(options, 'value')
      assert.deepEqual(await invoke(), [{ a: 1 }])
      const bad = `{"${CANARY}`
      aws.say(source.answer(bad))
      pass(MINUTE)
      assert.deepEqual(await invoke(), [{ a: 1 }])
      assert.deepEqual(await invoke(), [{ a: 1 }])
      assert.equal(lines.length, 1, 'one line for all who get it')
      assert.match(
        present(lines[0]),
        /serving the value of 60 s ago: parse failed with SyntaxError/,
      )
      assert.ok(!present(lines[0]).includes(CANARY))
      assert.equal(aws.sent.length, 2)
      pass(4999)
      await invoke()
      assert.equal(aws.sent.length, 2)
      pass(1)
      assert.deepEqual(await invoke(), [{ a: 1 }])
      assert.equal(aws.sent.length, 3, 'read again after 5 s')
      // Those without `parse` get what is there.
      const raw = await source.read({ fetch: aws.fetch, parse: (text) => text })
      assert.equal(raw, bad)
      pass(4 * MINUTE + 54 * SECOND)
      assert.deepEqual(await invoke(), [{ a: 1 }])
      pass(SECOND)
      assertKeepsSecrets(await failure(invoke(), { code: 'ParseError', source: source.source }))
      aws.say(source.answer('{"a":2}'))
      pass(5 * SECOND)
      assert.deepEqual(await invoke(), [{ a: 2 }])
    })

    test(`ahead of time leaves the one that has not expired: ${source.source}`, async () => {
      const lines = consoleLines()
      const aws = scene(source.answer('{"a":1}'))
      const options = { ...source.entry({ parse: json }), fetch: aws.fetch }
      const invoke = invoking(options, 'value')
      await invoke()
      aws.say(source.answer('{'))
      pass(50 * SECOND)
      assert.deepEqual(await invoke(), [{ a: 1 }])
      assert.deepEqual(await invoke(), [{ a: 1 }])
      assert.equal(lines.length, 1)
      aws.say(source.answer('{"a":2}'))
      pass(4999)
      assert.deepEqual(await invoke(), [{ a: 1 }])
      pass(1)
      assert.deepEqual(await invoke(), [{ a: 2 }])
    })
  }

  test('that others have read, who do not parse it, is read again', async () => {
    const aws = scene(SECRETS.answer('{'))
    await SECRETS.read({ fetch: aws.fetch, maxAge: Infinity })
    const options = { ...SECRETS.entry({ parse: json }), fetch: aws.fetch, maxAge: Infinity }
    const invoke = invoking(options, 'value')
    pass(4999)
    assertKeepsSecrets(await failure(invoke(), { code: 'ParseError', source: 'secrets' }))
    assert.equal(aws.sent.length, 1, 'it has just been read')
    aws.say(SECRETS.answer('{"a":1}'))
    pass(1)
    assert.deepEqual(await invoke(), [{ a: 1 }])
    assert.equal(aws.sent.length, 2)
    pass(HOUR)
    aws.say(SECRETS.answer('{"a":2}'))
    assert.deepEqual(await invoke(), [{ a: 1 }])
  })

  test('that is old, and that others have read, is no error for who parses it first', async () => {
    const aws = scene(SECRETS.answer('{'))
    await SECRETS.read({ fetch: aws.fetch, maxAge: Infinity })
    aws.say(SECRETS.answer('{"a":1}'))
    pass(MINUTE)
    const options = { ...SECRETS.entry({ parse: json }), fetch: aws.fetch, maxAge: Infinity }
    assert.deepEqual(await invoking(options, 'value')(), [{ a: 1 }])
  })

  test('at first is an error, and is read again after a while', async () => {
    const aws = scene(SECRETS.answer('{'))
    const options = { secrets: [{ id: 'a', parse: json }], fetch: aws.fetch }
    const invoke = invoking(options, 'a')
    await failure(invoke(), { code: 'ParseError' })
    await failure(invoke(), { code: 'ParseError' })
    assert.equal(aws.sent.length, 1)
    aws.say(SECRETS.answer('{}'))
    pass(5 * SECOND)
    assert.deepEqual(await invoke(), [{}])
  })

  test('that was read elsewhere keeps no wrapper from the next one', async () => {
    consoleLines()
    const aws = scene(SECRETS.answer('{"a":1}'))
    const options = { secrets: [{ id: 'a', parse: json, maxAge: HOUR }], fetch: aws.fetch }
    const invoke = invoking(options, 'a')
    await invoke()
    aws.say(SECRETS.answer('{'))
    await failure(
      getSecret('a', { fetch: aws.fetch, parse: (text) => JSON.parse(text), maxAge: 0 }),
    )
    assert.deepEqual(await invoke(), [{ a: 1 }])
    aws.say(SECRETS.answer('{"a":3}'))
    pass(5 * SECOND)
    assert.deepEqual(await invoke(), [{ a: 3 }])
  })

  test('is the error where there was none before, be it with a default', async () => {
    const aws = scene(refusal('ResourceNotFoundException'))
    const { fetch } = aws
    assert.equal(await getSecret('a', { fetch, parse: json, default: 0 }), 0)
    aws.say(SECRETS.answer('{'))
    await failure(getSecret('a', { fetch, parse: json, maxAge: 0 }), { code: 'ParseError' })
  })

  test('does not make a handler run once more with what it had', async () => {
    consoleLines()
    const aws = scene(SECRETS.answer('{"a":1}'))
    let runs = 0
    const handler = withCache(
      () => {
        runs += 1
        throw new Error('refused')
      },
      { secrets: [{ id: 'a', parse: json }], fetch: aws.fetch, refreshOn: () => true },
    )
    await handler.prefetch()
    aws.say(SECRETS.answer('{'))
    await assert.rejects(handler({}, lambdaContext()), { message: 'refused' })
    assert.equal(runs, 1)
  })
})

describe('an answer with other types than AWS documents', () => {
  const WRONG: readonly unknown[] = [1, true, {}, ['text'], null]
  for (const wrong of WRONG) {
    const answers: readonly (readonly [string, object])[] = [
      ['Value', { Parameters: [{ Name: '/app/value', Value: wrong }] }],
      ['SecretString', { SecretString: wrong }],
      ...(wrong === null
        ? []
        : ([
            ['Name', { Parameters: [{ Name: wrong, Value: 'value' }] }],
            ['ARN', { Parameters: [{ ARN: wrong, Value: 'value' }] }],
            ['Selector', { Parameters: [{ Name: '/app/value', Selector: wrong, Value: 'value' }] }],
            ['InvalidParameters', { Parameters: [], InvalidParameters: [wrong] }],
          ] as const)),
      ['Parameters', { Parameters: [wrong] }],
    ]
    for (const [field, answer] of answers) {
      test(`is InvalidAnswer: ${JSON.stringify(wrong)} as ${field}`, async () => {
        const { fetch } = script(reply(200, answer))
        const read = field.startsWith('Secret') ? SECRETS.read({ fetch }) : SSM.read({ fetch })
        await failure(read, { code: 'InvalidAnswer', httpStatus: 200 })
      })
    }
  }

  test('is InvalidAnswer: a NextToken that is no text', async () => {
    const { fetch } = script(reply(200, { Parameters: [], NextToken: 7 }))
    await failure(getParametersByPath('/t', { fetch }), { code: 'InvalidAnswer' })
  })

  test('is an answer where a field is null that may be missing', async () => {
    const { fetch } = script(
      reply(200, {
        Parameters: [{ Name: '/app/value', ARN: null, Selector: null, Value: 'value' }],
        InvalidParameters: null,
      }),
    )
    assert.equal(await SSM.read({ fetch }), 'value')
  })
})

describe('the code of an error', () => {
  test('is what stands in its element, whatever stands behind it', async () => {
    const body =
      '<Error><Code>NoSuchKey</Code><Message>no &#39;a#1&#39;</Message><Key>a#1</Key></Error>'
    const { fetch } = script(reply(404, body))
    assert.equal(
      await getObject('s3://bucket/a#1', { fetch, binary: true, default: 'none' }),
      'none',
    )
  })
})

describe('a batch', () => {
  test('has the time of whoever has most of it', async () => {
    mockTimeouts()
    mock.method(Math, 'random', () => 1)
    const { fetch, sent } = script(throttled)
    const [hurried, patient] = [1500, 9000].map((milliseconds, index) =>
      failure(
        withCache(() => {}, { ssm: [`/p${index}`], fetch })({}, contextWith(milliseconds)),
        index === 0 ? {} : { code: 'ThrottlingException' },
      ),
    )
    await advance(1500)
    await hurried
    await advance(6000)
    assert.equal(await isSettled(patient as Promise<unknown>), false)
    await advance(1500)
    await patient
    assert.equal(sent.length, 5)
  })
})

describe('a clock that AWS finds wrong', () => {
  const expired = (date: string): Response =>
    reply(400, { __type: 'InvalidSignatureException', message: 'Signature expired' }, { date })

  for (const date of ['tomorrow', '', 'Fri, 01 Jan 12026 00:00:00 GMT', '1969-01-01'])
    test(`without a date that can be: '${date}'`, async () => {
      const { fetch, sent } = script(expired(date))
      await failure(SSM.read({ fetch }), { code: 'InvalidSignatureException' })
      assert.equal(sent.length, 1)
    })

  test('and that is right is signed again, once', async () => {
    const { fetch, sent } = script(expired(new Date(Date.now()).toISOString()))
    await failure(SSM.read({ fetch }), { code: 'InvalidSignatureException' })
    assert.equal(sent.length, 2)
  })
})

describe('two names in one answer', () => {
  const CASES: readonly (readonly [string, string])[] = [
    ['/a/limit', '/a/limit:3'],
    ['/a/limit:2', '/a/limit:3'],
    ['/a/limit:old', '/a/limit'],
    ['host', '/a/db/host'],
    ['/host', '/a/db/host'],
    ['/a/db/host', '/b/a/db/host'],
    ['arn:aws:ssm:us-east-1:123456789012:parameter/a/db/host', '/db/host'],
  ]
  for (const [one, other] of CASES)
    for (const names of [
      [one, other],
      [other, one],
    ]) {
      test(`are told apart: ${names.join(' and ')}`, async () => {
        const { fetch } = script(({ body }) => {
          const { Names } = JSON.parse(body) as { Names: string[] }
          return reply(200, {
            Parameters: Names.map((name) => {
              const arn = name.startsWith('arn:')
              const [whole = '', version] = name.replace(/^arn:.*:parameter/, '').split(':')
              return {
                Name: whole,
                ARN: `arn:aws:ssm:us-east-1:123456789012:parameter${arn || whole.startsWith('/') ? whole : `/${whole}`}`,
                ...(version && { Selector: `:${version}` }),
                Value: `value of ${name}`,
              }
            }).reverse(),
          })
        })
        const values = await Promise.all(names.map((name) => getParameter(name, { fetch })))
        assert.deepEqual(
          values,
          names.map((name) => `value of ${name}`),
        )
      })
    }
})
