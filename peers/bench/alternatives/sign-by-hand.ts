/** AWS Signature Version 4 by hand: the least that is correct for what the floors send. */
import { createHash, createHmac } from 'node:crypto'

const {
  AWS_ACCESS_KEY_ID: keyId,
  AWS_SECRET_ACCESS_KEY: secret,
  AWS_SESSION_TOKEN: token,
  AWS_REGION: region,
} = process.env as Record<string, string>

/** The headers to send with a request for a path that needs no encoding. */
export function signByHand(
  service: string,
  method: string,
  host: string,
  path: string,
  headers: Record<string, string>,
  body: string,
): Record<string, string> {
  const time = new Date().toISOString().replace(/-|:|\.\d+/g, '')
  const hash = sha256(body)
  const signed: Record<string, string> = {
    ...headers,
    host,
    'x-amz-content-sha256': hash,
    'x-amz-date': time,
    'x-amz-security-token': token as string,
  }
  const names = Object.keys(signed).sort()
  const lines = names.map((name) => `${name}:${signed[name]}\n`).join('')
  const canonical = [method, path, '', lines, names.join(';'), hash].join('\n')
  const scope = [time.slice(0, 8), region as string, service, 'aws4_request']
  const toSign = ['AWS4-HMAC-SHA256', time, scope.join('/'), sha256(canonical)].join('\n')
  const key = scope.reduce<string | Buffer>((key, part) => hmac(key, part), `AWS4${secret}`)
  const signature = hmac(key, toSign).toString('hex')
  return {
    ...signed,
    authorization: `AWS4-HMAC-SHA256 Credential=${keyId}/${scope.join('/')}, SignedHeaders=${names.join(';')}, Signature=${signature}`,
  }
}

function sha256(content: string): string {
  return createHash('sha256').update(content).digest('hex')
}

function hmac(key: string | Buffer, content: string): Buffer {
  return createHmac('sha256', key).update(content).digest()
}
