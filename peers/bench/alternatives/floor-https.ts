/** The same three calls over node:https, signed by hand, and nothing else. */
import { Agent, request } from 'node:https'
import { type Answer, BUCKET, type Data, dataFrom, KEY, PARAMETERS, SECRET } from './job.js'
import { signByHand } from './sign-by-hand.js'

const endpoint = process.env.AWS_ENDPOINT_URL as string
const { host } = new URL(endpoint)
const agent = new Agent({ keepAlive: true })

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

function send(
  service: string,
  method: string,
  path: string,
  unsigned: Record<string, string>,
  body = '',
): Promise<Answer> {
  const headers = signByHand(service, method, host, path, unsigned, body)
  return new Promise((resolve, reject) => {
    const sent = request(
      endpoint + path,
      { method, headers: { ...headers, 'content-length': Buffer.byteLength(body) }, agent },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () =>
          response.statusCode === 200
            ? resolve(JSON.parse(Buffer.concat(chunks).toString()))
            : reject(new Error(`HTTP ${response.statusCode}`)),
        )
        response.on('error', reject)
      },
    )
    sent.on('error', reject).end(body)
  })
}
