/** Vitest: the module is mocked, and the values are the test's. */
import { expect, test, vi } from 'vitest'
import type { LambdaContext } from '../../lambda-cache.js'
import { handler } from './greet.js'

vi.mock('../../lambda-cache.js', () => ({
  withCache:
    (handler: (event: object, context: object) => unknown) => (event: object, context: object) =>
      handler(event, { ...context, greeting: 'hello' }),
}))

test('greets with the value of the test', async () => {
  expect(await handler({ name: 'world' }, {} as LambdaContext)).toBe('hello, world')
})
