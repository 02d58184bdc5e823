// SPDX-License-Identifier: Apache-2.0
// Debian's archive as this machine knows it: whatever mirror, proxy and clock it uses serve the labs as well.
import { run } from '../support/host';

/** Without downloaded lists apt knows no labels; then the archive's usual path has to do. */
export async function hostMirror(label: 'Debian' | 'Debian-Security'): Promise<string | undefined> {
  const format = '$(REPO_URI)|$(ORIGIN)|$(LABEL)';
  const { code, stdout } = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']);
  if (code !== 0) return undefined;
  const rows = stdout.split('\n').map((line) => line.split('|'));
  const labelled = rows.find(([, origin, found]) => origin === 'Debian' && found === label);
  const usual = rows.find(([uri = '']) => uri.endsWith(`/${label.toLowerCase()}/`));
  return (labelled ?? usual)?.[0]?.replace(/\/$/, '');
}
