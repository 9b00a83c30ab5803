/** Lambda's context. */
import type { LambdaContext } from '../lambda-cache.js'

export function lambdaContext(remaining: () => number = () => 300_000): LambdaContext {
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: 'function',
    functionVersion: '$LATEST',
    invokedFunctionArn: 'arn:aws:lambda:us-east-1:123456789012:function:function',
    memoryLimitInMB: '128',
    awsRequestId: 'request',
    logGroupName: 'group',
    logStreamName: 'stream',
    getRemainingTimeInMillis: remaining,
    done() {},
    fail() {},
    succeed() {},
  }
}
