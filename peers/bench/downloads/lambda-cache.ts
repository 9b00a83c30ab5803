/** An object to disk by lambda-cache as it comes, over the global fetch. */
import { makeHandler } from './lambda-cache-handler.js'

export const handler = makeHandler()
