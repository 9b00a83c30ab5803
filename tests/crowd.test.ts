/** Many requests and many invocations at once. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, mock, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import {
  type Fetch,
  getObject,
  getParametersByPath,
  getSecret,
  type LambdaContext,
  withCache,
} from '../lambda-cache.js'
import {
  advance,
  contextWith,
  describeOverBoth,
  failure,
  HOUR,
  isSettled,
  lambdaContext,
  local,
  MINUTE,
  mockTimeouts,
  pass,
  present,
  reply,
  SECOND,
  SOURCES,
  START,
  script,
  seeded,
  setEnvironment,
  temporaryFolder,
  transport,
  turns,
} from './kit.js'

// ---- The line ----

describe('the line', () => {
  const uris = (count: number) =>
    Array.from({ length: count }, (_, index) => `s3://bucket/object-${index}`)

  /** Answers when it is told to, in any order; knows what is under way. */
  function desk() {
    const waiting: {
      readonly key: string
      readonly signal: AbortSignal
      answer(text?: string): void
    }[] = []
    const seen: string[] = []
    const fetch: Fetch = (url, { signal }) =>
      new Promise((resolve, reject) => {
        const key = new URL(url).pathname.slice(1)
        seen.push(key)
        const leave = () =>
          void (waiting.includes(request) && waiting.splice(waiting.indexOf(request), 1))
        const request = {
          key,
          signal,
          answer: (text = key) => {
            leave()
            return resolve(reply(200, text))
          },
        }
        waiting.push(request)
        signal.addEventListener('abort', () => {
          leave()
          return reject(signal.reason as Error)
        })
      })
    return { waiting, seen, fetch }
  }

  test('lets 20 requests be under way, and the others wait in line, first come first served', async () => {
    const { waiting, seen, fetch } = desk()
    const reads = uris(50).map((uri) => getObject(uri, { binary: true, fetch }))
    await turns()
    assert.equal(waiting.length, 20)
    for (let answered = 1; answered <= 50; answered += 1) {
      present(waiting.at(answered % 2 ? 0 : -1)).answer()
      await turns()
      assert.equal(waiting.length, Math.min(20, 50 - answered))
    }
    await Promise.all(reads)
    assert.deepEqual(
      seen,
      uris(50).map((uri) => uri.slice('s3://bucket/'.length)),
    )
  })

  test('is one for all: wrapped functions, direct reads, refreshes ahead, and pages of a tree', async () => {
    const { waiting, seen, fetch } = desk()
    mock.method(Math, 'random', () => 0)
    const warm = script(reply(200, 'old'))
    let pick: Fetch = warm.fetch
    const ahead = withCache(() => 'ran', {
      s3: [{ uri: 's3://bucket/ahead', binary: true }],
      fetch: (url, init) => pick(url, init),
    })
    await ahead({}, lambdaContext())
    pick = fetch
    pass(50 * SECOND)
    const [one, two] = [uris(20).slice(0, 10), uris(20).slice(10)].map((some) =>
      withCache(() => 'ran', {
        s3: some.map((uri, index) => ({ uri, binary: true, as: `a${index}` })),
        fetch,
      }),
    )
    const running = [present(one)({}, lambdaContext()), present(two)({}, lambdaContext())]
    await turns()
    running.push(ahead({}, lambdaContext()))
    const direct = getSecret('a', { fetch })
    const tree = getParametersByPath('/app', { fetch })
    await turns()
    assert.deepEqual([waiting.length, seen.includes('ahead')], [20, false])
    present(waiting[0]).answer()
    await turns()
    assert.equal(seen.at(-1), 'ahead')
    present(waiting[0]).answer()
    await turns()
    present(waiting.at(-1)).answer('{"SecretString":"value"}')
    assert.equal(await direct, 'value')
    await turns()
    present(waiting.at(-1)).answer('{"Parameters":[],"NextToken":"1"}')
    await turns()
    present(waiting.at(-1)).answer('{"Parameters":[]}')
    assert.deepEqual(await tree, {})
    while (waiting.length > 0) {
      present(waiting[0]).answer()
      await turns()
    }
    assert.deepEqual(await Promise.all(running), ['ran', 'ran', 'ran'])
  })

  test('is not for custom loads and container credentials', async () => {
    const { waiting, fetch } = desk()
    setEnvironment({
      AWS_REGION: 'us-east-1',
      AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://127.0.0.1/credentials',
    })
    const reads = uris(30).map((uri) => getObject(uri, { binary: true, fetch }))
    await turns()
    assert.deepEqual(
      waiting.map(({ key }) => key),
      ['credentials'],
    )
    assert.equal(
      await withCache((_: unknown, context) => context.slow, {
        custom: [{ as: 'slow', load: async () => 'loaded' }],
      })({}, lambdaContext()),
      'loaded',
    )
    present(waiting[0]).answer(
      JSON.stringify({
        AccessKeyId: 'id',
        SecretAccessKey: 'secret',
        Expiration: new Date(START + HOUR).toISOString(),
      }),
    )
    await turns()
    assert.equal(waiting.length, 20)
    while (waiting.length > 0) {
      present(waiting[0]).answer()
      await turns()
    }
    await Promise.all(reads)
  })

  test('is not for what a fetch of the user reads while it makes a call', async () => {
    mockTimeouts()
    const { waiting, fetch } = desk()
    const withToken: Fetch = async () => {
      await getSecret('token', { fetch, maxAge: 0 })
      return reply(200, 'value')
    }
    const reads = uris(30).map((uri) => getObject(uri, { binary: true, fetch: withToken }))
    await turns()
    while (waiting.length > 0) {
      present(waiting[0]).answer('{"SecretString":"token"}')
      await turns()
    }
    assert.equal((await Promise.all(reads)).length, 30)
  })

  test('takes back the place of what hangs or is abandoned, deaf to its signal or not', async () => {
    mockTimeouts()
    let [calls, deaf] = [0, true]
    const fetch: Fetch = (url, { signal }) => {
      calls += 1
      if (!url.endsWith('hangs')) return Promise.resolve(reply(200, 'value'))
      return new Promise(
        (_, reject) =>
          void (deaf || signal.addEventListener('abort', () => reject(signal.reason as Error))),
      )
    }
    for (deaf of [true, false]) {
      calls = 0
      const hanging = withCache(() => assert.fail('no handler without its values'), {
        s3: Array.from({ length: 30 }, (_, index) => ({
          uri: `s3://bucket/${index}/hangs`,
          binary: true,
          as: `a${index}`,
        })),
        fetch,
      })
      const late = failure(hanging({}, contextWith(SECOND)), { code: 'Timeout' })
      await turns()
      const behind = getObject(`s3://bucket/${deaf}`, { binary: true, fetch })
      await turns()
      assert.deepEqual([await isSettled(behind), calls], [false, 20])
      await advance(SECOND)
      await late
      await behind
      assert.equal(calls, 21, 'nothing is sent for those who have given up in the line')
    }
  })

  test('counts against the deadline alone, not as a stall, and a pause gives its place back', async () => {
    mockTimeouts()
    const { waiting, seen, fetch } = desk()
    const reads = uris(20).map((uri) => getObject(uri, { binary: true, fetch }).catch(() => {}))
    const behind = getObject('s3://bucket/behind', { binary: true, fetch })
    await advance(1.9 * SECOND)
    assert.equal(seen.length, 20)
    // The first attempts of the others stall. Between them and the second ones, there are places.
    await advance(SECOND)
    assert.ok(seen.includes('behind'))
    await advance(SECOND)
    present(waiting.find(({ key }) => key === 'behind')).answer('value')
    assert.equal(Buffer.from(await behind).toString(), 'value')
    await advance(20 * SECOND)
    await Promise.all(reads)
  })

  describeOverBoth('at a real server', () => {
    test('takes 200 objects 20 at a time, and all of them', async () => {
      const aws = await local({
        objects: Object.fromEntries(uris(200).map((uri) => [uri, `content of ${uri}`])),
      })
      const folder = await temporaryFolder()
      let [now, most] = [0, 0]
      aws.intercept = async (_, response) => {
        now += 1
        most = Math.max(most, now)
        await turns(20)
        response.once('finish', () => {
          now -= 1
        })
        return false
      }
      const files = await Promise.all(
        uris(200).map((uri, index) => getObject(uri, { file: join(folder, `${index}`) })),
      )
      assert.equal(await readFile(present(files[199]), 'utf8'), 'content of s3://bucket/object-199')
      assert.equal(most, 20)
    })

    test('gets by with few files that may be open at once', {
      timeout: MINUTE,
      skip: process.platform === 'win32' && 'no ulimit there',
    }, async () => {
      const aws = await local({
        objects: Object.fromEntries(uris(200).map((uri) => [uri, 'content'])),
      })
      const folder = await temporaryFolder()
      const program = `
        import { getObject, httpsFetch } from ${JSON.stringify(fileURLToPath(new URL('../lambda-cache.ts', import.meta.url)))}
        const options = ${transport === 'fetch' ? '{}' : '{ fetch: httpsFetch }'}
        const uris = Array.from({ length: 200 }, (_, index) => \`s3://bucket/object-\${index}\`)
        await Promise.all(uris.map((uri, index) => getObject(uri, { ...options, file: \`${folder}/\${index}\` })))
        console.log('all')`
      await writeFile(join(folder, 'program.mjs'), program)
      const { stdout } = await promisify(execFile)(
        'sh',
        [
          '-c',
          'ulimit -n 128 && exec "$0" --import tsx "$1"',
          process.execPath,
          join(folder, 'program.mjs'),
        ],
        {
          cwd: fileURLToPath(new URL('..', import.meta.url)),
          env: { ...process.env, ...aws.env },
        },
      )
      assert.equal(stdout, 'all\n')
    })
  })
})

// ---- Many invocations at once ----
// ---- Many invocations at once ----

describeOverBoth('many invocations at once', () => {
  test('see each their own context and values, while the values change', async () => {
    const aws = await local()
    const random = seeded(1)
    aws.intercept = () => turns(Math.floor(random() * 8))
    let version = 0
    const change = (): void => {
      version += 1
      for (const source of SOURCES) source.put(aws, `${source.source} ${version}`)
    }
    change()
    const current = async () => {
      await turns(3)
      return `custom ${version}`
    }
    const handlers = [
      ...SOURCES.map(({ source, entry }) => [source, entry()] as const),
      ['custom', { custom: [{ as: 'value', load: current }] }] as const,
    ].flatMap(([source, entry]) =>
      [0, 60].map((maxAge) => {
        const handle = async (event: number, context: LambdaContext) => {
          const look = () => [
            context.awsRequestId,
            Reflect.get(context, 'value') as string,
            Object.keys(context).length,
          ]
          const [before, seen] = [version, look()]
          for (let turn = random() * 10; turn > 0; turn -= 1) {
            await turns(1)
            assert.deepEqual(look(), seen, 'nothing changes under a handler')
          }
          return { event, context, before, source, id: seen[0], value: String(seen[1]) }
        }
        return withCache(handle, { ...entry, maxAge })
      }),
    )
    const invocations = Array.from({ length: 64 }, async (_, index) => {
      await turns(Math.floor(random() * 30))
      if (index % 4 === 0) change()
      const context = { ...lambdaContext(), awsRequestId: `request ${index}` }
      return {
        index,
        context,
        started: version,
        ...(await present(handlers[index % handlers.length])(index, context).then((result) => ({
          result,
        }))),
      }
    })
    const versions = new Set<string>()
    for (const { index, context, result } of await Promise.all(invocations)) {
      assert.deepEqual([result.event, result.id], [index, `request ${index}`])
      assert.equal(result.context, context, 'the very context')
      const [source, number] = result.value.split(' ')
      assert.equal(source, result.source)
      assert.ok(Number(number) >= 1 && Number(number) <= result.before, 'no value from the future')
      assert.equal(Reflect.get(context, 'value'), result.value, 'nor does it change afterwards')
      versions.add(result.value)
    }
    assert.ok(versions.size > 8, 'values did change')
  })
})
