import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { parse } from 'node:path';
import { StartError } from '../common/start-error.js';
import { describeSystemError, systemCode } from '../engine/store/local-errors.js';
import { makeFolders } from '../engine/store/local-files.js';

/**
 * Makes `DATA_DIR` where it is missing (0700), folder by folder: Node's own recursive `mkdir` never ends under /proc.
 * @throws StartError when it can't be made, is no folder, or may not be written
 */
export async function openDataDir(folder: string): Promise<void> {
  try {
    await makeFolders(parse(folder).root, folder);
    if (!(await stat(folder)).isDirectory()) throw unusable(folder, 'it is no folder');
    await access(folder, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    if (error instanceof StartError || systemCode(error) === undefined) throw error;
    throw unusable(folder, describeSystemError(error), error);
  }
}

function unusable(folder: string, reason: string, cause?: unknown): StartError {
  return new StartError(
    `DATA_DIR ${folder} can't be used: ${reason}. Name a folder on a real disk that user ${process.getuid?.() ?? ''} may write, or change its owner.`,
    { cause },
  );
}
