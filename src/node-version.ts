/** The first Node with all that the server uses; `engines` in package.json says the same. */
export const LEAST_NODE = '22.15';

/** Whether a version of Node, such as `20.20.2`, is below LEAST_NODE. */
export function isTooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [leastMajor = 0, leastMinor = 0] = LEAST_NODE.split('.').map(Number);
  return major < leastMajor || (major === leastMajor && minor < leastMinor);
}
