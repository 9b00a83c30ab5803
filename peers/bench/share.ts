/** A process with a share of one core, as Lambda gives a function that of its memory. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

/** Lambda's scheduler gives out the shares anew every 20 ms. */
const PERIOD = 20_000

export interface Limits {
  /** Of one core: 128 MB are 0.072. */
  readonly share?: number
  /** As `ulimit -n` has it. */
  readonly openFiles?: number
}

/** Runs a program and gives what it prints. With a share it runs in a cgroup where one can be made, else it is stopped and continued in turn. */
export async function runWithLimits(
  { share, openFiles }: Limits,
  command: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const group = share === undefined ? undefined : makeGroup(share)
  const enter = `${group ? `echo $$ > ${group}/cgroup.procs && ` : ''}${openFiles ? `ulimit -n ${openFiles} && ` : ''}exec "$@"`
  const child = spawn('sh', ['-c', enter, 'sh', ...command], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    if (share !== undefined && !group) void takeTurns(child, share)
    const [printed, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
    if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}`)
    return printed
  } finally {
    if (group) rmdirSync(group)
  }
}

/** How a share is kept on this machine. */
export function meansOfSharing(): string {
  const group = makeGroup(1)
  if (!group) return 'by stopping and continuing it in turn'
  rmdirSync(group)
  return 'by a cgroup'
}

/** The folder of a new cgroup with that share of a core, where one can be made. It takes processes in by `cgroup.procs`. */
export function makeGroup(share: number): string | undefined {
  const quota = Math.round(share * PERIOD)
  const name = `lambda-cache-${process.pid}-${quota}`
  try {
    if (existsSync('/sys/fs/cgroup/cpu')) {
      const group = `/sys/fs/cgroup/cpu/${name}`
      mkdirSync(group)
      writeFileSync(`${group}/cpu.cfs_period_us`, String(PERIOD))
      writeFileSync(`${group}/cpu.cfs_quota_us`, String(quota))
      return group
    }
    const root = '/sys/fs/cgroup'
    if (!readFileSync(`${root}/cgroup.controllers`, 'utf8').includes('cpu')) return undefined
    writeFileSync(`${root}/cgroup.subtree_control`, '+cpu')
    const group = `${root}/${name}`
    mkdirSync(group)
    writeFileSync(`${group}/cpu.max`, `${quota} ${PERIOD}`)
    return group
  } catch {
    return undefined
  }
}

/** Coarser than a cgroup, since timers are: the same share in turns of a tenth of a second. */
async function takeTurns(child: ChildProcess, share: number): Promise<void> {
  while (child.exitCode === null && child.signalCode === null) {
    await sleep(100 * share)
    child.kill('SIGSTOP')
    await sleep(100 * (1 - share))
    child.kill('SIGCONT')
  }
}
