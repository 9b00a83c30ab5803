/**
 * `npm run errors`: the mistakes and failures that a user meets, each made for real, with what the library says. The tests hold every
 * message against what it has to name, and look for secrets in everything that a logger could make of it.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, promises, readFileSync, rmSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type LocalAws, type LocalRequest, startLocalAws } from '../examples/local-aws.js'
import {
  clearCache,
  type Fetch,
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  httpsFetch,
  json,
  LambdaCacheError,
  type Options,
  sign,
  withCache,
  withCacheStream,
} from '../lambda-cache.js'
import { lambdaContext } from './context.js'

/** What holds this word is secret. */
const CANARY = 'canary'

export interface Row {
  readonly mistake: string
  /** What the message has to name. */
  readonly says: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  act(stage: Stage): unknown
}

/** What a row has: an AWS that speaks from memory, and folders. */
interface Stage {
  readonly aws: LocalAws
  readonly folder: string
  /** Node's own. */
  readonly fetch: Fetch
  /** Every request is answered so. */
  answer(status: number, body: string | object, headers?: Record<string, string>): void
  /** What is given back when the row is over. */
  defer(cleanup: () => unknown): void
}

/** What came of a row. */
export interface Outcome {
  readonly message: string
  readonly error?: unknown
}

const handler = (): void => {}

function wrap(options: object): unknown {
  return withCache(handler, options as Options)
}

/** One invocation with so much time left. */
function invoke(options: object, remaining = 3000): Promise<unknown> {
  const context = { ...lambdaContext(), getRemainingTimeInMillis: () => remaining }
  return Promise.resolve(withCache(handler, options as Options)({}, context))
}

/** A fetch that fails as Node's does where the network does. */
function failing(code: string): Fetch {
  const cause = Object.assign(new Error(`${CANARY} ${code}`), { code })
  return async () => {
    throw new TypeError('fetch failed', { cause })
  }
}

async function selfSigned({ folder, defer }: Stage): Promise<string> {
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1']
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-days', '2', ...subject, '-keyout', key, '-out', cert],
    ],
    { stdio: 'ignore' },
  )
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  defer(() => server.close())
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const ARN = 'arn:aws:secretsmanager:us-east-1:123456789012:secret:db-AbCdEf'
const PAGE = `<html><body>${CANARY}: please log in</body></html>`
const HTML = { 'content-type': 'text/html; charset=utf-8' }
const KMS_SENTENCE =
  'The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.'

// ---- Options ----

const OPTIONS: readonly Row[] = [
  {
    mistake: 'two parameters with one last segment',
    says: ['ssm[0] and ssm[1]', '`x`', '/app/prod/x', '/app/dev/x', 'set `as`'],
    act: () => wrap({ ssm: ['/app/prod/x', '/app/dev/x'] }),
  },
  {
    mistake: 'the secret and the parameter have one last segment',
    says: ['ssm[0] and secrets[0]', '`db`', 'set `as`'],
    act: () => wrap({ ssm: ['/prod/db'], secrets: ['/prod/db'] }),
  },
  {
    mistake: 'maxage',
    says: ['withCache', '`maxage`', 'Did you mean `maxAge`?', 'Known: ', 'staleIfError'],
    act: () => wrap({ maxage: 30 }),
  },
  {
    mistake: 'max_age in an entry',
    says: ['ssm[0]', '`max_age`', '`maxAge`', 'Known: '],
    act: () => wrap({ ssm: [{ name: '/a', max_age: 30 }] }),
  },
  {
    mistake: 'secret in the singular',
    says: ['withCache', '`secret`', 'Did you mean `secrets`?'],
    act: () => wrap({ secret: ['a'] }),
  },
  {
    mistake: 's3 entry with path',
    says: ['s3[0]', '`path`', "`uri: 's3://bucket/key'`"],
    act: () => wrap({ s3: [{ path: 's3://bucket/key' }] }),
  },
  {
    mistake: 'secret with name',
    says: ['secrets[0]', '`name`', 'A secret has `id`'],
    act: () => wrap({ secrets: [{ name: 'db' }] }),
  },
  {
    mistake: 'entry with staleIfError',
    says: ['ssm[0]', '`staleIfError` is an option of withCache'],
    act: () => wrap({ ssm: [{ name: '/a', staleIfError: 30 }] }),
  },
  {
    mistake: 'name with a slash at its end',
    says: ["ssm[0] '/app/prod/'", 'slash', 'set `as`', '`path`'],
    act: () => wrap({ ssm: ['/app/prod/'] }),
  },
  {
    mistake: "maxAge: '60'",
    says: ['withCache.maxAge', 'a number of seconds >= 0', "'60'"],
    act: () => wrap({ maxAge: '60' }),
  },
  {
    mistake: 'maxAge: NaN',
    says: ['ssm[0].maxAge', 'a number of seconds >= 0', 'NaN'],
    act: () => wrap({ ssm: [{ name: '/a', maxAge: Number('x') }] }),
  },
  {
    mistake: 'LAMBDA_CACHE_MAX_AGE=5m',
    says: ['LAMBDA_CACHE_MAX_AGE', 'a number of seconds >= 0', "'5m'"],
    environment: { LAMBDA_CACHE_MAX_AGE: '5m' },
    act: () => wrap({ ssm: ['/a'] }),
  },
  {
    mistake: "a secret's ARN without as",
    says: ['secrets[0]', 'random characters', 'set `as`'],
    act: () => wrap({ secrets: [ARN] }),
  },
  {
    mistake: 'a folder in S3',
    says: ["s3[0] 's3://bucket/folder/'", 'names a folder', '`as` and `file`'],
    act: () => wrap({ s3: ['s3://bucket/folder/'] }),
  },
  {
    mistake: 'the region contradicts the ARN',
    says: ['secrets[0]', 'us-east-1', '`region` says eu-west-1'],
    act: () => wrap({ secrets: [{ id: ARN, as: 'db', region: 'eu-west-1' }] }),
  },
  {
    mistake: 'credentials as an object',
    says: ['withCache.credentials', 'a function that returns', 'an object'],
    act: () => wrap({ credentials: { accessKeyId: `${CANARY}` } }),
  },
  {
    mistake: 'two objects with one file name',
    says: ['s3[0] and s3[1]', '/tmp/model.bin', 'set `file` in one'],
    act: () => wrap({ s3: ['s3://one/model.bin', { uri: 's3://two/model.bin', as: 'other' }] }),
  },
  {
    mistake: 'file and binary',
    says: ['s3[0]', '`parse`, `binary` and `file`', 'got `binary` and `file`'],
    act: () => wrap({ s3: [{ uri: 's3://bucket/key', binary: true, file: '/tmp/a' }] }),
  },
  {
    mistake: 'list and parse',
    says: ['ssm[0]', '`list` and `parse`'],
    act: () => wrap({ ssm: [{ name: '/a', list: true, parse: json }] }),
  },
  {
    mistake: 'a handler that is not there',
    says: ['withCache: expected a handler', 'undefined'],
    act: () => withCache(undefined as never, {}),
  },
  {
    mistake: 'the arguments in the other order',
    says: ['withCache(handler, options)', 'a function first', 'an object'],
    act: () => withCache({ ssm: ['/a'] } as never, handler as never),
  },
  {
    mistake: 'a handler with a callback',
    says: ['withCache', 'callback', 'not supported', 'return the result'],
    act: () =>
      withCache(
        ((_event: unknown, _context: unknown, callback: () => void) => callback()) as never,
        {},
      ),
  },
  {
    mistake: 'withCacheStream without a handler',
    says: ['withCacheStream: expected a handler', 'undefined'],
    act: () => withCacheStream(undefined as never, {}),
  },
  {
    mistake: 'a name of Lambda',
    says: ['ssm[0]', 'context.functionName', "Lambda's own", 'set `as`'],
    act: () => wrap({ ssm: ['/app/functionName'] }),
  },
  {
    mistake: 'a name of every object',
    says: ['ssm[0]', '`constructor`', 'every object', 'set `as`'],
    act: () => wrap({ ssm: ['/app/constructor'] }),
  },
  {
    mistake: 'ssm as an object',
    says: ['withCache.ssm', 'an array of names or entries', 'an object'],
    act: () => wrap({ ssm: { name: '/a' } }),
  },
  {
    mistake: 'an entry that is undefined',
    says: ['secrets[0]', 'a name, an ARN or { id }', 'undefined'],
    act: () => wrap({ secrets: [undefined] }),
  },
  {
    mistake: 'name: undefined',
    says: ['ssm[0].name', 'a string', 'undefined'],
    act: () => wrap({ ssm: [{ name: undefined }] }),
  },
  {
    mistake: 'names without as',
    says: ['ssm[0]', '`names` needs `as`'],
    act: () => wrap({ ssm: [{ names: ['/a/b'] }] }),
  },
  {
    mistake: 'two names with one last segment',
    says: ['ssm[0].names', '/app/prod/x and /app/dev/x', 'both end in `x`'],
    act: () => wrap({ ssm: [{ names: ['/app/prod/x', '/app/dev/x'], as: 'all' }] }),
  },
  {
    mistake: 'name and names',
    says: ['ssm[0]', '`name`, `names` and `path`', '`name` and `names`'],
    act: () => wrap({ ssm: [{ name: '/a', names: ['/b'], as: 'all' }] }),
  },
  {
    mistake: 'load is a promise',
    says: ['custom[0].load', 'a function', 'a promise'],
    act: () => wrap({ custom: [{ as: 'rates', load: Promise.resolve(1) }] }),
  },
  {
    mistake: 'custom without as',
    says: ['custom[0].as', 'a string', 'undefined'],
    act: () => wrap({ custom: [{ load: () => 1 }] }),
  },
  {
    mistake: 'a path without its slash',
    says: ['ssm[0].path', "starts with '/'", "'app'"],
    act: () => wrap({ ssm: [{ path: 'app', as: 'tree' }] }),
  },
  {
    mistake: 'getParametersByPath without the slash',
    says: ['getParametersByPath: path', "starts with '/'", "'app'"],
    act: () => getParametersByPath('app'),
  },
  {
    mistake: 'getParameter without a name',
    says: ['getParameter: name', 'a string', 'undefined'],
    act: () => getParameter(undefined as never),
  },
  {
    mistake: 'getParameter with as',
    says: ['getParameter', '`as`'],
    act: () => getParameter('/a', { as: 'a' } as never),
  },
  {
    mistake: 'a directory bucket',
    says: ['s3[0].uri', 'directory buckets (--x-s3)', 'not supported'],
    act: () => wrap({ s3: ['s3://b--usw2-az1--x-s3/key'] }),
  },
  {
    mistake: "an access point's ARN",
    says: ['s3[0].uri', 'ARNs are not supported', 's3://bucket/key'],
    act: () => wrap({ s3: ['arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/object/k'] }),
  },
  {
    mistake: 'a key whose last segment is too long for a file',
    says: ['s3[0]', 'no name for a file', 'set `file`'],
    act: () => wrap({ s3: [`s3://bucket/${'x'.repeat(256)}`] }),
  },
  {
    mistake: 'several mistakes at once',
    says: ['withCache.maxAge', 'withCache: unknown option `retry`'],
    act: () => wrap({ maxAge: -1, retry: 3, ssm: ['/a'] }),
  },
  {
    mistake: 'a mistake beside the entries, and one in them',
    says: ['withCache.ssm', 'withCache.maxAge', 'secrets[0]', 's3[0].uri'],
    act: () => wrap({ ssm: '/a', maxAge: -1, secrets: [{ name: 'a' }], s3: ['bucket/key'] }),
  },
  {
    mistake: 'a promise for a handler',
    says: ['a function first', 'a promise'],
    act: () => withCache(Promise.resolve() as never, {}),
  },
  {
    mistake: 'names of other libraries',
    says: ['Did you mean `maxAge`?', 'Did you mean `parse`?', 'Did you mean `decrypt`?'],
    act: () => wrap({ ssm: [{ name: '/a', ttl: 1, transform: 'json', WithDecryption: true }] }),
  },
  {
    mistake: "AWS's spelling of an option",
    says: ['ssm[0]', '`Names`', 'Did you mean `names`?'],
    act: () => wrap({ ssm: [{ Names: ['/a', '/b'], as: 'x' }] }),
  },
  {
    mistake: 'mistakes in several entries',
    says: ['ssm[0].maxAge', 'ssm[0].decrypt', 'secrets[0].id', 's3[0].uri'],
    act: () =>
      wrap({ ssm: [{ name: '/a', maxAge: -1, decrypt: 1 }], secrets: [{ id: '' }], s3: ['a'] }),
  },
  {
    mistake: 'a date that is a text',
    says: ['sign: date', 'a valid Date', "'2026'"],
    act: () =>
      sign({
        method: 'GET',
        url: 'https://example.com',
        service: 's3',
        region: 'us-east-1',
        credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
        date: '2026' as never,
      }),
  },
]

// ---- The context ----

const CONTEXTS: readonly Row[] = [
  {
    mistake: 'the context has the name already',
    says: ['context.a is there already', 'set `as`', 'ssm[0]'],
    act: () => withCache(handler, { ssm: ['/a'] })({}, { ...lambdaContext(), a: 1 } as never),
  },
  {
    mistake: 'a frozen context',
    says: ['the context is frozen', 'withCache', 'define a'],
    act: () => withCache(handler, { ssm: ['/a'] })({}, Object.freeze(lambdaContext())),
  },
]

// ---- The environment ----

const ENVIRONMENTS: readonly Row[] = [
  {
    mistake: 'no region',
    says: ['no region', 'AWS_REGION', 'option `region`'],
    environment: { AWS_REGION: '' },
    act: () => getParameter('/a'),
  },
  {
    mistake: 'an availability zone',
    says: ['region', 'eu-west-1', "'eu-west-1a'", 'availability zone?'],
    environment: { AWS_REGION: 'eu-west-1a', AWS_ENDPOINT_URL: '' },
    act: () => getParameter('/a'),
  },
  {
    mistake: 'no credentials',
    says: ['no credentials', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', '`credentials`'],
    environment: { AWS_ACCESS_KEY_ID: '' },
    act: () => getParameter('/a'),
  },
  {
    mistake: 'a profile',
    says: ['AWS_PROFILE is not read', 'option `credentials`'],
    environment: { AWS_ACCESS_KEY_ID: '', AWS_PROFILE: 'dev' },
    act: () => getParameter('/a'),
  },
  {
    mistake: 'AWS_ENDPOINT_URL without a protocol',
    says: ['AWS_ENDPOINT_URL', 'http(s)://host', "'localhost:4566'"],
    environment: { AWS_ENDPOINT_URL: 'localhost:4566' },
    act: () => getParameter('/a'),
  },
  {
    mistake: 'FIPS with AWS_ENDPOINT_URL',
    says: ['AWS_USE_FIPS_ENDPOINT and AWS_ENDPOINT_URL', 'exclude each other', 'unset one'],
    environment: { AWS_USE_FIPS_ENDPOINT: 'true' },
    act: () => getParameter('/a'),
  },
  {
    mistake: 'an access key with a bullet',
    says: ['AWS_ACCESS_KEY_ID', 'no header can carry'],
    environment: { AWS_ACCESS_KEY_ID: `•${CANARY}` },
    act: () => getParameter('/a'),
  },
  {
    mistake: 'container credentials over http from another host',
    says: ['AWS_CONTAINER_CREDENTIALS_FULL_URI', 'loopback', 'creds.internal'],
    environment: {
      AWS_ACCESS_KEY_ID: '',
      AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://creds.internal/c',
    },
    act: () => getParameter('/a'),
  },
  {
    mistake: 'container credentials without their token file',
    says: ['cannot read /nope', 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE'],
    environment: {
      AWS_ACCESS_KEY_ID: '',
      AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://127.0.0.1:1/c',
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: '/nope',
    },
    act: () => getParameter('/a'),
  },
  {
    mistake: 'the container endpoint answers 500',
    says: ['container credentials', 'HTTP 500', 'http://127.0.0.1:'],
    environment: { AWS_ACCESS_KEY_ID: '' },
    act: ({ aws, answer }) => {
      process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = `${aws.url}/c`
      answer(500, `${CANARY}`)
      return getParameter('/a')
    },
  },
  {
    mistake: 'a secret key that is wrong',
    says: ['InvalidSignatureException', 'does not accept the signature', 'AWS_SECRET_ACCESS_KEY'],
    environment: { AWS_SECRET_ACCESS_KEY: `${CANARY}-wrong` },
    act: () => getSecret('db'),
  },
  {
    mistake: 'a session that is over',
    says: ['ExpiredTokenException', 'The security token', 'the session is over', 'renew'],
    act: ({ answer }) => {
      answer(400, {
        __type: 'ExpiredTokenException',
        message: 'The security token included in the request is expired',
      })
      return getParameter('/a')
    },
  },
  {
    mistake: 'a clock that is wrong for good',
    says: ['RequestTimeTooSkewed', 'the clock here is 60 min behind'],
    act: ({ answer }) => {
      const date = new Date(Date.now() + 3_600_000).toUTCString()
      const body = '<Error><Code>RequestTimeTooSkewed</Code><Message>canary</Message></Error>'
      answer(403, body, { date, 'content-type': 'application/xml' })
      return getObject('s3://bucket/model.bin', { parse: String })
    },
  },
]

// ---- What AWS says ----

const REFUSALS: readonly Row[] = [
  {
    mistake: 'a parameter that IAM denies',
    says: [
      'AccessDeniedException',
      'not authorized to perform: ssm:GetParameters',
      'assumed-role',
      'no identity-based policy',
      'the role needs ssm:GetParameters',
    ],
    act: ({ aws }) => {
      aws.deny('ssm:GetParameters', '/a')
      return getParameter('/a')
    },
  },
  {
    mistake: 'a secret that IAM denies',
    says: ['AccessDeniedException', 'not authorized to perform: secretsmanager:GetSecretValue'],
    act: ({ aws }) => {
      aws.deny('secretsmanager:GetSecretValue', 'db')
      return getSecret('db')
    },
  },
  {
    mistake: 'an object that IAM denies',
    says: [
      'AccessDenied',
      'not authorized to perform: s3:GetObject',
      'the role needs s3:GetObject',
    ],
    act: ({ aws }) => {
      aws.deny('s3:GetObject', 's3://bucket/model.bin')
      return getObject('s3://bucket/model.bin', { parse: String })
    },
  },
  {
    mistake: 'an object that is missing, without s3:ListBucket',
    says: ['AccessDenied', 's3:GetObject', 'does not exist', 'without s3:ListBucket'],
    act: ({ aws }) => {
      aws.deny('s3:ListBucket', 's3://bucket')
      return getObject('s3://bucket/nothing.bin', { parse: String })
    },
  },
  {
    mistake: 'a secret whose key KMS denies',
    says: ['AccessDeniedException', 'Access to KMS is not allowed', 'kms:Decrypt'],
    act: ({ answer }) => {
      answer(400, { __type: 'AccessDeniedException', Message: 'Access to KMS is not allowed' })
      return getSecret('db')
    },
  },
  {
    mistake: 'a parameter whose key KMS denies',
    says: ['AccessDeniedException', KMS_SENTENCE, 'kms:Decrypt'],
    act: ({ answer }) => {
      answer(400, { __type: 'AccessDeniedException', message: KMS_SENTENCE })
      return getParameter('/a')
    },
  },
  {
    mistake: 'a key that is disabled',
    says: ['DecryptionFailure', "can't decrypt the protected secret text"],
    act: ({ answer }) => {
      const Message =
        "Secrets Manager can't decrypt the protected secret text using the provided KMS key."
      answer(400, { __type: 'DecryptionFailure', Message })
      return getSecret('db')
    },
  },
  {
    mistake: 'a parameter that is missing',
    says: ['ParameterNotFound', 'us-east-1', 'check name and region', '`default`'],
    act: () => getParameter('/nope'),
  },
  {
    mistake: 'a version that is gone',
    says: ['ParameterNotFound', 'no version or label 7'],
    act: () => getParameter('/a:7'),
  },
  {
    mistake: 'a secret that is missing',
    says: ['ResourceNotFoundException', 'us-east-1', 'check name and region', '`default`'],
    act: () => getSecret('nope'),
  },
  {
    mistake: 'the wrong region',
    says: ['ResourceNotFoundException', '(eu-central-1)'],
    act: () => getSecret('nope', { region: 'eu-central-1' }),
  },
  {
    mistake: 'a secret that is marked for deletion',
    says: ['InvalidRequestException', 'because it was marked for deletion'],
    act: ({ answer }) => {
      answer(400, {
        __type: 'InvalidRequestException',
        Message:
          "You can't perform this operation on the secret because it was marked for deletion.",
      })
      return getSecret('db')
    },
  },
  {
    mistake: 'throttled to the end',
    says: ['ThrottlingException', 'Rate exceeded', ' attempts in ', '`maxAge`', 'quota', 'timeout'],
    act: ({ answer, fetch }) => {
      answer(400, { __type: 'ThrottlingException', message: 'Rate exceeded' })
      return getParameter('/a', { staleIfError: 0, fetch: throttledThenLate(fetch) })
    },
  },
  {
    mistake: 'AWS answers 500 without a body',
    says: ['HTTP 500 without a body', 'http://127.0.0.1', '3 attempts'],
    act: ({ answer }) => {
      answer(500, '')
      return getSecret('db')
    },
  },
  {
    mistake: "a proxy's page with status 200",
    says: ['http://127.0.0.1', 'HTTP 200 with text/html', "not with AWS's JSON", 'proxy'],
    act: ({ answer }) => {
      answer(200, PAGE, HTML)
      return getParameter('/a')
    },
  },
  {
    mistake: "a proxy's page with status 403",
    says: ['HTTP 403 with text/html from http://127.0.0.1', "not AWS's answer", 'proxy'],
    act: ({ answer }) => {
      answer(403, PAGE, HTML)
      return getSecret('db')
    },
  },
]

/** Throttled three times; then the clock has gone on by more than anybody waits. */
function throttledThenLate(fetch: Fetch): Fetch {
  const { now } = Date
  let calls = 0
  return async (url, init) => {
    calls += 1
    const response = await fetch(url, init)
    if (calls === 3) {
      Date.now = () => now() + 60_000
      setImmediate(() => {
        Date.now = now
      })
    }
    return response
  }
}

// ---- The network and the clock ----

const NETWORK: readonly Row[] = [
  {
    mistake: 'a certificate that is not trusted',
    says: ['certificate', 'not trusted (DEPTH_ZERO_SELF_SIGNED_CERT)', 'NODE_EXTRA_CA_CERTS'],
    act: async (stage) => {
      process.env.AWS_ENDPOINT_URL = await selfSigned(stage)
      return getParameter('/a', { fetch: stage.fetch })
    },
  },
  {
    mistake: 'https to a port that speaks http',
    says: ['no TLS at https://127.0.0.1', 'WRONG_VERSION_NUMBER', 'http:// instead?'],
    act: ({ aws, fetch }) => {
      process.env.AWS_ENDPOINT_URL = aws.url.replace('http:', 'https:')
      return getParameter('/a', { fetch })
    },
  },
  {
    mistake: 'https to a port that speaks http, over httpsFetch',
    says: ['no TLS at https://127.0.0.1', 'http:// instead?'],
    act: ({ aws }) => {
      process.env.AWS_ENDPOINT_URL = aws.url.replace('http:', 'https:')
      return getParameter('/a', { fetch: httpsFetch })
    },
  },
  {
    mistake: 'a host that is not there',
    says: ['cannot resolve', 'ssm.internal.example', 'ENOTFOUND'],
    environment: { AWS_ENDPOINT_URL: 'http://ssm.internal.example' },
    act: () => getParameter('/a', { fetch: failing('ENOTFOUND') }),
  },
  {
    mistake: 'a region that does not exist',
    says: ['cannot resolve', 'ssm.eu-wset-1.amazonaws.com', 'ENOTFOUND', 'does the region exist?'],
    environment: { AWS_REGION: 'eu-wset-1', AWS_ENDPOINT_URL: '' },
    act: () => getParameter('/a', { fetch: failing('ENOTFOUND') }),
  },
  {
    mistake: 'a VPC without a way out, and little time',
    says: ['no answer from http://127.0.0.1', '1 attempt in ', 'VPC', 'NAT'],
    act: ({ aws }) => {
      aws.intercept = () => true
      return invoke({ ssm: ['/a'] }, 500)
    },
  },
  {
    mistake: 'a VPC without a way out, three attempts',
    says: ['no answer from http://127.0.0.1', '3 attempts in ', 'VPC', 'NAT'],
    act: () => getSecret('db', { fetch: failing('UND_ERR_CONNECT_TIMEOUT_timedout') }),
  },
  {
    mistake: 'an invocation with 150 ms left',
    says: ['not asked', '150 ms were left', "raise the function's timeout"],
    act: () => invoke({ ssm: ['/a'] }, 150),
  },
  {
    mistake: 'a load that hangs',
    says: ['custom rates', '`load` did not end within'],
    act: () => invoke({ custom: [{ as: 'rates', load: () => new Promise(() => {}) }] }, 400),
  },
  {
    mistake: 'a stale value is served: the line in the log',
    says: ['lambda-cache: ssm /a: serving the value of ', ' ago: ', 'HTTP 503'],
    act: async ({ answer, defer }) => {
      const read = withCache(handler, { ssm: ['/a'], maxAge: 0.001 })
      await read({}, lambdaContext())
      answer(503, '')
      const { now } = Date
      const { warn } = console
      let line = ''
      defer(() => Object.assign(console, { warn }))
      console.warn = (text: string) => {
        line = text
      }
      Date.now = () => now() + 75_000
      defer(() => Object.assign(Date, { now }))
      await read({}, lambdaContext())
      return line
    },
  },
]

// ---- Functions of the user's own ----

const FUNCTIONS: readonly Row[] = [
  {
    mistake: 'credentials that throw',
    says: ['`credentials` failed with CredentialsProviderError', 'call it yourself'],
    act: () =>
      getParameter('/a', {
        credentials: () => {
          const error = new Error(`${CANARY}: the SSO session has expired`)
          error.name = 'CredentialsProviderError'
          throw error
        },
      }),
  },
  {
    mistake: "credentials in the SDK's version 2",
    says: ['`credentials` returned no accessKeyId and secretAccessKey'],
    act: () => getParameter('/a', { credentials: (() => ({ AccessKeyId: `${CANARY}` })) as never }),
  },
  {
    mistake: 'JSON that is none',
    says: ['parse failed with SyntaxError', 'call `parse` yourself'],
    act: () => getParameter('/broken', { parse: JSON.parse }),
  },
  {
    mistake: 'JSON that breaks off within',
    says: ['parse failed with SyntaxError at position 12'],
    act: () => getParameter('/half', { parse: JSON.parse }),
  },
  {
    mistake: 'a parse that is wrong for one of a tree',
    says: ['ssm /app', '/app/broken', 'SyntaxError'],
    act: () => getParametersByPath('/app', { parse: JSON.parse }),
  },
  {
    mistake: 'a parse with a mistake of its own',
    says: ['parse failed with TypeError', 'call `parse` yourself'],
    act: () => getSecret('db', { parse: (text: string) => (text as never as { a: { b: 1 } }).a.b }),
  },
  {
    mistake: 'a parse that is async',
    says: ['parse returned a promise', '`custom`'],
    act: () => getSecret('db', { parse: async (text: string) => text }),
  },
  {
    mistake: 'a parse that throws null',
    says: ['parse threw null'],
    act: () =>
      getSecret('db', {
        parse: () => {
          throw null
        },
      }),
  },
  {
    mistake: 'JSON after a byte order mark',
    says: ['parse failed with SyntaxError', 'U+FEFF'],
    act: () => getSecret('bom', { parse: JSON.parse }),
  },
  {
    mistake: 'a secret that is binary',
    says: ['the secret is binary', 'set `binary: true`'],
    act: () => getSecret('binary'),
  },
  {
    mistake: 'a binary secret with parse',
    says: ['the secret is binary', '`parse` takes text', '`custom`'],
    act: () => getSecret('binary', { parse: json }),
  },
  {
    mistake: 'a load that throws',
    says: ['custom rates', '`load` threw RangeError', '`cause`'],
    act: () => {
      const load = (): never => {
        throw new RangeError('no rates today')
      }
      return invoke({ custom: [{ as: 'rates', load }] })
    },
  },
  {
    mistake: 'a fetch that returns nothing',
    says: ['the option `fetch` returned undefined', 'no Response'],
    act: () => getParameter('/a', { fetch: (async () => {}) as never }),
  },
  {
    mistake: 'a fetch without headers',
    says: ['the option `fetch` returned an object', 'no Response', '`headers`'],
    act: () => getParameter('/a', { fetch: (async () => ({ json: async () => ({}) })) as never }),
  },
  {
    mistake: 'a fetch whose body is a text',
    says: ['the option `fetch` returned an object', '`body`', 'no Response', 'Response.json'],
    act: () => {
      const response = { status: 200, headers: new Headers(), body: CANARY }
      return getParameter('/a', { fetch: (async () => response) as never })
    },
  },
  {
    mistake: 'a fetch that throws an error of its own',
    says: ['the option `fetch` failed with Error', '3 attempts', 'call it yourself'],
    act: () =>
      getParameter('/a', {
        fetch: async () => {
          throw new Error(CANARY)
        },
      }),
  },
  {
    mistake: 'a fetch that answers another call',
    says: ['the answer (HTTP 200) has no Parameters', '`fetch` mocked for another call?'],
    act: () => getParameter('/a', { fetch: async () => Response.json({ SecretString: CANARY }) }),
  },
  {
    mistake: 'a fetch that answers with another name',
    says: ['no parameter /a'],
    act: () => {
      const Parameters = [{ Name: '/other', Value: CANARY }]
      return getParameter('/a', { fetch: async () => Response.json({ Parameters }) })
    },
  },
  {
    mistake: 'a fetch with a mistake',
    says: ['the option `fetch` failed with TypeError', 'not retried'],
    act: () =>
      getParameter('/a', {
        fetch: async () => {
          throw new TypeError(`Cannot read properties of undefined (${CANARY})`)
        },
      }),
  },
]

// ---- S3 and its files ----

const FILES: readonly Row[] = [
  {
    mistake: 'no space left',
    says: ['model.bin', 'ENOSPC', 'no space', 'ephemeral storage'],
    act: ({ folder, defer }) => {
      const { writeFile } = promises
      defer(() => Object.assign(promises, { writeFile }))
      Object.assign(promises, {
        writeFile: async () => {
          throw Object.assign(new Error(`ENOSPC: no space left on device`), { code: 'ENOSPC' })
        },
      })
      return getObject('s3://bucket/model.bin', { file: join(folder, 'model.bin') })
    },
  },
  {
    mistake: 'a folder that is not there',
    says: ['/nope/model.bin', 'ENOENT', 'folder has to exist'],
    act: () => getObject('s3://bucket/model.bin', { file: '/nope/model.bin' }),
  },
  {
    mistake: 'a directory in the way',
    says: ['model.bin', 'EISDIR', 'set `file`'],
    act: ({ folder }) => {
      mkdirSync(join(folder, 'model.bin'))
      return getObject('s3://bucket/model.bin', { file: join(folder, 'model.bin') })
    },
  },
  {
    mistake: 'one file for two objects, read directly',
    says: ['another object', 'model.bin', 'set `file`'],
    act: async ({ folder }) => {
      const file = join(folder, 'model.bin')
      await getObject('s3://bucket/model.bin', { file })
      return getObject('s3://bucket/other.bin', { file })
    },
  },
  {
    mistake: "a key with a segment '..'",
    says: ["'..'", 'copy the object to another key'],
    act: () => getObject('s3://bucket/../x.bin', { parse: String }),
  },
]

export const ROWS: readonly Row[] = [
  ...OPTIONS,
  ...CONTEXTS,
  ...ENVIRONMENTS,
  ...REFUSALS,
  ...NETWORK,
  ...FUNCTIONS,
  ...FILES,
]

// ---- What is run ----

const SEED = {
  parameters: {
    '/a': `${CANARY}-value`,
    '/broken': `${CANARY} is no JSON`,
    '/half': '{"user":"u" "password":"canary"}',
    '/app/broken': `${CANARY} is no JSON`,
    '/app/fine': '1',
  },
  secrets: {
    db: `${CANARY}-value`,
    bom: `\uFEFF{"a":"${CANARY}"}`,
    binary: { base64: Buffer.from(CANARY).toString('base64') },
  },
  objects: { 's3://bucket/model.bin': `${CANARY}-body`, 's3://bucket/other.bin': 'other' },
}

/** What the library says to a mistake: an error's message, or a line of the log. */
export async function outcomeOf({ environment, act }: Row, fetch: Fetch): Promise<Outcome> {
  const credentials = {
    accessKeyId: `${CANARY}-key-id`,
    secretAccessKey: `${CANARY}-secret-access-key`,
    sessionToken: `${CANARY}-session-token`,
  }
  const aws = await startLocalAws(SEED, { credentials })
  const folder = mkdtempSync(join(tmpdir(), 'lambda-cache-errors-'))
  const cleanups: (() => unknown)[] = [
    () => rmSync(folder, { recursive: true, force: true }),
    () => aws.close(),
  ]
  const before = { ...process.env }
  for (const name of Object.keys(process.env))
    if (/^(AWS|LAMBDA)_/.test(name)) delete process.env[name]
  Object.assign(process.env, aws.env, environment)
  clearCache()
  const stage: Stage = {
    aws,
    folder,
    fetch,
    answer(status, body, headers = {}) {
      const text = typeof body === 'string' ? body : JSON.stringify(body)
      aws.intercept = (_request: LocalRequest, response: ServerResponse<IncomingMessage>) => {
        response.writeHead(status, headers).end(text)
        return true
      }
    },
    defer: (cleanup) => void cleanups.push(cleanup),
  }
  try {
    const value = await act(stage)
    return { message: typeof value === 'string' ? value : `no error: ${String(value)}` }
  } catch (error) {
    const message = error instanceof LambdaCacheError ? error.message : String(error)
    return { message, error }
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup()
    for (const name of Object.keys(process.env)) delete process.env[name]
    Object.assign(process.env, before)
    await pause(0)
  }
}

/** What the message does not name. */
export function missingFrom(message: string, { says }: Row): readonly string[] {
  return says.filter((text) => !message.includes(text))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  let missed = 0
  for (const row of ROWS) {
    const { message } = await outcomeOf(row, globalThis.fetch as Fetch)
    const missing = missingFrom(message, row)
    missed += missing.length > 0 ? 1 : 0
    const lines = message.split('\n').map((line) => `    ${line}`)
    console.log([row.mistake, ...lines].join('\n'))
    if (missing.length > 0) console.log(`    DOES NOT SAY: ${missing.join(' | ')}`)
  }
  console.log(`\n${ROWS.length} mistakes, ${missed} with something missing`)
  if (missed > 0) process.exitCode = 1
}
