// Invokes the handler twice: `lambda-tester.cjs FOLDER`.
const lambdaTester = require('lambda-tester')

lambdaTester.noVersionCheck()
async function run([, , folder]) {
  const { handler } = require(`${folder}/handler.js`)
  for (let time = 0; time < 2; time += 1)
    await lambdaTester(handler)
      .timeout(30)
      .event({})
      .expectResult(({ body }) => console.log(`answer ${body}`))
}
run(process.argv)
