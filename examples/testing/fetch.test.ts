/** The whole handler, with a `fetch` that answers as AWS does, and a clock that is turned. */
import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { clearCache, type LambdaContext } from '../../lambda-cache.js'
import { handler } from './greet.js'

const context = {} as LambdaContext

/** A new Response for each call: a body is read once. */
const answer = async () =>
  Response.json({ Parameters: [{ Name: '/app/greeting', Value: 'hello' }] })

beforeEach(() => {
  clearCache()
  // Requests are signed all the same.
  Object.assign(process.env, {
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: 'id',
    AWS_SECRET_ACCESS_KEY: 'key',
  })
})

test('greets with what SSM answers', async ({ mock }) => {
  mock.method(globalThis, 'fetch', answer)
  assert.equal(await handler({ name: 'world' }, context), 'hello, world')
})

test('asks again after a minute', async ({ mock }) => {
  const { mock: calls } = mock.method(globalThis, 'fetch', answer)
  // The cache needs no timer: whether a value is due is a question of the date.
  mock.timers.enable({ apis: ['Date'] })
  await handler({ name: 'world' }, context)
  mock.timers.tick(40_000)
  await handler({ name: 'world' }, context)
  assert.equal(calls.callCount(), 1)
  mock.timers.tick(21_000)
  await handler({ name: 'world' }, context)
  assert.equal(calls.callCount(), 2)
})
