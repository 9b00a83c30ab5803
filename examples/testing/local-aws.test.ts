/** The whole handler against an AWS in memory, which checks signatures and can deny. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { clearCache, type LambdaContext } from '../../lambda-cache.js'
import { type LocalAws, startLocalAws } from '../local-aws.js'
import { handler } from './greet.js'

let aws: LocalAws

before(async () => {
  aws = await startLocalAws({ parameters: { '/app/greeting': 'hello' } })
  Object.assign(process.env, aws.env)
  clearCache()
})
after(() => aws.close())

test('greets, and says when the parameter may not be read', async () => {
  assert.equal(await handler({ name: 'world' }, {} as LambdaContext), 'hello, world')
  clearCache()
  aws.deny('ssm:GetParameters', '/app/greeting')
  await assert.rejects(handler({ name: 'world' }, {} as LambdaContext), {
    code: 'AccessDeniedException',
  })
})
