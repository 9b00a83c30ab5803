/** What everything weighs. */

import { readFileSync } from 'node:fs'
import { sizeOfFile, sizeOfImport } from '../../tests/size.js'
import { present } from '../present.js'
import { type Alternative, alternatives, hasHttpsFetch } from './alternatives.js'
import { bundle, weigh } from './bundle.js'
import type { HandlerSize, LibrarySize } from './results.js'

export async function measureSizes(): Promise<HandlerSize[]> {
  return Promise.all(alternatives.map(sizeOf))
}

/** lambda-cache.ts alone, and as it is for those who do not import `httpsFetch`. */
export function measureLibrary(): LibrarySize {
  const others = exportedNames().filter((name) => name !== 'httpsFetch')
  const withoutHttpsFetch = hasHttpsFetch ? sizeOfImport(others.join(', ')) : undefined
  return { whole: sizeOfFile(), withoutHttpsFetch }
}

/** From the source: the rest of this has no need to run it. */
export function exportedNames(): string[] {
  const source = readFileSync(new URL('../../lambda-cache.ts', import.meta.url), 'utf8')
  return [...source.matchAll(/^export (?:async )?(?:function|const|class) (\w+)/gm)].map(
    ([, name]) => present(name),
  )
}

async function sizeOf({ name, entry, format }: Alternative): Promise<HandlerSize> {
  const bundled = await bundle(entry, format)
  const external = await bundle(entry, format, ['@aws-sdk/*'])
  return {
    name,
    bundled: weigh(bundled),
    sdkExternal: external.length < bundled.length ? weigh(external) : undefined,
  }
}
