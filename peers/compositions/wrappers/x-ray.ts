import { createRequire } from 'node:module'
import AWSXRay from 'aws-xray-sdk-core'
import { type Compose, optionsWith, use } from '../wrapper.js'

const require = createRequire(import.meta.url)
AWSXRay.captureHTTPsGlobal(require('node:http') as typeof import('node:http'), true)
AWSXRay.captureHTTPsGlobal(require('node:https') as typeof import('node:https'), true)
AWSXRay.capturePromise()
AWSXRay.setContextMissingStrategy('IGNORE_ERROR')
const sent: string[] = []

export const emits = /the handler failed/

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(async (_: object, context) => use(context), optionsWith(fetch))
  return {
    invoke: (context) => {
      const segment = new AWSXRay.Segment('function')
      return AWSXRay.getNamespace().runAndReturn(async () => {
        AWSXRay.setSegment(segment)
        try {
          return await handler({}, context)
        } catch (error) {
          segment.addError(error as Error)
          throw error
        } finally {
          sent.push(segment.toString())
        }
      })
    },
    emitted: () => sent.join('\n'),
  }
}
