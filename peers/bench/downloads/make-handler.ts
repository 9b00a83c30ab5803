/** An object to disk by lambda-cache, over whatever `fetch` it is given. */
import { type Fetch, getObject } from '../../../lambda-cache.js'
import type { Download } from './download.js'

export function makeHandler(fetch?: Fetch) {
  return ({ bucket, key, file }: Download): Promise<string> =>
    getObject(`s3://${bucket}/${key}`, { file, fetch })
}
