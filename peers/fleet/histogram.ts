/** Counts of whole milliseconds: exact quantiles of millions of them, in little memory. */
import { present } from '../present.js'

export interface Histogram {
  add(milliseconds: number): void
  summary(): Waits
}

/** Milliseconds, but for `count` and `waited`. */
export interface Waits {
  readonly count: number
  /** How many were not 0. */
  readonly waited: number
  readonly mean: number
  readonly median: number
  readonly p99: number
  readonly p999: number
  readonly longest: number
}

export function createHistogram(): Histogram {
  const counts: number[] = []
  return {
    add: (milliseconds) => {
      while (counts.length <= milliseconds) counts.push(0)
      counts[milliseconds] = present(counts[milliseconds]) + 1
    },
    summary: () => {
      const count = counts.reduce((sum, one) => sum + one, 0)
      return {
        count,
        mean: counts.reduce((sum, one, milliseconds) => sum + one * milliseconds, 0) / count,
        waited: count - (counts[0] ?? 0),
        median: quantile(counts, count / 2),
        p99: quantile(counts, count * 0.99),
        p999: quantile(counts, count * 0.999),
        longest: Math.max(0, counts.length - 1),
      }
    },
  }
}

/** The least that as many as `rank` do not exceed. */
function quantile(counts: readonly number[], rank: number): number {
  let sum = 0
  return Math.max(
    0,
    counts.findIndex((count) => {
      sum += count
      return sum >= rank
    }),
  )
}
