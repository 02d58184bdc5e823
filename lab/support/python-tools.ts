// SPDX-License-Identifier: Apache-2.0
// The Python programs of the tests and linters, in a virtual environment of their own, because Debian's pip installs none
// elsewhere. `make python-tools` builds it once per content of requirements.txt; who needs a program asks pythonTool.
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { cacheDirectory, must, Progress } from './host';

const REQUIREMENTS = join(__dirname, '../requirements.txt');
/** Debian's python3-venv serves only Debian's own Python, whatever is first on the path. */
const PYTHON = '/usr/bin/python3';
const LONGEST_MS = 900_000;

/**
 * Where the finished environment is: a link, made when all is installed, so that an interrupted installation is never
 * taken for one. The folder itself cannot be renamed, its programs name their interpreter by its path.
 */
function environment(): string {
  const hash = createHash('sha256').update(readFileSync(REQUIREMENTS)).digest('hex');
  return join(cacheDirectory(), `python-${hash.slice(0, 12)}`);
}

/**
 * The path of a Python program, `moto_server` for instance.
 *
 * @throws Error where it is not installed
 */
export function pythonTool(name: string): string {
  const program = join(environment(), 'bin', name);
  if (existsSync(program)) return program;
  throw new Error(`${name}: not in the Python environment of lab/requirements.txt; run: make python-tools`);
}

async function fill(folder: string): Promise<void> {
  await must(PYTHON, ['-m', 'venv', folder], { timeoutMs: LONGEST_MS });
  const pip = (...args: string[]) =>
    must(join(folder, 'bin/pip'), ['--quiet', '--disable-pip-version-check', ...args], { timeoutMs: LONGEST_MS });
  await pip('install', '--no-deps', '--requirement', REQUIREMENTS);
  await pip('check');
}

async function install(): Promise<void> {
  const finished = environment();
  if (existsSync(join(finished, 'bin'))) return;
  new Progress('python-tools').say('installing the Python tools of lab/requirements.txt, about a minute');
  const folder = mkdtempSync(`${finished}.`);
  const giveUp = () => rmSync(folder, { recursive: true, force: true });
  process.on('exit', giveUp);
  for (const [signal, number] of [['SIGINT', 2] as const, ['SIGTERM', 15] as const]) {
    process.on(signal, () => process.exit(128 + number));
  }
  await fill(folder);
  rmSync(finished, { force: true }); // a link whose folder is gone
  symlinkSync(basename(folder), finished);
  process.off('exit', giveUp);
}

if (require.main === module) {
  install().catch((error: unknown) => {
    console.error(`python-tools: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  });
}
