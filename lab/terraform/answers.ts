// SPDX-License-Identifier: Apache-2.0
// What the stand-in answers where the real provider would ask AWS. There is no AWS here, so each type of data source
// needs an entry of its own: one that nobody thought about must fail, not come back with something invented.
import { architectureOf } from '../../constructs/config/instance-types';
import { UserError } from '../../constructs/config/user-error';
import { ACCOUNT } from './resources';
import { type Fields, isFields, type Value } from './value';

export interface Surroundings {
  readonly region: string;
  /** Of the stack's launch templates. */
  readonly instanceTypes: readonly string[];
}

/** The only interface there is; a gateway's, to whoever asks by security group. */
export const GATEWAY_INTERFACE = 'eni-00000000000000001';

type Answer = (config: Fields, surroundings: Surroundings) => Fields;

const IMAGE = { amd64: 'ami-stand-in-amd64', arm64: 'ami-stand-in-arm64' } as const;
const MACHINE = { amd64: 'x86_64', arm64: 'arm64' } as const;

const ANSWERS: Readonly<Record<string, Answer>> = {
  aws_ami: image,
  aws_caller_identity: () => ({
    account_id: ACCOUNT,
    arn: `arn:aws:iam::${ACCOUNT}:user/stand-in`,
    user_id: 'AIDASTANDIN',
    id: ACCOUNT,
  }),
  aws_network_interfaces: () => ({ ids: [GATEWAY_INTERFACE] }),
  aws_prefix_list: ({ name }) => ({ id: 'pl-stand-in', name: name ?? 'stand-in', cidr_blocks: ['198.51.100.0/24'] }),
  aws_ssm_parameter: parameter,
  aws_vpc: ({ id }) => ({ id: id ?? 'vpc-stand-in', cidr_block: '10.0.0.0/16' }),
};

/** What AWS would say. */
export function answer(type: string, config: Fields, surroundings: Surroundings): Fields {
  const known = ANSWERS[type];
  if (known) return known(config, surroundings);
  throw new UserError(
    `data ${type}: the stand-in for the AWS provider has no answer for this type, only for ` +
      `${Object.keys(ANSWERS).join(', ')}; add one to lab/terraform/answers.ts`,
  );
}

/** An image by its id. Ours tell their architecture; one that somebody pinned has what the stack's instances need. */
function image({ filter = null }: Fields, { instanceTypes }: Surroundings): Fields {
  const wanted = filterValues(filter, 'image-id')[0] ?? IMAGE.amd64;
  const [needed = 'amd64'] = instanceTypes.map(architectureOf);
  const architecture = wanted === IMAGE.amd64 ? 'amd64' : wanted === IMAGE.arm64 ? 'arm64' : needed;
  return { id: wanted, image_id: wanted, architecture: MACHINE[architecture], root_device_name: '/dev/xvda' };
}

function filterValues(filter: Value, name: string): string[] {
  const filters = Array.isArray(filter) ? (filter as readonly Value[]).filter(isFields) : [];
  const values = filters.find((each) => each.name === name)?.values;
  return Array.isArray(values) ? (values as readonly Value[]).filter((value) => typeof value === 'string') : [];
}

/** An image: the names that publishers give their images' ids tell the architecture. */
function parameter({ name }: Fields): Fields {
  const value = typeof name === 'string' && /\barm64\b/.test(name) ? IMAGE.arm64 : IMAGE.amd64;
  return { value, insecure_value: value, type: 'String', version: 1 };
}
