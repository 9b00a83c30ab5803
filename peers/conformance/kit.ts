/** What the conformance tests share: an environment of their own, the SDK's clients and tables, random numbers that repeat themselves. */

import { once } from 'node:events'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { S3ClientConfig } from '@aws-sdk/client-s3'
import type { SSMClientConfig } from '@aws-sdk/client-ssm'
import { clearCache, type Fetch, httpsFetch, LambdaCacheError } from '../../lambda-cache.js'

export const REGION = 'eu-west-1'

/** Those of examples/local-aws.ts. */
export const CREDENTIALS = {
  accessKeyId: 'local-access-key-id',
  secretAccessKey: 'local-secret-access-key',
  sessionToken: 'local-session-token',
}

/** Every way in which the library can make its calls. */
export const FETCHES: Readonly<Record<string, Fetch>> = { fetch, httpsFetch }

/** Options of each client of the SDK: one attempt, and nothing from the files of whoever runs the tests. */
export const SDK_OPTIONS = {
  region: REGION,
  credentials: CREDENTIALS,
  maxAttempts: 1,
} satisfies SSMClientConfig & S3ClientConfig

/** Every test begins with an empty cache, and with the AWS variables that are given and no others. */
export function useEnvironment(variables: () => Readonly<Record<string, string>>): void {
  const before = { ...process.env }
  beforeEach(() => {
    clearCache()
    for (const name of Object.keys(process.env))
      if (name.startsWith('AWS_')) delete process.env[name]
    Object.assign(process.env, {
      AWS_REGION: REGION,
      AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
      AWS_SESSION_TOKEN: CREDENTIALS.sessionToken,
      ...variables(),
    })
  })
  afterEach(() => {
    for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]
    Object.assign(process.env, before)
  })
}

/** Gives the local AWS's credentials to whoever assumes a role, for an hour. API: AssumeRole. */
export async function startSts(): Promise<{
  readonly url: string
  /** Those that were assumed. */
  readonly roles: string[]
  close(): Promise<unknown>
}> {
  const roles: string[] = []
  const server = createServer(async (request, response) => {
    const form = new URLSearchParams(await text(request))
    roles.push(form.get('RoleArn') ?? '')
    response.end(`<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
      <AssumeRoleResult><Credentials>
        <AccessKeyId>${CREDENTIALS.accessKeyId}</AccessKeyId>
        <SecretAccessKey>${CREDENTIALS.secretAccessKey}</SecretAccessKey>
        <SessionToken>${CREDENTIALS.sessionToken}</SessionToken>
        <Expiration>${new Date(Date.now() + 3_600_000).toISOString()}</Expiration>
      </Credentials></AssumeRoleResult>
    </AssumeRoleResponse>`)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    roles,
    close() {
      server.closeAllConnections()
      return once(server.close(), 'close')
    },
  }
}

/** A port that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  await once(server.close(), 'close')
  return port
}

/** What a promise was rejected with. */
export async function failureOf(promise: Promise<unknown>): Promise<Error> {
  const [outcome] = await Promise.allSettled([promise])
  if (outcome.status === 'fulfilled') throw new Error('it was to fail, but gave a value')
  return outcome.reason as Error
}

/** The same, of a call of the library. */
export async function refusalOf(promise: Promise<unknown>): Promise<LambdaCacheError> {
  const error = await failureOf(promise)
  if (!(error instanceof LambdaCacheError)) throw error
  return error
}

/**
 * A module that a package of the SDK keeps to itself. The SDK has tables that it does not export: a version that has moved
 * them makes the tests fail here, not pass without them.
 */
export async function innerModule<T>(dependent: string, name: string, file: string): Promise<T> {
  const require = createRequire(createRequire(import.meta.url).resolve(dependent))
  return (await import(
    pathToFileURL(join(dirname(require.resolve(`${name}/package.json`)), file)).href
  )) as T
}

/** Numbers that are random, and the same for the same seed. */
export interface Randomness {
  /** From 0 to below the limit. */
  integer(limit: number): number
  chance(share: number): boolean
  pick<T>(choices: readonly T[]): T
  /** Up to `limit` of them. */
  several<T>(limit: number, make: () => T): T[]
}

/** Marsaglia's xorshift with 32 bits. */
export function randomness(seed: number): Randomness {
  let state = seed
  const integer = (limit: number): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % limit
  }
  return {
    integer,
    chance: (share) => integer(1000) < share * 1000,
    pick: <T>(choices: readonly T[]) => choices[integer(choices.length)] as T,
    several: (limit, make) => Array.from({ length: integer(limit + 1) }, make),
  }
}

/** The packages of the compilers, and what they are asked besides. */
export const COMPILERS = {
  '5.0': ['typescript5.0'],
  '5.9': ['typescript5.9'],
  '7': ['typescript', '--ignoreConfig'],
} as const

/** Lambda's versions of Node.js, from the packages that bring them. */
export const NODE_PROGRAMS = Object.fromEntries(
  [22, 24].map((major) => [
    major,
    fileURLToPath(new URL(`../node_modules/node${major}/bin/node`, import.meta.url)),
  ]),
)
