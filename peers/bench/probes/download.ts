/** A download to disk, in a process of its own: prints the seconds it took and the megabytes that the process grew by at its peak. */
import type { Download } from '../downloads/download.js'

const [bundle = '', bucket = '', key = '', file = ''] = process.argv.slice(2)

const { handler } = (await import(bundle)) as { handler: (download: Download) => Promise<string> }
const before = process.memoryUsage.rss()
const begin = performance.now()
await handler({ bucket, key, file })
const seconds = (performance.now() - begin) / 1000
// maxRSS is in kilobytes.
process.stdout.write(
  JSON.stringify({ seconds, memory: process.resourceUsage().maxRSS / 2 ** 10 - before / 2 ** 20 }),
)
process.exit()
