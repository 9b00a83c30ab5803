/** aws-lite with its plugins. There is none for Secrets Manager: the client's own request does. It has no cache. */
import awsLite from '@aws-lite/client'
import s3Plugin from '@aws-lite/s3'
import ssmPlugin from '@aws-lite/ssm'
import { type Answer, BUCKET, type Data, dataFrom, KEY, PARAMETERS, SECRET } from './job.js'

// Its methods come from the plugins, whose types are not installed.
const client = (await awsLite({ plugins: [ssmPlugin, s3Plugin] })) as unknown as Client

interface Client {
  (request: object): Promise<{ payload: Answer }>
  SSM: { GetParameters(input: object): Promise<Answer> }
  S3: { GetObject(input: object): Promise<{ Body: unknown }> }
}

export async function handler(): Promise<Data> {
  const [{ Parameters }, { payload }, { Body }] = await Promise.all([
    client.SSM.GetParameters({ Names: PARAMETERS, WithDecryption: true }),
    client({
      service: 'secretsmanager',
      awsjson: false,
      headers: {
        'x-amz-target': 'secretsmanager.GetSecretValue',
        'content-type': 'application/x-amz-json-1.1',
      },
      payload: { SecretId: SECRET },
    }),
    client.S3.GetObject({ Bucket: BUCKET, Key: KEY }),
  ])
  return dataFrom(Parameters, payload.SecretString, Body)
}
