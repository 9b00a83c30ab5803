/** An object to disk by the AWS SDK, as its documentation shows it. */
import { createWriteStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import type { Download } from './download.js'

const s3 = new S3Client({ forcePathStyle: true })

export async function handler({ bucket, key, file }: Download): Promise<string> {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }))
  await pipeline(Body as Readable, createWriteStream(file))
  return file
}
