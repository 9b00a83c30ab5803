import { Tracer } from '@aws-lambda-powertools/tracer'
import AWSXRay from 'aws-xray-sdk-core'
import { type Compose, optionsWith, use } from '../wrapper.js'

// Outside of Lambda it traces nothing.
Object.assign(process.env, { AWS_XRAY_CONTEXT_MISSING: 'IGNORE_ERROR', AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x' })
const sent: string[] = []
const tracer = new Tracer({ serviceName: 'orders', enabled: true })
AWSXRay.capturePromise()

export const emits = /the handler failed/

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(async (_: object, context) => {
    tracer.annotateColdStart()
    const answer = await use(context)
    tracer.addResponseAsMetadata(answer, 'handler')
    return answer
  }, optionsWith(fetch))
  return {
    invoke: (context) => {
      const segment = new AWSXRay.Segment('function')
      return AWSXRay.getNamespace().runAndReturn(async () => {
        AWSXRay.setSegment(segment)
        try {
          return await handler({}, context)
        } catch (error) {
          tracer.addErrorAsMetadata(error as Error)
          throw error
        } finally {
          sent.push(segment.toString())
        }
      })
    },
    emitted: () => sent.join('\n'),
  }
}
