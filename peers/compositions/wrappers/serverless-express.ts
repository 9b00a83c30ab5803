import serverlessExpress, { getCurrentInvoke } from '@codegenie/serverless-express'
import express from 'express'
import { httpEvent } from '../events.js'
import { type Compose, optionsWith, use } from '../wrapper.js'

const app = express()
app.get('/orders', async (_, response) => void response.send(await use(getCurrentInvoke().context)))
const proxy = (serverlessExpress as unknown as typeof serverlessExpress.default)({
  app,
}) as unknown as (event: unknown, context: unknown) => Promise<{ statusCode: number; body: string }>

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(
    async (event: typeof httpEvent, context) => proxy(event, context),
    optionsWith(fetch),
  )
  return { invoke: (context) => handler(httpEvent, context) }
}
