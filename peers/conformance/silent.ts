/**
 * `silent.ts CASE`, in a process of its own: reads a parameter again and again through Node's `fetch`, from a server that speaks
 * HTTP/2 and HTTP/1.1, while the connections that there are go silent. Prints what came of it, in JSON.
 */

import { readFileSync } from 'node:fs'
import { createSecureServer } from 'node:http2'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { MockAgent, setGlobalDispatcher } from 'undici'
import { getParameter } from '../../lambda-cache.js'

export interface Report {
  /** What each read came to: the version of HTTP, or what the mock says. */
  readonly values: readonly string[]
  /** How often something was sent to a connection that had gone silent, after the first read that met one. */
  readonly inVain: number
  /** How many tunnels the proxy was asked for. */
  readonly tunnels: number
}

const [, , what = '', folder = ''] = process.argv
/** Where the proxy listens: `fetch` takes that from the environment in which the process begins. */
const PROXY_PORT = Number(process.env.PROXY_PORT ?? 0)
const values: string[] = []
let [inVain, tunnels] = [0, 0]
const open = new Set<() => void>()

async function listening(
  server: {
    listen(port: number, host: string, done: () => void): unknown
    address(): unknown
  },
  port = 0,
): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

/** Joins two sockets, until the connections go silent: then both stay open, and nothing comes through. */
function join(client: Socket, server: Socket): void {
  for (const socket of [client, server]) socket.on('error', () => {})
  client.pipe(server).pipe(client)
  open.add(() => {
    for (const socket of [client, server]) socket.unpipe().resume()
    client.on('data', () => (inVain += 1))
  })
}

function goSilent(): void {
  for (const silence of open) silence()
  open.clear()
}

async function read(): Promise<void> {
  const value = getParameter('/app/value', { maxAge: 0, staleIfError: 0 })
  values.push(await value.catch((error: Error) => error.message))
}

const server = createSecureServer(
  {
    key: readFileSync(`${folder}/key.pem`),
    cert: readFileSync(`${folder}/cert.pem`),
    allowHTTP1: true,
  },
  ({ httpVersion }, response) => {
    response.end(JSON.stringify({ Parameters: [{ Name: '/app/value', Value: httpVersion }] }))
  },
)
const upstream = await listening(server)
const tap = createServer((client) => join(client, connect(upstream, '127.0.0.1')))
const proxy = createServer((client) => {
  tunnels += 1
  client.once('data', () => {
    client.write('HTTP/1.1 200 OK\r\n\r\n')
    join(client, connect(upstream, '127.0.0.1'))
  })
})
process.env.AWS_ENDPOINT_URL = `https://localhost:${await listening(tap)}`

/** Each case makes the first attempt of a read end in silence. */
const CASES: Readonly<Record<string, () => Promise<void>>> = {
  async silence() {
    await read()
    goSilent()
    await read()
    inVain = 0
    await read()
    await read()
  },
  async proxy() {
    await listening(proxy, PROXY_PORT)
    await read()
    goSilent()
    await read()
  },
  async mock() {
    const agent = new MockAgent()
    agent.disableNetConnect()
    setGlobalDispatcher(agent)
    const pool = agent.get(process.env.AWS_ENDPOINT_URL as string)
    const answer = { Parameters: [{ Name: '/app/value', Value: 'mocked' }] }
    // Node.js 24's fetch gives a mock of undici 8 a generator for the body.
    const isOld = process.versions.node.startsWith('24')
    const body = (text: string): boolean => isOld || text.includes('/app/value')
    pool.intercept({ path: '/', method: 'POST', body }).reply(200, answer).delay(3000)
    pool.intercept({ path: '/', method: 'POST', body }).reply(200, answer)
    await read()
  },
  async stub() {
    let calls = 0
    globalThis.fetch = (_, init) => {
      calls += 1
      const isFirst = calls === 1
      return new Promise((resolve, reject) => {
        init?.signal?.addEventListener('abort', () => reject(new Error('aborted')))
        const answer = { Parameters: [{ Name: '/app/value', Value: `stub, call ${calls}` }] }
        if (!isFirst) resolve(Response.json(answer))
      })
    }
    await read()
  },
}
await CASES[what]?.()
console.log(JSON.stringify({ values, inVain, tunnels } satisfies Report))
process.exit()
