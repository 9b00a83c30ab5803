/** What is one and the same: objects, files, folders, names. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, mock, test } from 'node:test'
import { clearCache, getObject, type Options, withCache } from '../lambda-cache.js'
import { lambdaContext } from './context.js'
import {
  consoleLines,
  failure,
  HOUR,
  invoking,
  MINUTE,
  parameters,
  pass,
  present,
  reply,
  SECOND,
  type Sent,
  scene,
  script,
  temporaryFolder,
  xml,
} from './kit.js'

/** Answers with the name that was asked for. */
function echo({ body }: Sent): Response {
  const { Names = [], SecretId = '' } = JSON.parse(body) as { Names?: string[]; SecretId?: string }
  if (SecretId) return reply(200, { SecretString: SecretId })
  return parameters(Object.fromEntries(Names.map((name) => [name, name])))
}

describe('one object and one file', () => {
  const uri = 's3://bucket/value'

  test('go together with a provider for each invocation, at the cost of a conditional request', async () => {
    const file = join(await temporaryFolder(), 'value')
    const { fetch, sent } = script(({ headers }) =>
      headers['if-none-match'] ? reply(304) : reply(200, 'content', { etag: '"1"' }),
    )
    for (const key of ['one', 'two', 'three']) {
      const credentials = () => ({ accessKeyId: key, secretAccessKey: 'secret' })
      assert.equal(await getObject(uri, { file, fetch, credentials }), file)
      assert.equal(await readFile(file, 'utf8'), 'content')
    }
    assert.deepEqual(
      sent.map(({ headers }) => headers['if-none-match']),
      [undefined, '"1"', '"1"'],
    )
    assert.match(present(sent[2]).headers.authorization ?? '', /=three\//, 'AWS says who may')
  })

  test('go together in two wrappers with providers of their own, each of which AWS allows', async () => {
    const file = join(await temporaryFolder(), 'value')
    const { fetch, sent } = script(({ headers }) =>
      headers['if-none-match'] ? reply(304) : reply(200, 'content', { etag: '"1"' }),
    )
    const invokes = ['one', 'two'].map((key) =>
      invoking(
        {
          s3: [{ uri, file }],
          fetch,
          credentials: () => ({ accessKeyId: key, secretAccessKey: 'secret' }),
        },
        'value',
      ),
    )
    for (let round = 0; round < 3; round += 1)
      for (const invoke of invokes) assert.deepEqual(await invoke(), [file])
    assert.equal(sent.length, 2, 'one for each, and then it is in memory')
  })

  test('go together in versions, of which the one that is read is the one in the file', async () => {
    const file = join(await temporaryFolder(), 'value')
    const { fetch } = script(({ url, headers }) => {
      const version = present(new URL(url).searchParams.get('versionId'))
      if (headers['if-none-match'] === `"${version}"`) return reply(304)
      return reply(200, `content ${version}`, { etag: `"${version}"` })
    })
    for (const versionId of ['1', '2', '3', '1']) {
      assert.equal(await getObject(uri, { file, fetch, versionId }), file)
      assert.equal(await readFile(file, 'utf8'), `content ${versionId}`)
    }
  })

  test('are refused in one wrapper for two versions', () => {
    const versions = ['1', '2'].map((versionId) => ({ uri, versionId, as: `v${versionId}` }))
    assert.throws(() => withCache(() => {}, { s3: versions }), { message: /both downloaded to/ })
  })

  test('are refused for another object', async () => {
    const file = join(await temporaryFolder(), 'value')
    const { fetch } = script(() => reply(200, 'content'))
    await getObject(uri, { file, fetch })
    const other = getObject('s3://bucket/other', { file, fetch })
    await failure(other, { code: 'InvalidOptions' }, 'another object')
    clearCache()
    await getObject('s3://bucket/other', { file, fetch })
  })

  test('leave the path free where the object could not be read', async () => {
    const file = join(await temporaryFolder(), 'value')
    await failure(getObject(uri, { file, fetch: script(xml(404, 'NoSuchBucket')).fetch }))
    assert.equal(
      await getObject('s3://bucket/other', { file, fetch: script(reply(200)).fetch }),
      file,
    )
  })
})

describe('a path from memory', () => {
  const uri = 's3://bucket/value'

  for (const [what, harm] of [
    ['is gone', (file: string) => rm(file)],
    ['is another one', (file: string) => writeFile(file, 'something else')],
    [
      'is a link',
      async (file: string) => {
        await rm(file)
        await symlink('/dev/null', file)
      },
    ],
  ] as const) {
    test(`leads to the file, also where it ${what}`, async () => {
      const file = join(await temporaryFolder(), 'value')
      const { fetch, sent } = script(() => reply(200, 'content', { etag: '"1"' }))
      const options: Options = { s3: [{ uri, file, as: 'value', maxAge: Infinity }], fetch }
      const invoke = invoking(options, 'value')
      for (let round = 1; round < 4; round += 1) {
        assert.deepEqual(await invoke(), [file])
        assert.equal(await readFile(file, 'utf8'), 'content')
        assert.equal(sent.length, round)
        assert.deepEqual(await invoke(), [file])
        assert.equal(sent.length, round, 'nothing is read while it is in its place')
        await harm(file)
      }
    })
  }

  test('is no stale value where the file is gone', async () => {
    const file = join(await temporaryFolder(), 'value')
    const aws = scene(reply(200, 'content', { etag: '"1"' }))
    const invoke = invoking({ s3: [{ uri, file }], fetch: aws.fetch }, 'value')
    await invoke()
    await rm(file)
    aws.say(reply(503))
    await failure(invoke(), { code: 'Http503', source: 's3' })
    pass(MINUTE)
    await failure(invoke(), { code: 'Http503', source: 's3' })
  })

  test('is the stale value where the disk is full', async () => {
    const lines = consoleLines()
    const file = join(await temporaryFolder(), 'value')
    const aws = scene(reply(200, 'one', { etag: '"1"' }))
    const invoke = invoking({ s3: [{ uri, file }], fetch: aws.fetch }, 'value')
    await invoke()
    aws.say(reply(200, 'two', { etag: '"2"' }))
    pass(MINUTE)
    const { writeFile } = fs.promises
    const full = mock.method(fs.promises, 'writeFile', async () => {
      throw Object.assign(new Error('no space left'), { code: 'ENOSPC' })
    })
    assert.deepEqual(await invoke(), [file])
    assert.equal(await readFile(file, 'utf8'), 'one')
    assert.equal(lines.length, 1)
    assert.match(present(lines[0]), /ENOSPC/)
    pass(4 * MINUTE + 59 * SECOND)
    assert.deepEqual(await invoke(), [file])
    pass(SECOND)
    await failure(invoke(), { code: 'FileError' }, 'ephemeral storage')
    full.mock.mockImplementation(writeFile as never)
    assert.deepEqual(await invoke(), [file])
    assert.equal(await readFile(file, 'utf8'), 'two')
  })
})

describe('a folder that several processes share', () => {
  const uri = 's3://bucket/value'

  test('keeps what others are writing, and loses what nobody is', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'value')
    let during: string[] = []
    const { fetch } = script(() => reply(200, 'content'))
    const { writeFile: write } = fs.promises
    mock.method(fs.promises, 'writeFile', async (...args: Parameters<typeof write>) => {
      await write(...args)
      during = await readdir(folder)
    })
    await getObject(uri, { file, fetch })
    const [own] = during.filter((name) => name.startsWith('.lambda-cache'))
    const [prefix, host] = present(own).split(/-(?=[0-9a-f]{16}-)/) as [string, string]
    const here = host.slice(0, 16)
    const temporary = (id: string, pid: number) => `${prefix}-${id}-${pid}-0.5`
    // What another machine's names are like is all that is known of it.
    const theirs = temporary('0123456789abcdef', 1)
    const running = temporary(here, process.ppid)
    const gone = temporary(here, 2 ** 22 + 1)
    const old = temporary('0123456789abcdef', 2)
    const names = [theirs, running, gone, old]
    for (const name of names) await writeFile(join(folder, name), 'half')
    // The time of the last change is no program's to set.
    const ages = new Map([
      [join(folder, old), HOUR + SECOND],
      [join(folder, theirs), HOUR - MINUTE],
    ])
    const { lstat } = fs.promises
    mock.method(fs.promises, 'lstat', async (path: string) => {
      const stats = await lstat(path)
      return Object.assign(stats, { ctimeMs: Date.now() - (ages.get(path) ?? 0) })
    })
    await getObject(uri, { file, fetch, maxAge: 0 })
    assert.deepEqual((await readdir(folder)).sort(), [theirs, running, 'value'].sort())
  })
})

describe('names on a context', () => {
  test('that a stream or a durable context has mean nothing where another wrapper gave them', async () => {
    const { fetch } = script(echo)
    const custom = [
      { as: 'write', load: () => () => {} },
      { as: 'lambdaContext', load: () => ({ getRemainingTimeInMillis: () => 1 }) },
    ]
    const inner = withCache((_: unknown, context) => Reflect.get(context, 'a'), {
      secrets: ['a'],
      fetch,
    })
    const outer = withCache((event: unknown, context) => inner(event, context as never), { custom })
    assert.equal(await outer({}, lambdaContext()), 'a')
  })

  test('of a handler that is no function is no prefetch', async () => {
    const { fetch, sent } = script(echo)
    const handler = Object.assign(async () => 'done', { prefetch: true })
    const wrapped = withCache(handler, { secrets: ['a'], fetch })
    await wrapped.prefetch()
    assert.equal(sent.length, 1)
    assert.equal(await wrapped({}, lambdaContext()), 'done')
  })
})
