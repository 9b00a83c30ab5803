/** What the runtime does with a bundle: `invoke.mjs BUNDLE`. Prints what the handler came to. */
import { pathToFileURL } from 'node:url'

const [, , bundle] = process.argv
const module = await import(pathToFileURL(bundle).href)
const { handler, missing, codeOf } = module.handler ? module : module.default
const context = { awsRequestId: 'test', getRemainingTimeInMillis: () => 10_000 }

const values = await handler({}, context)
const message = await handler({ fails: true }, context).then(String, (error) => error.message)
const code = await missing({}, context).then(String, codeOf)
console.log(JSON.stringify([...values, message, code, handler.length]))
