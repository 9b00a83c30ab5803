/** What to download, and where to. */
export interface Download {
  readonly bucket: string
  readonly key: string
  readonly file: string
}
