/**
 * A route that reads a value which is not there, in other people's web frameworks: the answer is 500 and not the status of AWS's answer,
 * and an error handler that reports failures reports it.
 */
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Router } from '@aws-lambda-powertools/event-handler/http'
import * as Sentry from '@sentry/aws-serverless'
import type { APIGatewayProxyEvent, Context } from 'aws-lambda'
import express5 from 'express'
// @ts-expect-error: its types are those of version 5, under another name
import express4 from 'express4'
import fastify from 'fastify'
import { H3, serve } from 'h3'
// @ts-expect-error: it has no types of its own
import Koa from 'koa'
import { startLocalAws } from '../../examples/local-aws.js'
import { clearCache, getObject, getParameter, getSecret } from '../../lambda-cache.js'

/** Statuses of AWS that a framework could take for its own: 400, 404, and 200 for a proxy's page. */
const READS = {
  'a secret that is not there': () => getSecret('nothing'),
  'an object that is not there': () => getObject('s3://bucket/nothing', { parse: String }),
  "a proxy's page": () =>
    getParameter('/a', { fetch: async () => new Response('<html>', { status: 200 }) as never }),
}

type Read = () => Promise<string>

/** Statuses that come of the read, in its framework. */
type Framework = (read: Read) => Promise<number>

async function statusOf(listener: RequestListener): Promise<number> {
  return statusFrom(createServer(listener).listen(0, '127.0.0.1'))
}

async function statusFrom(server: Server): Promise<number> {
  if (!server.listening) await once(server, 'listening')
  try {
    const { port } = server.address() as AddressInfo
    return (await fetch(`http://127.0.0.1:${port}/`)).status
  } finally {
    server.close()
    server.closeAllConnections()
  }
}

const reported: string[] = []

const FRAMEWORKS: Readonly<Record<string, Framework>> = {
  'express 4': (read) => {
    const app = express4()
    // Version 4 does not wait for a promise.
    app.get('/', (_request: unknown, response: express5.Response, next: (error: unknown) => void) =>
      read().then((value) => response.send(value), next),
    )
    return statusOf(quiet(app))
  },
  'express 5': (read) => {
    const app = express5()
    app.get('/', async (_request, response) => void response.send(await read()))
    return statusOf(quiet(app))
  },
  "express 5 with Sentry's error handler": async (read) => {
    const app = express5()
    app.get('/', async (_request, response) => void response.send(await read()))
    Sentry.setupExpressErrorHandler(app)
    const before = reported.length
    const status = await statusOf(quiet(app))
    await Sentry.flush(1000)
    if (reported.length !== before + 1) throw new Error('Sentry has reported nothing')
    return status
  },
  'koa 3': (read) => {
    const app = new Koa()
    app.silent = true
    app.use(async (context: { body: unknown }) => {
      context.body = await read()
    })
    return statusOf(app.callback())
  },
  'fastify 5': async (read) => {
    const app = fastify()
    app.get('/', () => read())
    return (await app.inject('/')).statusCode
  },
  'h3 2': async (read) => {
    const app = new H3({ silent: true }).get('/', () => read())
    const server = serve(app, { port: 0, hostname: '127.0.0.1', silent: true, manual: false })
    await server.ready()
    try {
      return (await fetch(server.url as string)).status
    } finally {
      await server.close(true)
    }
  },
  "Powertools' event handler": async (read) => {
    const app = new Router()
    app.get('/', async () => ({ value: await read() }))
    const event = {
      httpMethod: 'GET',
      path: '/',
      resource: '/',
      headers: {},
      multiValueHeaders: {},
      queryStringParameters: null,
      multiValueQueryStringParameters: null,
      pathParameters: null,
      stageVariables: null,
      body: null,
      isBase64Encoded: false,
      requestContext: { httpMethod: 'GET', path: '/', resourcePath: '/' },
    } as unknown as APIGatewayProxyEvent
    const { statusCode } = (await app.resolve(event, {} as Context)) as { statusCode: number }
    return statusCode
  },
}

/** Express prints every error unless it is told that this is a test. */
function quiet(app: RequestListener): RequestListener {
  ;(app as unknown as express5.Express).set('env', 'test')
  return app
}

export const frameworks = Object.entries(FRAMEWORKS).map(([name, framework]) => ({
  what: `${name}: an error in a route is its 500`,
  run: () => check(framework),
}))

async function check(framework: Framework): Promise<void> {
  Sentry.init({
    dsn: 'http://key@127.0.0.1:9/1',
    defaultIntegrations: false,
    beforeSend(event) {
      reported.push(String(event.exception?.values?.[0]?.value))
      return null
    },
  })
  const aws = await startLocalAws({ objects: { 's3://bucket/object': '' } })
  const before = { ...process.env }
  Object.assign(process.env, aws.env)
  try {
    for (const [what, read] of Object.entries(READS)) {
      clearCache()
      const status = await framework(read)
      if (status !== 500) throw new Error(`${what} became ${status}`)
    }
  } finally {
    for (const name of Object.keys(process.env)) delete process.env[name]
    Object.assign(process.env, before)
    await aws.close()
  }
}
