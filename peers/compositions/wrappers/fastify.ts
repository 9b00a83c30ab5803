import awsLambdaFastify from '@fastify/aws-lambda'
import createApp, { type FastifyRequest } from 'fastify'
import { httpEvent } from '../events.js'
import { type Compose, optionsWith, use, type Values } from '../wrapper.js'

const app = createApp({ logger: true })
app.get('/orders', async (request: FastifyRequest & { awsLambda?: { context: object } }) =>
  use(request.awsLambda?.context as Values),
)
const proxy = awsLambdaFastify(app, { decorateRequest: true })

export const emits = /request completed/

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(
    async (event: typeof httpEvent, context) => proxy(event, context),
    optionsWith(fetch),
  )
  return { invoke: (context) => handler(httpEvent, context) }
}
