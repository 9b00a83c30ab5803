/** `npm run limits`: the limits of lambda-cache.ts in bytes. Fails where one is exceeded. */
import { argv } from 'node:process'
import { fileURLToPath } from 'node:url'
import type { LibrarySize } from './results.js'
import { measureLibrary } from './size.js'

/** Bytes that `httpsFetch` may add, minified and gzipped. */
const MAX_HTTPS_FETCH_SIZE = 768
/** What the whole file should take. */
const SIZE_BUDGET = 8192
const MAX_SIZE = 9216

export interface SizeLimit {
  readonly what: string
  readonly bytes: number
  readonly budget: number
  /** The build fails above it. */
  readonly limit: number
}

export function sizeLimits({ whole, withoutHttpsFetch }: LibrarySize): SizeLimit[] {
  const size = { what: 'lambda-cache.ts', bytes: whole.gzipped, budget: SIZE_BUDGET, limit: MAX_SIZE }
  if (!withoutHttpsFetch) return [size]
  const added = whole.gzipped - withoutHttpsFetch.gzipped
  return [size, { what: 'httpsFetch', bytes: added, budget: MAX_HTTPS_FETCH_SIZE, limit: MAX_HTTPS_FETCH_SIZE }]
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  for (const { what, bytes, budget, limit } of sizeLimits(await measureLibrary())) {
    console.log(`${bytes > limit ? 'TOO LARGE' : 'ok'}: ${what}: ${bytes} bytes minified and gzipped, limit ${limit}, budget ${budget}`)
    if (bytes > limit) process.exitCode = 1
  }
}
