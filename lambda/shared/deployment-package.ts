// SPDX-License-Identifier: Apache-2.0
// A function as Lambda gets it: one file of JavaScript with everything in it, zipped. The same source gives the same bytes
// on every platform and in every folder, or each deployment from another machine would replace the function.
import * as path from 'node:path';
import { buildSync } from 'esbuild';
import { zipSync } from 'fflate';

const REPOSITORY = path.resolve(__dirname, '../..');

/** What Lambda is told to call. */
export const HANDLER = 'index.handler';
export const RUNTIME = 'nodejs24.x';

/** The oldest that a zip can say. At noon, because somewhere clocks were set at midnight; fflate writes local time. */
const NO_TIME = new Date(1980, 0, 1, 12);
/** -rw-r--r--, in the upper half, where Unix keeps it. */
const READABLE = 0o100644 << 16;
const UNIX = 3;

function script(entry: string): Uint8Array {
  const { outputFiles } = buildSync({
    absWorkingDir: REPOSITORY,
    entryPoints: [entry],
    outfile: 'index.js',
    bundle: true,
    minify: true,
    platform: 'node',
    target: 'node24',
    format: 'cjs',
    // The SDK's ES modules: of its CommonJS ones every command of EC2 would come along.
    mainFields: ['module', 'main'],
    legalComments: 'none',
    tsconfigRaw: {},
    write: false,
    logLevel: 'silent',
  });
  const [only] = outputFiles;
  if (!only) throw new Error(`lambda: esbuild made no file of ${entry}`);
  return only.contents;
}

/** The zip that Lambda runs. Takes half a second. */
export function packageEniFunction(): Buffer {
  return packaged('lambda/attach-eni/index.ts');
}

export function packageRolloutFunction(): Buffer {
  return packaged('lambda/rollout/index.ts');
}

function packaged(entry: string): Buffer {
  const options = { mtime: NO_TIME, level: 9, mem: 12, os: UNIX, attrs: READABLE } as const;
  return Buffer.from(zipSync({ 'index.js': [Uint8Array.from(script(entry)), options] }));
}
