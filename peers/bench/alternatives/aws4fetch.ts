/** aws4fetch by hand: it signs, the rest is one's own. It has no cache. */
import { AwsClient } from 'aws4fetch'
import { type Answer, BUCKET, type Data, dataFrom, KEY, PARAMETERS, SECRET } from './job.js'

const {
  AWS_ENDPOINT_URL: endpoint,
  AWS_ACCESS_KEY_ID,
  AWS_SECRET_ACCESS_KEY,
  AWS_SESSION_TOKEN,
  AWS_REGION,
} = process.env
const client = new AwsClient({
  accessKeyId: AWS_ACCESS_KEY_ID as string,
  secretAccessKey: AWS_SECRET_ACCESS_KEY as string,
  sessionToken: AWS_SESSION_TOKEN as string,
  region: AWS_REGION as string,
})

export async function handler(): Promise<Data> {
  const [{ Parameters }, { SecretString }, flags] = await Promise.all([
    call('ssm', 'AmazonSSM.GetParameters', { Names: PARAMETERS, WithDecryption: true }),
    call('secretsmanager', 'secretsmanager.GetSecretValue', { SecretId: SECRET }),
    client
      .fetch(`${endpoint}/${BUCKET}/${KEY}`, { aws: { service: 's3' } })
      .then((response) => response.json()),
  ])
  return dataFrom(Parameters, SecretString, flags)
}

async function call(service: string, action: string, input: object): Promise<Answer> {
  const headers = { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': action }
  const response = await client.fetch(`${endpoint}/`, {
    method: 'POST',
    headers,
    body: JSON.stringify(input),
    aws: { service },
  })
  return response.json() as Promise<Answer>
}
