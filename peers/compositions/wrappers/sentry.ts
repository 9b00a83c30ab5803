import * as Sentry from '@sentry/aws-serverless'
import { createTransport } from '@sentry/core'
import { type Compose, optionsWith, use } from '../wrapper.js'

const sent: string[] = []
Sentry.init({
  dsn: 'https://key@localhost/1',
  tracesSampleRate: 1,
  sendDefaultPii: true,
  transport: (options) =>
    createTransport(options, async ({ body }) => {
      sent.push(typeof body === 'string' ? body : Buffer.from(body).toString())
      return { statusCode: 200 }
    }),
})

export const emits = /the handler failed/

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = Sentry.wrapHandler(
    withCache(async (_: object, context) => use(context), optionsWith(fetch)),
  )
  return {
    invoke: async (context) => handler({ path: '/orders' }, context, () => {}),
    emitted: async () => {
      await Sentry.flush(2000)
      return sent.join('\n')
    },
  }
}
