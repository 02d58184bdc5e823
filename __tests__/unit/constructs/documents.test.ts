// SPDX-License-Identifier: Apache-2.0
// Tables of the documents say what the code does: settings as config.ts has them, metrics as gateways send them, a switch of engines
// as the synthesized stacks have it, alarms as the constructs make them, counters as the loader prints them. Links lead somewhere.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { DRIVER_MODE_MTU, LARGEST_IN_DRIVER_MODE } from '../../../constructs/config/limits';
import { metricsTable } from '../../../constructs/monitoring/metrics-table';
import { settingsTable } from '../../../constructs/config/settings-table';
import { REPOSITORY } from '../../../constructs/user-data/user-data';
import { all, type Body, synth, type Synthesized } from './synthesized';

const textOf = (file: string) => fs.readFileSync(path.join(REPOSITORY, file), 'utf8');
const pagesIn = (folder: string) =>
  fs
    .readdirSync(path.join(REPOSITORY, folder))
    .flatMap((name) => (name.endsWith('.md') ? path.join(folder, name) : []));
const DOCUMENTS = [
  ...pagesIn('.'),
  ...pagesIn('docs'),
  ...pagesIn('docs/adr'),
  'lambda/attach-eni/README.md',
  'lab/terraform/README.md',
];
const page = textOf('docs/direct-engine.md');
const operations = textOf('docs/operations.md');

/** What is between `<!-- name: ... -->` and `<!-- end of name -->`. */
function between(text: string, name: string): string {
  const [opened = 'missing'] = new RegExp(`<!-- ${name}: [^\\n]* -->`).exec(text) ?? [];
  return text.slice(text.indexOf(opened) + opened.length, text.indexOf(`<!-- end of ${name} -->`)).trim();
}

test('docs/settings.md explains every key as config.ts does (`npm run --silent settings` prints the table)', () => {
  expect(between(textOf('docs/settings.md'), 'settings')).toBe(settingsTable());
});

test('docs/metrics.md has every metric that gateways send (`npm run --silent metrics` prints the table)', () => {
  expect(between(textOf('docs/metrics.md'), 'metrics')).toBe(metricsTable());
});

/** `type name`: for alarms, of which there are many, the name that an operator sees. */
function label(type: string, body: Body): string {
  const { alarm_name: name } = body as { alarm_name?: string };
  return name ? `\`${type}\` ${name}` : `\`${type}\``;
}

/** What becomes of each resource between two stacks, and of those that refer to a new template version. */
function changes(before: Synthesized, after: Synthesized): string[] {
  const rows = Object.entries(before.resource).flatMap(([type, resources]) =>
    Object.entries(resources).flatMap(([name, body]) => {
      const now = after.resource[type]?.[name];
      if (now === undefined) return [`${label(type, body)} | removed`];
      const changed = Object.keys({ ...body, ...now }).filter(
        (key) => JSON.stringify(body[key]) !== JSON.stringify(now[key]),
      );
      if (changed.length > 0) return [`${label(type, body)} | ${changed.map((key) => `\`${key}\``).join(', ')}`];
      // The group ignores versions after its first one.
      const ignored = (body.lifecycle as { ignore_changes?: string[] } | undefined)?.ignore_changes ?? [];
      const follows = Object.entries(body).filter(
        ([key, value]) => JSON.stringify(value).includes('.latest_version}') && !ignored.includes(key),
      );
      return follows.map(([key]) => `${label(type, body)} | \`${key}\``);
    }),
  );
  const added = Object.entries(after.resource).flatMap(([type, resources]) =>
    Object.entries(resources)
      .filter(([name]) => before.resource[type]?.[name] === undefined)
      .map(([, body]) => `${label(type, body)} | made`),
  );
  return [...rows, ...added].sort();
}

test('docs/operations.md names everything that a switch by enable_xdp changes, and nothing else', () => {
  const table = between(operations, 'switch').split('\n').slice(2);
  const documented = table.map((row) => row.split(' | ').slice(0, 2).join(' | ').replace(/^\| /, ''));
  expect(documented.sort()).toEqual(changes(synth(), synth({ enable_xdp: 'false' })));
});

test('the runbook has a line for every alarm, and for none that does not exist', () => {
  const runbook = operations.slice(operations.indexOf('## Runbook'), operations.indexOf('## On an instance'));
  const documented = runbook
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) => (line.split(' | ')[0] ?? '').match(/`[a-z-]+`/g) ?? []);
  const alarms = all(synth(), 'aws_cloudwatch_metric_alarm').map(({ alarm_name }) =>
    String(alarm_name).replace('mirror-gateway-', ''),
  );
  expect(documented.map((name) => name.replaceAll('`', '')).sort()).toEqual(alarms.sort());
});

test('the README names every output that tells an operator what comes next', () => {
  const named = ['mirror_target_id', 'mirror_filter_id', 'dashboard_url', 'rollback_command'];
  const readme = textOf('README.md');
  named.forEach((name) => expect(readme).toContain(`\`${name}\``));
  expect(Object.keys(synth().output)).toEqual(expect.arrayContaining(named));
});

test('the page on the direct engine explains every counter that its loader prints, and no other', () => {
  const [, names = ''] = /direct_counters\[\] = \{([^}]+)\}/.exec(textOf('bpf/loader/direct.c')) ?? [];
  const printed = [...names.matchAll(/"(\w+)"/g)].map(([, name]) => name);
  const explained = [...page.slice(0, page.indexOf('## Modes')).matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  expect(explained.sort()).toEqual(printed.sort());
});

test.each(['docs/engines.md', 'docs/direct-engine.md'])(
  'the limits of driver mode in %s are those that the synth keeps',
  (file) => {
    const numbers = new Set(textOf(file).match(/\b34\d\d\b/g));
    expect([...numbers].sort()).toEqual([LARGEST_IN_DRIVER_MODE, DRIVER_MODE_MTU].map(String));
  },
);

test('the README has at most 150 lines', () => {
  expect(textOf('README.md').split('\n').length).toBeLessThanOrEqual(150);
});

const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-');

test.each(DOCUMENTS)('every link in %s leads to something', (file) => {
  const links = [...textOf(file).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)];
  const broken = links.filter(([, to = '', anchor]) => {
    const target = to === '' ? file : path.join(path.dirname(file), to);
    if (!fs.existsSync(path.join(REPOSITORY, target))) return true;
    if (anchor === undefined) return false;
    const headings = [...textOf(target).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading));
    return !headings.includes(anchor);
  });
  expect(broken.map(([link]) => link)).toEqual([]);
});
