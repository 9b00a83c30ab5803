/**
 * AWS as far as the measurements need it, in a process of its own: GetParameter, GetParameters, GetParametersByPath, GetSecretValue, and GetObject in path style and
 * virtual-hosted style. Nothing is verified and nothing computed, so that it takes the same time for everyone.
 * With key and certificate it speaks TLS; where values change, they do with every answer. It prints its port, and ends when its standard input does.
 */
import { readFileSync } from 'node:fs'
import {
  createServer as createPlainServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'

const [delay = '0', changing = '', key, certificate] = process.argv.slice(2)

/** Where values change, they do so with every answer. */
let answers = 0

const server =
  key && certificate
    ? createTlsServer({ key: readFileSync(key), cert: readFileSync(certificate) }, serve)
    : createPlainServer(serve)
server.listen(0, 'localhost', () => console.log((server.address() as AddressInfo).port))
process.stdin.on('end', () => process.exit()).resume()

function serve(request: IncomingMessage, response: ServerResponse): void {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () =>
    setTimeout(() => answer(request, Buffer.concat(chunks).toString(), response), Number(delay)),
  )
}

function answer(request: IncomingMessage, body: string, response: ServerResponse): void {
  const action = request.headers['x-amz-target']
  if (changing) answers += 1
  const [, size] = /\/zeros-(\d+)(?:\?|$)/.exec(request.url ?? '') ?? []
  if (size) sendZeros(response, Number(size))
  else if (action === 'AmazonSSM.GetParameters') sendJson(response, getParameters(JSON.parse(body)))
  else if (action === 'AmazonSSM.GetParameter')
    sendJson(response, { Parameter: parameter(JSON.parse(body).Name) })
  else if (action === 'AmazonSSM.GetParametersByPath')
    sendJson(response, getParametersByPath(JSON.parse(body)))
  else if (action === 'secretsmanager.GetSecretValue')
    sendJson(response, getSecretValue(JSON.parse(body)))
  else if (request.method === 'GET')
    sendObject(response, `{"beta":true,"limits":[1,2,${answers + 3}]}`)
  else response.writeHead(400).end()
}

function getParameters({ Names }: { Names: string[] }): object {
  return { Parameters: Names.map(parameter), InvalidParameters: [] }
}

function parameter(Name: string): object {
  return {
    Name,
    ARN: `arn:aws:ssm:eu-west-1:123456789012:parameter${Name}`,
    Type: 'String',
    Value: `the value of ${Name}${answers || ''}`,
    Version: 1,
    LastModifiedDate: 1_700_000_000,
    DataType: 'text',
  }
}

/** A tree of 10,000, ten to a page, or of as many as its path says. */
function getParametersByPath({
  Path,
  NextToken = '0',
}: {
  Path: string
  NextToken?: string
}): object {
  const page = Number(NextToken)
  const Parameters = Array.from({ length: 10 }, (_, index) =>
    parameter(`${Path}/${page * 10 + index}`),
  )
  const [, size = 10_000] = /-of-(\d+)$/.exec(Path) ?? []
  return { Parameters, ...((page + 1) * 10 < Number(size) && { NextToken: String(page + 1) }) }
}

function getSecretValue({ SecretId }: { SecretId: string }): object {
  return {
    ARN: `arn:aws:secretsmanager:eu-west-1:123456789012:secret:${SecretId}-a1b2c3`,
    Name: SecretId,
    VersionId: '6b9c1d52-0000-4000-8000-000000000000',
    SecretString: `the value of ${SecretId}${answers || ''}`,
    VersionStages: ['AWSCURRENT'],
    CreatedDate: 1_700_000_000,
  }
}

function sendJson(response: ServerResponse, content: object): void {
  const body = JSON.stringify(content)
  const headers = {
    'content-type': 'application/x-amz-json-1.1',
    'x-amzn-requestid': '6b9c1d52-0000-4000-8000-000000000001',
  }
  response.writeHead(200, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body)
}

function sendObject(response: ServerResponse, body: string): void {
  const headers = {
    'content-type': 'application/json',
    etag: `"${String(answers).padStart(32, '0')}"`,
    'x-amz-request-id': '0123456789ABCDEF',
  }
  response.writeHead(200, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body)
}

/** As fast as the other side takes them. */
function sendZeros(response: ServerResponse, size: number): void {
  const headers = {
    'content-type': 'binary/octet-stream',
    etag: '"fedcba9876543210fedcba9876543210"',
    'x-amz-request-id': '0123456789ABCDEF',
  }
  response.writeHead(200, { ...headers, 'content-length': size })
  const piece = Buffer.alloc(2 ** 18)
  let left = size
  const send = (): void => {
    while (left > 0) {
      const next = left < piece.length ? piece.subarray(0, left) : piece
      left -= next.length
      if (!response.write(next)) return void response.once('drain', send)
    }
    response.end()
  }
  send()
}
