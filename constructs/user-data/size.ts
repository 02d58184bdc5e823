// SPDX-License-Identifier: Apache-2.0
// `make user-data-size`: what takes how much of the user data, so that whoever is over the limit sees where to cut; and what is
// in the bundle, which has no limit but the seconds that a gateway takes to fetch it.
import { buildBundle, bundleFiles } from './bundle';
import { loadConfig } from '../config/load';
import { checkedInContext } from '../config/context';
import { baseName } from '../config/names';
import { bundleLocation, contributors, USER_DATA_LIMIT } from './user-data';

function line(share: number | string, bytes: number | string, name: string): void {
  console.log(`${String(share).padStart(7)}  ${String(bytes).padStart(7)}  ${name}`);
}

function main(): void {
  const config = loadConfig(checkedInContext(), process.env);
  const files = bundleFiles();
  const { archive, sha256 } = buildBundle(files);
  const stack = { baseName: baseName(config), region: config.region, vpcId: config.vpc_id };
  const all = contributors(config, bundleLocation(stack, sha256));
  const used = all.reduce((sum, { share }) => sum + share, 0);
  line('share', 'bytes', 'file');
  all.forEach((each) => line(each.share, each.bytes, each.path));
  line(used, '', `of ${USER_DATA_LIMIT} bytes of user data, ${USER_DATA_LIMIT - used} left`);
  [...files]
    .sort((a, b) => b.content.length - a.content.length)
    .forEach(({ path, content }) => line('', content.length, path));
  line(
    archive.length,
    files.reduce((sum, { content }) => sum + content.length, 0),
    'the bundle, compressed and not',
  );
}

try {
  main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
