/** What is one and the same: objects, files, folders, names. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import {
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { basename, join } from 'node:path'
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
  const answers = () => script(() => reply(200, 'content')).fetch

  /** The name of the temporary file of a download, in its parts. */
  async function temporaryName(): Promise<{ machine: string; pid: string; start: string }> {
    const folder = await temporaryFolder()
    let during: string[] = []
    const { writeFile: write } = fs.promises
    const writing = mock.method(
      fs.promises,
      'writeFile',
      async (...args: Parameters<typeof write>) => {
        await write(...args)
        during = await readdir(folder)
      },
    )
    await getObject(uri, { file: join(folder, 'value'), fetch: answers() })
    writing.mock.restore()
    clearCache()
    const [, machine = '', pid = '', start = ''] =
      /^\.lambda-cache-([0-9a-f]{16})-(\d+)-(\d*)-[0-9a-f-]{36}$/.exec(present(during[0])) ?? []
    assert.equal(pid, String(process.pid))
    return { machine, pid, start }
  }

  /** What a download leaves of these names, whose last changes are so long ago. */
  async function leftOf(ages: Readonly<Record<string, number>>): Promise<string[]> {
    const folder = await temporaryFolder()
    for (const name of Object.keys(ages)) await writeFile(join(folder, name), 'half')
    // The time of the last change is no program's to set.
    const { lstat } = fs.promises
    const aging = mock.method(fs.promises, 'lstat', async (path: string) => {
      const stats = await lstat(path)
      return Object.assign(stats, { ctimeMs: Date.now() - (ages[basename(path)] ?? 0) })
    })
    await getObject(uri, { file: join(folder, 'value'), fetch: answers() })
    aging.mock.restore()
    clearCache()
    return (await readdir(folder)).filter((name) => name !== 'value').sort()
  }

  test('keeps what others are writing, and loses what nobody is', async () => {
    const { machine, pid, start } = await temporaryName()
    const of = (machine: string, pid: number | string, start: string) =>
      `.lambda-cache-${machine}-${pid}-${start}-${randomUUID()}`
    // What another machine's names are like is all that is known of it.
    const other = '0123456789abcdef'
    const gone = 2 ** 22 + 1
    const kept = {
      [of(other, gone, '1')]: HOUR - MINUTE,
      // Frozen for two hours in the middle of it.
      [of(machine, pid, start)]: 2 * HOUR,
      [of(machine, process.ppid, '')]: MINUTE,
      '.lambda-cache-note': 2 * HOUR,
    }
    const lost = {
      [of(other, gone, '2')]: HOUR + SECOND,
      [of(machine, gone, start)]: SECOND,
    }
    assert.deepEqual(await leftOf({ ...kept, ...lost }), Object.keys(kept).sort())
  })

  test('loses what a killed process has left whose identifier is another process now', {
    skip: process.platform !== 'linux' && 'nothing says when a process started',
  }, async () => {
    const { machine, pid, start } = await temporaryName()
    assert.match(start, /^\d+$/)
    assert.deepEqual(
      await leftOf({ [`.lambda-cache-${machine}-${pid}-${Number(start) - 1}-a`]: SECOND }),
      [],
    )
  })

  test('keeps what another execution environment of the same host name is writing', async () => {
    process.env.AWS_LAMBDA_LOG_STREAM_NAME = '2026/01/02/[$LATEST]one'
    const { machine } = await temporaryName()
    const name = `.lambda-cache-${machine}-${2 ** 22 + 1}-1-a`
    assert.deepEqual(await leftOf({ [name]: SECOND }), [])
    process.env.AWS_LAMBDA_LOG_STREAM_NAME = '2026/01/02/[$LATEST]two'
    assert.deepEqual(await leftOf({ [name]: SECOND }), [name])
  })

  test('need not be one that can be read', async () => {
    mock.method(fs.promises, 'readdir', async () => {
      throw Object.assign(new Error('permission denied'), { code: 'EACCES' })
    })
    const file = join(await temporaryFolder(), 'value')
    assert.equal(await getObject(uri, { file, fetch: answers() }), file)
    assert.equal(await readFile(file, 'utf8'), 'content')
  })
})

describe("another thread's download of the same size and time", () => {
  const uri = 's3://bucket/value'
  const TIMED = { etag: '"1"', 'last-modified': 'Fri, 02 Jan 2026 03:04:05 GMT' }
  const ANSWERS: readonly [what: string, headers: Record<string, string>, requests: number][] = [
    ['is the same content where S3 has said when that is from', TIMED, 1],
    [
      'is the same content where the time is cut off by nearly a microsecond',
      { ...TIMED, etag: '"c1e39d912d21c91dce811d6da9929ae8"' },
      1,
    ],
    ['may be another where there is no Last-Modified', { etag: '"1"' }, 2],
    ['may be another where Last-Modified is no date', { ...TIMED, 'last-modified': 'today' }, 2],
    [
      'may be another where Last-Modified is before 1970',
      { ...TIMED, 'last-modified': 'Fri, 02 Jan 1969 03:04:05 GMT' },
      2,
    ],
    [
      'may be another where there is no ETag',
      { 'last-modified': 'Fri, 02 Jan 2026 03:04:05 GMT' },
      2,
    ],
  ]

  async function requestsAfterReplacing(headers: Record<string, string>): Promise<number> {
    const file = join(await temporaryFolder(), 'value')
    const { fetch, sent } = script(() => reply(200, 'content', headers))
    await getObject(uri, { file, fetch })
    const { atime, mtime } = await stat(file)
    await writeFile(`${file}.theirs`, 'CONTENT')
    await utimes(`${file}.theirs`, atime, mtime)
    // Whole milliseconds are all that a Date takes.
    const { lstatSync } = fs
    const modified = lstatSync(file).mtimeMs
    const looking = mock.method(fs, 'lstatSync', (path: string) =>
      Object.assign(lstatSync(path), { mtimeMs: modified }),
    )
    await rename(`${file}.theirs`, file)
    assert.equal(await getObject(uri, { file, fetch }), file)
    looking.mock.restore()
    return sent.length
  }

  for (const [what, headers, requests] of ANSWERS)
    test(what, async () => assert.equal(await requestsAfterReplacing(headers), requests))

  test('may be another where the file system has not kept the time', async () => {
    const { utimes: set } = fs.promises
    mock.method(
      fs.promises,
      'utimes',
      async (path: string, accessed: number, modified: number) =>
        await set(path, accessed, Math.floor(modified)),
    )
    assert.equal(await requestsAfterReplacing(TIMED), 2)
  })
})

describe('a folder that a link leads to', () => {
  const uri = 's3://bucket/value'

  async function realAndLink(): Promise<[real: string, link: string]> {
    const folder = await temporaryFolder()
    const [real, link] = [join(folder, 'real'), join(folder, 'link')]
    await mkdir(join(real, 'sub'), { recursive: true })
    await symlink(join(real, 'sub'), link)
    return [real, link]
  }

  test('does not make two files of one', async () => {
    const [real, link] = await realAndLink()
    const { fetch } = script(() => reply(200, 'content'))
    const files = [join(real, 'sub', 'value'), join(link, 'value')] as const
    const s3 = files.map((file, index) => ({ uri: `s3://bucket/${index}`, file, as: `v${index}` }))
    await failure(
      async () => invoking({ s3, fetch }),
      { code: 'InvalidOptions' },
      's3[0] and s3[1]',
    )
    await getObject('s3://bucket/0', { file: files[0], fetch })
    await failure(
      getObject('s3://bucket/1', { file: files[1], fetch }),
      { code: 'InvalidOptions' },
      files[0],
    )
  })

  test('is the one that the system finds where a path goes up from it', async () => {
    const [real, link] = await realAndLink()
    const { fetch, sent } = script(({ headers }) =>
      headers['if-none-match'] ? reply(304) : reply(200, 'content', { etag: '"1"' }),
    )
    const file = `${link}/../value`
    for (const maxAge of [60, 0]) assert.equal(await getObject(uri, { file, fetch, maxAge }), file)
    assert.equal(await readFile(join(real, 'value'), 'utf8'), 'content')
    assert.equal(present(sent[1]).headers['if-none-match'], '"1"')
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
