/** An object to disk by lambda-cache as it comes, over the global fetch. */
import { makeHandler } from './make-handler.js'

export const handler = makeHandler()
