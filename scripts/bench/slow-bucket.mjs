import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

/** A bucket that takes so many bytes a second of everybody together, and keeps none of them. */
export async function startSlowBucket(bytesPerSecond) {
  let freeAt = 0;
  const server = createServer(async (request, response) => {
    for await (const chunk of request) {
      freeAt = Math.max(freeAt, performance.now()) + (chunk.length / bytesPerSecond) * 1000;
      await delay(freeAt - performance.now());
    }
    const { searchParams } = new URL(request.url, 'http://bucket');
    if (request.method === 'HEAD') response.writeHead(404).end();
    else if (request.method === 'PUT') response.writeHead(200, { etag: '"1"' }).end();
    else if (request.method === 'DELETE') response.writeHead(204).end();
    else if (searchParams.has('uploads'))
      response.end('<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>');
    else response.end('<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    config: {
      bucket: 'slow',
      endpoint: `http://127.0.0.1:${server.address().port}`,
      accessKeyId: 'bench',
      secretAccessKey: 'bench',
    },
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
