/** middy with its caching middlewares. There is none for S3 of this kind: the object is read by the SDK, under middy's own cache. */
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import middy from '@middy/core'
import secretsManager from '@middy/secrets-manager'
import ssm from '@middy/ssm'
import { getInternal, processCache } from '@middy/util'
import { BUCKET, type Data, type Flags, KEY, MAX_AGE, PARAMETERS, SECRET } from './job.js'

const [level, queue] = PARAMETERS
const cacheExpiry = MAX_AGE * 1000
const client = new S3Client({ forcePathStyle: true })

export const handler: (event: unknown, context: never) => Promise<Data> = middy()
  .use(ssm({ fetchData: { level, queue }, cacheKey: 'ssm', cacheExpiry, setToContext: true }))
  .use(
    secretsManager({
      fetchData: { conn_string: SECRET },
      cacheKey: 'secrets',
      cacheExpiry,
      setToContext: true,
    }),
  )
  .use({ before: readObject })
  .handler(async (_event: unknown, context: object): Promise<Data> => {
    const { level, queue, conn_string, flags } = context as Data
    return { level, queue, conn_string, flags }
  })

async function readObject(request: middy.Request): Promise<void> {
  const { value } = processCache(
    { cacheKey: 's3', cacheExpiry },
    () => ({ flags: fetchObject() }),
    request,
  )
  Object.assign(request.internal, value)
  Object.assign(request.context, await getInternal(['flags'], request))
}

async function fetchObject(): Promise<Flags> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: KEY }))
  return JSON.parse((await Body?.transformToString()) ?? '') as Flags
}
