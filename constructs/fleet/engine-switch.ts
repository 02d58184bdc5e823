// SPDX-License-Identifier: Apache-2.0
// The brake at night: one command puts every running gateway on netfilter, or back on XDP, without replacing any.
import { SsmDocument } from '@cdktf/provider-aws/lib/ssm-document';
import { Construct } from 'constructs';
import { DEPLOY_SCRIPT } from '../user-data/user-data';

/** `rollback`: modify_udp_df takes the traffic. `attach`: the XDP program does. */
const VERBS = ['rollback', 'attach'] as const;

export interface EngineSwitchProps {
  readonly baseName: string;
  readonly region: string;
  readonly groupName: string;
}

/** An SSM document that runs one verb of deploy_xdp.sh. It lasts until a gateway is replaced: enable_xdp is what lasts. */
export class EngineSwitch extends Construct {
  public readonly documentName: string;
  /** For an operator's shell. */
  public readonly rollbackCommand: string;

  public constructor(scope: Construct, id: string, { baseName, region, groupName }: EngineSwitchProps) {
    super(scope, id);
    this.documentName = `${baseName}-engine`;
    new SsmDocument(this, 'document', {
      name: this.documentName,
      documentType: 'Command',
      documentFormat: 'JSON',
      targetType: '/AWS::EC2::Instance',
      content: JSON.stringify(COMMAND),
    });
    this.rollbackCommand = [
      'aws ssm send-command',
      `--region ${region}`,
      `--document-name ${this.documentName}`,
      `--targets Key=tag:aws:autoscaling:groupName,Values=${groupName}`,
      '--parameters Verb=rollback',
      // A gateway that fails does not keep the others from going back.
      '--max-concurrency 100% --max-errors 100%',
    ].join(' ');
  }
}

const COMMAND = {
  schemaVersion: '2.2',
  description: 'Puts mirror gateways on netfilter (rollback) or on XDP (attach) in place',
  parameters: {
    Verb: { type: 'String', description: 'rollback: netfilter; attach: XDP', allowedValues: VERBS },
  },
  mainSteps: [
    {
      name: 'switch',
      action: 'aws:runShellScript',
      // SSM puts one of the two allowed words there, and reports what the last command answers: hence one.
      inputs: { timeoutSeconds: '120', runCommand: [`${DEPLOY_SCRIPT} {{ Verb }} && ${DEPLOY_SCRIPT} health`] },
    },
  ],
};
