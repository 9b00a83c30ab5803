import { withCache } from '../lambda-cache.js'

export const handler = withCache(
  async (event: { name: string }, context) => {
    return {
      hello: event.name,
      var: context.var,
      conn_string: context.conn_string,
      file: context['object.json'],
    }
  },
  {
    ssm: ['/prod/app/var'],
    secrets: ['/prod/db/conn_string'],
    s3: ['s3://bucket/path/to/object.json'],
  },
)
