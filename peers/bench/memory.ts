/** What is read from memory: wrapped handlers and direct access, beside a Map by hand and an earlier version of the file. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Alternative, DEFAULT } from './alternatives.js'
import type { Bench } from './processes.js'

/** The last commit before reads from memory were looked at, and its version. */
const EARLIER_COMMIT = '48959e2'
export const EARLIER = 'lambda-cache 0.2.0'

export const REFRESH_ON = ', refreshOn'

export const MAP_READ = 'a Map by hand'
export const POWERTOOLS_READ = 'Powertools getParameter'
const STAT_READ = 'lstat of a file'
const INLINE_PARSE_READ = `${DEFAULT} getParameter, an inline parse`
const FILE_READ = `${DEFAULT} getObject, a file`

const root = fileURLToPath(new URL('../../', import.meta.url))
const library = join(root, 'lambda-cache.ts')

/** Where the earlier file is now. Nowhere in a clone without the history. */
export function earlierLibrary({ folder }: Bench): string | undefined {
  const file = join(folder, 'earlier', 'lambda-cache.ts')
  try {
    const source = execFileSync('git', ['show', `${EARLIER_COMMIT}:lambda-cache.ts`], { cwd: root })
    mkdirSync(join(folder, 'earlier'), { recursive: true })
    writeFileSync(file, source)
    return file
  } catch {
    console.error(`no commit ${EARLIER_COMMIT} here: the rows of ${EARLIER} are left out`)
    return undefined
  }
}

/** A handler with four values, by whatever file it is given. */
export function wrappedBy(name: string, file = library, refreshOn = false): Alternative {
  const contents = `
    import { json, withCache } from '${file}'
    import { BUCKET, KEY, MAX_AGE, PARAMETERS, SECRET } from './alternatives/job.js'
    export const handler = withCache(
      async (event, { level, queue, conn_string, flags }) => ({ level, queue, conn_string, flags }),
      {
        ssm: PARAMETERS,
        secrets: [SECRET],
        s3: [{ uri: 's3://' + BUCKET + '/' + KEY, as: 'flags', parse: json }],
        maxAge: MAX_AGE,
        ${refreshOn ? 'refreshOn: (error) => error.code === "28P01",' : ''}
      },
    )`
  return { name, entry: { file: `wrapped-${slugOf(name)}.ts`, contents }, over: 'fetch' }
}

/** Reads of one value each, by their names. Options stand in the call, as people write them. */
export function directBy(prefix: string, file = library): Alternative {
  const contents = `
    import { getObject, getParameter, getSecret, json } from '${file}'
    import { BUCKET, KEY, MAX_AGE as maxAge, PARAMETERS, SECRET } from './alternatives/job.js'
    const [parameter] = PARAMETERS
    const uri = 's3://' + BUCKET + '/' + KEY
    export const name = '${prefix}'
    export const reads = {
      '${prefix} getParameter': () => getParameter(parameter, { maxAge }),
      '${prefix} getParameter, no options': () => getParameter(parameter),
      '${prefix} getParameter, parse': () => getParameter(parameter, { maxAge, parse: String }),
      '${prefix} getSecret': () => getSecret(SECRET, { maxAge }),
      '${prefix} getSecret, parse': () => getSecret(SECRET, { maxAge, parse: String }),
      '${prefix} getObject, parse': () => getObject(uri, { maxAge, parse: json }),
      '${prefix} getObject, binary': () => getObject(uri, { maxAge, binary: true }),
    }`
  return directFrom(prefix, contents)
}

/** Those that do more than to read memory. */
export const directWithMore: Alternative = directFrom(
  'with more',
  `
    import { getObject, getParameter } from '${library}'
    import { BUCKET, KEY, MAX_AGE as maxAge, PARAMETERS } from './alternatives/job.js'
    const [name] = PARAMETERS
    const uri = 's3://' + BUCKET + '/' + KEY
    const file = process.env.HOME + '/flags'
    export const reads = {
      '${INLINE_PARSE_READ}': () => getParameter(name, { maxAge, parse: (text) => text }),
      '${FILE_READ}': () => getObject(uri, { maxAge, file }),
    }`,
)

/** One read of the file as it was earlier. */
export function directByEarlier(file: string): Alternative {
  return directFrom(
    EARLIER,
    `
      import { getParameter } from '${file}'
      import { MAX_AGE as maxAge, PARAMETERS } from './alternatives/job.js'
      export const reads = {
        '${EARLIER} getParameter': () => getParameter(PARAMETERS[0], { maxAge }),
      }`,
  )
}

function directFrom(name: string, contents: string): Alternative {
  const file = `direct-${slugOf(name)}.ts`
  return { name: `${name}, direct`, entry: { file, contents }, over: 'fetch' }
}

/** The same with a Map, with Powertools, and what it takes to look at a file. */
export const directByOthers: Alternative = {
  name: 'direct, others',
  entry: {
    file: 'direct-others.ts',
    contents: `
      import { lstatSync, writeFileSync } from 'node:fs'
      import { getParameter } from '@aws-lambda-powertools/parameters/ssm'
      import { MAX_AGE as maxAge, PARAMETERS } from './alternatives/job.js'
      import { read } from './alternatives/map.js'
      const file = process.env.HOME + '/file'
      writeFileSync(file, '')
      export const reads = {
        '${MAP_READ}': () => read('level'),
        '${POWERTOOLS_READ}': () => getParameter(PARAMETERS[0], { maxAge }),
        '${STAT_READ}': async () => lstatSync(file),
      }`,
  },
  over: 'fetch',
}

function slugOf(name: string): string {
  return name.toLowerCase().replace(/\W+/g, '-')
}
