/** The handler with lambda-cache, over whatever `fetch` it is given. */
import { type Fetch, json, withCache } from '../../../lambda-cache.js'
import { BUCKET, type Data, type Flags, KEY, MAX_AGE, PARAMETERS, SECRET } from './job.js'

export function makeHandler(fetch?: Fetch) {
  return withCache(
    async (_event: object, { level, queue, conn_string, flags }): Promise<Data> => ({
      level,
      queue,
      conn_string,
      flags,
    }),
    {
      ssm: PARAMETERS,
      secrets: [SECRET],
      s3: [{ uri: `s3://${BUCKET}/${KEY}`, as: 'flags', parse: json<Flags> }],
      maxAge: MAX_AGE,
      fetch,
    },
  )
}
