// SPDX-License-Identifier: Apache-2.0
// What is known of an instance type. Its name alone tells its architecture, whether it has an ENA interface, and whether it is
// one the project recommends: names are decoded by rule, so that a type released tomorrow needs no new table. Its bandwidth is
// what AWS publishes (instances.json, which the sizing model of bench/ reads as well).
import published from './instances.json';

export type Architecture = 'amd64' | 'arm64';

const TYPE = /^(?<family>[a-z]+(?:-[0-9]+[a-z]+)?)(?<generation>[0-9]+)(?<attributes>[a-z0-9-]*)\.(?<size>[a-z0-9-]+)$/;
const SIZE = /^(?:nano|micro|small|medium|large|xlarge|[1-9][0-9]*xlarge|metal(?:-[1-9][0-9]*xl)?)$/;

// Previous generations whose only interfaces are Xen netfront or Intel's ixgbevf.
const WITHOUT_ENA = /^(?:c[134]|cc2|cg1|cr1|d2|g2|hi1|hs1|i2|m[1-4]|r3|t[12])$/;
const M4_WITH_ENA = 'm4.16xlarge';

interface ParsedType {
  readonly family: string;
  readonly series: string;
  readonly attributes: string;
}

function parse(instanceType: string): ParsedType | undefined {
  const groups = TYPE.exec(instanceType)?.groups;
  if (!groups || !SIZE.test(groups.size ?? '')) return undefined;
  const { family = '', generation = '', attributes = '' } = groups;
  return { family, series: family + generation, attributes };
}

/** Why no gateway can run on this type, in a few words; undefined when one can. */
export function instanceTypeProblem(instanceType: string): string | undefined {
  const parsed = parse(instanceType);
  if (!parsed) return 'it is not of the form family.size';
  if (parsed.family === 'mac') return 'mac hosts run macOS only';
  if (instanceType === M4_WITH_ENA) return undefined;
  if (WITHOUT_ENA.test(parsed.series + parsed.attributes)) return `${parsed.series} has no ENA interface`;
  return undefined;
}

/** The architecture an image for this type must have. */
export function architectureOf(instanceType: string): Architecture {
  const parsed = parse(instanceType);
  // After the generation, "g" means Graviton; "g4dn" has its letter before and is x86.
  const arm = parsed !== undefined && (parsed.series === 'a1' || parsed.attributes.includes('g'));
  return arm ? 'arm64' : 'amd64';
}

/** c5n and m5n: the network-optimised types the project was designed and sized for. */
export function isRecommended(instanceType: string): boolean {
  return /^(?:c5n|m5n)\./.test(instanceType);
}

/** Network bandwidth in either direction, in Gbit/s. */
export interface Bandwidth {
  /** For as long as it takes. */
  readonly baselineGbps: number;
  /** While network I/O credits last ("up to"); the same as the baseline for types without. */
  readonly burstGbps: number;
}

const BANDWIDTHS: ReadonlyMap<string, Bandwidth> = new Map(published.instances.map((each) => [each.type, each]));

/** Published bandwidth; undefined for types that instances.json lacks. It has every size of the recommended families. */
export function bandwidthOf(instanceType: string): Bandwidth | undefined {
  return BANDWIDTHS.get(instanceType);
}
