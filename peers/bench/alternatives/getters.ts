/** Four getters on the context, and nothing else: no clock, no check. What it takes to hide values from logs. */
import type { Data } from './job.js'

const data: Data = {
  level: 'info',
  queue: 'orders',
  conn_string: 'a secret',
  flags: { beta: true, limits: [1, 2, 3] },
}

const properties = Object.entries(data).map(([name, value]) => ({
  name,
  property: { configurable: true, get: (): unknown => value },
}))

export function handler(event: object, context: object): Promise<Data> {
  for (const { name, property } of properties) Reflect.defineProperty(context, name, property)
  return inner(event, context as Data)
}

async function inner(_event: object, { level, queue, conn_string, flags }: Data): Promise<Data> {
  return { level, queue, conn_string, flags }
}
