/** Functions in processes and threads of their own: tests/runtime.ts, by the real clock. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { buildSync } from 'esbuild'
import { cleanups, present, type Transport, transport } from './kit.js'
import type { Order, Outcome, Sighting } from './runtime.js'

export const MEBIBYTE = 1024 * 1024
/** Nothing takes that long: a test that hangs ends by it. */
export const HANGS = { timeout: 120_000 }

export const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** tests/runtime.ts and what it imports, as one module: through tsx each start would take half a second. */
export const RUNTIME = present(
  buildSync({
    entryPoints: [join(ROOT, 'tests/runtime.ts')],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
  }).outputFiles[0],
).text

/** A function that runs elsewhere. */
export interface Remote {
  /** Exchanges that have come so far, since the function was started. */
  readonly seen: Record<Sighting['seen'], number>
  invoke(order: Order): Promise<Outcome>
}

export interface RemoteProcess extends Remote {
  readonly process: ChildProcess
  /** Lets it come to its end by itself: how it ended, and what it had printed. */
  end(): Promise<string>
}

/** Starts a function in a process, where `fileLimit` is what `ulimit -f` takes. */
export function startProcess(
  environment: Record<string, string>,
  fileLimit = 'unlimited',
): RemoteProcess {
  const runtime = spawn(
    'sh',
    [
      '-c',
      `ulimit -f ${fileLimit}; exec "$@"`,
      'sh',
      process.execPath,
      '--input-type=module',
      '--eval',
      RUNTIME,
    ],
    {
      cwd: ROOT,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      serialization: 'advanced',
    },
  )
  let printed = ''
  const streams = [present(runtime.stdout), present(runtime.stderr)]
  for (const stream of streams)
    stream.setEncoding('utf8').on('data', (text: string) => {
      printed += text
    })
  // Node emits no 'close' for a child that has been disconnected from here.
  const ended = Promise.all([
    once(runtime, 'exit'),
    ...streams.map((stream) => once(stream, 'close')),
  ]).then(
    ([[code, signal]]) =>
      `${(signal as string) ?? `exit code ${code}`}${printed && `: ${printed}`}`,
  )
  cleanups.push(() => runtime.kill('SIGKILL') && ended)
  const end = (): Promise<string> => {
    runtime.disconnect()
    return ended
  }
  return { process: runtime, end, ...remote(runtime, (order) => runtime.send(order), ended) }
}

/** Starts a function in a thread. */
export function startThread(environment: Record<string, string>, made: Transport): Remote {
  const thread = new Worker(new URL(`data:text/javascript,${encodeURIComponent(RUNTIME)}`), {
    env: { ...process.env, ...environment },
  })
  cleanups.push(() => thread.terminate())
  const ended = new Promise<string>((resolve) =>
    thread
      .once('error', (error) => resolve(String(error)))
      .once('exit', (code) => resolve(`exit code ${code}`)),
  )
  return remote(thread, (order) => thread.postMessage({ ...order, transport: made }), ended)
}

export function remote(
  runtime: ChildProcess | Worker,
  send: (order: Order) => void,
  ended: Promise<string>,
): Remote {
  const seen = { headers: 0, body: 0 }
  let settle: (outcome: Outcome) => void
  runtime.on('message', (message: Outcome | Sighting) => {
    if ('seen' in message) seen[message.seen] += 1
    else settle(message)
  })
  const invoke = (order: Order): Promise<Outcome> => {
    const outcome = new Promise<Outcome>((resolve) => {
      settle = resolve
    })
    send({ transport, ...order })
    return Promise.race([
      outcome,
      ended.then((how) => assert.fail(`the function ended early, with ${how}`)),
    ])
  }
  return { seen, invoke }
}

export async function eventually(condition: () => boolean): Promise<void> {
  for (const start = performance.now(); !condition(); await sleep(5))
    assert.ok(performance.now() - start < 60_000, `never came true: ${condition}`)
}

export const MOMENTS = ['idle', 'request sent', 'headers received', 'body half read'] as const
export type Moment = (typeof MOMENTS)[number]

/** Lets an answer come as far as this, and the rest of it when it is released. */
export function hold(response: ServerResponse, moment: Moment): () => void {
  const end = response.end.bind(response) as (content: Buffer) => ServerResponse
  let release = (): void => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  response.end = ((content: string | Uint8Array = '') => {
    const body = Buffer.from(content as string)
    const half = moment === 'body half read' ? body.length >> 1 : 0
    if (moment !== 'request sent') response.flushHeaders()
    if (half) response.write(body.subarray(0, half))
    void released.then(() => end(body.subarray(half)))
    return response
  }) as ServerResponse['end']
  return release
}

/** A text that tells by itself whether it is whole. */
export function sealed(name: string, size: number): string {
  const content = `${name} ${randomBytes(size / 2).toString('hex')}`
  return `${content} ${createHash('sha256').update(content).digest('hex')}`
}

/** The name in a sealed text. */
export function opened(text: string | undefined): string {
  const [, content = '', name, seal] = /^((\S+) .*) (.*)$/s.exec(text ?? '') ?? []
  assert.equal(
    createHash('sha256').update(content).digest('hex'),
    seal,
    `torn: ${text?.length} bytes, ${text?.slice(0, 40)}`,
  )
  return present(name)
}

/** What an invocation gave; it must have succeeded. */
export function succeeded({ values, error }: Outcome): Readonly<Record<string, string>> {
  return values ?? assert.fail(`${error?.code}: ${error?.message}`)
}
