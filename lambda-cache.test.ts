/**
 * The tests of lambda-cache.ts, in the order of its sections: node:test through tsx, against the AWS of examples/local-aws.ts
 * or against a fetch that answers from a script. Traffic stays on loopback, and the clock stands still.
 */
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import crypto from 'node:crypto'
import { once } from 'node:events'
import { existsSync, promises, readdirSync, readFileSync } from 'node:fs'
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import type { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { describe, mock, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { format, inspect, promisify } from 'node:util'
import zlib, { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import type { APIGatewayProxyHandlerV2, Context, Handler, SQSEvent, SQSHandler } from 'aws-lambda'
import { buildSync } from 'esbuild'
import type { LocalAws, Seed } from './examples/local-aws.js'
import {
  type Cached,
  type Credentials,
  clearCache,
  type ErrorDetails,
  type Fetch,
  type FetchResponse,
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  httpsFetch,
  json,
  LambdaCacheError,
  type LambdaContext,
  type Options,
  type ResponseStream,
  type SignRequest,
  sign,
  withCache,
  withCacheStream,
} from './lambda-cache.js'
import { missingFrom, outcomeOf, ROWS } from './tests/errors.js'
import { heapUsed } from './tests/heap.js'
import {
  type Answer,
  advance,
  assertKeepsSecrets,
  CACHED,
  CANARY,
  callLoopback,
  calm,
  cleanups,
  consoleLines,
  contextWith,
  describeOverBoth,
  ENVIRONMENT,
  elapse,
  everythingIn,
  failure,
  HOUR,
  invoking,
  isSettled,
  lambdaContext,
  local,
  MINUTE,
  mockTimeouts,
  parameters,
  pass,
  present,
  refusal,
  reply,
  responseStream,
  S3,
  type Scene,
  type Script,
  SECOND,
  SECRETS,
  type Sent,
  SOURCES,
  type SourceCase,
  SSM,
  START,
  scene,
  script,
  serve,
  setEnvironment,
  signing,
  TRANSPORTS,
  temporaryFolder,
  text,
  transport,
  turns,
  unreachable,
  until,
  xml,
} from './tests/kit.js'
import { eventually, HANGS, MEBIBYTE, ROOT, startProcess, succeeded } from './tests/remote.js'
import { bundleOf } from './tests/size.js'

// ---- Options and types: checked by tsc alone ----

type Equal<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Compiles where `T` is true. */
function is<T extends true>(..._: T[]): void {}

interface Flags {
  readonly dark: boolean
}

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

// ---- Errors ----

const AWS_HOSTS = {
  ssm: 'ssm.us-east-1.amazonaws.com',
  secrets: 'secretsmanager.us-east-1.amazonaws.com',
  s3: 'bucket.s3.us-east-1.amazonaws.com',
}

interface ErrorCase {
  readonly code: string
  /** Exact. No other test looks at more than parts of a message. */
  readonly message: string
  /** What is done, with a fetch that gives these answers. */
  readonly answers?: readonly (Answer | ((sent: Sent) => Answer))[]
  readonly environment?: Record<string, string>
  readonly act: (fetch: Fetch, folder: string) => unknown
}

const ERRORS: readonly ErrorCase[] = [
  {
    code: 'InvalidOptions',
    message: 'withCache.maxAge: expected a number of seconds >= 0, got NaN',
    act: () => withCache(() => {}, { maxAge: NaN }),
  },
  {
    code: 'InvalidOptions',
    message: 'withCache: expected a handler, got undefined: is it defined before it is wrapped?',
    act: () => withCache(undefined as never, {}),
  },
  {
    code: 'InvalidOptions',
    message:
      'withCache: unknown option `retries`. Known: ssm, secrets, s3, custom, refreshOn, maxAge, region, staleIfError, credentials, fetch',
    act: () => withCache(() => {}, { retries: 3 } as Options),
  },
  {
    code: 'InvalidOptions',
    message: "withCache.ssm: expected an array of names or entries, got '/app/value'",
    act: () => withCache(() => {}, { ssm: '/app/value' } as never),
  },
  {
    code: 'InvalidOptions',
    message: 'ssm[0].name: expected a string that is not empty, got undefined',
    act: () => withCache(() => {}, { ssm: [{}] } as never),
  },
  {
    code: 'InvalidOptions',
    message: 'ssm[0] and ssm[1] are both named `key` (/a/key and /b/key): set `as` in one',
    act: () => withCache(() => {}, { ssm: ['/a/key', '/b/key'] }),
  },
  {
    code: 'InvalidOptions',
    message:
      'ssm[0].names: /a/key and /b/key both end in `key`: read one of them in an entry of its own',
    act: () => withCache(() => {}, { ssm: [{ names: ['/a/key', '/b/key'], as: 'keys' }] }),
  },
  {
    code: 'InvalidOptions',
    message: 'secrets[0]: the ARN of a secret ends in random characters: set `as`',
    act: () =>
      withCache(() => {}, {
        secrets: ['arn:aws:secretsmanager:us-east-1:123456789012:secret:a-AbCdEf'],
      }),
  },
  {
    code: 'InvalidOptions',
    message: "s3[0].uri: expected s3://bucket/key, got 'https://bucket/key'",
    act: () => withCache(() => {}, { s3: ['https://bucket/key' as string] }),
  },
  {
    code: 'InvalidOptions',
    message: "LAMBDA_CACHE_MAX_AGE: expected a number of seconds >= 0, got 'soon'",
    environment: { LAMBDA_CACHE_MAX_AGE: 'soon' },
    act: () => withCache(() => {}, { ssm: ['/a'] }),
  },
  {
    code: 'InvalidOptions',
    message: "ssm /app/value: region: expected one like eu-west-1, got 'mars'",
    environment: { AWS_REGION: 'mars' },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'InvalidOptions',
    message: 's3 s3://bucket/two: another object is downloaded to /folder/file: set `file` in one',
    answers: [reply(200, `${CANARY}-body`)],
    act: async (fetch, folder) => {
      await getObject('s3://bucket/one', { file: `${folder}/file`, fetch })
      await getObject('s3://bucket/two', { file: `${folder}/file`, fetch })
    },
  },
  {
    code: 'NoRegion',
    message: 'ssm /app/value: no region: set AWS_REGION or the option `region`',
    environment: { AWS_REGION: '' },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NoCredentials',
    message:
      'ssm /app/value: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the option `credentials`',
    environment: { AWS_ACCESS_KEY_ID: '' },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NoCredentials',
    message:
      "ssm /app/value: AWS_CONTAINER_CREDENTIALS_FULL_URI: http is allowed to loopback and AWS's own addresses only, got creds.internal",
    environment: {
      AWS_ACCESS_KEY_ID: '',
      AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://creds.internal/',
    },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NoCredentials',
    message:
      'ssm /app/value: container credentials: HTTP 403 without credentials from http://169.254.170.2',
    environment: {
      AWS_ACCESS_KEY_ID: '',
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/c',
      AWS_CONTAINER_AUTHORIZATION_TOKEN: `${CANARY}-token`,
    },
    answers: [reply(403, `${CANARY}-body`)],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NoCredentials',
    message:
      'ssm /app/value: container credentials: cannot read /none, to which AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE points',
    environment: {
      AWS_ACCESS_KEY_ID: '',
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/c',
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: '/none',
    },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'InvalidEndpoint',
    message:
      'ssm /app/value: AWS_ENDPOINT_URL: expected http(s)://host, got one with credentials or a query',
    environment: { AWS_ENDPOINT_URL: `http://user:${CANARY}@127.0.0.1` },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'InvalidEndpoint',
    message:
      'ssm /app/value: AWS_USE_FIPS_ENDPOINT and AWS_ENDPOINT_URL exclude each other: unset one of them',
    environment: { AWS_ENDPOINT_URL: 'http://127.0.0.1', AWS_USE_FIPS_ENDPOINT: 'true' },
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'InvalidEndpoint',
    message: 's3 s3://bucket/app/value: S3 has no FIPS address in the region cn-north-1',
    environment: { AWS_REGION: 'cn-north-1', AWS_USE_FIPS_ENDPOINT: 'true' },
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'ParameterNotFound',
    message:
      'ssm /app/value: ParameterNotFound: there is no such parameter in us-east-1: check name and region, or give a `default`',
    answers: [parameters({}, ['/app/value'])],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'ResourceNotFoundException',
    message:
      'secrets app/value: ResourceNotFoundException (HTTP 400) from https://secretsmanager.us-east-1.amazonaws.com: "AWS says why": check name and region (us-east-1), or give a `default`',
    answers: [refusal('ResourceNotFoundException')],
    act: (fetch) => SECRETS.read({ fetch }),
  },
  {
    code: 'NoSuchKey',
    message:
      's3 s3://bucket/app/value: NoSuchKey (HTTP 404) from https://bucket.s3.us-east-1.amazonaws.com: "AWS says why": check name and region (us-east-1), or give a `default`',
    answers: [xml(404, 'NoSuchKey')],
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'AccessDeniedException',
    message:
      'ssm /app/value: AccessDeniedException (HTTP 400) from https://ssm.us-east-1.amazonaws.com: "AWS says why": the role needs ssm:GetParameters',
    answers: [refusal('AccessDeniedException')],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'AccessDeniedException',
    message:
      'ssm /app: AccessDeniedException (HTTP 400) from https://ssm.us-east-1.amazonaws.com: "AWS says why": the role needs ssm:GetParametersByPath',
    answers: [refusal('AccessDeniedException')],
    act: (fetch) => getParametersByPath('/app', { fetch }),
  },
  {
    code: 'AccessDeniedException',
    message:
      'secrets app/value: AccessDeniedException (HTTP 400) from https://secretsmanager.us-east-1.amazonaws.com: "AWS says why": the role needs secretsmanager:GetSecretValue',
    answers: [refusal('AccessDeniedException')],
    act: (fetch) => SECRETS.read({ fetch }),
  },
  {
    code: 'AccessDenied',
    message:
      's3 s3://bucket/app/value: AccessDenied (HTTP 403) from https://bucket.s3.us-east-1.amazonaws.com: "AWS says why": the role needs s3:GetObject, or the object does not exist: without s3:ListBucket, S3 answers 403 for 404',
    answers: [xml(403, 'AccessDenied')],
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'AccessDenied',
    message:
      's3 s3://bucket/key: AccessDenied (HTTP 403) from https://bucket.s3.us-east-1.amazonaws.com: "AWS says why": the role needs s3:GetObjectVersion, or the object does not exist: without s3:ListBucket, S3 answers 403 for 404',
    answers: [xml(403, 'AccessDenied')],
    act: (fetch) => getObject('s3://bucket/key', { versionId: '1', parse: text, fetch }),
  },
  {
    code: 'SignatureDoesNotMatch',
    message:
      's3 s3://bucket/app/value: SignatureDoesNotMatch (HTTP 403) from https://bucket.s3.us-east-1.amazonaws.com: AWS does not accept the signature: check AWS_SECRET_ACCESS_KEY or what `credentials` returns, and proxies that change requests',
    // S3 quotes what it was sent.
    answers: [
      ({ headers }) =>
        reply(
          403,
          `<Error><Code>SignatureDoesNotMatch</Code><CanonicalRequest>${JSON.stringify(headers)}</CanonicalRequest></Error>`,
        ),
    ],
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'ThrottlingException',
    message:
      'ssm /app/value: ThrottlingException (HTTP 400) from https://ssm.us-east-1.amazonaws.com: "AWS says why", 4 attempts in 10 s: raise `maxAge`, the quota or the function\'s timeout',
    answers: [
      () => {
        pass(2500)
        return refusal('ThrottlingException')
      },
    ],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'Http502',
    message:
      "s3 s3://bucket/app/value: HTTP 502 with text/plain from https://bucket.s3.us-east-1.amazonaws.com, 3 attempts in 0 ms: that is not AWS's answer: is a proxy in between, or `fetch` mocked?",
    answers: [reply(502, `<html>${CANARY}-body`)],
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'InvalidAnswer',
    message:
      "secrets app/value: https://secretsmanager.us-east-1.amazonaws.com answered HTTP 200 with text/plain, not with AWS's JSON, 3 attempts in 0 ms: is a proxy in between, or `fetch` mocked?",
    answers: [reply(200, `<html>${CANARY}-body`)],
    act: (fetch) => SECRETS.read({ fetch }),
  },
  {
    code: 'InvalidAnswer',
    message: 'ssm /app/value: an answer of over 8 MiB, 3 attempts in 0 ms',
    answers: [reply(200, `"${CANARY.repeat(1_500_000)}"`)],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NetworkError',
    message:
      'ssm /app/value: no answer from https://ssm.us-east-1.amazonaws.com (ECONNREFUSED), 3 attempts in 0 ms',
    answers: [unreachable('ECONNREFUSED')],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'NetworkError',
    message: 's3 s3://bucket/app/value: the body of the answer was cut short, 3 attempts in 0 ms',
    answers: [reply(200, `${CANARY}-body`, { 'content-length': '99' })],
    act: (fetch) => S3.read({ fetch }),
  },
  {
    code: 'RequestFailed',
    message:
      'ssm /app/value: the certificate of https://ssm.us-east-1.amazonaws.com is not trusted (CERT_HAS_EXPIRED): set NODE_EXTRA_CA_CERTS if a proxy opens TLS',
    answers: [unreachable('CERT_HAS_EXPIRED')],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'RequestFailed',
    message:
      'ssm /app/value: the option `fetch` failed with TypeError, not retried: its words may quote a header: call it yourself to see them',
    answers: [
      ({ headers }) =>
        new TypeError(`Headers.append: "${headers.authorization}" is an invalid header value.`),
    ],
    act: (fetch) => SSM.read({ fetch }),
  },
  {
    code: 'Timeout',
    message:
      'ssm /app/value: no answer from https://ssm.us-east-1.amazonaws.com (TimeoutError), 3 attempts in 10 s: does the VPC have an endpoint or a NAT gateway?',
    answers: ['never'],
    act: (fetch) => elapse(() => SSM.read({ fetch })),
  },
  {
    code: 'ParseError',
    message:
      'ssm /app/value: parse failed with SyntaxError at position 25: its words may quote the value: call `parse` yourself to see them',
    answers: [SSM.answer(`{"password":"${CANARY}-value`)],
    act: (fetch) => SSM.read({ fetch, parse: json }),
  },
  {
    code: 'BinarySecret',
    message: 'secrets app/value: the secret is binary, and no text: set `binary: true`',
    answers: [reply(200, { SecretBinary: Buffer.from(`${CANARY}-value`).toString('base64') })],
    act: (fetch) => SECRETS.read({ fetch }),
  },
  {
    code: 'UnsupportedKey',
    message:
      "s3 s3://bucket/a/../key: no URL can carry the key: it has a segment '.' or '..', or half a surrogate pair: copy the object to another key",
    act: (fetch) => getObject('s3://bucket/a/../key', { fetch }),
  },
  {
    code: 'FileError',
    message:
      's3 s3://bucket/key: cannot write the file /none/key (ENOENT): its folder has to exist',
    answers: [reply(200, `${CANARY}-body`)],
    act: (fetch) => getObject('s3://bucket/key', { file: '/none/key', fetch }),
  },
  {
    code: 'AccessDeniedException',
    message:
      'secrets app/value: AccessDeniedException (HTTP 400) from https://secretsmanager.us-east-1.amazonaws.com: "AWS says why": the role needs secretsmanager:GetSecretValue\ns3 s3://bucket/app/value: NoSuchKey (HTTP 404) from https://bucket.s3.us-east-1.amazonaws.com: "AWS says why": check name and region (us-east-1), or give a `default`',
    answers: [
      ({ headers }) =>
        headers['x-amz-target'] ? refusal('AccessDeniedException') : xml(404, 'NoSuchKey'),
    ],
    act: (fetch) => invoking({ ...SECRETS.entry(), ...S3.entry({ as: 'object' }), fetch })(),
  },
]

describe('errors', () => {
  for (const { code, message, answers = [reply(500)], environment = {}, act } of ERRORS) {
    test(`say: ${message.split('\n').join(' / ')}`, async () => {
      Object.assign(process.env, environment)
      const { fetch, sent } = script(...answers)
      const folder = await temporaryFolder()
      const error = await failure(async () => act(fetch, folder), { code })
      assert.equal(error.message.replaceAll(folder, '/folder'), message)
      assert.equal(error.name, 'LambdaCacheError')
      assertKeepsSecrets(error)
      for (const { headers } of sent)
        if (headers.authorization) assert.ok(!everythingIn(error).includes(headers.authorization))
    })
  }

  for (const row of ROWS) {
    test(`say what to do about ${row.mistake}`, async () => {
      const { message, error } = await outcomeOf(row)
      assert.deepEqual(missingFrom(message, row), [], message)
      if (error) assert.ok(error instanceof LambdaCacheError)
      const everything = error ? everythingIn(error) : message
      assert.ok(!everything.includes(CANARY), everything)
      assert.doesNotMatch(everything, /Signature=/)
    })
  }

  const SENTENCE = 'The reason, in one sentence.'
  const TOLD: readonly (readonly [code: string, source: SourceCase])[] = [
    ['AccessDeniedException', SSM],
    ['AccessDenied', S3],
    ['ParameterNotFound', SSM],
    ['ResourceNotFoundException', SECRETS],
    ['NoSuchKey', S3],
    ['NoSuchVersion', S3],
    ['NoSuchBucket', S3],
    ['InvalidRequestException', SECRETS],
    ['ValidationException', SSM],
    ['DecryptionFailure', SECRETS],
    ['InvalidKeyId', SSM],
    ['KMS.DisabledException', S3],
    ['KMS.NotFoundException', S3],
    ['ThrottlingException', SSM],
    ['SlowDown', S3],
    ['TooManyRequestsException', SECRETS],
    ['ExpiredTokenException', SSM],
    ['ExpiredToken', S3],
  ]
  const UNTOLD: readonly (readonly [code: string, source: SourceCase])[] = [
    ['InvalidSignatureException', SSM],
    ['IncompleteSignature', SECRETS],
    ['SignatureDoesNotMatch', S3],
    ['AuthorizationHeaderMalformed', S3],
    ['RequestTimeTooSkewed', S3],
    ['UnrecognizedClientException', SSM],
    ['InvalidAccessKeyId', S3],
    ['InvalidToken', S3],
    ['InternalServiceError', SECRETS],
    ['MissingAuthenticationTokenException', SSM],
  ]
  function refusing({ source }: SourceCase, code: string, message: string): Script {
    const escaped = message.replaceAll('&', '&amp;').replaceAll('"', '&quot;')
    const body =
      source === 's3'
        ? `<Error><Code>${code}</Code><Message>${escaped}</Message></Error>`
        : { __type: code, message }
    // What is throttled is tried again for as long as there is time.
    return script(() => {
      pass(11 * SECOND)
      return reply(400, body)
    })
  }

  for (const [code, source] of TOLD) {
    test(`quote AWS's sentence: ${code}`, async () => {
      const { fetch } = refusing(source, code, `${SENTENCE} "a" & b`)
      await failure(source.read({ fetch }), { code }, `"${SENTENCE} "a" & b"`)
    })

    test(`quote no more than a line of it: ${code}`, async () => {
      const { fetch } = refusing(source, code, `${SENTENCE}\n${CANARY}`)
      const error = await failure(source.read({ fetch }), { code }, `"${SENTENCE}"`)
      assert.ok(!error.message.includes('\n'))
      assertKeepsSecrets(error)
      const long = refusing(source, code, `${'x'.repeat(500)}`)
      clearCache()
      const shortened = await failure(source.read({ fetch: long.fetch }), { code })
      assert.match(shortened.message, /"x{397}\.\.\."/)
    })

    for (const quoted of [
      ENVIRONMENT.AWS_ACCESS_KEY_ID,
      ENVIRONMENT.AWS_SECRET_ACCESS_KEY,
      ENVIRONMENT.AWS_SESSION_TOKEN,
      'Signature=abc',
      'AWS4-HMAC-SHA256',
      'x-amz-security-token:abc',
      'f'.repeat(64),
    ])
      test(`leave it out where it quotes the request: ${code}, ${quoted.slice(0, 20)}`, async () => {
        const { fetch } = refusing(source, code, `${SENTENCE} It was ${quoted}`)
        const error = await failure(source.read({ fetch }), { code })
        assert.ok(!error.message.includes(SENTENCE))
        assertKeepsSecrets(error)
      })
  }

  for (const [code, source] of UNTOLD) {
    test(`quote no sentence about a signature: ${code}`, async () => {
      const { fetch } = refusing(source, code, `${SENTENCE} The token is ${CANARY}-session-token`)
      const error = await failure(source.read({ fetch }), { code })
      assert.ok(!error.message.includes('The token'))
      assertKeepsSecrets(error)
    })
  }

  test('have no property that a web framework takes for its own answer', async () => {
    const { fetch } = script(xml(404, 'NoSuchKey'))
    const error = await failure(S3.read({ fetch }), { httpStatus: 404 })
    for (const name of ['status', 'statusCode', 'expose', 'headers', 'statusMessage'])
      assert.ok(!(name in error), name)
  })

  test('say what nobody expected by its class, and have it as their cause', async () => {
    const unexpected = new RangeError(`${CANARY} in its words`)
    const hmac = mock.method(crypto, 'createHmac', () => {
      throw unexpected
    })
    const { fetch } = script(SSM.answer('value'))
    const error = await failure(SSM.read({ fetch }), {
      code: 'UnexpectedError',
      source: 'ssm',
      id: SSM.id,
      cause: unexpected,
    })
    hmac.mock.restore()
    assert.equal(error.message, `ssm ${SSM.id}: an unexpected RangeError: see \`cause\``)
    assert.equal(await SSM.read({ fetch }), 'value', 'and is not kept')
  })

  test('of errors that are several themselves keep every hint', async () => {
    const { fetch } = script(({ body }) =>
      String(body).includes('/g/b')
        ? refusal('AccessDeniedException', '')
        : parameters(
            {},
            ['/g/a', '/c'].filter((name) => String(body).includes(name)),
          ),
    )
    const group = { names: ['/g/a', '/g/b'], as: 'g' } as const
    const error = await failure(invoking({ ssm: [group, '/c'], fetch }))
    const lines = error.message.split('\n')
    assert.equal(lines.length, 3)
    assert.match(present(lines[1]), /the role needs ssm:GetParameters, and with a key .*Decrypt$/)
    assert.match(present(lines[2]), /give a `default`$/)
    assert.ok(error.message.endsWith(`: ${error.hint}`))
  })

  test('name the source, the id, the status and the request', async () => {
    const { fetch } = script(
      refusal('AccessDeniedException', '', { 'x-amzn-requestid': 'request-1' }),
    )
    await failure(SECRETS.read({ fetch }), {
      code: 'AccessDeniedException',
      source: 'secrets',
      id: 'app/value',
      httpStatus: 400,
      requestId: 'request-1',
    })
    const s3 = script(xml(403, 'AccessDenied', { 'x-amz-request-id': 'request-2' }))
    await failure(S3.read({ fetch: s3.fetch }), {
      code: 'AccessDenied',
      source: 's3',
      id: 's3://bucket/app/value',
      httpStatus: 403,
      requestId: 'request-2',
    })
  })

  test('say what the answer of a mocked fetch lacks, and not that the network failed', async () => {
    const headers = new Headers()
    const LACKING: readonly [lacks: string, answer: object][] = [
      ['an object without `headers`', { ok: true, status: 200, json: async () => ({}) }],
      ['an object without `headers`', { status: 200, text: async () => '{}' }],
      [
        'an object without `headers`',
        { status: 200, headers: { 'content-type': 'text/plain' }, body: null },
      ],
      ['neither', { ok: true, status: 200, headers, json: async () => ({}) }],
      ['neither', { status: 200, headers, body: undefined }],
      ['returned undefined, which is no Response', undefined as never],
      ['returned a string, which is no Response', 'answer' as never],
    ]
    for (const [lacks, answer] of LACKING) {
      const fetch = mock.fn(async () => answer as FetchResponse)
      await failure(
        getParameter('/a', { fetch }),
        { code: 'RequestFailed', source: 'ssm', id: '/a' },
        lacks,
      )
      assert.equal(fetch.mock.callCount(), 1)
    }
    assert.equal(
      await getParameter('/a', {
        fetch: async () => ({
          status: 200,
          headers,
          body: null,
          text: async () => JSON.stringify({ Parameters: [{ Name: '/a', Value: 'value' }] }),
        }),
      }),
      'value',
    )
  })

  test('are of a class with a name that survives a minifier', () => {
    const error = new LambdaCacheError('message', { code: 'Code', id: 'id', cause: 'cause' })
    assert.ok(error instanceof Error)
    assert.deepEqual(
      [error.name, error.message, error.code, error.id, error.cause],
      ['LambdaCacheError', 'message', 'Code', 'id', 'cause'],
    )
    assert.deepEqual(
      ['source', 'status', 'requestId'].filter((name) => name in error),
      [],
      'what is not known is not there',
    )
  })
})

// ---- withCache ----

describe('withCache', () => {
  const seed: Seed = {
    parameters: { '/prod/app/var': 'hello', '/prod/hosts': { value: 'a,b', type: 'StringList' } },
    secrets: { '/prod/db/conn_string': 'postgres://' },
    objects: { 's3://bucket/path/to/object.json': '{"release":1}' },
  }

  test('puts the values on the context, under the names of the things', async () => {
    const aws = await local(seed)
    const file = join(await temporaryFolder(), 'object.json')
    const handler = withCache(
      async (event: { name: string }, context) => [
        event.name,
        context.var,
        context.conn_string,
        context['object.json'],
        context.functionName,
      ],
      {
        ssm: ['/prod/app/var'],
        secrets: ['/prod/db/conn_string'],
        s3: [{ uri: 's3://bucket/path/to/object.json', file }],
      },
    )
    const expected = ['Ada', 'hello', 'postgres://', file, 'function']
    assert.deepEqual(await handler({ name: 'Ada' }, lambdaContext()), expected)
    assert.equal(await readFile(file, 'utf8'), '{"release":1}')
    assert.equal(aws.requests.length, 3)
    pass(30 * SECOND)
    assert.deepEqual(await handler({ name: 'Ada' }, lambdaContext()), expected)
    assert.equal(aws.requests.length, 3, 'the second time from memory')
    pass(30 * SECOND)
    await handler({ name: 'Ada' }, lambdaContext())
    assert.equal(aws.requests.length, 6, 'after a minute anew')
  })

  test('fetches nothing before the first invocation', async () => {
    const aws = await local(seed)
    invoking({ ssm: ['/prod/app/var'] })
    await turns()
    assert.equal(aws.requests.length, 0)
  })

  test('puts values on the context that are not enumerable: logging, spreading or serialising it reveals none', async () => {
    await local(seed)
    const handler = withCache((_: unknown, context) => context, { ssm: ['/prod/app/var'] })
    const given = lambdaContext()
    const context = await handler({}, given)
    assert.equal(context, given)
    assert.equal(context.var, 'hello')
    const names = Object.keys(lambdaContext())
    assert.deepEqual(Object.keys(context), names)
    assert.deepEqual(Object.keys({ ...context }), names)
    const visible: string[] = []
    for (const name in context) visible.push(name)
    assert.deepEqual(visible, names)
    for (const shown of [JSON.stringify(context), inspect(context), JSON.stringify({ ...context })])
      assert.ok(!shown.includes('hello'), shown)
  })

  test('leaves the prototype that a context has', async () => {
    await local(seed)
    class RuntimeContext {
      readonly left = 7
      getRemainingTimeInMillis(): number {
        return this.left * MINUTE
      }
    }
    const handler = withCache((_: unknown, context: RuntimeContext) => context, {
      ssm: ['/prod/app/var'],
    })
    for (let invocation = 0; invocation < 2; invocation += 1) {
      const context = await handler({}, new RuntimeContext())
      assert.ok(context instanceof RuntimeContext)
      assert.equal(context.getRemainingTimeInMillis(), 7 * MINUTE)
      assert.equal(Reflect.get(context, 'var'), 'hello')
    }
  })

  test('gives a context that comes twice the newer values', async () => {
    const aws = await local(seed)
    const handler = withCache((_: unknown, context) => context.var, { ssm: ['/prod/app/var'] })
    const other = withCache(
      (_: unknown, context) => [context.hosts, Reflect.get(context, 'var') as unknown],
      { ssm: [{ name: '/prod/hosts', list: true }] },
    )
    const context = lambdaContext()
    assert.equal(await handler({}, context), 'hello')
    aws.putParameter('/prod/app/var', 'hello again')
    pass(MINUTE)
    assert.equal(await handler({}, context), 'hello again')
    assert.deepEqual((await other({}, context))[0], ['a', 'b'], 'through another handler')
    for (let invocation = 0; invocation < 20; invocation += 1) await handler({}, context)
    let depth = 0
    for (let object: unknown = context; object; object = Object.getPrototypeOf(object)) depth += 1
    assert.ok(depth < 8, `${depth} objects in the prototype chain`)
  })

  test('shows no value to inspect, not even with showHidden, and not to %o', async () => {
    await local({ secrets: { password: `${CANARY}-value` } })
    const handler = withCache((_: unknown, context) => context, { secrets: ['password'] })
    const context = await handler({}, lambdaContext())
    assert.equal(context.password, `${CANARY}-value`)
    for (const shown of [
      inspect(context, { showHidden: true, depth: 9 }),
      format('%o', context),
      format('%O', context),
    ])
      assert.ok(!shown.includes(CANARY), shown)
  })

  test('gives each wrapped function its own values, though they share a context', async () => {
    await local({ parameters: { '/a': '1', '/b': '2' } })
    const inner = withCache(async (_: unknown, context) => context.b, { ssm: ['/b'] })
    const outer = withCache(
      async (event: unknown, context) => [context.a, await inner(event, context), context.a],
      { ssm: ['/a'] },
    )
    const context = lambdaContext()
    for (let time = 0; time < 3; time += 1)
      assert.deepEqual(await outer({}, context), ['1', '2', '1'], 'one inside the other')
    const handlers = ['a', 'b'].map((as) =>
      withCache(
        async (_: unknown, given) => {
          await turns()
          return Reflect.get(given, as) as unknown
        },
        {
          ssm: [`/${as}`],
        },
      ),
    )
    const shared = lambdaContext()
    assert.deepEqual(
      await Promise.all(handlers.map((handler) => handler({}, shared))),
      ['1', '2'],
      'side by side',
    )
  })

  test('refuses a name that a context already has, whosever it is', async () => {
    await local({ parameters: { '/a/password': 'A', '/b/password': 'B' } })
    const [a, b] = ['/a/password', '/b/password'].map((name) =>
      withCache((_: unknown, context) => Reflect.get(context, 'password') as unknown, {
        ssm: [name],
      }),
    )
    const nested = withCache((event: unknown, context) => present(b)(event, context), {
      ssm: ['/a/password'],
    })
    const context = lambdaContext()
    assert.equal(await present(a)({}, context), 'A')
    await failure(
      present(b)({}, context),
      { code: 'InvalidOptions' },
      'context.password is there already',
    )
    assert.equal(await present(a)({}, context), 'A')
    await failure(
      nested({}, lambdaContext()),
      { code: 'InvalidOptions' },
      'context.password is there already',
    )
    for (const taken of [
      { password: 'own' },
      Object.create({ password: 'inherited' }) as object,
      {
        get password() {
          return 'got'
        },
      },
    ]) {
      await failure(
        present(a)({}, Object.assign(taken, { functionName: 'function' }) as never),
        { code: 'InvalidOptions' },
        'context.password is there already',
      )
      assert.notEqual(Reflect.get(taken, 'password'), 'A')
    }
  })

  test('does not grow a context that comes again and again, nor keep earlier values alive with it', async () => {
    const aws = await local({ parameters: { '/a': 'first', '/b': '2' } })
    const [a, b] = ['a', 'b'].map((as) =>
      withCache((_: unknown, context) => Reflect.get(context, as) as unknown, { ssm: [`/${as}`] }),
    )
    const context = lambdaContext()
    const large = withCache((_: unknown, given) => given.large.length, {
      custom: [{ as: 'large', load: () => new Array<number>(100_000).fill(0) }],
      maxAge: 0,
    })
    await large({}, context)
    const size = () => [
      Reflect.ownKeys(context).length,
      Object.getPrototypeOf(context) === Object.prototype,
    ]
    await Promise.all([present(a)({}, context), present(b)({}, context)])
    const expected = size()
    aws.putParameter('/a', 'second')
    pass(MINUTE)
    for (let time = 0; time < 1000; time += 1)
      await (time % 2 ? present(a) : present(b))({}, context)
    assert.equal(await present(a)({}, context), 'second')
    assert.deepEqual(size(), expected)
    // Not by a mock, which would remember every call, and with its stack the values.
    Math.random = () => 0
    const before = heapUsed()
    for (let time = 0; time < 100; time += 1) await large({}, context)
    const more = heapUsed() - before
    assert.ok(more < 16 * 1024 * 1024, `${more} bytes more, of 80 MB of values`)
  })

  test('refuses a context that cannot take properties', async () => {
    await local({ parameters: { '/a': '1' } })
    const handler = withCache((_: unknown, context) => context.a, { ssm: ['/a'] })
    for (const fix of [Object.freeze, Object.seal, Object.preventExtensions]) {
      for (let time = 0; time < 2; time += 1)
        await failure(
          handler({}, fix(lambdaContext()) as LambdaContext),
          { code: 'InvalidOptions' },
          'context',
          'frozen',
        )
    }
    assert.equal(
      await withCache(() => 'nothing to give', {})({}, Object.freeze(lambdaContext())),
      'nothing to give',
    )
  })

  test('takes no third argument for the context of a stream, and hands it on', async () => {
    mockTimeouts()
    const aws = scene(SSM.answer('one'))
    const seen: unknown[] = []
    const handler = withCache(
      (_: unknown, context, ...rest: unknown[]) => {
        seen.push(context.value, ...rest)
        if (context.value === 'one') throw new Error('out of date')
        return context.value
      },
      {
        ssm: ['/app/value'],
        fetch: aws.fetch,
        refreshOn: () => {
          aws.say(SSM.answer('two'))
          return true
        },
      },
    ) as (...args: unknown[]) => Promise<unknown>
    const third = { signal: new AbortController().signal }
    assert.equal(await handler({}, lambdaContext(), third, 4), 'two', 'refreshOn')
    assert.deepEqual(seen, ['one', third, 4, 'two', third, 4])
    clearCache()
    aws.say('never')
    const result = failure(handler({}, contextWith(1000), third), { code: 'Timeout' })
    await advance(800)
    assert.equal(await isSettled(result), true, 'the deadline')
    await result
  })

  test('gives each of several concurrent invocations a consistent context of its own', async () => {
    const aws = await local({ parameters: { '/a': '1', '/b': '1' } })
    const gate: (() => void)[] = []
    const handler = withCache(
      async (event: { id: number }, context) => {
        const before = [context.a, context.b]
        await new Promise<void>((resolve) => gate.push(resolve))
        return {
          id: event.id,
          request: context.awsRequestId,
          before,
          after: [context.a, context.b],
        }
      },
      { ssm: ['/a', '/b'] },
    )
    const invoke = (id: number) =>
      handler({ id }, { ...lambdaContext(), awsRequestId: `request ${id}` })
    const first = [invoke(1), invoke(2)]
    await until(() => gate.length === 2)
    aws.putParameter('/a', '2')
    aws.putParameter('/b', '2')
    pass(MINUTE)
    const second = [invoke(3), invoke(4)]
    await until(() => gate.length === 4)
    for (const open of gate) open()
    const results = await Promise.all([...first, ...second])
    assert.deepEqual(
      results,
      [1, 2, 3, 4].map((id) => {
        const values = id < 3 ? ['1', '1'] : ['2', '2']
        return { id, request: `request ${id}`, before: values, after: values }
      }),
    )
    assert.equal(aws.requests.length, 2)
  })

  test('passes on what the handler returns and throws, async or not', async () => {
    await local(seed)
    const thrown = new Error("the handler's own")
    const run = (handler: () => unknown) =>
      withCache(handler, { ssm: ['/prod/app/var'] })({}, lambdaContext())
    assert.equal(await run(() => 'plain'), 'plain')
    assert.equal(await run(async () => 'async'), 'async')
    const plain = () => {
      throw thrown
    }
    await assert.rejects(run(plain), (error) => error === thrown)
    await assert.rejects(
      run(async () => plain()),
      (error) => error === thrown,
    )
  })

  test('returns a function of two parameters', () => {
    assert.equal(withCache(() => {}, {}).length, 2)
  })

  test('works without any entry', async () => {
    assert.deepEqual(await invoking({})(), [])
  })

  test('loads all entries in parallel', async () => {
    const aws = await local(seed)
    const waiting: (() => void)[] = []
    aws.intercept = () => new Promise<void>((resolve) => waiting.push(resolve))
    const result = invoking(
      {
        ssm: ['/prod/app/var'],
        secrets: ['/prod/db/conn_string'],
        s3: [{ uri: 's3://bucket/path/to/object.json', parse: text }],
      },
      'var',
    )()
    await until(() => waiting.length === 3)
    for (const answer of waiting) answer()
    assert.deepEqual(await result, ['hello'])
  })

  test('names every one of several entries that fail, and keeps the others', async () => {
    const aws = await local(seed)
    const handler = invoking({
      ssm: ['/prod/app/var', '/prod/none'],
      secrets: ['no-secret'],
      s3: ['s3://bucket/no-object'],
    })
    const error = await failure(handler(), {}, '/prod/none', 'no-secret', 's3://bucket/no-object')
    assert.equal(error.message.split('\n').length, 3)
    assert.ok(!error.message.includes('/prod/app/var'))
    aws.requests.length = 0
    assert.equal(await getParameter('/prod/app/var'), 'hello')
    assert.equal(aws.requests.length, 0)
  })

  test('runs no handler where something is missing', async () => {
    await local(seed)
    const handler = mock.fn()
    await failure(withCache(handler, { ssm: ['/prod/none'] })({}, lambdaContext()), {
      code: 'ParameterNotFound',
      source: 'ssm',
      id: '/prod/none',
    })
    assert.equal(handler.mock.callCount(), 0)
  })

  const AGES: readonly [
    title: string,
    environment: string | undefined,
    options: Pick<Options, 'maxAge'>,
    entry: Pick<Options, 'maxAge'>,
    seconds: number,
  ][] = [
    ['60 seconds by default', undefined, {}, {}, 60],
    ['LAMBDA_CACHE_MAX_AGE', '5', {}, {}, 5],
    ['60 seconds where LAMBDA_CACHE_MAX_AGE is empty', '', {}, {}, 60],
    ['the option before the environment', '5', { maxAge: 10 }, {}, 10],
    ['the entry before the option', '5', { maxAge: 10 }, { maxAge: 20 }, 20],
    ['0: always', undefined, { maxAge: 0 }, {}, 0],
    ['0 of an entry', undefined, { maxAge: 10 }, { maxAge: 0 }, 0],
    ['0 of the environment', '0', {}, {}, 0],
    ['a fraction', undefined, { maxAge: 0.5 }, {}, 0.5],
    ['Infinity: once', undefined, { maxAge: Infinity }, {}, Infinity],
    ['Infinity of the environment', 'Infinity', {}, {}, Infinity],
  ]
  for (const [title, environment, options, entry, seconds] of AGES) {
    test(`serves a value for maxAge: ${title}`, async () => {
      const aws = await local({ parameters: { '/a': '1' } })
      if (environment !== undefined) process.env.LAMBDA_CACHE_MAX_AGE = environment
      const invoke = invoking({ ...options, ssm: [{ name: '/a', ...entry }] }, 'a')
      assert.deepEqual(await invoke(), ['1'])
      aws.putParameter('/a', '2')
      const lifetime = Math.min(seconds * SECOND, 365 * 24 * HOUR)
      if (lifetime > 0) {
        pass(lifetime / 2)
        assert.deepEqual(await invoke(), ['1'])
        assert.equal(aws.requests.length, 1)
        pass(lifetime / 2)
      }
      assert.deepEqual(await invoke(), [seconds === Infinity ? '1' : '2'])
    })
  }

  test('fetches one parameter under two names once', async () => {
    const aws = await local(seed)
    const invoke = invoking(
      {
        ssm: [
          { name: '/prod/app/var', as: 'one' },
          { name: '/prod/app/var', as: 'two' },
          { names: ['/prod/app/var'], as: 'group' },
        ],
      },
      'one',
      'two',
      'group',
    )
    assert.deepEqual(await invoke(), ['hello', 'hello', { var: 'hello' }])
    assert.deepEqual(
      aws.requests.map(({ input }) => input.Names),
      [['/prod/app/var']],
    )
  })

  test('tells entries apart by what they read, not by their last segment', async () => {
    await local({ parameters: { '/a/key': 'A', '/b/key': 'B' }, secrets: { '/a/key': 'C' } })
    const invoke = invoking(
      {
        ssm: [
          { name: '/a/key', as: 'one' },
          { name: '/b/key', as: 'two' },
        ],
        secrets: ['/a/key'],
      },
      'one',
      'two',
      'key',
    )
    assert.deepEqual(await invoke(), ['A', 'B', 'C'])
  })
})

// ---- prefetch ----

describe('prefetch', () => {
  for (const { source, id, attempts, answer, options } of CACHED) {
    test(`reads before the first invocation: ${source}`, async () => {
      const aws = scene(answer('one'))
      const handler = withCache(
        (_: unknown, context) => Reflect.get(context, 'value') as unknown,
        options(aws),
      )
      assert.equal(await handler.prefetch(), undefined)
      assert.equal(aws.sent.length, 1)
      assert.equal(await handler({}, lambdaContext()), 'one')
      assert.equal(aws.sent.length, 1)
    })

    test(`fails as an invocation does, and the next invocation tries again: ${source}`, async () => {
      const aws = scene(reply(500))
      const handler = withCache(
        (_: unknown, context) => Reflect.get(context, 'value') as unknown,
        options(aws),
      )
      await failure(handler.prefetch(), {
        source,
        id,
        code: source === 'custom' ? 'LoadFailed' : 'Http500',
      })
      assert.equal(aws.sent.length, attempts)
      aws.say(answer('one'))
      assert.equal(await handler({}, lambdaContext()), 'one')
    })
  }

  test('reads the entries of nested wrappers, too', async () => {
    const aws = await local({ parameters: { '/a': '1' }, secrets: { b: '2' } })
    const inner = withCache((_: unknown, context) => context.b, { secrets: ['b'] })
    const outer = withCache(inner, { ssm: ['/a'] })
    await outer.prefetch()
    assert.equal(aws.requests.length, 2)
    assert.equal(await outer({}, lambdaContext()), '2')
    assert.equal(aws.requests.length, 2)
    aws.delete('b')
    clearCache()
    await failure(outer.prefetch(), { code: 'ResourceNotFoundException', id: 'b' })
  })

  test('shares its requests with an invocation that comes meanwhile', async () => {
    const aws = scene(SSM.answer('one'))
    const handler = withCache((_: unknown, context) => context.value, {
      ssm: ['/app/value'],
      fetch: aws.fetch,
    })
    assert.deepEqual(await Promise.all([handler.prefetch(), handler({}, lambdaContext())]), [
      undefined,
      'one',
    ])
    assert.equal(aws.sent.length, 1)
  })
})

// ---- Ready at init ----

describe('ready at init', () => {
  /** What a new process prints that runs this, with the library in `lambda`. */
  async function running(code: string): Promise<unknown> {
    const file = join(await temporaryFolder(), 'lambda-cache.mjs')
    await writeFile(file, bundleOf('withCache, httpsFetch'))
    const setting = `
      import { withCache, httpsFetch as https } from ${JSON.stringify(file)}
      const net = process.getBuiltinModule('node:net')
      let [calls, expressions] = [0, 0]
      const fetch = globalThis.fetch = () => { calls += 1; throw Error() }
      const { isIP } = net
      net.isIP = (host) => { expressions += 1; return isIP(host) }
      const loaded = new Set(process.moduleLoadList)
      const news = () => process.moduleLoadList.filter((name) => !loaded.has(name)).join()
      // Node's fetch looks at the pipes of the process's own output.
      const resources = () => process.getActiveResourcesInfo().filter((name) => name !== 'PipeWrap').join()
      const print = (result) => process.stdout.write(JSON.stringify(result))
      `
    const args = ['--input-type=module', '--eval', setting + code]
    return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as unknown
  }

  const NONE = { https: false, undici: false, expressions: 0 }
  const CASES = [
    ["{ ssm: ['/app/value'] }", { https: false, undici: true, expressions: 2 }],
    ["{ secrets: ['app/value'], fetch: https }", { https: true, undici: false, expressions: 2 }],
    ["{ s3: ['s3://bucket/key'], fetch }", { https: true, undici: false, expressions: 2 }],
    ["{ custom: [{ as: 'value', load: () => 1 }] }", NONE],
    ['{}', NONE],
  ] as const
  for (const [options, expected] of CASES) {
    test(`loads what the first request needs, and sends nothing: ${options}`, async () => {
      const result = await running(`
        const before = resources()
        withCache(() => {}, ${options})
        const after = [resources()]
        const names = news()
        for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
        after.push(resources())
        print({
          https: / https(,|$)/.test(names),
          undici: /undici/.test(names),
          expressions,
          isCalm: after.every((one) => one === before || one === ''),
          calls,
        })`)
      assert.deepEqual(result, { ...expected, isCalm: true, calls: 0 })
    })
  }

  test('leaves what fails to the first request', async () => {
    const result = await running(`
      process.on('unhandledRejection', () => print('unhandled'))
      globalThis.Response = undefined
      withCache(() => {}, { ssm: ['/app/value'] })
      net.isIP = undefined
      withCache(() => {}, { ssm: ['/app/value'], fetch: https })
      setImmediate(() => print('fine'))`)
    assert.equal(result, 'fine')
  })
})

// ---- Streaming ----

describe('streaming', () => {
  const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming')
  const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark')

  /** As the runtime has it in its global scope. */
  const awslambda = {
    streamifyResponse<F extends object>(handler: F, options?: { highWaterMark?: number }): F {
      return Object.assign(
        handler,
        { [STREAMING]: 'response' },
        typeof options?.highWaterMark === 'number' && { [HIGH_WATER_MARK]: options.highWaterMark },
      )
    },
  }

  /** Invokes by the rules of the Node.js runtime, of which the newer ones refuse a third parameter where nothing is streamed. */
  async function runtime(handler: unknown, event: unknown, { callbacks = false } = {}) {
    const {
      length,
      [STREAMING]: streaming,
      [HIGH_WATER_MARK]: highWaterMark,
    } = handler as { length: number; [STREAMING]?: string; [HIGH_WATER_MARK]?: number }
    const call = handler as (...args: unknown[]) => unknown
    if (streaming === 'response') {
      const stream = responseStream()
      await call(event, stream, lambdaContext())
      return { result: String(stream.read() ?? ''), highWaterMark }
    }
    if (callbacks)
      return { result: await call(event, lambdaContext(), () => assert.fail('nobody calls back')) }
    if (length >= 3) throw new Error('Runtime.CallbackHandlerDeprecated')
    return { result: await call(event, lambdaContext()) }
  }

  const options = { ssm: ['/app/value'] } as const satisfies Options
  const respond = async (
    event: { name: string },
    stream: ResponseStream,
    context: LambdaContext & { readonly value: string },
  ): Promise<void> => {
    stream.setContentType('text/plain')
    stream.write(`${event.name} ${context.value} ${context.functionName}`)
  }
  const forms: readonly [what: string, make: (fetch: Fetch) => unknown, highWaterMark?: number][] =
    [
      [
        'streamifyResponse(withCacheStream(f))',
        (fetch) => awslambda.streamifyResponse(withCacheStream(respond, { ...options, fetch })),
      ],
      [
        'streamifyResponse(withCacheStream(f)), highWaterMark',
        (fetch) =>
          awslambda.streamifyResponse(withCacheStream(respond, { ...options, fetch }), {
            highWaterMark: 9,
          }),
        9,
      ],
      [
        'withCacheStream(streamifyResponse(f))',
        (fetch) =>
          withCacheStream(awslambda.streamifyResponse(respond.bind(null)), { ...options, fetch }),
      ],
      [
        'withCacheStream(streamifyResponse(f, highWaterMark))',
        (fetch) =>
          withCacheStream(awslambda.streamifyResponse(respond.bind(null), { highWaterMark: 9 }), {
            ...options,
            fetch,
          }),
        9,
      ],
      [
        'withCache, untyped',
        (fetch) =>
          withCache(awslambda.streamifyResponse(respond.bind(null)) as never, {
            ...options,
            fetch,
          }),
      ],
    ]
  for (const [what, make, highWaterMark] of forms) {
    test(`works on the runtime: ${what}`, async () => {
      const { fetch, sent } = script(SSM.answer('one'))
      const handler = make(fetch)
      for (let time = 0; time < 2; time += 1) {
        assert.deepEqual(await runtime(handler, { name: 'hello' }), {
          result: 'hello one function',
          highWaterMark,
        })
      }
      assert.equal(sent.length, 1)
    })
  }

  test('ends before the deadline, and refreshes ahead, like any other', async () => {
    mockTimeouts()
    const aws = scene(SSM.answer('one'))
    const handler = withCacheStream(
      async (event: { name: string }, stream, context) => respond(event, stream, context),
      { ...options, fetch: aws.fetch },
    )
    await handler({ name: '' }, responseStream(), lambdaContext())
    pass(48 * SECOND)
    await handler({ name: '' }, responseStream(), lambdaContext())
    assert.equal(aws.sent.length, 2)
    clearCache()
    aws.say('never')
    const result = failure(handler({ name: '' }, responseStream(), contextWith(1000)), {
      code: 'Timeout',
      id: '/app/value',
    })
    await advance(800)
    assert.equal(await isSettled(result), true)
    await result
  })

  test('is not taken for granted where the third argument is nothing', async () => {
    const { fetch } = script(SSM.answer('one'))
    const handler = withCache((_: unknown, context) => context.value, { ...options, fetch }) as (
      ...args: unknown[]
    ) => Promise<unknown>
    for (const nothing of [undefined, null])
      assert.equal(await handler({}, lambdaContext(), nothing), 'one')
  })

  test('is not taken for granted: a handler that does not stream may be given a callback', async () => {
    const { fetch } = script(SSM.answer('one'))
    const handler = withCache(
      async (event: { name: string }, context) =>
        `${event.name} ${context.value} ${context.functionName}`,
      { ...options, fetch },
    )
    for (const callbacks of [true, false])
      assert.deepEqual(await runtime(handler, { name: 'hello' }, { callbacks }), {
        result: 'hello one function',
      })
    assert.equal(STREAMING in handler, false)
  })

  test('keeps prefetch, and what else a handler carries', async () => {
    const { fetch, sent } = script(SSM.answer('one'))
    const handler = withCacheStream(Object.assign(respond.bind(null), { title: 'hello' }), {
      ...options,
      fetch,
    })
    await handler.prefetch()
    assert.equal(sent.length, 1)
    assert.equal(Reflect.get(handler, 'title'), 'hello')
  })

  test('has its parameters inferred', () => {
    const inside = withCacheStream(async (event: { name: string }, responseStream, context) => {
      is<Equal<typeof responseStream, ResponseStream>>()
      is<Equal<typeof context.value, string>>()
      is<Equal<typeof context.awsRequestId, string>>()
      // @ts-expect-error: nobody asked for this
      void context.other
      responseStream.end()
      return event.name.length
    }, options)
    is<
      Equal<
        Parameters<typeof inside>,
        [event: { name: string }, responseStream: ResponseStream, context: LambdaContext]
      >
    >()
    is<Equal<ReturnType<typeof inside>, Promise<number>>>()
    const outside = withCacheStream(
      awslambda.streamifyResponse(
        async (_: unknown, stream: PassThrough, context: { readonly value: string }) =>
          stream.write(context.value),
      ),
      options,
    )
    is<Equal<Parameters<typeof outside>[1], PassThrough>>()
    void outside
  })
})

// ---- refreshOn ----

describe('refreshOn', () => {
  class OutOfDate extends Error {}
  const refreshOn = (error: unknown): boolean => error instanceof OutOfDate

  const bytes = (value: string): Response =>
    reply(200, { SecretBinary: Buffer.from(value).toString('base64') })
  const tree = (value: string): Response =>
    reply(200, { Parameters: [{ Name: '/app/value', Value: value }] })
  const object = (value: string): Response => reply(200, value, { etag: `"${value}"` })

  /** Whatever a value can be: the entry under the name `value`, what AWS answers for a text, and what a handler makes of the value. */
  const KINDS: readonly [
    what: string,
    options: (aws: Scene, folder: string) => Options,
    answer: (value: string) => Response,
    textOf?: (value: never) => unknown,
  ][] = [
    ['text', () => SSM.entry(), SSM.answer],
    [
      'parsed JSON',
      () => SECRETS.entry({ parse: json<{ a: string }> }),
      (value) => SECRETS.answer(JSON.stringify({ a: value })),
      (value: { a: string }) => value.a,
    ],
    [
      'bytes',
      () => ({ secrets: [{ id: 'app/value', binary: true }] }),
      bytes,
      (value: Uint8Array) => Buffer.from(value).toString(),
    ],
    [
      'a group',
      () => ({ ssm: [{ names: ['/app/value'], as: 'value' }] }),
      SSM.answer,
      (value: { value: string }) => value.value,
    ],
    [
      'a tree',
      () => ({ ssm: [{ path: '/app', as: 'value' }] }),
      tree,
      (value: { value: string }) => value.value,
    ],
    [
      'a list',
      () => ({ ssm: [{ name: '/app/value', list: true }] }),
      (value) => SSM.answer(`${value},b`),
      (value: string[]) => value[0],
    ],
    [
      'a file',
      (_, folder) => ({ s3: [{ uri: 's3://bucket/app/value', file: `${folder}/value` }] }),
      object,
      (file: string) => readFileSync(file, 'utf8'),
    ],
    ['an object in memory', () => S3.entry(), object],
    ['custom', ({ load }) => ({ custom: [{ as: 'value', load }] }), (value) => reply(200, value)],
  ]

  /** A handler that takes one value and no other, of the kind given. */
  async function guarded(kind: (typeof KINDS)[number], more: Options = {}) {
    const [, options, answer, textOf = (value: string) => value] = kind
    const aws = scene(answer('one'))
    const accepted = { value: 'one' }
    const seen: unknown[] = []
    const handler = withCache(
      (_: unknown, context) => {
        const value = textOf(Reflect.get(context, 'value') as never)
        if (seen.push(value) && value !== accepted.value)
          throw new OutOfDate(`${CANARY}-${accepted.value}`)
        return value
      },
      { ...options(aws, await temporaryFolder()), fetch: aws.fetch, refreshOn, ...more },
    )
    return { ...aws, aws, accepted, seen, answer, invoke: () => handler({}, lambdaContext()) }
  }

  for (const kind of KINDS) {
    test(`runs the handler once more where a value has changed: ${kind[0]}`, async () => {
      const { say, sent, accepted, seen, answer, invoke } = await guarded(kind)
      await invoke()
      accepted.value = 'two'
      say(answer('two'))
      assert.equal(await invoke(), 'two')
      assert.deepEqual([seen.splice(0), sent.length], [['one', 'one', 'two'], 2])
      assert.equal(await invoke(), 'two')
      assert.deepEqual([seen, sent.length], [['two'], 2], 'the next begins with the new value')
    })

    test(`lets the error out where nothing has changed: ${kind[0]}`, async () => {
      const { sent, accepted, seen, invoke } = await guarded(kind)
      await invoke()
      accepted.value = 'two'
      await assert.rejects(invoke(), OutOfDate)
      assert.deepEqual([seen, sent.length], [['one', 'one'], 2])
    })
  }

  const [PLAIN] = KINDS as [(typeof KINDS)[number]]

  test('lets the error out of the second run, and does not run a third time', async () => {
    const { say, accepted, seen, answer, invoke } = await guarded(PLAIN)
    await invoke()
    accepted.value = 'three'
    say(answer('two'))
    await assert.rejects(invoke(), OutOfDate)
    assert.deepEqual(seen, ['one', 'one', 'two'])
  })

  test('asks nobody where the predicate says no', async () => {
    const predicate = mock.fn(() => false)
    const { sent, accepted, seen, invoke } = await guarded(PLAIN, { refreshOn: predicate })
    await invoke()
    accepted.value = 'two'
    await assert.rejects(invoke(), OutOfDate)
    assert.deepEqual([seen.length, sent.length, predicate.mock.callCount()], [2, 1, 1])
    const [error] = present(predicate.mock.calls[0]).arguments as unknown[]
    assert.ok(error instanceof OutOfDate)
  })

  test("lets the handler's error out where the values cannot be read again", async () => {
    for (const failing of [
      reply(500),
      refusal('AccessDeniedException'),
      parameters({}, ['/app/value']),
      unreachable('ECONNRESET'),
      reply(200, '<html>'),
    ]) {
      consoleLines()
      clearCache()
      const { say, accepted, seen, invoke } = await guarded(PLAIN)
      await invoke()
      accepted.value = 'two'
      say(failing)
      await assert.rejects(invoke(), OutOfDate)
      assert.deepEqual(seen, ['one', 'one'])
    }
  })

  test("lets the handler's error out before Lambda's time is over", async () => {
    mockTimeouts()
    const aws = scene(SSM.answer('one'))
    const handler = withCache(() => Promise.reject(new OutOfDate()), {
      ...SSM.entry(),
      fetch: aws.fetch,
      refreshOn,
    })
    await assert.rejects(handler({}, lambdaContext()), OutOfDate)
    aws.say('never')
    const result = handler({}, contextWith(1000))
    const outcome = assert.rejects(result, OutOfDate)
    await until(() => aws.sent.length === 3)
    await advance(800)
    assert.equal(await isSettled(result), true)
    await outcome
  })

  test('reads again all that the handler was given', async () => {
    const { fetch, sent } = script(({ headers }) =>
      (/SSM/.test(headers['x-amz-target'] ?? '') ? SSM : SECRETS).answer(String(sent.length)),
    )
    const handler = withCache(
      (_: unknown, context) =>
        sent.length < 4 ? Promise.reject(new OutOfDate()) : [context.value, context.secret].sort(),
      {
        ssm: ['/app/value'],
        secrets: [{ id: 'app/value', as: 'secret' }],
        fetch,
        refreshOn,
      },
    )
    assert.deepEqual(await handler({}, lambdaContext()), ['3', '4'])
    assert.equal(sent.length, 4)
  })

  test('costs one extra call for 50 invocations that fail at once', async () => {
    const { say, sent, accepted, seen, answer, invoke } = await guarded(PLAIN)
    await invoke()
    accepted.value = 'two'
    say(answer('two'))
    assert.deepEqual(
      await Promise.all(Array.from({ length: 50 }, invoke)),
      Array.from({ length: 50 }, () => 'two'),
    )
    assert.deepEqual([sent.length, seen.length], [2, 101])
  })

  test('gets 50 invocations through the rotation of a password, for one extra call', async () => {
    const aws = await local({ secrets: { 'db/password': 'first' } })
    const database = {
      password: 'first',
      logins: 0,
      async login(password: string) {
        await turns(1 + (this.logins++ % 7))
        if (password !== this.password) throw new OutOfDate('28P01')
        return 'rows'
      },
    }
    const handler = withCache(async (_: unknown, context) => database.login(context.password), {
      secrets: ['db/password'],
      refreshOn,
    })
    await handler({}, lambdaContext())
    const results = Array.from({ length: 50 }, async (_, index) => {
      await turns(index % 10)
      if (index === 25) {
        database.password = 'second'
        aws.putSecret('db/password', 'second')
      }
      return handler({}, lambdaContext())
    })
    assert.deepEqual(new Set(await Promise.all(results)), new Set(['rows']))
    assert.equal(aws.requests.length, 2)
    assert.ok(database.logins > 51, 'some came with the old password')
  })

  test('asks again where a request that began before the error brings the old value', async () => {
    const { say, hold, sent, accepted, seen, answer, invoke, aws } = await guarded(PLAIN)
    await invoke()
    const release = hold()
    const forced = getParameter('/app/value', { fetch: aws.fetch, maxAge: 0 })
    await until(() => sent.length === 2)
    accepted.value = 'two'
    const result = invoke()
    await turns()
    release()
    say(answer('two'))
    assert.deepEqual([await forced, await result, seen], ['one', 'two', ['one', 'one', 'two']])
    assert.equal(sent.length, 3)
  })

  test('takes for changed what is not known to be the same', async () => {
    class Secret {
      readonly #value: string
      constructor(value: string) {
        this.#value = value
      }
      get value() {
        return this.#value
      }
    }
    const loop = () => {
      const object: Record<string, unknown> = {}
      object.self = object
      return object
    }
    const CHANGES: readonly [
      what: string,
      load: (version: number) => unknown,
      isChanged: boolean,
    ][] = [
      ['private state', (version) => new Secret(String(version)), true],
      [
        'a getter that throws',
        () => ({
          get value() {
            throw new Error("not the handler's")
          },
        }),
        true,
      ],
      ['a loop that is the same', loop, false],
      ['a Map', (version) => new Map([['value', version]]), true],
      ['a function', () => () => {}, true],
      ['other plain data', (version) => ({ list: [1, { version }] }), true],
      ['a longer list', (version) => Array.from({ length: version }, () => 1), true],
      ['a property more', (version) => ({ a: 1, ...(version > 1 && { b: undefined }) }), true],
      ['plain data', () => ({ list: [1, { a: null, b: 'text' }], nan: NaN }), false],
      ['bytes', () => new TextEncoder().encode('same'), false],
      [
        'the same object',
        (
          (secret) => () =>
            secret
        )(new Secret('same')),
        false,
      ],
    ]
    for (const [what, load, isChanged] of CHANGES) {
      let [version, runs] = [0, 0]
      const handler = withCache(
        () => {
          runs += 1
          if (runs < 2) throw new OutOfDate()
          return 'recovered'
        },
        { custom: [{ as: 'value', load: () => load(++version) }], refreshOn },
      )
      const outcome = await handler({}, lambdaContext()).catch((error: unknown) => error)
      if (isChanged) assert.equal(outcome, 'recovered', what)
      else assert.ok(outcome instanceof OutOfDate, what)
    }
    const file = join(await temporaryFolder(), 'object')
    const aws = scene(reply(200, 'content'))
    let runs = 0
    const handler = withCache(
      () => {
        runs += 1
        if (runs < 2) throw new OutOfDate()
        return 'recovered'
      },
      { s3: [{ uri: 's3://bucket/object', file }], fetch: aws.fetch, refreshOn },
    )
    assert.equal(await handler({}, lambdaContext()), 'recovered', 'a file without an ETag')
  })

  test("lets the handler's error out where the predicate throws", async () => {
    const { accepted, invoke } = await guarded(PLAIN, {
      refreshOn: () => assert.fail("not the handler's"),
    })
    accepted.value = 'two'
    await assert.rejects(invoke(), OutOfDate)
  })

  test('is not for a handler that streams', async () => {
    const aws = scene(SSM.answer('one'))
    const handler = withCacheStream(
      async (_: unknown, responseStream, context) => {
        responseStream.write(String(Reflect.get(context, 'value')))
        aws.say(SSM.answer('two'))
        throw new OutOfDate()
      },
      { ...SSM.entry(), fetch: aws.fetch, refreshOn },
    )
    const stream = responseStream()
    await assert.rejects(handler({}, stream, lambdaContext()), OutOfDate)
    assert.deepEqual([aws.sent.length, String(stream.read())], [1, 'one'])
  })
})

// ---- Deadline ----

/** Keeps the event loop from anything else. */
function block(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
}

describe('the deadline', () => {
  const EVERYTHING = {
    ssm: ['/app/quick', { names: ['/app/a', '/app/b'], as: 'group', region: 'eu-west-1' }],
    secrets: ['app/secret'],
    s3: [{ uri: 's3://bucket/object', parse: text }],
    custom: [
      { as: 'slow', load: () => new Promise<never>(() => {}) },
      { as: 'fast', load: () => 'fast' },
    ],
  } as const satisfies Options

  /** Answers for /app/quick, and for nothing else. */
  function quick(): Script {
    return script(({ body }) =>
      body.includes('/app/quick') ? parameters({ '/app/quick': 'quick' }) : 'never',
    )
  }

  test('ends the wait 200 ms before Lambda does, and names what has not come', async () => {
    mockTimeouts()
    const { fetch, sent } = quick()
    const handler = withCache(() => assert.fail('no handler without its values'), {
      ...EVERYTHING,
      fetch,
    })
    const result = failure(handler({}, contextWith(1500)), { code: 'Timeout' })
    await turns()
    await advance(1299)
    assert.equal(await isSettled(result), false)
    await advance(1)
    assert.equal(await isSettled(result), true)
    const error = await result
    const expected = [
      ['ssm /app/a', 'ssm.eu-west-1.amazonaws.com'],
      ['ssm /app/b', 'ssm.eu-west-1.amazonaws.com'],
      ['secrets app/secret', 'secretsmanager.us-east-1.amazonaws.com'],
      ['s3 s3://bucket/object', 's3.us-east-1.amazonaws.com'],
      ['custom slow'],
    ]
    for (const texts of expected)
      assert.ok(
        error.message.split('\n').some((line) => texts.every((text) => line.includes(text))),
        `${texts.join()} in ${error.message}`,
      )
    assert.equal(error.message.split('does the VPC').length, 2, 'the hint once')
    assert.doesNotMatch(error.message, /quick|fast/)
    assertKeepsSecrets(error)
    const requests = sent.length
    assert.equal(await getParameter('/app/quick', { fetch }), 'quick')
    assert.equal(sent.length, requests, 'what has come is kept')
  })

  for (const { source, id, answer, options } of CACHED) {
    test(`names the one: ${source}`, async () => {
      mockTimeouts()
      const handler = withCache(() => {}, options(scene('never')))
      const result = failure(
        handler({}, contextWith(1000)),
        { code: 'Timeout', source, id },
        id,
        ...(source === 'custom' ? ['`load` did not end within 800 ms'] : ['does the VPC']),
      )
      await advance(799)
      assert.equal(await isSettled(result), false)
      await advance(1)
      assert.equal(await isSettled(result), true)
      await result
    })

    test(`gives the last value where it may: ${source}`, async () => {
      mockTimeouts()
      const aws = scene(answer('one'))
      const handler = withCache(
        (_: unknown, context) => Reflect.get(context, 'value') as unknown,
        options(aws),
      )
      await handler({}, contextWith(1000))
      const lines = consoleLines()
      aws.say('never')
      pass(MINUTE)
      const result = handler({}, contextWith(1000))
      await advance(800)
      assert.equal(await isSettled(result), true)
      assert.deepEqual([await result, lines.length], ['one', 1])
    })

    test(`holds for who waits for a refresh ahead, too: ${source}`, async () => {
      mockTimeouts()
      const aws = scene(answer('one'))
      const [patient, hasty] = [60, 10].map((maxAge) =>
        withCache(() => {}, { ...options(aws), maxAge, staleIfError: 0 }),
      )
      await present(patient)({}, lambdaContext())
      aws.say('never')
      pass(48 * SECOND)
      const ahead = present(patient)({}, lambdaContext())
      await until(() => aws.sent.length === 2)
      const result = failure(present(hasty)({}, contextWith(300)), { code: 'Timeout' })
      await advance(99)
      assert.equal(await isSettled(result), false)
      await advance(1)
      assert.equal(await isSettled(result), true)
      await advance(200)
      await Promise.all([ahead, result])
    })
  }

  test('begins no request when it has passed, and gives the value that came meanwhile', async () => {
    const lines = consoleLines()
    const aws = scene(SSM.answer('one'))
    const { fetch } = aws
    const forced = withCache((_: unknown, context) => context.value, {
      ssm: ['/app/value'],
      maxAge: 0,
      fetch,
    })
    const release = aws.hold()
    const earlier = getParameter('/app/value', { fetch })
    await until(() => aws.sent.length === 1)
    const result = forced({}, contextWith(1000))
    await turns()
    pass(2 * SECOND)
    release()
    assert.deepEqual(await Promise.all([earlier, result]), ['one', 'one'])
    const stale = lines.filter((line) => line.includes('serving the value of'))
    assert.deepEqual([aws.sent.length, stale.length], [1, 1])
  })

  test('has passed where there is less than 200 ms left', async () => {
    for (const left of [200, 100, 1]) {
      mockTimeouts()
      const result = failure(
        withCache(() => {}, { ...SSM.entry(), fetch: script('never').fetch })(
          {},
          contextWith(left),
        ),
        { code: 'Timeout' },
      )
      await turns()
      mock.timers.tick(1)
      assert.equal(await isSettled(result), true)
      await result
      clearCache()
    }
  })

  test('is none where the time that remains is not positive: nobody enforces it', async () => {
    for (const left of [0, -5, -1.8e12, NaN]) {
      clearCache()
      const { fetch } = script(SSM.answer('one'))
      assert.equal(
        await withCache((_: unknown, context) => context.value, { ssm: ['/app/value'], fetch })(
          {},
          { ...lambdaContext(), getRemainingTimeInMillis: () => left },
        ),
        'one',
      )
    }
  })

  test("is that of Lambda's own context in the one of a durable function", async () => {
    mockTimeouts()
    const { fetch } = script('never')
    const handler = withCache(() => assert.fail('no handler without its values'), {
      ssm: ['/app/value'],
      fetch,
    })
    const result = failure(handler({}, { lambdaContext: contextWith(1500) } as never), {
      code: 'Timeout',
    })
    await turns()
    await advance(1299)
    assert.equal(await isSettled(result), false)
    await advance(1)
    assert.equal(await isSettled(result), true)
  })

  test('is none for what is there', async () => {
    const handler = withCache((_: unknown, context) => context.value, {
      ...SSM.entry(),
      ssm: ['/app/value'],
      fetch: script(SSM.answer('one')).fetch,
    })
    await handler({}, lambdaContext())
    assert.equal(await handler({}, contextWith(0)), 'one')
  })

  for (const { source, answer, options } of CACHED) {
    test(`abandons what hangs, deaf to its signal, so that the next invocation begins anew: ${source}`, async () => {
      mockTimeouts()
      let deaf = true
      let calls = 0
      const aws = scene(answer('one'))
      const never = (): Promise<never> => {
        calls += 1
        return new Promise<never>(() => {})
      }
      const hanging = {
        fetch: (...args: Parameters<Fetch>) => (deaf ? never() : aws.fetch(...args)),
        load: () => (deaf ? never() : aws.load()),
      }
      const handler = withCache(
        (_: unknown, context) => Reflect.get(context, 'value') as unknown,
        options({ ...aws, ...hanging }),
      )
      for (const time of [1, 2]) {
        const result = failure(handler({}, contextWith(1000)), { code: 'Timeout', source })
        await advance(800)
        assert.equal(await isSettled(result), true)
        await result
        assert.equal(calls, time, 'a call of its own')
      }
      await advance(20 * SECOND)
      assert.equal(calls, 2, 'nothing begins for an invocation that has ended')
      deaf = false
      assert.equal(await handler({}, contextWith(1000)), 'one')
    })

    test(`begins no attempt for an invocation that has ended, and aborts the one under way: ${source}`, async () => {
      mockTimeouts()
      const aws = scene(reply(500))
      mock.method(Math, 'random', () => 0.999)
      const handler = withCache(() => {}, options(aws))
      const release = aws.hold()
      const result = failure(handler({}, contextWith(500)), { code: 'Timeout' })
      await advance(300)
      await result
      if (source !== 'custom') assert.ok(present(aws.sent[0]).signal.aborted)
      release()
      await advance(10 * SECOND)
      assert.equal(aws.sent.length, 1)
    })

    test(`leaves the handler half of the time where there is a value to fall back on: ${source}`, async () => {
      mockTimeouts()
      const aws = scene(answer('one'))
      const handler = withCache(
        (_: unknown, context) => [
          Reflect.get(context, 'value'),
          context.getRemainingTimeInMillis(),
        ],
        options(aws),
      )
      await handler({}, contextWith(10 * SECOND))
      const lines = consoleLines()
      aws.say('never')
      pass(MINUTE)
      const result = handler({}, contextWith(4 * SECOND))
      await advance(2 * SECOND)
      assert.equal(await isSettled(result), true)
      assert.deepEqual([await result, lines.length], [['one', 2 * SECOND], 1])
    })
  }

  test('abandons a request for several parameters when nobody waits for any of them', async () => {
    mockTimeouts()
    const aws = scene('never')
    const [short, long] = ['/a', '/b'].map((name) =>
      withCache(() => {}, { ssm: [name], fetch: aws.fetch }),
    )
    const results = [
      failure(present(short)({}, contextWith(500)), { code: 'Timeout', id: '/a' }),
      failure(present(long)({}, contextWith(1000)), { code: 'Timeout', id: '/b' }),
    ]
    await advance(300)
    await results[0]
    assert.deepEqual([aws.sent.length, present(aws.sent[0]).signal.aborted], [1, false])
    await advance(500)
    await results[1]
    assert.equal(present(aws.sent[0]).signal.aborted, true)
  })

  test('lets an abandoned load that ends late replace nothing newer', async () => {
    mockTimeouts()
    const settle: ((value: string) => void)[] = []
    const load = () => new Promise<string>((resolve) => settle.push(resolve))
    const handler = withCache((_: unknown, context) => context.value, {
      custom: [{ as: 'value', load }],
    })
    const first = failure(handler({}, contextWith(500)), { code: 'Timeout' })
    await advance(300)
    await first
    const second = handler({}, contextWith(500))
    await until(() => settle.length === 2)
    present(settle[1])('new')
    assert.equal(await second, 'new')
    present(settle[0])('old')
    await turns()
    assert.equal(await handler({}, contextWith(500)), 'new')
  })

  test('holds nothing against an answer that came while the event loop was blocked', async () => {
    mock.timers.reset()
    const aws = await local({ parameters: { '/app/value': 'one' } })
    aws.intercept = () => sleep(20).then(() => false)
    const handler = withCache((_: unknown, context) => context.value, { ssm: ['/app/value'] })
    const result = handler({}, contextWith(600))
    await until(() => aws.requests.length === 1)
    await sleep(100)
    block(500)
    assert.equal(await result, 'one')
  })

  test('may be further away than a timer can be', async () => {
    for (const left of [2 ** 31, 2 ** 53, Infinity]) {
      const { fetch } = script(SSM.answer('one'))
      clearCache()
      assert.equal(
        await withCache((_: unknown, context) => context.value, { ssm: ['/app/value'], fetch })(
          {},
          contextWith(left),
        ),
        'one',
      )
    }
  })

  test('is none for a context that does not know it', async () => {
    const { fetch } = script(SSM.answer('one'))
    const handler = withCache((_: unknown, context) => context.value, {
      ssm: ['/app/value'],
      fetch,
    })
    for (const context of [{}, { getRemainingTimeInMillis: undefined }, undefined]) {
      clearCache()
      assert.equal(await handler({}, context as never), 'one')
    }
  })

  test('leaves no timer behind', async () => {
    const timers = () =>
      process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
    const before = timers()
    for (const { options, answer } of CACHED)
      await withCache(() => {}, options(scene(answer('one'))))({}, lambdaContext())
    for (const { options } of CACHED) {
      clearCache()
      await failure(withCache(() => {}, options(scene(reply(403))))({}, lambdaContext()))
    }
    assert.equal(timers(), before)
  })
})

// ---- Direct access ----

describe('direct access', () => {
  test('parse JSON that Windows wrote, with a byte order mark', async () => {
    await local({ secrets: { flags: '\uFEFF{"dark":true}' } })
    assert.deepEqual(await getSecret('flags', { parse: json<Flags> }), { dark: true })
  })

  test('shares the cache with every handler', async () => {
    const aws = await local({ parameters: { '/a': '1' } })
    const invoke = invoking({ ssm: ['/a'] }, 'a')
    await invoke()
    assert.equal(await getParameter('/a'), '1')
    assert.equal(aws.requests.length, 1)
    aws.putParameter('/a', '2')
    assert.equal(await getParameter('/a', { maxAge: 0 }), '2')
    assert.deepEqual(await invoke(), ['2'])
    assert.equal(aws.requests.length, 2)
  })

  test('ends 200 ms before the deadline of the invocation it is in, warm and several at a time', async () => {
    mockTimeouts()
    const never: Fetch = () => new Promise(() => {})
    const fetch = script(SSM.answer('value')).fetch
    const handler = withCache((id: string) => getSecret(id, { fetch: never }), {
      ...SSM.entry(),
      fetch,
    })
    for (const state of ['cold', 'warm']) {
      const ends = [1000, 1500].map((milliseconds) =>
        failure(handler(`${state}/${milliseconds}`, contextWith(milliseconds)), {
          code: 'Timeout',
          id: `${state}/${milliseconds}`,
        }),
      )
      const outside = getSecret(`${state}/outside`, { fetch: never }).catch(() => 'three attempts')
      const settled = () => Promise.all([...ends, outside].map(isSettled))
      await advance(799)
      assert.deepEqual(await settled(), [false, false, false], state)
      await advance(1)
      assert.deepEqual(await settled(), [true, false, false], state)
      await advance(500)
      assert.deepEqual(await settled(), [true, true, false], state)
      await advance(20 * SECOND)
      assert.equal(await outside, 'three attempts')
      await Promise.all(ends)
    }
  })

  test('has the deadline of the invocation that called last where handlers are nested', async () => {
    mockTimeouts()
    const never: Fetch = () => new Promise(() => {})
    const inner = withCache(() => getSecret('inner', { fetch: never }), {})
    const outer = withCache(async () => {
      await failure(inner({}, contextWith(1000)), { code: 'Timeout' })
      return getSecret('outer', { fetch: never })
    }, {})
    const result = failure(outer({}, contextWith(2000)), { code: 'Timeout', id: 'outer' })
    await advance(1799)
    assert.equal(await isSettled(result), false)
    await advance(1)
    assert.equal(await isSettled(result), true)
    await result
  })

  test('forgets with clearCache who is under way, so that the next 20 do not wait in line', async () => {
    mockTimeouts()
    const deaf: Fetch = () => new Promise(() => {})
    for (let index = 0; index < 20; index += 1)
      getSecret(`app/${index}`, { fetch: deaf }).catch(() => {})
    await turns()
    clearCache()
    const { fetch } = script(SECRETS.answer('value'))
    assert.equal(await getSecret('app/value', { fetch }), 'value')
  })

  test('forgets everything with clearCache', async () => {
    const aws = await local({ parameters: { '/a': '1' } })
    const invoke = invoking({ ssm: ['/a'] }, 'a')
    await invoke()
    aws.putParameter('/a', '2')
    clearCache()
    assert.deepEqual(await invoke(), ['2'])
    assert.equal(await getParameter('/a'), '2')
    assert.equal(aws.requests.length, 2)
  })

  test('refuses what it cannot use, by rejecting', async () => {
    for (const call of [
      () => getParameter(''),
      () => getParameter('/a', { maxAge: -1 }),
      () => getParametersByPath('/a', { parse: 'JSON' } as never),
      () => getSecret(7 as never),
      () => getObject('https://bucket/key'),
      () => getObject('s3://bucket/key', { fetch: 'fetch' } as never),
      () => getParameter('/a', { refreshOn: () => true } as never),
      () => getSecret('a', { ssm: ['/a'] } as never),
    ]) {
      const promise = call()
      assert.ok(promise instanceof Promise)
      await failure(promise, { code: 'InvalidOptions' })
    }
  })

  test('parses JSON with json', () => {
    assert.deepEqual(json<{ a: number }>('{"a":1}'), { a: 1 })
  })
})

// ---- Entries: what is refused at once ----

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

// ---- Cache: what holds for every source ----

for (const { source, id, action, codes, malformed, read, entry, put, answer } of SOURCES) {
  describeOverBoth(`${source}: the contract`, () => {
    const name = 'value'
    // S3 tells a missing key from a missing bucket.
    const bucket: Seed = { objects: { 's3://bucket/app/other': '' } }

    test('reads once and then serves from memory', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const invoke = invoking(entry(), name)
      assert.deepEqual(await invoke(), ['one'])
      put(aws, 'two')
      assert.deepEqual(await invoke(), ['one'])
      assert.equal(await read(), 'one')
      assert.equal(aws.requests.length, 1)
    })

    test('expires at maxAge, to the millisecond', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      await read({ maxAge: 10 })
      put(aws, 'two')
      pass(10 * SECOND - 1)
      assert.equal(await read({ maxAge: 10 }), 'one')
      pass(2)
      assert.equal(await read({ maxAge: 10 }), 'two')
      assert.equal(aws.requests.length, 2)
    })

    test('counts the age from the request, so that an answer that waited out a freeze is not new', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      aws.intercept = () => pass(5 * SECOND)
      await read()
      pass(55 * SECOND - 1)
      await read()
      assert.equal(aws.requests.length, 1)
      pass(1)
      aws.intercept = () => pass(HOUR)
      assert.equal(await read(), 'one', 'whose own request it was')
      aws.intercept = undefined
      put(aws, 'two')
      assert.equal(await read(), 'two', 'to all others it is an hour old')
      assert.equal(aws.requests.length, 3)
    })

    test("judges freshness by the reader's own maxAge", async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const patient = invoking({ ...entry(), maxAge: 600 }, name)
      const hasty = invoking({ ...entry(), maxAge: 10 }, name)
      assert.deepEqual(await patient(), ['one'])
      put(aws, 'two')
      pass(30 * SECOND)
      assert.deepEqual(await patient(), ['one'])
      assert.deepEqual(await hasty(), ['two'])
      assert.deepEqual(await patient(), ['two'], 'what one reader fetched, every reader sees')
      assert.equal(aws.requests.length, 2)
    })

    test('shows a forced refresh to every reader', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const [first, second] = [
        invoking(entry(), name),
        invoking({ ...entry(), maxAge: Infinity }, name),
      ]
      await Promise.all([first(), second()])
      put(aws, 'two')
      assert.equal(await read({ maxAge: 0 }), 'two')
      assert.deepEqual([await first(), await second(), await read()], [['two'], ['two'], 'two'])
      assert.equal(aws.requests.length, 2)
    })

    test('is a single flight: one refresh for all who wait', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      let open = (): void => {}
      aws.intercept = () =>
        new Promise<void>((resolve) => {
          open = resolve
        })
      const invoke = invoking(entry(), name)
      const waiting = [read(), invoke()]
      await until(() => aws.requests.length === 1)
      waiting.push(read(), invoke())
      await turns()
      open()
      assert.deepEqual(await Promise.all(waiting), ['one', ['one'], 'one', ['one']])
      assert.equal(aws.requests.length, 1)
    })

    test('answers no forced read by a request that began before it, and all forced reads by the next one', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      await read()
      const gates: (() => void)[] = []
      aws.intercept = () => new Promise<void>((resolve) => gates.push(resolve))
      pass(MINUTE)
      const usual = read()
      await until(() => gates.length === 1)
      const forced = [
        read({ maxAge: 0 }),
        read({ maxAge: 0 }),
        invoking({ ...entry(), maxAge: 0 }, name)(),
      ]
      await turns()
      assert.equal(gates.length, 1, 'one request at a time')
      present(gates[0])()
      assert.equal(await usual, 'one')
      await until(() => gates.length === 2)
      put(aws, 'two')
      present(gates[1])()
      assert.deepEqual(await Promise.all(forced), ['two', 'two', ['two']])
      assert.equal(await read(), 'two')
      assert.equal(aws.requests.length, 3)
    })

    test('takes a value for expired once the clock has been set back', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const invoke = invoking(entry(), name)
      await invoke()
      put(aws, 'two')
      pass(-HOUR)
      assert.deepEqual([await invoke(), await read()], [['two'], 'two'])
      assert.equal(aws.requests.length, 2)
    })

    test('leaves a forced read no pause after a failure', async () => {
      const { fetch, say, sent } = scene(answer('one'))
      const lines = consoleLines()
      await read({ fetch })
      pass(MINUTE)
      say(reply(500))
      await read({ fetch })
      say(answer('two'))
      assert.equal(await read({ fetch }), 'one', 'for 5 s AWS is left alone')
      assert.equal(await read({ fetch, maxAge: 0 }), 'two')
      assert.deepEqual([sent.length, lines.length], [5, 1])
    })

    test('asks again after an invocation that had no time left to ask', async () => {
      const { fetch, say, sent } = scene(answer('one'))
      const handler = withCache(
        async ({ milliseconds }: { milliseconds: number }, context) => {
          pass(milliseconds)
          if (milliseconds > 0) throw new Error('out of date')
          return Reflect.get(context, name)
        },
        { ...entry(), fetch, maxAge: 1, refreshOn: () => true },
      )
      await assert.rejects(handler({ milliseconds: 2000 }, contextWith(1000)), /out of date/)
      say(answer('two'))
      assert.equal(await handler({ milliseconds: 0 }, contextWith(1000)), 'two')
      assert.equal(sent.length, 2)
    })

    test('refuses a parse that returns a promise, and lets nothing of it go unhandled', async () => {
      const rejections: unknown[] = []
      const onRejection = (reason: unknown) => void rejections.push(reason)
      process.on('unhandledRejection', onRejection)
      cleanups.push(() => process.off('unhandledRejection', onRejection))
      const aws = await local(bucket)
      put(aws, `${CANARY}-value`)
      for (const parse of [
        async (content: string) => json(content),
        (content: string) => Promise.resolve(content),
      ]) {
        const error = await failure(
          read({ parse }),
          { code: 'ParseError', source, id, cause: undefined },
          'promise',
          'custom',
        )
        assertKeepsSecrets(error)
        assertKeepsSecrets(
          await failure(
            invoking({
              ...entry({ parse }),
              custom: [{ as: 'other', load: () => Promise.reject(new Error('down')) }],
            })(),
            {},
            'promise',
          ),
        )
      }
      await turns()
      assert.deepEqual(rejections, [])
    })

    test('never caches a failure: all who wait get it, and the next read asks again', async () => {
      const aws = await local(bucket)
      const results = await Promise.allSettled([read(), read(), read()])
      assert.deepEqual(
        results.map(({ status }) => status),
        ['rejected', 'rejected', 'rejected'],
      )
      assert.equal(aws.requests.length, 1)
      put(aws, 'there now')
      assert.equal(await read(), 'there now', 'a failure is not cached')
    })

    test('says what was denied, without asking twice', async () => {
      const aws = await local(bucket)
      put(aws, `${CANARY}-value`)
      aws.deny(action, id)
      const error = await failure(
        read(),
        { code: codes.denied, source, id, httpStatus: source === 's3' ? 403 : 400 },
        id,
        action,
      )
      assert.match(error.requestId ?? '', /^[\w-]{16,}$/)
      assert.equal(aws.requests.length, 1)
      assertKeepsSecrets(error)
    })

    test('says what is missing, without asking twice', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      await read()
      aws.delete(id)
      await failure(read({ maxAge: 0 }), { code: codes.missing, source, id }, id)
      assert.equal(aws.requests.length, 2)
    })

    test('gives the default for what is missing, and keeps that for maxAge', async () => {
      for (const fallback of [null, undefined, '', 0, false, 'default']) {
        clearCache()
        const aws = await local(bucket)
        const invoke = invoking(entry({ default: fallback }), name)
        assert.deepEqual(await invoke(), [fallback])
        put(aws, 'there now')
        pass(MINUTE / 2)
        assert.deepEqual(await invoke(), [fallback])
        assert.equal(await read({ default: 'another' }), 'another')
        assert.equal(aws.requests.length, 1)
        pass(MINUTE / 2)
        assert.deepEqual(await invoke(), ['there now'])
      }
    })

    test('gives those without a default the error', async () => {
      await local(bucket)
      assert.equal(await read({ default: 'default' }), 'default')
      await failure(read(), { code: codes.missing, source, id })
    })

    test('gives no default where access is denied', async () => {
      const aws = await local(bucket)
      aws.deny(action, id)
      await failure(read({ default: 'default' }), { code: codes.denied })
    })

    for (const status of malformed) {
      test(`says that a page with status ${status} is no answer, and not what it holds`, async () => {
        const page = `<html><body>${CANARY}-body: the proxy wants a password</body></html>`
        const { fetch, sent } = script(
          ...Array.from({ length: 3 }, () => reply(status, page, { 'content-type': 'text/html' })),
          answer('one'),
        )
        const error = await failure(
          read({ fetch }),
          { source, id, httpStatus: status },
          String(status),
        )
        assertKeepsSecrets(error)
        assert.equal(sent.length, 3)
        assert.equal(await read({ fetch }), 'one')
      })
    }

    test('says which host cannot be reached', async () => {
      const aws = await local(bucket)
      await aws.close()
      assertKeepsSecrets(
        await failure(
          read(),
          { code: 'NetworkError', source, id },
          new URL(aws.url).host,
          'ECONNREFUSED',
        ),
      )
    })

    test('takes an empty string, 0 and false for values like any other', async () => {
      for (const [stored, parse, value] of [
        ['', text, ''],
        ['0', Number, 0],
        ['false', json<boolean>, false],
        ['null', json<null>, null],
      ] as const) {
        clearCache()
        const aws = await local(bucket)
        put(aws, stored)
        for (let time = 0; time < 2; time += 1)
          assert.equal(await read({ parse, default: 'default' }), value)
        assert.equal(aws.requests.length, 1)
      }
    })

    test('parses once per refresh', async () => {
      const aws = await local(bucket)
      put(aws, '{"release":1}')
      const parse = mock.fn(json<{ release: number }>)
      const invoke = invoking(entry({ parse }), name)
      const [first] = await invoke()
      assert.deepEqual(first, { release: 1 })
      assert.equal((await invoke())[0], first)
      assert.equal(await read({ parse }), first)
      assert.equal(parse.mock.callCount(), 1)
      put(aws, '{"release":2}')
      pass(MINUTE)
      assert.deepEqual(await invoke(), [{ release: 2 }])
      assert.equal(parse.mock.callCount(), 2)
    })

    test('parses for each parser, from one request', async () => {
      const aws = await local(bucket)
      put(aws, '7')
      assert.deepEqual(
        await Promise.all([read({ parse: Number }), read({ parse: text }), read({ parse: json })]),
        [7, '7', 7],
      )
      assert.equal(aws.requests.length, 1)
    })

    test('says that a parse failed, and nothing of what it said', async () => {
      const parsers: ((content: string) => unknown)[] = [
        json,
        (content) => assert.fail(`cannot read ${content}`),
        (content) => {
          throw content
        },
        () => {
          throw undefined
        },
      ]
      for (const parse of parsers) {
        clearCache()
        const aws = await local(bucket)
        put(aws, `${CANARY}-value`)
        assertKeepsSecrets(
          await failure(read({ parse }), { code: 'ParseError', source, id, cause: undefined }, id),
        )
      }
    })

    test('calls the region of the entry, of the options, of the environment', async () => {
      const aws = await local(bucket)
      put(aws, 'one')
      const fallback = { AWS_REGION: '', AWS_DEFAULT_REGION: 'eu-west-3' }
      await read()
      await invoking({ ...entry(), region: 'eu-west-1' })()
      await invoking({ ...entry({ region: 'eu-west-2' }), region: 'eu-west-1' })()
      await read({ region: 'eu-west-2' })
      Object.assign(process.env, fallback)
      await read()
      assert.deepEqual(
        aws.requests.map(({ region }) => region),
        ['us-east-1', 'eu-west-1', 'eu-west-2', 'eu-west-3'],
      )
    })

    test('asks nobody without a region', async () => {
      const { fetch, sent } = script(answer('one'))
      delete process.env.AWS_REGION
      await failure(read({ fetch }), { code: 'NoRegion', source, id }, 'AWS_REGION')
      assert.equal(sent.length, 0)
    })

    test("takes a fetch of the user's", async () => {
      const { fetch, sent } = script(answer('one'))
      assert.deepEqual(await invoking({ ...entry(), fetch }, name)(), ['one'])
      assert.equal(new URL(present(sent[0]).url).host, AWS_HOSTS[source])
    })
  })
}

// ---- Refresh ahead ----

for (const { source, attempts, answer, options } of CACHED) {
  describe(`refresh ahead: ${source}`, () => {
    /** A value that was read 48 s ago, 80 % of its maxAge, and has changed since. */
    async function nearlyExpired(handle: (value: unknown) => unknown = (value) => value) {
      const aws = scene(answer('one'))
      const handler = withCache(
        (_: unknown, context) => handle(Reflect.get(context, 'value')),
        options(aws),
      )
      const invoke = () => handler({}, lambdaContext())
      await invoke().catch(() => {})
      pass(48 * SECOND)
      aws.say(answer('two'))
      return { ...aws, invoke }
    }

    test('serves what it has past 80 % of maxAge, and what has come meanwhile to the next', async () => {
      const { sent, invoke } = await nearlyExpired()
      pass(-1)
      assert.deepEqual([await invoke(), sent.length], ['one', 1])
      pass(1)
      assert.deepEqual([await invoke(), sent.length], ['one', 2])
      assert.deepEqual([await invoke(), sent.length], ['two', 2])
      pass(48 * SECOND - 1)
      assert.deepEqual(
        [await invoke(), sent.length],
        ['two', 2],
        'the new value has its own maxAge',
      )
    })

    for (const [outcome, handle] of [
      ['returned', (value: unknown) => value],
      ['thrown', (value: unknown) => Promise.reject(value)],
    ] as const) {
      test(`begins with the handler, and ends before the result is ${outcome}`, async () => {
        let runs = 0
        const { sent, hold, invoke } = await nearlyExpired((value) => {
          runs += 1
          return handle(value)
        })
        const release = hold()
        const result = invoke().catch((thrown: unknown) => thrown)
        await until(() => sent.length === 2)
        await turns()
        assert.equal(runs, 2, 'the handler does not wait')
        assert.equal(await isSettled(result), false)
        release()
        assert.equal(await result, 'one')
        assert.equal(await invoke().catch((thrown: unknown) => thrown), 'two')
        assert.equal(sent.length, 2)
      })
    }

    const failures: Answer[] = [
      reply(500),
      reply(429),
      reply(403),
      unreachable('ECONNRESET'),
      ...(source === 'ssm' || source === 'secrets'
        ? [refusal('ThrottlingException'), reply(200, '<html>')]
        : []),
    ]
    test('fails in silence, after one attempt, and is not tried again for that value', async () => {
      const lines = consoleLines()
      for (const failing of failures) {
        clearCache()
        const { sent, say, invoke } = await nearlyExpired()
        say(failing)
        for (const seconds of [0, 0, 6, 6 - 0.001]) {
          pass(seconds * SECOND)
          assert.deepEqual([await invoke(), sent.length], ['one', 2])
        }
        say(answer('two'))
        pass(1)
        assert.deepEqual(
          [await invoke(), sent.length],
          ['two', 3],
          'no value is older than its maxAge',
        )
      }
      assert.deepEqual(lines, [])
    })

    test('takes 300 ms at most', async () => {
      mockTimeouts()
      const { sent, say, invoke } = await nearlyExpired()
      say('never')
      const result = invoke()
      await turns()
      mock.timers.tick(299)
      assert.equal(await isSettled(result), false)
      assert.equal(present(sent[1]).signal.aborted, false)
      mock.timers.tick(1)
      assert.equal(await isSettled(result), true)
      assert.equal(await result, 'one')
      if (source !== 'custom') assert.ok(present(sent[1]).signal.aborted, 'nothing is left running')
      assert.deepEqual([await invoke(), sent.length], ['one', 2])
    })

    test('happens once for all invocations of the moment', async () => {
      const { sent, invoke } = await nearlyExpired()
      assert.deepEqual(await Promise.all([invoke(), invoke(), invoke()]), ['one', 'one', 'one'])
      assert.equal(sent.length, 2)
    })

    test('leaves no timer behind', async () => {
      const timers = () =>
        process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
      const { sent, invoke } = await nearlyExpired()
      const before = timers()
      await invoke()
      assert.deepEqual([sent.length, timers()], [2, before])
    })

    for (const [seconds, requests] of [
      [0, 7],
      [Infinity, 1],
    ] as const) {
      test(`never happens with maxAge ${seconds}`, async () => {
        const aws = scene(answer('one'))
        const invoke = invoking({ ...options(aws), maxAge: seconds }, 'value')
        for (const pause of [0, 0, 1, 50 * SECOND, 55 * SECOND, HOUR, 10_000 * HOUR]) {
          pass(pause)
          await invoke()
        }
        assert.equal(aws.sent.length, requests)
      })
    }

    test('is what a reader waits for who needs the value meanwhile', async () => {
      const { invoke, ...aws } = await nearlyExpired()
      const needy = invoking({ ...options(aws), maxAge: 10 }, 'value')
      const release = aws.hold()
      const result = invoke()
      await until(() => aws.sent.length === 2)
      const waiting = needy()
      assert.equal(await isSettled(waiting), false)
      release()
      assert.deepEqual([await result, await waiting, aws.sent.length], ['one', ['two'], 2])
    })

    for (const recovers of [true, false]) {
      test(`does not fail those who need the value, who ${recovers ? 'ask again' : 'fail after attempts of their own'}`, async () => {
        const lines = consoleLines()
        const { invoke, ...aws } = await nearlyExpired()
        const needy = invoking({ ...options(aws), maxAge: 10, staleIfError: 0 }, 'value')
        aws.say(reply(500))
        const release = aws.hold()
        const result = invoke()
        await until(() => aws.sent.length === 2)
        const waiting = Promise.allSettled([needy(), needy()])
        await turns()
        if (recovers) aws.say(answer('three'))
        release()
        assert.equal(await result, 'one')
        assert.deepEqual(
          (await waiting).map(({ status }) => status),
          recovers ? ['fulfilled', 'fulfilled'] : ['rejected', 'rejected'],
        )
        assert.equal(aws.sent.length, recovers ? 3 : 2 + attempts)
        assert.deepEqual(lines, [])
      })
    }
  })
}

describe('refresh ahead', () => {
  test('is awaited where another entry fails, too', async () => {
    const missing = scene(refusal('ResourceNotFoundException'))
    const early = scene(SSM.answer('one'))
    const fetch: Fetch = (url, init) =>
      present(init.headers['x-amz-target']).startsWith('AmazonSSM')
        ? early.fetch(url, init)
        : missing.fetch(url, init)
    const handler = withCache(() => {}, {
      ssm: ['/app/value'],
      secrets: [{ id: 'app/other', maxAge: 0 }],
      maxAge: 60,
      fetch,
    })
    await getParameter('/app/value', { fetch, maxAge: 60 })
    pass(59 * SECOND)
    const go = early.hold()
    const result = failure(handler({}, lambdaContext()), { code: 'ResourceNotFoundException' })
    await until(() => early.sent.length === 2 && missing.sent.length === 1)
    assert.equal(await isSettled(result), false)
    go()
    await result
  })

  test('joins an ordinary refresh that is under way, and does not make it another', async () => {
    const aws = scene(SSM.answer('one'))
    const [patient, hasty] = [60, 10].map((maxAge) =>
      invoking({ ...SSM.entry(), fetch: aws.fetch, maxAge, staleIfError: 0 }, 'value'),
    )
    await present(patient)()
    pass(48 * SECOND)
    aws.say(reply(500))
    const release = aws.hold()
    const failing = [failure(present(hasty)(), { code: 'Http500' })]
    await until(() => aws.sent.length === 2)
    const result = present(patient)()
    failing.push(failure(present(hasty)(), { code: 'Http500' }))
    await turns()
    release()
    await Promise.all(failing)
    assert.deepEqual(
      [await result, aws.sent.length],
      [['one'], 4],
      'three attempts for all of them',
    )
  })

  for (const names of [
    ['/app/early', '/app/late'],
    ['/app/late', '/app/early'],
  ]) {
    test(`shares no request with a refresh that an invocation waits for: ${names}`, async () => {
      mock.method(Math, 'random', () => 0)
      consoleLines()
      const aws = scene(parameters({ '/app/early': 'one', '/app/late': 'one' }))
      const invoke = invoking(
        {
          ssm: names.map((name) => ({ name, maxAge: name === '/app/early' ? 60 : 50 })),
          fetch: aws.fetch,
        },
        'early',
        'late',
      )
      await invoke()
      pass(55 * SECOND)
      aws.say(reply(500))
      assert.deepEqual(await invoke(), ['one', 'one'])
      const asked = aws.sent.slice(1).map(({ body }) => JSON.parse(String(body)).Names.join())
      assert.deepEqual(asked.sort(), ['/app/early', '/app/late', '/app/late', '/app/late'])
    })
  }

  test('keeps a value that is still good where the thing is gone', async () => {
    const aws = scene(SSM.answer('one'))
    const invoke = invoking(
      { ssm: [{ name: '/app/value', default: 'default' }], fetch: aws.fetch },
      'value',
    )
    await invoke()
    aws.say(parameters({}, ['/app/value']))
    pass(50 * SECOND)
    assert.deepEqual([await invoke(), await invoke(), aws.sent.length], [['one'], ['one'], 2])
    pass(10 * SECOND)
    assert.deepEqual([await invoke(), aws.sent.length], [['default'], 3])
  })

  test('goes out before a handler that blocks the event loop, and takes the answer that came meanwhile', async () => {
    mock.timers.reset()
    const aws = await local({ parameters: { '/app/value': 'one' } })
    const handler = withCache(
      (_: unknown, context) => {
        block(400)
        return context.value
      },
      {
        ssm: ['/app/value'],
        maxAge: 5,
      },
    )
    await handler({}, lambdaContext())
    aws.putParameter('/app/value', 'two')
    mock.timers.enable({ apis: ['Date'], now: Date.now() + 4100 })
    assert.equal(await handler({}, lambdaContext()), 'one')
    assert.equal(await handler({}, lambdaContext()), 'two')
    assert.equal(aws.requests.length, 2)
  })

  test('keeps parameters that came together in one request', async () => {
    const aws = await local({ parameters: { '/a/one': '1', '/a/two': '2', '/a/three': '3' } })
    let draws = 0
    mock.method(Math, 'random', () => {
      draws += 0.37
      return draws % 1
    })
    const handler = withCache(() => {}, {
      ssm: ['/a/one', { names: ['/a/two', '/a/three'], as: 'group' }],
    })
    for (let second = 0; second < 600; second += 1, pass(SECOND)) await handler({}, lambdaContext())
    assert.ok(aws.requests.length > 9, `${aws.requests.length} requests in ten minutes`)
    for (const { body } of aws.requests)
      assert.equal((JSON.parse(String(body)) as { Names: string[] }).Names.length, 3)
  })

  test('comes between 80 % and 100 % of maxAge, by chance', async () => {
    const chances = [0, 0.25, 0.5, 0.999]
    const points = [48_000, 51_000, 54_000, 59_988]
    for (const [index, chance] of chances.entries()) {
      clearCache()
      mock.method(Math, 'random', () => chance)
      const aws = scene(SSM.answer('one'))
      const invoke = invoking({ ...SSM.entry(), fetch: aws.fetch })
      await invoke()
      pass(present(points[index]) - 1)
      await invoke()
      assert.equal(aws.sent.length, 1)
      // A point may lie between two milliseconds.
      pass(2)
      await invoke()
      assert.equal(aws.sent.length, 2)
    }
  })

  test('comes at another time for each entry of an invocation', async () => {
    const chances = [0, 0.5]
    mock.method(Math, 'random', () => chances.shift() ?? 0)
    const [first, second] = [mock.fn(() => 1), mock.fn(() => 2)]
    const invoke = invoking({
      custom: [
        { as: 'first', load: first },
        { as: 'second', load: second },
      ],
    })
    const calls = async () => {
      await invoke()
      return [first.mock.callCount(), second.mock.callCount()].sort()
    }
    assert.deepEqual(await calls(), [1, 1])
    pass(48 * SECOND)
    assert.deepEqual(await calls(), [1, 2])
    pass(6 * SECOND)
    assert.deepEqual(await calls(), [2, 2])
  })

  test('reads only what is due', async () => {
    const { fetch, sent } = script(({ headers, url }) =>
      (/ssm/i.test(headers['x-amz-target'] ?? '') ? SSM : url.includes('s3') ? S3 : SECRETS).answer(
        'one',
      ),
    )
    const invoke = invoking({
      ssm: ['/app/value'],
      secrets: [{ id: 'app/value', as: 'secret', maxAge: 600 }],
      s3: [{ uri: 's3://bucket/app/value', parse: text, as: 'object', maxAge: 20 }],
      fetch,
    })
    const hosts = () =>
      sent.splice(0).map(({ url }) => new URL(url).host.replace('.us-east-1.amazonaws.com', ''))
    await invoke()
    assert.deepEqual(hosts().sort(), ['bucket.s3', 'secretsmanager', 'ssm'])
    for (const [seconds, ...expected] of [
      [16, 'bucket.s3'],
      [32, 'bucket.s3'],
      [48, 'bucket.s3', 'ssm'],
    ] as const) {
      pass(START + seconds * SECOND - Date.now())
      await invoke()
      assert.deepEqual(hosts().sort(), expected)
    }
  })
})

// ---- Stale if error ----

describe('stale if error', () => {
  /** What passes by itself: three attempts, then the last value. */
  const PASSING: readonly [what: string, answer: Answer, code: string][] = [
    ...['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_SOCKET'].map(
      (code): (typeof PASSING)[number] => [code, unreachable(code), 'NetworkError'],
    ),
    ...['ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT'].map((code): (typeof PASSING)[number] => [
      code,
      unreachable(code),
      'Timeout',
    ]),
    [
      'the timeout of a fetch of the user',
      new DOMException(`${CANARY}-body`, 'TimeoutError'),
      'Timeout',
    ],
    ['fetch failed, without a code', new TypeError('fetch failed'), 'NetworkError'],
    ['too many open files', unreachable('EMFILE'), 'NetworkError'],
    ...[302, 403, 404, 408, 429, 500, 502, 503, 599].map((status): (typeof PASSING)[number] => [
      `HTTP ${status}`,
      reply(status, `<html>${CANARY}-body`),
      `Http${status}`,
    ]),
    ...['ThrottlingException', 'TooManyRequestsException', 'RequestLimitExceeded'].map(
      (code): (typeof PASSING)[number] => [`${code} as HTTP 400`, refusal(code), code],
    ),
    ['SlowDown', xml(503, 'SlowDown'), 'SlowDown'],
    ['a body cut short', reply(200, `${CANARY}-body`, { 'content-length': '99' }), 'NetworkError'],
    ["a proxy's page with HTTP 200", reply(200, `<html>${CANARY}-body`), 'InvalidAnswer'],
    ['JSON cut short', reply(200, `{"${CANARY}-body`), 'InvalidAnswer'],
  ]
  /** What S3 takes for an object. */
  const OF_JSON = ['InvalidAnswer']
  for (const [what, failing, code] of PASSING) {
    test(`serves the last value for staleIfError, and asks every 5 s: ${what}`, async () => {
      const lines = consoleLines()
      for (const { source, id, answer, entry } of OF_JSON.includes(code)
        ? [SSM, SECRETS]
        : SOURCES) {
        clearCache()
        const [began, aws] = [Date.now(), scene(answer(`${CANARY}-one`))]
        let takes = 0
        const fetch: Fetch = (...args) => aws.fetch(...args).finally(() => pass(takes))
        const invoke = invoking({ ...entry(), fetch }, 'value')
        await invoke()
        aws.say(failing)
        for (const [milliseconds, requests, warnings] of [
          [60_000, 3, 1],
          [60_000, 0, 0],
          [64_999, 0, 0],
          [65_000, 3, 1],
          [359_999, 3, 1],
        ] as const) {
          pass(began + milliseconds - Date.now())
          aws.sent.length = lines.length = 0
          assert.deepEqual(
            [await invoke(), aws.sent.length, lines.length],
            [[`${CANARY}-one`], requests, warnings],
            `${source} at ${milliseconds}`,
          )
          for (const line of lines) {
            assert.ok(
              line.includes(id) &&
                line.includes(code.replace(/^(Http|NetworkError|Timeout|InvalidAnswer).*/, '')) &&
                !line.includes('\n'),
              line,
            )
            assertKeepsSecrets(new Error(line))
          }
        }
        pass(1)
        lines.length = 0
        // With nothing to serve, throttling alone takes until the deadline.
        takes = MINUTE
        await failure(invoke(), { code, source, id })
        assert.deepEqual(lines, [], 'an error that goes out needs no line')
        takes = 0
        aws.say(answer('two'))
        assert.deepEqual(await invoke(), ['two'])
      }
    })
  }

  for (const { source, attempts, answer, options } of CACHED) {
    /** A value that has expired, and cannot be read again. */
    async function expired(failing: Answer = reply(500), more: Options = {}) {
      const aws = scene(answer('one'))
      const invoke = invoking({ ...options(aws), ...more }, 'value')
      await invoke()
      aws.say(failing)
      pass(MINUTE)
      return { ...aws, invoke, lines: consoleLines() }
    }

    test(`warns once for all who wait, and recovers: ${source}`, async () => {
      const { say, sent, invoke, lines } = await expired()
      assert.deepEqual(await Promise.all([invoke(), invoke(), invoke()]), [
        ['one'],
        ['one'],
        ['one'],
      ])
      assert.deepEqual([sent.length, lines.length], [1 + attempts, 1])
      say(answer('two'))
      pass(5 * SECOND - 1)
      assert.deepEqual([await invoke(), sent.length], [['one'], 1 + attempts])
      pass(1)
      assert.deepEqual([await invoke(), sent.length, lines.length], [['two'], 2 + attempts, 1])
      say(reply(500))
      pass(MINUTE)
      assert.deepEqual(
        [await invoke(), lines.length],
        [['two'], 2],
        'the next outage has a line of its own',
      )
    })

    test(`is for as long as staleIfError says: ${source}`, async () => {
      for (const seconds of [0, 10, 0.5]) {
        clearCache()
        const { sent, invoke } = await expired(reply(500), { staleIfError: seconds })
        if (seconds) {
          pass(seconds * SECOND - 1)
          assert.deepEqual(await invoke(), ['one'])
          pass(1)
        }
        sent.length = 0
        await failure(invoke(), { source })
        assert.equal(sent.length, attempts)
      }
      clearCache()
      const { invoke } = await expired(reply(500), { staleIfError: Infinity })
      pass(10_000 * HOUR)
      assert.deepEqual(await invoke(), ['one'])
    })

    test(`helps nobody who has no value yet: ${source}`, async () => {
      const [aws, lines] = [scene(reply(500)), consoleLines()]
      const invoke = invoking(options(aws), 'value')
      for (const requests of [attempts, 2 * attempts]) {
        await failure(invoke(), { source, code: source === 'custom' ? 'LoadFailed' : 'Http500' })
        assert.equal(aws.sent.length, requests)
      }
      assert.deepEqual(lines, [])
    })

    test(`takes a timeout for what it is: ${source}`, async () => {
      const { sent, lines, invoke } = await expired('never')
      mockTimeouts()
      const waiting = invoke()
      await advance(15 * SECOND)
      if (source === 'custom')
        return assert.equal(await isSettled(waiting), false, 'a load takes what it takes')
      assert.deepEqual([await waiting, sent.length, lines.length], [['one'], 4, 1])
    })

    test(`asks at once who forces it, after a recovery: ${source}`, async () => {
      const { invoke, ...aws } = await expired()
      const [strict, forced] = [
        invoking({ ...options(aws), staleIfError: 0 }, 'value'),
        invoking({ ...options(aws), maxAge: 0 }, 'value'),
      ]
      await invoke()
      pass(SECOND)
      aws.say(answer('two'))
      assert.deepEqual(await strict(), ['two'])
      aws.say(answer('three'))
      pass(SECOND)
      assert.deepEqual(await forced(), ['three'])
    })
  }

  /** What does not pass by itself. */
  const DEFINITE: readonly [
    what: string,
    answer: Answer,
    code: string,
    sources?: readonly SourceCase[],
  ][] = [
    ...[
      'AccessDeniedException',
      'ValidationException',
      'ExpiredTokenException',
      'UnrecognizedClientException',
      'DecryptionFailure',
    ].map((code): (typeof DEFINITE)[number] => [code, refusal(code), code]),
    ['AccessDenied', xml(403, 'AccessDenied'), 'AccessDenied'],
    [
      'no such secret',
      refusal('ResourceNotFoundException'),
      'ResourceNotFoundException',
      [SECRETS],
    ],
    ['no such parameter', parameters({}, ['/app/value']), 'ParameterNotFound', [SSM]],
    ['no such object', xml(404, 'NoSuchKey'), 'NoSuchKey', [S3]],
    ['a wrong certificate', unreachable('CERT_HAS_EXPIRED'), 'RequestFailed'],
  ]
  for (const [what, failing, code, sources = SOURCES] of DEFINITE) {
    test(`does not hide ${what}`, async () => {
      const lines = consoleLines()
      for (const { source, id, answer, entry } of sources) {
        clearCache()
        const aws = scene(answer(`${CANARY}-one`))
        const invoke = invoking({ ...entry(), fetch: aws.fetch }, 'value')
        await invoke()
        aws.say(failing)
        pass(MINUTE)
        for (const requests of [2, 3]) {
          assertKeepsSecrets(await failure(invoke(), { code, source, id }))
          assert.equal(aws.sent.length, requests, 'one attempt')
        }
        aws.say(answer('two'))
        assert.deepEqual(await invoke(), ['two'])
      }
      assert.deepEqual(lines, [])
    })
  }

  test('has one line in the log for a request that failed, not one for each parameter in it', async () => {
    for (const failing of [reply(503), unreachable('ECONNRESET')]) {
      clearCache()
      const lines = consoleLines()
      const names = Array.from({ length: 20 }, (_, index) => `/app/p${index}`)
      const aws = scene(parameters(Object.fromEntries(names.map((name) => [name, 'one']))))
      const invoke = withCache(
        (_: unknown, context) => Object.getOwnPropertyNames(context).length,
        { ssm: names, fetch: aws.fetch },
      )
      await invoke({}, lambdaContext())
      aws.say(failing)
      pass(MINUTE)
      await invoke({}, lambdaContext())
      assert.equal(lines.length, 2, lines.join('\n'))
    }
  })

  test('has a line for each secret that failed, since each is a request', async () => {
    const lines = consoleLines()
    const aws = scene(SECRETS.answer('one'))
    const invoke = invoking({ secrets: ['a', 'b'], fetch: aws.fetch }, 'a')
    await invoke()
    aws.say(reply(503))
    pass(MINUTE)
    await invoke()
    assert.deepEqual(lines.map((line) => line.slice(0, 24)).sort(), [
      'lambda-cache: secrets a:',
      'lambda-cache: secrets b:',
    ])
  })

  test('leaves alone who has a maxAge that has not passed', async () => {
    const aws = scene(SSM.answer('one'))
    const [hasty, patient] = [10, 600].map((maxAge) =>
      invoking({ ...SSM.entry(), fetch: aws.fetch, maxAge }, 'value'),
    )
    const lines = consoleLines()
    await present(hasty)()
    aws.say(reply(500))
    pass(MINUTE)
    assert.deepEqual([await present(patient)(), lines.length], [['one'], 0])
    assert.deepEqual([await present(hasty)(), lines.length], [['one'], 1])
  })
})

// ---- At most 1,000 entries ----

describe('the size of the cache', () => {
  /** Reads by number, each with a request of its own. */
  function numbered() {
    const { fetch, sent } = script(({ body }) => {
      const { Names } = JSON.parse(body) as { Names: string[] }
      return parameters(Object.fromEntries(Names.map((name) => [name, name])))
    })
    const read = async (first: number, last = first, maxAge = Infinity) => {
      sent.length = 0
      for (let number = first; number <= last; number += 1)
        assert.equal(await getParameter(`/${number}`, { fetch, maxAge }), `/${number}`)
      return sent.length
    }
    return { fetch, read }
  }

  test('is 1,000 entries of direct access, and the one fetched longest ago is evicted', async () => {
    const { read } = numbered()
    assert.equal(await read(1, 1000), 1000)
    assert.equal(await read(1, 1000), 0, '1,000 are kept')
    assert.equal(await read(1, 1, 0), 1, 'the first is fetched anew')
    assert.equal(await read(1001), 1)
    assert.equal(await read(1), 0, 'it has not been fetched longest ago')
    assert.equal(await read(3, 1001), 0)
    assert.equal(await read(2), 1, 'the second has')
  })

  test('is not used up by failures', async () => {
    const { read } = numbered()
    await read(1, 999)
    const { fetch } = script(reply(403))
    for (let number = 0; number < 50; number += 1)
      await failure(SECRETS.read({ fetch, region: `eu-west-${number}` }))
    assert.equal(await read(1, 1000), 1)
  })

  test('never evicts what a withCache reads: 1,100 entries get warm, and stay', async () => {
    const { fetch, read } = numbered()
    let calls = 0
    const counted: Fetch = (url, init) => {
      calls += 1
      return fetch(url, init)
    }
    const names = Array.from({ length: 1100 }, (_, index) => `${index}`)
    const invoke = invoking(
      { ssm: names.map((as) => ({ name: `/${as}`, as: `n${as}` })), fetch: counted },
      'n0',
      'n1099',
    )
    for (let time = 0; time < 3; time += 1) assert.deepEqual(await invoke(), ['/0', '/1099'])
    assert.equal(calls, 110)
    assert.equal(await read(2000, 3100), 1101)
    assert.deepEqual([await invoke(), calls], [['/0', '/1099'], 110])
    assert.equal(await read(2000), 1, 'the one of direct access that was fetched longest ago went')
  })

  test('limits no invocation', async () => {
    const { fetch } = numbered()
    const names = Array.from({ length: 1200 }, (_, index) => `${index}`)
    const invoke = invoking(
      { ssm: names.map((as) => ({ name: `/${as}`, as: `n${as}` })), fetch },
      ...names.map((as) => `n${as}`),
    )
    assert.deepEqual(
      await invoke(),
      names.map((as) => `/${as}`),
    )
    assert.deepEqual(
      await invoke(),
      names.map((as) => `/${as}`),
    )
  })
})

// ---- Loaders ----

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

describeOverBoth('secrets', () => {
  const bytes = Uint8Array.of(0, 1, 127, 128, 255, 10, 13)

  test('gives text and bytes', async () => {
    await local({
      secrets: { text: 'täxt', bytes: { base64: Buffer.from(bytes).toString('base64') } },
    })
    assert.equal(await getSecret('text'), 'täxt')
    const got = await getSecret('bytes', { binary: true })
    assert.deepEqual(got, bytes)
    assert.equal(Object.getPrototypeOf(got), Uint8Array.prototype)
    assert.deepEqual(await getSecret('text', { binary: true }), new TextEncoder().encode('täxt'))
  })

  test('says what to write for a binary secret', async () => {
    await local({
      secrets: { bytes: { base64: Buffer.from(`${CANARY}-value`).toString('base64') } },
    })
    for (const options of [{}, { parse: text }]) {
      const error = await failure(
        getSecret('bytes', options),
        { code: 'BinarySecret', source: 'secrets', id: 'bytes' },
        'binary: true',
      )
      assertKeepsSecrets(error)
      assert.ok(!everythingIn(error).includes(Buffer.from(CANARY).toString('base64').slice(0, 6)))
    }
  })

  test('reads versions and stages, each with an entry of its own', async () => {
    const aws = await local()
    const versionId = aws.putSecret('a', 'one')
    aws.putSecret('a', 'two')
    const entries = [
      { id: 'a' },
      { id: 'a', versionId },
      { id: 'a', versionStage: 'AWSPREVIOUS' },
      { id: 'a', versionId, versionStage: 'AWSPREVIOUS' },
    ]
    const names = entries.map((_, index) => `name${index}`)
    const invoke = invoking(
      { secrets: entries.map((entry, index) => ({ ...entry, as: present(names[index]) })) },
      ...names,
    )
    assert.deepEqual(await invoke(), ['two', 'one', 'one', 'one'])
    assert.equal(aws.requests.length, 4)
    await failure(getSecret('a', { versionStage: 'NONE' }), {
      code: 'ResourceNotFoundException',
      id: 'a',
    })
    assert.equal(await getSecret('a', { versionId: 'none', default: null }), null)
  })

  test('gives no default for what exists but cannot be decrypted', async () => {
    for (const code of [
      'KMS.NotFoundException',
      'KMSNotFoundException',
      'NotFoundException',
      'NoSuchBucket',
    ]) {
      clearCache()
      await failure(getSecret('a', { default: 'default', fetch: script(refusal(code)).fetch }), {
        code,
      })
    }
  })

  test('reads by ARN', async () => {
    const aws = await local({ secrets: { 'app/db': 'one' } })
    await getSecret('app/db')
    const arn = `arn:aws:secretsmanager:us-east-1:123456789012:secret:app/db`
    assert.equal(await getSecret(arn), 'one')
    assert.deepEqual(await invoking({ secrets: [{ id: arn, as: 'db' }] }, 'db')(), ['one'])
    assert.deepEqual(
      aws.requests.map(({ input }) => input.SecretId),
      ['app/db', arn],
    )
  })

  test('says that an answer without a secret is none', async () => {
    for (const [body, binary] of [
      [{}],
      [{ SecretString: null }],
      [{ SecretBinary: 7 }, true],
      ['null'],
      ['7'],
      ['[]'],
    ] as const) {
      clearCache()
      const { fetch } = script(reply(200, body))
      await failure(getSecret('a', { binary, fetch }), {
        code: 'InvalidAnswer',
        source: 'secrets',
        id: 'a',
        httpStatus: 200,
      })
    }
  })
})

describeOverBoth('s3', () => {
  const uri = 's3://bucket/folder/object'
  const inMemory = { parse: text }

  const KEYS = [
    'plain',
    'with space',
    'plus+plus',
    'per%cent',
    '%20',
    '%2F',
    '%2e%2e/%2E',
    '"double" and \'single\'',
    "'()*!",
    "quote's",
    'ünïcödé',
    '日本語/キー',
    '🚀',
    'a//b',
    '/leading',
    '//two',
    'trailing/',
    'what?',
    'a#b',
    'a?b=c&d=e#f',
    'tab\there',
    'line\nbreak',
    'a=b;c,d:e@f$g',
    'back\\slash',
    '[]{}|^`<>~',
    '...',
    '.hidden',
    'a/..b/c..',
    '&amp;',
    'x'.repeat(1024),
  ]
  for (const key of KEYS) {
    test(`reads the key ${inspect(key).slice(0, 40)}`, async () => {
      const aws = await local({
        objects: { [`s3://bucket/${key}`]: `content of ${key}`, 's3://bucket/other': '' },
      })
      assert.equal(await getObject(`s3://bucket/${key}`, inMemory), `content of ${key}`)
      assert.equal(aws.requests[0]?.input.Key, key)
    })
  }

  for (const key of [
    '.',
    '..',
    './a',
    '../a',
    'a/.',
    'a/..',
    'a/./b',
    'a/../b',
    'a/b/../../../other/key',
  ]) {
    test(`refuses the key ${key}, which a URL cannot carry`, async () => {
      const { fetch, sent } = script(reply(200, 'another object'))
      await failure(getObject(`s3://bucket/${key}`, { ...inMemory, fetch }), {
        code: 'UnsupportedKey',
        source: 's3',
        id: `s3://bucket/${key}`,
      })
      assert.equal(sent.length, 0)
    })
  }

  test('refuses half a surrogate pair, which a URL cannot carry either', async () => {
    const { fetch, sent } = script(reply(200, 'another object'))
    for (const uri of ['s3://bucket/\ud83d', 's3://bucket/a\ude80/b']) {
      await failure(getObject(uri, { ...inMemory, fetch }), {
        code: 'UnsupportedKey',
        source: 's3',
        id: uri,
      })
      await failure(getObject(uri, { file: '/tmp/none', fetch }), { code: 'UnsupportedKey' })
    }
    assert.equal(sent.length, 0)
  })

  for (const name of ['a\0b', 'ü'.repeat(128)])
    test(`says of a key that no file has such a name: ${inspect(name.slice(0, 9))}`, async () => {
      const aws = await local({ objects: { [`s3://bucket/${name}`]: 'content' } })
      const details = { code: 'InvalidOptions' }
      await failure(getObject(`s3://bucket/${name}`), details, 'set `file`')
      await failure(() => withCache(() => {}, { s3: [`s3://bucket/${name}`] }), details, 's3[0]')
      assert.equal(aws.requests.length, 0)
      assert.equal(await getObject(`s3://bucket/${name}`, inMemory), 'content')
    })

  test('downloads to a name of 255 bytes', async () => {
    const key = 'ü'.repeat(127)
    await local({ objects: { [`s3://bucket/${key}`]: 'content' } })
    const file = join(await temporaryFolder(), key)
    assert.equal(await readFile(await getObject(`s3://bucket/${key}`, { file }), 'utf8'), 'content')
  })

  test('takes a 304 that says how long the object is', async () => {
    const sent: unknown[] = []
    const url = await serve(({ headers }, response) => {
      sent.push(headers)
      if (headers['if-none-match'])
        response.writeHead(304, { etag: '"1"', 'content-length': '7' }).end()
      else response.writeHead(200, { etag: '"1"', 'content-length': '7' }).end('content')
    })
    process.env.AWS_ENDPOINT_URL = url
    const file = join(await temporaryFolder(), 'object')
    for (const options of [{ file }, inMemory]) {
      sent.length = 0
      for (let time = 0; time < 3; time += 1) {
        await getObject(uri, options)
        pass(MINUTE)
      }
      assert.equal(sent.length, 3)
    }
    assert.equal(await readFile(file, 'utf8'), 'content')
  })

  const STYLES: readonly [bucket: string, endpoint: string | undefined, url: string][] = [
    ['bucket', undefined, 'https://bucket.s3.us-east-1.amazonaws.com/a%20key'],
    ['an-alias-s3alias', undefined, 'https://an-alias-s3alias.s3.us-east-1.amazonaws.com/a%20key'],
    ['bucket.with.dots', undefined, 'https://s3.us-east-1.amazonaws.com/bucket.with.dots/a%20key'],
    ['bucket', 'https://s3.example.com', 'https://s3.example.com/bucket/a%20key'],
    ['bucket', 'http://127.0.0.1:9000/prefix/', 'http://127.0.0.1:9000/prefix/bucket/a%20key'],
  ]
  for (const [bucket, endpoint, url] of STYLES) {
    test(`asks for ${bucket} at ${url}`, async () => {
      if (endpoint) process.env.AWS_ENDPOINT_URL_S3 = endpoint
      const { fetch, sent } = script(reply(200, 'content'))
      await getObject(`s3://${bucket}/a key`, { ...inMemory, fetch })
      assert.deepEqual([sent[0]?.url, sent[0]?.method], [url, 'GET'])
    })
  }

  test('downloads to /tmp, under the last segment of the key', async () => {
    const name = `lambda-cache-test-${process.pid}.json`
    cleanups.push(() => rm(`/tmp/${name}`, { force: true }))
    await local({ objects: { [`s3://bucket/path/to/${name}`]: '{}' } })
    assert.deepEqual(await invoking({ s3: [`s3://bucket/path/to/${name}`] }, name)(), [
      `/tmp/${name}`,
    ])
    assert.equal(await readFile(`/tmp/${name}`, 'utf8'), '{}')
  })

  test('downloads what a fetch answers of which nobody holds the response', async () => {
    const aws = await local({ objects: { 's3://bucket/key': 'whole' } })
    const file = join(await temporaryFolder(), 'file')
    const { readdir } = promises
    // Node's fetch drops the body of a response that is collected before somebody reads it.
    mock.method(promises, 'readdir', async (...args: Parameters<typeof readdir>) => {
      for (let time = 0; time < 5; time += 1) {
        heapUsed()
        await calm()
      }
      return readdir(...args)
    })
    const unheld: Fetch = async (url, init) => {
      const { status, headers, body, ...rest } = await callLoopback(url, init)
      return { ...rest, status, headers, body, text: () => assert.fail('there is a body') }
    }
    assert.equal(await getObject('s3://bucket/key', { file, fetch: unheld }), file)
    assert.equal(await readFile(file, 'utf8'), 'whole')
    assert.equal(aws.requests.length, 1)
  })

  test('writes no file for what is parsed or binary', async () => {
    const name = `lambda-cache-test-${process.pid}-memory`
    const content = Buffer.from([0, 255, 10, 13, 128])
    const aws = await local({
      objects: { [`s3://bucket/${name}`]: { base64: content.toString('base64') } },
    })
    const got = await getObject(`s3://bucket/${name}`, { binary: true })
    assert.deepEqual(got, new Uint8Array(content))
    aws.putObject(`s3://bucket/${name}`, '{"release":1}')
    assert.deepEqual(await getObject(`s3://bucket/${name}`, { parse: json, maxAge: 0 }), {
      release: 1,
    })
    assert.equal(existsSync(`/tmp/${name}`), false)
  })

  test('gives bytes and text of one object side by side', async () => {
    await local({ objects: { [uri]: 'täxt' } })
    const file = join(await temporaryFolder(), 'object')
    const results = await Promise.all([
      getObject(uri, { binary: true }),
      getObject(uri, inMemory),
      getObject(uri, { file }),
    ])
    assert.deepEqual(results, [new TextEncoder().encode('täxt'), 'täxt', file])
  })

  test('writes files with mode 0600', async () => {
    await local({ objects: { [uri]: 'content' } })
    const umask = process.umask(0)
    cleanups.push(() => process.umask(umask))
    const file = join(await temporaryFolder(), 'object')
    await getObject(uri, { file })
    assert.equal((await stat(file)).mode & 0o777, 0o600)
  })

  test('replaces a link at the target, not what it points to', async () => {
    await local({ objects: { [uri]: 'content' } })
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'other'), 'untouched')
    await symlink(join(folder, 'other'), join(folder, 'object'))
    await getObject(uri, { file: join(folder, 'object') })
    assert.deepEqual(
      [
        await readFile(join(folder, 'other'), 'utf8'),
        await readFile(join(folder, 'object'), 'utf8'),
      ],
      ['untouched', 'content'],
    )
  })

  test('picks another moment to refresh ahead at each 304', async () => {
    mock.method(Math, 'random', () => 0)
    const aws = await local({ objects: { [uri]: 'content' } })
    const file = join(await temporaryFolder(), 'object')
    const invoke = invoking({ s3: [{ uri, file, as: 'object' }] }, 'object')
    await invoke()
    for (let requests = 2; requests < 5; requests += 1) {
      pass(50 * SECOND)
      await invoke()
      assert.equal(aws.requests.length, requests)
    }
  })

  test('refreshes on the condition of the ETag: an unchanged object moves no data', async () => {
    const aws = await local({ objects: { [uri]: 'content' } })
    const file = join(await temporaryFolder(), 'object')
    const statuses: number[] = []
    aws.intercept = (_, response) =>
      void response.once('finish', () => statuses.push(response.statusCode))
    await getObject(uri, { file })
    const before = await stat(file)
    for (let time = 0; time < 2; time += 1) {
      pass(MINUTE)
      assert.equal(await getObject(uri, { file }), file)
      await getObject(uri, { file })
    }
    const after = await stat(file)
    assert.deepEqual(
      [after.ino, after.mtimeMs, after.ctimeMs],
      [before.ino, before.mtimeMs, before.ctimeMs],
    )
    assert.deepEqual(statuses, [200, 304, 304])
    aws.putObject(uri, 'newer content')
    pass(MINUTE)
    await getObject(uri, { file })
    assert.equal(await readFile(file, 'utf8'), 'newer content')
  })

  test('moves no data for what is in memory, either, and does not parse it again', async () => {
    const aws = await local({ objects: { [uri]: '7' } })
    const parse = mock.fn(Number)
    for (let time = 0; time < 3; time += 1) {
      assert.equal(await getObject(uri, { parse, maxAge: 0 }), 7)
      const { authorization = '', ...headers } = aws.requests[time]?.headers ?? {}
      assert.equal(headers['if-none-match'] !== undefined, time > 0)
      // A cache in between may take it off.
      assert.doesNotMatch(authorization, /if-none-match/)
    }
    assert.equal(parse.mock.callCount(), 1)
  })

  const TAMPERING: readonly [what: string, tamper: (file: string) => Promise<unknown>][] = [
    ['changed', (file) => writeFile(file, 'something else')],
    ['changed without a trace in its time', changeKeepingTime],
    [
      'changed to as many bytes',
      (file) => writeFile(file, 'CONTENT').then(() => utimes(file, 1, 1)),
    ],
    ['replaced by another of the same size and time', replaceByLikeness],
    ['deleted', (file) => rm(file)],
  ]
  for (const [what, tamper] of TAMPERING) {
    test(`downloads anew where inode, size or mtime say that the file was ${what}`, async () => {
      const aws = await local({ objects: { [uri]: 'content' } })
      const file = join(await temporaryFolder(), 'object')
      await getObject(uri, { file })
      await tamper(file)
      pass(MINUTE)
      await getObject(uri, { file })
      assert.equal(await readFile(file, 'utf8'), 'content')
      assert.equal(aws.requests[1]?.headers['if-none-match'], undefined)
    })

    test(`downloads a file anew that was ${what} before a 304 came`, async () => {
      const aws = await local({ objects: { [uri]: 'content' } })
      const file = join(await temporaryFolder(), 'object')
      const fetch: Fetch = async (url, init) => {
        if (init.headers['if-none-match']) await tamper(file)
        return callLoopback(url, init)
      }
      await getObject(uri, { file, fetch })
      await getObject(uri, { file, fetch, maxAge: 0 })
      assert.equal(await readFile(file, 'utf8'), 'content')
      assert.deepEqual(
        aws.requests.map(({ headers }) => !!headers['if-none-match']),
        [false, true, false],
      )
    })
  }

  async function changeKeepingTime(file: string): Promise<void> {
    const touch = (from: string, to: string) => promisify(execFile)('touch', ['-r', from, to])
    await touch(file, `${file}.time`)
    await writeFile(file, 'something longer')
    await touch(`${file}.time`, file)
  }

  async function replaceByLikeness(file: string): Promise<void> {
    await writeFile(`${file}.new`, 'CONTENT')
    await promisify(execFile)('touch', ['-r', file, `${file}.new`])
    await rename(`${file}.new`, file)
  }

  test('reads a version, with an entry of its own', async () => {
    const aws = await local()
    const { versionId } = aws.putObject(uri, 'one')
    aws.putObject(uri, 'two')
    assert.deepEqual(
      await Promise.all([getObject(uri, inMemory), getObject(uri, { ...inMemory, versionId })]),
      ['two', 'one'],
    )
    await failure(getObject(uri, { ...inMemory, versionId: 'none' }), {
      code: 'NoSuchVersion',
      id: uri,
    })
    assert.equal(
      await getObject(uri, { ...inMemory, versionId: 'none', default: 'default' }),
      'default',
    )
    const { fetch, sent } = script(xml(403, 'AccessDenied'))
    await failure(
      getObject(uri, { ...inMemory, versionId: 'a+b/c=&d', fetch }),
      {},
      's3:GetObjectVersion',
    )
    assert.ok(sent[0]?.url.endsWith('/folder/object?versionId=a%2Bb%2Fc%3D%26d'), sent[0]?.url)
  })

  test('follows a bucket to its region, and remembers that', async () => {
    const aws = await local({ objects: { [uri]: 'content', 's3://bucket/other': 'other' } })
    aws.putBucketRegion('bucket', 'eu-central-1')
    assert.equal(await getObject(uri, inMemory), 'content')
    assert.equal(await getObject('s3://bucket/other', inMemory), 'other')
    assert.deepEqual(
      aws.requests.map(({ region }) => region),
      ['us-east-1', 'eu-central-1', 'eu-central-1'],
    )
  })

  test('follows a bucket that moves again, and home again', async () => {
    const aws = await local({ objects: { [uri]: 'content' } })
    const read = () => getObject(uri, { ...inMemory, maxAge: 0 })
    for (const region of ['eu-central-1', 'ap-south-1', 'us-east-1']) {
      aws.putBucketRegion('bucket', region)
      assert.equal(await read(), 'content', region)
      assert.equal(await read(), 'content', region)
    }
    assert.deepEqual(
      aws.requests.map(({ region }) => region),
      [
        ...['us-east-1', 'eu-central-1', 'eu-central-1'],
        ...['eu-central-1', 'ap-south-1', 'ap-south-1'],
        ...['ap-south-1', 'us-east-1', 'us-east-1'],
      ],
    )
  })

  test('asks the region of an entry first, whatever another one has learnt', async () => {
    const aws = await local({ objects: { [uri]: 'content' } })
    aws.putBucketRegion('bucket', 'eu-central-1')
    await getObject(uri, inMemory)
    aws.putBucketRegion('bucket', 'ap-south-1')
    await getObject(uri, { ...inMemory, region: 'ap-south-1' })
    assert.deepEqual(
      aws.requests.map(({ region }) => region),
      ['us-east-1', 'eu-central-1', 'ap-south-1'],
    )
  })

  const malformed = (region: string): Response =>
    reply(
      400,
      `<?xml version="1.0"?>\n<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region 'us-east-1' is wrong; expecting '${region}'</Message><Region>${region}</Region></Error>`,
    )
  const inHeader = { 'x-amz-bucket-region': 'eu-west-1' }
  for (const [how, first] of [
    ['HTTP 301', xml(301, 'PermanentRedirect', inHeader)],
    ['HTTP 400', xml(400, 'AuthorizationHeaderMalformed', inHeader)],
    ['HTTP 400 that names it in the body', malformed('eu-west-1')],
  ] as const) {
    test(`goes to the host of the bucket's region after ${how}, once`, async () => {
      const { fetch, sent } = script(
        first,
        xml(301, 'PermanentRedirect', { 'x-amz-bucket-region': 'eu-west-2' }),
      )
      await failure(getObject(uri, { ...inMemory, fetch }), {
        code: 'PermanentRedirect',
        httpStatus: 301,
      })
      assert.deepEqual(
        sent.map(({ url }) => new URL(url).host),
        ['bucket.s3.us-east-1.amazonaws.com', 'bucket.s3.eu-west-1.amazonaws.com'],
      )
      assert.match(sent[1]?.headers.authorization ?? '', /\/eu-west-1\/s3\//)
    })
  }

  for (const region of [
    '',
    'us-east-1',
    'example.com/',
    'eu-west-1.example.com',
    '@example.com',
    'EU-WEST-1',
    'eu-west-1\u{e9}',
    '1',
    'x'.repeat(99),
  ]) {
    test(`goes nowhere else for a bucket's region ${inspect(region)}`, async () => {
      const { fetch, sent } = script(
        xml(301, 'PermanentRedirect', { 'x-amz-bucket-region': region }),
      )
      await failure(getObject(uri, { ...inMemory, fetch }), {
        code: 'PermanentRedirect',
        httpStatus: 301,
      })
      assert.equal(sent.length, 1)
      const other = script(malformed(region))
      await failure(getObject(uri, { ...inMemory, fetch: other.fetch }), {
        code: 'AuthorizationHeaderMalformed',
        httpStatus: 400,
      })
      assert.equal(other.sent.length, 1)
    })
  }

  test('takes no region from the body of another answer', async () => {
    const { fetch, sent } = script(
      reply(403, '<Error><Code>AccessDenied</Code><Region>eu-west-1</Region></Error>'),
    )
    await failure(getObject(uri, { ...inMemory, fetch }), { code: 'AccessDenied' })
    assert.equal(sent.length, 1)
  })

  test('counts neither the way to a region nor to the time as an attempt', async () => {
    const late = { date: new Date(START + HOUR).toUTCString() }
    const { fetch, sent } = script(
      malformed('eu-west-1'),
      xml(403, 'RequestTimeTooSkewed', late),
      reply(503),
      reply(503),
      reply(200, 'content'),
    )
    assert.equal(await getObject(uri, { ...inMemory, fetch }), 'content')
    assert.deepEqual(
      sent.map(({ headers }) => present(headers['x-amz-date']).slice(9, 13)),
      ['0304', '0304', '0404', '0404', '0404'],
    )
  })

  const CUT_SHORT: readonly [how: string, fetch: () => Promise<Fetch>][] = [
    [
      'by a connection that breaks',
      async () => {
        const aws = await local()
        aws.intercept = (_, response) => {
          response
            .writeHead(200, { 'content-length': 100 })
            .write('half of it', () => response.destroy())
          return true
        }
        return globalThis.fetch
      },
    ],
    [
      'by an answer that ends early',
      async () => script(reply(200, 'half of it', { 'content-length': '100' })).fetch,
    ],
    [
      'by an answer that goes on for too long',
      async () => script(reply(200, 'more of it', { 'content-length': '1' })).fetch,
    ],
  ]
  for (const [how, brokenFetch] of CUT_SHORT) {
    test(`leaves the file as it was where a download is cut short ${how}`, async () => {
      await local({ objects: { [uri]: 'content' } })
      const folder = await temporaryFolder()
      const file = join(folder, 'object')
      await getObject(uri, { file })
      clearCache()
      const fetch = await brokenFetch()
      await failure(getObject(uri, { file, fetch }), {
        code: 'NetworkError',
        source: 's3',
        id: uri,
      })
      assert.equal(await readFile(file, 'utf8'), 'content')
      assert.deepEqual(await readdir(folder), ['object'])
      await failure(getObject(uri, { ...inMemory, fetch }), {
        code: 'NetworkError',
        source: 's3',
        id: uri,
      })
    })
  }

  test('takes no content-length for that of what was compressed', async () => {
    const { fetch } = script(
      reply(200, 'decompressed', { 'content-length': '5', 'content-encoding': 'gzip' }),
    )
    assert.equal(await getObject(uri, { ...inMemory, fetch }), 'decompressed')
  })

  const noPermission = async (folder: string) => {
    await chmod(folder, 0o500)
    return join(folder, 'object')
  }
  const DISKS: readonly [
    what: string,
    code: string,
    target: (folder: string) => Promise<string>,
    skip?: string | false,
  ][] = [
    [
      'a directory in its place',
      '(E',
      async (folder) => {
        await mkdir(join(folder, 'object'))
        return join(folder, 'object')
      },
    ],
    ['no such folder', '(ENOENT)', async (folder) => join(folder, 'none', 'object')],
    [
      'a file for a folder',
      '(ENOTDIR)',
      async (folder) => {
        await writeFile(join(folder, 'object'), '')
        return join(folder, 'object', 'object')
      },
    ],
    [
      'no permission',
      '(EACCES)',
      noPermission,
      process.getuid?.() === 0 && 'root may write everywhere',
    ],
  ]
  for (const [what, code, target, skip = false] of DISKS) {
    test(`says that it cannot write: ${what}`, { skip }, async () => {
      const aws = await local({ objects: { [uri]: 'content' } })
      const folder = await temporaryFolder()
      const file = await target(folder)
      const before = await readdir(folder)
      const { cause } = await failure(
        getObject(uri, { file }),
        { code: 'FileError', source: 's3', id: uri },
        file,
        code,
      )
      assert.ok(cause instanceof Error, 'the cause is what the file system said')
      assert.deepEqual(await readdir(folder), before)
      assert.equal(aws.requests.length, 1)
    })
  }

  test('takes a directory for no file, however it is written', async () => {
    await local({ objects: { [uri]: 'content' } })
    const folder = await temporaryFolder()
    for (const file of [folder, `${folder}/`])
      await failure(getObject(uri, { file }), { code: 'FileError', id: uri }, file)
    await failure(getObject(uri, { file: `${folder}/none/` }), { code: 'FileError', id: uri })
    assert.deepEqual(await readdir(folder), [])
    await failure(getObject('s3://bucket/folder/'), { code: 'InvalidOptions' }, 'file')
  })

  test('knows a file and an object again, however they are written', async () => {
    const aws = await local({ objects: { [uri]: 'content', 's3://bucket/other': 'other' } })
    const folder = await temporaryFolder()
    const file = join(folder, 'object')
    await getObject(uri, { file })
    assert.equal(await getObject(uri, { file, binary: false, region: 'us-east-1' }), file)
    assert.equal(
      await readFile(await getObject(uri, { file: `${folder}/./object` }), 'utf8'),
      'content',
    )
    assert.equal(aws.requests.length, 1)
    for (const other of [`${folder}/./object`, `${folder}/../${folder.split('/').at(-1)}/object`]) {
      await failure(
        getObject('s3://bucket/other', { file: other }),
        { code: 'InvalidOptions' },
        'file',
      )
    }
  })

  test('removes what a killed process has left of an earlier download, and nothing else', async () => {
    mock.timers.reset()
    const aws = await local({ objects: { [uri]: 'x'.repeat(1000) } })
    const folder = await temporaryFolder()
    const file = join(folder, 'object')
    await writeFile(join(folder, '.lambda-cache-note'), 'of somebody else')
    aws.intercept = (_, response) => {
      response.writeHead(200, { 'content-length': 1000 }).write('half')
      return true
    }
    const killed = startProcess(aws.env)
    void killed.invoke({ options: { s3: [{ uri, file, as: 'object' }] } }).catch(() => {})
    await eventually(() => readdirSync(folder).length === 2)
    await sleep(50)
    killed.process.kill('SIGKILL')
    await once(killed.process, 'exit')
    aws.intercept = undefined
    const next = startProcess(aws.env)
    const given = succeeded(
      await next.invoke({ options: { s3: [{ uri, file, as: 'object' }] }, files: ['object'] }),
    )
    assert.equal(given.object?.length, 1000)
    assert.deepEqual((await readdir(folder)).sort(), ['.lambda-cache-note', 'object'])
  })

  test('refuses to download two objects to one file', async () => {
    await local({ objects: { [uri]: 'one', 's3://bucket/other': 'other' } })
    const file = join(await temporaryFolder(), 'object')
    await getObject(uri, { file })
    await failure(
      getObject('s3://bucket/other', { file }),
      { code: 'InvalidOptions', source: 's3', id: 's3://bucket/other' },
      file,
    )
    assert.equal(await readFile(file, 'utf8'), 'one')
    const twice = () =>
      invoking({
        s3: [
          { uri, file: `${file}.json`, as: 'one' },
          { uri: 's3://bucket/other', file: `${file}.json`, as: 'two' },
        ],
      })
    await failure(twice, { code: 'InvalidOptions' }, `${file}.json`, 's3[0] and s3[1]')
  })

  test('lets the next download have the file after clearCache', async () => {
    await local({ objects: { [uri]: 'one', 's3://bucket/other': 'other' } })
    const file = join(await temporaryFolder(), 'object')
    await getObject(uri, { file })
    clearCache()
    await getObject('s3://bucket/other', { file })
    assert.equal(await readFile(file, 'utf8'), 'other')
  })
})

// ---- custom ----

describe('custom', () => {
  test('needs no fetch', async () => {
    const { fetch } = globalThis
    cleanups.push(() => Object.assign(globalThis, { fetch }))
    Reflect.deleteProperty(globalThis, 'fetch')
    const invoke = invoking({ custom: [{ as: 'read', load: () => 'value' }] }, 'read')
    assert.deepEqual(await invoke(), ['value'])
  })

  test('loads once for all who wait, and then for maxAge', async () => {
    const load = mock.fn(async () => {
      await turns()
      return { release: load.mock.callCount() }
    })
    const invoke = invoking({ custom: [{ as: 'value', load, maxAge: 10 }] }, 'value')
    const [[one], [other]] = (await Promise.all([invoke(), invoke()])) as [[unknown], [unknown]]
    assert.equal(one, other, 'the same object')
    pass(8 * SECOND - 1)
    assert.equal((await invoke())[0], one)
    assert.equal(load.mock.callCount(), 1)
    pass(2 * SECOND + 1)
    assert.notEqual((await invoke())[0], one)
    assert.equal(load.mock.callCount(), 2)
  })

  test('takes whatever a load gives for a value, whether it waits or not', async () => {
    for (const value of [undefined, null, false, 0, '', NaN, [], Symbol.iterator, () => {}]) {
      for (const load of [mock.fn(() => value), mock.fn(async () => value)]) {
        const invoke = invoking({ custom: [{ as: 'value', load }] }, 'value')
        for (let time = 0; time < 3; time += 1) assert.deepEqual(await invoke(), [value])
        assert.equal(load.mock.callCount(), 1)
      }
    }
  })

  test('says which LoadFailed, and gives its error as the cause', async () => {
    for (const reason of [new Error('down'), 'down', undefined, null, 7]) {
      for (const load of [
        () => Promise.reject(reason),
        () => {
          throw reason
        },
      ]) {
        const error = await failure(
          invoking({ custom: [{ as: 'token', load }] }, 'token'),
          { code: 'LoadFailed', source: 'custom', id: 'token' },
          'custom token',
        )
        assert.equal(error.cause, reason)
      }
    }
  })

  test('does not cache a failure', async () => {
    const outcomes = [() => Promise.reject(new Error('down')), () => Promise.resolve('up')]
    const invoke = invoking(
      { custom: [{ as: 'value', load: () => present(outcomes.shift())() }] },
      'value',
    )
    await failure(invoke(), { code: 'LoadFailed' })
    assert.deepEqual(await invoke(), ['up'])
  })

  test('shares one value between all wrappers with the same load, and no value between others', async () => {
    const [load, other] = [mock.fn(() => 'one'), mock.fn(() => 'other')]
    const invocations = [
      invoking({ custom: [{ as: 'a', load }] }, 'a'),
      invoking(
        {
          custom: [
            { as: 'b', load },
            { as: 'a', load: other },
          ],
        },
        'b',
        'a',
      ),
    ]
    assert.deepEqual(await Promise.all(invocations.map((invoke) => invoke())), [
      ['one'],
      ['one', 'other'],
    ])
    assert.deepEqual([load.mock.callCount(), other.mock.callCount()], [1, 1])
  })

  test('passes on what a load says that reads from this cache itself', async () => {
    const { fetch } = script(refusal('AccessDeniedException'))
    const load = () => SECRETS.read({ fetch })
    assertKeepsSecrets(
      await failure(
        invoking({ custom: [{ as: 'value', load }] }),
        { code: 'AccessDeniedException', source: 'custom', id: 'value', httpStatus: 400 },
        'app/value',
      ),
    )
  })

  test('loads beside the others, and is named beside them where several fail', async () => {
    const { fetch } = script(refusal('AccessDeniedException'))
    const invoke = invoking({
      ...SSM.entry(),
      custom: [{ as: 'token', load: () => Promise.reject(new Error('down')) }],
      fetch,
    })
    await failure(invoke(), {}, 'custom token', 'ssm /app/value')
  })
})

// ---- AWS calls ----

describe('attempts', () => {
  /** What a failing call waited for before each further attempt, in milliseconds, when chance is at its worst. */
  async function pauses(
    source: SourceCase,
    answer: Answer | (() => Answer),
    details: Partial<ErrorDetails>,
  ): Promise<number[]> {
    mock.method(Math, 'random', () => 0.999)
    const { fetch, sent } = script(answer)
    await elapse(() =>
      failure(source.read({ fetch }), { source: source.source, id: source.id, ...details }),
    )
    return sent.slice(1).map(({ at }, index) => at - present(sent[index]).at)
  }

  function assertPauses(got: number[], ...expected: number[]): void {
    const rounded = got.map((pause, index) =>
      pause >= 0.9 * present(expected[index]) && pause <= present(expected[index]) + 10
        ? expected[index]
        : pause,
    )
    assert.deepEqual(rounded, expected)
  }

  const NETWORK = [
    'ECONNREFUSED',
    'ECONNRESET',
    'EPIPE',
    'ENOTFOUND',
    'EAI_AGAIN',
    'EHOSTUNREACH',
    'ENETUNREACH',
    'UND_ERR_SOCKET',
    'ERR_STREAM_PREMATURE_CLOSE',
    'ERR_NETWORK',
    'ERR_HTTP2_STREAM_ERROR',
    'ERR_HTTP2_GOAWAY_SESSION',
    'ERR_PROXY_TUNNEL',
    'EPROTO',
    'UND_ERR_ABORTED',
    'HPE_INVALID_CONSTANT',
  ]
  const TIMEOUTS = [
    'ETIMEDOUT',
    'ESOCKETTIMEDOUT',
    'UND_ERR_CONNECT_TIMEOUT',
    'UND_ERR_HEADERS_TIMEOUT',
    'UND_ERR_BODY_TIMEOUT',
    'ERR_SOCKET_CONNECTION_TIMEOUT',
  ]
  const wrapped = new Error('mine', {
    cause: new TypeError('fetch failed', {
      cause: new Error(`${CANARY}-body`, { cause: { code: 'ECONNRESET' } }),
    }),
  })
  const loop = new Error('a loop')
  loop.cause = loop
  const THROTTLING = [
    'ThrottlingException',
    'Throttling',
    'ThrottledException',
    'RequestThrottled',
    'RequestThrottledException',
    'EC2ThrottledException',
    'TooManyRequestsException',
    'ProvisionedThroughputExceededException',
    'RequestLimitExceeded',
    'LimitExceededException',
    'BandwidthLimitExceeded',
    'SlowDown',
    'PriorRequestNotComplete',
    'TransactionInProgressException',
  ]
  const PASSING: readonly [
    what: string,
    answer: Answer,
    details: Partial<ErrorDetails>,
    pauses: number[],
    source?: SourceCase,
  ][] = [
    ...[300, 401, 403, 404, 405, 408, 500, 501, 503, 599].map(
      (status): (typeof PASSING)[number] => [
        `HTTP ${status}`,
        reply(status),
        { code: `Http${status}`, httpStatus: status },
        [50, 100],
      ],
    ),
    [
      'HTTP 502 with a page',
      reply(502, `<html>${CANARY}-body`),
      { code: 'Http502', httpStatus: 502 },
      [50, 100],
      S3,
    ],
    [
      'InternalServerError',
      reply(500, { __type: 'InternalServerError' }),
      { code: 'InternalServerError', httpStatus: 500 },
      [50, 100],
      SECRETS,
    ],
    [
      'S3 InternalError',
      xml(500, 'InternalError'),
      { code: 'InternalError', httpStatus: 500 },
      [50, 100],
      S3,
    ],
    [
      'RequestTimeout as HTTP 400',
      xml(400, 'RequestTimeout'),
      { code: 'RequestTimeout', httpStatus: 400 },
      [50, 100],
      S3,
    ],
    ...NETWORK.map((code): (typeof PASSING)[number] => [
      code,
      unreachable(code),
      { code: 'NetworkError' },
      [50, 100],
    ]),
    ...TIMEOUTS.map((code): (typeof PASSING)[number] => [
      code,
      unreachable(code),
      { code: 'Timeout' },
      [50, 100],
    ]),
    [
      'the timeout of a fetch of the user',
      new DOMException(`${CANARY}-body`, 'TimeoutError'),
      { code: 'Timeout' },
      [50, 100],
    ],
    [
      'the same, wrapped',
      new Error('mine', { cause: new DOMException('aborted due to timeout', 'TimeoutError') }),
      { code: 'Timeout' },
      [50, 100],
    ],
    [
      'an abort of a fetch of the user',
      new DOMException(`${CANARY}-body`, 'AbortError'),
      { code: 'NetworkError' },
      [50, 100],
    ],
    ['a body that ends early', new TypeError('terminated'), { code: 'NetworkError' }, [50, 100]],
    ...[301, 302, 307, 308].map((status): (typeof PASSING)[number] => [
      `a redirect with HTTP ${status}`,
      reply(status, '', { location: 'http://127.0.0.1:1/' }),
      { code: `Http${status}`, httpStatus: status },
      [50, 100],
    ]),
    ["a proxy's page", reply(200, `<html>${CANARY}-body`), { code: 'InvalidAnswer' }, [50, 100]],
    ['S3 304 unasked', reply(304), { code: 'Http304', httpStatus: 304 }, [50, 100], S3],
    [
      'fetch failed, without a code',
      new TypeError('fetch failed'),
      { code: 'NetworkError' },
      [50, 100],
    ],
    [
      'a proxy that refuses the tunnel',
      Object.assign(new Error(`${CANARY}-body`), { code: 0, cause: { code: 'ERR_PROXY_TUNNEL' } }),
      { code: 'NetworkError' },
      [50, 100],
    ],
    ['a code three causes deep', wrapped, { code: 'NetworkError' }, [50, 100]],
    ['a chain of causes that is a loop', loop, { code: 'NetworkError' }, [50, 100]],
    ['too many open files', unreachable('EMFILE'), { code: 'NetworkError' }, [50, 100]],
    [
      'a code on the error itself',
      Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' }),
      { code: 'NetworkError' },
      [50, 100],
    ],
    ['a polyfill', new TypeError('Network request failed'), { code: 'NetworkError' }, [50, 100]],
    ['HTTP 429', reply(429), { code: 'Http429', httpStatus: 429 }, [1000, 2000, 4000, 3000]],
    [
      'throttling in a header',
      reply(400, '', { 'x-amzn-errortype': 'ns#ThrottlingException' }),
      { code: 'ThrottlingException', httpStatus: 400 },
      [1000, 2000, 4000, 3000],
      SECRETS,
    ],
    [
      'S3 SlowDown',
      xml(503, 'SlowDown'),
      { code: 'SlowDown', httpStatus: 503 },
      [1000, 2000, 4000, 3000],
      S3,
    ],
    ...THROTTLING.map((code): (typeof PASSING)[number] => [
      `${code} as HTTP 400`,
      refusal(code),
      { code, httpStatus: 400 },
      [1000, 2000, 4000, 3000],
      SECRETS,
    ]),
  ]
  for (const [shown, error] of [
    ['ECONNREFUSED', unreachable('ECONNREFUSED')],
    ['TimeoutError', new Error('mine', { cause: new DOMException('', 'TimeoutError') })],
    ['RangeError', new RangeError('network error')],
    ['Error', new Error('mine', { cause: `${CANARY}-body` })],
  ] as const)
    test(`show the code, else the name, of the last cause: ${shown}`, async () => {
      const { fetch } = script(error)
      const thrown = await elapse(() =>
        getParameter('/app/value', { fetch }).catch(({ message }: Error) => message),
      )
      assert.match(String(thrown), new RegExp(`amazonaws.com (in time )?\\(${shown}\\)`))
    })

  for (const [what, answer, details, expected, source = SSM] of PASSING) {
    test(`${expected.length > 2 ? 'for 10 s' : 'three times'}, then the error: ${what}`, async () =>
      assertPauses(await pauses(source, answer, details), ...expected))

    test(`the third may go well: ${what}`, async () => {
      const { fetch, sent } = script(answer, answer, source.answer('value'))
      assert.equal(await elapse(() => source.read({ fetch })), 'value')
      assert.equal(sent.length, 3)
      assert.ok(present(sent[2]).at - present(sent[0]).at < 10, 'no pause where chance says so')
    })
  }

  const DEFINITE: readonly [
    what: string,
    answer: Answer,
    details: Partial<ErrorDetails>,
    source?: SourceCase,
  ][] = [
    ...[
      'ValidationException',
      'AccessDeniedException',
      'UnrecognizedClientException',
      'ExpiredTokenException',
      'InvalidSignatureException',
      'DecryptionFailure',
      'InvalidKeyId',
    ].map((code): (typeof DEFINITE)[number] => [code, refusal(code), { code, httpStatus: 400 }]),
    ['S3 ExpiredToken', xml(400, 'ExpiredToken'), { code: 'ExpiredToken', httpStatus: 400 }, S3],
    [
      'a code with a dot',
      xml(400, 'KMS.DisabledException'),
      { code: 'KMS.DisabledException', httpStatus: 400 },
      S3,
    ],
    [
      'a code in a header',
      reply(400, '', { 'x-amzn-errortype': 'DecryptionFailure:http://internal.amazon.com/' }),
      { code: 'DecryptionFailure', httpStatus: 400 },
      SECRETS,
    ],
    [
      'a code as `code`',
      reply(400, '{ "code" : "DecryptionFailure" }'),
      { code: 'DecryptionFailure', httpStatus: 400 },
      SECRETS,
    ],
    [
      'a code in the message',
      reply(400, {
        message: '"__type":"A" <Code>ParameterNotFound</Code>',
        __type: 'ns#ValidationException',
      }),
      { code: 'ValidationException', httpStatus: 400 },
    ],
    [
      'S3 InvalidObjectState',
      xml(403, 'InvalidObjectState'),
      { code: 'InvalidObjectState', httpStatus: 403 },
      S3,
    ],
    [
      'a fetch that has a mistake',
      new TypeError(`Headers.append: "${CANARY}-session-token" is an invalid header value.`),
      { code: 'RequestFailed' },
    ],
    ...[
      ...[
        'ERR_SSL_WRONG_VERSION_NUMBER',
        'CERT_HAS_EXPIRED',
        'CERT_NOT_YET_VALID',
        'DEPTH_ZERO_SELF_SIGNED_CERT',
        'SELF_SIGNED_CERT_IN_CHAIN',
        'ERR_TLS_CERT_ALTNAME_INVALID',
      ],
      ...[
        'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
        'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
        'ERR_INVALID_URL',
      ],
    ].map((code): (typeof DEFINITE)[number] => [
      code,
      unreachable(code),
      { code: 'RequestFailed' },
    ]),
  ]
  for (const [what, answer, details, source = SSM] of DEFINITE) {
    test(`once: ${what}`, async () => assert.deepEqual(await pauses(source, answer, details), []))
  }

  test('reads the code whatever the form of the answer', async () => {
    const forms: [SourceCase, Response][] = [
      [SSM, reply(400, { __type: 'SomeException' })],
      [SSM, reply(400, '{ "message": "x", "__type": "com.amazonaws.ssm#SomeException" }')],
      [SECRETS, reply(400, { __type: 'com.amazonaws.coral.service#SomeException', Message: 'x' })],
      [S3, reply(400, '<Error><Code>SomeException</Code></Error>')],
    ]
    for (const [source, answer] of forms)
      await failure(source.read({ fetch: script(answer).fetch }), {
        code: 'SomeException',
        httpStatus: 400,
      })
  })

  test('cut the code to 80 characters', async () => {
    for (const [source, answer] of [
      [SSM, refusal('E'.repeat(2 ** 22))],
      [S3, xml(400, 'E'.repeat(2 ** 22))],
    ] as const) {
      const error = await failure(source.read({ fetch: script(answer).fetch }), {
        code: 'E'.repeat(80),
      })
      assert.ok(error.message.length < 300)
    }
  })

  test('each with a signature of its own', async () => {
    mock.method(Math, 'random', () => 0.999)
    const { fetch, sent } = script(reply(429), reply(429), SSM.answer('value'))
    await elapse(() => SSM.read({ fetch }))
    assert.equal(new Set(sent.map(({ headers }) => headers['x-amz-date'])).size, 3)
    assert.equal(new Set(sent.map(({ headers }) => headers.authorization)).size, 3)
    assert.equal(new Set(sent.map(({ body }) => body)).size, 1)
  })

  test('each with the credentials of the moment', async () => {
    const { fetch, sent } = script(() => {
      process.env.AWS_ACCESS_KEY_ID = 'renewed'
      return reply(500)
    }, SSM.answer('value'))
    await SSM.read({ fetch })
    assert.match(sent[1]?.headers.authorization ?? '', /Credential=renewed\//)
  })

  for (const source of SOURCES) {
    test(`end after 2, 4 and 8 s without any progress, and name the host: ${source.source}`, async () => {
      const { fetch, sent } = script('never')
      mock.method(Math, 'random', () => 0.999)
      await elapse(() =>
        failure(
          source.read({ fetch }),
          { code: 'Timeout', source: source.source, id: source.id },
          AWS_HOSTS[source.source],
          'VPC',
        ),
      )
      assertPauses(
        sent.slice(1).map(({ at }, index) => at - present(sent[index]).at),
        2050,
        4100,
      )
      assert.ok(
        sent.every(({ signal }) => signal.aborted),
        'nothing is left running',
      )
    })

    test(`end where the body stalls: ${source.source}`, async () => {
      const { fetch, sent } = script(
        ({ signal }) => trickle(['{"Parameters"'], 0, signal),
        source.answer('value'),
      )
      assert.equal(await elapse(() => source.read({ fetch })), 'value')
      assert.equal(sent.length, 2)
      assert.ok(present(sent[1]).at - present(sent[0]).at >= 2000)
    })

    test(`end where the transport is deaf to the signal, in the call and in the body: ${source.source}`, async () => {
      const hangs = new Promise<never>(() => {})
      async function* begins(): AsyncGenerator<Uint8Array> {
        yield Buffer.from('{')
        await hangs
      }
      const answer = { status: 200, headers: new Headers(), text: () => hangs }
      for (const fetch of [
        () => hangs,
        async () => ({ ...answer, body: null }),
        async () => ({ ...answer, body: begins() }),
      ] satisfies Fetch[]) {
        clearCache()
        await elapse(() =>
          failure(source.read({ fetch }), { code: 'Timeout', source: source.source }),
        )
      }
      if (source !== S3) return
      const folder = await temporaryFolder()
      const fetch: Fetch = async () => ({ ...answer, body: begins() })
      await elapse(() =>
        failure(getObject(source.id, { file: join(folder, 'value'), fetch }), { code: 'Timeout' }),
      )
      assert.deepEqual(await readdir(folder), [])
    })

    test(`go on for as long as a body makes progress: ${source.source}`, async () => {
      const whole = await source.answer('value').text()
      const pieces = [whole.slice(0, 1), whole.slice(1, 2), whole.slice(2, 3), whole.slice(3)]
      const { fetch, sent } = script(() => trickle(pieces, 1500))
      assert.equal(await elapse(() => source.read({ fetch })), 'value')
      assert.equal(sent.length, 1)
    })
  }

  /** A body that comes in pieces, with a pause before each; with a signal it does not end but by that. */
  function trickle(pieces: readonly string[], pause: number, signal?: AbortSignal): Response {
    const left = [...pieces]
    const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
      if (pause) await new Promise((resolve) => setTimeout(resolve, pause))
      const piece = left.shift()
      if (piece !== undefined) controller.enqueue(new TextEncoder().encode(piece))
      else if (!signal) controller.close()
      else
        await new Promise((_, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error)),
        )
    }
    return new Response(new ReadableStream({ pull }))
  }

  const expired = 'Signature expired: 20260102T030405Z is now earlier than 20260102T035905Z'
  const early = 'Signature not yet current: 20260102T030405Z is still later than 20260102T020905Z'
  for (const hours of [1, -1]) {
    const date = { date: new Date(START + hours * HOUR).toUTCString() }
    const skewed: [SourceCase, Response][] = [
      [SSM, refusal('InvalidSignatureException', hours > 0 ? expired : early, date)],
      [SECRETS, refusal('InvalidSignatureException', hours > 0 ? expired : early, date)],
      [S3, xml(403, 'RequestTimeTooSkewed', date)],
    ]
    for (const [source, answer] of skewed) {
      const dates = (sent: readonly Sent[]) => sent.map(({ headers }) => headers['x-amz-date'])
      const corrected = hours > 0 ? '20260102T040405Z' : '20260102T020405Z'

      test(`take the time from AWS where the clock is ${hours} h off, for that call alone: ${source.source}`, async () => {
        const { fetch, sent } = script(answer, source.answer('one'), source.answer('two'))
        assert.equal(await source.read({ fetch }), 'one')
        assert.equal(await source.read({ fetch, maxAge: 0 }), 'two')
        assert.deepEqual(dates(sent), ['20260102T030405Z', corrected, '20260102T030405Z'])
      })

      test(`correct the clock by ${hours} h once: ${source.source}`, async () => {
        const { fetch, sent } = script(answer)
        assertKeepsSecrets(
          await failure(source.read({ fetch }), {
            source: source.source,
            httpStatus: answer.status,
          }),
        )
        assert.deepEqual(dates(sent), ['20260102T030405Z', corrected])
      })
    }
  }

  test('correct no clock without a date', async () => {
    for (const date of [
      '',
      'tomorrow',
      'Thu, 01 Jan 1960 00:00:00 GMT',
      'Sat, 13 Sep 99999 00:00:00 GMT',
    ]) {
      const { fetch, sent } = script(refusal('InvalidSignatureException', expired, { date }))
      await failure(SSM.read({ fetch }), { code: 'InvalidSignatureException' })
      assert.equal(sent.length, 1)
    }
  })

  test('are signed again where the clock is right to the millisecond, once', async () => {
    const date = { date: new Date(START).toUTCString() }
    mock.timers.setTime(Date.parse(date.date))
    const { fetch, sent } = script(
      refusal('InvalidSignatureException', expired, date),
      SSM.answer('value'),
    )
    assert.equal(await SSM.read({ fetch }), 'value')
    assert.equal(sent.length, 2)
  })

  const AFTER: readonly [what: string, headers: Record<string, string>, pauses: number[]][] = [
    ['retry-after in seconds', { 'retry-after': '2' }, [2000, 2000]],
    ['a date', { 'retry-after': new Date(START + 3000).toUTCString() }, [2322, 100]],
    ['x-amz-retry-after in milliseconds', { 'x-amz-retry-after': '700' }, [700, 700]],
    ['longer than 5 s more than the own pause', { 'retry-after': '60' }, [5050, 5100]],
    ['less than the own pause', { 'x-amz-retry-after': '1' }, [50, 100]],
    ['nonsense', { 'retry-after': 'soon', 'x-amz-retry-after': '-5' }, [50, 100]],
  ]
  for (const [what, headers, expected] of AFTER)
    test(`wait for as long as AWS asks: ${what}`, async () => {
      const answer = reply(500, '', headers)
      assertPauses(await pauses(SECRETS, answer, { httpStatus: 500 }), ...expected)
    })

  describeOverBoth('to a real server', () => {
    test('follow no redirect', async () => {
      const visitors: string[] = []
      const elsewhere = await serve(({ headers }, response) => {
        visitors.push(JSON.stringify(headers))
        response.end('{}')
      })
      const aws = await local()
      aws.intercept = (_, response) => {
        response.writeHead(307, { location: elsewhere }).end()
        return true
      }
      for (const source of SOURCES)
        await failure(source.read(), { code: 'Http307', httpStatus: 307 })
      assert.deepEqual(visitors, [])
    })
  })

  test('take no more than 8 MiB for an answer in JSON', async () => {
    const bytes = 8 * 1024 * 1024
    for (const source of [SSM, SECRETS]) {
      const tooLong = () => source.answer('x'.repeat(bytes))
      const { fetch, sent } = script(tooLong, tooLong, tooLong, () =>
        source.answer('x'.repeat(bytes - 100)),
      )
      await failure(source.read({ fetch }), {
        code: 'InvalidAnswer',
        source: source.source,
        id: source.id,
      })
      assert.ok(sent[0]?.signal.aborted, 'the rest is not read')
      assert.equal(String(await source.read({ fetch })).length, bytes - 100)
    }
    const { fetch } = script(() => S3.answer('x'.repeat(bytes + 1)))
    assert.equal(String(await S3.read({ fetch })).length, bytes + 1, 'objects may be larger')
  })
})

// ---- Fetch over node:https ----

describe('throttled with nothing to serve', () => {
  const throttled = refusal('ThrottlingException')
  const times = (sent: readonly Sent[]): number[] =>
    sent.map(({ at }) => Math.round((at - present(sent[0]).at) / 100) / 10)
  /** Chance is at its worst, and time passes in steps of 0.1 s, one before the first request. */
  function patiently(): void {
    mock.method(Math, 'random', () => 1)
    mockTimeouts()
  }

  test('attempts go on until the deadline', async () => {
    patiently()
    const { fetch, sent } = script(throttled)
    const invoke = withCache(() => {}, { ssm: ['/app/value'], fetch })
    const result = failure(invoke({}, contextWith(30 * SECOND)), {
      code: 'ThrottlingException',
      source: 'ssm',
      id: '/app/value',
      httpStatus: 400,
    })
    await advance(29_500)
    await result
    assert.deepEqual(times(sent), [0, 1, 3, 7, 12, 17, 22, 27, 29.2])
  })

  test('the error says how many attempts there were in how long', async () => {
    patiently()
    const { fetch } = script(throttled)
    const result = assert.rejects(getSecret('app/value', { fetch }), {
      message:
        'secrets app/value: ThrottlingException (HTTP 400) from ' +
        'https://secretsmanager.us-east-1.amazonaws.com: "AWS says why", 5 attempts in 10 s: ' +
        "raise `maxAge`, the quota or the function's timeout",
    })
    await advance(10_100)
    await result
  })

  test('they go on for 10 s where there is no deadline: prefetch, direct access, a time that is not enforced', async () => {
    patiently()
    const { fetch, sent } = script(throttled)
    const handler = withCache(() => {}, { secrets: ['app/value'], fetch })
    for (const read of [
      () => handler.prefetch(),
      () => getSecret('app/value', { fetch }),
      () => handler({}, contextWith(0)),
      () => handler({}, {} as LambdaContext),
    ]) {
      sent.length = 0
      const result = failure(read(), { code: 'ThrottlingException' })
      await advance(10_100)
      await result
      assert.deepEqual(times(sent), [0, 1, 3, 7, 10])
    }
  })

  test('the value is there as soon as AWS gives it', async () => {
    patiently()
    for (const source of SOURCES) {
      const { fetch, sent } = script(throttled, throttled, throttled, source.answer('value'))
      const handler = withCache((_: unknown, context) => Reflect.get(context, 'value'), {
        ...source.entry(),
        fetch,
      })
      const result = handler({}, contextWith(10 * SECOND))
      await advance(7100)
      assert.equal(await result, 'value')
      assert.equal(sent.length, 4)
      clearCache()
    }
  })

  test('another failure after the third attempt is the last', async () => {
    patiently()
    const { fetch, sent } = script(throttled, throttled, throttled, throttled, reply(500))
    const result = failure(
      withCache(() => {}, { ssm: ['/app/value'], fetch })({}, contextWith(MINUTE)),
      { code: 'Http500' },
    )
    await advance(20_000)
    await result
    assert.deepEqual(times(sent), [0, 1, 3, 7, 12])
  })

  test('three attempts are made with a value at hand', async () => {
    patiently()
    consoleLines()
    const aws = scene(SSM.answer('value'))
    const handler = withCache((_: unknown, context) => Reflect.get(context, 'value'), {
      ...SSM.entry(),
      fetch: aws.fetch,
    })
    await handler({}, contextWith(MINUTE))
    await advance(MINUTE, MINUTE)
    aws.say(throttled)
    const result = handler({}, contextWith(MINUTE))
    await advance(3100)
    assert.equal(await result, 'value')
    assert.deepEqual(times(aws.sent.slice(1)), [0, 1, 3])
  })

  test('they are made for a value at hand while, in the same tick, others go on without one', async () => {
    patiently()
    consoleLines()
    const aws = scene(SSM.answer('value'))
    const entry = { ...SSM.entry(), fetch: aws.fetch }
    const stale = withCache((_: unknown, context) => Reflect.get(context, 'value'), entry)
    await stale({}, contextWith(MINUTE))
    await advance(MINUTE, MINUTE)
    aws.say(throttled)
    const served = stale({}, contextWith(MINUTE))
    const { fetch } = aws
    const missing = failure(getParameter('/app/other', { fetch }), { code: 'ThrottlingException' })
    await advance(3100)
    assert.equal(await isSettled(served), true)
    assert.equal(await isSettled(missing), false)
    await advance(MINUTE, SECOND)
    await missing
  })

  test('the fourth attempt and later ones are given up after 8 s without progress, too', async () => {
    patiently()
    const { fetch } = script(throttled, throttled, throttled, throttled)
    let calls = 0
    const hanging: Fetch = (...args) => {
      calls += 1
      return calls < 4 ? fetch(...args) : new Promise(() => {})
    }
    const handler = withCache(() => {}, { secrets: ['app/value'], fetch: hanging })
    const result = failure(handler({}, contextWith(MINUTE)), { code: 'Timeout' })
    await advance(14_900)
    assert.equal(await isSettled(result), false)
    await advance(200)
    await result
    calls = 0
    const direct = failure(getSecret('app/value', { fetch: hanging }), { code: 'Timeout' })
    await advance(9900)
    assert.equal(await isSettled(direct), false, 'where nothing sets a deadline, after 10 s')
    await advance(200)
    await direct
  })

  test('one attempt is made ahead of time', async () => {
    patiently()
    mock.method(Math, 'random', () => 0)
    const aws = scene(SSM.answer('value'))
    const handler = withCache((_: unknown, context) => Reflect.get(context, 'value'), {
      ...SSM.entry(),
      fetch: aws.fetch,
    })
    await handler({}, contextWith(MINUTE))
    await advance(50_000, MINUTE)
    aws.say(throttled)
    const result = handler({}, contextWith(MINUTE))
    await advance(3100)
    assert.equal(await result, 'value')
    assert.equal(aws.sent.length, 2)
  })

  test('names go out together, again and again', async () => {
    patiently()
    const { fetch, sent } = script(throttled)
    const names = Array.from({ length: 10 }, (_, index) => `/app/${index}`)
    const result = failure(
      withCache(() => {}, { ssm: names, fetch })({}, contextWith(8 * SECOND)),
      { code: 'ThrottlingException' },
    )
    await advance(8000)
    await result
    assert.deepEqual(times(sent), [0, 1, 3, 7, 7.2])
  })

  test('attempts go on in a load, too', async () => {
    patiently()
    const { fetch, sent } = script(...Array<Answer>(3).fill(throttled), SSM.answer('value'))
    const load = () => getParameter('/app/value', { fetch, maxAge: 0 })
    const invoke = invoking({ custom: [{ as: 'read', load }] }, 'read')
    const result = invoke()
    await advance(7100)
    assert.deepEqual(await result, ['value'])
    assert.deepEqual(times(sent), [0, 1, 3, 7])
  })

  for (const [seconds, expected] of [
    [8, [0, 1, 3, 7, 7.2]],
    [16, [0, 1, 3, 7, 12, 15.2]],
  ] as const) {
    test(`they go on until the deadline in ${seconds} s where a load reads by direct access`, async () => {
      patiently()
      const { fetch, sent } = script(throttled)
      const load = () => getSecret('app/value', { fetch })
      const handler = withCache(() => {}, { custom: [{ as: 'read', load }] })
      const context = contextWith(seconds * SECOND)
      const result = failure(handler({}, context), { code: 'ThrottlingException' })
      await advance(seconds * SECOND)
      await result
      assert.deepEqual(times(sent), expected)
    })

    test(`they go on until the deadline in ${seconds} s where a handler reads by direct access`, async () => {
      patiently()
      const { fetch, sent } = script(throttled)
      const handler = withCache(() => getSecret('app/value', { fetch }), {
        ...SSM.entry(),
        fetch: script(SSM.answer('value')).fetch,
      })
      const context = contextWith(seconds * SECOND)
      const result = failure(handler({}, context), { code: 'ThrottlingException' })
      await advance(seconds * SECOND)
      await result
      assert.deepEqual(times(sent), expected)
    })
  }

  test('nothing is asked when nobody waits any more', async () => {
    patiently()
    const { fetch, sent } = script(throttled)
    const handler = withCache(() => {}, { secrets: ['app/value', 'app/other'], fetch })
    const result = failure(handler({}, contextWith(3000)), { code: 'ThrottlingException' })
    await advance(3000)
    await result
    const { length } = sent
    await advance(MINUTE, SECOND)
    assert.equal(sent.length, length)
  })
})

describe('httpsFetch', () => {
  /** A call as the library makes it, and what aborts it. */
  function call(url: string, init: Partial<Parameters<Fetch>[1]> = {}) {
    const controller = new AbortController()
    const response = httpsFetch(url, {
      method: 'GET',
      headers: {},
      redirect: 'manual',
      signal: controller.signal,
      ...init,
    })
    response.catch(() => {})
    return { response, abort: () => controller.abort() }
  }

  async function contentOf({ body }: Pick<FetchResponse, 'body'>): Promise<string> {
    const pieces: Uint8Array[] = []
    for await (const piece of present(body)) pieces.push(piece)
    return Buffer.concat(pieces).toString()
  }

  /** A certificate for localhost that nobody has signed. */
  function certificate(folder: string): { key: Buffer; cert: Buffer } {
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
        '-keyout',
        key,
        '-out',
        cert,
        ...subject,
      ],
      { stdio: 'pipe' },
    )
    return { key: readFileSync(key), cert: readFileSync(cert) }
  }

  /** A server on loopback that nobody trusts, unless they trust its certificate. */
  async function serveSecurely(listener: RequestListener) {
    const { key, cert } = certificate(await temporaryFolder())
    const server = https.createServer({ key, cert }, listener)
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve))
    cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
    return { server, cert, url: `https://localhost:${(server.address() as AddressInfo).port}` }
  }

  function trust(cert: Buffer): void {
    https.globalAgent.options.ca = cert
    cleanups.push(() => {
      delete https.globalAgent.options.ca
      https.globalAgent.destroy()
    })
  }

  const hasOpenssl = (() => {
    try {
      return execFileSync('openssl', ['version'], { stdio: 'pipe' }).length > 0
    } catch {
      return false
    }
  })()
  const TLS = { skip: !hasOpenssl && 'no openssl here' }

  test('loses nothing to an agent that listens to the data of every response', async () => {
    const http = process.getBuiltinModule('node:http')
    const { request } = http
    const heard: Buffer[] = []
    mock.method(http, 'request', (...given: Parameters<typeof request>) =>
      request(...given).on('response', (response) =>
        response.on('data', (chunk: Buffer) => void heard.push(chunk)),
      ),
    )
    for (const [headers, content] of [
      [{ 'content-length': 4 }, Buffer.from('text')],
      [{}, Buffer.from('text')],
      [{ 'content-encoding': 'gzip' }, gzipSync('text')],
    ] as const) {
      process.env.AWS_ENDPOINT_URL = await serve((_, response) =>
        response.writeHead(200, headers).end(content),
      )
      heard.length = 0
      clearCache()
      assert.equal(await getObject('s3://bucket/key', { parse: text, fetch: httpsFetch }), 'text')
      assert.deepEqual(Buffer.concat(heard), content)
    }
  })

  describeOverBoth('as fetch does', () => {
    const send = (url: string, init: Partial<Parameters<Fetch>[1]> = {}) =>
      TRANSPORTS[transport](url, {
        method: 'GET',
        headers: {},
        redirect: 'manual',
        signal: new AbortController().signal,
        ...init,
      })

    test('gives status and headers, whatever their case, and those that come twice as one', async () => {
      const url = await serve((_, response) =>
        response
          .writeHead(418, { 'X-Once': 'one', ETag: ['"a"', '"b"'], 'x-twice': ['one', 'two'] })
          .end(),
      )
      const { status, headers } = await send(url)
      assert.equal(status, 418)
      assert.deepEqual(
        ['x-once', 'X-TWICE', 'etag', 'x-none', 'constructor'].map((name) => headers.get(name)),
        ['one', 'one, two', '"a", "b"', null, null],
      )
    })

    /** Each with what takes the place of `text`. */
    const ENCODED: readonly [encoding: string, content: Buffer, comesTo?: string][] = [
      ...['gzip', 'GZIP', 'x-gzip'].map((encoding): (typeof ENCODED)[number] => [
        encoding,
        gzipSync('text'),
      ]),
      ['deflate', deflateSync('text')],
      ['deflate', deflateRawSync('text')],
      ['Br', brotliCompressSync('text')],
      ['gzip', Buffer.concat([gzipSync('te'), gzipSync('xt')])],
      ...['gzip', 'deflate', 'br'].map((encoding): (typeof ENCODED)[number] => [
        encoding,
        Buffer.alloc(0),
        '',
      ]),
      ...['utf-8', 'identity', 'aws-chunked', '__proto__', 'constructor', ''].map(
        (encoding): (typeof ENCODED)[number] => [encoding, Buffer.from('text')],
      ),
      ['gzip, br', brotliCompressSync(gzipSync('text'))],
      ['br ,GZIP', gzipSync(brotliCompressSync('text'))],
      ['deflate, x-gzip, gzip', gzipSync(gzipSync(deflateSync('text')))],
      ['gzip, deflate', deflateRawSync(gzipSync('text'))],
      ...['gzip, none', 'none, gzip', 'gzip,'].map((encoding): (typeof ENCODED)[number] => [
        encoding,
        gzipSync('text'),
        gzipSync('text').toString('latin1'),
      ]),
      ['gzip', gzipSync('text').subarray(0, -8)],
    ]
    for (const [index, [encoding, content, comesTo = 'text']] of ENCODED.entries()) {
      test(`takes off the content-encoding ${inspect(encoding)} (${index})`, async () => {
        const url = await serve((_, response) =>
          response
            .writeHead(200, { 'content-encoding': encoding, 'content-length': content.length })
            .end(content),
        )
        const pieces: Uint8Array[] = []
        for await (const piece of (await send(url)).body ?? []) pieces.push(piece)
        assert.equal(Buffer.concat(pieces).toString('latin1'), comesTo)
      })
    }

    for (const [encoding, content] of [
      ['gzip', 'no gzip'],
      ['br', 'no brotli'],
      ['gzip', deflateSync('text')],
    ] as const) {
      test(`says of a body that it cannot be decoded: ${encoding}, ${content.length} bytes`, async () => {
        const url = await serve((_, response) =>
          response.writeHead(200, { 'content-encoding': encoding }).end(content),
        )
        process.env.AWS_ENDPOINT_URL = url
        const folder = await temporaryFolder()
        for (const options of [{ binary: true }, { file: join(folder, 'object') }]) {
          await failure(
            getObject('s3://bucket/key', options),
            { code: 'InvalidAnswer', httpStatus: 200 },
            'decode',
          )
        }
        assert.deepEqual(await readdir(folder), [])
      })
    }

    test('gives the body as text, as JSON and piece by piece', async () => {
      const url = await serve((_, response) => {
        response.write('\ufeff{"text":"\u{1f680}')
        response.end('"}')
      })
      assert.equal(await (await send(url)).text(), '{"text":"\u{1f680}"}')
      assert.deepEqual(await (await send(url)).json(), { text: '\u{1f680}' })
      assert.equal(await contentOf(await send(url)), '\ufeff{"text":"\u{1f680}"}')
    })

    for (const status of [200, 204, 304]) {
      test(`gives an empty text for HTTP ${status} without a body`, async () => {
        const url = await serve((_, response) => response.writeHead(status).end())
        assert.equal(await (await send(url)).text(), '')
      })
    }

    test('sends method, path, headers and body as they are, and the length', async () => {
      let [line, body]: [string[], string] = [[], '']
      const url = await serve(async (request, response) => {
        const { method, url: path, headers } = request
        line = [
          method,
          path,
          headers.host,
          headers['x-header'],
          headers['content-length'],
          headers['transfer-encoding'],
        ].map(String)
        for await (const piece of request) body += piece
        response.end()
      })
      await (
        await send(`${url}//a/%41%2f?b=%20&c`, {
          method: 'POST',
          headers: { 'X-Header': 'one, two' },
          body: 'h\u00e9',
        })
      ).text()
      assert.deepEqual(
        [line, body],
        [
          ['POST', '//a/%41%2f?b=%20&c', new URL(url).host, 'one, two', '3', 'undefined'],
          'h\u00e9',
        ],
      )
    })

    test('calls an address of IPv6', async (t) => {
      const server = createServer(({ headers }, response) => response.end(headers.host))
      const isThere = await new Promise((resolve) =>
        server.once('error', () => resolve(false)).listen(0, '::1', () => resolve(true)),
      )
      if (!isThere) return t.skip('no IPv6 here')
      cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
      const host = `[::1]:${(server.address() as AddressInfo).port}`
      assert.equal(await (await send(`http://${host}/`)).text(), host)
    })

    test('reads nothing ahead without bound', async () => {
      const size = 64 * MEBIBYTE
      let [sent, stalls] = [0, 0]
      const url = await serve((_, response) => {
        const piece = Buffer.alloc(64 * 1024)
        const more = (): void => {
          stalls = 0
          for (let isRoom = true; isRoom && sent < size; sent += piece.length)
            isRoom = response.write(piece)
          if (sent >= size) response.end()
        }
        response.on('drain', more)
        more()
      })
      const before = process.memoryUsage().arrayBuffers
      const response = await send(url)
      while (++stalls < 50) await calm()
      assert.ok(sent < size / 2, `${sent} bytes went out that nobody reads`)
      assert.ok(process.memoryUsage().arrayBuffers - before < size / 4)
      let read = 0
      // Node's fetch drops the body of a response that nobody holds any more.
      for await (const piece of present(response.body)) read += piece.length
      assert.equal(read, size)
    })

    test('asks once where a header cannot be sent, and does not show it', async () => {
      const aws = await local()
      process.env.AWS_SESSION_TOKEN = `${CANARY}-\u{1f680}`
      assertKeepsSecrets(await failure(SSM.read(), { code: 'RequestFailed', source: 'ssm' }))
      assert.equal(aws.requests.length, 0)
    })

    test('asks once where a certificate is not trusted', TLS, async () => {
      const { server, url } = await serveSecurely((_, response) => response.end('{}'))
      let handshakes = 0
      server
        .on('tlsClientError', () => {
          handshakes += 1
        })
        .on('secureConnection', () => {
          handshakes += 1
        })
      process.env.AWS_ENDPOINT_URL = url
      assertKeepsSecrets(
        await failure(
          SSM.read({ fetch: TRANSPORTS[transport] }),
          { code: 'RequestFailed', source: 'ssm' },
          'SELF_SIGNED',
        ),
      )
      await until(() => handshakes > 0)
      await calm()
      assert.equal(handshakes, 1)
    })
  })

  test('uses a connection again, though every exchange ends with an abort', async () => {
    const ports = new Set<number | undefined>()
    const url = await serve((request, response) => {
      ports.add(request.socket.remotePort)
      request
        .resume()
        .on('end', () => response.end('{"Parameters":[{"Name":"/app/value","Value":"value"}]}'))
    })
    process.env.AWS_ENDPOINT_URL = url
    for (let time = 0; time < 5; time += 1)
      assert.equal(await SSM.read({ maxAge: 0, fetch: httpsFetch }), 'value')
    assert.equal(ports.size, 1)
  })

  test("takes off zstd where Node's fetch does", {
    skip: 'zstdCompressSync' in zlib ? false : 'not in this Node',
  }, async () => {
    const content = Reflect.apply(
      Reflect.get(zlib, 'zstdCompressSync') as (text: string) => Buffer,
      zlib,
      ['text'],
    )
    const url = await serve((_, response) =>
      response.writeHead(200, { 'content-encoding': 'zstd' }).end(content),
    )
    const init = {
      method: 'GET',
      headers: {},
      redirect: 'manual',
      signal: new AbortController().signal,
    } as const
    const { body } = await httpsFetch(url, init)
    const own = await fetch(url, init)
    assert.deepEqual(
      await buffer(body as AsyncIterable<Uint8Array>),
      Buffer.from(await own.arrayBuffer()),
    )
  })

  test('fails for more codings than fetch undoes', async () => {
    const codings = Array(6).fill('gzip').join()
    const url = await serve((_, response) =>
      response.writeHead(200, { 'content-encoding': codings }).end(gzipSync('text')),
    )
    process.env.AWS_ENDPOINT_URL = url
    await failure(S3.read({ fetch: httpsFetch }), { code: 'NetworkError', source: 's3' })
  })

  for (const pieces of [1, 2])
    test(`survives an abort of a body of which ${pieces} of 2 pieces are read`, async () => {
      const url = await serve((_, response) => {
        response.writeHead(200, { 'content-length': 8 }).write('half')
        setTimeout(() => response.end('half'), 10)
      })
      const controller = new AbortController()
      const { signal } = controller
      const init = { method: 'GET', headers: {}, redirect: 'manual', signal } as const
      const { body } = await httpsFetch(url, init)
      const iterator = (body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]()
      for (let piece = 0; piece < pieces; piece += 1) await iterator.next()
      controller.abort()
      // An error that nobody listens to would end the process.
      await new Promise((resolve) => setTimeout(resolve, 30))
      await assert.rejects(iterator.next())
    })

  const DEAD: readonly [what: string, treat: (socket: Socket) => unknown][] = [
    ['reset', (socket) => socket.resetAndDestroy()],
    ['closed', (socket) => socket.destroy()],
    ['silent', () => {}],
  ]
  for (const [what, treat] of DEAD) {
    test(`spends one attempt on connections that died in a freeze, ${what}, however many there are`, async () => {
      let [dead, requests] = [new Set<Socket>(), 0]
      const sockets = new Set<Socket>()
      const url = await serve(({ socket }, response) => {
        requests += 1
        sockets.add(socket)
        if (dead.has(socket)) return void treat(socket)
        setImmediate(() => response.end('{"SecretString":"value"}'))
      })
      process.env.AWS_ENDPOINT_URL = url
      const read = (id: string) => getSecret(id, { maxAge: 0, fetch: httpsFetch })
      await Promise.all(Array.from({ length: 8 }, (_, index) => read(`${index}`)))
      assert.equal(sockets.size, 8)
      ;[dead, requests] = [new Set(sockets), 0]
      mock.timers.reset()
      assert.deepEqual(await Promise.all(['a', 'b'].map(read)), ['value', 'value'])
      assert.ok(requests <= 4, `${requests} requests`)
      await read('c')
      assert.ok(requests <= 5, `${requests} requests`)
    })
  }

  test('speaks TLS, over one connection', TLS, async () => {
    const ports = new Set<number | undefined>()
    const { url, cert } = await serveSecurely(({ socket }, response) => {
      ports.add(socket.remotePort)
      response.end('value')
    })
    trust(cert)
    process.env.AWS_ENDPOINT_URL = url
    for (let time = 0; time < 5; time += 1)
      assert.equal(await S3.read({ maxAge: 0, fetch: httpsFetch }), 'value')
    assert.equal(ports.size, 1)
  })

  test('lets no broken connection pass for a disk that cannot be written', TLS, async () => {
    const { url, cert } = await serveSecurely(({ socket }, response) =>
      response
        .writeHead(200, { 'content-length': 100 })
        .write('half of it', () => socket.destroy()),
    )
    trust(cert)
    process.env.AWS_ENDPOINT_URL = url
    await failure(
      getObject(S3.id, { file: join(await temporaryFolder(), 'object'), fetch: httpsFetch }),
      { code: 'NetworkError' },
    )
  })

  const CUTS: readonly [
    how: string,
    headers: Record<string, number>,
    cut: (response: ServerResponse) => unknown,
  ][] = [
    ['before its length', { 'content-length': 100 }, (response) => response.socket?.end()],
    ['before the last chunk', {}, (response) => response.socket?.end()],
    ['with a chunk that is none', {}, (response) => response.socket?.write('none\r\n')],
    ['with a reset', {}, (response) => response.socket?.resetAndDestroy()],
  ]
  for (const [how, headers, cut] of CUTS) {
    for (const isLate of [false, true]) {
      test(`gives no part of a body for the whole: ended ${how}, ${isLate ? 'before' : 'while'} it is read`, async () => {
        let closed = false
        const url = await serve(async ({ socket }, response) => {
          socket.once('close', () => {
            closed = true
          })
          response.writeHead(200, headers).write('half of it')
          // By then it is being read, unless the reader waits for the end.
          await calm()
          cut(response)
        })
        const response = await call(url).response
        if (isLate) await until(() => closed)
        if (isLate) await calm()
        await assert.rejects(contentOf(response), { code: 'ECONNRESET' })
      })
    }
  }

  /** A server that shows how far it has come: to a request, to a half of the answer, or to all of it. */
  async function serveUntil(moment: 'request' | 'half' | 'all') {
    const seen: IncomingMessage[] = []
    let closed = 0
    const url = await serve((request, response) => {
      seen.push(request)
      request.socket.once('close', () => {
        closed += 1
      })
      if (moment !== 'request') response.write('half of it')
      if (moment === 'all') response.end('the rest')
    })
    return {
      url,
      hasCome: () => until(() => seen.length > 0),
      isClosed: () => until(() => closed > 0),
      closed: () => closed,
    }
  }

  /** What comes out of order, to whoever looks for it. */
  function unhandled(): unknown[] {
    const errors: unknown[] = []
    const note = (error: unknown): void => void errors.push(error)
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
      process.on(event, note)
      cleanups.push(() => process.off(event, note))
    }
    return errors
  }

  test('ends with an abort before the headers', async () => {
    const errors = unhandled()
    const { url, hasCome, isClosed } = await serveUntil('request')
    const early = call(url)
    early.abort()
    await assert.rejects(early.response, { name: 'AbortError' })
    const { response, abort } = call(url)
    await hasCome()
    abort()
    await assert.rejects(response, { name: 'AbortError' })
    await isClosed()
    assert.deepEqual(errors, [])
  })

  test('ends with an abort while the body comes', async () => {
    const errors = unhandled()
    const { url, isClosed } = await serveUntil('half')
    const { response, abort } = call(url)
    const content = contentOf(await response)
    await calm()
    abort()
    await assert.rejects(content)
    await isClosed()
    assert.deepEqual(errors, [])
  })

  test('ends with an abort where nobody reads the body, and gives no part of it for the whole', async () => {
    const errors = unhandled()
    for (const moment of ['half', 'all'] as const) {
      const { url, isClosed } = await serveUntil(moment)
      const { response, abort } = call(url)
      const unread = await response
      await calm()
      abort()
      await isClosed()
      await calm()
      await assert.rejects(contentOf(unread), moment)
    }
    assert.deepEqual(errors, [])
  })

  test('keeps its connection where an abort comes after the end', async () => {
    const errors = unhandled()
    const { url, closed } = await serveUntil('all')
    const { response, abort } = call(url)
    assert.equal(await contentOf(await response), 'half of itthe rest')
    abort()
    await calm()
    assert.equal(closed(), 0)
    assert.deepEqual(errors, [])
  })

  /** The file as a bundler makes it of an entry, minified. */
  function bundle(entry: string): string {
    const stdin = { contents: entry, resolveDir: ROOT, loader: 'ts' as const }
    return present(
      buildSync({
        stdin,
        bundle: true,
        write: false,
        minify: true,
        platform: 'node',
        format: 'esm',
      }).outputFiles[0],
    ).text
  }

  /** Runs a module in a process of its own, to its end. */
  async function run(code: string, environment: Record<string, string> = {}): Promise<string> {
    const file = join(await temporaryFolder(), 'module.mjs')
    await writeFile(file, code)
    const { stdout } = await promisify(execFile)(process.execPath, [file], {
      env: { ...process.env, ...environment },
      timeout: HANGS.timeout,
    })
    return stdout
  }

  test('holds no process back once a call has ended or is aborted', async () => {
    const [request, half, all] = [
      await serveUntil('request'),
      await serveUntil('half'),
      await serveUntil('all'),
    ]
    const code = `import { httpsFetch } from './lambda-cache.ts'
      const call = (url) => {
        const controller = new AbortController()
        return [httpsFetch(url, { method: 'GET', headers: {}, redirect: 'manual', signal: controller.signal }), () => controller.abort()]
      }
      const [read] = call('${all.url}')
      await (await read).text()
      const [waiting, stop] = call('${request.url}')
      setTimeout(stop, 20)
      await waiting.catch(() => {})
      for (const url of ['${half.url}', '${all.url}']) {
        const [response, abort] = call(url)
        await response
        abort()
      }
      console.log('done')`
    assert.equal(await run(bundle(code)), 'done\n')
  })

  test('is left out of a bundle that does not use it', () => {
    const size = (code: string): number => execFileSync('gzip', ['-9'], { input: code }).length
    const [without, used] = ['withCache', 'withCache, httpsFetch'].map((names) =>
      bundle(`export { ${names} } from './lambda-cache.ts'`),
    ) as [string, string]
    assert.doesNotMatch(without, /node:https?"/)
    assert.match(used, /"https"/)
    assert.ok(size(used) - size(without) <= 768, `${size(used) - size(without)} bytes more`)
  })

  test('has nothing of Node to load but internals in the first invocation', TLS, async () => {
    const { url, cert } = await serveSecurely((_, response) => response.end('value'))
    const authority = join(await temporaryFolder(), 'authority.pem')
    await writeFile(authority, cert)
    const code = bundle(`import { httpsFetch as fetch, withCache } from './lambda-cache.ts'
      const options = { s3: [{ uri: 's3://bucket/key', parse: String }], fetch }
      const handler = withCache((_, { key }) => key, options)
      const before = new Set(process.moduleLoadList)
      const value = await handler({}, {})
      const news = process.moduleLoadList.filter((name) => !before.has(name))
      console.log(value, news.filter((name) => !/ internal\\//.test(name)).join())`)
    const environment = { AWS_ENDPOINT_URL: url, NODE_EXTRA_CA_CERTS: authority }
    assert.equal(await run(code, environment), 'value \n')
  })

  test("loads nothing of fetch's", TLS, async () => {
    const { url, cert } = await serveSecurely((_, response) => response.end('value'))
    const authority = join(await temporaryFolder(), 'authority.pem')
    await writeFile(authority, cert)
    const look = (fetch: string): string =>
      bundle(`import { getObject, httpsFetch } from './lambda-cache.ts'
      console.log(await getObject('s3://bucket/key', { parse: String, fetch: ${fetch} }), process.moduleLoadList.some((name) => /undici/.test(name)))`)
    const environment = { AWS_ENDPOINT_URL: url, NODE_EXTRA_CA_CERTS: authority }
    assert.equal(await run(look('httpsFetch'), environment), 'value false\n')
    assert.equal(await run(look('fetch'), environment), 'value true\n')
  })
})

// ---- Signature Version 4 ----

interface Vector {
  readonly name: string
  readonly method: string
  readonly target: string
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: string
  readonly canonicalRequest: string
  readonly stringToSign: string
  readonly signature: string
  readonly context: {
    readonly credentials: {
      readonly access_key_id: string
      readonly secret_access_key: string
      readonly token?: string
    }
    readonly omit_session_token?: boolean
    readonly region: string
    readonly service: string
    readonly timestamp: string
  }
}

const REWRITTEN = 'a URL resolves the segments "." and ".." that this signs as they stand'
const COLLAPSED = 'S3 alone signs double slashes as they stand'
const ENCODED =
  'a URL percent-encodes what stands bare in this path; a service but S3 then signs the percent sign'
const NOT_IN_A_URL: Readonly<Record<string, string>> = {
  'get-relative-relative-unnormalized': REWRITTEN,
  'get-relative-unnormalized': REWRITTEN,
  'get-slash-dot-slash-unnormalized': REWRITTEN,
  'get-slash-pointless-dot-unnormalized': REWRITTEN,
  'get-slash-unnormalized': COLLAPSED,
  'get-slashes-unnormalized': COLLAPSED,
  'get-space-normalized': ENCODED,
  'get-space-unnormalized': ENCODED,
  'get-utf8': ENCODED,
  'post-sts-header-after': 'here the token is added after signing',
}

/** The worked examples of "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk", S3 API Reference. */
const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
const S3_EXAMPLES: readonly [
  title: string,
  request: Pick<SignRequest, 'method' | 'headers' | 'body'>,
  target: string,
  canonicalRequest: string[],
  hash: string,
  signature: string,
][] = [
  [
    'GET Object',
    { method: 'GET', headers: { Range: 'bytes=0-9' } },
    '/test.txt',
    [
      'GET',
      '/test.txt',
      '',
      'host:examplebucket.s3.amazonaws.com',
      'range:bytes=0-9',
      `x-amz-content-sha256:${EMPTY}`,
      'x-amz-date:20130524T000000Z',
      '',
      'host;range;x-amz-content-sha256;x-amz-date',
      EMPTY,
    ],
    '7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972',
    'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  ],
  [
    'PUT Object',
    {
      method: 'PUT',
      headers: {
        Date: 'Fri, 24 May 2013 00:00:00 GMT',
        'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      },
      body: 'Welcome to Amazon S3.',
    },
    '/test%24file.text',
    [
      'PUT',
      '/test%24file.text',
      '',
      'date:Fri, 24 May 2013 00:00:00 GMT',
      'host:examplebucket.s3.amazonaws.com',
      'x-amz-content-sha256:44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
      'x-amz-date:20130524T000000Z',
      'x-amz-storage-class:REDUCED_REDUNDANCY',
      '',
      'date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class',
      '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
    ],
    '9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d',
    '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
  ],
  [
    'GET Bucket Lifecycle',
    { method: 'GET' },
    '/?lifecycle',
    [
      'GET',
      '/',
      'lifecycle=',
      'host:examplebucket.s3.amazonaws.com',
      `x-amz-content-sha256:${EMPTY}`,
      'x-amz-date:20130524T000000Z',
      '',
      'host;x-amz-content-sha256;x-amz-date',
      EMPTY,
    ],
    '9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca',
    'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
  ],
  [
    'Get Bucket (List Objects)',
    { method: 'GET' },
    '/?prefix=J&max-keys=2',
    [
      'GET',
      '/',
      'max-keys=2&prefix=J',
      'host:examplebucket.s3.amazonaws.com',
      `x-amz-content-sha256:${EMPTY}`,
      'x-amz-date:20130524T000000Z',
      '',
      'host;x-amz-content-sha256;x-amz-date',
      EMPTY,
    ],
    'df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7',
    '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  ],
]

describe('Signature Version 4', () => {
  test('drops the token of an earlier signature where the new credentials have none', () => {
    const request: SignRequest = {
      method: 'GET',
      url: 'https://bucket.s3.amazonaws.com/key',
      service: 's3',
      region: 'us-east-1',
      credentials: { accessKeyId: 'id', secretAccessKey: 'key', sessionToken: 'token' },
      date: new Date(START),
    }
    const first = sign(request)
    const credentials = { accessKeyId: 'other', secretAccessKey: 'key' }
    const { authorization } = sign({ ...request, credentials })
    const again = sign({
      ...request,
      headers: { 'X-Amz-Security-Token': 'token', ...first },
      credentials,
    })
    assert.ok(!('x-amz-security-token' in again))
    assert.equal(again.authorization, authorization)
  })

  for (const [title, request, target, lines, hash, signature] of S3_EXAMPLES) {
    test(`signs the example of the S3 API Reference: ${title}`, () => {
      const signed = signing({
        ...request,
        url: `https://examplebucket.s3.amazonaws.com${target}`,
        service: 's3',
        region: 'us-east-1',
        credentials: {
          accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
          secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
        },
        date: new Date('2013-05-24T00:00:00Z'),
      })
      assert.equal(signed.canonicalRequest, lines.join('\n'))
      assert.equal(
        signed.stringToSign,
        `AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n${hash}`,
      )
      assert.equal(signed.signature, signature)
    })
  }

  const vectors = new URL('../shared/sigv4/vectors.json', import.meta.url)
  const cases = existsSync(vectors)
    ? (JSON.parse(readFileSync(vectors, 'utf8')) as { cases: Vector[] }).cases
    : []
  test("has AWS's test suite at hand", { skip: cases.length === 0 && 'not in this clone' }, () => {
    const carried = cases.filter(({ name }) => !(name in NOT_IN_A_URL))
    assert.ok(carried.length >= 28, `${carried.length} of ${cases.length}`)
    assert.deepEqual(
      Object.keys(NOT_IN_A_URL).filter((name) => !cases.some((vector) => vector.name === name)),
      [],
    )
  })
  for (const { name, context, method, target, headers, body, ...expected } of cases) {
    test(`signs AWS's ${name}`, { skip: NOT_IN_A_URL[name] ?? false }, () => {
      const {
        access_key_id: accessKeyId,
        secret_access_key: secretAccessKey,
        token: sessionToken,
      } = context.credentials
      const joined: Record<string, string> = {}
      for (const [header, value] of headers)
        if (!/^(host|x-amz-date)$/i.test(header))
          joined[header] = header in joined ? `${joined[header]},${value}` : value
      // Some vectors sign the hash of the body, as S3 wants it.
      const [hash] = /(?<=^x-amz-content-sha256:).+/m.exec(expected.canonicalRequest) ?? []
      const signed = signing({
        method,
        url: `https://example.amazonaws.com${target}`,
        headers: { ...joined, ...(hash !== undefined && { 'x-amz-content-sha256': hash }) },
        body,
        service: context.service,
        region: context.region,
        credentials: { accessKeyId, secretAccessKey, sessionToken },
        date: new Date(context.timestamp),
      })
      assert.deepEqual(signed, expected)
    })
  }

  test('gives the headers to send, and changes nothing that it was given', () => {
    const request: SignRequest = Object.freeze({
      method: 'POST',
      url: 'https://ssm.eu-west-1.amazonaws.com/',
      headers: Object.freeze({ 'Content-Type': 'application/x-amz-json-1.1' }),
      body: '{}',
      service: 'ssm',
      region: 'eu-west-1',
      credentials: Object.freeze({
        accessKeyId: 'AKID',
        secretAccessKey: 'SECRET',
        sessionToken: 'TOKEN',
      }),
      date: new Date(START),
    })
    const { authorization, ...headers } = sign(request)
    assert.deepEqual(headers, {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-date': '20260102T030405Z',
      'x-amz-security-token': 'TOKEN',
    })
    assert.match(
      authorization ?? '',
      /^AWS4-HMAC-SHA256 Credential=AKID\/20260102\/eu-west-1\/ssm\/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=[0-9a-f]{64}$/,
    )
    assert.deepEqual(sign(request), sign({ ...request, body: new TextEncoder().encode('{}') }))
    const s3 = sign({ ...request, method: 'GET', service: 's3', body: undefined })
    assert.equal(s3['x-amz-content-sha256'], EMPTY)
  })

  test('signs its own output again, to the same signature', () => {
    const request = {
      method: 'GET',
      url: 'https://bucket.s3.eu-west-1.amazonaws.com/key',
      service: 's3',
      region: 'eu-west-1',
      credentials: { accessKeyId: 'a', secretAccessKey: 'b', sessionToken: 'c' },
      date: new Date(START),
    }
    const once = sign(request)
    assert.deepEqual(sign({ ...request, headers: once }), once)
    assert.deepEqual(sign({ ...request, headers: { Authorization: 'Basic x' } }), once)
  })

  test('says that a date is none', async () => {
    const request = {
      method: 'GET',
      url: 'https://a.example.com/',
      service: 'ssm',
      region: 'eu-west-1',
      credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    }
    await failure(
      () => sign({ ...request, date: new Date(NaN) }),
      { code: 'InvalidOptions' },
      'date',
      'Invalid Date',
    )
  })

  test('signs a port, and sorts a query by name and then by value', () => {
    const request = {
      method: 'GET',
      service: 's3',
      region: 'us-east-1',
      credentials: { accessKeyId: 'A', secretAccessKey: 'S' },
      date: new Date(START),
    }
    const lines = (url: string) => signing({ ...request, url }).canonicalRequest.split('\n')
    assert.ok(lines('http://localhost:4566/').includes('host:localhost:4566'))
    assert.equal(
      lines('https://host/?b=2&a-b=1&a=2&a=10&a=%2B%20!')[2],
      'a=%2B%20%21&a=10&a=2&a-b=1&b=2',
    )
    assert.equal(lines('https://host/a//b/%2520/%2B')[1], '/a//b/%2520/%2B')
    const headers = { 'x-a': '1', 'x-a!b': '2', 'X-A-B': '3' }
    assert.deepEqual(
      signing({ ...request, url: 'https://host/', headers })
        .canonicalRequest.split('\n')
        .slice(4, 9),
      [
        'x-a:1',
        'x-a!b:2',
        'x-a-b:3',
        `x-amz-content-sha256:${EMPTY}`,
        'x-amz-date:20260102T030405Z',
      ],
    )
  })
})

// ---- Credentials ----

describe('credentials', () => {
  const {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_SESSION_TOKEN: sessionToken,
  } = ENVIRONMENT
  const container = (expiresIn = HOUR, id = accessKeyId) =>
    reply(200, {
      AccessKeyId: id,
      SecretAccessKey: secretAccessKey,
      Token: sessionToken,
      Expiration: new Date(Date.now() + expiresIn).toISOString(),
    })

  /** A fetch that gives the container's credentials, and AWS's answers. */
  function scripted(credentials: Answer | (() => Answer) = () => container()) {
    const { fetch, sent } = script((request) => {
      if (request.headers['x-amz-date']) return SSM.answer('value')
      if (typeof credentials === 'function') return credentials()
      return credentials instanceof Response ? credentials.clone() : credentials
    })
    const asked = () => sent.filter(({ headers }) => !headers['x-amz-date'])
    const signed = () => sent.filter(({ headers }) => headers['x-amz-date'])
    return { fetch, sent, asked, signed }
  }

  function containerEnvironment(uri: string, more: Record<string, string> = {}): void {
    const variable = uri.startsWith('/')
      ? 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'
      : 'AWS_CONTAINER_CREDENTIALS_FULL_URI'
    setEnvironment({ AWS_REGION: 'us-east-1', [variable]: uri, ...more })
  }

  test('come from the environment, anew for every signature', async () => {
    const { fetch, sent } = script(SSM.answer('value'))
    await SSM.read({ fetch })
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'other', AWS_SESSION_TOKEN: 'other-token' })
    await SSM.read({ fetch, maxAge: 0 })
    delete process.env.AWS_SESSION_TOKEN
    await SSM.read({ fetch, maxAge: 0 })
    assert.deepEqual(
      sent.map(({ headers }) => headers['x-amz-security-token']),
      [sessionToken, 'other-token', undefined],
    )
    assert.match(sent[1]?.headers.authorization ?? '', /Credential=other\//)
    for (const { headers } of sent) assert.ok(!JSON.stringify(headers).includes(secretAccessKey))
  })

  test('come from the environment before the container', async () => {
    const { fetch, asked } = scripted()
    process.env.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI = '/credentials'
    await SSM.read({ fetch })
    assert.equal(asked().length, 0)
  })

  const ALLOWED: readonly [uri: string, url: string][] = [
    ['/v2/credentials/id?a=b', 'http://169.254.170.2/v2/credentials/id?a=b'],
    ...[
      'http://127.0.0.1:1234/c',
      'http://127.1.2.3/c',
      'http://localhost/c',
      'http://localhost:80/c',
      'http://[::1]:80/c',
      'http://169.254.170.2/c',
      'http://169.254.170.23/v1/credentials',
    ].map((uri): [string, string] => [uri, uri]),
    ['http://[fd00:ec2::23]/v1/credentials', 'http://[fd00:ec2::23]/v1/credentials'],
    ['https://credentials.example.com/c', 'https://credentials.example.com/c'],
  ]
  for (const [uri, url] of ALLOWED) {
    test(`come from ${uri}`, async () => {
      containerEnvironment(uri)
      const { fetch, asked, signed } = scripted()
      assert.equal(await SSM.read({ fetch }), 'value')
      assert.deepEqual(
        asked().map((request) => [request.url, request.method, request.headers]),
        [[url, 'GET', {}]],
      )
      assert.equal(signed()[0]?.headers['x-amz-security-token'], sessionToken)
      assert.match(
        signed()[0]?.headers.authorization ?? '',
        new RegExp(`Credential=${accessKeyId}/`),
      )
    })
  }

  const REFUSED_URIS: readonly (readonly [variable: 'FULL' | 'RELATIVE', uri: string])[] = [
    ...[
      ...[
        '169.254.169.254',
        '169.254.170.3',
        '169.254.170.24',
        '169.254.170.231',
        '10.0.0.1',
        '192.168.1.1',
        '172.16.0.1',
        '8.8.8.8',
        '0.0.0.0',
        'example.com',
      ],
      ...[
        '2852039166',
        '0xa9fea9fe',
        '0251.0376.0251.0376',
        '1270.0.0.1',
        '12.7.0.0.1',
        '[::ffff:169.254.169.254]',
        '[fd00:ec2::254]',
        '[fe80::1]',
      ],
      ...[
        'localhost.example.com',
        '127.0.0.1.example.com',
        '169.254.170.2.example.com',
        'example.com#169.254.170.2',
        'example.com/http://127.0.0.1',
      ],
      ...[
        '127.0.0.1@example.com',
        '169.254.170.2:80@example.com',
        'localhost:a@example.com',
        'user:secret@example.com',
        '169.254.170.2\\@example.com',
        'example.com\\@127.0.0.1',
      ],
    ].map((host) => ['FULL', `http://${host}/c`] as const),
    ...['ftp://127.0.0.1/c', 'file:///etc/passwd', '127.0.0.1/c', 'data:,{}'].map(
      (uri) => ['FULL', uri] as const,
    ),
    ...[
      '@example.com/c',
      '.example.com/c',
      ':80@example.com/c',
      '0/c',
      '31/c',
      '3.example.com/c',
    ].map((path) => ['RELATIVE', path] as const),
  ]
  for (const [variable, uri] of REFUSED_URIS) {
    test(`do not come from ${variable}_URI ${uri}`, async () => {
      setEnvironment({
        AWS_REGION: 'us-east-1',
        [`AWS_CONTAINER_CREDENTIALS_${variable}_URI`]: uri,
      })
      const { fetch, sent } = scripted()
      await failure(SSM.read({ fetch }), { code: 'NoCredentials', source: 'ssm', id: SSM.id })
      assert.equal(sent.length, 0)
    })
  }

  test("carry the container's token, from the file before the variable, read every time", async () => {
    const file = join(await temporaryFolder(), 'token')
    const { fetch, asked } = scripted(() => container(-HOUR))
    containerEnvironment('/c', { AWS_CONTAINER_AUTHORIZATION_TOKEN: `${CANARY}-token` })
    await SSM.read({ fetch })
    process.env.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE = file
    for (const token of ['first', 'second']) {
      await writeFile(file, `${token}\n`)
      await SSM.read({ fetch, maxAge: 0 })
    }
    assert.deepEqual(
      asked().map(({ headers }) => headers),
      [
        { authorization: `${CANARY}-token` },
        { authorization: 'first' },
        { authorization: 'second' },
      ],
    )
  })

  test('are renewed five minutes before they expire', async () => {
    containerEnvironment('/c')
    const { fetch, asked } = scripted()
    const read = () => SSM.read({ fetch, maxAge: 0 })
    await read()
    pass(55 * MINUTE - 1)
    await read()
    assert.equal(asked().length, 1)
    pass(2)
    await read()
    assert.equal(asked().length, 2)
  })

  test('serve to their end where they cannot be renewed', async () => {
    containerEnvironment('/c')
    let answer: Answer = container()
    const { fetch } = scripted(() => answer)
    const read = () => getParameter(SSM.id, { fetch, maxAge: 0, staleIfError: 0 })
    await read()
    pass(56 * MINUTE)
    for (const failing of [reply(404), reply(500, `${CANARY}-body`), unreachable('ECONNRESET')]) {
      answer = failing
      assert.equal(await read(), 'value')
    }
    pass(4 * MINUTE)
    await failure(read(), { code: 'NetworkError' })
  })

  test('are fetched once for concurrent calls', async () => {
    containerEnvironment('/c')
    const { fetch, asked, signed } = scripted()
    await Promise.all([
      SSM.read({ fetch }),
      getSecret('a', { fetch }).catch(() => {}),
      getParameter('/b', { fetch, region: 'eu-west-1' }).catch(() => {}),
    ])
    assert.equal(asked().length, 1)
    assert.equal(signed().length, 3)
  })

  test('are asked for again after a failure', async () => {
    containerEnvironment('/c')
    const answers = [reply(404, `${CANARY}-body`), container()]
    const { fetch } = scripted(() => present(answers.shift()))
    assertKeepsSecrets(
      await failure(SSM.read({ fetch }), { code: 'NoCredentials', httpStatus: 404 }),
    )
    assert.equal(await SSM.read({ fetch }), 'value')
  })

  const BAD_ANSWERS: readonly [what: string, answer: Response][] = [
    ['a refusal', reply(403, `${CANARY}-body`)],
    ['a redirect', reply(302, '', { location: 'http://169.254.169.254/' })],
    ['a page', reply(200, `<html>${CANARY}-body`)],
    ['null', reply(200, 'null')],
    ['nothing in it', reply(200, {})],
    ['more than 8 MiB', reply(200, `"${'x'.repeat(8 * 1024 * 1024)}"`)],
  ]
  for (const [what, answer] of BAD_ANSWERS) {
    test(`that the container answers with ${what} are none`, async () => {
      containerEnvironment('/c')
      const { fetch, signed } = scripted(answer)
      assertKeepsSecrets(await failure(SSM.read({ fetch }), { source: 'ssm', id: SSM.id }))
      assert.equal(signed().length, 0)
    })
  }

  test('that cannot be had say so, with what the container answered', async () => {
    containerEnvironment('/c')
    const none: readonly [answer: Answer, details: Partial<ErrorDetails>, message: string][] = [
      ...[400, 403, 404].map((status): (typeof none)[number] => [
        reply(status, `${CANARY}-body`),
        { code: 'NoCredentials', httpStatus: status },
        `HTTP ${status} without credentials from http://169.254.170.2`,
      ]),
      [
        unreachable('ECONNRESET'),
        { code: 'NetworkError' },
        'no answer from http://169.254.170.2 (ECONNRESET)',
      ],
      [
        reply(200, `{"AccessKeyId":"${CANARY}`),
        { code: 'InvalidAnswer', httpStatus: 200 },
        "http://169.254.170.2 answered HTTP 200 with text/plain, not with AWS's JSON",
      ],
      [
        reply(200, { AccessKeyId: `${CANARY}-id` }),
        { code: 'NoCredentials' },
        'no AccessKeyId and SecretAccessKey from http://169.254.170.2',
      ],
    ]
    for (const [answer, details, message] of none) {
      const { fetch, signed } = scripted(answer)
      const error = await failure(SECRETS.read({ fetch }), {
        source: 'secrets',
        id: SECRETS.id,
        ...details,
      })
      assert.ok(
        error.message.startsWith(`secrets ${SECRETS.id}: container credentials: ${message}`),
        error.message,
      )
      assertKeepsSecrets(error)
      assert.equal(signed().length, 0)
    }
  })

  test('are not asked for at an address that is none', async () => {
    for (const url of ['https://', 'https://a b/', 'https://[::1/', 'https://host:99999/']) {
      containerEnvironment(url)
      const { fetch, sent } = scripted()
      await failure(
        SSM.read({ fetch }),
        { code: 'NoCredentials' },
        'AWS_CONTAINER_CREDENTIALS_FULL_URI',
      )
      assert.equal(sent.length, 0)
    }
  })

  test('that no header can carry are not taken for an answer', async () => {
    setEnvironment({ ...ENVIRONMENT, AWS_ACCESS_KEY_ID: `${CANARY}\nline` })
    const { fetch, sent } = script(SSM.answer('value'))
    assertKeepsSecrets(await failure(SSM.read({ fetch }), { code: 'RequestFailed' }, 'header'))
    assert.equal(sent.length, 0)
  })

  describeOverBoth('of a real container endpoint', () => {
    test('come over real sockets, and do not follow a redirect there', async () => {
      const aws = await local({ parameters: { '/app/value': 'value' } })
      const visits: (string | undefined)[] = []
      const url = await serve(({ url, headers }, response) => {
        visits.push(`${url} ${headers.authorization}`)
        if (url === '/moved')
          return void response.writeHead(302, { location: '/credentials' }).end()
        const {
          AWS_ACCESS_KEY_ID: AccessKeyId,
          AWS_SECRET_ACCESS_KEY: SecretAccessKey,
          AWS_SESSION_TOKEN: Token,
        } = aws.env
        response.end(
          JSON.stringify({
            AccessKeyId,
            SecretAccessKey,
            Token,
            Expiration: new Date(START + HOUR).toISOString(),
          }),
        )
      })
      const more = { AWS_ENDPOINT_URL: aws.url, AWS_CONTAINER_AUTHORIZATION_TOKEN: 'token' }
      containerEnvironment(`${url}/moved`, more)
      await failure(SSM.read(), { code: 'NoCredentials', httpStatus: 302 })
      containerEnvironment(`${url}/credentials`, more)
      assert.equal(await SSM.read(), 'value')
      assert.deepEqual(visits, ['/moved token', '/credentials token'])
    })
  })

  describe('of the option `credentials`', () => {
    const given = (accessKeyId: string, expiresIn?: number): Credentials => ({
      accessKeyId,
      secretAccessKey: `${CANARY}-key`,
      sessionToken: `${CANARY}-token`,
      ...(expiresIn && { expiration: new Date(Date.now() + expiresIn) }),
    })
    const keysIn = (sent: readonly Sent[]) =>
      sent.map(({ headers }) => /Credential=(.*?)\//.exec(headers.authorization ?? '')?.[1])

    test('sign what withCache and direct access read, before the environment', async () => {
      const { fetch, sent } = script(SSM.answer('value'))
      const credentials = () => given('provided')
      await invoking({ ...SSM.entry(), fetch, credentials })()
      await SSM.read({ fetch, credentials, maxAge: 0 })
      setEnvironment({ AWS_REGION: 'us-east-1' })
      await SSM.read({ fetch, credentials: async () => given('promised'), maxAge: 0 })
      assert.deepEqual(keysIn(sent), ['provided', 'provided', 'promised'])
      for (const { headers } of sent)
        assert.equal(headers['x-amz-security-token'], `${CANARY}-token`)
    })

    for (const [code, source] of [
      ['ExpiredTokenException', SSM],
      ['UnrecognizedClientException', SECRETS],
      ['InvalidClientTokenId', SECRETS],
      ['InvalidAccessKeyId', S3],
      ['ExpiredToken', S3],
    ] as const)
      test(`are asked for once more where AWS no longer takes them: ${code}`, async () => {
        const over = source === S3 ? xml(403, code) : refusal(code)
        const { fetch, sent } = script(({ headers }) =>
          /Credential=(.*?)\//.exec(headers.authorization ?? '')?.[1] === 'new'
            ? source.answer('value')
            : over,
        )
        const names = ['old', 'new']
        const credentials = mock.fn(() => given(names.shift() ?? 'newer', HOUR))
        assert.equal(await source.read({ fetch, credentials }), 'value')
        assert.deepEqual(keysIn(sent), ['old', 'new'])
        assert.equal(await source.read({ fetch, credentials, maxAge: 0 }), 'value')
        assert.equal(credentials.mock.callCount(), 2, 'and are kept')
      })

    test('that AWS never takes are asked for twice, and the error is its own', async () => {
      const { fetch, sent } = script(refusal('ExpiredTokenException'))
      const credentials = mock.fn(() => given('old', HOUR))
      await failure(SSM.read({ fetch, credentials }), { code: 'ExpiredTokenException' })
      assert.deepEqual([sent.length, credentials.mock.callCount()], [2, 2])
    })

    test('without a session token are sent without one', async () => {
      const { fetch, sent } = script(SSM.answer('value'))
      const credentials = () => ({ accessKeyId: 'long-lived', secretAccessKey: 'key' })
      await SSM.read({ fetch, credentials })
      assert.equal(sent[0]?.headers['x-amz-security-token'], undefined)
    })

    for (const source of SOURCES) {
      test(`never share what they read: ${source.source}`, async () => {
        const { fetch, sent } = script((request) =>
          source.answer(/Credential=(.*?)\//.exec(request.headers.authorization ?? '')?.[1] ?? ''),
        )
        const [ours, theirs] = [() => given('ours'), () => given('theirs')]
        const read = (credentials?: () => Credentials) =>
          source.read({ fetch, ...(credentials && { credentials }) })
        for (let round = 0; round < 2; round += 1) {
          const values = await Promise.all([read(ours), read(theirs), read()])
          assert.deepEqual(values, ['ours', 'theirs', ENVIRONMENT.AWS_ACCESS_KEY_ID])
        }
        assert.equal(sent.length, 3)
      })
    }

    test('share a file that they download to, if AWS lets each of them read it', async () => {
      const file = join(await temporaryFolder(), 'object')
      const { fetch, sent } = script(reply(200, 'content'), xml(403, 'AccessDenied'))
      const read = (credentials: () => Credentials) =>
        getObject('s3://bucket/key', { file, fetch, credentials })
      await read(() => given('ours'))
      const theirs = read(() => given('theirs'))
      await failure(theirs, { code: 'AccessDenied' })
      assert.equal(sent.length, 2)
    })

    test('are asked for with every signature, where they do not expire', async () => {
      const ids = ['first', 'second', 'third']
      const { fetch, sent } = script(reply(500), SSM.answer('value'))
      const credentials = () => given(present(ids.shift()))
      await SSM.read({ fetch, credentials })
      await SSM.read({ fetch, credentials, maxAge: 0 })
      assert.deepEqual(keysIn(sent), ['first', 'second', 'third'])
    })

    test('are kept until five minutes before they expire', async () => {
      const { fetch, sent } = script(SSM.answer('value'))
      let calls = 0
      const credentials = () => {
        calls += 1
        return given(`call-${calls}`, HOUR)
      }
      const read = () => SSM.read({ fetch, credentials, maxAge: 0 })
      await Promise.all([read(), getSecret('a', { fetch, credentials }).catch(() => {})])
      pass(55 * MINUTE - 1)
      await read()
      assert.equal(calls, 1)
      pass(2)
      await read()
      assert.equal(calls, 2)
      assert.deepEqual(keysIn(sent), ['call-1', 'call-1', 'call-1', 'call-2'])
    })

    test('serve to their end where the function fails', async () => {
      const { fetch } = script(SSM.answer('value'))
      let credentials = (): Credentials => given('id', HOUR)
      const read = () => SSM.read({ fetch, credentials: provider, maxAge: 0 })
      const provider = () => credentials()
      await read()
      credentials = () => {
        throw Error(CANARY)
      }
      pass(56 * MINUTE)
      assert.equal(await read(), 'value')
      pass(4 * MINUTE)
      clearCache()
      assertKeepsSecrets(await failure(read(), { code: 'NoCredentials' }))
    })

    test('that cannot be had are an error without what was thrown, or returned', async () => {
      const providers: readonly (() => unknown)[] = [
        () => {
          throw Error(`${CANARY}-thrown`)
        },
        () => Promise.reject(new LambdaCacheError(CANARY, { code: CANARY })),
        () => Promise.reject(),
        () => undefined,
        () => `${CANARY}-text`,
        () => ({}),
        () => ({ accessKeyId: CANARY }),
        () => ({ secretAccessKey: CANARY }),
      ]
      for (const provider of providers) {
        const { fetch, sent } = script(SSM.answer('value'))
        const credentials = provider as () => Credentials
        const error = await failure(
          SSM.read({ fetch, credentials }),
          { code: 'NoCredentials', source: 'ssm', id: SSM.id },
          `ssm ${SSM.id}: the function \`credentials\` `,
        )
        assertKeepsSecrets(error)
        assert.equal(error.cause, undefined)
        assert.equal(sent.length, 0)
      }
    })

    test('that hang hold an invocation to its deadline, and no later one', async () => {
      let credentials = (): Promise<Credentials> => new Promise(() => {})
      const { fetch } = script(SSM.answer('value'))
      const handler = withCache(async (_: object, context) => context, {
        ...SSM.entry(),
        fetch,
        credentials: () => credentials(),
      })
      await failure(handler({}, contextWith(300)), { code: 'Timeout' })
      credentials = async () => given('id')
      await handler({}, contextWith(3000))
    })

    test('may be what a custom entry loads', async () => {
      const { fetch } = script(SSM.answer('value'))
      const credentials = async () => given('id')
      const values = await invoking(
        { ...SSM.entry(), custom: [{ as: 'own', load: credentials }], fetch, credentials },
        'own',
      )()
      assert.deepEqual(values, [given('id')])
    })

    test('are a function, for withCache and for direct access only', async () => {
      const credentials = given('id') as never
      assert.throws(() => withCache(() => {}, { credentials }), { code: 'InvalidOptions' })
      await failure(
        SSM.read({ credentials }),
        { code: 'InvalidOptions' },
        'getParameter: credentials: expected a function that returns credentials, got an object',
      )
      const name = { name: '/a', credentials: () => given('id') }
      assert.throws(() => withCache(() => {}, { ssm: [name as { name: string }] }), {
        code: 'InvalidOptions',
      })
    })
  })

  test('that are nowhere are asked for by name', async () => {
    for (const partial of [{}, { AWS_ACCESS_KEY_ID: 'id' }, { AWS_SECRET_ACCESS_KEY: 'secret' }]) {
      setEnvironment({ AWS_REGION: 'us-east-1', ...partial })
      const { fetch, sent } = scripted()
      const variables = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'option `credentials`']
      await failure(SSM.read({ fetch }), { code: 'NoCredentials' }, ...variables)
      assert.equal(sent.length, 0)
    }
  })
})

// ---- Endpoints ----

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

// ---- The file itself ----

describe('lambda-cache.ts', () => {
  const path = fileURLToPath(new URL('lambda-cache.ts', import.meta.url))
  const source = readFileSync(path, 'utf8')
  const code = source.replace(/^\s*(\/\/|\/\*|\*).*$/gm, '')

  test('begins with its licence, version and copyright, and a map that its banners match', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    const [, holder] = /Copyright \(c\) \d+ (.*)/.exec(readFileSync('LICENSE', 'utf8')) ?? []
    const [licence = ''] = source.split('\n')
    const [, date] = / \| (\d{4}-\d\d-\d\d) \| /.exec(licence) ?? []
    assert.equal(licence, `/*! lambda-cache ${version} | ${date} | MIT | (c) ${holder} */`)
    // The newest entry is of this very file: one that has changed is another version.
    const [, newest = ''] = readFileSync('CHANGELOG.md', 'utf8').split(/^(?=## )/m)
    const [title = '', , hash] = newest.split('\n')
    assert.equal(title, `## ${version}, ${date}`)
    const sha256 = crypto.createHash('sha256').update(source).digest('hex')
    assert.equal(hash, `sha256 of lambda-cache.ts: \`${sha256}\``)
    const [, list = ''] = /In this file.*\n.*:\n((?:\/\/ {3}\S.*\n)+)/.exec(source) ?? []
    const map = [...list.matchAll(/^\/\/ {3}(.+)$/gm)].map(([, name]) => name)
    const banners = [...source.matchAll(/^\/\/ -+ (.+?) -+$/gm)].map(([, name]) => name)
    assert.ok(map.length > 5, 'a map')
    assert.deepEqual(banners, map)
  })

  test('leaves a bundle without what it does not import', () => {
    const CARRIED: readonly [names: string, has: RegExp[], hasNot: RegExp[]][] = [
      ['sign', [/AWS4/], [/GetParameter|GetSecretValue|GetObject/, /NoCredentials/, /stream/]],
      ['getSecret', [/GetSecretValue/], [/GetParameter/, /GetObject/, /writeFile/, /Decompress/]],
      ['getParameter', [/GetParameters/], [/GetSecretValue/, /GetObject/, /writeFile/]],
      ['getObject', [/GetObject/], [/GetParameter/, /GetSecretValue/]],
      ['withCache', [/GetParameters/, /GetSecretValue/, /GetObject/], [/Decompress/]],
    ]
    for (const [names, has, hasNot] of CARRIED) {
      const code = bundleOf(names)
      for (const words of has) assert.match(code, words, names)
      for (const words of hasNot) assert.doesNotMatch(code, words, names)
    }
  })

  test('has no `any`, no invisible characters, and imports what Node has', () => {
    assert.deepEqual(code.match(/(?:\bas|[:<|&,=(])\s*any\b.*/g) ?? [], [])
    assert.deepEqual(source.match(/[^\P{C}\n]|[^\P{Z} ]/gu) ?? [], [])
    assert.deepEqual(source.match(/(eslint|@ts|prettier|biome)-\w+/g) ?? [], [])
    assert.deepEqual(
      source.split('\n').filter((line) => /^ *(\*|\/\/|\/\*)/.test(line) && line.length > 100),
      [],
      'comments of more than 100 columns',
    )
    const modules = [...code.matchAll(/(?:\bfrom|\bimport\(|\brequire\()\s*'([^']+)'/g)].map(
      ([, name]) => present(name),
    )
    assert.ok(modules.length > 0)
    assert.deepEqual(
      modules.filter((name) => !name.startsWith('node:')),
      [],
    )
  })

  const STRICT = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    noPropertyAccessFromIndexSignature: true,
    noImplicitOverride: true,
    noImplicitReturns: true,
    noUnusedLocals: true,
    noUnusedParameters: true,
    verbatimModuleSyntax: true,
    isolatedModules: true,
    isolatedDeclarations: true,
    erasableSyntaxOnly: true,
    declaration: true,
    noEmit: true,
    lib: ['es2022'],
    types: ['node'],
  }
  const PROJECTS: readonly [title: string, type: string, compilerOptions: object][] = [
    ['nodenext', 'module', { module: 'nodenext', target: 'es2022' }],
    [
      'nodenext, the latest target',
      'module',
      { module: 'nodenext', target: 'esnext', lib: ['esnext'] },
    ],
    ['a bundler', 'module', { module: 'esnext', moduleResolution: 'bundler', target: 'esnext' }],
    ['no types named', 'module', { module: 'nodenext', target: 'es2022', types: [] }],
    ['as ES2020', 'module', { module: 'nodenext', target: 'es2020' }],
    [
      'as ES2019, with the DOM',
      'module',
      { module: 'nodenext', target: 'es2019', lib: ['es2019', 'dom'] },
    ],
    [
      'strict but for null',
      'module',
      {
        module: 'nodenext',
        target: 'es2022',
        strictNullChecks: false,
        exactOptionalPropertyTypes: false,
      },
    ],
    [
      'strict alone',
      'module',
      {
        module: 'nodenext',
        target: 'es2022',
        exactOptionalPropertyTypes: false,
        noUncheckedIndexedAccess: false,
        noPropertyAccessFromIndexSignature: false,
        isolatedDeclarations: false,
      },
    ],
    ['CommonJS', 'commonjs', { module: 'commonjs', target: 'es2022', verbatimModuleSyntax: false }],
  ]
  const USER = `
import { getSecret, json, LambdaCacheError, withCache, type LambdaContext } from './lambda-cache.js'

interface Flags { readonly dark: boolean }

async function handle(event: { readonly id: number }, context: LambdaContext & { readonly url: string; readonly flags: Flags }): Promise<string> {
  return context.flags.dark ? context.url : String(event.id)
}

export const handler: (event: { readonly id: number }, context: LambdaContext) => Promise<string> = withCache(
  async (event: { readonly id: number }, context) => handle(event, context),
  { ssm: ['/app/url'], secrets: [{ id: 'flags', parse: json<Flags> }] },
)

export async function password(): Promise<string | undefined> {
  try {
    return await getSecret('password', { maxAge: 0 })
  } catch (error) {
    if (error instanceof LambdaCacheError && error.code === 'ResourceNotFoundException') return undefined
    throw error
  }
}
`
  for (const [title, type, compilerOptions] of PROJECTS) {
    test(`compiles in somebody else's project: ${title}`, async () => {
      const folder = await temporaryFolder()
      const typeRoots = [fileURLToPath(new URL('node_modules/@types', import.meta.url))]
      await writeFile(join(folder, 'lambda-cache.ts'), source)
      await writeFile(join(folder, 'handler.ts'), USER)
      await writeFile(join(folder, 'package.json'), JSON.stringify({ type }))
      await writeFile(
        join(folder, 'tsconfig.json'),
        JSON.stringify({ compilerOptions: { ...STRICT, typeRoots, ...compilerOptions } }),
      )
      const typescript = fileURLToPath(new URL('node_modules/typescript/bin/tsc', import.meta.url))
      const output = await promisify(execFile)(process.execPath, [typescript, '-p', folder]).then(
        () => '',
        ({ stdout }: { stdout: string }) => stdout,
      )
      assert.equal(output, '')
    })
  }
})

// What follows runs last, and is not in the order of the sections.
for (const name of [
  'programs',
  'crowd',
  'faults',
  'situations',
  'surroundings',
  'memory',
  'refreshes',
  'processes',
  'readme',
])
  await import(`./tests/${name}.js`)
