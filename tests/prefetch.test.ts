/** `prefetch`, and what is loaded in the init phase. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { clearCache, withCache } from '../lambda-cache.js'
import { CACHED, failure, lambdaContext, local, reply, SSM, scene, temporaryFolder } from './kit.js'
import { bundleOf } from './size.js'

describe('prefetch', () => {
  for (const { source, id, attempts, answer, options } of CACHED) {
    test(`reads before the first invocation: ${source}`, async () => {
      const aws = scene(answer('one'))
      const handler = withCache(
        (_: unknown, context) => Reflect.get(context, 'value') as unknown,
        options(aws),
      )
      assert.equal(await handler.prefetch(), undefined)
      assert.equal(aws.sent.length, 1)
      assert.equal(await handler({}, lambdaContext()), 'one')
      assert.equal(aws.sent.length, 1)
    })

    test(`fails as an invocation does, and the next invocation tries again: ${source}`, async () => {
      const aws = scene(reply(500))
      const handler = withCache(
        (_: unknown, context) => Reflect.get(context, 'value') as unknown,
        options(aws),
      )
      await failure(handler.prefetch(), {
        source,
        id,
        code: source === 'custom' ? 'LoadFailed' : 'Http500',
      })
      assert.equal(aws.sent.length, attempts)
      aws.say(answer('one'))
      assert.equal(await handler({}, lambdaContext()), 'one')
    })
  }

  test('reads the entries of nested wrappers, too', async () => {
    const aws = await local({ parameters: { '/a': '1' }, secrets: { b: '2' } })
    const inner = withCache((_: unknown, context) => context.b, { secrets: ['b'] })
    const outer = withCache(inner, { ssm: ['/a'] })
    await outer.prefetch()
    assert.equal(aws.requests.length, 2)
    assert.equal(await outer({}, lambdaContext()), '2')
    assert.equal(aws.requests.length, 2)
    aws.delete('b')
    clearCache()
    await failure(outer.prefetch(), { code: 'ResourceNotFoundException', id: 'b' })
  })

  test('shares its requests with an invocation that comes meanwhile', async () => {
    const aws = scene(SSM.answer('one'))
    const handler = withCache((_: unknown, context) => context.value, {
      ssm: ['/app/value'],
      fetch: aws.fetch,
    })
    assert.deepEqual(await Promise.all([handler.prefetch(), handler({}, lambdaContext())]), [
      undefined,
      'one',
    ])
    assert.equal(aws.sent.length, 1)
  })
})

// ---- Ready at init ----

describe('ready at init', () => {
  /** What a new process prints that runs this, with the library in `lambda`. */
  async function running(code: string): Promise<unknown> {
    const file = join(await temporaryFolder(), 'lambda-cache.mjs')
    await writeFile(file, bundleOf('withCache, httpsFetch'))
    const setting = `
      import { withCache, httpsFetch as https } from ${JSON.stringify(file)}
      const net = process.getBuiltinModule('node:net')
      let [calls, expressions] = [0, 0]
      const fetch = globalThis.fetch = () => { calls += 1; throw Error() }
      const { isIP } = net
      net.isIP = (host) => { expressions += 1; return isIP(host) }
      const loaded = new Set(process.moduleLoadList)
      const news = () => process.moduleLoadList.filter((name) => !loaded.has(name)).join()
      // Node's fetch looks at the pipes of the process's own output.
      const resources = () => process.getActiveResourcesInfo().filter((name) => name !== 'PipeWrap').join()
      const print = (result) => process.stdout.write(JSON.stringify(result))
      `
    const args = ['--input-type=module', '--eval', setting + code]
    return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as unknown
  }

  const NONE = { https: false, undici: false, expressions: 0 }
  const CASES = [
    ["{ ssm: ['/app/value'] }", { https: false, undici: true, expressions: 2 }],
    ["{ secrets: ['app/value'], fetch: https }", { https: true, undici: false, expressions: 2 }],
    ["{ s3: ['s3://bucket/key'], fetch }", { https: true, undici: false, expressions: 2 }],
    ["{ custom: [{ as: 'value', load: () => 1 }] }", NONE],
    ['{}', NONE],
  ] as const
  for (const [options, expected] of CASES) {
    test(`loads what the first request needs, and sends nothing: ${options}`, async () => {
      const result = await running(`
        const before = resources()
        withCache(() => {}, ${options})
        const after = [resources()]
        const names = news()
        for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
        after.push(resources())
        print({
          https: / https(,|$)/.test(names),
          undici: /undici/.test(names),
          expressions,
          isCalm: after.every((one) => one === before || one === ''),
          calls,
        })`)
      assert.deepEqual(result, { ...expected, isCalm: true, calls: 0 })
    })
  }

  test('leaves what fails to the first request', async () => {
    const result = await running(`
      process.on('unhandledRejection', () => print('unhandled'))
      globalThis.Response = undefined
      withCache(() => {}, { ssm: ['/app/value'] })
      net.isIP = undefined
      withCache(() => {}, { ssm: ['/app/value'], fetch: https })
      setImmediate(() => print('fine'))`)
    assert.equal(result, 'fine')
  })
})
