/** The types: checked by tsc alone. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { APIGatewayProxyHandlerV2, Context, Handler, SQSEvent, SQSHandler } from 'aws-lambda'
import {
  type Cached,
  type Fetch,
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  json,
  type LambdaContext,
  type Options,
  type ResponseStream,
  withCache,
  withCacheStream,
} from '../lambda-cache.js'
import { type Equal, type Flags, is, text } from './kit.js'

describe('types', () => {
  test('infer names and types from every form of entry', () => {
    withCache(
      async (event: { name: string }, context) => {
        is<Equal<typeof event.name, string>>()
        is<Equal<typeof context.var, string>>()
        is<Equal<typeof context.pinned, string>>()
        is<Equal<typeof context.from_arn, string>>()
        is<Equal<typeof context.named, string>>()
        is<Equal<typeof context.hosts, readonly string[]>>()
        is<Equal<typeof context.flags, Flags>>()
        is<Equal<typeof context.optional, string | undefined>>()
        is<Equal<typeof context.limit, number | null>>()
        is<Equal<typeof context.db, { readonly host: string; readonly port: string }>>()
        is<Equal<typeof context.limits, { readonly low: number; readonly high: number }>>()
        is<Equal<typeof context.app, Readonly<Record<string, string>>>>()
        is<Equal<typeof context.conn_string, string>>()
        is<Equal<typeof context.key, Uint8Array>>()
        is<Equal<typeof context.login, Flags>>()
        is<Equal<(typeof context)['object.json'], string>>()
        is<Equal<typeof context.model, Uint8Array>>()
        is<Equal<typeof context.settings, Flags>>()
        is<Equal<typeof context.awsRequestId, string>>()
        is<Equal<ReturnType<typeof context.getRemainingTimeInMillis>, number>>()
        // @ts-expect-error: nobody asked for this
        void context.other
        // @ts-expect-error: the last segment is the name
        void context['/prod/app/var']
        // @ts-expect-error: with a name of its own, the last segment is none
        void context.unnamed
        // @ts-expect-error: shared values are not to be modified
        context.var = 'another'
      },
      {
        ssm: [
          '/prod/app/var',
          '/prod/app/pinned:3',
          'arn:aws:ssm:eu-west-1:123456789012:parameter/prod/from_arn',
          { name: '/prod/unnamed', as: 'named' },
          { name: '/prod/hosts', list: true },
          { name: '/prod/flags', parse: json<Flags> },
          { name: '/prod/optional', default: undefined },
          { name: '/prod/limit', parse: Number, default: null },
          { names: ['/prod/db/host', '/prod/db/port'], as: 'db' },
          { names: ['/prod/low', '/prod/high:current'], as: 'limits', parse: Number },
          { path: '/prod/app' },
        ],
        secrets: [
          '/prod/db/conn_string',
          { id: '/prod/db/key', binary: true },
          {
            id: 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:login-AbCdEf',
            as: 'login',
            parse: json<Flags>,
          },
        ],
        s3: [
          's3://bucket/path/to/object.json',
          { uri: 's3://bucket/model', binary: true },
          { uri: 's3://bucket/settings.json', as: 'settings', parse: json<Flags> },
        ],
      },
    )
  })

  test('leave out blanks around the names of parameters, as the run time does', () => {
    withCache(
      async (_: unknown, context) => {
        is<Equal<typeof context.group, { readonly b: string; readonly c: string }>>()
        is<Equal<typeof context.app, Readonly<Record<string, string>>>>()
        is<Equal<typeof context.one, string>>()
      },
      {
        ssm: [{ names: ['/a/b ', '/a/c'], as: 'group' }, { path: '/my/app ' }, { name: '/x/one ' }],
      },
    )
  })

  test('infer the results of direct access', () => {
    const calls = () => {
      is<Equal<Awaited<ReturnType<typeof one>>, string>>()
      is<Equal<Awaited<ReturnType<typeof two>>, readonly string[]>>()
      is<Equal<Awaited<ReturnType<typeof three>>, Flags | undefined>>()
      is<Equal<Awaited<ReturnType<typeof four>>, Readonly<Record<string, number>>>>()
      is<Equal<Awaited<ReturnType<typeof five>>, Uint8Array>>()
      is<Equal<Awaited<ReturnType<typeof six>>, string>>()
    }
    const one = () => getParameter('/a')
    const two = () => getParameter('/a', { list: true })
    const three = () => getSecret('a', { parse: json<Flags>, default: undefined })
    const four = () => getParametersByPath('/a', { parse: Number })
    const five = () => getSecret('a', { binary: true })
    const six = () => getObject('s3://bucket/a', { maxAge: 0 })
    void calls
  })

  test('infer either type where the compiler does not know', () => {
    const flag = Boolean(process.env.FLAG)
    const list = () => getParameter('/a', { list: flag })
    const bytes = () => getSecret('a', { binary: flag })
    is<Equal<Awaited<ReturnType<typeof list>>, string | readonly string[]>>()
    is<Equal<Awaited<ReturnType<typeof bytes>>, string | Uint8Array>>()
    // @ts-expect-error: it is frozen
    void (() => getParameter('/a', { list: true }).then((hosts) => hosts.sort()))
    withCache((_: unknown, context) => is<Equal<typeof context.a, string | Uint8Array>>(), {
      s3: [{ uri: 's3://bucket/a', binary: flag }],
    })
    const options = {
      ssm: [{ name: '/app/limit', parse: Number }],
      secrets: ['a'],
    } as const satisfies Options
    withCache(
      (_: unknown, context) =>
        is<Equal<[typeof context.limit, typeof context.a], [number, string]>>(),
      options,
    )
  })

  test('refuse options that make no sense', () => {
    const ignored = () => {
      // @ts-expect-error: no such source
      withCache(() => {}, { dynamodb: [] })
      // @ts-expect-error: no number
      withCache(() => {}, { maxAge: '60' })
      // @ts-expect-error: no name
      withCache(() => {}, { ssm: [{ as: 'a' }] })
      // @ts-expect-error: no text
      withCache(() => {}, { secrets: [1] })
      // @ts-expect-error: a group needs `as`
      withCache(() => {}, { ssm: [{ names: ['/a'] }] })
      // @ts-expect-error: misspelt
      withCache(() => {}, { maxage: 60 })
      // @ts-expect-error: misspelt
      withCache(() => {}, { ssm: [{ name: '/a', defualt: 1 }] })
      // @ts-expect-error: misspelt
      withCache(() => {}, { ssm: ['/b', { names: ['/a'], as: 'a', decrpyt: true }] })
      // @ts-expect-error: misspelt
      withCache(() => {}, { secrets: [{ id: 'a', versionID: 'a' }] })
      // @ts-expect-error: misspelt
      withCache(() => {}, { s3: [{ uri: 's3://bucket/a', filename: '/tmp/a' }] })
      // @ts-expect-error: of the other sources
      withCache(() => {}, { custom: [{ as: 'a', load: () => 1, parse: text }] })
      // @ts-expect-error: misspelt
      void getSecret('a', { versionID: 'a' })
      // @ts-expect-error: of trees alone
      void getParameter('/a', { recursive: 'yes' })
    }
    void ignored
  })

  test('fit the Handler of @types/aws-lambda without a cast', () => {
    const plain: Handler<{ name: string }, string> = withCache(
      async (event: { name: string }, context) => event.name + context.var,
      { ssm: ['/a/var'] },
    )
    const annotated: Handler<{ id: number }, number> = withCache(
      async (event: { id: number }, context: Context) => event.id + context.logGroupName.length,
      {
        ssm: ['/a/var'],
      },
    )
    const whole: Handler = withCache(async () => {}, {})
    // @ts-expect-error: the event is the handler's
    const wrong: Handler<{ name: number }> = withCache(
      async (event: { name: string }) => event.name,
      {},
    )
    for (const handler of [plain, annotated, whole, wrong]) assert.equal(typeof handler, 'function')
  })

  test('take the global fetch', () => {
    const fetch: Fetch = globalThis.fetch
    assert.equal(typeof fetch, 'function')
  })

  /** As Powertools' `addContext`, an event handler's `resolve` and hono's `handle` have it. */
  const takesContext = (context: Context): string => context.awsRequestId

  test('have a context that fits the Context of @types/aws-lambda, and the other way round', () => {
    const ignored = (given: Context, own: LambdaContext) => {
      is<Equal<typeof same, LambdaContext>>()
      const same: LambdaContext = given
      const other: Context = own
      void [same, other]
      return withCache(
        async (_: unknown, context) => {
          const whole: Context = context
          // @ts-expect-error: newer runtimes do not have it
          void (() => context.succeed('result'))
          // @ts-expect-error: newer runtimes do not have it
          void (() => context.done())
          // @ts-expect-error: newer runtimes do not have it
          void (() => context.fail('error'))
          return [
            takesContext(context),
            takesContext(whole),
            context.clientContext?.env.locale,
            context.var,
          ]
        },
        { ssm: ['/a/var'] },
      )
    }
    void ignored
  })

  test('let a handler name the values in the type of its context, and ask nobody for them', () => {
    const options = {
      ssm: ['/a/var'],
      secrets: [{ id: 'a', as: 'login', parse: json<Flags> }],
    } as const satisfies Options
    const named = withCache(
      async (event: { id: number }, context: Context & Cached<typeof options>) =>
        `${event.id} ${context.var} ${context.login.dark} ${takesContext(context)}`,
      options,
    )
    const own = withCache(
      async (event: { id: number }, context: LambdaContext & Cached<typeof options>) =>
        `${event.id} ${context.var}`,
      options,
    )
    const written = withCache(
      async (event: { id: number }, context: Context & { readonly var: string }) =>
        `${event.id} ${context.var}`,
      { ssm: ['/a/var'] },
    )
    const inferred = withCache(
      async (event: { id: number }, context) => `${event.id} ${context.login.dark}`,
      options,
    )
    const handlers: Handler<{ id: number }, string>[] = [named, own, written, inferred]
    const ignored = (context: Context) => {
      void [
        named({ id: 1 }, context),
        own({ id: 1 }, context),
        written({ id: 1 }, context),
        inferred({ id: 1 }, context),
      ]
      // @ts-expect-error: no context
      void named({ id: 1 }, {})
      type Other = Context & { readonly other: string }
      const other = withCache(async (_: unknown, { other }: Other) => other, options)
      // @ts-expect-error: options that do not have it
      void other({}, context)
    }
    void ignored
    assert.equal(handlers.length, 4)
  })

  test('infer the event from a handler type of @types/aws-lambda', () => {
    const queue: SQSHandler = withCache(
      async (event, context) => {
        is<Equal<typeof event, SQSEvent>>()
        is<Equal<typeof context.var, string>>()
        return {
          batchItemFailures: event.Records.map(({ messageId }) => ({
            itemIdentifier: messageId + context.var + takesContext(context),
          })),
        }
      },
      { ssm: ['/a/var'] },
    )
    const gateway: APIGatewayProxyHandlerV2<{ ok: boolean }> = withCache(
      async (event, context) => ({ ok: event.rawPath === context.var }),
      { ssm: ['/a/var'] },
    )
    assert.deepEqual([typeof queue, typeof gateway], ['function', 'function'])
  })

  test('let a handler that streams name the values, too', () => {
    const options = { ssm: ['/a/var'] } as const satisfies Options
    const streams = withCacheStream(
      async (
        event: { id: number },
        stream: ResponseStream,
        context: Context & Cached<typeof options>,
      ) => void stream.end(`${event.id} ${context.var}`),
      options,
    )
    const ignored = (stream: ResponseStream, context: Context) =>
      void streams({ id: 1 }, stream, context)
    void ignored
  })
})
