// SPDX-License-Identifier: Apache-2.0
// docs/migration.md on a machine: its commands, in order, as an operator would type them.
import { missingFrom, stepsOf } from '../../lab/support/procedures';
import { type Machine } from './machine';

/** Ends where it began, on netfilter. */
export function itMigrates(machine: Machine): void {
  describe('docs/migration.md', () => {
    const steps = stepsOf('migration.md').filter(({ place }) => place === 'gateway');
    it.each(steps.map((step) => [`${step.heading}: ${step.commands.join('; ')}`, step] as const))(
      '%s',
      async (_, { commands, shows }) => {
        const output = await machine.vm.exec(`set -e\n${commands.join('\n')}`);
        expect({ missing: missingFrom(output, shows), output }).toEqual({ missing: undefined, output });
      },
    );

    it('leaves the gateway on netfilter', async () => {
      expect(steps.length).toBeGreaterThan(8);
      expect(await machine.status()).toMatchObject({ engine: 'nfqueue', attached: false });
    });
  });
}
