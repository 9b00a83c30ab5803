/** Tests of the handler for Jest and Vitest, which have the same globals. */
import { codeOf, handler, missing, readMuch, runs } from './handler'

declare const test: (name: string, run: () => Promise<void>) => void
interface Timers {
  useFakeTimers(): void
  useRealTimers(): void
}
declare const jest: Timers
declare const vi: Timers | undefined
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
  // Nothing of what it is given has changed: it has not run again.
  expect(runs.count).toEqual(2)
})

test('reads under fake timers, as they are by default', async () => {
  const timers = typeof vi === 'undefined' ? jest : vi
  timers.useFakeTimers()
  try {
    expect(await readMuch()).toEqual(32)
  } finally {
    timers.useRealTimers()
  }
})

test("knows the library's error", async () => {
  expect(await missing({}, context).then(String, codeOf)).toEqual('ParameterNotFound')
})
