// SPDX-License-Identifier: Apache-2.0
// Where STAND_IN_URL names a stand-in for AWS (lab/aws/rollout-endpoint.ts), the provider's stand-in does there what the
// real provider does with a launch template, an Auto Scaling group and a function's invocation. Sources, all in
// https://github.com/hashicorp/terraform-provider-aws/tree/main/internal/service: ec2/launch_template.go,
// autoscaling/group.go (an update first saves the template's version, then starts the refresh, with a desired configuration
// only where auto_rollback is set), lambda/invocation.go (CREATE_ONLY is made anew when its input changes).
import { UserError } from '../../constructs/config/user-error';
import { type Fields, isFields, type Value } from './value';

export interface AppliedResource {
  readonly type: string;
  readonly prior: Value;
  readonly planned: Value;
  /** What the state would be without AWS. */
  readonly state: Value;
}

interface Answer {
  readonly VersionNumber?: number;
  readonly AutoScalingGroups?: readonly { readonly LaunchTemplate: { readonly Version: string } }[];
}

export class AwsEndpoint {
  constructor(private readonly url: string) {}

  /** The state after AWS did its part. */
  async applied(change: AppliedResource): Promise<Value> {
    switch (change.type) {
      case 'aws_launch_template':
        return this.template(change);
      case 'aws_autoscaling_group':
        return this.group(change);
      case 'aws_lambda_invocation':
        return this.invocation(change);
      default:
        return change.state;
    }
  }

  /** The state as AWS has it now. */
  async read(type: string, state: Value): Promise<Value> {
    if (type !== 'aws_autoscaling_group' || !isFields(state)) return state;
    const { AutoScalingGroups: [found] = [] } = await this.call('DescribeAutoScalingGroups', {});
    if (!found) return null;
    return withVersion(state, found.LaunchTemplate.Version);
  }

  private async template({ prior, planned, state }: AppliedResource): Promise<Value> {
    if (!isFields(planned) || !isFields(state)) return state;
    if (isFields(prior) && prior.latest_version === planned.latest_version) return state;
    const action = isFields(prior) ? 'CreateLaunchTemplateVersion' : 'CreateLaunchTemplate';
    const description = textOf(planned.description);
    const answer = await this.call(action, { 'LaunchTemplateVersion.VersionDescription': description });
    const number = answer.VersionNumber ?? 0;
    return { ...state, latest_version: number, default_version: number };
  }

  private async group({ prior, planned, state }: AppliedResource): Promise<Value> {
    if (!isFields(planned)) {
      await this.call('UpdateAutoScalingGroup', { MaxSize: '0', DesiredCapacity: '0' });
      await this.call('DeleteAutoScalingGroup', {});
      return state;
    }
    const version = versionOf(planned);
    const template = { 'LaunchTemplate.LaunchTemplateId': 'lt-stand-in', 'LaunchTemplate.Version': version };
    if (!isFields(prior)) {
      const size = { DesiredCapacity: textOf(planned.desired_capacity), MaxSize: textOf(planned.max_size) };
      await this.call('CreateAutoScalingGroup', { AutoScalingGroupName: textOf(planned.name), ...size, ...template });
      return state;
    }
    if (versionOf(prior) === version) return state;
    await this.call('UpdateAutoScalingGroup', template);
    const [refresh] = (planned.instance_refresh ?? []) as readonly Fields[];
    if (refresh) await this.call('StartInstanceRefresh', startOf(refresh, version));
    return state;
  }

  private async invocation({ prior, planned, state }: AppliedResource): Promise<Value> {
    const fields = isFields(planned) ? planned : isFields(prior) ? prior : {};
    const crud = fields.lifecycle_scope === 'CRUD';
    if (!isFields(planned) && !crud) return state;
    const input = JSON.parse(textOf(fields.input)) as object;
    const action = !isFields(planned) ? 'delete' : isFields(prior) ? 'update' : 'create';
    const result = await this.invoke(textOf(fields.function_name), crud ? { ...input, tf: { action } } : input);
    return isFields(state) ? { ...state, result } : state;
  }

  private async call(action: string, parameters: Readonly<Record<string, string>>): Promise<Answer> {
    const body = new URLSearchParams({ Action: action, ...parameters });
    const response = await fetch(this.url, { method: 'POST', body, headers: { accept: 'application/json' } });
    const text = await response.text();
    if (response.ok) return JSON.parse(text) as Answer;
    const [, code = '', message = ''] = /<Code>(.*?)<\/Code><Message>(.*?)<\/Message>/.exec(text) ?? [];
    throw new UserError(`${action}: ${code}: ${message}`);
  }

  private async invoke(name: string, payload: object): Promise<string> {
    const url = `${this.url}/2015-03-31/functions/${encodeURIComponent(name)}/invocations`;
    const response = await fetch(url, { method: 'POST', body: JSON.stringify(payload) });
    const text = await response.text();
    if (response.headers.has('x-amz-function-error'))
      throw new UserError(`invoking Lambda Function (${name}): ${text}`);
    return text;
  }
}

function startOf(refresh: Fields, version: string): Record<string, string> {
  const [preferences = {}] = (refresh.preferences ?? []) as readonly Fields[];
  const [specification = {}] = (preferences.alarm_specification ?? []) as readonly Fields[];
  const alarms = ((specification.alarms ?? []) as readonly string[]).map((name, index): [string, string] => [
    `Preferences.AlarmSpecification.Alarms.member.${index + 1}`,
    name,
  ]);
  const goesBack = preferences.auto_rollback === true;
  return {
    'Preferences.AutoRollback': String(goesBack),
    ...(goesBack && { 'DesiredConfiguration.LaunchTemplate.Version': version }),
    ...Object.fromEntries(alarms),
  };
}

function textOf(value: Value | undefined): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}

function versionOf({ launch_template: blocks = [] }: Fields): string {
  const [first = {}] = (blocks ?? []) as readonly Fields[];
  return textOf(first.version);
}

function withVersion(state: Fields, version: string): Fields {
  const blocks = (state.launch_template ?? []) as readonly Fields[];
  return { ...state, launch_template: blocks.map((block) => ({ ...block, version })) };
}
