import { Hono } from 'hono'
import { handle, type LambdaContext, type LambdaEvent } from 'hono/aws-lambda'
import { httpEvent } from '../events.js'
import { type Compose, optionsWith, use, type Values } from '../wrapper.js'

const app = new Hono<{ Bindings: { lambdaContext: LambdaContext } }>()
app.get('/orders', async (request) =>
  request.text(await use(request.env.lambdaContext as unknown as Values)),
)
const answer = handle(app)

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(
    async (event: LambdaEvent, context) => answer(event, context as LambdaContext),
    optionsWith(fetch),
  )
  return { invoke: (context) => handler(httpEvent as unknown as LambdaEvent, context) }
}
