// SPDX-License-Identifier: Apache-2.0
// The documentation's commands, for tests that run them: fenced blocks of a page, each with where it runs (the word after
// `sh`) and what must show (the `text` block right after it, … standing for anything).
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from './host';

export interface Step {
  /** The heading it stands under. */
  readonly heading: string;
  readonly place: string;
  readonly commands: readonly string[];
  /** Lines that the output must hold, in this order. */
  readonly shows: readonly string[];
}

/** The steps of a page of docs/, in order. */
export function stepsOf(page: string): Step[] {
  const text = readFileSync(join(REPOSITORY, 'docs', page), 'utf8');
  const parts = text.matchAll(/^## (.*)$|^```sh (\w+)\n([^]*?)^```\n(?:\n```text\n([^]*?)^```\n)?/gm);
  let heading = '';
  const steps: Step[] = [];
  for (const [, title, place, commands, shows] of parts) {
    if (title !== undefined) heading = title;
    else steps.push({ heading, place: place ?? '', commands: linesOf(commands), shows: linesOf(shows) });
  }
  return steps;
}

function linesOf(block = ''): string[] {
  return block.split('\n').filter((line) => line !== '');
}

/** The first promised line that the output does not hold behind the one before it; undefined when all are there. */
export function missingFrom(output: string, shows: readonly string[]): string | undefined {
  let rest = output.split('\n');
  for (const line of shows) {
    const pattern = new RegExp(`^${line.split('…').map(escaped).join('.*')}$`);
    const at = rest.findIndex((candidate) => pattern.test(candidate.trimEnd()));
    if (at < 0) return line;
    rest = rest.slice(at + 1);
  }
  return undefined;
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
