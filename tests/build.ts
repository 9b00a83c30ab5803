/** `npm run build`: the library in JavaScript, as an ES module and as CommonJS, each with its declarations, in dist/. */
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../', import.meta.url))
const dist = `${root}dist`
const sources = ['lambda-cache.mts', 'lambda-cache.cts'].map((name) => `${dist}/${name}`)

rmSync(dist, { recursive: true, force: true })
mkdirSync(dist)
// The name of a source decides what TypeScript makes of it.
for (const source of sources) copyFileSync(`${root}lambda-cache.ts`, source)
const options = ['--strict', '--target', 'es2022', '--module', 'nodenext', '--declaration']
const tsc = `${root}node_modules/typescript/bin/tsc`
execFileSync(process.execPath, [tsc, '--ignoreConfig', ...options, ...sources], {
  stdio: 'inherit',
})
for (const source of sources) rmSync(source)
console.log(readdirSync(dist).sort().join('\n'))
