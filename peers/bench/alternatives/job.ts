/** What every alternative does: read two SSM parameters, one secret and one JSON object from S3. */
export const PARAMETERS = ['/prod/app/level', '/prod/app/queue'] as const
export const SECRET = '/prod/db/conn_string'
export const BUCKET = 'prod-bucket'
export const KEY = 'app/flags.json'

/** Seconds for which those that have a cache keep the values: longer than any measurement. */
export const MAX_AGE = 3600

export interface Data {
  readonly level: string
  readonly queue: string
  readonly conn_string: string
  readonly flags: Flags
}

export interface Flags {
  readonly beta: boolean
  readonly limits: readonly number[]
}

export function dataFrom(
  parameters: readonly Parameter[] | undefined,
  secret: string | undefined,
  flags: unknown,
): Data {
  const [level, queue] = PARAMETERS.map(
    (name) => parameters?.find(({ Name }) => Name === name)?.Value,
  )
  return { level, queue, conn_string: secret, flags } as Data
}

/** What GetParameters and GetSecretValue answer. */
export interface Answer {
  readonly Parameters?: readonly Parameter[]
  readonly SecretString?: string
}

/** As GetParameters answers. */
export interface Parameter {
  readonly Name?: string | undefined
  readonly Value?: string | undefined
}
