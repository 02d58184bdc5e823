// SPDX-License-Identifier: Apache-2.0
// The kinds of value a configuration key can hold, as zod schemas that also take what a shell or a CI system delivers
// (everything a string), and the IPv4 arithmetic behind them. config.ts gives the kinds their names and bounds.
import { z } from 'zod';
import { instanceTypeProblem } from './instance-types';

const MAX_SHOWN = 120;

/** A value as people typed it, on one line and not too long. */
export function show(value: unknown): string {
  // JSON escapes what would break the line or hide in a terminal, except the separators above ASCII.
  const json = (JSON.stringify(value) ?? String(value)).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return json.length > MAX_SHOWN ? `${json.slice(0, MAX_SHOWN)}...` : json;
}

/** Stands where there is nothing to add to what is allowed: zod replaces an empty message by one of its own. */
export const NO_REASON = 'no reason';

// zod's own messages never reach the reader: config.ts prints what is allowed and appends the reason given here.
function refuse(context: z.RefinementCtx, reason: string): typeof z.NEVER {
  context.addIssue({ code: 'custom', message: reason || NO_REASON });
  return z.NEVER;
}

const BOOLEAN_SLIPS: Record<string, string> = {
  yes: 'true',
  y: 'true',
  on: 'true',
  '1': 'true',
  enabled: 'true',
  no: 'false',
  n: 'false',
  off: 'false',
  '0': 'false',
  disabled: 'false',
};

/** true, false, "true" or "false". */
export const flag = () =>
  z.unknown().transform((value, context): boolean => {
    if (value === true || value === 'true') return true;
    if (value === false || value === 'false') return false;
    const typed = String(value).trim().toLowerCase();
    const meant = typed === 'true' || typed === 'false' ? typed : BOOLEAN_SLIPS[typed];
    return refuse(context, meant ? `write ${meant}` : '');
  });

function wholeNumberSlip(value: unknown): string {
  if (typeof value !== 'string' && typeof value !== 'number') return '';
  const typed = String(value).trim();
  if (typed === '') return 'it is empty';
  if (/^[+-]?[0-9]+\.[0-9]+$/.test(typed)) return 'fractions are not accepted';
  const digits = typed.replace(/[\s,_'+]/g, '').replace(/^0+(?=[0-9])/, '');
  return /^[0-9]+$/.test(digits) ? `write ${digits}` : '';
}

/** A number, or a string of plain decimal digits, between two bounds that `limit` gives the reason for. */
export const wholeNumber = (min: number, max: number, limit = '') =>
  z.unknown().transform((value, context): number => {
    const plain = typeof value === 'string' && /^-?(?:0|[1-9][0-9]{0,15})$/.test(value) ? Number(value) : value;
    if (typeof plain !== 'number' || !Number.isSafeInteger(plain)) return refuse(context, wholeNumberSlip(value));
    return plain < min || plain > max ? refuse(context, limit) : plain;
  });

/** One of a few numbers. */
export const numberOf = (numbers: readonly number[]) =>
  z.unknown().transform((value, context): number => {
    const found = numbers.find((number) => number === value || String(number) === value);
    if (found !== undefined) return found;
    const typed = value === '' ? NaN : Number(value);
    if (Number.isNaN(typed)) return refuse(context, '');
    const larger = numbers.find((number) => number > typed);
    return refuse(context, larger ? `the next one is ${larger}` : `the largest is ${Math.max(...numbers)}`);
  });

/** One of a few words. */
export const choice = <const Words extends readonly [string, ...string[]]>(words: Words) =>
  z.unknown().transform((value, context): Words[number] => {
    const found = words.find((word) => word === value);
    if (found !== undefined) return found;
    const meant = words.find((word) => word === String(value).trim().toLowerCase());
    return refuse(context, meant ? `write ${meant}` : '');
  });

/** Says why a string is wrong ('' when there is nothing to add to what is allowed), or undefined when it is right. */
export type Check = (value: string) => string | undefined;

/** A string that passes a check. */
export const text = (check: Check) =>
  z.unknown().transform((value, context): string => {
    if (typeof value !== 'string') return refuse(context, 'it is not a string');
    const reason = check(value);
    if (reason === undefined) return value;
    const trimmed = value.trim();
    if (trimmed !== value && check(trimmed) === undefined) return refuse(context, 'remove the blanks around it');
    return refuse(context, reason);
  });

/** An array, or a comma-separated string, of strings that each pass a check, none of them twice. */
export const list = (check: Check, min: number, max: number) =>
  z.unknown().transform((value, context): readonly string[] => {
    const items = splitList(value);
    if (items === undefined) return refuse(context, 'write one,two,three or a JSON array of strings');
    if (items.length < min) return refuse(context, 'it is empty');
    if (items.length > max) return refuse(context, `it has ${items.length} entries`);
    for (const [index, item] of items.entries()) {
      const reason = items.indexOf(item) === index ? check(item) : 'it occurs twice';
      if (reason === undefined) continue;
      return refuse(context, `entry ${index + 1} is ${show(item)}${reason && `: ${reason}`}`);
    }
    return items;
  });

function splitList(value: unknown): string[] | undefined {
  if (Array.isArray(value)) return value.every((item) => typeof item === 'string') ? value : undefined;
  if (typeof value !== 'string' || value.trim().startsWith('[')) return undefined;
  return value.trim() === '' ? [] : value.split(',').map((item) => item.trim());
}

/** An AWS resource id: prefix, then 8 (old) or 17 hexadecimal digits. */
export const awsId =
  (prefix: string): Check =>
  (value) => {
    if (new RegExp(`^${prefix}-(?:[0-9a-f]{8}|[0-9a-f]{17})$`).test(value)) return undefined;
    if (value === '') return 'it is empty';
    const other = /^([a-z]+)-[0-9a-f]{8,17}$/.exec(value)?.[1];
    if (other !== undefined && other !== prefix) return `${other}- begins the id of another kind of resource`;
    const digits = new RegExp(`^${prefix}-([0-9a-f]*)$`).exec(value)?.[1];
    return digits === undefined ? '' : `it has ${digits.length} digits`;
  };

/** The address as a number, or undefined unless it is four plain decimal bytes. */
export function parseIpv4(value: string): number | undefined {
  if (!/^(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})$/.test(value)) return undefined;
  const bytes = value.split('.').map(Number);
  if (bytes.some((byte) => byte > 255)) return undefined;
  return bytes.reduce((address, byte) => address * 256 + byte, 0);
}

/** Whether the first prefix holds the second, or is the same. */
export function contains(outer: string, inner: string): boolean {
  const [a, b] = [outer, inner].map(rangeOf);
  return a !== undefined && b !== undefined && a.first <= b.first && b.last <= a.last;
}

/** Whether two prefixes share an address. */
export function overlap(one: string, other: string): boolean {
  return contains(one, other) || contains(other, one);
}

function rangeOf(cidr: string): Block | undefined {
  const [host = '', length = '32'] = cidr.split('/');
  const address = parseIpv4(host);
  return address === undefined ? undefined : block(address, Number(length));
}

function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

interface Block {
  readonly first: number;
  readonly last: number;
}

function block(address: number, prefixLength: number): Block {
  const size = 2 ** (32 - prefixLength);
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1 };
}

// No unicast packet can be sent there from a VPC; 169.254/16 also holds IMDS, DNS and NTP, which must stay reachable.
const RESERVED: readonly (readonly [cidr: string, name: string])[] = [
  ['0.0.0.0/8', '"this network"'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved or broadcast'],
];

function reservedName(range: Block): string | undefined {
  for (const [cidr, name] of RESERVED) {
    const [address = '', prefixLength = ''] = cidr.split('/');
    const reserved = block(parseIpv4(address) ?? 0, Number(prefixLength));
    if (range.first <= reserved.last && reserved.first <= range.last) return name;
  }
  return undefined;
}

/** A unicast IPv4 address of a host. */
export const hostAddress: Check = (value) => {
  const address = parseIpv4(value);
  if (address !== undefined) {
    const name = reservedName({ first: address, last: address });
    return name && `that address is ${name}`;
  }
  const [host = '', rest] = value.split(/[:/]/);
  if (rest !== undefined && parseIpv4(host) !== undefined) {
    return value.includes('/') ? 'leave the prefix length out' : 'the port goes into aws_ipsec_vm_port';
  }
  if (/^[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*$/i.test(value)) return 'IPv6 is not supported';
  if (/^[a-z]/i.test(value)) return 'names are not resolved';
  return /(?:^|\.)0[0-9]/.test(value) ? 'leading zeros are ambiguous' : '';
};

export interface CidrRules {
  /** Whether 0.0.0.0/0 is a sensible entry; why not, if not. */
  readonly refuseAll?: string;
  /** Whether ranges no unicast packet is sent to are refused. */
  readonly unicastOnly?: boolean;
}

/** An IPv4 prefix without host bits. */
export const cidr =
  ({ refuseAll, unicastOnly = false }: CidrRules = {}): Check =>
  (value) => {
    const [host = '', length, ...more] = value.split('/');
    const address = parseIpv4(host);
    if (host.includes(':')) return 'IPv6 is not supported';
    if (address === undefined || more.length > 0) return '';
    if (length === undefined) return `write ${host}/32 for one address`;
    if (!/^(?:[0-9]|[12][0-9]|3[0-2])$/.test(length)) return 'the prefix length is a number from 0 to 32';
    const range = block(address, Number(length));
    if (range.first !== address) return `it has host bits set, write ${formatIpv4(range.first)}/${length}`;
    if (length === '0' && refuseAll) return refuseAll;
    const reserved = unicastOnly ? reservedName(range) : undefined;
    return reserved && `it covers ${reserved} addresses`;
  };

/** An instance type a gateway can run on. */
export const instanceType: Check = (value) => {
  const problem = instanceTypeProblem(value);
  if (problem === undefined) return undefined;
  const meant = value
    .trim()
    .toLowerCase()
    .replace(/[-_ ](?=[0-9]*x?large$)/, '.');
  return meant !== value && instanceTypeProblem(meant) === undefined ? `write ${meant}` : problem;
};

/** An AWS region's code. */
export const region: Check = (value) => {
  const pattern = /^[a-z]{2,4}(?:-[a-z]+){1,2}-[1-9]$/;
  if (pattern.test(value)) return undefined;
  const meant = value.trim().toLowerCase().replace(/[_ ]/g, '-');
  if (pattern.test(meant)) return `write ${meant}`;
  const zone = /^(.*[1-9])[a-z]$/.exec(meant)?.[1];
  return zone !== undefined && pattern.test(zone) ? `that is an availability zone, write ${zone}` : '';
};

/**
 * Begins every name. SSM refuses documents whose names begin so (CreateDocument: "reserved by Amazon Web Services"), S3 buckets
 * (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html). A name part has small letters only.
 */
export const firstNamePart =
  (maxLength: number): Check =>
  (value) => {
    const [reserved] = /^(?:aws|amazon|amzn|sthree-)/.exec(value) ?? [];
    return reserved ? `AWS reserves names that begin with "${reserved}"` : namePart(maxLength)(value);
  };

/** A piece of a resource name: what every AWS service involved accepts. */
export const namePart =
  (maxLength: number): Check =>
  (value) => {
    if (value.length > maxLength) return `it has ${value.length} characters`;
    // Elastic Load Balancing keeps this prefix for itself.
    if (value.startsWith('internal-')) return 'AWS reserves names that begin with "internal-"';
    // EC2 takes what begins so for the id of a security group.
    if (/^sg(?:-|$)/.test(value)) return 'AWS reserves names that begin with "sg-"';
    if (/^[a-z](?:-?[a-z0-9])*$/.test(value)) return undefined;
    const meant = value
      .trim()
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/^[-0-9]+|-+$/g, '');
    return meant ? `write ${meant}` : '';
  };

/** The value of an AWS tag. */
export const tagValue: Check = (value) => {
  if (value.length > 256) return `it has ${value.length} characters`;
  return /^[A-Za-z0-9](?:[A-Za-z0-9 _.:/=+@-]*[A-Za-z0-9_.:/=+@-])?$/.test(value) ? undefined : '';
};

/** An S3 bucket's name. */
export const bucketName: Check = (value) => {
  if (value.startsWith('s3://')) return 'leave s3:// and the key out; the key goes into state_key';
  if (value.startsWith('arn:')) return 'write the bucket name, not its ARN';
  if (value.length < 3 || value.length > 63) return `it has ${value.length} characters`;
  if (parseIpv4(value) !== undefined) return 'a bucket name cannot look like an IP address';
  return /^[a-z0-9](?:[a-z0-9-]|\.(?!\.))*[a-z0-9]$/.test(value) ? undefined : '';
};

/** An S3 object's key. */
export const objectKey: Check = (value) => {
  if (value.startsWith('/')) return 'leave the leading / out';
  if (value.endsWith('/')) return 'it names a folder, not an object';
  return /^[A-Za-z0-9!_.*'()/-]{1,1000}$/.test(value) ? undefined : '';
};

/** The ARN of an SNS topic. */
export const topicArn: Check = (value) => {
  if (/^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$/.test(value)) return undefined;
  if (/^arn:aws[a-z-]*:sns:[^:]*:[^:]*:[^:]*:./.test(value))
    return 'that is a subscription, write the ARN of its topic';
  const service = /^arn:aws[a-z-]*:([a-z0-9-]+):/.exec(value)?.[1];
  return service !== undefined && service !== 'sns' ? `that ARN belongs to ${service}` : '';
};

/** One e-mail address. */
export const email: Check = (value) => {
  if (/[,;]/.test(value)) return 'one address only; subscribe further ones to alarm_topic_arn';
  if (value.length > 254) return `it has ${value.length} characters`;
  if (/^[^@]*<.*>$/.test(value)) return 'write the bare address, without a name';
  return z.email().safeParse(value).success ? undefined : '';
};
