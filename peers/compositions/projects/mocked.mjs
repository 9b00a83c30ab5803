/**
 * A test that mocks AWS with somebody's tool, in which no request may leave the process: `mocked.mjs TOOL TRANSPORT ORDER`, where the
 * order is that in which tool and library are loaded.
 */
import assert from 'node:assert/strict'

const [, , tool, transport, order] = process.argv
const answer = { Parameters: [{ Name: '/app/parameter', Value: 'mocked' }] }
const url = 'https://ssm.eu-west-1.amazonaws.com'

const tools = {
  async nock() {
    const { default: nock } = await import('nock')
    nock.disableNetConnect()
    nock(url).post('/').reply(200, answer)
  },
  async msw() {
    const { http, HttpResponse } = await import('msw')
    const { setupServer } = await import('msw/node')
    setupServer(http.post(`${url}/`, () => HttpResponse.json(answer))).listen({
      onUnhandledRequest: 'error',
    })
  },
  async undici() {
    const { MockAgent, setGlobalDispatcher } = await import('undici')
    const agent = new MockAgent()
    agent.disableNetConnect()
    setGlobalDispatcher(agent)
    agent.get(url).intercept({ path: '/', method: 'POST' }).reply(200, answer)
  },
}

if (order === 'tool first') await tools[tool]()
const { getParameter, httpsFetch } = await import('./lambda-cache.ts')
if (order !== 'tool first') await tools[tool]()
assert.equal(
  await getParameter('/app/parameter', transport === 'httpsFetch' ? { fetch: httpsFetch } : {}),
  'mocked',
)
process.exit()
