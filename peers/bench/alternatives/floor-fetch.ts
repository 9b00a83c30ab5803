/** The same three calls over the global fetch, signed by hand, and nothing else. */
import { type Answer, BUCKET, type Data, dataFrom, KEY, PARAMETERS, SECRET } from './job.js'
import { signByHand } from './sign-by-hand.js'

const endpoint = process.env.AWS_ENDPOINT_URL as string
const { host } = new URL(endpoint)

export async function handler(): Promise<Data> {
  const [{ Parameters }, { SecretString }, flags] = await Promise.all([
    call('ssm', 'AmazonSSM.GetParameters', { Names: PARAMETERS, WithDecryption: true }),
    call('secretsmanager', 'secretsmanager.GetSecretValue', { SecretId: SECRET }),
    send('s3', 'GET', `/${BUCKET}/${KEY}`, {}),
  ])
  return dataFrom(Parameters, SecretString, flags)
}

async function call(service: string, action: string, input: object): Promise<Answer> {
  const headers = { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': action }
  return send(service, 'POST', '/', headers, JSON.stringify(input))
}

async function send(
  service: string,
  method: string,
  path: string,
  unsigned: Record<string, string>,
  body?: string,
): Promise<Answer> {
  const headers = signByHand(service, method, host, path, unsigned, body ?? '')
  const response = await fetch(endpoint + path, { method, headers, ...(body && { body }) })
  if (!response.ok) throw new Error(`HTTP ${response.status}`)
  return response.json() as Promise<Answer>
}
