export function report(runs: unknown): string { return JSON.stringify(runs).slice(0, 10) }
