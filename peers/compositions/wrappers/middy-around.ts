import middy from '@middy/core'
import type { Context } from 'aws-lambda'
import { type Compose, optionsWith, use, type Values } from '../wrapper.js'

export const compose: Compose = ({ withCache }, fetch) => {
  const inner = middy(async (_: object, context: Context & Values) => use(context))
  const handler = withCache((event: object, context) => inner(event, context), optionsWith(fetch))
  return { invoke: (context) => handler({}, context) }
}
