/** What needs a process or a thread of its own, with the real clock: tests/runtime.ts. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { promises } from 'node:fs'
import { open, readdir, readFile, stat } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { describe, mock, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type LocalAws, type LocalRequest, startLocalAws } from '../examples/local-aws.js'
import { getObject, type Options } from '../lambda-cache.js'
import {
  cleanups,
  describeOverBoth,
  local,
  present,
  type Transport,
  temporaryFolder,
} from './kit.js'
import {
  eventually,
  HANGS,
  hold,
  MEBIBYTE,
  MOMENTS,
  type Moment,
  opened,
  type Remote,
  sealed,
  startProcess,
  startThread,
  succeeded,
} from './remote.js'
import type { Outcome } from './runtime.js'

const NO_SIGNALS = { skip: process.platform === 'win32' && 'no signal stops a process there' }

describeOverBoth(
  'freeze and thaw',
  () => {
    const SERVICES = ['ssm', 'secretsmanager', 's3'] as const
    /** What becomes of a connection, and of the answer on it, while the process is frozen. */
    const FATES = ['closed', 'reset', 'answered'] as const
    const PAUSES = [1, 3, 8]

    const OPTIONS = {
      ssm: [{ name: '/parameter', as: 'ssm' }],
      secrets: [{ id: 'secret', as: 'secretsmanager' }],
      maxAge: 0,
      staleIfError: 0,
    }
    const GIVE = { values: ['ssm', 'secretsmanager'], files: ['s3'] }

    const contents = (version: string): Record<(typeof SERVICES)[number], string> => ({
      ssm: sealed(version, 100),
      secretsmanager: sealed(version, 100),
      s3: sealed(version, 300_000),
    })

    function put(aws: LocalAws, { ssm, secretsmanager, s3 }: ReturnType<typeof contents>): void {
      aws.putParameter('/parameter', ssm)
      aws.putSecret('secret', secretsmanager)
      aws.putObject('s3://bucket/object', s3)
    }

    /** A function that has been invoked once. */
    async function warm(moment: Moment, seconds: number) {
      const aws = await startLocalAws()
      cleanups.push(() => aws.close())
      const folder = await temporaryFolder()
      const held = new Map<LocalRequest['service'], { socket: Socket; release: () => void }>()
      aws.intercept = ({ service }, response) =>
        void held.set(service, { socket: response.req.socket, release: () => {} })
      const before = contents('before')
      put(aws, before)
      const remote = startProcess(aws.env)
      const options: Options = {
        ...OPTIONS,
        s3: [{ uri: 's3://bucket/object', as: 's3', file: join(folder, 'object') }],
      }
      assert.deepEqual(succeeded(await remote.invoke({ options, watched: true, ...GIVE })), before)
      return { moment, seconds, aws, folder, held, before, remote }
    }

    async function freeze({
      moment,
      seconds,
      aws,
      folder,
      held,
      before,
      remote,
    }: Awaited<ReturnType<typeof warm>>): Promise<void> {
      const { headers, body } = remote.seen
      const [during, after] = [contents('during'), contents('after')]
      let outcome: Promise<Outcome> | undefined
      if (moment !== 'idle') {
        held.clear()
        put(aws, during)
        aws.intercept = ({ service }, response) =>
          void held.set(service, { socket: response.req.socket, release: hold(response, moment) })
        outcome = remote.invoke(GIVE)
        await eventually(() => held.size === 3)
        if (moment === 'headers received')
          await eventually(() => remote.seen.headers >= headers + 3)
        if (moment === 'body half read') await eventually(() => remote.seen.body >= body + 3)
      }
      remote.process.kill('SIGSTOP')
      for (const [index, service] of SERVICES.entries()) {
        const { socket, release } = present(held.get(service))
        const fate = FATES[(index + PAUSES.indexOf(seconds)) % 3]
        if (fate === 'closed') socket.destroy()
        if (fate === 'reset') socket.resetAndDestroy()
        if (fate === 'answered') release()
      }
      aws.intercept = undefined
      put(aws, after)
      await sleep(seconds * 1000)
      assert.equal(
        await readFile(join(folder, 'object'), 'latin1'),
        before.s3,
        'a reader sees the old file meanwhile',
      )
      if (moment === 'body half read')
        assert.equal((await readdir(folder)).length, 2, 'a download has begun')
      // The order is there before the thaw, as Lambda's next event is.
      outcome ??= remote.invoke(GIVE)
      remote.process.kill('SIGCONT')
      const thawed = succeeded(await outcome)
      for (const service of SERVICES)
        assert.ok(
          [during[service], after[service]].includes(present(thawed[service])),
          `a wrong value of ${service}`,
        )
      if (moment === 'idle') assert.deepEqual(thawed, after)
      assert.deepEqual(succeeded(await remote.invoke(GIVE)), after, 'the invocation after that')
      assert.deepEqual(await readdir(folder), ['object'])
      assert.equal(await remote.end(), 'exit code 0')
    }

    test(
      'invocations succeed after a process was frozen for 1, 3 and 8 seconds, idle or in the middle of calls, whatever became of the connections',
      HANGS,
      async () => {
        mock.timers.reset()
        const cases = await Promise.all(
          MOMENTS.flatMap((moment) => PAUSES.map((seconds) => warm(moment, seconds))),
        )
        const results = await Promise.allSettled(cases.map(freeze))
        const failures = results.flatMap((result, index) =>
          result.status === 'rejected'
            ? `${present(cases[index]).moment}, ${present(cases[index]).seconds} s: ${result.reason}`
            : [],
        )
        assert.deepEqual(failures, [])
      },
    )
  },
  NO_SIGNALS,
)

describe('one folder for four threads', () => {
  const URI = 's3://bucket/object'
  const GIVE = { files: ['object'] }

  /** Each has a region of its own, so that the requests tell whose they are. They take turns in what makes their calls. */
  async function fourThreads(
    ...transports: [Transport, Transport]
  ): Promise<{ folder: string; options: (maxAge: number) => Options; threads: Remote[] }> {
    mock.timers.reset()
    const folder = await temporaryFolder()
    const options = (maxAge: number): Options => ({
      s3: [{ uri: URI, file: join(folder, 'object') }],
      maxAge,
      staleIfError: 0,
    })
    const threads = [1, 2, 3, 4].map((number) =>
      startThread({ AWS_REGION: `thread-number-${number}` }, present(transports[(number - 1) % 2])),
    )
    return { folder, options, threads }
  }

  test(
    'no reader sees a torn file while all of them refresh an object that changes',
    HANGS,
    async () => {
      const aws = await local()
      const { folder, options, threads } = await fourThreads('httpsFetch', 'fetch')
      let latest = 0
      const change = (): void =>
        void aws.putObject(URI, sealed(String(++latest), 100_000 + (latest % 7) * 50_000))
      change()
      // The first is slow half-way. A delay too short to be taken for a stall.
      aws.intercept = ({ region }, response) =>
        void (region === 'thread-number-1' && setTimeout(hold(response, 'body half read'), 20))
      const changing = setInterval(change, 5)
      cleanups.push(() => clearInterval(changing))
      const versions = await Promise.all(
        threads.map(async (thread) => {
          const seen = new Set<string>()
          for (let round = 0; round < 60; round += 1)
            seen.add(
              opened(succeeded(await thread.invoke({ options: options(0), ...GIVE })).object),
            )
          return seen.size
        }),
      )
      clearInterval(changing)
      assert.ok(Math.min(...versions) > 5, `the object changed under each of them: ${versions}`)
      assert.deepEqual(await readdir(folder), ['object'])
    },
  )

  test(
    "a download is not taken for a killed process's because the object is old",
    HANGS,
    async () => {
      const { now } = Date
      Date.now = () => Date.parse('2020-01-01')
      const aws = await local({ objects: { [URI]: sealed('old', 1000) } })
      Date.now = now
      const { folder, options, threads } = await fourThreads('fetch', 'httpsFetch')
      const [other] = threads as [Remote, ...Remote[]]
      const { utimes } = promises
      // Between its time and its name another thread downloads the same.
      mock.method(promises, 'utimes', async (...given: Parameters<typeof utimes>) => {
        await utimes(...given)
        succeeded(await other.invoke({ options: options(0), ...GIVE }))
      })
      const file = join(folder, 'object')
      assert.equal(await getObject(URI, { file }), file)
      assert.equal(opened(await readFile(file, 'utf8')), 'old')
      assert.equal(aws.requests.length, 2)
      assert.deepEqual(await readdir(folder), ['object'])
    },
  )

  for (const [moment, ofSlow, ofOthers] of [
    ['request sent', 'fetch', 'httpsFetch'],
    ['body half read', 'httpsFetch', 'fetch'],
  ] as const) {
    test(
      `the last rename wins, and no thread takes another's file for its own (${moment})`,
      HANGS,
      async () => {
        const [first, second] = [sealed('first', 100_000), sealed('second', 100_000)]
        const aws = await local({ objects: { [URI]: sealed('zeroth', 100_000) } })
        const { folder, options, threads } = await fourThreads(ofSlow, ofOthers)
        const [slow, ...fast] = threads as [Remote, ...Remote[]]
        const read = async (thread: Remote, maxAge: number): Promise<string> =>
          opened(succeeded(await thread.invoke({ options: options(maxAge), ...GIVE })).object)
        assert.deepEqual(
          await Promise.all(threads.map((thread) => read(thread, 0))),
          Array(4).fill('zeroth'),
        )

        aws.putObject(URI, first)
        let release: (() => void) | undefined
        aws.intercept = (_, response) => {
          release ??= hold(response, moment)
        }
        const slower = read(slow, 0)
        await eventually(() => release !== undefined)
        aws.putObject(URI, second)
        for (const thread of fast) assert.equal(await read(thread, 0), 'second')
        present(release)()
        assert.equal(await slower, 'first', 'the thread with the slower download')
        const calls = aws.requests.length
        // The file is not what the others were given: they must not ask whether that has changed.
        // The next of them finds the file that it was given, whoever has written it.
        for (const thread of fast)
          assert.equal(await read(thread, 3600), 'second', 'a thread that is served from the cache')
        assert.equal(aws.requests.length, calls + 1)
        for (const thread of [slow, ...fast]) assert.equal(await read(thread, 3600), 'second')
        assert.equal(aws.requests.length, calls + 2, 'the slow one has read it, too')
        for (const thread of fast) assert.equal(await read(thread, 0), 'second')
        assert.deepEqual(await readdir(folder), ['object'])
      },
    )
  }
})

describeOverBoth('large objects', () => {
  const URI = 's3://bucket/object'
  const SIZE = 512
  const PATTERN = randomBytes(MEBIBYTE)

  /** A MiB of the object, each different. */
  function piece(index: number): Buffer {
    const content = Buffer.from(PATTERN)
    content.writeUInt32BE(index)
    return content
  }

  function* pieces(): Generator<Buffer> {
    for (let index = 0; index < SIZE; index += 1) yield piece(index)
  }

  test('512 MiB go to disk with less than 128 MiB of memory', HANGS, async (t) => {
    mock.timers.reset()
    const aws = await local({ objects: { 's3://bucket/small': 'small' } })
    const folder = await temporaryFolder()
    const file = join(folder, 'object')
    const remote = startProcess({})
    succeeded(
      await remote.invoke({
        options: { s3: [{ uri: 's3://bucket/small', file: join(folder, 'small') }] },
      }),
    )

    aws.intercept = async (_, response) => {
      response.writeHead(200, { 'content-length': SIZE * MEBIBYTE, etag: '"large"' })
      await pipeline(Readable.from(pieces()), response)
      return true
    }
    const outcome = await remote.invoke({
      options: { s3: [{ uri: URI, file }] },
      values: ['object'],
    })
    assert.deepEqual(succeeded(outcome), { object: file })
    const grown = (outcome.rss.peak - outcome.rss.before) / MEBIBYTE
    t.diagnostic(
      `${grown.toFixed(1)} MiB more than the ${(outcome.rss.before / MEBIBYTE).toFixed(1)} MiB before`,
    )
    assert.ok(grown < 128, `${grown} MiB more than before`)

    assert.equal((await stat(file)).size, SIZE * MEBIBYTE)
    const reader = await open(file)
    const content = Buffer.alloc(MEBIBYTE)
    for (let index = 0; index < SIZE; index += 1) {
      await reader.read(content, 0, MEBIBYTE)
      assert.ok(content.equals(piece(index)), `MiB ${index} is wrong`)
    }
    await reader.close()
    assert.deepEqual(await readdir(folder), ['object', 'small'])
  })

  test('a disk that is full is a FileError, keeps the old file and leaves no litter', {
    ...HANGS,
    skip: process.platform === 'win32' && 'no ulimit there',
  }, async () => {
    mock.timers.reset()
    const aws = await local({ objects: { [URI]: 'old' } })
    const folder = await temporaryFolder()
    const file = join(folder, 'object')
    // Blocks of 512 or 1,024 bytes, by the shell.
    const remote = startProcess({}, '2048')
    const read = (): Promise<Outcome> =>
      remote.invoke({
        options: { s3: [{ uri: URI, file }], maxAge: 0, staleIfError: 0 },
        files: ['object'],
      })
    assert.deepEqual(succeeded(await read()), { object: 'old' })

    aws.putObject(URI, new Uint8Array(4 * MEBIBYTE))
    const calls = aws.requests.length
    const { name, code, message } = present((await read()).error)
    assert.deepEqual({ name, code }, { name: 'LambdaCacheError', code: 'FileError' })
    assert.equal(message, `s3 ${URI}: cannot write the file ${file} (EFBIG)`)
    assert.equal(aws.requests.length, calls + 1, 'another attempt would fill the disk again')
    assert.deepEqual(await readdir(folder), ['object'])
    assert.equal(await readFile(file, 'utf8'), 'old')

    aws.putObject(URI, 'new')
    assert.deepEqual(succeeded(await read()), { object: 'new' })
    assert.equal(await remote.end(), 'exit code 0')
  })
})
