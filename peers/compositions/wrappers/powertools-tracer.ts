import { Tracer } from '@aws-lambda-powertools/tracer'
import AWSXRay from 'aws-xray-sdk-core'
import { inSegment, segments } from '../segment.js'
import { type Compose, optionsWith, use } from '../wrapper.js'

// Outside of Lambda it traces nothing.
Object.assign(process.env, {
  AWS_XRAY_CONTEXT_MISSING: 'IGNORE_ERROR',
  AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x',
})
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
    invoke: (context) =>
      inSegment(
        () => handler({}, context),
        (error) => tracer.addErrorAsMetadata(error),
      ),
    emitted: () => segments.join('\n'),
  }
}
