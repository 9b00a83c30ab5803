/** For Node's own type stripping: the sources import each other as .js, as they will be once compiled, and .ts is what there is. */
import { existsSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'

registerHooks({
  resolve(specifier, context, nextResolve) {
    const { parentURL } = context
    const isRelative = /^\.{1,2}\//.test(specifier) && specifier.endsWith('.js')
    const url =
      isRelative && parentURL?.startsWith('file:')
        ? new URL(specifier.replace(/\.js$/, '.ts'), parentURL)
        : undefined
    return nextResolve(url && existsSync(fileURLToPath(url)) ? url.href : specifier, context)
  },
})
