// SPDX-License-Identifier: Apache-2.0
// The one place where a setting is named, defaulted, bounded and explained; numbers that programs of an instance read as well
// are in userdata/settings.json.
import type { z } from 'zod';
import { settings } from '../../userdata/settings.json';
import * as kind from './values';
import { show } from './values';
import { FILTER_CIDRS, LARGEST_IN_DRIVER_MODE } from './limits';
import { DEFAULT_NAME, LONGEST_NAME } from './names';
import { ASSUMED_GBPS, SCALING_SHARE } from './rates';

/** What a reader needs to know about a key. */
export interface KeyDoc {
  /** What the key means. */
  readonly meaning: string;
  /** Completes "must be ...". */
  readonly allowed: string;
  /** Where the bounds come from, when they are not our own choice. */
  readonly limit?: string;
  readonly unit?: string;
}

export interface Key<T> extends KeyDoc {
  readonly type: 'boolean' | 'integer' | 'string' | 'list of strings';
  readonly schema: z.ZodType<T>;
  /** Undefined: the key must be given. Optional keys say in `meaning` what happens without them. */
  readonly default?: T | null;
}

/** An entry of userdata/settings.json. */
interface NumberOfInstance extends Omit<KeyDoc, 'allowed'> {
  readonly min: number;
  readonly max: number;
  readonly default?: number;
}

type Bounds = readonly [min: number, max: number];

const flag = (byDefault: boolean, doc: Omit<KeyDoc, 'allowed'>): Key<boolean> => ({
  ...doc,
  type: 'boolean',
  allowed: 'true or false',
  schema: kind.flag(),
  default: byDefault,
});

const integer = ([min, max]: Bounds, doc: Omit<KeyDoc, 'allowed'>, byDefault?: number): Key<number> => ({
  ...doc,
  type: 'integer',
  allowed: `a whole number from ${min} to ${max}${doc.unit ? `, in ${doc.unit}` : ''}`,
  schema: kind.wholeNumber(min, max, doc.limit),
  default: byDefault,
});

const optionalInteger = (bounds: Bounds, doc: Omit<KeyDoc, 'allowed'>): Key<number | undefined> => {
  const { allowed, ...key } = integer(bounds, doc);
  return { ...key, allowed: `${allowed}, or empty`, default: null };
};

const oneOf = <const Words extends readonly [string, ...string[]]>(
  words: Words,
  doc: Omit<KeyDoc, 'allowed'>,
): Key<Words[number]> => ({
  ...doc,
  type: 'string',
  allowed: `one of ${words.join(', ')}`,
  schema: kind.choice(words),
  default: words[0],
});

const text = (check: kind.Check, doc: KeyDoc, byDefault?: string): Key<string> => ({
  ...doc,
  type: 'string',
  schema: kind.text(check),
  default: byDefault,
});

const optional = (check: kind.Check, doc: KeyDoc): Key<string | undefined> => ({
  ...doc,
  type: 'string',
  schema: kind.text(check),
  default: null,
});

const listOf = (check: kind.Check, [min, max]: Bounds, doc: KeyDoc): Key<readonly string[]> => ({
  ...doc,
  type: 'list of strings',
  schema: kind.list(check, min, max),
  default: min === 0 ? [] : undefined,
});

/** What CloudWatch Logs accepts (PutRetentionPolicy). */
const RETENTION_DAYS = [
  1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
];

const retention: Key<number> = {
  meaning: 'how long logs are kept',
  unit: 'days',
  type: 'integer',
  allowed: `one of ${RETENTION_DAYS.join(', ')}, in days`,
  limit: 'CloudWatch Logs',
  schema: kind.numberOf(RETENTION_DAYS),
  default: 7,
};

/** Numbers that the programs of an instance read too. */
export const INSTANCE_NUMBERS = Object.keys(settings) as readonly (keyof typeof settings)[];

const instanceNumbers = Object.fromEntries(
  Object.entries<NumberOfInstance>(settings).map(([key, { min, max, default: value, ...doc }]) => [
    key,
    integer([min, max], doc, value),
  ]),
) as Record<keyof typeof settings, Key<number>>;

export const KEYS = {
  enable_xdp: flag(true, { meaning: 'XDP engine (true), or the legacy netfilter path (false)' }),
  xdp_engine: oneOf(['auto', 'direct', 'bridge'], {
    meaning:
      'where the XDP program hooks in: direct at the primary interface, bridge at br0; auto begins with direct, which ' +
      'gives way to bridge where it is refused',
  }),
  xdp_mode: oneOf(['auto', 'driver', 'generic'], {
    meaning:
      'direct in the network driver, or generic in the kernel; auto begins in the driver where the interfaces allow it and ' +
      `max_packet_size is at most ${LARGEST_IN_DRIVER_MODE}`,
  }),
  aws_ipsec_vm_ip: text(kind.hostAddress, {
    meaning: 'address of the IPsec VM that matching datagrams go to',
    allowed: 'the unicast IPv4 address of the IPsec VM, such as 10.0.1.95',
  }),
  ...instanceNumbers,
  egress_cidrs: listOf(
    kind.cidr({ refuseAll: 'the default route stays on the primary interface', unicastOnly: true }),
    [0, 32],
    {
      meaning: 'further prefixes routed out of the secondary interface',
      allowed: 'up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated',
    },
  ),
  region: text(kind.region, {
    meaning: 'AWS region of the stack',
    allowed: 'the code of an AWS region, such as eu-central-1',
  }),
  vpc_id: text(kind.awsId('vpc'), {
    meaning: 'VPC of the gateways',
    allowed: 'a VPC id: vpc- and 8 or 17 hexadecimal digits (0-9, a-f)',
  }),
  private_subnet_ids: listOf(kind.awsId('subnet'), [1, 16], {
    meaning: 'private subnets of the gateways and the load balancer, one per availability zone',
    allowed: '1 to 16 comma-separated subnet ids: subnet- and 8 or 17 hexadecimal digits (0-9, a-f)',
  }),
  secondary_subnet_ids: listOf(kind.awsId('subnet'), [0, 16], {
    meaning:
      "subnets of the second interfaces, one for each zone of private_subnet_ids; unset: the gateway's own subnet",
    allowed: 'up to 16 comma-separated subnet ids: subnet- and 8 or 17 hexadecimal digits (0-9, a-f)',
  }),
  management_cidrs: listOf(kind.cidr(), [0, 20], {
    meaning: 'networks beside the VPC and S3 that gateways reach on ports 80 and 443: package mirrors, AWS APIs',
    allowed: 'up to 20 IPv4 prefixes such as 10.0.0.0/8, comma-separated',
    limit: 'rules per security group',
  }),
  base_ami: optional(kind.awsId('ami'), {
    meaning: 'image of the gateways; unset: the current Debian 13 image, which a production fleet should pin',
    allowed: 'an AMI id: ami- and 8 or 17 hexadecimal digits (0-9, a-f), or empty',
  }),
  ec2_instance_type: text(
    kind.instanceType,
    {
      meaning: 'instance type of the gateways',
      allowed: 'an EC2 instance type with an ENA interface, such as c5n.large',
    },
    'c5n.large',
  ),
  min_instances: integer([1, 500], { meaning: 'smallest and initial number of gateways' }, 1),
  mirroring_instance_count: integer([0, 500], { meaning: 'largest number of gateways, but at least 2' }, 2),
  pps_scaling_target: optionalInteger([1, 100_000_000], {
    meaning:
      'the group adds gateways above this rate per gateway, and removes them below; unset: ' +
      `${SCALING_SHARE * 100} % of what the baseline bandwidth of ec2_instance_type (constructs/config/instances.json, or else ` +
      `${ASSUMED_GBPS} Gbit/s) carries in datagrams of min_packet_size + 1 bytes; take less for larger ones`,
    unit: 'packets/s',
  }),
  mirror_source_eni_ids: listOf(kind.awsId('eni'), [0, 1000], {
    meaning: 'network interfaces whose traffic is mirrored',
    allowed: 'comma-separated network interface ids: eni- and 8 or 17 hexadecimal digits (0-9, a-f)',
  }),
  mirror_session_number: integer(
    [1, 32766],
    {
      meaning: 'rank of our mirror session among those of one interface; the lowest that wants a packet gets it',
      limit: 'CreateTrafficMirrorSession',
    },
    1,
  ),
  mirror_filter_cidrs: listOf(kind.cidr(), [0, FILTER_CIDRS], {
    meaning: 'networks whose datagrams the mirror filter accepts; empty: all',
    allowed: `up to ${FILTER_CIDRS} IPv4 prefixes such as 10.0.0.0/8, comma-separated`,
    limit: 'a mirror filter has 10 rules, and each network needs one for either direction',
  }),
  mirror_source_cidrs: listOf(
    kind.cidr({ refuseAll: 'it would open port 4789 to everybody', unicastOnly: true }),
    [0, 50],
    {
      meaning: 'networks that may send to UDP port 4789; empty: the primary CIDR block of the VPC',
      allowed: 'up to 50 IPv4 prefixes such as 10.0.0.0/16, comma-separated',
      limit: 'rules per security group',
    },
  ),
  pps_alarm_threshold: integer(
    [1, 100_000_000],
    {
      meaning:
        'the alarm xdp-packet-processing-rate fires below this rate; the synth says where the instance type cannot reach it',
      unit: 'packets/s',
    },
    1_000_000,
  ),
  alarm_topic_arn: optional(kind.topicArn, {
    meaning: 'SNS topic that alarms are sent to; unset: none',
    allowed: 'the ARN of an SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME, or empty',
  }),
  alarm_email: optional(kind.email, {
    meaning: 'e-mail address that alarms are sent to; unset: none',
    allowed: 'an e-mail address such as oncall@example.com, or empty',
  }),
  log_retention_days: retention,
  deletion_protection: flag(true, { meaning: 'whether AWS refuses to delete the load balancer' }),
  state_bucket: optional(kind.bucketName, {
    meaning: 'S3 bucket of the Terraform state, locked while in use; unset: local state',
    allowed: 'the name of an S3 bucket: 3 to 63 of a-z, 0-9, "-" and ".", or empty',
    limit: 'S3',
  }),
  state_key: optional(kind.objectKey, {
    meaning: "key of the state in state_bucket; unset: the stack's name with /terraform.tfstate",
    allowed: "an S3 object key of letters, digits and !_.*'()/- such as mirror-gateway/terraform.tfstate, or empty",
    limit: 'S3',
  }),
  state_region: optional(kind.region, {
    meaning: 'region of state_bucket; unset: the value of region',
    allowed: 'the code of an AWS region, such as eu-central-1, or empty',
  }),
  name_prefix: text(
    kind.firstNamePart(LONGEST_NAME),
    {
      meaning: 'first part of every resource name',
      allowed: `1 to ${LONGEST_NAME} of a-z, 0-9 and single hyphens, beginning with a letter`,
      limit: 'name of a load balancer',
    },
    DEFAULT_NAME,
  ),
  environment: optional(kind.namePart(LONGEST_NAME), {
    meaning: 'second part of every resource name, and tag Environment; unset: neither',
    allowed: `1 to ${LONGEST_NAME} of a-z, 0-9 and single hyphens, beginning with a letter, or empty`,
    limit: 'name of a load balancer',
  }),
  product: text(
    kind.tagValue,
    { meaning: 'tag Product', allowed: '1 to 256 letters, digits, blanks and _.:/=+@-', limit: 'AWS tags' },
    'mirror-gateway',
  ),
  component: text(
    kind.tagValue,
    { meaning: 'tag Component', allowed: '1 to 256 letters, digits, blanks and _.:/=+@-', limit: 'AWS tags' },
    'xdp-packet-processor',
  ),
};

export type ConfigKey = keyof typeof KEYS;

/** Every setting, valid by itself and together with the others, under the name it has in cdktf.json. */
export type GatewayConfig = {
  readonly [K in ConfigKey]: (typeof KEYS)[K] extends Key<infer T> ? T : never;
};

export const CONFIG_KEYS = Object.keys(KEYS) as readonly ConfigKey[];

export const ENV_PREFIX = 'MIRROR_GATEWAY_';

/** The environment variable that overrides a key. */
export function envName(key: ConfigKey): string {
  return ENV_PREFIX + key.toUpperCase();
}

/** A line per key for people: what the table of docs/settings.md is made of. */
export function describeKeys(): readonly (KeyDoc & { key: ConfigKey; type: string; byDefault: string })[] {
  return CONFIG_KEYS.map((key) => {
    const { meaning, allowed, limit, unit, type, default: value }: Key<unknown> = KEYS[key];
    const unset = value === null || (Array.isArray(value) && value.length === 0);
    return {
      key,
      type,
      meaning,
      allowed,
      limit,
      unit,
      byDefault: unset ? 'unset' : show(value ?? 'required').replaceAll('"', ''),
    };
  });
}
