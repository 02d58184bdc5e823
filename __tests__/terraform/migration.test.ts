// SPDX-License-Identifier: Apache-2.0
// docs/migration.md in the repository: its deployments, in order, the first through the real cdktf, all through the real
// Terraform, and what each puts into the launch template that new gateways start from.
import { Project } from '../../lab/terraform/project';
import { stepsOf } from '../../lab/support/procedures';
import { apply, onlyInState, terraformTest } from './terraform';
import { scripts } from '../../package.json';

const COMMANDS = stepsOf('migration.md')
  .filter(({ place }) => place === 'repository')
  .flatMap(({ heading, commands }) => commands.map((command) => ({ heading, command })));

/** `KEY=value npm run verb` -> what cdktf is called with. */
function parse(command: string): { verb: string; variables: Record<string, string> } {
  const words = command.split(' ');
  const assignments = words.filter((word) => word.includes('='));
  const [, , script = ''] = words.slice(assignments.length);
  const verb = /cdktf (\w+)/.exec((scripts as Record<string, string>)[script] ?? '')?.[1] ?? '';
  return { verb, variables: Object.fromEntries(assignments.map((each) => each.split('=') as [string, string])) };
}

function engineOf(project: Project): string {
  return String(onlyInState(project, 'aws_launch_template').description).split(';')[0] ?? '';
}

describe('the phases', () => {
  let project: Project;
  beforeAll(() => {
    project = new Project();
  });
  afterAll(() => project.remove());

  const engines = [
    'netfilter (enable_xdp false)',
    ...[10, 50, 90, 100].map((percent) => `XDP: engine auto, mode auto, ${percent} percent of flows`),
    'netfilter (enable_xdp false)',
  ];
  COMMANDS.forEach(({ heading, command }, index) =>
    terraformTest(`${heading}: ${command}`, async () => {
      const { verb, variables } = parse(command);
      expect(verb).toBe('deploy');
      const { code, stderr } = await (index === 0
        ? project.cdktf([verb, '--auto-approve'], variables)
        : apply(project, variables));
      expect({ code, stderr }).toMatchObject({ code: 0 });
      expect(engineOf(project)).toBe(engines[index]);
    }),
  );

  test('are as many as there are deployments', () => {
    expect(COMMANDS).toHaveLength(engines.length);
  });
});
