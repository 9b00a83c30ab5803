/** lambda-cache.ts with other globals than Node's: a clock of its own, a disk, a process. */
import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { compileFunction } from 'node:vm'
import { build } from 'esbuild'
import type * as Library from '../lambda-cache.js'

/** What an instance gets in the place of the globals of these names. */
const GLOBALS = [
  'module',
  'require',
  'process',
  'console',
  'Date',
  'Math',
  'setTimeout',
  'clearTimeout',
  'setImmediate',
] as const

type Globals = Record<Exclude<(typeof GLOBALS)[number], 'module' | 'require'>, unknown> & {
  readonly require?: unknown
}

/** Where else a program can get the time, or waste it: what is not replaced must not be used. */
const OTHER_CLOCKS = /\b(performance|hrtime|setInterval|AbortSignal\.timeout|timers\/promises)\b/

/** Makes an instance, with a cache of its own. */
export type Instantiate = (globals: Globals) => typeof Library

/** Compiles a file once, for any number of instances. */
export async function instancesOf(
  file = fileURLToPath(new URL('../lambda-cache.ts', import.meta.url)),
  edit: (source: string) => string = (source) => source,
): Promise<Instantiate> {
  const contents = edit(await readFile(file, 'utf8'))
  const { outputFiles } = await build({
    stdin: { contents, loader: 'ts', resolveDir: dirname(file) },
    write: false,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    // It would ask Node itself, past `require`.
    supported: { 'dynamic-import': false },
  })
  const code = outputFiles.map(({ text }) => text).join('')
  const [otherClock] = OTHER_CLOCKS.exec(code) ?? []
  if (otherClock) throw new Error(`${file} uses ${otherClock}, which has no virtual counterpart`)
  const instantiate = compileFunction(code, [...GLOBALS]) as (...globals: unknown[]) => void
  return (globals) => {
    const module = { exports: {} }
    const all: Record<string, unknown> = { ...globals, module }
    instantiate(...GLOBALS.map((name) => all[name]))
    return module.exports as typeof Library
  }
}

/** `Date`, whose `now()` and whose constructor without arguments read another clock. */
export function virtualDate(now: () => number): DateConstructor {
  class VirtualDate extends Date {
    constructor(...given: [] | [number | string]) {
      super(given.length === 0 ? now() : given[0])
    }
    static override now(): number {
      return now()
    }
  }
  return VirtualDate as never
}
