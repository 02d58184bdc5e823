// SPDX-License-Identifier: Apache-2.0
// The user data of a gateway: one gzipped #cloud-config that carries the settings and the bundle, the same bytes on
// every platform, and never more than EC2 takes. What an instance gets is all here: the lab's VM boots from these bytes.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { ungzip } from 'pako';
import { parse } from 'yaml';
import {
  bundleFiles,
  compress,
  decompress,
  gzip,
  gzipBeforeBase64,
  REPOSITORY,
  sha256,
  tarOf,
  TEMPLATE,
  untar,
} from './bundle';
import type { BundleFile } from './bundle';
import type { GatewayConfig } from './config';
import { Problem } from './problem';

export { bundleFiles, REPOSITORY, type BundleFile };

/** The operator's command, where an instance has it. */
export const DEPLOY_SCRIPT = '/opt/ebpf-xdp-processor/userdata/deploy_xdp.sh';

/** EC2's limit for user data, before base64. */
export const USER_DATA_LIMIT = 16384;

const HEADER = '#cloud-config\n';
const ENV_FILE = '/etc/mirror-gateway/gateway.env';
const BUNDLE_FILE = '/var/lib/mirror-gateway/bundle.tar.lzma';

/** The settings an instance needs. */
export type InstanceConfig = Pick<
  GatewayConfig,
  | 'enable_xdp'
  | 'xdp_engine'
  | 'xdp_mode'
  | 'xdp_traffic_percent'
  | 'aws_ipsec_vm_ip'
  | 'aws_ipsec_vm_port'
  | 'target_port'
  | 'min_packet_size'
  | 'max_packet_size'
  | 'vni'
  | 'egress_mtu'
  | 'egress_cidrs'
  | 'health_port'
>;

const ENV_KEYS: readonly (keyof InstanceConfig)[] = [
  'enable_xdp',
  'xdp_engine',
  'xdp_mode',
  'xdp_traffic_percent',
  'aws_ipsec_vm_ip',
  'aws_ipsec_vm_port',
  'target_port',
  'min_packet_size',
  'max_packet_size',
  'vni',
  'egress_mtu',
  'egress_cidrs',
  'health_port',
];

/**
 * The text of /etc/mirror-gateway/gateway.env: KEY=value lines that systemd, a shell and a plain reader understand alike.
 *
 * @throws Problem when a value holds anything one of them would interpret, as only unvalidated settings can
 */
export function renderGatewayEnv(config: InstanceConfig): string {
  return ENV_KEYS.map((key) => `${key.toUpperCase()}=${plain(key, config[key])}\n`).join('');
}

function plain(key: string, value: InstanceConfig[keyof InstanceConfig]): string {
  const rendered = String(value);
  if (/^[A-Za-z0-9.,/]*$/.test(rendered)) return rendered;
  throw new Problem(`gateway.env: ${key} = ${JSON.stringify(rendered)} may hold only letters, digits and .,/`);
}

interface WriteFile {
  readonly path: string;
  content: string;
}

export interface CloudConfig {
  readonly write_files: WriteFile[];
  readonly [module: string]: unknown;
}

function fillIn(cloudConfig: CloudConfig, file: string, content: string): void {
  const entry = cloudConfig.write_files.find((candidate) => candidate.path === file);
  if (!entry) throw new Problem(`user data: ${TEMPLATE} has no write_files entry for ${file}`);
  entry.content = content;
}

function template(): CloudConfig {
  return parse(fs.readFileSync(path.join(REPOSITORY, TEMPLATE), 'utf8')) as CloudConfig;
}

/** Whatever its size. */
function compressedCloudConfig(config: InstanceConfig, files: readonly BundleFile[]): Buffer {
  const cloudConfig = template();
  fillIn(cloudConfig, ENV_FILE, renderGatewayEnv(config));
  const bundle = compress(tarOf(files)).toString('base64');
  fillIn(cloudConfig, BUNDLE_FILE, bundle);
  // JSON is YAML, and leaves nothing to a YAML writer's taste.
  const text = `${HEADER}${JSON.stringify(cloudConfig)}\n`;
  return gzipBeforeBase64(Buffer.from(text), text.indexOf(bundle));
}

/** The user data is larger than EC2 accepts. */
export class UserDataSizeError extends Problem {
  public override readonly name = 'UserDataSizeError';

  public constructor(
    public readonly size: number,
    largest: readonly Contributor[],
  ) {
    const shares = largest.map(({ path: file, share }) => `${file} ${share}`).join(', ');
    super(
      `user data: ${size} bytes, ${size - USER_DATA_LIMIT} over the limit of ${USER_DATA_LIMIT} (before base64); ` +
        `largest contributors in compressed bytes: ${shares}; shorten them (make size lists all)`,
    );
  }
}

/**
 * The raw bytes of the user data, before base64: what EC2 hands to cloud-init.
 *
 * @throws UserDataSizeError when EC2 would refuse them
 */
export function buildUserData(config: InstanceConfig, files: readonly BundleFile[] = bundleFiles()): Buffer {
  const userData = compressedCloudConfig(config, files);
  if (userData.length <= USER_DATA_LIMIT) return userData;
  throw new UserDataSizeError(userData.length, share(userData.length, config, files).slice(0, 5));
}

export interface Contributor {
  readonly path: string;
  /** Size of the file itself. */
  readonly bytes: number;
  /** Its part of the user data, in bytes; an estimate, as files compress each other. */
  readonly share: number;
}

/** What takes how much of the user data, largest first. The shares add up to its size. */
export function contributors(
  config: InstanceConfig,
  files: readonly BundleFile[] = bundleFiles(),
): readonly Contributor[] {
  return share(compressedCloudConfig(config, files).length, config, files);
}

function share(total: number, config: InstanceConfig, files: readonly BundleFile[]): readonly Contributor[] {
  const parts = [
    ...files,
    { path: TEMPLATE, content: Buffer.from(JSON.stringify(template())) },
    { path: ENV_FILE, content: Buffer.from(renderGatewayEnv(config)) },
  ].map(({ path: file, content }) => ({ path: file, bytes: content.length, weight: gzip(content).length }));
  const sum = parts.reduce((weights, { weight }) => weights + weight, 0);
  // Rounding the running total instead of each part makes the parts add up.
  let before = 0;
  return parts
    .map(({ path: file, bytes, weight }) => {
      const start = Math.round((total * before) / sum);
      before += weight;
      return { path: file, bytes, share: Math.round((total * before) / sum) - start };
    })
    .sort((a, b) => b.share - a.share || (a.path < b.path ? -1 : 1));
}

export interface UnpackedUserData {
  readonly cloudConfig: CloudConfig;
  /** The text of gateway.env. */
  readonly env: string;
  readonly files: readonly BundleFile[];
}

/** The reverse of `buildUserData`, for whoever wants to see or install what an instance would get. */
export function unpackUserData(userData: Uint8Array): UnpackedUserData {
  const cloudConfig = parse(Buffer.from(ungzip(userData)).toString('utf8')) as CloudConfig;
  const content = (file: string) => cloudConfig.write_files.find((entry) => entry.path === file)?.content ?? '';
  const files = untar(decompress(Buffer.from(content(BUNDLE_FILE), 'base64')));
  return { cloudConfig, env: content(ENV_FILE), files };
}

/** The user data in words, for the reviewer of a diff that shows the bytes only as a blob; at most 255 characters. */
export function describeUserData(config: InstanceConfig, files: readonly BundleFile[] = bundleFiles()): string {
  const engine = config.enable_xdp
    ? `XDP: engine ${config.xdp_engine}, mode ${config.xdp_mode}, ${config.xdp_traffic_percent} percent of flows`
    : 'netfilter (enable_xdp false)';
  const target = `${config.aws_ipsec_vm_ip}:${config.aws_ipsec_vm_port}`;
  const datagrams = `UDP ${config.target_port}, ${config.min_packet_size + 1} to ${config.max_packet_size} bytes`;
  const hash = (data: Buffer | string) => sha256(data).slice(0, 12);
  const hashes = `settings ${hash(renderGatewayEnv(config))}, bundle ${hash(tarOf(files))}`;
  return `${engine}; ${datagrams}, to ${target} in fragments of ${config.egress_mtu}; ${hashes}`;
}
