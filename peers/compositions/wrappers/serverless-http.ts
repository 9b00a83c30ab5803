import express from 'express'
import serverless from 'serverless-http'
import { httpEvent } from '../events.js'
import { type Compose, optionsWith, use, type Values } from '../wrapper.js'

const app = express()
app.get(
  '/orders',
  async (request, response) =>
    void response.send(await use((request as unknown as { values: Values }).values)),
)
const proxy = serverless(app, {
  request: (request: { values: object }, _: object, context: object) => {
    request.values = context
  },
})

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(
    async (event: typeof httpEvent, context) => proxy(event, context),
    optionsWith(fetch),
  )
  return { invoke: (context) => handler(httpEvent, context) }
}
