import { createRequire } from 'node:module'
import AWSXRay from 'aws-xray-sdk-core'
import { inSegment, segments } from '../segment.js'
import { type Compose, optionsWith, use } from '../wrapper.js'

const require = createRequire(import.meta.url)
AWSXRay.captureHTTPsGlobal(require('node:http') as typeof import('node:http'), true)
AWSXRay.captureHTTPsGlobal(require('node:https') as typeof import('node:https'), true)
AWSXRay.capturePromise()
AWSXRay.setContextMissingStrategy('IGNORE_ERROR')

export const emits = /the handler failed/

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(async (_: object, context) => use(context), optionsWith(fetch))
  return {
    invoke: (context) =>
      inSegment(
        () => handler({}, context),
        (error, segment) => segment.addError(error),
      ),
    emitted: () => segments.join('\n'),
  }
}
