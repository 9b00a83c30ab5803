/** A handler that has its values already: what a warm invocation is compared with. */
import type { Data } from './job.js'

const { level, queue, conn_string, flags }: Data = {
  level: 'info',
  queue: 'orders',
  conn_string: 'a secret',
  flags: { beta: true, limits: [1, 2, 3] },
}

export async function handler(): Promise<Data> {
  return { level, queue, conn_string, flags }
}
