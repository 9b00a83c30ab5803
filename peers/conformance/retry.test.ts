/** Which failures are tried again: counted for the library and for the SDK's clients, over everything that the SDK has a name for. */

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, mock, test } from 'node:test'
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { GetParametersCommand, SSMClient } from '@aws-sdk/client-ssm'
import { clearCache, type Fetch, getObject, getParameter, getSecret } from '../../lambda-cache.js'
import { present } from '../present.js'
import { innerModule, SDK_OPTIONS, useEnvironment } from './kit.js'

/** How an attempt ends: with an answer, or with an error of the network that has this code. */
type Ending = Answer | string

interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** An attempt, given the time with which it was signed. */
type Attempt = (signedAt: Date) => Ending

type ErrorLists = Readonly<Record<(typeof LISTS)[number], readonly string[]>> & {
  readonly TRANSIENT_ERROR_STATUS_CODES: readonly number[]
}

const SERVICES = ['ssm', 'secretsmanager', 's3'] as const
type Service = (typeof SERVICES)[number]

const LISTS = [
  'CLOCK_SKEW_ERROR_CODES',
  'NODEJS_NETWORK_ERROR_CODES',
  'NODEJS_TIMEOUT_ERROR_CODES',
  'THROTTLING_ERROR_CODES',
  'TRANSIENT_ERROR_CODES',
] as const

/** Codes of these services that stay as they are, however often one asks. */
const DEFINITE_CODES = [
  'AccessDenied',
  'AccessDeniedException',
  'ExpiredToken',
  'ExpiredTokenException',
  'InvalidKeyId',
  'InvalidObjectState',
  'NoSuchBucket',
  'UnrecognizedClientException',
  'ValidationException',
  'DecryptionFailure',
  'InvalidRequestException',
]

/** Those that mean something in HTTP, those that proxies made up, and some that mean nothing. */
const STATUSES = [
  301, 307, 400, 401, 403, 404, 405, 407, 408, 409, 410, 412, 413, 416, 418, 421, 425, 429, 431,
  451, 460, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 511, 520, 521, 522, 524, 529, 561,
  599,
]

/** Errors of the network that the library takes for passing and the SDK does not. All calls are reads: to try again does no harm. */
const TRIED_BY_THE_LIBRARY_ALONE: Readonly<Record<string, string>> = {
  ECONNABORTED: 'a connection that ended, as with ECONNRESET',
  EHOSTDOWN: 'an address that cannot be reached, as with EHOSTUNREACH',
  ENETDOWN: 'an address that cannot be reached, as with ENETUNREACH',
  EPROTO: 'a TLS handshake that was broken off',
  UND_ERR_SOCKET:
    "the global fetch's name for a connection that ended; the SDK has an HTTP client of its own",
  UND_ERR_CONNECT_TIMEOUT: "the global fetch's name for ETIMEDOUT",
  UND_ERR_HEADERS_TIMEOUT: "the global fetch's name for an answer that did not come",
  UND_ERR_BODY_TIMEOUT: "the global fetch's name for an answer that did not go on",
  HPE_INVALID_CONSTANT: 'an answer that is not HTTP, as a proxy gives while it restarts',
}

/** Errors that neither tries again: they stay until somebody changes a setting. */
const DEFINITE_NETWORK_ERRORS = [
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'ERR_INVALID_URL',
]

/**
 * The SDK sets its clock by the Date of any answer, and tries again after any error that came with another time than its own.
 * The library does so only where the error says that the clock is the reason. These are the SDK's codes for it:
 */
const CLOCK_SKEW_CODES: Readonly<Record<string, string>> = {
  InvalidSignatureException:
    'followed where the message says "Signature expired" or "not yet current"; else the key is wrong',
  RequestTimeTooSkewed: 's3 sends it: followed',
  AccessDeniedException: 'of these services it means a missing permission, whatever the time',
  SignatureDoesNotMatch:
    'of s3 it means a wrong key: for a wrong clock s3 has RequestTimeTooSkewed',
  AuthFailure: "EC2's",
  RequestExpired: "EC2's and those of other Query services",
  RequestInTheFuture: 'of no service that is called here',
}

/** What each of the services takes for an answer. */
const RESULT = { Parameters: [], InvalidParameters: ['name'], SecretString: 'text' }

const HOUR = 3_600_000
const MINUTE = 60_000

const lists = await innerModule<ErrorLists>(
  '@aws-sdk/client-ssm',
  '@smithy/core',
  'dist-es/submodules/retry/service-error-classification/constants.js',
)

useEnvironment(() => ({}))
// No pauses between attempts, of neither.
mock.method(Math, 'random', () => 0)

test("knows the SDK's lists", () => {
  for (const list of LISTS) assert.ok(lists[list].length > 0, list)
  assert.deepEqual(Object.keys(CLOCK_SKEW_CODES).sort(), [...lists.CLOCK_SKEW_ERROR_CODES].sort())
})

for (const service of SERVICES) {
  describe(service, () => {
    for (const code of lists.THROTTLING_ERROR_CODES) {
      test(`goes on, where the SDK tries three times: ${code}`, () =>
        goesOn(service, coded(service, 400, code)))
    }
    for (const code of lists.TRANSIENT_ERROR_CODES) {
      test(`tries three times, as the SDK does: ${code}`, () =>
        compareAttempts(service, () => coded(service, 400, code), 3))
    }
    test('goes on, where the SDK tries three times: 429', async () => {
      await goesOn(service, coded(service, 429, 'SomeError'))
      await goesOn(service, { status: 429 })
    })
    for (const code of [...DEFINITE_CODES, ...lists.CLOCK_SKEW_ERROR_CODES]) {
      test(`tries once, as the SDK does: ${code}`, () =>
        compareAttempts(service, () => coded(service, 400, code), 1))
    }
    for (const status of STATUSES.filter((status) => status !== 429)) {
      const sdk = lists.TRANSIENT_ERROR_STATUS_CODES.includes(status) ? 3 : 1
      // 408 and the whole of 5xx: whatever stands before AWS gives those, and all calls are reads.
      const library = status === 408 || status >= 500 ? 3 : sdk
      test(`tries ${library === sdk ? 'as often as the SDK' : 'three times, unlike the SDK'}: ${status}`, () =>
        compareAttempts(service, () => coded(service, status, 'SomeError'), library, sdk))
      // Without a code, it is not AWS that answers, but a proxy that may do better the next time.
      test(`tries three times where AWS gives no code: ${status}`, () =>
        compareAttempts(service, () => ({ status }), 3, sdk))
    }
    for (const code of [...lists.NODEJS_TIMEOUT_ERROR_CODES, ...lists.NODEJS_NETWORK_ERROR_CODES]) {
      test(`tries three times, as the SDK does: ${code}`, () =>
        compareAttempts(service, () => code, 3))
    }
    for (const code of DEFINITE_NETWORK_ERRORS) {
      test(`tries once, as the SDK does: ${code}`, () => compareAttempts(service, () => code, 1))
    }
    for (const [code, reason] of Object.entries(TRIED_BY_THE_LIBRARY_ALONE)) {
      test(`tries three times, unlike the SDK: ${code}, ${reason}`, async () => {
        assert.equal((await attemptsOfLibrary(service, () => code)).length, 3)
        assert.equal((await attemptsOfSdk(service, () => code)).length, 1)
      })
    }
    describeClocks(service)
  })
}

function describeClocks(service: Service): void {
  for (const offset of [HOUR, -HOUR, 6 * 24 * HOUR]) {
    test(`follows a clock that is ${offset / MINUTE} minutes away, as the SDK does`, async () => {
      const attempt: Attempt = (signedAt) =>
        answerByClock(service, signedAt, new Date(Date.now() + offset))
      for (const attempts of [
        await attemptsOfLibrary(service, attempt),
        await attemptsOfSdk(service, attempt),
      ]) {
        const minutesAhead = attempts.map((ahead) => Math.floor((ahead + MINUTE / 2) / MINUTE))
        assert.deepEqual(minutesAhead, [0, offset / MINUTE])
      }
    })
  }
  for (const code of lists.CLOCK_SKEW_ERROR_CODES.filter(
    (code) => code !== 'RequestTimeTooSkewed',
  )) {
    test(`tries once where the clock is not named as the reason, unlike the SDK: ${code}`, async () => {
      const attempt: Attempt = () => ({
        ...coded(service, 400, code),
        headers: dateHeader(new Date(Date.now() + HOUR)),
      })
      assert.equal((await attemptsOfLibrary(service, attempt)).length, 1)
      assert.ok((await attemptsOfSdk(service, attempt)).length > 1)
    })
  }
}

async function compareAttempts(
  service: Service,
  attempt: Attempt,
  library: number,
  sdk = library,
): Promise<void> {
  const counts = {
    library: (await attemptsOfLibrary(service, attempt)).length,
    sdk: (await attemptsOfSdk(service, attempt)).length,
  }
  assert.deepEqual(counts, { library, sdk })
}

/** Throttled four times, and then not: with nothing to serve, the library is more patient than the SDK. */
async function goesOn(service: Service, throttled: Answer): Promise<void> {
  clearCache()
  const counts = { library: 0, sdk: 0 }
  const attempt = (side: keyof typeof counts): Attempt => {
    return () => {
      counts[side] += 1
      return counts[side] < 5 ? throttled : { status: 200, body: JSON.stringify(RESULT) }
    }
  }
  await attemptsOfLibrary(service, attempt('library'))
  await attemptsOfSdk(service, attempt('sdk'))
  assert.deepEqual(counts, { library: 5, sdk: 3 })
}

/** By how many milliseconds the time of each attempt's signature was ahead. */
async function attemptsOfLibrary(service: Service, attempt: Attempt): Promise<number[]> {
  const attempts: number[] = []
  const fetch: Fetch = async (_, { headers }) => {
    const signedAt = dateOf(headers)
    attempts.push(signedAt.getTime() - Date.now())
    const ending = attempt(signedAt)
    // As the global fetch puts it.
    if (typeof ending === 'string')
      throw new TypeError('fetch failed', { cause: networkError(ending) })
    return new Response(ending.body ?? '', ending)
  }
  const calls = {
    ssm: () => getParameter('name', { fetch, maxAge: 0 }),
    secretsmanager: () => getSecret('id', { fetch, maxAge: 0 }),
    s3: () => getObject('s3://bucket/key', { fetch, binary: true, maxAge: 0 }),
  }
  await Promise.allSettled([calls[service]()])
  return attempts
}

async function attemptsOfSdk(service: Service, attempt: Attempt): Promise<number[]> {
  const attempts: number[] = []
  const handle = async ({ headers: sent }: { headers: Record<string, string> }) => {
    const signedAt = dateOf(sent)
    attempts.push(signedAt.getTime() - Date.now())
    const ending = attempt(signedAt)
    if (typeof ending === 'string') throw networkError(ending)
    const { status: statusCode, headers = {}, body = '' } = ending
    return { response: { statusCode, headers, body: Readable.from([Buffer.from(body)]) } as never }
  }
  const { region, credentials } = SDK_OPTIONS
  const options = { region, credentials, requestHandler: { handle } }
  const calls = {
    ssm: () => new SSMClient(options).send(new GetParametersCommand({ Names: ['name'] })),
    secretsmanager: () =>
      new SecretsManagerClient(options).send(new GetSecretValueCommand({ SecretId: 'id' })),
    s3: () => new S3Client(options).send(new GetObjectCommand({ Bucket: 'bucket', Key: 'key' })),
  }
  await Promise.allSettled([calls[service]()])
  return attempts
}

function networkError(code: string): Error {
  return Object.assign(new Error(code), { code })
}

function coded(service: Service, status: number, code: string, text = 'text'): Answer {
  if (service === 's3')
    return {
      status,
      body: `<?xml version="1.0"?>\n<Error><Code>${code}</Code><Message>${text}</Message></Error>`,
    }
  return { status, body: JSON.stringify({ __type: code, message: text }) }
}

/** As each service answers a request that was signed at another time than it has. */
function answerByClock(service: Service, signedAt: Date, serverTime: Date): Answer {
  const ahead = signedAt.getTime() - serverTime.getTime()
  const headers = dateHeader(serverTime)
  if (Math.abs(ahead) < 5 * MINUTE) return { status: 200, headers, body: JSON.stringify(RESULT) }
  if (service === 's3')
    return {
      ...coded(service, 403, 'RequestTimeTooSkewed', 'The difference is too large.'),
      headers,
    }
  const text =
    ahead < 0
      ? 'Signature expired: A is now earlier than B'
      : 'Signature not yet current: A is still later than B'
  return { ...coded(service, 400, 'InvalidSignatureException', text), headers }
}

function dateHeader(date: Date): Record<string, string> {
  return { date: date.toUTCString() }
}

function dateOf(headers: Readonly<Record<string, string>>): Date {
  return new Date(
    present(headers['x-amz-date']).replace(/(....)(..)(..)T(..)(..)(..)Z/, '$1-$2-$3T$4:$5:$6Z'),
  )
}
