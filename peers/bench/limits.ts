/** `npm run limits`: the limits of lambda-cache.ts in bytes. Fails where one is exceeded. */
import { argv } from 'node:process'
import { fileURLToPath } from 'node:url'
import type { LibrarySize } from './results.js'
import { measureLibrary } from './size.js'

/** Bytes that `httpsFetch` may add, minified and gzipped. */
const MAX_HTTPS_FETCH_SIZE = 768
/** What the rest should take. */
const SIZE_BUDGET = 6144
/** What it takes: it is not to grow further. */
const MAX_SIZE = 7500

export interface SizeLimit {
  readonly what: string
  readonly bytes: number
  readonly budget: number
  /** The build fails above it. */
  readonly limit: number
}

export function sizeLimits({ whole, withoutHttpsFetch }: LibrarySize): SizeLimit[] {
  const bytes = (withoutHttpsFetch ?? whole).gzipped
  const size = { what: 'lambda-cache.ts without httpsFetch', bytes, budget: SIZE_BUDGET, limit: MAX_SIZE }
  if (!withoutHttpsFetch) return [size]
  return [size, { what: 'httpsFetch', bytes: whole.gzipped - bytes, budget: MAX_HTTPS_FETCH_SIZE, limit: MAX_HTTPS_FETCH_SIZE }]
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  for (const { what, bytes, budget, limit } of sizeLimits(await measureLibrary())) {
    console.log(`${bytes > limit ? 'TOO LARGE' : 'ok'}: ${what}: ${bytes} bytes minified and gzipped, limit ${limit}, budget ${budget}`)
    if (bytes > limit) process.exitCode = 1
  }
}
