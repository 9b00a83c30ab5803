/** The processes that the measurements run in. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { writeBundle } from './bundle.js'

const run = promisify(execFile)

/** What the measurements of one run share. */
export interface Bench {
  /** For everything that is made on the way. */
  readonly folder: string
  readonly short: boolean
}

export interface Server {
  /** `https://localhost:PORT`, or with http. */
  readonly url: string
  /** For `NODE_EXTRA_CA_CERTS`. */
  readonly certificate: string | undefined
  close(): void
}

/** An AWS that answers after so many milliseconds. */
export async function startServer(
  { folder }: Bench,
  { delay, tls, changing = false }: { delay: number; tls: boolean; changing?: boolean },
): Promise<Server> {
  const { key, certificate } = tls ? await makeCertificate(folder) : {}
  const bundle = await writeBundle(folder, { entry: { file: 'probes/server.ts' } })
  const secured = key && certificate ? [key, certificate] : []
  const args = [bundle, String(delay), changing ? 'changing' : '', ...secured]
  const server = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const [port] = (await once(createInterface(server.stdout), 'line')) as [string]
  return {
    url: `${tls ? 'https' : 'http'}://localhost:${port}`,
    certificate,
    close: () => server.stdin.end(),
  }
}

/** Runs a probe, and gives what it prints. */
export async function probe<T>(
  node: string,
  probeBundle: string,
  args: readonly (string | number)[],
  { url, certificate }: Server,
  home: string,
): Promise<T> {
  const env = environment(url, certificate, home)
  const { stdout } = await run(node, [probeBundle, ...args.map(String)], { env })
  return JSON.parse(stdout) as T
}

/** Path of the program of a major version of Node.js, from the package that brings it. */
export function nodeProgram(major: number): string {
  return fileURLToPath(new URL(`../node_modules/node${major}/bin/node`, import.meta.url))
}

/** An empty home, where no alternative finds a configuration to read. */
export function makeHome({ folder }: Bench): string {
  const home = join(folder, 'home')
  mkdirSync(home, { recursive: true })
  return home
}

/** Like Lambda's, and one for all: nothing of this process's own gets into it. */
export function environment(
  url: string,
  certificate: string | undefined,
  home: string,
): NodeJS.ProcessEnv {
  return {
    HOME: home,
    AWS_ENDPOINT_URL: url,
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
    AWS_SECRET_ACCESS_KEY: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
    AWS_SESSION_TOKEN: 'session-token',
    AWS_LAMBDA_FUNCTION_NAME: 'bench',
    ...(certificate && { NODE_EXTRA_CA_CERTS: certificate }),
  }
}

async function makeCertificate(folder: string): Promise<{ key: string; certificate: string }> {
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')]
  // One for all servers of a run.
  if (existsSync(certificate)) return { key, certificate }
  const names = 'subjectAltName=DNS:localhost,DNS:*.localhost,IP:127.0.0.1'
  await run('openssl', [
    ...[
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
    ],
    ...['-subj', '/CN=localhost', '-addext', names, '-keyout', key, '-out', certificate],
  ])
  return { key, certificate }
}
