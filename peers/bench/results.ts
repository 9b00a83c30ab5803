/** What the bench measures: results.json, from which the report and the charts are made. */

export interface Run {
  readonly date: string
  readonly command: string
  readonly machine: Machine
}

export interface Results extends Run {
  /** By name of package or program. */
  readonly versions: Readonly<Record<string, string>>
  readonly library: LibrarySize
  readonly sizes: readonly HandlerSize[]
  readonly coldStart: {
    readonly rounds: number
    /** Milliseconds before each answer. */
    readonly delay: number
    /** MB, and the share of a core that Lambda gives them. Without a cgroup there is no share, and the figures are those of the whole machine. */
    readonly sizes: readonly { readonly memory: number; readonly share: number | undefined }[]
    readonly nodes: readonly ColdStarts[]
  }
  readonly memory: Memory & {
    /** It may have been measured alone, later than the rest. */
    readonly run: Run
  }
  readonly largeObject: {
    readonly node: string
    readonly rounds: number
    readonly megabytes: number
    readonly rows: readonly DownloadRow[]
  }
}

export interface Machine {
  readonly cpu: string
  readonly cores: number
  /** GiB. */
  readonly memory: number
  readonly system: string
  /** Processes that wanted a core in the minute before and in the last minute of the run. */
  readonly load: { readonly before: number; readonly after: number }
}

export interface Size {
  /** Bytes. */
  readonly minified: number
  readonly gzipped: number
}

/** lambda-cache.ts alone. */
export interface LibrarySize {
  /** All of it. */
  readonly whole: Size
  /** What a bundler leaves for those who do not import `httpsFetch`; undefined where there is none. */
  readonly withoutHttpsFetch: Size | undefined
}

export interface HandlerSize {
  readonly name: string
  /** With everything in the bundle. */
  readonly bundled: Size
  /** With `@aws-sdk/*` left to the runtime; undefined where nothing of it is used. */
  readonly sdkExternal: Size | undefined
}

/** Milliseconds: by the clock, and that the threads of the process computed. */
export interface Duration {
  readonly time: number
  readonly cpu: number
}

/** One cold start. */
export interface ColdStart {
  readonly import: Duration
  readonly first: Duration
  /** MiB of RSS at the end. */
  readonly memory: number
}

/** Medians. */
export interface ColdStartRow {
  readonly name: string
  /** What it sends with: the floor it is compared with. */
  readonly over: 'fetch' | 'https'
  /** At full speed. */
  readonly import: Duration
  /** The first invocation, one for each of the memory sizes. */
  readonly first: readonly Duration[]
  /** CPU time of import and first invocation with the most memory, as a multiple of the floor's in the same round. */
  readonly ratio: number
  readonly memory: number
}

export interface ColdStarts {
  readonly node: string
  readonly rows: readonly ColdStartRow[]
}

/** What is read from memory. */
export interface Memory {
  readonly warm: Warm
  readonly direct: Direct
  readonly growth: Growth
}

/** Invocations with four values each. */
export interface Warm {
  readonly rounds: number
  readonly refreshes: number
  readonly nodes: readonly {
    readonly node: string
    /** As the values were first read. */
    readonly rows: readonly WarmRow[]
    /** After so many refreshes that brought the same, or others. */
    readonly refreshed: readonly WarmRow[]
    readonly changed: readonly WarmRow[]
  }[]
}

/** Direct reads of one value. */
export interface Direct {
  readonly rounds: number
  readonly nodes: readonly { readonly node: string; readonly rows: readonly DirectRow[] }[]
}

/** Nanoseconds: median of the rounds, lowest and highest. */
export interface DirectRow {
  readonly name: string
  readonly time: number
  readonly lowest: number
  readonly highest: number
}

export interface Growth {
  readonly rounds: number
  readonly nodes: readonly {
    readonly node: string
    /** Nanoseconds for each value, of 1, 10, 100 and 1,000. */
    readonly onContext: readonly number[]
    /** Nanoseconds for each read, of 1, 100 and 10,000. */
    readonly direct: readonly number[]
    /** Of heap, for each of 10,000 parameters. */
    readonly bytes: number
    /** CPU time for a tree of 10,000, as a multiple of the SDK's. */
    readonly tree: number
  }[]
}

export interface WarmRow {
  readonly name: string
  /** Nanoseconds per invocation of the bare handler, in the same processes. */
  readonly base: number
  /** Nanoseconds per invocation over the bare handler: median of the rounds, lowest and highest. */
  readonly over: number
  readonly lowest: number
  readonly highest: number
  /** To that of the Map by hand, as first read, in the same round: median of the rounds. */
  readonly ratio: number
}

/** Medians. */
export interface DownloadRow {
  readonly name: string
  readonly seconds: number
  /** MB (1,000,000 bytes) per second. */
  readonly rate: number
  /** MiB of RSS at the peak, over what it was before. */
  readonly memory: number
  /** Time, as a multiple of the SDK's in the same round. */
  readonly ratio: number
}
