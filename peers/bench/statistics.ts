/** The middle one, or of an even number the mean of the two in the middle. */
export function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((one, other) => one - other)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2
    ? present(sorted[middle])
    : (present(sorted[middle - 1]) + present(sorted[middle])) / 2
}

/** The median of each of the properties. */
export function medians<K extends string>(
  rows: readonly Readonly<Record<K, number>>[],
  properties: readonly K[],
): Record<K, number> {
  return Object.fromEntries(
    properties.map((property) => [property, median(rows.map((row) => row[property]))]),
  ) as Record<K, number>
}

/** The rounds start with another of them each, so that none has the same neighbour always. */
export function rotated<T>(items: readonly T[], by: number): T[] {
  const start = by % items.length
  return [...items.slice(start), ...items.slice(0, start)]
}

import { present } from '../present.js'
