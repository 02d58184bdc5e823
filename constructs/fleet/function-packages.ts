// SPDX-License-Identifier: Apache-2.0
// Puts the functions' zips where cdktf can take them from.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { packageEniFunction } from '../../lambda/shared/deployment-package';
import { REPOSITORY } from '../user-data/bundle';

/** Builds the zip and answers its path. Two synths at once may both do so: the bytes are the same. */
export function writeEniPackage(folder: string = path.join(REPOSITORY, '.cache')): string {
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, 'eni-function.zip');
  const unfinished = `${file}.${process.pid}`;
  fs.writeFileSync(unfinished, packageEniFunction());
  fs.renameSync(unfinished, file);
  return file;
}
