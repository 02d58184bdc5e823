// SPDX-License-Identifier: Apache-2.0
// The troubleshooting page as far as no gateway is needed: its form, and what it asks of AWS. The lab runs the rest.
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as ec2 from '@aws-sdk/client-ec2';
import { PLACES, troubleshooting } from '../../../lab/namespaces/troubleshooting';
import { REPOSITORY } from '../../../constructs/user-data/user-data';
import { synth } from './synthesized';

const text = fs.readFileSync(path.join(REPOSITORY, 'docs/troubleshooting.md'), 'utf8');
const page = troubleshooting();
const aws = [...text.matchAll(/^\$ (aws .*)$/gm)].map(([, command = '']) => command);

test('every block of the page is a step in a place that is known, or what is pasted first', () => {
  expect(text.match(/^```\w+.*$/gm)).toHaveLength(page.steps.length + 1);
  expect(new Set(page.steps.map(({ place }) => place))).toEqual(new Set(PLACES));
  expect(page.preamble).toContain('grows()');
});

test('a step asks AWS exactly where it says so, and one for the lab asks no systemd', () => {
  page.steps.forEach(({ place, command }) => {
    expect([command, /^aws /.test(command)]).toEqual([command, place === 'aws']);
    expect([command, /systemctl|journalctl/.test(command)]).toEqual([command, place === 'systemd']);
  });
});

test('EC2 has what the page asks it for', () => {
  const asked = aws.flatMap((command) => [...command.matchAll(/\baws ec2 ([\w-]+)/g)].map(([, name = '']) => name));
  const known = Object.keys(ec2);
  const nameOf = (operation: string) =>
    `${operation.replace(/(?:^|-)(\w)/g, (_, letter: string) => letter.toUpperCase())}Command`;
  expect(asked.length).toBeGreaterThan(5);
  expect(asked.filter((operation) => !known.includes(nameOf(operation)))).toEqual([]);
});

test('what the page calls by name is in the stack', () => {
  const stack = JSON.stringify(synth());
  const names = aws.flatMap((command) => command.match(/mirror-gateway[\w-]*|\/aws\/ec2\/[\w-]+/g) ?? []);
  expect(names.length).toBeGreaterThan(1);
  expect(names.filter((name) => !stack.includes(`"${name}"`))).toEqual([]);
});
