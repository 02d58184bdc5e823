// SPDX-License-Identifier: Apache-2.0
// docs/troubleshooting.md for a test that runs it. A step is a `console` block: a command and what a sound gateway prints;
// after each `# CAUSE` what it prints instead and, where there is one, the command that mends it. The word after `console`
// says what a step needs: a gateway, its systemd, AWS, or the machine's own hardware.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../support/host';

export const PLACES = ['gateway', 'systemd', 'aws', 'machine'] as const;

export interface Cause {
  readonly words: string;
  readonly shows: readonly string[];
  readonly remedy?: string;
}

export interface Step {
  /** The last heading before it. */
  readonly heading: string;
  readonly place: string;
  readonly command: string;
  readonly sound: readonly string[];
  readonly causes: readonly Cause[];
}

export interface Page {
  /** What an operator pastes first. */
  readonly preamble: string;
  /** What `deploy_xdp.sh health` may give as its reason. */
  readonly reasons: readonly string[];
  readonly steps: readonly Step[];
}

export function troubleshooting(): Page {
  const text = readFileSync(join(REPOSITORY, 'docs/troubleshooting.md'), 'utf8');
  const parts = [...text.matchAll(/^##+ (.*)$|^```console (\w+)\n([^]*?)^```$/gm)];
  let heading = '';
  const steps = parts.flatMap(([, title, place = '', block = '']) => {
    if (title === undefined) return [stepOf(heading, place, block)];
    heading = title;
    return [];
  });
  return {
    preamble: /^```sh gateway\n([^]*?)^```$/m.exec(text)?.[1] ?? '',
    reasons: [...text.matchAll(/^\| `(.*?)` \| \[/gm)].map(([, reason = '']) => reason),
    steps,
  };
}

function stepOf(heading: string, place: string, block: string): Step {
  const [first = '', ...rest] = block.slice(0, -1).split('\n# ');
  const { command, shows: sound } = partOf(first.split('\n'));
  if (command === undefined) throw new Error(`${heading}: a step begins with its command: ${first}`);
  const causes = rest.map((part) => {
    const [words = '', ...lines] = part.split('\n');
    const { command: remedy, shows } = partOf(lines);
    return { words, shows, remedy };
  });
  return { heading, place, command, sound, causes };
}

function partOf(lines: readonly string[]): { command?: string; shows: string[] } {
  const commands = lines.filter((line) => line.startsWith('$ ')).map((line) => line.slice(2));
  if (commands.length > 1) throw new Error(`one command is enough: ${commands.join('; ')}`);
  return { command: commands[0], shows: lines.filter((line) => !line.startsWith('$ ')) };
}

/** Whether an output is, from its first line to its last, what the page shows. Runs of blanks count as one. */
export function isShown(output: string, shows: readonly string[]): boolean {
  const lines = shows.length === 1 && shows[0] === '(nothing)' ? [] : shows;
  const pattern = lines.map((line) => (line === '…' ? '(?:.*\n)*' : `${escaped(line.trim())}\n`)).join('');
  const printed = output
    .split('\n')
    .map((line) => line.trim().replace(/[ \t]+/g, ' '))
    .join('\n');
  return new RegExp(`^${pattern}$`).test(printed.trim() === '' ? '' : `${printed.trimEnd()}\n`);
}

function escaped(line: string): string {
  return line
    .replace(/[ \t]+/g, ' ')
    .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    .replaceAll('…', '.*')
    .replaceAll('<n>', '[1-9][0-9]*');
}
