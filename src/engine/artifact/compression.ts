import { constants, createZstdCompress, createZstdDecompress, type ZstdCompress, type ZstdDecompress } from 'node:zlib';

const CHUNK_BYTES = 1024 * 1024;

/**
 * zstd at level 3, with zstd's own checksum, so that `zstd -d` by hand notices damage too. One worker: with
 * ZSTD_c_nbWorkers the stream of Node 24 hangs or fails at its end; it runs in the thread pool anyway.
 */
export function createCompressor(): ZstdCompress {
  return createZstdCompress({
    chunkSize: CHUNK_BYTES,
    params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 },
  });
}

/** The way back. Bytes after the end of the data are not reported by it: compare `bytesWritten` with what was fed. */
export function createDecompressor(): ZstdDecompress {
  return createZstdDecompress({ chunkSize: CHUNK_BYTES });
}
