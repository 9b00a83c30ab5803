/** `decoding.ts ORIGIN PATH...`, in a process of its own: prints what both transports make of each answer, in JSON. */
import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { FETCHES } from './kit.js'

/** By path and transport: the digest of the body, or that reading it failed. */
export type Outcomes = Readonly<Record<string, Readonly<Record<string, string>>>>

const [, , origin = '', ...paths] = process.argv
const outcomes: Record<string, Record<string, string>> = {}
for (const path of paths) {
  outcomes[path] = {}
  for (const [transport, fetch] of Object.entries(FETCHES)) {
    const controller = new AbortController()
    const { signal } = controller
    const init = { method: 'GET', headers: {}, redirect: 'manual', signal } as const
    outcomes[path][transport] = await fetch(`${origin}/${path}`, init)
      .then(async ({ body }) => digest(await buffer(body as AsyncIterable<Uint8Array>)))
      .catch(() => 'an error')
    controller.abort()
  }
}
console.log(JSON.stringify(outcomes satisfies Outcomes))
process.exit()

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
