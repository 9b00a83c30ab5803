import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch'
import type { SQSHandler, SQSRecord } from 'aws-lambda'
import { type Compose, optionsWith, use, type Values } from '../wrapper.js'

const processor = new BatchProcessor(EventType.SQS)

export const compose: Compose = ({ withCache }, fetch) => {
  const handler: SQSHandler = withCache(async (event, context) => {
    const handleRecord = async (_: SQSRecord, given?: object) => use(given as Values)
    return processPartialResponse(event, handleRecord, processor, { context })
  }, optionsWith(fetch))
  return {
    invoke: async (context) =>
      handler(
        { Records: [{ messageId: '1', body: '{}', eventSource: 'aws:sqs' } as SQSRecord] },
        context,
        () => {},
      ),
  }
}
