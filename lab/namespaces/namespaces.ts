// SPDX-License-Identifier: Apache-2.0
// The gateway in three network namespaces: the shipped scripts and programs on the running kernel, up in seconds.
//
//   mg-src  s0 10.77.0.1/24 ── ens5 10.77.0.2/24  mg-gw  ens6 ─ br0 10.88.0.20/24 ── k0 10.88.0.95/24  mg-sink
//
// A VXLAN packet (VNI 1) sent from mg-src to 10.77.0.2:4789 comes out at mg-sink, UDP port 8081. Nothing of the lab
// listens or sends in mg-src or mg-sink: whoever tests brings their own. On demand, k0 plays EC2: it drops the IP fragments
// that EC2 would not let out of the gateway.
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { GatewayConfig } from '../../constructs/config/keys';
import { loadConfig } from '../../constructs/config/load';
import { checkedInContext } from '../../constructs/config/context';
import { DEPLOY_SCRIPT, INSTALLED, renderGatewayEnv } from '../../constructs/user-data/user-data';
import { DRIVER_MODE_MTU, EC2_FRAGMENTS_PER_SECOND } from '../../constructs/config/limits';
import { type Engine, ENI_MTU, isXdp, UNCONFIGURED_MTU, settingsOf, wantedEngine } from './engines';
import { limitedFragments, type LimitedFragments, limitFragments } from './fragment-limit';
import { inNamespace, mountBpffs, must, REPOSITORY, run, tally } from '../support/host';
import { startImds } from '../aws/imds';

/** One end of a wire: where it is, its name, its addresses. */
interface Port {
  readonly namespace: string;
  readonly interface: string;
  readonly mac: string;
  readonly address: string;
}

/** Names and addresses of the lab. */
export const LAB = {
  source: { namespace: 'mg-src', interface: 's0', mac: '02:00:0a:4d:00:01', address: '10.77.0.1' },
  primary: { namespace: 'mg-gw', interface: 'ens5', mac: '02:00:0a:4d:00:02', address: '10.77.0.2' },
  secondary: { namespace: 'mg-gw', interface: 'ens6', mac: '02:00:0a:58:00:14', address: '10.88.0.20' },
  sink: { namespace: 'mg-sink', interface: 'k0', mac: '02:00:0a:58:00:5f', address: '10.88.0.95', port: 8081 },
  mtu: ENI_MTU,
} as const;

const SETTINGS = '/etc/mirror-gateway';
/** What the lab's gateway was deployed with. */
export const SETTINGS_FILE = path.join(SETTINGS, 'gateway.env');
/** Where the gateway keeps what does not outlive a boot. */
export const RUNTIME = '/run/mirror-gateway';
/** The number of the NFQUEUE daemon, where there is no systemd. */
export const LEGACY_PID_FILE = path.join(RUNTIME, 'modify_udp_df.pid');
const STATE = '/run/mirror-gateway-lab';
const MARK = path.join(STATE, 'engine');
/** There in a lab that plays EC2. */
const LIMIT_MARK = path.join(STATE, 'ec2-fragment-limit');
const IMDS_PID = path.join(STATE, 'imds.pid');
const NAMESPACES = [LAB.source.namespace, LAB.primary.namespace, LAB.sink.namespace];

/**
 * Runs a verb of deploy_xdp.sh on the lab's gateway.
 *
 * @returns what it printed
 * @throws Error when it exits with another status than 0
 */
export function deploy(...args: string[]): Promise<string> {
  return must(...inNamespace(LAB.primary.namespace, DEPLOY_SCRIPT, ...args));
}

/** A lab installs where an instance would: on a real gateway that would take over its settings. */
function refuseRealGateway(): void {
  if (fs.existsSync(MARK)) return;
  const found = [INSTALLED, SETTINGS].find((folder) => fs.existsSync(folder));
  if (found === undefined) return;
  throw new Error(
    `lab: ${found} exists but no lab made it; a gateway seems to be installed here: remove it or use another machine`,
  );
}

export interface LabOptions {
  /** Length of IP packets that the gateway sends at most; longer ones it fragments (default: as a stack's). */
  readonly egressMtu?: number;
  /** Drops what EC2 would drop of the fragments that the gateway sends (default: all arrive). */
  readonly ec2FragmentLimit?: boolean;
}

/** What stands, for verbs that come later. */
interface Standing {
  readonly engine: Engine;
  readonly ec2FragmentLimit: boolean;
}

function standing(): Standing {
  return { engine: fs.readFileSync(MARK, 'utf8') as Engine, ec2FragmentLimit: fs.existsSync(LIMIT_MARK) };
}

function labConfig(engine: Engine, egressMtu: number | undefined): GatewayConfig {
  const own = { aws_ipsec_vm_ip: LAB.sink.address, aws_ipsec_vm_port: LAB.sink.port };
  const egress = egressMtu === undefined ? {} : { egress_mtu: egressMtu };
  return loadConfig({ ...checkedInContext(), ...own, ...settingsOf(engine), ...egress }, {});
}

async function install(lab: Standing, config: GatewayConfig): Promise<void> {
  fs.mkdirSync(STATE, { recursive: true });
  fs.writeFileSync(MARK, lab.engine);
  if (lab.ec2FragmentLimit) fs.writeFileSync(LIMIT_MARK, '');
  for (const folder of ['lib', 'health', 'bpf', 'netfilter', 'userdata']) {
    const source = path.join(REPOSITORY, folder);
    if (fs.existsSync(path.join(source, 'Makefile'))) await must('make', ['-C', source]);
    fs.cpSync(source, path.join(INSTALLED, folder), { recursive: true });
  }
  fs.mkdirSync(SETTINGS, { recursive: true });
  fs.writeFileSync(SETTINGS_FILE, renderGatewayEnv(config));
}

/**
 * Of the ends that are not the gateway's: a veth takes XDP in driver mode only while its peer sends frames that fit a page.
 * The gateway's own ends stay as AWS gives them; lowering those is its own business.
 */
export function farMtu(engine: Engine): number {
  return engine === 'direct/driver' ? DRIVER_MODE_MTU : LAB.mtu;
}

async function sysctl(namespace: string, ...settings: string[]): Promise<void> {
  await must(...inNamespace(namespace, 'sysctl', '-qw', ...settings));
}

async function addNamespaces(): Promise<void> {
  for (const namespace of NAMESPACES) {
    await must('ip', ['netns', 'add', namespace]);
    await must('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
  }
  // Two bare hosts: whatever a capture on them shows was sent by the gateway or by a test.
  for (const namespace of [LAB.source.namespace, LAB.sink.namespace]) {
    await sysctl(namespace, 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1');
    await sysctl(namespace, 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0');
  }
}

async function addWire(left: Port, right: Port, rightMtu: number = LAB.mtu): Promise<void> {
  const end = (port: Port, mtu: number): string[] => [
    ...[port.interface, 'netns', port.namespace],
    ...['address', port.mac, 'mtu', String(mtu)],
  ];
  await must('ip', ['link', 'add', ...end(left, LAB.mtu), 'type', 'veth', 'peer', ...end(right, rightMtu)]);
}

async function setUp(port: Port): Promise<void> {
  await must('ip', ['-n', port.namespace, 'address', 'add', `${port.address}/24`, 'dev', port.interface]);
  await must('ip', ['-n', port.namespace, 'link', 'set', port.interface, 'up']);
}

/** Nobody has to ask for the address any more. */
export async function setNeighbour(namespace: string, device: string, peer: Port): Promise<void> {
  const entry = [peer.address, 'lladdr', peer.mac, 'nud', 'permanent'];
  await must('ip', ['-n', namespace, 'neighbour', 'replace', ...entry, 'dev', device]);
}

/** A veth delivers what XDP redirects to it only if its peer has GRO. */
async function readySink({ engine, ec2FragmentLimit }: Standing): Promise<void> {
  const { namespace, interface: name } = LAB.sink;
  await must('ip', ['-n', namespace, 'link', 'set', name, 'mtu', String(farMtu(engine))]);
  await must(...inNamespace(namespace, 'ethtool', '-K', name, 'gro', 'on'));
  if (ec2FragmentLimit) await limitFragments(LAB.sink);
}

async function plugIn(lab: Standing): Promise<void> {
  await addWire(LAB.source, LAB.primary);
  await addWire(LAB.sink, LAB.secondary, UNCONFIGURED_MTU);
  await must('ip', [
    '-n',
    LAB.source.namespace,
    'link',
    'set',
    LAB.source.interface,
    'mtu',
    String(farMtu(lab.engine)),
  ]);
  await readySink(lab);
  await sysctl(LAB.primary.namespace, `net.ipv6.conf.${LAB.primary.interface}.disable_ipv6=1`);
  for (const port of [LAB.source, LAB.primary, LAB.sink]) await setUp(port);
  // As in a VPC, so that a word that the gateway must not say would find its way out.
  await must('ip', ['-n', LAB.primary.namespace, 'route', 'add', 'default', 'via', LAB.source.address]);
  await setNeighbour(LAB.source.namespace, LAB.source.interface, LAB.primary);
  await setNeighbour(LAB.primary.namespace, LAB.primary.interface, LAB.source);
  await setNeighbour(LAB.sink.namespace, LAB.sink.interface, LAB.secondary);
}

/** Takes the second interface away, as detaching its ENI would; the sink loses its end of the wire. */
export async function unplugSecondary(): Promise<void> {
  await must('ip', ['-n', LAB.secondary.namespace, 'link', 'delete', LAB.secondary.interface]);
}

/** Brings it back, as attaching the same ENI again would, with EC2's limit in front of it where there was one. */
export async function plugSecondary(): Promise<void> {
  await addWire(LAB.sink, LAB.secondary, UNCONFIGURED_MTU);
  await readySink(standing());
  await setUp(LAB.sink);
  await setNeighbour(LAB.sink.namespace, LAB.sink.interface, LAB.secondary);
}

/** Fragments that met EC2's limit since it was set; undefined in a lab that does not play EC2. */
export function fragmentsAtLimit(): Promise<LimitedFragments | undefined> {
  return limitedFragments(LAB.sink);
}

/** Fragments that EC2's limit has dropped. */
export async function fragmentsDropped(): Promise<number> {
  return (await fragmentsAtLimit())?.dropped ?? 0;
}

async function serveMetadata(): Promise<void> {
  const { pid } = await startImds({
    namespace: LAB.primary.namespace,
    primary: { ...LAB.primary, subnet: '10.77.0.0/24' },
    secondary: { ...LAB.secondary, subnet: '10.88.0.0/24' },
    outlive: true,
  });
  fs.writeFileSync(IMDS_PID, String(pid));
}

/** Takes the instance's tags out of its metadata, or brings them back. */
export function toggleTags(): void {
  process.kill(Number(fs.readFileSync(IMDS_PID, 'utf8')), 'SIGUSR2');
}

/** Ends the process that a pid file names, if it still runs the program it ran then. */
function end(pidFile: string, program: string): void {
  if (!fs.existsSync(pidFile)) return;
  const pid = fs.readFileSync(pidFile, 'utf8').trim();
  const commandLine = `/proc/${pid}/cmdline`;
  if (fs.existsSync(commandLine) && fs.readFileSync(commandLine, 'utf8').includes(program)) process.kill(Number(pid));
}

/** What an interrupted verb or a failed test left running would keep its namespace alive. */
async function endAll(namespace: string): Promise<void> {
  const { stdout } = await run('ip', ['netns', 'pids', namespace]);
  const pids = stdout.split('\n').filter(Boolean).map(Number);
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
}

/**
 * Builds the lab with one engine carrying the traffic and leaves it standing; an earlier lab is taken down first.
 *
 * @throws ConfigError when the gateway's settings refuse the egress MTU, with an earlier lab still standing
 * @throws Error when a gateway that no lab made is installed on this machine, or a command fails
 */
export async function labUp(engine: Engine, { egressMtu, ec2FragmentLimit = false }: LabOptions = {}): Promise<void> {
  const config = labConfig(engine, egressMtu);
  const lab = { engine, ec2FragmentLimit };
  refuseRealGateway();
  await labDown();
  tally('lab-up');
  await mountBpffs();
  await install(lab, config);
  await addNamespaces();
  await plugIn(lab);
  await serveMetadata();
  await deploy('network-up');
  await setNeighbour(LAB.primary.namespace, 'br0', LAB.sink);
  if (isXdp(engine)) await deploy('attach');
  if (engine === 'nfqueue') await deploy('rollback');
}

/** Takes the lab down, also one that was only half built; does nothing where there is none. */
export async function labDown(): Promise<void> {
  if (!fs.existsSync(MARK)) return;
  await run(...inNamespace(LAB.primary.namespace, DEPLOY_SCRIPT, 'detach'));
  end(LEGACY_PID_FILE, 'modify_udp_df');
  end(IMDS_PID, 'imds.ts');
  for (const namespace of NAMESPACES) {
    await endAll(namespace);
    await run('ip', ['netns', 'delete', namespace]);
  }
  for (const folder of [INSTALLED, SETTINGS, RUNTIME, STATE]) fs.rmSync(folder, { recursive: true, force: true });
}

// --- command line ---------------------------------------------------------------------------------------------------

/**
 * What EGRESS_MTU and EC2_FRAGMENT_LIMIT of make ask for, where an empty one is not given.
 *
 * @throws Error that names the setting or variable, its value and what is allowed
 */
export function wantedOptions(egressMtu: string, ec2FragmentLimit: string): LabOptions {
  if (!['', '0', '1'].includes(ec2FragmentLimit))
    throw new Error(`lab: EC2_FRAGMENT_LIMIT is '${ec2FragmentLimit}', it must be 1 (as EC2) or 0 (no limit)`);
  return {
    // Read as a deployment's is, so that it is refused in the same words.
    egressMtu: egressMtu ? loadConfig({ ...checkedInContext(), egress_mtu: egressMtu }, {}).egress_mtu : undefined,
    ec2FragmentLimit: ec2FragmentLimit === '1',
  };
}

interface Arguments {
  readonly engine: string;
  readonly mode: string;
  readonly egressMtu: string;
  readonly ec2FragmentLimit: string;
}

async function up(wanted: Arguments): Promise<void> {
  const engine = wantedEngine('lab', wanted.engine, wanted.mode);
  await labUp(engine, wantedOptions(wanted.egressMtu, wanted.ec2FragmentLimit));
  console.log(`lab is up, engine ${engine}: VXLAN from ${LAB.source.namespace} to ${LAB.primary.address}:4789`);
  const limit = await fragmentsAtLimit();
  if (limit) console.log(`${LAB.sink.interface} plays EC2: ${EC2_FRAGMENTS_PER_SECOND} IP fragments a second pass`);
  console.log(`look inside: nsenter --net=/var/run/netns/${LAB.primary.namespace} ${DEPLOY_SCRIPT} status`);
}

/** What the gateway says, and what it cannot see: the fragments that EC2 drops behind it. */
async function showStatus(): Promise<void> {
  const { code, stdout, stderr } = await run(...inNamespace(LAB.primary.namespace, DEPLOY_SCRIPT, 'status'));
  process.stdout.write(stdout);
  process.stderr.write(stderr);
  process.exitCode = code;
  const limit = await fragmentsAtLimit();
  if (limit) console.log(`EC2's fragment limit, behind the gateway: ${limit.passed} passed, ${limit.dropped} dropped`);
}

async function main(verb = '', engine = '', mode = '', egressMtu = '', ec2FragmentLimit = ''): Promise<void> {
  if (verb === 'up') return up({ engine, mode, egressMtu, ec2FragmentLimit });
  if (verb === 'down') return labDown();
  if (verb === 'status') return showStatus();
  throw new Error(`lab: no verb '${verb}'; it must be up, status or down`);
}

if (require.main === module) {
  main(...process.argv.slice(2)).catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
