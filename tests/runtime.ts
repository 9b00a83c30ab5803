/**
 * Lambda's runtime in miniature, as a process or a worker thread of its own: it makes a function, then invokes it whenever a
 * message asks for that, one invocation at a time. The tests freeze it, run several of it over one folder, and weigh it.
 */

import { readFile } from 'node:fs/promises'
import { parentPort } from 'node:worker_threads'
import {
  type Fetch,
  httpsFetch,
  type LambdaCacheError,
  type LambdaContext,
  type Options,
  withCache,
} from '../lambda-cache.js'
import { lambdaContext } from './context.js'

/** Asks for an invocation. */
export interface Order {
  /** Makes the function, or makes it anew. */
  readonly options?: Options
  /** What makes the calls of a function that is made. */
  readonly transport?: 'fetch' | 'httpsFetch'
  /** Whether the function tells how far its exchanges have come. */
  readonly watched?: boolean
  /** What to give back of the function's context. */
  readonly values?: readonly string[]
  /** The same, but the content of the file that is named there. */
  readonly files?: readonly string[]
}

/** How an invocation ended. */
export interface Outcome {
  readonly values?: Readonly<Record<string, string>>
  readonly error?: { readonly name: string; readonly code: string; readonly message: string }
  /** Bytes of memory that the process held before the invocation, and at most during it. */
  readonly rss: { readonly before: number; readonly peak: number }
}

/** How far an exchange has come. */
export interface Sighting {
  readonly seen: 'headers' | 'body'
}

/** Milliseconds. */
const TIMEOUT = 5 * 60_000
const SAMPLING_INTERVAL = 5

let invoke: (event: Order, context: LambdaContext) => Promise<Record<string, string>>

if (parentPort) parentPort.on('message', (order: Order) => void run(order))
else process.on('message', (order: Order) => void run(order))

function tell(message: Outcome | Sighting): void {
  if (parentPort) parentPort.postMessage(message)
  else process.send?.(message)
}

async function run(order: Order): Promise<void> {
  const before = process.memoryUsage.rss()
  let peak = before
  const sample = (): void => {
    peak = Math.max(peak, process.memoryUsage.rss())
  }
  const sampling = setInterval(sample, SAMPLING_INTERVAL)
  const ending = await end(order)
  clearInterval(sampling)
  sample()
  tell({ ...ending, rss: { before, peak } })
}

async function end(order: Order): Promise<Omit<Outcome, 'rss'>> {
  const { options, transport, watched } = order
  const fetch = transport === 'httpsFetch' ? httpsFetch : globalThis.fetch
  try {
    if (options) invoke = withCache(give, { ...options, fetch: watched ? watching(fetch) : fetch })
    const deadline = Date.now() + TIMEOUT
    return {
      values: await invoke(
        order,
        lambdaContext(() => deadline - Date.now()),
      ),
    }
  } catch (error) {
    const { name, code, message } = error as LambdaCacheError
    return { error: { name, code, message } }
  }
}

/** The handler. */
async function give(
  { values = [], files = [] }: Order,
  context: LambdaContext,
): Promise<Record<string, string>> {
  const given: Record<string, string> = {}
  for (const name of values) given[name] = Reflect.get(context, name) as string
  for (const name of files)
    given[name] = await readFile(Reflect.get(context, name) as string, 'latin1')
  return given
}

function watching(fetch: Fetch): Fetch {
  return async (url, init) => {
    const response = await fetch(url, init)
    tell({ seen: 'headers' })
    return {
      status: response.status,
      headers: response.headers,
      body: response.body && watchedBody(response.body),
      text: () => response.text(),
    }
  }
}

async function* watchedBody(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let seen = false
  for await (const piece of body) {
    yield piece
    // Whoever asks for more has dealt with the first piece.
    if (!seen) tell({ seen: 'body' })
    seen = true
  }
}
