/** AWS SDK v3 by hand. It has no cache: every invocation calls AWS. */
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { GetParametersCommand, SSMClient } from '@aws-sdk/client-ssm'
import { BUCKET, type Data, dataFrom, KEY, PARAMETERS, SECRET } from './job.js'

const ssm = new SSMClient()
const secrets = new SecretsManagerClient()
const s3 = new S3Client({ forcePathStyle: true })

export async function handler(): Promise<Data> {
  const [{ Parameters }, { SecretString }, text] = await Promise.all([
    ssm.send(new GetParametersCommand({ Names: [...PARAMETERS], WithDecryption: true })),
    secrets.send(new GetSecretValueCommand({ SecretId: SECRET })),
    s3
      .send(new GetObjectCommand({ Bucket: BUCKET, Key: KEY }))
      .then(({ Body }) => Body?.transformToString()),
  ])
  return dataFrom(Parameters, SecretString, JSON.parse(text ?? ''))
}
