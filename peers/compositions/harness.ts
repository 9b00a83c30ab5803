/**
 * One composition in a process of its own: `harness.ts WRAPPER TRANSPORT`. Sends its parent what the handler had in three invocations,
 * of which the second one fails and the third one is not allowed to read, and what the tool made of them.
 */
import type { Context } from 'aws-lambda'
import type { Compose, Mode } from './wrapper.js'

export interface Report {
  readonly seen: Readonly<Record<Mode, readonly string[]>>
  /** What the tool answered or threw. */
  readonly outcomes: Readonly<Record<Mode, string>>
  readonly emitted: string
  /** What it must have emitted, or else it was not at work. */
  readonly emits: string | undefined
}

const [name = '', transport = ''] = process.argv.slice(2)

const { compose, emits } = (await import(`./wrappers/${name}.js`)) as {
  compose: Compose
  emits?: RegExp
}
const library = await import('../../lambda-cache.js')
const { takeSeen } = await import('./wrapper.js')

const wrapper = await compose(library, transport === 'httpsFetch' ? library.httpsFetch : undefined)
const seen: Partial<Record<Mode, readonly string[]>> = {}
const outcomes: Partial<Record<Mode, string>> = {}
for (const mode of ['works', 'throws', 'denied'] as const) {
  process.env.MODE = mode
  await ask(mode)
  library.clearCache()
  outcomes[mode] = await wrapper
    .invoke(makeContext(mode))
    .then((answer) => `answered ${JSON.stringify(answer)}`, String)
  seen[mode] = takeSeen()
}
const emitted = (await wrapper.emitted?.()) ?? ''
process.send?.({ seen, outcomes, emitted, emits: emits?.source }, () => process.exit())

/** Has the parent allow or deny, and waits until it is done. */
async function ask(mode: string): Promise<void> {
  const done = new Promise((resolve) => process.once('message', resolve))
  process.send?.(mode)
  await done
}

function makeContext(awsRequestId: string): Context {
  const end = Date.now() + 10_000
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: 'function',
    functionVersion: '$LATEST',
    invokedFunctionArn: 'arn:aws:lambda:us-east-1:123456789012:function:function',
    memoryLimitInMB: '128',
    awsRequestId,
    logGroupName: '/aws/lambda/function',
    logStreamName: '2026/01/01/[$LATEST]0',
    getRemainingTimeInMillis: () => end - Date.now(),
    done() {},
    fail() {},
    succeed() {},
  }
}
