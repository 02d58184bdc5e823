// SPDX-License-Identifier: Apache-2.0
// Puts the functions' zips where cdktf can take them from.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { bundleEniFunction, bundleRolloutFunction } from '../../lambda/bundle';
import { REPOSITORY } from '../user-data/bundle';

const FOLDER = path.join(REPOSITORY, '.cache');

/** Builds the zip and answers its path. */
export function writeEniBundle(folder: string = FOLDER): string {
  return write(path.join(folder, 'eni-function.zip'), bundleEniFunction());
}

/** Builds the zip and answers its path. */
export function writeRolloutBundle(folder: string = FOLDER): string {
  return write(path.join(folder, 'rollout-function.zip'), bundleRolloutFunction());
}

/** Two synths at once may both do so: the bytes are the same. */
function write(file: string, content: Buffer): string {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const unfinished = `${file}.${process.pid}`;
  fs.writeFileSync(unfinished, content);
  fs.renameSync(unfinished, file);
  return file;
}
