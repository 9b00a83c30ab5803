/** `sign` beside the SDK's signer, over requests that are random and the same in every run. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SSMClient } from '@aws-sdk/client-ssm'
import { SignatureV4 } from '@smithy/signature-v4'
import { type SignRequest, sign } from '../../lambda-cache.js'
import { present } from '../present.js'
import { type Randomness, randomness, SDK_OPTIONS } from './kit.js'

const REQUESTS = 10_000
const SEED = 20_240_229

const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'PATCH', 'OPTIONS']
const SERVICES = ['ssm', 'secretsmanager', 's3', 'execute-api']
const REGIONS = [
  'us-east-1',
  'eu-west-1',
  'ap-southeast-3',
  'us-gov-west-1',
  'cn-north-1',
  'us-iso-east-1',
]
const HOSTS = [
  'bucket.s3.eu-west-1.amazonaws.com',
  'localhost:4566',
  '127.0.0.1',
  '[::1]:8443',
  'example.com:443',
  'UPPER.example.com',
]
const SPECIAL_SEGMENTS = ['', '.', '..', '%2e', '%2E.', '...']
const CHARACTERS = [...`abXYZ019-._~ %+&=?#/:;@,!$'()*"<>[]\\^\`{|}\t\n\r\u0000\u007fäß€日🎉`]
const HEADER_NAMES = [
  'Content-Type',
  'X-Amz-Target',
  'x-amz-meta-note',
  'x-amz-meta',
  'X-AMZ-Meta-Note-2',
  'range',
  'If-None-Match',
  'x_y',
  'x-1',
  'x.2',
]
const HEADER_CHARACTERS = [...`abYZ09 \t  ,;:="'/+()<>@[]{}~%`]

/** Each of them makes a text fit for a URL; they differ in what they leave as it is. */
const ENCODERS: readonly ((text: string) => string)[] = [
  encodeURIComponent,
  (text) =>
    encodeURIComponent(text).replace(
      /[!'()*]/g,
      (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
    ),
  (text) => encodeURI(text).replace(/[?#/&=+]/g, encodeURIComponent),
]

interface RandomRequest extends SignRequest {
  readonly headers: Record<string, string>
  readonly pairs: readonly (readonly [name: string, value: string])[]
}

const { sha256 } = new SSMClient(SDK_OPTIONS).config

test(`signs ${REQUESTS} random requests as the SDK does`, async () => {
  const random = randomness(SEED)
  const signatures = new Set<string>()
  for (let count = 0; count < REQUESTS; count += 1) {
    const request = randomRequest(random)
    const { host, ...expected } = await signedBySdk(request)
    const signed = sign(request)
    const names = ['authorization', 'x-amz-date', 'x-amz-security-token', 'x-amz-content-sha256']
    const wanted = Object.fromEntries(names.map((name) => [name, expected[name]]))
    assert.deepEqual(
      Object.fromEntries(names.map((name) => [name, signed[name]])),
      wanted,
      `request ${count}: ${JSON.stringify(request)}`,
    )
    signatures.add(present(signed.authorization))
  }
  // A generator that repeats itself would prove little.
  assert.equal(signatures.size, REQUESTS)
})

test('tells apart requests that differ in one detail, as the SDK does', async () => {
  const random = randomness(SEED)
  const request = {
    ...randomRequest(random),
    method: 'GET',
    body: 'body',
    headers: { 'x-amz-meta': 'one' },
  }
  const changed: RandomRequest[] = [
    { ...request, method: 'PUT' },
    { ...request, body: 'Body' },
    { ...request, headers: { 'x-amz-meta': 'two' } },
    { ...request, region: 'sa-east-1' },
    { ...request, date: new Date(request.date.getTime() + 1000) },
  ]
  for (const other of changed) {
    assert.notEqual(sign(other).authorization, sign(request).authorization)
    assert.equal(sign(other).authorization, (await signedBySdk(other)).authorization)
  }
})

test('sorts the names of headers as the SDK does, where one begins with another', async () => {
  const random = randomness(SEED)
  for (const character of "!#$%&'*+-.^_`|~0a") {
    const request = {
      ...randomRequest(random),
      headers: { 'x-amz-meta': 'one', [`x-amz-meta${character}`]: 'two' },
    }
    assert.equal(sign(request).authorization, (await signedBySdk(request)).authorization, character)
  }
})

async function signedBySdk(request: RandomRequest): Promise<Record<string, string>> {
  const { method, url, headers, body, service, region, credentials, date, pairs } = request
  const isS3 = service === 's3'
  const { accessKeyId, secretAccessKey, sessionToken } = credentials
  const permanent = { accessKeyId, secretAccessKey }
  const signer = new SignatureV4({
    service,
    region,
    sha256,
    credentials: sessionToken === undefined ? permanent : { ...permanent, sessionToken },
    uriEscapePath: !isS3,
    applyChecksum: isS3,
  })
  // The path that goes out: no URL keeps a `.` or `..`, while the SDK would sign `/a//../b` as `/b`.
  const { protocol, hostname, host, pathname: path } = new URL(url)
  const query: Record<string, string[]> = {}
  for (const [name, value] of pairs) query[name] = [...(query[name] ?? []), value]
  const signed = await signer.sign(
    { method, protocol, hostname, path, query, headers: { ...headers, host }, body },
    { signingDate: date },
  )
  return signed.headers
}

function randomRequest(random: Randomness): RandomRequest {
  const service = random.pick(SERVICES)
  const pairs = randomPairs(random)
  const query = pairs.map(([name, value]) => encodePair(random, name, value)).join('&')
  const url = `https://${random.pick(HOSTS)}/${randomPath(random, service)}${query && `?${query}`}`
  return {
    method: random.pick(METHODS),
    url,
    headers: Object.fromEntries(
      random.several(6, () => [
        random.pick(HEADER_NAMES),
        randomText(random, HEADER_CHARACTERS, 30),
      ]),
    ),
    body: random.pick([
      undefined,
      '',
      randomText(random, CHARACTERS, 200),
      Uint8Array.from(random.several(200, () => random.integer(256))),
    ]),
    service,
    region: random.pick(REGIONS),
    credentials: {
      accessKeyId: `AKIA${random.integer(2 ** 31)}`,
      secretAccessKey: `${random.integer(2 ** 31)}/+${randomText(random, CHARACTERS, 20)}`,
      sessionToken: random.chance(0.5) ? `token+/=${random.integer(2 ** 31)}` : undefined,
    },
    date: new Date(Date.UTC(2000, 0, 1, 0, 0, random.integer(3_000_000_000), random.integer(1000))),
    pairs,
  }
}

/** Without a leading slash. S3 keys keep their empty segments and cannot have any with dots alone. */
function randomPath(random: Randomness, service: string): string {
  const specials = service === 's3' ? [''] : SPECIAL_SEGMENTS
  const segment = (): string =>
    random.chance(0.2)
      ? random.pick(specials)
      : random.pick(ENCODERS)(`k${randomText(random, CHARACTERS, 12)}`)
  return random.several(5, segment).join('/')
}

/** Some names come several times, some values are empty. */
function randomPairs(random: Randomness): [name: string, value: string][] {
  const names = random.several(
    4,
    () => `${random.pick(['', 'n', 'X-Amz-', 'versionId'])}${randomText(random, CHARACTERS, 4)}`,
  )
  const pair = (name: string): [name: string, value: string] => [
    name,
    random.chance(0.3) ? '' : randomText(random, CHARACTERS, 8),
  ]
  return names.flatMap((name) => [pair(name), ...random.several(2, () => pair(name))])
}

/** A pair without a value may do without its `=`, unless it has no name either. */
function encodePair(random: Randomness, name: string, value: string): string {
  const encode = random.pick(ENCODERS)
  return value === '' && name !== '' && random.chance(0.5)
    ? encode(name)
    : `${encode(name)}=${encode(value)}`
}

function randomText(random: Randomness, characters: readonly string[], limit: number): string {
  return random.several(limit, () => random.pick(characters)).join('')
}
