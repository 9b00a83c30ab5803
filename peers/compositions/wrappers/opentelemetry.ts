import { registerInstrumentations } from '@opentelemetry/instrumentation'
import { AwsLambdaInstrumentation } from '@opentelemetry/instrumentation-aws-lambda'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { UndiciInstrumentation } from '@opentelemetry/instrumentation-undici'
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node'
import { type Compose, optionsWith, use } from '../wrapper.js'

const exporter = new InMemorySpanExporter()
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
provider.register()
const lambda = new AwsLambdaInstrumentation({ disableAwsContextPropagation: true } as object)
registerInstrumentations({
  tracerProvider: provider,
  instrumentations: [new HttpInstrumentation(), new UndiciInstrumentation(), lambda],
})
// Whoever loads it now has it patched.
await import('node:http')
await import('node:https')

export const emits = /"exception.message":"the handler failed"/

export const compose: Compose = ({ withCache }, fetch) => {
  const inner = withCache(async (_: object, context) => use(context), optionsWith(fetch))
  // What the instrumentation does to the function that the runtime loads.
  const patched = (
    lambda as unknown as { _getPatchHandler(handler: unknown, begun: number): typeof inner }
  )._getPatchHandler(inner, Date.now())
  return {
    invoke: async (context) => patched({}, context),
    emitted: () => {
      const spans = exporter.getFinishedSpans()
      if (spans.length === 0) throw new Error('no span')
      return spans
        .map(({ name, attributes, events, status }) =>
          JSON.stringify({ name, attributes, events, status }),
        )
        .join('\n')
    },
  }
}
