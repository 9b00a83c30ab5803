/** Powertools' parameters. It has nothing for S3: the object is read by the SDK, in a provider of one's own as its documentation shows. */
import { BaseProvider } from '@aws-lambda-powertools/parameters/base'
import { getSecret } from '@aws-lambda-powertools/parameters/secrets'
import { getParametersByName } from '@aws-lambda-powertools/parameters/ssm'
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { BUCKET, type Data, type Flags, KEY, MAX_AGE, PARAMETERS, SECRET } from './job.js'

class ObjectProvider extends BaseProvider {
  override async _get(key: string): Promise<string> {
    const { Body } = await (this.client as S3Client).send(
      new GetObjectCommand({ Bucket: BUCKET, Key: key }),
    )
    return (await Body?.transformToString()) ?? ''
  }

  override async _getMultiple(): Promise<never> {
    throw new Error('not needed here')
  }
}

const objects = new ObjectProvider({ awsSdkV3Client: new S3Client({ forcePathStyle: true }) })
const [level, queue] = PARAMETERS

export async function handler(): Promise<Data> {
  const [parameters, secret, flags] = await Promise.all([
    getParametersByName<string>({ [level]: {}, [queue]: {} }, { maxAge: MAX_AGE, decrypt: true }),
    getSecret(SECRET, { maxAge: MAX_AGE }),
    objects.get(KEY, { maxAge: MAX_AGE, transform: 'json' }),
  ])
  return {
    level: parameters[level] as string,
    queue: parameters[queue] as string,
    conn_string: secret as string,
    flags: flags as Flags,
  }
}
