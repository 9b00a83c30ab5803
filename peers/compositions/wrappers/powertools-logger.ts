import { Logger } from '@aws-lambda-powertools/logger'
import { type Compose, optionsWith, use } from '../wrapper.js'

const logger = new Logger({ serviceName: 'orders' })

export const emits = /the invocation failed/

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(async (event: { id: number }, context) => {
    logger.addContext(context)
    logger.logEventIfEnabled(event, true)
    logger.info('begins', { context: { ...context } })
    try {
      return await use(context)
    } catch (error) {
      logger.error('failed', error as Error)
      throw error
    }
  }, optionsWith(fetch))
  return {
    invoke: (context) =>
      handler({ id: 1 }, context).catch((error: Error) => {
        logger.error('the invocation failed', error)
        throw error
      }),
  }
}
