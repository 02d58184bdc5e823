// SPDX-License-Identifier: Apache-2.0
import { zipSync } from 'fflate';
export function bundleEniFunction(): Buffer {
  return Buffer.from(
    zipSync({ 'index.js': Buffer.from('exports.handler = async () => undefined') }, { mtime: '1980-01-01' }),
  );
}
