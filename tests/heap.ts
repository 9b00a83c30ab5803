import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Bytes of the heap that are in use, after a collection of what is not. */
export function heapUsed(): number {
  collect()
  return process.memoryUsage().heapUsed
}

/** Bytes of buffers; where they seem to be more than `limit`, after a collection of what is not in use. */
export function buffersUsed(limit: number): number {
  if (process.memoryUsage().arrayBuffers > limit) collect()
  return process.memoryUsage().arrayBuffers
}

function collect(): void {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  gc()
  // The memory of buffers is freed beside the collection that found them, and counted at the next.
  gc()
}
