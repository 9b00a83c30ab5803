/** The examples, promises and figures of the README and its pages. */

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, mock, test } from 'node:test'
import { promisify } from 'node:util'
import { getObject, getParameter, getSecret, json } from '../lambda-cache.js'
import { blocksOf, compile, PAGES, PROSE, packagesOf, projectOf } from './blocks.js'
import { cleanups, failure, local, present, temporaryFolder } from './kit.js'
import { eventually, ROOT } from './remote.js'
import { sizeOfFile } from './size.js'

/** What the promises are looked for by. */
const WORDS = [
  'not enumerable',
  'in parallel',
  'single flight',
  'refresh ahead',
  'between 80 % and 100 %',
  '300 ms at most',
  'clock',
  'maxAge',
  'staleIfError',
  'by what they read',
  'under two names',
  'an empty string, .?0.? and .?false',
  'never cache',
  'alone',
  'three attempts|three times',
  'any progress|no progress',
  'blocks the event loop',
  'in line, first come first served',
  '200 ms before',
  'abandon',
  'evict',
  'ETag',
  'inode',
  'mode 0600',
  'killed process',
  'content-encoding',
  'to its region',
  'a URL cannot carry|no URL can carry',
  'redirect',
  'frozen',
  'once more',
  'directory',
  'decrypt',
  'StringList',
  'prefetch',
  'LAMBDA_CACHE_MAX_AGE',
  'container',
  'AWS_ENDPOINT_URL',
]

describe('README.md', () => {
  const readme = present(PAGES.get('README.md'))
  const source = readFileSync(new URL('../lambda-cache.ts', import.meta.url), 'utf8')
  const blocks = blocksOf(PROSE)

  test('shows the handler of the examples', async () => {
    const handler = await readFile(new URL('../examples/handler.ts', import.meta.url), 'utf8')
    assert.equal(blocks[0], handler.replace('../lambda-cache.js', './lambda-cache.js'))
  })

  test('shows nothing that does not compile', async () => {
    const own = blocks.filter((block) => packagesOf(block).every((name) => name === 'aws-lambda'))
    assert.ok(own.length > 5)
    const folder = await temporaryFolder()
    await projectOf(own, folder, join(ROOT, 'node_modules'), ['node', 'aws-lambda'])
    assert.equal(await compile(folder), '')
  })

  test('points to files that are there', () => {
    const others = ['peers/README.md', 'peers/RESULTS.md', 'peers/fleet/FLEET.md']
    for (const page of [...PAGES.keys(), ...others]) {
      const text = readFileSync(new URL(`../${page}`, import.meta.url), 'utf8')
      const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, link]) =>
        present(link),
      )
      for (const link of links)
        assert.ok(
          existsSync(new URL(link, new URL(`../${page}`, import.meta.url))),
          `${page}: ${link}`,
        )
      assert.ok(page !== 'README.md' || links.length > 3)
    }
  })

  test('is read in a few minutes, line by line', () => {
    const words = readme.split(/\s+/).length
    assert.ok(words < 1500, `${words} words`)
    for (const [page, text] of PAGES) {
      const prose = text.replace(/^```.*?^```$/gms, '').split('\n')
      const long = prose.filter((line) => line.length > 140 && !line.startsWith('|'))
      assert.deepEqual(long, [], page)
    }
  })

  test('has a page a subject, each one click away', () => {
    for (const page of PAGES.keys())
      if (page !== 'README.md') assert.ok(readme.includes(`](${page})`), page)
  })

  test('has examples of tests that pass', async () => {
    const folder = new URL('../examples/testing/', import.meta.url)
    const files = readdirSync(folder).filter((name) => name.endsWith('.test.ts'))
    assert.ok(files.length > 2)
    const args = ['--import', 'tsx', '--test', ...files.map((name) => `examples/testing/${name}`)]
    // Those of this process mean that it runs within another one's tests.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env
    await promisify(execFile)(process.execPath, args, { cwd: ROOT, env })
  })

  test('shows the error of a secret that is missing as it is', async () => {
    const { url } = await local()
    process.env.AWS_REGION = 'eu-west-1'
    const { message } = await failure(getSecret('/prod/db/conn_string'))
    const said = message.replace(url, 'https://secretsmanager.eu-west-1.amazonaws.com')
    assert.ok(readme.replace(/\n/g, ' ').includes(said), said)
  })

  test('starts a local AWS with its seed, in a process of its own', async () => {
    const [, seed = ''] = /<<'END'\n(.*?)^END$/ms.exec(PROSE) ?? []
    const file = join(await temporaryFolder(), 'seed.json')
    await writeFile(file, seed)
    const aws = spawn(process.execPath, ['--import', 'tsx', 'examples/local-aws.ts', file], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = once(aws, 'exit')
    cleanups.push(() => aws.kill('SIGKILL') && ended)
    let printed = ''
    aws.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text
    })
    await eventually(() => printed.includes('AWS_SESSION_TOKEN'))
    for (const [, name, value] of printed.matchAll(/^export (\w+)='(.*)'$/gm))
      process.env[present(name)] = value
    // It takes the time for what it is.
    mock.timers.reset()
    assert.deepEqual(
      await Promise.all([
        getParameter('/prod/app/var'),
        getSecret('/prod/db/conn_string'),
        getObject('s3://bucket/path/to/object.json', { parse: json }),
      ]),
      ['hello', 'postgres://app:secret@db/prod', { release: 1 }],
    )
    aws.kill('SIGTERM')
    assert.deepEqual(await ended, [0, null])
    assert.doesNotMatch(printed, /hello|secret@|release/)
  })

  test('names a size that holds, and not by much', () => {
    const [, figure = ''] = /<!-- size -->([\d,]+) bytes/.exec(readme) ?? []
    const limit = Number(figure.replace(',', ''))
    const { gzipped } = sizeOfFile()
    assert.ok(
      gzipped <= limit && gzipped > limit - 100,
      `${gzipped} bytes, and the README says ${limit}`,
    )
  })

  test('promises what has a test that is found by the same words', () => {
    const folder = new URL('./', import.meta.url)
    const names = readdirSync(folder)
      .filter((name) => name.endsWith('.test.ts') && name !== 'readme.test.ts')
      .flatMap((name) => readFileSync(new URL(name, folder), 'utf8').split('\n'))
      .filter((line) => /^ *(test\(|describe\(|['`])/.test(line))
      .join('\n')
    // Lines may end between two words.
    const prose = PROSE.replace(/\s+/g, ' ')
    for (const words of WORDS) {
      assert.match(
        prose,
        new RegExp(words, 'i'),
        `the README and its pages say nothing of ${words}`,
      )
      assert.match(names, new RegExp(words, 'i'), `no test has a name with ${words}`)
    }
  })

  test('lists every code that an error of the library has', () => {
    const own = [...source.matchAll(/(?:failure\(|code: )'([A-Z][a-z]\w+)'/g)].map(([, code]) =>
      present(code),
    )
    assert.ok(own.length > 10)
    assert.deepEqual(
      own.filter((code) => !present(PAGES.get('docs/errors.md')).includes(`\`${code}\``)),
      [],
    )
  })
})

describe('docs/field-notes.md', () => {
  const notes = present(PAGES.get('docs/field-notes.md'))
  const rows = notes
    .split('\n')
    .filter((line) => /^\| [A-Z@a-z`]/.test(line) && !/^\| what /.test(line))

  test('says of each row which test holds it, or that none can', () => {
    assert.ok(rows.length > 20, `${rows.length} rows`)
    for (const row of rows) {
      const [, name, path] = /`([^|]+)` in (\S+) \|$/.exec(row) ?? []
      if (row.endsWith('| no test can |')) continue
      assert.ok(name && path, row)
      // A name in quotes may have a quote in it.
      const source = readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
      assert.ok(source.replaceAll("\\'", "'").includes(name), `${name} in ${path}`)
    }
  })
})
