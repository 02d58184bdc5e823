// SPDX-License-Identifier: Apache-2.0
// What is around a machine under test, emulated (vm.ts) or a container (container.ts): the two subnets, the bucket with its name,
// the DHCP server that a VPC gives an instance, what cloud-init finds, and the removal of it all however the caller ends.
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type Socket } from 'node:net';
import { join } from 'node:path';
import { identityFor } from '../aws/authority';
import { Bucket, type StoredBundle } from '../aws/bucket';
import { cacheDirectory, inNamespace, must, type Progress, waitFor } from '../support/host';
import { type Imds, IMDS_ADDRESS, startImds } from '../aws/imds';
import { LAB } from '../namespaces/namespaces';

/** As {@link LAB}; the gateway's own ends are inside the machine. */
export const VM_LAB = {
  source: { ...LAB.source, namespace: 'mg-vm-src' },
  primary: { ...LAB.primary, namespace: undefined },
  secondary: { ...LAB.secondary, namespace: undefined },
  sink: { ...LAB.sink, namespace: 'mg-vm-sink' },
  mtu: LAB.mtu,
} as const;

const SUBNET = { primary: '10.77.0.0/24', secondary: '10.88.0.0/24' } as const;
/** Where a VPC has its resolver; here the bucket is at the same address. */
const VPC_SERVICES = '169.254.169.253';
const VPC_ROUTER = '10.88.0.1';
export const MANAGEMENT_MAC = '02:00:0a:00:02:0f';
/** Sockets, keys and logs; short, because a socket's path may not be long. */
export const STATE = '/run/mirror-gateway-vm';
const LOCK = '/run/lock/mirror-gateway-vm.lock';
const LOCK_SECONDS = 3600;

// --- what cloud-init finds ------------------------------------------------------------------------------------------------------

/** `managed`: with a third interface, for ssh and Debian's packages, that a VPC does not have. */
function networkConfig(managed: boolean): string {
  const management = {
    match: { macaddress: MANAGEMENT_MAC },
    addresses: ['10.0.2.15/24'],
    // Before whatever default route the second interface's DHCP server offers.
    routes: [{ to: '0.0.0.0/0', via: '10.0.2.2', metric: 50 }],
    nameservers: { addresses: ['10.0.2.3'] },
  };
  const primary = {
    match: managed ? { macaddress: VM_LAB.primary.mac } : { name: 'ens5' }, // by its permanent address, which a veth has not
    addresses: [`${VM_LAB.primary.address}/24`],
    routes: [IMDS_ADDRESS, VPC_SERVICES].map((service) => ({ to: `${service}/32`, scope: 'link' })),
    // Of AWS's names only the bucket's has an address here; packages come over the management interface.
    nameservers: { addresses: [VPC_SERVICES], search: ['~amazonaws.com'] },
  };
  return JSON.stringify({ version: 2, ethernets: managed ? { management, primary } : { primary } });
}

/** In place of EC2's own data source: the same user data, byte for byte. Writes three files. */
export function writeSeed(folder: string, userData: Buffer, publicKey?: string): void {
  const metaData = {
    'instance-id': `i-${randomBytes(8).toString('hex')}`,
    'local-hostname': `ip-${VM_LAB.primary.address.replaceAll('.', '-')}`,
    'public-keys': publicKey === undefined ? [] : [publicKey],
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'user-data'), userData);
  writeFileSync(join(folder, 'meta-data'), JSON.stringify(metaData));
  writeFileSync(join(folder, 'network-config'), networkConfig(publicKey !== undefined));
}

// --- what has to be cleaned up --------------------------------------------------------------------------------------

/** Where a container's systemd has its control groups: those of the second version, wherever this machine has them. */
export function cgroupRoot(): string | undefined {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return mounts.map((line) => line.split(' ')).find(([, , type]) => type === 'cgroup2')?.[1];
}

/** Where a container's interfaces are. */
export const GATEWAY = { namespace: 'mg-vm-gw' } as const;

/**
 * Holds the lock (a machine's, or that of what is isolated) and waits for the end of its input, which comes with our own end, whatever that is. Then it
 * removes everything. It does not share our process group: an interrupt from the keyboard must not reach it.
 */
const JANITOR = `
mkdir -p "\${LOCK%/*}"
exec 9>"$LOCK"
flock --timeout "$LIMIT" 9 || exit 1
clean() {
  read -r pid program <"$STATE/pid" && grep -q "^$program" "/proc/$pid/comm" && kill -KILL "$pid"
  for name in $NAMESPACES; do
    ip netns pids "$name" | xargs -r kill -KILL
    ip netns delete "$name"
  done
  if [ -r "$STATE/console.log" ]; then cp "$STATE/console.log" "$KEPT_CONSOLE"; fi
  umount --lazy "$STATE/disk"
  read -r tree <"$STATE/cgroup" && for n in $(seq 50); do
    grep -q 'populated 0' "$tree/cgroup.events" && break
    sleep 0.1
  done
  # Of killed ones as well, but not of one that is just being filled.
  for tree in $(find "$CGROUPS" -maxdepth 1 -name 'mirror-gateway-*' -mmin +2) "$tree"; do
    if grep -q 'populated 0' "$tree/cgroup.events"; then find "$tree" -depth -type d -exec rmdir {} +; fi
  done
  rm -rf "$STATE" "$OVERLAY" "$OVERLAY.disk"
} 2>/dev/null
clean
echo ready
cat >/dev/null
clean
`;

export class Janitor {
  private constructor(private readonly shell: ChildProcess) {}

  static async engage(overlay: string, progress: Progress): Promise<Janitor> {
    const env = {
      ...process.env,
      LOCK,
      STATE,
      LIMIT: String(LOCK_SECONDS),
      NAMESPACES: [VM_LAB.source, VM_LAB.sink, GATEWAY].map(({ namespace }) => namespace).join(' '),
      OVERLAY: overlay,
      CGROUPS: cgroupRoot() ?? '/nowhere',
      KEPT_CONSOLE: join(cacheDirectory(), 'last-console.log'),
    };
    const shell = spawn('sh', ['-c', JANITOR], { env, detached: true, stdio: ['pipe', 'pipe', 'ignore'] });
    let ready = false;
    shell.stdout.on('data', () => (ready = true));
    const locked = (): true | undefined => {
      if (shell.exitCode !== null) throw new Error(`${LOCK} is held by another machine; see who with: fuser ${LOCK}`);
      return ready || undefined;
    };
    await waitFor('lock (another gateway is up)', locked, { timeoutMs: LOCK_SECONDS * 1000, everyMs: 50, progress });
    shell.unref();
    for (const stream of [shell.stdin, shell.stdout]) (stream as Socket).unref();
    return new Janitor(shell);
  }

  async dismiss(): Promise<void> {
    const { shell } = this;
    shell.ref();
    const gone = shell.exitCode !== null ? Promise.resolve() : new Promise((done) => shell.once('exit', done));
    shell.stdin?.end();
    await gone;
  }
}

// --- surroundings ---------------------------------------------------------------------------------------------------

async function addNamespaces(): Promise<void> {
  for (const { namespace } of [VM_LAB.source, VM_LAB.sink]) {
    await must('ip', ['netns', 'add', namespace]);
    await must('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    const quiet = ['net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1'];
    const foreign = ['net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0'];
    await must(...inNamespace(namespace, 'sysctl', '-qw', ...quiet, ...foreign));
  }
}

/** One end of a wire outside the gateway. */
export type Port = {
  readonly namespace: string;
  readonly interface: string;
  readonly mac: string;
  readonly address: string;
};

/** Answers on the second interface's subnet as a VPC would: with the ENI's address and a default route. */
export function startDhcp(): void {
  const { namespace, interface: name } = VM_LAB.sink;
  const options = [
    ...['--conf-file=/dev/null', '--port=0', '--keep-in-foreground', '--user=root', '--no-ping', '--leasefile-ro'],
    ...['--pid-file=', '--log-dhcp', `--log-facility=${join(STATE, 'dhcp.log')}`],
    ...[`--interface=${name}`, '--bind-interfaces', '--dhcp-authoritative'],
    ...[
      '--dhcp-range=10.88.0.0,static,255.255.255.0',
      `--dhcp-host=${VM_LAB.secondary.mac},${VM_LAB.secondary.address}`,
    ],
    ...[`--dhcp-option=option:router,${VPC_ROUTER}`],
  ];
  const tether = ['setpriv', '--pdeathsig', 'SIGKILL', '--'];
  const [command, args] = inNamespace(namespace, ...tether, 'dnsmasq', ...options);
  spawn(command, args, { stdio: 'ignore' }).unref();
}

/** The bucket under the name that the user data has for it; returns the file with the credentials that open it. */
async function startBucket(stored: StoredBundle): Promise<string> {
  const { namespace } = VM_LAB.source;
  const name = `${stored.bucket}.s3.${stored.region}.amazonaws.com`;
  await must(...inNamespace(namespace, 'ip', 'address', 'replace', `${VPC_SERVICES}/32`, 'dev', 'lo'));
  const options = [
    ...['--conf-file=/dev/null', '--keep-in-foreground', '--user=root', '--pid-file=', '--no-resolv', '--no-hosts'],
    ...[`--listen-address=${VPC_SERVICES}`, '--bind-interfaces', `--address=/${name}/${VPC_SERVICES}`],
  ];
  const [command, args] = inNamespace(namespace, 'setpriv', '--pdeathsig', 'SIGKILL', '--', 'dnsmasq', ...options);
  spawn(command, args, { stdio: 'ignore' }).unref();
  const folder = join(STATE, 'bucket');
  mkdirSync(folder);
  const tls = await identityFor(name, folder);
  const bucket = await Bucket.start(stored, { namespace, address: VPC_SERVICES, port: 443, tls });
  const credentials = join(folder, 'credentials.json');
  writeFileSync(credentials, await bucket.close());
  return credentials;
}

/** The two subnets, the bucket, and the metadata service that names it; `late`: the second interface is not there yet. */
export async function startSurroundings(bundle: StoredBundle, late: boolean): Promise<Imds> {
  await addNamespaces();
  const { address, mac } = VM_LAB.primary;
  return startImds({
    namespace: VM_LAB.source.namespace,
    primary: { mac, address, subnet: SUBNET.primary },
    secondary: { mac: VM_LAB.secondary.mac, address: VM_LAB.secondary.address, subnet: SUBNET.secondary },
    credentials: await startBucket(bundle),
    late,
  });
}
