/** S3 objects. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, promises, readdirSync } from 'node:fs'
import {
  chmod,
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
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { inspect, promisify } from 'node:util'
import { clearCache, type Fetch, getObject, json, withCache } from '../lambda-cache.js'
import { heapUsed } from './heap.js'
import {
  callLoopback,
  calm,
  cleanups,
  describeOverBoth,
  failure,
  HOUR,
  invoking,
  local,
  MINUTE,
  pass,
  present,
  reply,
  SECOND,
  START,
  script,
  serve,
  temporaryFolder,
  text,
  xml,
} from './kit.js'
import { eventually, startProcess, succeeded } from './remote.js'

describeOverBoth('s3', () => {
  const uri = 's3://bucket/folder/object'
  const inMemory = { parse: text }

  const KEYS = [
    'plain',
    'with space',
    'plus+plus',
    'per%cent',
    '%20',
    '%2F',
    '%2e%2e/%2E',
    '"double" and \'single\'',
    "'()*!",
    "quote's",
    'ünïcödé',
    '日本語/キー',
    '🚀',
    'a//b',
    '/leading',
    '//two',
    'trailing/',
    'what?',
    'a#b',
    'a?b=c&d=e#f',
    'tab\there',
    'line\nbreak',
    'a=b;c,d:e@f$g',
    'back\\slash',
    '[]{}|^`<>~',
    '...',
    '.hidden',
    'a/..b/c..',
    '&amp;',
    'x'.repeat(1024),
  ]
  for (const key of KEYS) {
    test(`reads the key ${inspect(key).slice(0, 40)}`, async () => {
      const aws = await local({
        objects: { [`s3://bucket/${key}`]: `content of ${key}`, 's3://bucket/other': '' },
      })
      assert.equal(await getObject(`s3://bucket/${key}`, inMemory), `content of ${key}`)
      assert.equal(aws.requests[0]?.input.Key, key)
    })
  }

  for (const key of [
    '.',
    '..',
    './a',
    '../a',
    'a/.',
    'a/..',
    'a/./b',
    'a/../b',
    'a/b/../../../other/key',
  ]) {
    test(`refuses the key ${key}, which a URL cannot carry`, async () => {
      const { fetch, sent } = script(reply(200, 'another object'))
      await failure(getObject(`s3://bucket/${key}`, { ...inMemory, fetch }), {
        code: 'UnsupportedKey',
        source: 's3',
        id: `s3://bucket/${key}`,
      })
      assert.equal(sent.length, 0)
    })
  }

  test('refuses half a surrogate pair, which a URL cannot carry either', async () => {
    const { fetch, sent } = script(reply(200, 'another object'))
    for (const uri of ['s3://bucket/\ud83d', 's3://bucket/a\ude80/b']) {
      await failure(getObject(uri, { ...inMemory, fetch }), {
        code: 'UnsupportedKey',
        source: 's3',
        id: uri,
      })
      await failure(getObject(uri, { file: '/tmp/none', fetch }), { code: 'UnsupportedKey' })
    }
    assert.equal(sent.length, 0)
  })

  for (const name of ['a\0b', 'ü'.repeat(128)])
    test(`says of a key that no file has such a name: ${inspect(name.slice(0, 9))}`, async () => {
      const aws = await local({ objects: { [`s3://bucket/${name}`]: 'content' } })
      const details = { code: 'InvalidOptions' }
      await failure(getObject(`s3://bucket/${name}`), details, 'set `file`')
      await failure(() => withCache(() => {}, { s3: [`s3://bucket/${name}`] }), details, 's3[0]')
      assert.equal(aws.requests.length, 0)
      assert.equal(await getObject(`s3://bucket/${name}`, inMemory), 'content')
    })

  test('downloads to a name of 255 bytes', async () => {
    const key = 'ü'.repeat(127)
    await local({ objects: { [`s3://bucket/${key}`]: 'content' } })
    const file = join(await temporaryFolder(), key)
    assert.equal(await readFile(await getObject(`s3://bucket/${key}`, { file }), 'utf8'), 'content')
  })

  test('takes a 304 that says how long the object is', async () => {
    const sent: unknown[] = []
    const url = await serve(({ headers }, response) => {
      sent.push(headers)
      if (headers['if-none-match'])
        response.writeHead(304, { etag: '"1"', 'content-length': '7' }).end()
      else response.writeHead(200, { etag: '"1"', 'content-length': '7' }).end('content')
    })
    process.env.AWS_ENDPOINT_URL = url
    const file = join(await temporaryFolder(), 'object')
    for (const options of [{ file }, inMemory]) {
      sent.length = 0
      for (let time = 0; time < 3; time += 1) {
        await getObject(uri, options)
        pass(MINUTE)
      }
      assert.equal(sent.length, 3)
    }
    assert.equal(await readFile(file, 'utf8'), 'content')
  })

  const STYLES: readonly [bucket: string, endpoint: string | undefined, url: string][] = [
    ['bucket', undefined, 'https://bucket.s3.us-east-1.amazonaws.com/a%20key'],
    ['an-alias-s3alias', undefined, 'https://an-alias-s3alias.s3.us-east-1.amazonaws.com/a%20key'],
    ['bucket.with.dots', undefined, 'https://s3.us-east-1.amazonaws.com/bucket.with.dots/a%20key'],
    ['bucket', 'https://s3.example.com', 'https://s3.example.com/bucket/a%20key'],
    ['bucket', 'http://127.0.0.1:9000/prefix/', 'http://127.0.0.1:9000/prefix/bucket/a%20key'],
  ]
  for (const [bucket, endpoint, url] of STYLES) {
    test(`asks for ${bucket} at ${url}`, async () => {
      if (endpoint) process.env.AWS_ENDPOINT_URL_S3 = endpoint
      const { fetch, sent } = script(reply(200, 'content'))
      await getObject(`s3://${bucket}/a key`, { ...inMemory, fetch })
      assert.deepEqual([sent[0]?.url, sent[0]?.method], [url, 'GET'])
    })
  }

  test('downloads to /tmp, under the last segment of the key', async () => {
    const name = `lambda-cache-test-${process.pid}.json`
    cleanups.push(() => rm(`/tmp/${name}`, { force: true }))
    await local({ objects: { [`s3://bucket/path/to/${name}`]: '{}' } })
    assert.deepEqual(await invoking({ s3: [`s3://bucket/path/to/${name}`] }, name)(), [
      `/tmp/${name}`,
    ])
    assert.equal(await readFile(`/tmp/${name}`, 'utf8'), '{}')
  })

  test('downloads what a fetch answers of which nobody holds the response', async () => {
    const aws = await local({ objects: { 's3://bucket/key': 'whole' } })
    const file = join(await temporaryFolder(), 'file')
    const { readdir } = promises
    // Node's fetch drops the body of a response that is collected before somebody reads it.
    mock.method(promises, 'readdir', async (...args: Parameters<typeof readdir>) => {
      for (let time = 0; time < 5; time += 1) {
        heapUsed()
        await calm()
      }
      return readdir(...args)
    })
    const unheld: Fetch = async (url, init) => {
      const { status, headers, body, ...rest } = await callLoopback(url, init)
      return { ...rest, status, headers, body, text: () => assert.fail('there is a body') }
    }
    assert.equal(await getObject('s3://bucket/key', { file, fetch: unheld }), file)
    assert.equal(await readFile(file, 'utf8'), 'whole')
    assert.equal(aws.requests.length, 1)
  })

  test('writes no file for what is parsed or binary', async () => {
    const name = `lambda-cache-test-${process.pid}-memory`
    const content = Buffer.from([0, 255, 10, 13, 128])
    const aws = await local({
      objects: { [`s3://bucket/${name}`]: { base64: content.toString('base64') } },
    })
    const got = await getObject(`s3://bucket/${name}`, { binary: true })
    assert.deepEqual(got, new Uint8Array(content))
    aws.putObject(`s3://bucket/${name}`, '{"release":1}')
    assert.deepEqual(await getObject(`s3://bucket/${name}`, { parse: json, maxAge: 0 }), {
      release: 1,
    })
    assert.equal(existsSync(`/tmp/${name}`), false)
  })

  test('gives bytes and text of one object side by side', async () => {
    await local({ objects: { [uri]: 'täxt' } })
    const file = join(await temporaryFolder(), 'object')
    const results = await Promise.all([
      getObject(uri, { binary: true }),
      getObject(uri, inMemory),
      getObject(uri, { file }),
    ])
    assert.deepEqual(results, [new TextEncoder().encode('täxt'), 'täxt', file])
  })

  test('writes files with mode 0600', async () => {
    await local({ objects: { [uri]: 'content' } })
    const umask = process.umask(0)
    cleanups.push(() => process.umask(umask))
    const file = join(await temporaryFolder(), 'object')
    await getObject(uri, { file })
    assert.equal((await stat(file)).mode & 0o777, 0o600)
  })

  test('replaces a link at the target, not what it points to', async () => {
    await local({ objects: { [uri]: 'content' } })
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'other'), 'untouched')
    await symlink(join(folder, 'other'), join(folder, 'object'))
    await getObject(uri, { file: join(folder, 'object') })
    assert.deepEqual(
      [
        await readFile(join(folder, 'other'), 'utf8'),
        await readFile(join(folder, 'object'), 'utf8'),
      ],
      ['untouched', 'content'],
    )
  })

  test('picks another moment to refresh ahead at each 304', async () => {
    mock.method(Math, 'random', () => 0)
    const aws = await local({ objects: { [uri]: 'content' } })
    const file = join(await temporaryFolder(), 'object')
    const invoke = invoking({ s3: [{ uri, file, as: 'object' }] }, 'object')
    await invoke()
    for (let requests = 2; requests < 5; requests += 1) {
      pass(50 * SECOND)
      await invoke()
      assert.equal(aws.requests.length, requests)
    }
  })

  test('refreshes on the condition of the ETag: an unchanged object moves no data', async () => {
    const aws = await local({ objects: { [uri]: 'content' } })
    const file = join(await temporaryFolder(), 'object')
    const statuses: number[] = []
    aws.intercept = (_, response) =>
      void response.once('finish', () => statuses.push(response.statusCode))
    await getObject(uri, { file })
    const before = await stat(file)
    for (let time = 0; time < 2; time += 1) {
      pass(MINUTE)
      assert.equal(await getObject(uri, { file }), file)
      await getObject(uri, { file })
    }
    const after = await stat(file)
    assert.deepEqual(
      [after.ino, after.mtimeMs, after.ctimeMs],
      [before.ino, before.mtimeMs, before.ctimeMs],
    )
    assert.deepEqual(statuses, [200, 304, 304])
    aws.putObject(uri, 'newer content')
    pass(MINUTE)
    await getObject(uri, { file })
    assert.equal(await readFile(file, 'utf8'), 'newer content')
  })

  test('moves no data for what is in memory, either, and does not parse it again', async () => {
    const aws = await local({ objects: { [uri]: '7' } })
    const parse = mock.fn(Number)
    for (let time = 0; time < 3; time += 1) {
      assert.equal(await getObject(uri, { parse, maxAge: 0 }), 7)
      const { authorization = '', ...headers } = aws.requests[time]?.headers ?? {}
      assert.equal(headers['if-none-match'] !== undefined, time > 0)
      // A cache in between may take it off.
      assert.doesNotMatch(authorization, /if-none-match/)
    }
    assert.equal(parse.mock.callCount(), 1)
  })

  const TAMPERING: readonly [what: string, tamper: (file: string) => Promise<unknown>][] = [
    ['changed', (file) => writeFile(file, 'something else')],
    ['changed without a trace in its time', changeKeepingTime],
    [
      'changed to as many bytes',
      (file) => writeFile(file, 'CONTENT').then(() => utimes(file, 1, 1)),
    ],
    ['replaced by another of the same size and time', replaceByLikeness],
    ['deleted', (file) => rm(file)],
  ]
  for (const [what, tamper] of TAMPERING) {
    test(`downloads anew where inode, size or mtime say that the file was ${what}`, async () => {
      const aws = await local({ objects: { [uri]: 'content' } })
      const file = join(await temporaryFolder(), 'object')
      await getObject(uri, { file })
      await tamper(file)
      pass(MINUTE)
      await getObject(uri, { file })
      assert.equal(await readFile(file, 'utf8'), 'content')
      assert.equal(aws.requests[1]?.headers['if-none-match'], undefined)
    })

    test(`downloads a file anew that was ${what} before a 304 came`, async () => {
      const aws = await local({ objects: { [uri]: 'content' } })
      const file = join(await temporaryFolder(), 'object')
      const fetch: Fetch = async (url, init) => {
        if (init.headers['if-none-match']) await tamper(file)
        return callLoopback(url, init)
      }
      await getObject(uri, { file, fetch })
      await getObject(uri, { file, fetch, maxAge: 0 })
      assert.equal(await readFile(file, 'utf8'), 'content')
      assert.deepEqual(
        aws.requests.map(({ headers }) => !!headers['if-none-match']),
        [false, true, false],
      )
    })
  }

  async function changeKeepingTime(file: string): Promise<void> {
    const touch = (from: string, to: string) => promisify(execFile)('touch', ['-r', from, to])
    await touch(file, `${file}.time`)
    await writeFile(file, 'something longer')
    await touch(`${file}.time`, file)
  }

  async function replaceByLikeness(file: string): Promise<void> {
    await writeFile(`${file}.new`, 'CONTENT')
    await promisify(execFile)('touch', ['-r', file, `${file}.new`])
    await rename(`${file}.new`, file)
  }

  test('reads a version, with an entry of its own', async () => {
    const aws = await local()
    const { versionId } = aws.putObject(uri, 'one')
    aws.putObject(uri, 'two')
    assert.deepEqual(
      await Promise.all([getObject(uri, inMemory), getObject(uri, { ...inMemory, versionId })]),
      ['two', 'one'],
    )
    await failure(getObject(uri, { ...inMemory, versionId: 'none' }), {
      code: 'NoSuchVersion',
      id: uri,
    })
    assert.equal(
      await getObject(uri, { ...inMemory, versionId: 'none', default: 'default' }),
      'default',
    )
    const { fetch, sent } = script(xml(403, 'AccessDenied'))
    await failure(
      getObject(uri, { ...inMemory, versionId: 'a+b/c=&d', fetch }),
      {},
      's3:GetObjectVersion',
    )
    assert.ok(sent[0]?.url.endsWith('/folder/object?versionId=a%2Bb%2Fc%3D%26d'), sent[0]?.url)
  })

  test('follows a bucket to its region, and remembers that', async () => {
    const aws = await local({ objects: { [uri]: 'content', 's3://bucket/other': 'other' } })
    aws.putBucketRegion('bucket', 'eu-central-1')
    assert.equal(await getObject(uri, inMemory), 'content')
    assert.equal(await getObject('s3://bucket/other', inMemory), 'other')
    assert.deepEqual(
      aws.requests.map(({ region }) => region),
      ['us-east-1', 'eu-central-1', 'eu-central-1'],
    )
  })

  test('follows a bucket that moves again, and home again', async () => {
    const aws = await local({ objects: { [uri]: 'content' } })
    const read = () => getObject(uri, { ...inMemory, maxAge: 0 })
    for (const region of ['eu-central-1', 'ap-south-1', 'us-east-1']) {
      aws.putBucketRegion('bucket', region)
      assert.equal(await read(), 'content', region)
      assert.equal(await read(), 'content', region)
    }
    assert.deepEqual(
      aws.requests.map(({ region }) => region),
      [
        ...['us-east-1', 'eu-central-1', 'eu-central-1'],
        ...['eu-central-1', 'ap-south-1', 'ap-south-1'],
        ...['ap-south-1', 'us-east-1', 'us-east-1'],
      ],
    )
  })

  test('asks the region of an entry first, whatever another one has learnt', async () => {
    const aws = await local({ objects: { [uri]: 'content' } })
    aws.putBucketRegion('bucket', 'eu-central-1')
    await getObject(uri, inMemory)
    aws.putBucketRegion('bucket', 'ap-south-1')
    await getObject(uri, { ...inMemory, region: 'ap-south-1' })
    assert.deepEqual(
      aws.requests.map(({ region }) => region),
      ['us-east-1', 'eu-central-1', 'ap-south-1'],
    )
  })

  const malformed = (region: string): Response =>
    reply(
      400,
      `<?xml version="1.0"?>\n<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region 'us-east-1' is wrong; expecting '${region}'</Message><Region>${region}</Region></Error>`,
    )
  const inHeader = { 'x-amz-bucket-region': 'eu-west-1' }
  for (const [how, first] of [
    ['HTTP 301', xml(301, 'PermanentRedirect', inHeader)],
    ['HTTP 400', xml(400, 'AuthorizationHeaderMalformed', inHeader)],
    ['HTTP 400 that names it in the body', malformed('eu-west-1')],
  ] as const) {
    test(`goes to the host of the bucket's region after ${how}, once`, async () => {
      const { fetch, sent } = script(
        first,
        xml(301, 'PermanentRedirect', { 'x-amz-bucket-region': 'eu-west-2' }),
      )
      await failure(getObject(uri, { ...inMemory, fetch }), {
        code: 'PermanentRedirect',
        httpStatus: 301,
      })
      assert.deepEqual(
        sent.map(({ url }) => new URL(url).host),
        ['bucket.s3.us-east-1.amazonaws.com', 'bucket.s3.eu-west-1.amazonaws.com'],
      )
      assert.match(sent[1]?.headers.authorization ?? '', /\/eu-west-1\/s3\//)
    })
  }

  for (const region of [
    '',
    'us-east-1',
    'example.com/',
    'eu-west-1.example.com',
    '@example.com',
    'EU-WEST-1',
    'eu-west-1\u{e9}',
    '1',
    'x'.repeat(99),
  ]) {
    test(`goes nowhere else for a bucket's region ${inspect(region)}`, async () => {
      const { fetch, sent } = script(
        xml(301, 'PermanentRedirect', { 'x-amz-bucket-region': region }),
      )
      await failure(getObject(uri, { ...inMemory, fetch }), {
        code: 'PermanentRedirect',
        httpStatus: 301,
      })
      assert.equal(sent.length, 1)
      const other = script(malformed(region))
      await failure(getObject(uri, { ...inMemory, fetch: other.fetch }), {
        code: 'AuthorizationHeaderMalformed',
        httpStatus: 400,
      })
      assert.equal(other.sent.length, 1)
    })
  }

  test('takes no region from the body of another answer', async () => {
    const { fetch, sent } = script(
      reply(403, '<Error><Code>AccessDenied</Code><Region>eu-west-1</Region></Error>'),
    )
    await failure(getObject(uri, { ...inMemory, fetch }), { code: 'AccessDenied' })
    assert.equal(sent.length, 1)
  })

  test('counts neither the way to a region nor to the time as an attempt', async () => {
    const late = { date: new Date(START + HOUR).toUTCString() }
    const { fetch, sent } = script(
      malformed('eu-west-1'),
      xml(403, 'RequestTimeTooSkewed', late),
      reply(503),
      reply(503),
      reply(200, 'content'),
    )
    assert.equal(await getObject(uri, { ...inMemory, fetch }), 'content')
    assert.deepEqual(
      sent.map(({ headers }) => present(headers['x-amz-date']).slice(9, 13)),
      ['0304', '0304', '0404', '0404', '0404'],
    )
  })

  const CUT_SHORT: readonly [how: string, fetch: () => Promise<Fetch>][] = [
    [
      'by a connection that breaks',
      async () => {
        const aws = await local()
        aws.intercept = (_, response) => {
          response
            .writeHead(200, { 'content-length': 100 })
            .write('half of it', () => response.destroy())
          return true
        }
        return globalThis.fetch
      },
    ],
    [
      'by an answer that ends early',
      async () => script(reply(200, 'half of it', { 'content-length': '100' })).fetch,
    ],
    [
      'by an answer that goes on for too long',
      async () => script(reply(200, 'more of it', { 'content-length': '1' })).fetch,
    ],
  ]
  for (const [how, brokenFetch] of CUT_SHORT) {
    test(`leaves the file as it was where a download is cut short ${how}`, async () => {
      await local({ objects: { [uri]: 'content' } })
      const folder = await temporaryFolder()
      const file = join(folder, 'object')
      await getObject(uri, { file })
      clearCache()
      const fetch = await brokenFetch()
      await failure(getObject(uri, { file, fetch }), {
        code: 'NetworkError',
        source: 's3',
        id: uri,
      })
      assert.equal(await readFile(file, 'utf8'), 'content')
      assert.deepEqual(await readdir(folder), ['object'])
      await failure(getObject(uri, { ...inMemory, fetch }), {
        code: 'NetworkError',
        source: 's3',
        id: uri,
      })
    })
  }

  test('takes no content-length for that of what was compressed', async () => {
    const { fetch } = script(
      reply(200, 'decompressed', { 'content-length': '5', 'content-encoding': 'gzip' }),
    )
    assert.equal(await getObject(uri, { ...inMemory, fetch }), 'decompressed')
  })

  const noPermission = async (folder: string) => {
    await chmod(folder, 0o500)
    return join(folder, 'object')
  }
  const DISKS: readonly [
    what: string,
    code: string,
    target: (folder: string) => Promise<string>,
    skip?: string | false,
  ][] = [
    [
      'a directory in its place',
      '(E',
      async (folder) => {
        await mkdir(join(folder, 'object'))
        return join(folder, 'object')
      },
    ],
    ['no such folder', '(ENOENT)', async (folder) => join(folder, 'none', 'object')],
    [
      'a file for a folder',
      '(ENOTDIR)',
      async (folder) => {
        await writeFile(join(folder, 'object'), '')
        return join(folder, 'object', 'object')
      },
    ],
    [
      'no permission',
      '(EACCES)',
      noPermission,
      process.getuid?.() === 0 && 'root may write everywhere',
    ],
  ]
  for (const [what, code, target, skip = false] of DISKS) {
    test(`says that it cannot write: ${what}`, { skip }, async () => {
      const aws = await local({ objects: { [uri]: 'content' } })
      const folder = await temporaryFolder()
      const file = await target(folder)
      const before = await readdir(folder)
      const { cause } = await failure(
        getObject(uri, { file }),
        { code: 'FileError', source: 's3', id: uri },
        file,
        code,
      )
      assert.ok(cause instanceof Error, 'the cause is what the file system said')
      assert.deepEqual(await readdir(folder), before)
      assert.equal(aws.requests.length, 1)
    })
  }

  test('takes a directory for no file, however it is written', async () => {
    await local({ objects: { [uri]: 'content' } })
    const folder = await temporaryFolder()
    for (const file of [folder, `${folder}/`])
      await failure(getObject(uri, { file }), { code: 'FileError', id: uri }, file)
    await failure(getObject(uri, { file: `${folder}/none/` }), { code: 'FileError', id: uri })
    assert.deepEqual(await readdir(folder), [])
    await failure(getObject('s3://bucket/folder/'), { code: 'InvalidOptions' }, 'file')
  })

  test('knows a file and an object again, however they are written', async () => {
    const aws = await local({ objects: { [uri]: 'content', 's3://bucket/other': 'other' } })
    const folder = await temporaryFolder()
    const file = join(folder, 'object')
    await getObject(uri, { file })
    assert.equal(await getObject(uri, { file, binary: false, region: 'us-east-1' }), file)
    assert.equal(
      await readFile(await getObject(uri, { file: `${folder}/./object` }), 'utf8'),
      'content',
    )
    assert.equal(aws.requests.length, 1)
    for (const other of [`${folder}/./object`, `${folder}/../${folder.split('/').at(-1)}/object`]) {
      await failure(
        getObject('s3://bucket/other', { file: other }),
        { code: 'InvalidOptions' },
        'file',
      )
    }
  })

  test('removes what a killed process has left of another download, and nothing else', async () => {
    mock.timers.reset()
    const aws = await local({ objects: { [uri]: 'x'.repeat(1000) } })
    const folder = await temporaryFolder()
    const file = join(folder, 'object')
    await writeFile(join(folder, '.lambda-cache-note'), 'of somebody else')
    aws.intercept = (_, response) => {
      response.writeHead(200, { 'content-length': 1000 }).write('half')
      return true
    }
    const killed = startProcess(aws.env)
    void killed.invoke({ options: { s3: [{ uri, file, as: 'object' }] } }).catch(() => {})
    await eventually(() => readdirSync(folder).length === 2)
    await sleep(50)
    killed.process.kill('SIGKILL')
    await once(killed.process, 'exit')
    aws.intercept = undefined
    const next = startProcess(aws.env)
    const given = succeeded(
      await next.invoke({
        options: { s3: [{ uri, file: join(folder, 'next'), as: 'object' }] },
        files: ['object'],
      }),
    )
    assert.equal(given.object?.length, 1000)
    assert.deepEqual((await readdir(folder)).sort(), ['.lambda-cache-note', 'next'])
  })

  test('refuses to download two objects to one file', async () => {
    await local({ objects: { [uri]: 'one', 's3://bucket/other': 'other' } })
    const file = join(await temporaryFolder(), 'object')
    await getObject(uri, { file })
    await failure(
      getObject('s3://bucket/other', { file }),
      { code: 'InvalidOptions', source: 's3', id: 's3://bucket/other' },
      file,
    )
    assert.equal(await readFile(file, 'utf8'), 'one')
    const twice = () =>
      invoking({
        s3: [
          { uri, file: `${file}.json`, as: 'one' },
          { uri: 's3://bucket/other', file: `${file}.json`, as: 'two' },
        ],
      })
    await failure(twice, { code: 'InvalidOptions' }, `${file}.json`, 's3[0] and s3[1]')
  })

  test('lets the next download have the file after clearCache', async () => {
    await local({ objects: { [uri]: 'one', 's3://bucket/other': 'other' } })
    const file = join(await temporaryFolder(), 'object')
    await getObject(uri, { file })
    clearCache()
    await getObject('s3://bucket/other', { file })
    assert.equal(await readFile(file, 'utf8'), 'other')
  })
})
