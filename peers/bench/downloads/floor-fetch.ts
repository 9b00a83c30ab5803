/** An object to disk by the global fetch, unsigned, with nothing else. */
import { createWriteStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import type { Download } from './download.js'

export async function handler({ bucket, key, file }: Download): Promise<string> {
  const { body } = await fetch(`${process.env.AWS_ENDPOINT_URL}/${bucket}/${key}`)
  await pipeline(body ?? [], createWriteStream(file))
  return file
}
