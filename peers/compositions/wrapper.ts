/** What every composition of a handler with somebody's tool is made of. */
import { readFile } from 'node:fs/promises'
import type { Context } from 'aws-lambda'
import type { Cached, Fetch, Options } from '../../lambda-cache.js'

/** A tool, with a handler inside or around it. */
export interface Wrapper {
  /** Invokes the handler as the runtime would, or as near to it as the tool allows. */
  invoke(context: Context): Promise<unknown>
  /** What the tool has sent or stored, but for what it printed. */
  emitted?(): Promise<string> | string
}

/** Makes the composition. The tool is loaded and set up before the library is. */
export type Compose = (
  library: typeof import('../../lambda-cache.js'),
  fetch: Fetch | undefined,
) => Promise<Wrapper> | Wrapper

/** What goes wrong in an invocation, if anything. */
export type Mode = 'works' | 'throws' | 'denied'

/** One value of each kind. */
export function optionsWith(fetch: Fetch | undefined) {
  return {
    ssm: ['/app/parameter'],
    secrets: ['/app/secret'],
    s3: ['s3://bucket/object'],
    fetch,
  } as const satisfies Options
}

export type Values = Cached<ReturnType<typeof optionsWith>>

const seen: string[] = []

/** What a handler does with its values: keeps them for the harness, and fails where that is asked for. */
export async function use({ parameter, secret, object }: Values): Promise<string> {
  seen.push(parameter, secret, await readFile(object, 'utf8'))
  if (process.env.MODE === 'throws') throw new Error('the handler failed')
  return 'done'
}

/** What the handlers have had since it was asked last. */
export function takeSeen(): string[] {
  return seen.splice(0)
}
