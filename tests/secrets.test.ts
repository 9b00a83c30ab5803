/** Secrets Manager secrets. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clearCache, getSecret } from '../lambda-cache.js'
import {
  assertKeepsSecrets,
  CANARY,
  describeOverBoth,
  everythingIn,
  failure,
  invoking,
  local,
  present,
  refusal,
  reply,
  script,
  text,
} from './kit.js'

describeOverBoth('secrets', () => {
  const bytes = Uint8Array.of(0, 1, 127, 128, 255, 10, 13)

  test('gives text and bytes', async () => {
    await local({
      secrets: { text: 'täxt', bytes: { base64: Buffer.from(bytes).toString('base64') } },
    })
    assert.equal(await getSecret('text'), 'täxt')
    const got = await getSecret('bytes', { binary: true })
    assert.deepEqual(got, bytes)
    assert.equal(Object.getPrototypeOf(got), Uint8Array.prototype)
    assert.deepEqual(await getSecret('text', { binary: true }), new TextEncoder().encode('täxt'))
  })

  test('says what to write for a binary secret', async () => {
    await local({
      secrets: { bytes: { base64: Buffer.from(`${CANARY}-value`).toString('base64') } },
    })
    for (const options of [{}, { parse: text }]) {
      const error = await failure(
        getSecret('bytes', options),
        { code: 'BinarySecret', source: 'secrets', id: 'bytes' },
        'binary: true',
      )
      assertKeepsSecrets(error)
      assert.ok(!everythingIn(error).includes(Buffer.from(CANARY).toString('base64').slice(0, 6)))
    }
  })

  test('reads versions and stages, each with an entry of its own', async () => {
    const aws = await local()
    const versionId = aws.putSecret('a', 'one')
    aws.putSecret('a', 'two')
    const entries = [
      { id: 'a' },
      { id: 'a', versionId },
      { id: 'a', versionStage: 'AWSPREVIOUS' },
      { id: 'a', versionId, versionStage: 'AWSPREVIOUS' },
    ]
    const names = entries.map((_, index) => `name${index}`)
    const invoke = invoking(
      { secrets: entries.map((entry, index) => ({ ...entry, as: present(names[index]) })) },
      ...names,
    )
    assert.deepEqual(await invoke(), ['two', 'one', 'one', 'one'])
    assert.equal(aws.requests.length, 4)
    await failure(getSecret('a', { versionStage: 'NONE' }), {
      code: 'ResourceNotFoundException',
      id: 'a',
    })
    assert.equal(await getSecret('a', { versionId: 'none', default: null }), null)
  })

  test('gives no default for what exists but cannot be decrypted', async () => {
    for (const code of [
      'KMS.NotFoundException',
      'KMSNotFoundException',
      'NotFoundException',
      'NoSuchBucket',
    ]) {
      clearCache()
      await failure(getSecret('a', { default: 'default', fetch: script(refusal(code)).fetch }), {
        code,
      })
    }
  })

  test('reads by ARN', async () => {
    const aws = await local({ secrets: { 'app/db': 'one' } })
    await getSecret('app/db')
    const arn = `arn:aws:secretsmanager:us-east-1:123456789012:secret:app/db`
    assert.equal(await getSecret(arn), 'one')
    assert.deepEqual(await invoking({ secrets: [{ id: arn, as: 'db' }] }, 'db')(), ['one'])
    assert.deepEqual(
      aws.requests.map(({ input }) => input.SecretId),
      ['app/db', arn],
    )
  })

  test('says that an answer without a secret is none', async () => {
    for (const [body, binary] of [
      [{}],
      [{ SecretString: null }],
      [{ SecretBinary: 7 }, true],
      ['null'],
      ['7'],
      ['[]'],
    ] as const) {
      clearCache()
      const { fetch } = script(reply(200, body))
      await failure(getSecret('a', { binary, fetch }), {
        code: 'InvalidAnswer',
        source: 'secrets',
        id: 'a',
        httpStatus: 200,
      })
    }
  })
})
