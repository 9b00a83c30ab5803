/**
 * What became of each refresh, as metrics in CloudWatch: a line in its embedded metric format is enough, with no call to AWS.
 *
 *     withCache(handler, { ssm: ['/prod/app/var'], onRefresh: putMetrics })
 *
 * "Embedded metric format specification" in the CloudWatch User Guide has the format.
 */
import type { RefreshEvent } from '../lambda-cache.js'

export function putMetrics({ source, id, outcome, ms, ageSeconds, attempts, error }: RefreshEvent) {
  const line = {
    _aws: {
      Timestamp: Date.now(),
      CloudWatchMetrics: [
        {
          Namespace: 'lambda-cache',
          // One metric for each source and outcome: an alarm on `stale` and `failed` is a good start.
          Dimensions: [['source', 'outcome']],
          Metrics: [
            { Name: 'refreshes', Unit: 'Count' },
            { Name: 'duration', Unit: 'Milliseconds' },
            { Name: 'age', Unit: 'Seconds' },
            { Name: 'attempts', Unit: 'Count' },
          ],
        },
      ],
    },
    ...{ source, outcome, refreshes: 1, duration: ms, age: ageSeconds, attempts },
    // Not metrics, but searchable: names would be a dimension for each.
    ...{ id, code: error?.code },
  }
  // Not by the console: where Lambda's log format is JSON, that puts the line into a field.
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
