/** Tests of the handler for Jest and Vitest, which have the same globals. */
import { codeOf, handler, missing } from './handler'

declare const test: (name: string, run: () => Promise<void>) => void
declare const expect: (actual: unknown) => { toEqual(expected: unknown): void }

const context = { awsRequestId: 'test', getRemainingTimeInMillis: () => 10_000 } as never

test('has its values', async () => {
  expect(await handler({}, context)).toEqual(['marker-parameter', 'marker-secret', 'marker-object'])
})

test('lets its own error out', async () => {
  const message = await handler({ fails: true }, context).then(
    String,
    (error: Error) => error.message,
  )
  expect(message).toEqual('the password is out of date')
})

test("knows the library's error", async () => {
  expect(await missing({}, context).then(String, codeOf)).toEqual('ParameterNotFound')
})
