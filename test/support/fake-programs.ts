import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findClientPrograms } from '../../src/engine/postgres/client-programs.js';

const PROGRAMS = ['pg_dump', 'pg_dumpall', 'pg_restore'] as const;

/** A folder for PG_BIN_DIRS whose programs are the real ones, until a test puts a script in the place of one. */
export class FakePrograms {
  private constructor(
    readonly folder: string,
    private readonly realFolder: string,
  ) {}

  static async make(folder: string): Promise<FakePrograms> {
    const [real] = await findClientPrograms({ binDirs: [] });
    if (real === undefined) throw new Error('these tests need the PostgreSQL client programs');
    await mkdir(folder, { recursive: true });
    const fakes = new FakePrograms(folder, real.binDir);
    await fakes.restore();
    return fakes;
  }

  /** Path of the real program. */
  real(program: (typeof PROGRAMS)[number]): string {
    return join(this.realFolder, program);
  }

  /** Puts a shell script in place of a program; `real` in it is the real one. It still tells the real version. */
  async replace(program: (typeof PROGRAMS)[number], script: string, onVersion = 'exec real --version'): Promise<void> {
    const withReal = (text: string) => text.replaceAll(/\breal\b/g, `'${this.real(program)}'`);
    const file = join(this.folder, program);
    await rm(file, { force: true });
    await writeFile(file, `#!/bin/sh\nif [ "$1" = --version ]; then ${withReal(onVersion)}; fi\n${withReal(script)}\n`);
    await chmod(file, 0o755);
  }

  /** Puts the real programs back. */
  async restore(): Promise<void> {
    for (const program of PROGRAMS) await this.replace(program, 'exec real "$@"');
  }
}
