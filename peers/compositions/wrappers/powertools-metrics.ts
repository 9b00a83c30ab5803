import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics'
import { type Compose, optionsWith, use } from '../wrapper.js'

const metrics = new Metrics({ namespace: 'shop', serviceName: 'orders' })

export const emits = /"_aws"/

export const compose: Compose = ({ withCache }, fetch) => {
  const handler = withCache(async (_: object, context) => {
    metrics.setFunctionName(context.functionName)
    metrics.addMetric('orders', MetricUnit.Count, 1)
    try {
      return await use(context)
    } finally {
      metrics.publishStoredMetrics()
    }
  }, optionsWith(fetch))
  return { invoke: (context) => handler({}, context) }
}
