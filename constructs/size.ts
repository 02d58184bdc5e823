// SPDX-License-Identifier: Apache-2.0
// `make size`: what takes how much of the user data, so that whoever is over the limit sees where to cut.
import { loadConfig } from './config';
import { checkedInContext } from './context';
import { contributors, USER_DATA_LIMIT } from './user-data';

function main(): void {
  const all = contributors(loadConfig(checkedInContext(), process.env));
  const used = all.reduce((sum, { share }) => sum + share, 0);
  const line = (share: number | string, bytes: number | string, name: string) =>
    console.log(`${String(share).padStart(7)}  ${String(bytes).padStart(7)}  ${name}`);
  line('share', 'bytes', 'file');
  all.forEach((each) => line(each.share, each.bytes, each.path));
  line(used, '', `of ${USER_DATA_LIMIT} bytes, ${USER_DATA_LIMIT - used} left`);
}

try {
  main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
