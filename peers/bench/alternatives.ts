/** What is compared. */
import { readFileSync } from 'node:fs'

export interface Alternative {
  readonly name: string
  /** What the bundle is made of: a file of this folder, or a source that is made here. */
  readonly entry: Entry
  readonly format?: 'cjs'
  /** What it sends with. */
  readonly over: 'fetch' | 'https'
}

export interface Entry {
  /** Its name says what the bundle is called. */
  readonly file: string
  /** For those that are not in a file. */
  readonly contents?: string
}

export const FETCH_FLOOR = 'floor over fetch'
export const HTTPS_FLOOR = 'floor over node:https'
export const DEFAULT = 'lambda-cache'
export const WITH_HTTPS_FETCH = 'lambda-cache, httpsFetch'
export const SDK = 'AWS SDK v3'
export const MAP = 'a Map by hand'
/** Added to the name of what has its values before the first invocation. */
export const PREFETCHED = ', prefetch'

/** Whether lambda-cache.ts has it: without it the rows that need it are left out. */
export const hasHttpsFetch = /^export (async )?(function|const) httpsFetch\b/m.test(
  readFileSync(new URL('../../lambda-cache.ts', import.meta.url), 'utf8'),
)

export const alternatives: readonly Alternative[] = [
  { name: HTTPS_FLOOR, entry: { file: 'alternatives/floor-https.ts' }, over: 'https' },
  { name: FETCH_FLOOR, entry: { file: 'alternatives/floor-fetch.ts' }, over: 'fetch' },
  ...whereThereIsHttpsFetch({
    name: WITH_HTTPS_FETCH,
    entry: withHttpsFetch('alternatives'),
    over: 'https',
  }),
  { name: DEFAULT, entry: { file: 'alternatives/over-fetch.ts' }, over: 'fetch' },
  { name: 'aws-lite', entry: { file: 'alternatives/aws-lite.ts' }, over: 'https' },
  { name: 'aws4fetch', entry: { file: 'alternatives/aws4fetch.ts' }, over: 'fetch' },
  {
    name: `${SDK}, CommonJS`,
    entry: { file: 'alternatives/sdk.ts' },
    format: 'cjs',
    over: 'https',
  },
  { name: SDK, entry: { file: 'alternatives/sdk.ts' }, over: 'https' },
  { name: 'middy', entry: { file: 'alternatives/middy.ts' }, over: 'https' },
  { name: 'Powertools', entry: { file: 'alternatives/powertools.ts' }, over: 'https' },
]

/** Where the module itself waits for the values. */
export const prefetched: readonly Alternative[] = alternatives
  .filter(({ name }) => [DEFAULT, WITH_HTTPS_FETCH].includes(name))
  .map(({ name, entry, over }) => {
    const contents = `
      import { httpsFetch } from '../../lambda-cache.js'
      import { makeHandler } from './alternatives/make-handler.js'
      export const handler = makeHandler(${over === 'https' ? 'httpsFetch' : ''})
      await handler.prefetch()`
    const file = entry.file.replace('.ts', '-prefetch.ts')
    return { name: name + PREFETCHED, entry: { file, contents }, over }
  })

/** Those that keep values between invocations. */
export const caches: readonly Alternative[] = [
  { name: MAP, entry: { file: 'alternatives/map.ts' }, over: 'fetch' },
  ...alternatives.filter(({ name }) => [DEFAULT, 'middy', 'Powertools'].includes(name)),
]

export const downloads: readonly Alternative[] = [
  { name: SDK, entry: { file: 'downloads/sdk.ts' }, over: 'https' },
  { name: FETCH_FLOOR, entry: { file: 'downloads/floor-fetch.ts' }, over: 'fetch' },
  { name: DEFAULT, entry: { file: 'downloads/over-fetch.ts' }, over: 'fetch' },
  ...whereThereIsHttpsFetch({
    name: WITH_HTTPS_FETCH,
    entry: withHttpsFetch('downloads'),
    over: 'https',
  }),
]

function whereThereIsHttpsFetch(alternative: Alternative): Alternative[] {
  return hasHttpsFetch ? [alternative] : []
}

function withHttpsFetch(folder: string): Entry {
  const contents = `
    import { httpsFetch } from '../../lambda-cache.js'
    import { makeHandler } from './${folder}/make-handler.js'
    export const handler = makeHandler(httpsFetch)`
  return { file: `${folder}/lambda-cache-https.ts`, contents }
}
