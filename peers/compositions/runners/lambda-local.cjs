// Invokes the handler twice: `lambda-local.cjs FOLDER`.
const lambdaLocal = require('lambda-local')

lambdaLocal.setLogger({ log() {}, transports: [] })
async function run([, , folder]) {
  for (let time = 0; time < 2; time += 1) {
    const { body } = await lambdaLocal.execute({
      event: {},
      lambdaPath: `${folder}/handler.js`,
      timeoutMs: 30_000,
      verboseLevel: 0,
    })
    console.log(`answer ${body}`)
  }
}
run(process.argv)
