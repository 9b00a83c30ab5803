/**
 * The tests of lambda-cache.ts, in the order of its sections: node:test through tsx, against the AWS of examples/local-aws.ts
 * or against a fetch that answers from a script. Traffic stays on loopback, and the clock stands still.
 *
 * `npm test` runs the parts side by side; `node --import tsx --test lambda-cache.test.ts` runs all of them in one process.
 */
for (const name of [
  'types',
  'errors-of-aws',
  'withCache',
  'prefetch',
  'streaming',
  'refreshOn',
  'deadline',
  'direct-access',
  'options',
  'cache',
  'refresh-ahead',
  'stale-if-error',
  'eviction',
  'ssm',
  'secrets',
  's3',
  'custom',
  'attempts',
  'throttled',
  'httpsFetch',
  'signature',
  'credentials',
  'endpoints',
  'file',
  'programs',
  'crowd',
  'faults',
  'odd-answers',
  'hostile',
  'time',
  'identity',
  'values',
  'expressions',
  'surroundings',
  'memory',
  'refreshes',
  'processes',
  'readme',
])
  await import(`./tests/${name}.test.js`)
