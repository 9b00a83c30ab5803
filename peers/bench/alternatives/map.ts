/** What people write themselves: values in a Map, each with the time until which it holds, put on the context. Over the floor's calls. */
import { handler as load } from './floor-fetch.js'
import { type Data, MAX_AGE } from './job.js'

const cache = new Map<string, { readonly value: unknown; readonly expiresAt: number }>()

export async function handler(event: object, context: object): Promise<Data> {
  const [level, queue, conn_string, flags] = await Promise.all([
    read('level'),
    read('queue'),
    read('conn_string'),
    read('flags'),
  ])
  return inner(event, Object.assign(context, { level, queue, conn_string, flags }))
}

async function inner(_event: object, { level, queue, conn_string, flags }: Data): Promise<Data> {
  return { level, queue, conn_string, flags }
}

export async function read<K extends keyof Data>(name: K): Promise<Data[K]> {
  const entry = cache.get(name)
  if (entry && Date.now() < entry.expiresAt) return entry.value as Data[K]
  const { [name]: value } = await load()
  cache.set(name, { value, expiresAt: Date.now() + MAX_AGE * 1000 })
  return value
}
