/** Their types are in packages of their own, which are not installed. */
declare module '@aws-lite/s3' {
  const plugin: object
  export default plugin
}

declare module '@aws-lite/ssm' {
  const plugin: object
  export default plugin
}
