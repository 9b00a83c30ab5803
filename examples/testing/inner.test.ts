/** The inner function, with a plain object for its context: no cache, no AWS. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { greet } from './greet.js'

test('greets with the value on the context', async () => {
  assert.equal(await greet({ name: 'world' }, { greeting: 'hello' }), 'hello, world')
})
