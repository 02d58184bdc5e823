// SPDX-License-Identifier: Apache-2.0
// `npm run rollout`: follows the rollout that runs, or tells how the last one ended. AWS is asked with the caller's own
// credentials; where they are kept is the SDK's business.
import {
  AutoScalingClient,
  DescribeAutoScalingGroupsCommand,
  DescribeInstanceRefreshesCommand,
  type InstanceRefresh,
} from '@aws-sdk/client-auto-scaling';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { REPOSITORY } from '../user-data/bundle';
import { loadConfig } from '../config/load';
import { baseName } from '../config/names';
import { UserError } from '../config/user-error';

const PAUSE_MS = 10_000;

const WORDS: Readonly<Record<string, string>> = {
  Pending: 'begins',
  InProgress: 'is being rolled out',
  Baking: 'is being rolled out',
  Cancelling: 'is being cancelled',
  RollbackInProgress: 'is being rolled back',
  Successful: 'succeeded',
  RollbackSuccessful: 'was rolled back',
  RollbackFailed: 'FAILED, and could not be rolled back',
  Cancelled: 'was cancelled',
  Failed: 'FAILED',
};
const ACTIVE = ['Pending', 'InProgress', 'Baking', 'Cancelling', 'RollbackInProgress'];

export interface Following {
  readonly client: AutoScalingClient;
  readonly group: string;
  readonly say: (line: string) => void;
  readonly sleep: (milliseconds: number) => Promise<void>;
}

/** One line, without the time. */
export function described(refresh: InstanceRefresh, saved: string): string {
  const { Status = '', DesiredConfiguration, PercentageComplete = 0, InstancesToUpdate, StatusReason } = refresh;
  const version = DesiredConfiguration?.LaunchTemplate?.Version ?? saved;
  const left = InstancesToUpdate ? `, ${InstancesToUpdate} gateways left` : '';
  const progress = ACTIVE.includes(Status) ? `: ${PercentageComplete} %${left}` : '';
  const ended = progress || Status === 'Successful' ? '' : `; the group is saved with version ${saved}`;
  const reason = StatusReason && Status !== 'Successful' ? ` (${StatusReason.replace(/\s+/g, ' ')})` : '';
  return `version ${version} ${WORDS[Status] ?? Status}${progress}${ended}${reason}`;
}

/** Says what changes until the rollout has ended; false where the new version does not run. */
export async function follow({ client, group, say, sleep }: Following): Promise<boolean> {
  const names = { AutoScalingGroupName: group };
  for (let last = ''; ; await sleep(PAUSE_MS)) {
    const groups = await client.send(new DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: [group] }));
    const [found] = groups.AutoScalingGroups ?? [];
    if (!found) throw new UserError(`rollout: no group ${group} in this account and region; is it deployed there?`);
    const refreshes = await client.send(new DescribeInstanceRefreshesCommand({ ...names, MaxRecords: 1 }));
    const [refresh] = refreshes.InstanceRefreshes ?? [];
    const saved = found.LaunchTemplate?.Version ?? '';
    const line = refresh ? described(refresh, saved) : `version ${saved} runs; nothing was rolled out since`;
    if (line !== last) say(line);
    last = line;
    if (!refresh || !ACTIVE.includes(refresh.Status ?? '')) return !refresh || refresh.Status === 'Successful';
  }
}

async function main(): Promise<boolean> {
  const { context } = JSON.parse(fs.readFileSync(path.join(REPOSITORY, 'cdktf.json'), 'utf8')) as {
    context: Record<string, unknown>;
  };
  const config = loadConfig(context, process.env);
  return follow({
    client: new AutoScalingClient({ region: config.region }),
    group: `${baseName(config)}-xdp-asg`,
    say: (line) => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`),
    sleep: (milliseconds) => new Promise((done) => setTimeout(done, milliseconds)),
  });
}

if (require.main === module) {
  main().then(
    (well) => (process.exitCode = well ? 0 : 1),
    (error: unknown) => {
      console.error(error instanceof UserError ? error.message : `rollout: ${String(error)}`);
      process.exitCode = 1;
    },
  );
}
