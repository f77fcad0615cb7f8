/** Cuts a body into buffers of exactly `size` bytes; only the last may be smaller, and an empty body gives one empty buffer. */
export async function* inParts(body: AsyncIterable<Buffer>, size: number): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let bytes = 0;
  let gave = false;
  for await (const chunk of body) {
    let rest = chunk;
    while (bytes + rest.length > size) {
      const fits = size - bytes;
      yield Buffer.concat([...held, rest.subarray(0, fits)], size);
      gave = true;
      rest = rest.subarray(fits);
      held = [];
      bytes = 0;
    }
    if (rest.length === 0) continue;
    // What a pool lends may be overwritten by the next chunk.
    held.push(Buffer.from(rest));
    bytes += rest.length;
  }
  if (bytes > 0 || !gave) yield Buffer.concat(held, bytes);
}
