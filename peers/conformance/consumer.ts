/** What a user writes around lambda-cache.ts. matrix.ts compiles it with every compiler, and nothing runs it. */
import { handler } from '../../examples/handler.js'
import type { Cached, CachedHandler, LambdaContext, Options } from '../../lambda-cache.js'
import {
  getObject,
  getParameter,
  getParametersByPath,
  getSecret,
  json,
  LambdaCacheError,
  withCache,
  withCacheStream,
} from '../../lambda-cache.js'

type Equal<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Compiles where `T` is true. */
function is<T extends true>(..._: T[]): void {}

interface Flags {
  readonly dark: boolean
}

export const inferred = withCache(
  async (event: { name: string }, context) => {
    is<Equal<typeof event.name, string>>()
    is<Equal<typeof context.var, string>>()
    is<Equal<typeof context.pinned, string>>()
    is<Equal<typeof context.hosts, readonly string[]>>()
    is<Equal<typeof context.flags, Flags>>()
    is<Equal<typeof context.limit, number | null>>()
    is<Equal<typeof context.db, { readonly host: string; readonly port: string }>>()
    is<Equal<typeof context.app, Readonly<Record<string, string>>>>()
    is<Equal<typeof context.conn_string, string>>()
    is<Equal<typeof context.key, Uint8Array>>()
    is<Equal<(typeof context)['object.json'], string>>()
    is<Equal<typeof context.answer, number>>()
    is<Equal<typeof context.awsRequestId, string>>()
    // @ts-expect-error: nobody asked for this
    void context.other
    // @ts-expect-error: shared values are not to be modified
    context.var = 'another'
    return context.hosts.length
  },
  {
    ssm: [
      '/prod/app/var',
      '/prod/app/pinned:3',
      { name: '/prod/hosts', list: true },
      { name: '/prod/flags', parse: json<Flags> },
      { name: '/prod/limit', parse: Number, default: null },
      { names: ['/prod/db/host', '/prod/db/port'], as: 'db' },
      { path: '/prod/app', recursive: true },
    ],
    secrets: ['/prod/db/conn_string', { id: '/prod/db/key', binary: true }],
    s3: ['s3://bucket/path/to/object.json'],
    custom: [{ as: 'answer', load: async () => 42 }],
    maxAge: 30,
    refreshOn: (error: unknown) =>
      error instanceof LambdaCacheError && error.code === 'ExpiredToken',
  },
)
is<Equal<typeof inferred, CachedHandler<{ name: string }, Promise<number>, LambdaContext>>>()

const options = {
  ssm: ['/prod/app/var'],
  secrets: [{ id: 'a', as: 'login', parse: json<Flags> }],
} as const satisfies Options

export const named = withCache(
  async (event: { name: string }, context: LambdaContext & Cached<typeof options>) =>
    `${event.name} ${context.var} ${context.login.dark}`,
  options,
)

export const streaming = withCacheStream(
  async (event: { name: string }, stream, context) => {
    stream.setContentType('text/plain')
    stream.end(`${event.name} ${context.var}`)
  },
  { ssm: ['/prod/app/var'] },
)

export async function read(context: LambdaContext): Promise<void> {
  const { hello, file, ...rest } = await handler({ name: 'world' }, context)
  is<Equal<typeof hello, string>>()
  // Whoever calls it has no values to give.
  await named({ name: 'world' }, context)
  is<Equal<typeof file, string>>()
  is<Equal<typeof rest, { var: string; conn_string: string }>>()
  const parameter = await getParameter('/a', { list: true })
  const tree = await getParametersByPath('/a', { parse: Number })
  const secret = await getSecret('a', { parse: json<Flags>, default: undefined })
  const object = await getObject('s3://bucket/a', { binary: true, maxAge: 0 })
  is<Equal<typeof parameter, readonly string[]>>()
  is<Equal<typeof tree, Readonly<Record<string, number>>>>()
  is<Equal<typeof secret, Flags | undefined>>()
  is<Equal<typeof object, Uint8Array>>()
}

export function refused(): void {
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
}
