import type { Fetch, FetchResponse } from '../../lambda-cache.js'
import { present } from '../present.js'
import type { Clock } from './clock.js'

/** Parameter Store behind a network, on a virtual clock. */
export interface Ssm {
  /** For one environment, which is told of the names in each call, and of each answer when that arrives. */
  connect(onCall: (names: readonly string[]) => void, onAnswer: (answer: Answered) => void): Fetch
  /** The value of a parameter, which changes as time goes by. */
  valueAt(name: string, time: number): string
  /** By the second in which the calls came. */
  readonly series: Series
}

export interface Answered {
  readonly status: number
  /** The names that were asked for. */
  readonly names: readonly string[]
  /** By the clock: when the call went out, from which the library counts the age of what comes. */
  readonly askedAt: number
  /** When SSM answered; the answer arrives later. */
  readonly answeredAt: number
}

export interface Series {
  readonly allowed: number[]
  readonly throttled: number[]
}

export interface Quota {
  /** Calls in a second. */
  readonly rate: number
  /** Calls at once, after a time without any: the bucket's size. */
  readonly burst: number
}

export interface SsmSettings {
  readonly quota: Quota
  /** Milliseconds that a call takes, there and back: any from the first to the second. */
  readonly latency: readonly [least: number, most: number]
  /** Milliseconds after which the parameters have new values. */
  readonly changesEvery: number
}

/** Of GetParameters, and of GetSecretValue. */
interface Input {
  readonly Names?: readonly string[]
  readonly SecretId?: string
}

/** SSM, and Secrets Manager under the same quota. */
export function createSsm(
  clock: Clock,
  random: () => number,
  { quota, latency, changesEvery }: SsmSettings,
): Ssm {
  const take = createBucket(clock, quota)
  const series: Series = { allowed: [], throttled: [] }
  const valueAt = (name: string, time: number): string =>
    `${name} ${Math.floor(time / changesEvery)}`

  const answer = (names: readonly string[], isSecret: boolean): FetchResponse => {
    const second = Math.floor(clock.now / 1000)
    const allowed = take()
    const counts = allowed ? series.allowed : series.throttled
    while (counts.length <= second) counts.push(0)
    counts[second] = present(counts[second]) + 1
    if (!allowed) return response(400, { __type: 'ThrottlingException', message: 'Rate exceeded' })
    if (isSecret) return response(200, { SecretString: valueAt(present(names[0]), clock.now) })
    return response(200, {
      Parameters: names.map((Name) => ({ Name, Value: valueAt(Name, clock.now) })),
      InvalidParameters: [],
    })
  }

  const connect =
    (onCall: (names: readonly string[]) => void, onAnswer: (answer: Answered) => void): Fetch =>
    (url, { headers, body }) =>
      new Promise((resolve, reject) => {
        const [, action = ''] =
          /\.(GetParameters|GetSecretValue)$/.exec(present(headers['x-amz-target'])) ?? []
        if (!action || !headers.authorization)
          return reject(new Error(`not signed, or not known: ${url}`))
        const { Names, SecretId } = JSON.parse(present(body)) as Input
        const names = Names ?? [present(SecretId)]
        const askedAt = clock.now
        onCall(names)
        const way = latency[0] + Math.floor(random() * (latency[1] - latency[0] + 1))
        clock.at(clock.now + Math.ceil(way / 2), () => {
          const answeredAt = clock.now
          const answered = answer(names, action === 'GetSecretValue')
          clock.at(answeredAt + Math.max(1, Math.floor(way / 2)), () => {
            onAnswer({ status: answered.status, names, askedAt, answeredAt })
            resolve(answered)
          })
        })
      })

  return { connect, valueAt, series }
}

/** A token bucket that is full at first: says whether a call may pass. */
function createBucket(clock: Clock, { rate, burst }: Quota): () => boolean {
  let tokens = burst
  let filledAt = clock.now
  return () => {
    tokens = Math.min(burst, tokens + ((clock.now - filledAt) * rate) / 1000)
    filledAt = clock.now
    if (tokens < 1) return false
    tokens -= 1
    return true
  }
}

function response(status: number, content: object): FetchResponse {
  const text = JSON.stringify(content)
  return { status, headers: { get: () => null }, body: null, text: () => Promise.resolve(text) }
}
