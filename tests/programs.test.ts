/** The model, for as long as the tests can wait. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { instancesOf } from './instance.js'
import * as LAWS from './laws.js'
import { findFault } from './model.js'

test('random programs break no law, and 10,000 commands leave nothing behind', async () => {
  // In a process of its own: node:test looks at every promise.
  const model = fileURLToPath(new URL('model.ts', import.meta.url))
  const args = ['--import', 'tsx', model, '--runs', '400', '--seed', '1']
  const { stdout } = await promisify(execFile)(process.execPath, args).catch(
    (error: { stdout: string; stderr: string }) => assert.fail(error.stdout + error.stderr),
  )
  assert.match(stdout, /400 programs, seed 1: 0 laws broken\n10000 commands/)
})

/** Of all laws. Those of what comes after everything are in groups of their own. */
const NAMES = [LAWS, LAWS.OF_RECOVERY]
  .flatMap((groups) => Object.values(groups))
  .flatMap((laws) => (typeof laws === 'object' ? Object.keys(laws) : []))

// A model that finds nothing would pass, too.
for (const [law, code, fault] of [
  ['aClockSetBackMakesAValueExpired', 'age >= 0 && ', ''],
  ['aColdStartMakesNoMoreCallsThanItMust', 'const MAX_NAMES = 10', 'const MAX_NAMES = 5'],
  ['noRequestBeginsForNobody', '        controller.abort()\n', ''],
] as const) {
  test(`random programs find a fault that breaks ${law}`, async () => {
    const faulty = await instancesOf(undefined, (source) => {
      assert.ok(source.includes(code), code)
      return source.replace(code, fault)
    })
    // It may break others, too, and first.
    const ignored = new Set(NAMES.filter((name) => name !== law))
    assert.equal(ignored.size, NAMES.length - 1, law)
    const finding = await findFault(faulty, { numRuns: 600, seed: 1, endOnFailure: true }, ignored)
    assert.equal(finding?.law, law)
  })
}
