/**
 * `AsyncLocalStorage` for any number of instances of the file, on one of Node's own: until Node.js 22, each one that is in use
 * slows down every promise of the process, and the model makes thousands.
 */
import { AsyncLocalStorage } from 'node:async_hooks'

const stores = new AsyncLocalStorage<ReadonlyMap<SharedStorage, unknown>>()

export class SharedStorage {
  getStore(): unknown {
    return stores.getStore()?.get(this)
  }

  run<T>(store: unknown, work: (...args: unknown[]) => T, ...args: unknown[]): T {
    return stores.run(new Map([...(stores.getStore() ?? []), [this, store]]), work, ...args)
  }

  disable(): void {}
}
