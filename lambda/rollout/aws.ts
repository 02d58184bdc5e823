// SPDX-License-Identifier: Apache-2.0
// Every call to AWS that the function can make, one method each; the role allows exactly these. Answers are cut down to what
// is used.
import {
  type AutoScalingClient,
  CancelInstanceRefreshCommand,
  DescribeAutoScalingGroupsCommand,
  DescribeInstanceRefreshesCommand,
  type InstanceRefresh,
  StartInstanceRefreshCommand,
} from '@aws-sdk/client-auto-scaling';
import { type CloudWatchClient, DescribeAlarmsCommand } from '@aws-sdk/client-cloudwatch';
import {
  CreateTagsCommand,
  DescribeLaunchTemplatesCommand,
  DescribeLaunchTemplateVersionsCommand,
  type EC2Client,
} from '@aws-sdk/client-ec2';
import { PublishCommand, type SNSClient } from '@aws-sdk/client-sns';
import { codeOf } from '../shared/errors';
import type { Clock } from '../shared/clock';
import type { Configuration } from './configuration';
import type { Group, Refresh } from './decide';

export interface Template {
  readonly wanted: string;
  readonly tags: Readonly<Record<string, string>>;
}

export interface Clients {
  readonly autoScaling: AutoScalingClient;
  readonly cloudWatch: CloudWatchClient;
  readonly ec2: EC2Client;
  readonly sns: SNSClient;
}

/** `raced`: the group is not as it was when we looked. */
export type Done = 'done' | 'raced';

/** More than can end between two looks. */
const LISTED = 20;

/** Of what AWS says when an alarm left OK after we looked (no code of its own). */
const ALARMING = /alarm/i;

function refreshOf(found: InstanceRefresh): Refresh {
  const { Status = '', DesiredConfiguration, RollbackDetails: back } = found;
  return {
    id: found.InstanceRefreshId ?? '',
    status: Status,
    version: DesiredConfiguration?.LaunchTemplate?.Version,
    reason: [...new Set([back?.RollbackReason, found.StatusReason])].filter(Boolean).join(' ').replace(/\s+/g, ' '),
    // A rollback counts back to zero; what had been replaced by then is in its details.
    percent: back?.PercentageCompleteOnRollback ?? found.PercentageComplete ?? 0,
    started: found.StartTime,
    ended: found.EndTime,
  };
}

export class Aws {
  constructor(
    private readonly clients: Clients,
    private readonly configuration: Configuration,
    private readonly clock: Clock,
  ) {}

  async template(): Promise<Template> {
    const command = new DescribeLaunchTemplatesCommand({ LaunchTemplateIds: [this.configuration.template] });
    const [found] = (await this.clients.ec2.send(command, this.limit())).LaunchTemplates ?? [];
    const tags = (found?.Tags ?? []).map(({ Key, Value }): [string, string] => [Key ?? '', Value ?? '']);
    return { wanted: String(found?.DefaultVersionNumber ?? ''), tags: Object.fromEntries(tags) };
  }

  /** What the versions hold, in words; those that are deleted are left out. */
  async descriptions(versions: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const input = { LaunchTemplateId: this.configuration.template, Versions: [...versions] };
    try {
      const answer = await this.clients.ec2.send(new DescribeLaunchTemplateVersionsCommand(input), this.limit());
      const found = answer.LaunchTemplateVersions ?? [];
      return new Map(found.map((each) => [String(each.VersionNumber), each.VersionDescription ?? '']));
    } catch (error) {
      if (codeOf(error) === 'InvalidLaunchTemplateId.VersionNotFound') return new Map();
      throw error;
    }
  }

  async group(): Promise<Group | undefined> {
    const command = new DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: [this.configuration.group] });
    const [found] = (await this.clients.autoScaling.send(command, this.limit())).AutoScalingGroups ?? [];
    if (!found) return undefined;
    const running = (found.Instances ?? []).map(({ LaunchTemplate }) => LaunchTemplate?.Version);
    return {
      saved: found.LaunchTemplate?.Version ?? '',
      running: running.filter((version) => version !== undefined),
      size: found.DesiredCapacity ?? 0,
      going: found.Status !== undefined || found.MaxSize === 0,
    };
  }

  /** Latest first. */
  async refreshes(): Promise<readonly Refresh[]> {
    const input = { AutoScalingGroupName: this.configuration.group, MaxRecords: LISTED };
    const answer = await this.clients.autoScaling.send(new DescribeInstanceRefreshesCommand(input), this.limit());
    return (answer.InstanceRefreshes ?? []).map(refreshOf);
  }

  /** Those of the rollout's alarms that are OK: a refresh that names another does not start. */
  async quietAlarms(): Promise<readonly string[]> {
    const { alarms } = this.configuration;
    if (alarms.length === 0) return [];
    const command = new DescribeAlarmsCommand({ AlarmNames: [...alarms], AlarmTypes: ['MetricAlarm'] });
    const { MetricAlarms = [] } = await this.clients.cloudWatch.send(command, this.limit());
    return MetricAlarms.flatMap(({ AlarmName, StateValue }) => (AlarmName && StateValue === 'OK' ? [AlarmName] : []));
  }

  async cancel(): Promise<Done> {
    const input = {
      AutoScalingGroupName: this.configuration.group,
      // What is being launched need not become healthy first: somebody waits for another version.
      WaitForTransitioningInstances: false,
    };
    try {
      await this.clients.autoScaling.send(new CancelInstanceRefreshCommand(input), this.limit());
      return 'done';
    } catch (error) {
      if (codeOf(error) === 'ActiveInstanceRefreshNotFound') return 'raced';
      throw error;
    }
  }

  async start(version: string, alarms: readonly string[]): Promise<Done> {
    const { group, template, preferences } = this.configuration;
    const command = new StartInstanceRefreshCommand({
      AutoScalingGroupName: group,
      Strategy: 'Rolling',
      DesiredConfiguration: { LaunchTemplate: { LaunchTemplateId: template, Version: version } },
      Preferences: {
        ...preferences,
        AutoRollback: true,
        // Gateways that run the version already stay.
        SkipMatching: true,
        ...(alarms.length > 0 && { AlarmSpecification: { Alarms: [...alarms] } }),
      },
    });
    try {
      await this.clients.autoScaling.send(command, this.limit());
      return 'done';
    } catch (error) {
      const alarming = codeOf(error) === 'ValidationError' && ALARMING.test(String(error));
      if (codeOf(error) === 'InstanceRefreshInProgress' || alarming) return 'raced';
      throw error;
    }
  }

  /** Tags of the template, which are what the function remembers. */
  async remember(tags: Readonly<Record<string, string>>): Promise<void> {
    const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
    const command = new CreateTagsCommand({ Resources: [this.configuration.template], Tags });
    await this.clients.ec2.send(command, this.limit());
  }

  async publish(subject: string, line: string): Promise<void> {
    const { topic } = this.configuration;
    if (!topic) return;
    const command = new PublishCommand({ TopicArn: topic, Subject: subject, Message: line });
    await this.clients.sns.send(command, this.limit());
  }

  private limit() {
    return { abortSignal: AbortSignal.timeout(this.clock.callMs) };
  }
}
