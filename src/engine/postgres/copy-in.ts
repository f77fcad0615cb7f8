import type { Client, Connection, Submittable } from 'pg';

const COPY_DATA = 0x64;
const COPY_DONE = 0x63;
const LENGTH_BYTES = 4;
/** So many pieces may be on their way to the server. */
const PIECES_UNDER_WAY = 3;

/**
 * `COPY … FROM STDIN` over a session. Unlike what the driver's own extension does, each piece tells when its bytes have left for the
 * server, so that its buffer can be used again.
 */
export class CopyIn implements Submittable {
  private connection: Connection | undefined;
  private underWay = 0;
  private failure: { error: unknown } | undefined;
  private ended = false;
  /** Wakes whoever waits for the next change of state. */
  private wake: () => void = () => undefined;

  private constructor(private readonly text: string) {}

  /** Begins the COPY. @throws the server's error */
  static async begin(client: Client, text: string): Promise<CopyIn> {
    const copy = client.query(new CopyIn(text));
    await copy.until(() => copy.connection !== undefined);
    return copy;
  }

  /** Sends rows, and resolves when more are wanted. @param sent is called when nobody looks at `bytes` any more @throws the server's error */
  async write(bytes: Buffer, sent: () => void): Promise<void> {
    const { stream } = this.connection as Connection;
    const head = Buffer.allocUnsafe(1 + LENGTH_BYTES);
    head.writeUInt8(COPY_DATA);
    head.writeUInt32BE(bytes.length + LENGTH_BYTES, 1);
    this.underWay += 1;
    stream.cork();
    stream.write(head);
    stream.write(bytes, (error) => {
      this.underWay -= 1;
      if (error) this.fail(error);
      sent();
      this.wake();
    });
    stream.uncork();
    await this.until(() => this.underWay < PIECES_UNDER_WAY);
  }

  /** Ends the COPY, and resolves when the server has taken all of it. @throws the server's error */
  async end(): Promise<void> {
    this.connection?.stream.write(Buffer.from([COPY_DONE, 0, 0, 0, LENGTH_BYTES]));
    await this.until(() => this.ended);
  }

  private async until(holds: () => boolean): Promise<void> {
    for (;;) {
      if (this.failure) throw this.failure.error;
      if (holds()) return;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  private fail(error: unknown): void {
    this.failure ??= { error };
    this.wake();
  }

  // What the driver calls.

  submit(connection: Connection): void {
    connection.query(this.text);
  }

  handleCopyInResponse(connection: Connection): void {
    this.connection = connection;
    this.wake();
  }

  handleError(error: Error): void {
    this.fail(error);
  }

  handleCommandComplete(): void {
    // Its count is that of the rows that were sent.
  }

  handleReadyForQuery(): void {
    this.ended = true;
    this.wake();
  }

  /** The driver looks for it where it has a time limit for queries. */
  callback(): void {
    // Nothing waits for a result.
  }
}
