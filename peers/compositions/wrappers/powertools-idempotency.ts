import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency'
import {
  BasePersistenceLayer,
  type IdempotencyRecord,
} from '@aws-lambda-powertools/idempotency/persistence'
import { type Compose, optionsWith, use } from '../wrapper.js'

/** A store in memory, instead of DynamoDB. */
class Store extends BasePersistenceLayer {
  readonly records: string[] = []
  protected override async _getRecord(): Promise<IdempotencyRecord> {
    throw new Error('nothing is ever there twice')
  }
  protected override async _putRecord(record: IdempotencyRecord): Promise<void> {
    this.records.push(JSON.stringify(record))
  }
  protected override async _updateRecord(record: IdempotencyRecord): Promise<void> {
    this.records.push(JSON.stringify(record))
  }
  protected override async _deleteRecord(record: IdempotencyRecord): Promise<void> {
    this.records.push(JSON.stringify(record))
  }
}

const store = new Store()
const config = new IdempotencyConfig({})

export const emits = /COMPLETED/

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(async (event: { id: string }, context) => {
    config.registerLambdaContext(context)
    return makeIdempotent(async (_: { id: string }) => use(context), {
      persistenceStore: store,
      config,
    })(event)
  }, optionsWith(fetch))
  return {
    invoke: (context) => handler({ id: context.awsRequestId }, context),
    emitted: () => store.records.join('\n'),
  }
}
