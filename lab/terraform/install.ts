// SPDX-License-Identifier: Apache-2.0
// Makes Terraform find the stand-in where it looks for the AWS provider: in a mirror on disk, under the very version that
// the bindings ask for. The mirror is all there is in the configuration, so nothing is ever downloaded.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { arch, platform } from 'node:os';
import { join } from 'node:path';
import { REPOSITORY } from '../support/host';
import { providerAddress } from './schema';

/** Terraform's names of machines, where Node has other ones. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };

/** Writes the mirror and a configuration that names it into a folder; the answer is the configuration's path. */
export function installProvider(folder: string): string {
  const { host, namespace, name, version } = providerAddress();
  const machine = `${platform()}_${ARCHITECTURES[arch()] ?? arch()}`;
  const mirror = join(folder, 'mirror');
  const home = join(mirror, host, namespace, name, version, machine);
  mkdirSync(home, { recursive: true });
  const program = join(home, `terraform-provider-${name}_v${version}`);
  writeFileSync(program, starter());
  chmodSync(program, 0o755);
  const configuration = join(folder, 'terraform.rc');
  writeFileSync(
    configuration,
    `provider_installation {\n  filesystem_mirror {\n    path = ${quoted(mirror)}\n  }\n}\n`,
  );
  return configuration;
}

function starter(): string {
  const register = require.resolve('ts-node/register/transpile-only');
  const words = [process.execPath, '-r', register, join(REPOSITORY, 'lab/terraform/provider.ts')].map(shellQuoted);
  // Terraform starts this in the stack's folder, from where ts-node would look for a tsconfig.json upwards.
  return `#!/bin/sh\nTS_NODE_PROJECT=${shellQuoted(join(REPOSITORY, 'tsconfig.json'))} exec ${words.join(' ')}\n`;
}

function quoted(text: string): string {
  return JSON.stringify(text).replace(/[$%]\{/g, (opening) => `${opening[0]}${opening}`);
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
