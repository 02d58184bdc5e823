// SPDX-License-Identifier: Apache-2.0
// The SSM document that an operator's rollback command runs: the very lines that SSM would give to a gateway's shell, run
// on the lab's gateway.
import { inNamespace, run, type RunResult } from '../../lab/support/host';
import { LAB } from '../../lab/namespaces/namespaces';
import { all, synth } from '../unit/constructs/synthesized';
import { status, useLab } from './gateway';

interface CommandDocument {
  readonly parameters: { readonly Verb: { readonly allowedValues: readonly string[] } };
  readonly mainSteps: readonly { readonly inputs: { readonly runCommand: readonly string[] } }[];
}

const [document] = all(synth(), 'aws_ssm_document')
  .filter(({ document_type }) => document_type === 'Command')
  .map(({ content }) => JSON.parse(content as string) as CommandDocument);

/** What the SSM agent makes of the document: the parameter filled in, the lines one script. */
function send(verb: string): Promise<RunResult> {
  const lines = document?.mainSteps.flatMap(({ inputs }) => inputs.runCommand) ?? [];
  const script = lines.join('\n').replaceAll('{{ Verb }}', verb);
  return run(...inNamespace(LAB.primary.namespace, 'sh', '-c', script));
}

describe('the engine document', () => {
  useLab('bridge');

  it('takes a gateway to netfilter and back to XDP, twice each without harm, and says how it is', async () => {
    for (const [verb, engine] of [
      ['rollback', 'nfqueue'],
      ['rollback', 'nfqueue'],
      ['attach', 'bridge'],
      ['attach', 'bridge'],
    ] as const) {
      const { code, stdout } = await send(verb);
      expect(code).toBe(0);
      expect(JSON.parse(stdout.trim().split('\n').at(-1) ?? '')).toMatchObject({ engine });
      expect(await status()).toMatchObject({ engine });
    }
  });

  it('allows no word that the gateway does not know', async () => {
    for (const verb of document?.parameters.Verb.allowedValues ?? []) expect((await send(verb)).code).toBe(0);
    expect(document?.parameters.Verb.allowedValues).toHaveLength(2);
  });
});
