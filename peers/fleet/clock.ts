import { virtualDate } from '../../tests/instance.js'

/** Time that passes only when everything that is due has been done: an hour of it takes seconds. */
export interface Clock {
  /** Milliseconds since the start of the simulation. */
  readonly now: number
  /** Does something at a time that is to come. */
  at(time: number, task: () => void): void
  readonly setTimeout: (callback: () => void, milliseconds: number) => Timer
  readonly clearTimeout: (timer: Timer | undefined) => void
  /** At once: between two times nothing arrives. */
  readonly setImmediate: (callback: () => void) => void
  /** `Date`, whose `now()` and whose constructor without arguments read this clock. */
  readonly Date: DateConstructor
  /** Goes on until nothing is left to do. */
  run(): Promise<void>
}

export interface Timer {
  cleared: boolean
}

/** What `Date` shows at the start. */
const EPOCH = Date.UTC(2026, 0, 1)

export function createClock(): Clock {
  // By the millisecond: of what is due in one, the first to come is done first.
  const tasks = new Map<number, (() => void)[]>()
  let now = 0
  const at = (time: number, task: () => void): void => {
    if (!(time > now)) throw new Error(`expected a time after ${now}, got ${time}`)
    const due = tasks.get(time)
    if (due) due.push(task)
    else tasks.set(time, [task])
  }
  return {
    get now() {
      return now
    },
    at,
    setTimeout: (callback, milliseconds) => {
      const timer: Timer = { cleared: false }
      // As Node has it: whole milliseconds, and one at least.
      at(now + Math.max(1, Math.trunc(milliseconds)), () => {
        if (!timer.cleared) callback()
      })
      return timer
    },
    clearTimeout: (timer) => {
      if (timer) timer.cleared = true
    },
    setImmediate: queueMicrotask,
    Date: virtualDate(() => EPOCH + now),
    run: async () => {
      for (; tasks.size > 0; now += 1) {
        const due = tasks.get(now)
        if (!due) continue
        tasks.delete(now)
        for (const task of due) task()
        await settled()
      }
    },
  }
}

/** After all that promises lead to: nothing in the simulation takes time in any other way. */
function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve))
}
