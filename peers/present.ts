/** A value that has to be there. */
export function present<T>(value: T | null | undefined): T {
  if (value === undefined || value === null) throw new Error('there is no such value')
  return value
}
