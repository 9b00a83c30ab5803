/// <reference types="node" />
/**
 * SSM, Secrets Manager and S3 in memory, on loopback, over real HTTP. For tests, demos and local runs: the signature
 * of every request is verified from what arrived on the wire, and refusals carry AWS's own codes and statuses.
 *
 *     npx tsx examples/local-aws.ts [seed.json] [--port 4566]
 *
 * (it is a program only under this name), or, in a test:
 *
 *     const aws = await startLocalAws({ parameters: { '/prod/app/var': 'hello' } })
 *     Object.assign(process.env, aws.env)
 *
 * Every region sees the same data, in account 123456789012. Not here: actions that change something, presigned URLs, byte ranges.
 *
 * Sections: API, connections, SigV4, SSM, Secrets Manager, S3, answers, seed, command line.
 */
import { createHash, createHmac, randomBytes, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { posix } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'

// ── API ──

/** What is there at the start: the seed file of the command line, in JSON. Bytes are written as base64. */
export interface Seed {
  parameters?: Record<string, string | { value: string; type?: ParameterType; labels?: string[] }>
  secrets?: Record<string, string | { string: string } | { base64: string }>
  /** By `s3://bucket/key`. */
  objects?: Record<string, string | { base64: string }>
}

export type ParameterType = 'String' | 'StringList' | 'SecureString'

export interface Credentials {
  accessKeyId: string
  secretAccessKey: string
  sessionToken?: string
}

/** A request as it arrived. */
export interface LocalRequest {
  service: 'ssm' | 'secretsmanager' | 's3'
  /** `GetParameter(s)`, `GetParametersByPath`, `GetSecretValue`, `BatchGetSecretValue`, `GetObject`, or whatever else was asked for. */
  action: string
  method: string
  /** Path and query as they stood in the request line. */
  target: string
  /** Names in lower case. */
  headers: Record<string, string>
  body: string
  /** The body's JSON; for S3 `{ Bucket, Key, VersionId }`. */
  input: Record<string, unknown>
  /** From the credential scope; empty when there is none. */
  region: string
  /** Milliseconds since the epoch. */
  at: number
}

/** A running server. */
export interface LocalAws {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  /** The environment variables with which a process uses this server. */
  readonly env: Record<string, string>
  /** Every request in order of arrival, also those refused, recorded before it is answered. */
  readonly requests: LocalRequest[]
  /** Milliseconds before each answer, counted by the process's own timers. @default 0 */
  latency: number
  /** Called with every request before its signature is checked. Returning true, or a promise of it, means: answered here, or cut off. */
  intercept: ((request: LocalRequest, response: ServerResponse) => unknown) | undefined
  /** Adds a version and returns its number. The labels move to it from older versions. */
  putParameter(
    name: string,
    value: string,
    options?: { type?: ParameterType; labels?: string[] },
  ): number
  /** Adds a version and returns its id. Without `stages` it becomes AWSCURRENT, and the former one AWSPREVIOUS. */
  putSecret(
    id: string,
    value: string | Uint8Array,
    options?: { versionId?: string; stages?: string[] },
  ): string
  /** Adds a version. The bytes are kept, not copied. */
  putObject(uri: string, body: string | Uint8Array): { etag: string; versionId: string }
  /** From now on a request for the bucket that is signed for another region is answered with 301. */
  putBucketRegion(bucket: string, region: string): void
  /** Removes a parameter, a secret or an object with all its versions. An emptied bucket stays. */
  delete(nameOrIdOrUri: string): void
  /**
   * Refuses an action on a parameter's name, a path, a secret's name, an `s3://` URI, or `*`.
   * Denying `s3:ListBucket` on `s3://bucket` makes S3 answer 403 instead of 404 for a missing key, as it does there.
   */
  deny(action: string, resource: string): void
  closeIdleConnections(): void
  /** Resets every open connection. */
  destroyConnections(): void
  close(): Promise<void>
}

/** Starts a server on 127.0.0.1. Rejects when the port is taken, and with a TypeError when the seed is malformed. */
export async function startLocalAws(
  seed: Seed = {},
  { port = 0, credentials = LOCAL_CREDENTIALS }: { port?: number; credentials?: Credentials } = {},
): Promise<LocalAws> {
  const account: Account = {
    credentials,
    parameters: new Map(),
    secrets: new Map(),
    objects: new Map(),
    buckets: new Map(),
    denied: new Set(),
  }
  const sockets = new Set<Socket>()
  const server = createServer((message, response) => void serve(aws, account, message, response))
  // AWS announces no keep-alive timeout. Without one, connections close when a test says so and not by themselves.
  server.keepAliveTimeout = 0
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  const aws: LocalAws = {
    url: '',
    env: {},
    requests: [],
    latency: 0,
    intercept: undefined,
    putParameter: (name, value, options) => putParameter(account, name, value, options),
    putSecret: (id, value, options) => putSecret(account, id, value, options),
    putObject: (uri, body) => putObject(account, uri, body),
    putBucketRegion: (bucket, region) => void account.buckets.set(bucket, region),
    delete: (id) => {
      for (const map of [account.parameters, account.secrets, account.objects]) map.delete(id)
    },
    deny: (action, resource) => void account.denied.add(`${action} ${resource}`),
    closeIdleConnections: () => server.closeIdleConnections(),
    destroyConnections: () => {
      for (const socket of sockets) socket.resetAndDestroy()
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  plant(aws, seed)
  await new Promise<void>((resolve, reject) =>
    server.once('error', reject).listen(port, '127.0.0.1', resolve),
  )
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const env: Record<string, string> = {
    AWS_ENDPOINT_URL: url,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
  }
  if (credentials.sessionToken !== undefined) env.AWS_SESSION_TOKEN = credentials.sessionToken
  return Object.assign(aws, { url, env })
}

const ACCOUNT_ID = '123456789012'
const LOCAL_CREDENTIALS: Credentials = {
  accessKeyId: 'local-access-key-id',
  secretAccessKey: 'local-secret-access-key',
  sessionToken: 'local-session-token',
}

interface Account {
  credentials: Credentials
  /** The versions of a thing stand in order of creation. */
  parameters: Map<string, ParameterVersion[]>
  secrets: Map<
    string,
    { id: string; value: string | Uint8Array; stages: Set<string>; created: number }[]
  >
  objects: Map<string, { id: string; body: Uint8Array; etag: string; modified: number }[]>
  /** The region of each bucket; undefined where any region will do. */
  buckets: Map<string, string | undefined>
  denied: Set<string>
}

interface ParameterVersion {
  version: number
  value: string
  type: ParameterType
  labels: Set<string>
  modified: number
}

interface Answer {
  status: number
  headers: Record<string, string>
  body?: string | Uint8Array
}

// ── connections ──

async function serve(
  aws: LocalAws,
  account: Account,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const chunks: Buffer[] = []
    for await (const chunk of message) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    const request = requestFrom(message, body.toString())
    aws.requests.push(request)
    if (aws.latency > 0) await pause(aws.latency)
    if ((await aws.intercept?.(request, response)) === true) return
    send(request, response, answerTo(account, request, body))
  } catch (error) {
    // A client that left half-way is its own business; anything else is a mistake in this file or in `intercept`.
    if (message.complete) console.error('local-aws:', error)
    response.destroy()
  }
}

function requestFrom(
  { rawHeaders, method = '', url: target = '' }: IncomingMessage,
  body: string,
): LocalRequest {
  const headers: Record<string, string> = {}
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const [name = '', value = ''] = rawHeaders.slice(index, index + 2)
    const key = name.toLowerCase()
    // The canonical request has a repeated header once, with its values joined by a comma.
    headers[key] = key in headers ? `${headers[key]},${value}` : value
  }
  const [, region = '', scopeService] =
    /Credential=[^/]*\/[^/]*\/([^/,]*)\/([^/,]*)/.exec(headers.authorization ?? '') ?? []
  const [api, operation = ''] = (headers['x-amz-target'] ?? '').split('.')
  const common = { method, target, headers, body, region, at: Date.now() }
  if (api === 'AmazonSSM' || scopeService === 'ssm')
    return { service: 'ssm', action: operation, input: parseInput(body), ...common }
  if (api === 'secretsmanager' || scopeService === 'secretsmanager') {
    return { service: 'secretsmanager', action: operation, input: parseInput(body), ...common }
  }
  // S3 has no action of its own for HEAD.
  const action = method === 'GET' || method === 'HEAD' ? 'GetObject' : method
  return { service: 's3', action, input: objectAddress(target, headers.host ?? ''), ...common }
}

function parseInput(body: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(body)) as Record<string, unknown>
  } catch {
    return {}
  }
}

function answerTo(account: Account, request: LocalRequest, body: Buffer): Answer {
  try {
    verifySignature(account.credentials, request, body)
    if (request.service === 's3') return getObject(account, request)
    const operation = {
      'AmazonSSM.GetParameter': getParameter,
      'AmazonSSM.GetParameters': getParameters,
      'AmazonSSM.GetParametersByPath': getParametersByPath,
      'secretsmanager.GetSecretValue': getSecretValue,
      'secretsmanager.BatchGetSecretValue': batchGetSecretValue,
    }[request.headers['x-amz-target'] ?? '']
    const json =
      request.method === 'POST' && request.headers['content-type'] === 'application/x-amz-json-1.1'
    if (operation === undefined || !json) throw new Refusal(400, 'UnknownOperationException', '')
    return { status: 200, headers: {}, body: JSON.stringify(operation(account, request)) }
  } catch (error) {
    if (error instanceof Refusal) return refusalAnswer(request, error)
    throw error
  }
}

// ── SigV4 ──
// Written from "Create a signed AWS API request" in the IAM user guide, independently of any signer.

function verifySignature(credentials: Credentials, request: LocalRequest, body: Buffer): void {
  const { service, headers, target } = request
  const {
    accessKeyId = '',
    scope = '',
    scopeDate,
    scopeService,
    signedHeaders = '',
    signature,
  } = parseAuthorization(request)
  if (scopeService !== service)
    throw refusal(request, 'wrongScope', `service '${scopeService}' != '${service}'`)
  requireSignedHeaders(request, signedHeaders.split(';'))
  if (accessKeyId !== credentials.accessKeyId) throw refusal(request, 'unknownKey')
  if (headers['x-amz-security-token'] !== credentials.sessionToken)
    throw refusal(request, 'wrongToken')
  requireCurrentDate(request, scopeDate)
  const canonicalRequest = [
    request.method,
    service === 's3' ? canonicalObjectPath(target) : canonicalPath(target),
    canonicalQuery(target),
    ...signedHeaders
      .split(';')
      .map((name) => `${name}:${(headers[name] ?? '').trim().replace(/ +/g, ' ')}`),
    '',
    signedHeaders,
    payloadHash(request, body),
  ].join('\n')
  const stringToSign = [
    'AWS4-HMAC-SHA256',
    headers['x-amz-date'],
    scope,
    sha256(canonicalRequest),
  ].join('\n')
  const signingKey = scope
    .split('/')
    .reduce<string | Buffer>(hmac, `AWS4${credentials.secretAccessKey}`)
  if (hmac(signingKey, stringToSign).toString('hex') === signature) return
  throw refusal(request, 'wrongSignature', '', {
    StringToSign: stringToSign,
    CanonicalRequest: canonicalRequest,
  })
}

/** The mistakes that every service knows: S3's status, code and message, then those of the JSON services (status 400). */
const REFUSALS = {
  unsigned: [
    403,
    'AccessDenied',
    'Access Denied',
    'MissingAuthenticationTokenException',
    'Missing Authentication Token',
  ],
  malformed: [
    400,
    'AuthorizationHeaderMalformed',
    'The authorization header that you provided is not valid.',
    'IncompleteSignatureException',
    'Authorization header is not of the form that AWS4-HMAC-SHA256 has.',
  ],
  wrongScope: [
    400,
    'AuthorizationHeaderMalformed',
    'The authorization header is malformed; %s',
    'InvalidSignatureException',
    'Credential should be scoped correctly: %s',
  ],
  unsignedHeaders: [
    403,
    'AccessDenied',
    'There were headers present in the request which were not signed: %s',
    'InvalidSignatureException',
    "'%s' must be a 'SignedHeader' in the AWS Authorization.",
  ],
  unknownKey: [
    403,
    'InvalidAccessKeyId',
    'The AWS Access Key Id you provided does not exist in our records.',
    'UnrecognizedClientException',
    'The security token included in the request is invalid.',
  ],
  wrongToken: [
    400,
    'InvalidToken',
    'The provided token is malformed or otherwise invalid.',
    'UnrecognizedClientException',
    'The security token included in the request is invalid.',
  ],
  noDate: [
    403,
    'AccessDenied',
    'AWS authentication requires a valid Date or x-amz-date header',
    'IncompleteSignatureException',
    "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
  ],
  clockSkew: [
    403,
    'RequestTimeTooSkewed',
    'The difference between the request time and the current time is too large.',
    'InvalidSignatureException',
    '%s',
  ],
  wrongSignature: [
    403,
    'SignatureDoesNotMatch',
    'The request signature we calculated does not match the signature you provided. Check your key and signing method.',
    'InvalidSignatureException',
    'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. ' +
      'Consult the service documentation for details.',
  ],
} as const

function refusal(
  request: LocalRequest,
  mistake: keyof typeof REFUSALS,
  detail = '',
  elements?: Record<string, string>,
): Refusal {
  const [status, s3Code, s3Message, code, message] = REFUSALS[mistake]
  if (request.service === 's3')
    return new Refusal(status, s3Code, s3Message.replace('%s', detail), elements)
  return new Refusal(400, code, message.replace('%s', detail))
}

function parseAuthorization(request: LocalRequest): Record<string, string> {
  const header = request.headers.authorization
  if (header === undefined) throw refusal(request, 'unsigned')
  const scope = /(?<scope>(?<scopeDate>\d{8})\/[^/, ]+\/(?<scopeService>[^/, ]+)\/aws4_request)/
    .source
  const signature =
    /, ?SignedHeaders=(?<signedHeaders>[^, ]+), ?Signature=(?<signature>[0-9a-f]{64})$/.source
  const match = new RegExp(
    `^AWS4-HMAC-SHA256 Credential=(?<accessKeyId>[^/, ]+)/${scope}${signature}`,
  ).exec(header)
  if (match?.groups === undefined) throw refusal(request, 'malformed')
  return match.groups
}

function requireSignedHeaders(request: LocalRequest, signedHeaders: string[]): void {
  const required = [
    'host',
    'x-amz-date',
    ...Object.keys(request.headers).filter((name) => name.startsWith('x-amz-')),
  ]
  const missing = required.filter((name) => !signedHeaders.includes(name))
  if (missing.length > 0) throw refusal(request, 'unsignedHeaders', missing.join(', '))
  if (signedHeaders.join() !== [...new Set(signedHeaders)].sort().join().toLowerCase())
    throw refusal(request, 'malformed')
}

function requireCurrentDate(request: LocalRequest, scopeDate: string | undefined): void {
  const given = request.headers['x-amz-date'] ?? ''
  if (!/^\d{8}T\d{6}Z$/.test(given)) throw refusal(request, 'noDate')
  if (!given.startsWith(`${scopeDate}T`))
    throw refusal(request, 'wrongScope', `date '${scopeDate}' != '${given}'`)
  const ahead =
    Date.parse(given.replace(/(....)(..)(..)T(..)(..)(..)Z/, '$1-$2-$3T$4:$5:$6Z')) - request.at
  const minutes = request.service === 's3' ? 15 : 5
  if (Math.abs(ahead) <= minutes * 60_000) return
  const [now, earliest, latest] = [0, -minutes, minutes].map((offset) =>
    basicTime(request.at + offset * 60_000),
  )
  const detail =
    ahead < 0
      ? `Signature expired: ${given} is now earlier than ${earliest} (${now} - ${minutes} min.)`
      : `Signature not yet current: ${given} is still later than ${latest} (${now} + ${minutes} min.)`
  const serverTime = new Date(request.at).toISOString().replace(/\.\d+/, '')
  const elements = {
    RequestTime: given,
    ServerTime: serverTime,
    MaxAllowedSkewMilliseconds: String(minutes * 60_000),
  }
  throw refusal(request, 'clockSkew', detail, elements)
}

function basicTime(time: number): string {
  return new Date(time).toISOString().replace(/[-:]|\.\d+/g, '')
}

function payloadHash(request: LocalRequest, body: Buffer): string {
  const given = request.headers['x-amz-content-sha256']
  if (request.service !== 's3') return sha256(body)
  if (given === undefined)
    throw new Refusal(
      400,
      'InvalidRequest',
      'Missing required header for this request: x-amz-content-sha256',
    )
  if (given === 'UNSIGNED-PAYLOAD' || given === sha256(body)) return given
  throw new Refusal(
    400,
    'XAmzContentSHA256Mismatch',
    "The provided 'x-amz-content-sha256' header does not match what was computed.",
  )
}

/** S3 encodes the key once, as it understood it: a character that was sent bare and should be escaped breaks the signature. */
function canonicalObjectPath(target: string): string {
  return decode(pathOf(target)).split('/').map(uriEncode).join('/')
}

/** The other services normalise the path and encode it a second time. */
function canonicalPath(target: string): string {
  return posix.normalize(pathOf(target)).split('/').map(uriEncode).join('/')
}

function canonicalQuery(target: string): string {
  const pairs = queryOf(target)
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair) => {
      const [name = '', ...value] = pair.split('=')
      return [name, value.join('=')].map((part) => uriEncode(decode(part))) as [string, string]
    })
  pairs.sort(
    ([name, value], [otherName, otherValue]) =>
      compare(name, otherName) || compare(value, otherValue),
  )
  return pairs.map((pair) => pair.join('=')).join('&')
}

function pathOf(target: string): string {
  return target.replace(/\?.*/s, '')
}

function queryOf(target: string): string {
  return target.slice(pathOf(target).length + 1)
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Refusal(400, 'InvalidURI', "Couldn't parse the specified URI.")
  }
}

function uriEncode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}

function compare(one: string, other: string): number {
  return one < other ? -1 : Number(one > other)
}

function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex')
}

function hmac(key: string | Buffer, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest()
}

// ── SSM ──

function putParameter(
  account: Account,
  name: string,
  value: string,
  options: { type?: ParameterType; labels?: string[] } = {},
): number {
  const { type = 'String', labels = [] } = options
  const versions = account.parameters.get(name) ?? []
  for (const older of versions) for (const label of labels) older.labels.delete(label)
  const version = versions.length + 1
  account.parameters.set(name, [
    ...versions,
    { version, value, type, labels: new Set(labels), modified: Date.now() },
  ])
  return version
}

function getParameters(account: Account, request: LocalRequest): unknown {
  const names = [request.input.Names ?? []].flat().map((name) => String(name).trim())
  if (names.length < 1) throw invalid('names', 'Member must have length greater than or equal to 1')
  if (names.length > 10) throw invalid('names', 'Member must have length less than or equal to 10')
  if (new Set(names).size < names.length)
    throw invalid('names', 'Member must not contain duplicates')
  const parameters: unknown[] = []
  const invalidParameters: string[] = []
  for (const asked of names) {
    const { parameter } = findParameter(account, request, asked)
    if (parameter === undefined) invalidParameters.push(asked)
    else parameters.push(parameter)
  }
  // AWS promises no order, so a client that relies on one is to find out here.
  return { Parameters: parameters.reverse(), InvalidParameters: invalidParameters }
}

function getParameter(account: Account, request: LocalRequest): unknown {
  const { Name: given } = request.input
  if (typeof given !== 'string') throw invalid('name', 'Member must not be null')
  const asked = given.trim()
  const { isKnown, parameter } = findParameter(account, request, asked)
  if (parameter !== undefined) return { Parameter: parameter }
  if (!isKnown) throw new Refusal(400, 'ParameterNotFound', '')
  const message = `Systems Manager could not find ${asked}. Verify the version and try again.`
  throw new Refusal(400, 'ParameterVersionNotFound', message)
}

/** By `name`, `name:3`, `name:label`, and the same behind an ARN, in which every name begins with a slash. */
function findParameter(
  account: Account,
  request: LocalRequest,
  asked: string,
): { isKnown: boolean; parameter: unknown } {
  const [, reference = asked, selector] =
    /^(arn:(?:[^:]*:){4}[^:]+|[^:]+)(?::(.+))?$/.exec(asked) ?? []
  if (isMalformed(reference))
    throw new Refusal(400, 'ValidationException', 'Parameter name must be a fully qualified name.')
  // At the root, a parameter is the same with and without its slash.
  const arn = reference.startsWith('arn:') ? reference : parameterArn(request, reference)
  const known = [...account.parameters.keys()]
  const name =
    known.find((name) => name === reference) ??
    known.find((name) => parameterArn(request, name) === arn)
  refuseIfDenied(account, request, [reference, name], parameterArn(request, name ?? reference))
  const version = account.parameters
    .get(name ?? '')
    ?.filter(
      (one) => selector === undefined || `${one.version}` === selector || one.labels.has(selector),
    )
    .at(-1)
  if (name === undefined || version === undefined)
    return { isKnown: name !== undefined, parameter: undefined }
  return { isKnown: true, parameter: describeParameter(request, name, version, selector) }
}

/** A name with levels begins with a slash, and no level of it is empty. */
function isMalformed(name: string): boolean {
  return !name.startsWith('arn:') && !/^([^/]+|(\/[^/]+)+)$/.test(name)
}

function getParametersByPath(account: Account, request: LocalRequest): unknown {
  const {
    Path: given,
    Recursive: recursive = false,
    MaxResults: size = 10,
    NextToken: token = '',
  } = request.input
  const path = typeof given === 'string' ? given.trim() : ''
  if (!path.startsWith('/'))
    throw invalid('path', 'The parameter name must begin with a forward slash "/"')
  if (typeof size !== 'number' || size < 1)
    throw invalid('maxResults', 'Member must have value greater than or equal to 1')
  if (size > 10) throw invalid('maxResults', 'Member must have value less than or equal to 10')
  refuseIfDenied(account, request, [path], parameterArn(request, path))
  const prefix = path.endsWith('/') ? path : `${path}/`
  const [tokenPrefix, last = ''] = Buffer.from(String(token), 'base64').toString().split('\n')
  if (token !== '' && tokenPrefix !== prefix)
    throw new Refusal(400, 'InvalidNextToken', 'The specified token is not valid.')
  const names = [...account.parameters.keys()].sort().filter((name) => {
    const rooted = name.startsWith('/') ? name : `/${name}`
    return (
      name > last &&
      rooted.startsWith(prefix) &&
      (recursive === true || !rooted.slice(prefix.length).includes('/'))
    )
  })
  const page = names.slice(0, size)
  const nextToken = Buffer.from(`${prefix}\n${page.at(-1)}`).toString('base64')
  return {
    Parameters: page.flatMap((name) => {
      const versions = account.parameters.get(name) ?? []
      return versions.slice(-1).map((newest) => describeParameter(request, name, newest))
    }),
    ...(names.length > size && { NextToken: nextToken }),
  }
}

function describeParameter(
  request: LocalRequest,
  name: string,
  parameter: ParameterVersion,
  selector?: string,
): unknown {
  const { version, value, type, modified } = parameter
  const readable = type !== 'SecureString' || request.input.WithDecryption === true
  return {
    Name: name,
    Type: type,
    Value: readable ? value : `AQICAH${createHmac('sha512', name).update(value).digest('base64')}`,
    Version: version,
    ...(selector !== undefined && { Selector: `:${selector}` }),
    LastModifiedDate: modified / 1000,
    ARN: parameterArn(request, name),
    DataType: 'text',
  }
}

function parameterArn(request: LocalRequest, name: string): string {
  return arn(request, `parameter${name.startsWith('/') ? '' : '/'}${name}`)
}

function arn({ region, service }: LocalRequest, resource: string): string {
  const partition = region.startsWith('cn-')
    ? 'aws-cn'
    : region.startsWith('us-gov-')
      ? 'aws-us-gov'
      : 'aws'
  return `arn:${partition}:${service}:${region}:${ACCOUNT_ID}:${resource}`
}

// ── Secrets Manager ──

function putSecret(
  account: Account,
  name: string,
  value: string | Uint8Array,
  {
    versionId: id = randomUUID(),
    stages = ['AWSCURRENT'],
  }: { versionId?: string; stages?: string[] } = {},
): string {
  const versions = (account.secrets.get(name) ?? []).filter((older) => older.id !== id)
  const former = stages.includes('AWSCURRENT')
    ? versions.find((older) => older.stages.has('AWSCURRENT'))
    : undefined
  const moving = former === undefined ? stages : [...stages, 'AWSPREVIOUS']
  for (const older of versions) for (const stage of moving) older.stages.delete(stage)
  former?.stages.add('AWSPREVIOUS')
  account.secrets.set(name, [
    ...versions,
    { id, value, stages: new Set(stages), created: Date.now() },
  ])
  return id
}

function getSecretValue(account: Account, request: LocalRequest): unknown {
  const { SecretId: asked, VersionId: versionId, VersionStage: stage } = request.input
  if (typeof asked !== 'string' || asked === '')
    throw invalid('secretId', 'Member must not be null')
  const name = [...account.secrets.keys()].find((name) => {
    const arn = secretArn(request, name)
    // Without the six characters at its end, unless the name's own end is taken for those.
    return [name, arn, ...(/-\w{6}$/.test(name) ? [] : [arn.slice(0, -7)])].includes(asked)
  })
  refuseIfDenied(account, request, [asked, name], asked)
  const missing = "Secrets Manager can't find the specified secret"
  if (name === undefined) throw new Refusal(400, 'ResourceNotFoundException', `${missing}.`)
  const wanted = String(stage ?? 'AWSCURRENT')
  const version = account.secrets
    .get(name)
    ?.find((one) => (versionId === undefined ? one.stages.has(wanted) : one.id === versionId))
  if (version === undefined) {
    const which =
      versionId === undefined ? `staging label: ${wanted}` : `VersionId: ${String(versionId)}`
    throw new Refusal(400, 'ResourceNotFoundException', `${missing} value for ${which}`)
  }
  if (stage !== undefined && !version.stages.has(wanted)) {
    throw new Refusal(
      400,
      'InvalidRequestException',
      'You provided a VersionStage that is not associated to the provided VersionId.',
    )
  }
  const { id, value, stages, created } = version
  const content =
    typeof value === 'string'
      ? { SecretString: value }
      : { SecretBinary: Buffer.from(value).toString('base64') }
  return {
    ARN: secretArn(request, name),
    Name: name,
    VersionId: id,
    ...content,
    VersionStages: [...stages],
    CreatedDate: created / 1000,
  }
}

/** Needs its own permission, and `GetSecretValue` for each secret. Filters are not here. */
function batchGetSecretValue(account: Account, request: LocalRequest): unknown {
  const ids = [request.input.SecretIdList ?? []].flat()
  refuseIfDenied(account, request, [], '*')
  if (ids.length < 1)
    throw invalid('secretIdList', 'Member must have length greater than or equal to 1')
  if (ids.length > 20)
    throw invalid('secretIdList', 'Member must have length less than or equal to 20')
  const secrets: unknown[] = []
  const errors: unknown[] = []
  for (const id of ids) {
    try {
      const single = { ...request, action: 'GetSecretValue', input: { SecretId: id } }
      secrets.push(getSecretValue(account, single))
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      errors.push({ SecretId: id, ErrorCode: error.code, Message: error.message })
    }
  }
  return { SecretValues: secrets, Errors: errors }
}

/** The six characters follow from the name, so that they are the same in every run. */
function secretArn(request: LocalRequest, name: string): string {
  return arn(request, `secret:${name}-${sha256(name).slice(0, 6)}`)
}

// ── S3 ──

function putObject(
  account: Account,
  uri: string,
  content: string | Uint8Array,
): { etag: string; versionId: string } {
  const [, bucket] = /^s3:\/\/([^/]+)\/./.exec(uri) ?? []
  if (bucket === undefined) throw new TypeError(`expected s3://bucket/key, got ${uri}`)
  const body = typeof content === 'string' ? Buffer.from(content) : content
  const etag = `"${createHash('md5').update(body).digest('hex')}"`
  const id = randomBytes(24).toString('base64url')
  account.buckets.set(bucket, account.buckets.get(bucket))
  account.objects.set(uri, [
    ...(account.objects.get(uri) ?? []),
    { id, body, etag, modified: Date.now() },
  ])
  return { etag, versionId: id }
}

function getObject(account: Account, request: LocalRequest): Answer {
  const {
    Bucket: bucket = '',
    Key: key = '',
    VersionId: versionId,
  } = request.input as Record<string, string | undefined>
  if (request.action !== 'GetObject') {
    throw new Refusal(
      405,
      'MethodNotAllowed',
      'The specified method is not allowed against this resource.',
    )
  }
  if (!account.buckets.has(bucket))
    throw new Refusal(404, 'NoSuchBucket', 'The specified bucket does not exist', {
      BucketName: bucket,
    })
  redirectToRegion(account, request, bucket)
  if (key === '')
    throw new Refusal(
      501,
      'NotImplemented',
      'A header you provided implies functionality that is not implemented',
    )
  refuseIfDenied(account, request, [`s3://${bucket}/${key}`], `"arn:aws:s3:::${bucket}/${key}"`)
  const versions = account.objects.get(`s3://${bucket}/${key}`)
  const object =
    versionId === undefined ? versions?.at(-1) : versions?.find((one) => one.id === versionId)
  if (object === undefined) {
    refuseIfDenied(
      account,
      { ...request, action: 'ListBucket' },
      [`s3://${bucket}`],
      `"arn:aws:s3:::${bucket}"`,
    )
    if (versionId === undefined)
      throw new Refusal(404, 'NoSuchKey', 'The specified key does not exist.', { Key: key })
    throw new Refusal(404, 'NoSuchVersion', 'The specified version does not exist.', {
      Key: key,
      VersionId: versionId,
    })
  }
  const headers = {
    etag: object.etag,
    'last-modified': new Date(object.modified).toUTCString(),
    'x-amz-version-id': object.id,
  }
  const known = (request.headers['if-none-match'] ?? '').split(/, */)
  if (known.includes(object.etag) || known.includes('*')) return { status: 304, headers }
  return {
    status: 200,
    headers: { ...headers, 'accept-ranges': 'bytes', 'content-type': 'binary/octet-stream' },
    body: object.body,
  }
}

function redirectToRegion(account: Account, request: LocalRequest, bucket: string): void {
  const region = account.buckets.get(bucket)
  if (region === undefined || region === request.region) return
  const message =
    'The bucket you are attempting to access must be addressed using the specified endpoint. ' +
    'Please send all future requests to this endpoint.'
  const elements = { Endpoint: `${bucket}.s3.${region}.amazonaws.com`, Bucket: bucket }
  throw new Refusal(301, 'PermanentRedirect', message, elements, { 'x-amz-bucket-region': region })
}

/** Path style, or the bucket in the host's name: `bucket.localhost`, `bucket.s3.us-east-1.amazonaws.com`. */
function objectAddress(target: string, host: string): Record<string, unknown> {
  const [, hostBucket] = /^(.+)\.(?:s3[.-][^:]*|localhost)(?::\d+)?$/.exec(host) ?? []
  const path = hostBucket === undefined ? pathOf(target) : `/${hostBucket}${pathOf(target)}`
  const [, bucket = '', key = ''] = /^\/([^/]+)\/?(.*)$/s.exec(path) ?? []
  const versionId = new URLSearchParams(queryOf(target)).get('versionId') ?? undefined
  try {
    // URLSearchParams would do for the query only: in a key a plus is a plus.
    return {
      Bucket: decodeURIComponent(bucket),
      Key: decodeURIComponent(key),
      ...(versionId !== undefined && { VersionId: versionId }),
    }
  } catch {
    return {}
  }
}

// ── answers ──

/** What AWS answers instead of a result. `elements` are what S3's error document has beyond code and message. */
class Refusal extends Error {
  readonly status: number
  readonly code: string
  readonly elements: Record<string, string>
  readonly headers: Record<string, string>
  constructor(
    status: number,
    code: string,
    message: string,
    elements: Record<string, string> = {},
    headers: Record<string, string> = {},
  ) {
    super(message)
    this.status = status
    this.code = code
    this.elements = elements
    this.headers = headers
  }
}

function invalid(member: string, constraint: string): Refusal {
  const message = `1 validation error detected: Value at '${member}' failed to satisfy constraint: ${constraint}`
  return new Refusal(400, 'ValidationException', message)
}

function refuseIfDenied(
  account: Account,
  request: LocalRequest,
  resources: (string | undefined)[],
  arn: string,
): void {
  const action = `${request.service}:${request.action}`
  if (![...resources, '*'].some((resource) => account.denied.has(`${action} ${resource}`))) return
  const message =
    `User: arn:aws:sts::${ACCOUNT_ID}:assumed-role/local/local is not authorized to perform: ${action} on resource: ${arn} ` +
    `because no identity-based policy allows the ${action} action`
  throw request.service === 's3'
    ? new Refusal(403, 'AccessDenied', message)
    : new Refusal(400, 'AccessDeniedException', message)
}

function refusalAnswer(
  request: LocalRequest,
  { status, code, message, elements, headers }: Refusal,
): Answer {
  if (request.service === 's3') {
    const error = Object.entries({ Code: code, Message: message, ...elements })
      .map(
        ([name, text]) =>
          `<${name}>${text.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`)}</${name}>`,
      )
      .join('')
    const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error>${error}</Error>`
    return { status, headers: { ...headers, 'content-type': 'application/xml' }, body }
  }
  // The errors in a service's own model say Message, those of the layers before it say message.
  const modelled =
    /^(AccessDenied|InvalidRequest|ResourceNotFound)Exception$|^InvalidNextToken$/.test(code)
  const text = message === '' ? {} : { [modelled ? 'Message' : 'message']: message }
  return { status, headers, body: JSON.stringify({ __type: code, ...text }) }
}

function send(
  request: LocalRequest,
  response: ServerResponse,
  { status, headers, body }: Answer,
): void {
  const identity: Record<string, string> =
    request.service === 's3'
      ? {
          server: 'AmazonS3',
          'x-amz-request-id': randomBytes(8).toString('hex'),
          'x-amz-id-2': randomBytes(56).toString('base64'),
        }
      : { 'x-amzn-requestid': randomUUID(), 'content-type': 'application/x-amz-json-1.1' }
  const length: Record<string, string> =
    body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
  // Node's own Date header comes from a clock that a test cannot set.
  response.writeHead(status, { date: new Date().toUTCString(), ...identity, ...length, ...headers })
  response.end(body)
}

// ── seed ──

function plant(aws: LocalAws, seed: Seed): void {
  const { parameters, secrets, objects, ...others } = record('seed', seed)
  const unknown = Object.keys(others).join(', ')
  if (unknown !== '')
    throw new TypeError(`seed: expected parameters, secrets, objects, got ${unknown}`)
  for (const [name, given] of Object.entries(record('parameters', parameters))) {
    const {
      value,
      type = 'String',
      labels = [],
    } = typeof given === 'string' ? { value: given } : fieldsOf(given)
    if (typeof value !== 'string' || !isParameterType(type) || !Array.isArray(labels)) {
      throw new TypeError(
        `parameter ${name}: expected a string or { value, type?: String | StringList | SecureString, labels?: [] }`,
      )
    }
    aws.putParameter(name, value, { type, labels })
  }
  for (const [name, given] of Object.entries(record('secrets', secrets)))
    aws.putSecret(name, contentOf(`secret ${name}`, given))
  for (const [uri, given] of Object.entries(record('objects', objects)))
    aws.putObject(uri, contentOf(`object ${uri}`, given))
}

function fieldsOf(given: unknown): Record<string, unknown> {
  return Object(given) as Record<string, unknown>
}

function isParameterType(given: unknown): given is ParameterType {
  return given === 'String' || given === 'StringList' || given === 'SecureString'
}

function contentOf(what: string, given: unknown): string | Uint8Array {
  const { string, base64 } = typeof given === 'string' ? { string: given } : fieldsOf(given)
  if (typeof string === 'string') return string
  if (typeof base64 === 'string') return Buffer.from(base64, 'base64')
  throw new TypeError(`${what}: expected a string, or { "base64": string } for bytes`)
}

function record(what: string, given: unknown = {}): Record<string, unknown> {
  if (typeof given === 'object' && given !== null && !Array.isArray(given))
    return given as Record<string, unknown>
  throw new TypeError(
    `${what}: expected an object, got ${Array.isArray(given) ? 'an array' : given === null ? 'null' : typeof given}`,
  )
}

// ── command line ──

if (isProgram()) {
  run(process.argv.slice(2)).catch((error: unknown) => {
    console.error(
      `local-aws: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`,
    )
    process.exitCode = 1
  })
}

/** By the name alone: what tells more is not there in CommonJS, or not in an ES module. */
function isProgram(): boolean {
  return /[\\/]local-aws(\.[cm]?[jt]s)?$/.test(process.argv[1] ?? '')
}

async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { port: { type: 'string', default: '0' } },
  })
  const port = Number(values.port)
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new Error(`expected a port from 0 to 65535, got ${values.port}`)
  if (positionals.length > 1)
    throw new Error(`expected one seed file, got ${positionals.join(' ')}`)
  const aws = await startLocalAws(readSeed(positionals[0]), { port })
  for (const [name, value] of Object.entries(aws.env)) console.log(`export ${name}='${value}'`)
  aws.intercept = (request, response) => {
    response.once('close', () =>
      console.log(request.service, request.action, asked(request), response.statusCode),
    )
  }
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void aws.close())
}

function readSeed(file: string | undefined): Seed {
  if (file === undefined) return {}
  const text = readFileSync(file, 'utf8')
  try {
    return JSON.parse(text) as Seed
  } catch {
    // V8's own message quotes the text, and with it whatever secret stands there.
    throw new Error(`${file}: not valid JSON`)
  }
}

function asked({ input }: LocalRequest): string {
  if (input.Key !== undefined) return `s3://${String(input.Bucket)}/${String(input.Key)}`
  const { Name, Names, Path, SecretId, SecretIdList } = input
  return [Name ?? Names ?? Path ?? SecretId ?? SecretIdList ?? ''].flat().join(' ')
}
