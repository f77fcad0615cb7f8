const COMPRESSED = '.zst';
const ENCRYPTED = '.age';

/**
 * An artifact's name tells how it was made, in order: `database.dump.zst.age` is a dump, in zstd, in age.
 * @param content the plain name, as `database.dump`
 */
export function artifactName(content: string, compress: boolean): string {
  return content + (compress ? COMPRESSED : '') + ENCRYPTED;
}

/** Whether an artifact of this name has to be decompressed after it was decrypted. */
export function isCompressed(name: string): boolean {
  return name.endsWith(COMPRESSED + ENCRYPTED);
}
