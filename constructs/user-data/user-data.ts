// SPDX-License-Identifier: Apache-2.0
// The user data of a gateway: one gzipped #cloud-config with the settings and what it takes to fetch the bundle, which is
// too large to travel in it: a script, where the bundle is, and the SHA-256 that it must have. The same bytes on every
// platform, and never more than EC2 takes. The lab's VM boots from these bytes.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { ungzip } from 'pako';
import { parse } from 'yaml';
import { bundleFiles, FETCH_SCRIPT, gzip, REPOSITORY, sha256, TEMPLATE } from './bundle';
import type { BundleFile } from './bundle';
import { type GatewayConfig, INSTANCE_NUMBERS } from '../config/keys';
import { dnsSuffixOf } from '../iam';
import { longestDatagram } from '../config/limits';
import { baseName, bundleBucketName, logGroupName } from '../config/names';
import { UserError } from '../config/user-error';
import { version } from '../../package.json';

export { bundleFiles, REPOSITORY, type BundleFile };

/** Where an instance has its bundle. */
export const INSTALLED = '/opt/ebpf-xdp-processor';

/** The operator's command, where an instance has it. */
export const DEPLOY_SCRIPT = `${INSTALLED}/userdata/deploy_xdp.sh`;

/** EC2's limit for user data, before base64. */
export const USER_DATA_LIMIT = 16384;

const HEADER = '#cloud-config\n';
const ENV_FILE = '/etc/mirror-gateway/gateway.env';
const BUNDLE_ENV_FILE = '/etc/mirror-gateway/bundle.env';
/** Where an instance has the script that takes its settings from there. */
const INSTALLED_FETCH_SCRIPT = '/usr/local/sbin/fetch_bundle.sh';

const ENV_KEYS = [
  ...(['enable_xdp', 'xdp_engine', 'xdp_mode', 'aws_ipsec_vm_ip', 'egress_cidrs'] as const),
  ...INSTANCE_NUMBERS,
] as const;

/** The settings an instance needs. */
export type InstanceConfig = Pick<GatewayConfig, (typeof ENV_KEYS)[number] | 'name_prefix' | 'environment'>;

/**
 * The text of /etc/mirror-gateway/gateway.env: KEY=value lines that systemd, a shell and a plain reader understand alike.
 *
 * @throws UserError when a value holds anything one of them would interpret, as only unvalidated settings can
 */
export function renderGatewayEnv(config: InstanceConfig): string {
  const settings = ENV_KEYS.map((key) => [key, config[key]] as const);
  return [...settings, ['log_group', logGroupName(baseName(config))] as const, ['gateway_version', version] as const]
    .map(([key, value]) => `${key.toUpperCase()}=${plain(key, value)}\n`)
    .join('');
}

/** Where an instance finds its bundle, and how it knows it. All known at synth: user data can hold no tokens. */
export interface BundleLocation {
  readonly bucketUrl: string;
  readonly region: string;
  readonly key: string;
  readonly sha256: string;
}

/** Where the stack of this name and place puts the bundle of this hash. */
export function bundleLocation(stack: Parameters<typeof bundleBucketName>[0], sha256: string): BundleLocation {
  const { region } = stack;
  const bucketUrl = `https://${bundleBucketName(stack)}.s3.${region}.${dnsSuffixOf(region)}`;
  return { bucketUrl, region, key: 'bundle.tar.gz', sha256 };
}

/** What fetch_bundle.sh needs to know. */
export interface FetchSettings extends BundleLocation {
  readonly imdsUrl: string;
  /** Where the bundle is unpacked. */
  readonly directory: string;
  /** How long it tries again before it gives up. */
  readonly patienceSeconds: number;
}

/** The text of /etc/mirror-gateway/bundle.env, in the form of gateway.env. */
export function renderBundleEnv(settings: FetchSettings): string {
  const { bucketUrl, region, key, sha256, imdsUrl, directory, patienceSeconds } = settings;
  const lines = {
    BUCKET_URL: bucketUrl,
    REGION: region,
    KEY: key,
    SHA256: sha256,
    IMDS_URL: imdsUrl,
    DIRECTORY: directory,
    PATIENCE_SECONDS: patienceSeconds,
  };
  return Object.entries(lines)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');
}

function bundleEnv(location: BundleLocation): string {
  return renderBundleEnv({
    ...location,
    imdsUrl: 'http://169.254.169.254/latest',
    directory: INSTALLED,
    // Credentials, routes and endpoints may come minutes late; within the grace of a launch.
    patienceSeconds: 300,
  });
}

function plain(key: string, value: unknown): string {
  const rendered = String(value);
  if (/^[A-Za-z0-9.,/-]*$/.test(rendered)) return rendered;
  throw new UserError(`gateway.env: ${key} = ${JSON.stringify(rendered)} may hold only letters, digits and .,/-`);
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
  if (!entry) throw new UserError(`user data: ${TEMPLATE} has no write_files entry for ${file}`);
  entry.content = content;
}

function template(): CloudConfig {
  return parse(fs.readFileSync(path.join(REPOSITORY, TEMPLATE), 'utf8')) as CloudConfig;
}

/** What the template's files are filled with, by their paths on the instance. */
function contents(config: InstanceConfig, location: BundleLocation): Record<string, string> {
  return {
    [ENV_FILE]: renderGatewayEnv(config),
    [BUNDLE_ENV_FILE]: bundleEnv(location),
    [INSTALLED_FETCH_SCRIPT]: fs.readFileSync(path.join(REPOSITORY, FETCH_SCRIPT), 'utf8'),
  };
}

/** Whatever its size. */
function compressedCloudConfig(config: InstanceConfig, location: BundleLocation): Buffer {
  const cloudConfig = template();
  Object.entries(contents(config, location)).forEach(([file, content]) => fillIn(cloudConfig, file, content));
  // JSON is YAML, and leaves nothing to a YAML writer's taste.
  return gzip(Buffer.from(`${HEADER}${JSON.stringify(cloudConfig)}\n`));
}

/** The user data is larger than EC2 accepts. */
export class UserDataSizeError extends UserError {
  public override readonly name = 'UserDataSizeError';

  public constructor(
    public readonly size: number,
    largest: readonly Contributor[],
  ) {
    const shares = largest.map(({ path: file, share }) => `${file} ${share}`).join(', ');
    super(
      `user data: ${size} bytes, ${size - USER_DATA_LIMIT} over the limit of ${USER_DATA_LIMIT} (before base64); ` +
        `largest contributors in compressed bytes: ${shares}; shorten them (make user-data-size lists all)`,
    );
  }
}

/**
 * The raw bytes of the user data, before base64: what EC2 hands to cloud-init.
 *
 * @throws UserDataSizeError when EC2 would refuse them
 */
export function buildUserData(config: InstanceConfig, location: BundleLocation): Buffer {
  const userData = compressedCloudConfig(config, location);
  if (userData.length <= USER_DATA_LIMIT) return userData;
  throw new UserDataSizeError(userData.length, contributors(config, location).slice(0, 5));
}

export interface Contributor {
  /** On an instance; the template's own is in the repository. */
  readonly path: string;
  /** Size of the file itself. */
  readonly bytes: number;
  /** Its part of the user data, in bytes; an estimate, as files compress each other. */
  readonly share: number;
}

/** What takes how much of the user data, largest first. The shares add up to its size. */
export function contributors(config: InstanceConfig, location: BundleLocation): readonly Contributor[] {
  const total = compressedCloudConfig(config, location).length;
  const parts = Object.entries({
    ...contents(config, location),
    [TEMPLATE]: JSON.stringify(template()),
  }).map(([file, text]) => ({ path: file, bytes: text.length, weight: gzip(Buffer.from(text)).length }));
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
  /** The text of bundle.env. */
  readonly bundleEnv: string;
}

/** The reverse of `buildUserData`, for whoever wants to see what an instance would get. */
export function unpackUserData(userData: Uint8Array): UnpackedUserData {
  const cloudConfig = parse(Buffer.from(ungzip(userData)).toString('utf8')) as CloudConfig;
  const content = (file: string) => cloudConfig.write_files.find((entry) => entry.path === file)?.content ?? '';
  return { cloudConfig, env: content(ENV_FILE), bundleEnv: content(BUNDLE_ENV_FILE) };
}

/** Whether a datagram may leave in fragments: none does where even the longest fits. */
function leaves({ max_packet_size: largest, egress_mtu: mtu }: InstanceConfig): string {
  return mtu < longestDatagram(largest) ? ` in fragments of ${mtu}` : ', whole';
}

/** The user data in words, for the reviewer of a diff that shows the bytes only as a blob; at most 255 characters. */
export function describeUserData(config: InstanceConfig, location: BundleLocation): string {
  const engine = config.enable_xdp
    ? `XDP: engine ${config.xdp_engine}, mode ${config.xdp_mode}, ${config.xdp_traffic_percent} percent of flows`
    : 'netfilter (enable_xdp false)';
  const target = `${config.aws_ipsec_vm_ip}:${config.aws_ipsec_vm_port}`;
  const datagrams = `UDP ${config.target_port}, ${config.min_packet_size + 1} to ${config.max_packet_size} bytes`;
  const short = (hash: string) => hash.slice(0, 12);
  const hashes = `settings ${short(sha256(renderGatewayEnv(config)))}, bundle ${short(location.sha256)}`;
  return `${engine}; ${datagrams}, to ${target}${leaves(config)}; version ${version}, ${hashes}`;
}
