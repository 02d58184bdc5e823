// SPDX-License-Identifier: Apache-2.0
// The calls that the code can make are the calls that the recorded scenarios make: what compares the role with the recorded
// permissions compares it with the code.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../../../lab/support/host';
import { recordedPermissions } from './recorded';

const PREFIXES: Readonly<Record<string, string>> = { 'client-ec2': 'ec2', 'client-auto-scaling': 'autoscaling' };

function imported(): readonly string[] {
  const files = ['lambda/attach-eni', 'lambda/shared'].flatMap((folder) =>
    readdirSync(join(REPOSITORY, folder)).map((name) => join(REPOSITORY, folder, name)),
  );
  return files
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => {
      const text = readFileSync(file, 'utf8');
      const imports = [...text.matchAll(/import\s*\{([^}]*)\}\s*from '@aws-sdk\/([\w-]+)'/g)];
      return imports.flatMap(([, names = '', client = '']) =>
        [...names.matchAll(/\b(\w+)Command\b/g)].map(([, action]) => `${PREFIXES[client] ?? client}:${action}`),
      );
    });
}

test('every command that the code imports is called, and no other; tags are given at creation', async () => {
  const recorded = await recordedPermissions();
  expect([...recorded].sort()).toEqual([...new Set([...imported(), 'ec2:CreateTags'])].sort());
});
