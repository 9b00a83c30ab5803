/** X-Ray as in Lambda, without its daemon. */
import AWSXRay, { type Segment } from 'aws-xray-sdk-core'

/** What the daemon would have been sent. */
export const segments: string[] = []

/** Invokes within a segment, as the runtime does, and has an error noted. */
export function inSegment<T>(
  invoke: () => Promise<T>,
  note: (error: Error, segment: Segment) => void,
): Promise<T> {
  const segment = new AWSXRay.Segment('function')
  return AWSXRay.getNamespace().runAndReturn(async () => {
    AWSXRay.setSegment(segment)
    try {
      return await invoke()
    } catch (error) {
      note(error as Error, segment)
      throw error
    } finally {
      segments.push(segment.toString())
    }
  })
}
