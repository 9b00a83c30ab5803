import { Router } from '@aws-lambda-powertools/event-handler/http'
import { httpEvent } from '../events.js'
import { type Compose, optionsWith, use, type Values } from '../wrapper.js'

const app = new Router()
app.get('/orders', async ({ context }) => ({ answer: await use(context as unknown as Values) }))

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(
    async (event: unknown, context) => app.resolve(event, context),
    optionsWith(fetch),
  )
  return { invoke: (context) => handler(httpEvent, context) }
}
