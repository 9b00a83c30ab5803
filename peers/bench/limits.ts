/** `tsx bench/limits.ts`: the limits of lambda-cache.ts in bytes. Fails where one is exceeded. */
import { argv } from 'node:process'
import { fileURLToPath } from 'node:url'
import type { LibrarySize } from './results.js'
import { measureLibrary } from './size.js'

/** Bytes, minified and gzipped. */
export const MAX_SIZE = 6144
/** Bytes that `httpsFetch` may add. */
export const MAX_HTTPS_FETCH_SIZE = 768

export interface SizeLimit {
  readonly what: string
  readonly bytes: number
  readonly limit: number
}

export function sizeLimits({ whole, withoutHttpsFetch }: LibrarySize): SizeLimit[] {
  const size = { what: 'lambda-cache.ts without httpsFetch', bytes: (withoutHttpsFetch ?? whole).gzipped, limit: MAX_SIZE }
  if (!withoutHttpsFetch) return [size]
  return [size, { what: 'httpsFetch', bytes: whole.gzipped - withoutHttpsFetch.gzipped, limit: MAX_HTTPS_FETCH_SIZE }]
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  for (const { what, bytes, limit } of sizeLimits(await measureLibrary())) {
    console.log(`${bytes > limit ? 'TOO LARGE' : 'ok'}: ${what}: ${bytes} bytes minified and gzipped, limit ${limit}`)
    if (bytes > limit) process.exitCode = 1
  }
}
