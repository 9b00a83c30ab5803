import createApi, { type Request } from 'lambda-api'
import { httpEvent } from '../events.js'
import { type Compose, optionsWith, use, type Values } from '../wrapper.js'

const api = (createApi as unknown as typeof createApi.default)({
  logger: { level: 'trace', access: true },
})
api.get('/orders', async (request: Request) => use(request.context as unknown as Values))

export const emits = /"level":"access"/

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(
    async (event: typeof httpEvent, context) => api.run(event as never, context),
    optionsWith(fetch),
  )
  return { invoke: (context) => handler(httpEvent, context) }
}
