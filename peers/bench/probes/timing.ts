/** Time of calls that take some nanoseconds each. By the clock: the kernel counts a thread's CPU time in steps of milliseconds. */

/** Milliseconds of a turn. */
const TURN = 5

/** Times calls in turns of so many as the first ones show to be long enough. */
export async function timer(call: () => Promise<unknown>): Promise<() => Promise<number>> {
  let count = 10
  // By the end of it, all is compiled.
  for (let time = 0; time < 12; time += 1) {
    const nanoseconds = await timeOf(call, count)
    count = Math.min(Math.max(Math.round((TURN * 1e6) / nanoseconds), 2), 100_000)
  }
  return () => timeOf(call, count)
}

/** Nanoseconds for each. */
async function timeOf(call: () => Promise<unknown>, count: number): Promise<number> {
  const begin = process.hrtime.bigint()
  for (let left = count; left > 0; left -= 1) await call()
  return Number(process.hrtime.bigint() - begin) / count
}
