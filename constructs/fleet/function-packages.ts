// SPDX-License-Identifier: Apache-2.0
// Puts the functions' zips where cdktf can take them from.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { packageEniFunction, packageRolloutFunction } from '../../lambda/shared/deployment-package';
import { REPOSITORY } from '../user-data/bundle';

const FOLDER = path.join(REPOSITORY, '.cache');

/** Builds the zip and answers its path. */
export function writeEniPackage(folder: string = FOLDER): string {
  return write(path.join(folder, 'eni-function.zip'), packageEniFunction());
}

/** Builds the zip and answers its path. */
export function writeRolloutPackage(folder: string = FOLDER): string {
  return write(path.join(folder, 'rollout-function.zip'), packageRolloutFunction());
}

/** Two synths at once may both do so: the bytes are the same. */
function write(file: string, content: Buffer): string {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const unfinished = `${file}.${process.pid}`;
  fs.writeFileSync(unfinished, content);
  fs.renameSync(unfinished, file);
  return file;
}
