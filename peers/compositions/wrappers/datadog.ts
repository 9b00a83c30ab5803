import { createRequire } from 'node:module'
import type { Handler } from 'aws-lambda'
import { type Compose, optionsWith, use } from '../wrapper.js'

Object.assign(process.env, {
  DD_TRACE_ENABLED: 'true',
  DD_API_KEY: 'key',
  DD_SITE: 'localhost',
  DD_FLUSH_TO_LOG: 'true',
  DD_LOG_LEVEL: 'debug',
  DD_INSTRUMENTATION_TELEMETRY_ENABLED: 'false',
  AWS_LAMBDA_FUNCTION_NAME: 'function',
})
const require = createRequire(import.meta.url)
const tracer = require('dd-trace') as { init(options: object): unknown }
// The Lambda exporter prints the spans.
tracer.init({ flushInterval: 0, experimental: { exporter: 'log' } })
const { datadog } = require('datadog-lambda-js') as { datadog<H>(handler: H, config?: object): H }

export const emits = /"name":"aws.lambda"/

export const compose: Compose = ({ withCache }, fetch) => {
  const inner: Handler<object, string> = withCache(
    async (_: object, context) => use(context),
    optionsWith(fetch),
  )
  const handler = datadog(inner, { captureLambdaPayload: true })
  return { invoke: async (context) => handler({}, context, () => {}) }
}
