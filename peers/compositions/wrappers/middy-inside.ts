import middy from '@middy/core'
import { type Compose, optionsWith, use } from '../wrapper.js'

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = middy(withCache(async (_: object, context) => use(context), optionsWith(fetch)))
  return { invoke: async (context) => handler({}, context) }
}
