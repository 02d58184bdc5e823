// SPDX-License-Identifier: Apache-2.0
// `make plan`: what `cdktf diff` shows before a first deployment, for people who have no AWS account at hand. The cdktf
// and the Terraform are real; the AWS provider is the stand-in beside this file.
import { Project, terraformMissing } from './project';

/** One line of the plan is the user data. Nobody reads 20 000 characters of base64. */
const WIDEST = 400;
const NOTICE =
  'The AWS provider of this plan is a stand-in (lab/terraform): names, types and references are checked, AWS itself ' +
  'validated nothing. It was made without state, in a copy of the project that is gone now.';

function shortened(line: string): string {
  return line.length <= WIDEST ? line : `${line.slice(0, WIDEST)}… (${line.length - WIDEST} more characters)`;
}

/** The operator's settings, except for the state: a bucket would need an account. */
function variables(): NodeJS.ProcessEnv {
  const given = Object.entries(process.env).filter(([name]) => name.startsWith('MIRROR_GATEWAY_'));
  const colour = process.stdout.isTTY && !process.env.NO_COLOR ? { TF_CLI_ARGS: '' } : {};
  return { ...Object.fromEntries(given), ...colour, MIRROR_GATEWAY_STATE_BUCKET: '' };
}

async function main(): Promise<number> {
  const missing = terraformMissing();
  if (missing) {
    console.error(`plan: ${missing} (https://developer.hashicorp.com/terraform/install)`);
    return 1;
  }
  const project = new Project();
  process.on('exit', () => project.remove());
  for (const [signal, number] of [['SIGINT', 2] as const, ['SIGTERM', 15] as const]) {
    process.on(signal, () => process.exit(128 + number));
  }
  const { code } = await project.cdktf(['diff'], variables(), (line) => console.log(shortened(line)));
  if (code === 0) console.log(`\n${NOTICE}`);
  return code;
}

main().then(
  (code) => (process.exitCode = code),
  (error: unknown) => {
    console.error(`plan: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  },
);
