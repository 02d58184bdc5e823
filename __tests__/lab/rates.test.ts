// SPDX-License-Identifier: Apache-2.0
// Rates that the shipped monitoring sends, against the generator's own count.
import { readFileSync, writeFileSync } from 'node:fs';
import { DRIVER_MODE_MTU, LARGEST_IN_DRIVER_MODE } from '../../constructs/config/limits';
import { type Emf } from '../../lab/aws/emf';
import { inNamespace, must, Progress, sleep } from '../../lab/support/host';
import { Monitoring } from '../../lab/namespaces/monitoring';
import { deploy, LAB, SETTINGS_FILE } from '../../lab/namespaces/namespaces';
import { Stream } from '../../lab/packets/traffic-stream';
import { EGRESS_MTUS, useMonitoring } from './gateway';

const progress = new Progress('rates');
/** What docs/metrics.md says of a rate. */
const TOLERANCE = 0.02;

interface Rate {
  readonly seconds: number;
  readonly engine: unknown;
  readonly sent: number;
  /** Undefined where no rate was sent. */
  readonly told?: number;
  readonly error: number;
}

/** Each interval's rate against what the generator noted between the two readings. */
function ratesOf(documents: readonly Emf[], sender: Stream): Rate[] {
  return documents.slice(1).map((document, at) => {
    const [from, to] = [documents[at]?._aws.Timestamp ?? 0, document._aws.Timestamp];
    const sent = (1000 * (sender.sentBy(to) - sender.sentBy(from))) / (to - from);
    const told = document.PacketsPerSecond as number | undefined;
    const error = told === undefined ? 0 : Math.abs(told / sent - 1);
    return { seconds: (to - from) / 1000, engine: document.Engine, sent, told, error };
  });
}

function tell(title: string, rates: readonly Rate[]): void {
  const told = rates.filter((rate) => rate.told !== undefined);
  const worst = Math.max(...told.map(({ error }) => error));
  const mean = told.reduce((sum, rate) => sum + rate.sent, 0) / told.length;
  progress.say(`${title}: ${told.length} rates of ${mean.toFixed(0)}/s, worst error ${(100 * worst).toFixed(2)} %`);
}

const lab = useMonitoring(progress);

it.each([1000, 8000, 25_000])('tells rates within 2 %% of the generator at %d datagrams/s', async (pps) => {
  lab.stream = await Stream.start({ pps }, progress);
  lab.monitoring = Monitoring.start({ seconds: 4 });
  const documents = await lab.agent.next(4);
  await sleep(200);
  const rates = ratesOf(documents, lab.stream);
  await lab.monitoring.stop();
  await lab.stream.finish();
  tell(`${pps}/s`, rates);
  expect(rates).toHaveLength(3);
  rates.forEach((rate) => {
    expect(rate.told).toBeDefined();
    expect(rate.error).toBeLessThan(TOLERANCE);
  });
});

it('tells right rates or none over resets of counters, restarts and changes of engine', async () => {
  lab.stream = await Stream.start({ pps: 5000 }, progress);
  lab.monitoring = Monitoring.start({ seconds: 3 });
  const first = await lab.agent.next(2);
  const changes: readonly (readonly [string, () => Promise<unknown>])[] = [
    ['counters begin anew', async () => [await deploy('detach'), await deploy('attach')]],
    ['an update of the program', () => deploy('attach')],
    ['XDP goes', () => deploy('detach')],
    ['the NFQUEUE daemon comes', () => deploy('rollback')],
    ['the NFQUEUE daemon restarts', () => deploy('rollback')],
    ['XDP comes back', () => deploy('attach')],
    [
      'monitoring restarts',
      async () => {
        await lab.monitoring?.stop();
        lab.monitoring = Monitoring.start({ seconds: 3 });
      },
    ],
  ];
  const documents = [...first];
  for (const [what, change] of changes) {
    progress.say(what);
    await change();
    documents.push(...(await lab.agent.next(2)));
  }
  await sleep(200);
  const rates = ratesOf(documents, lab.stream);
  await lab.monitoring.stop();
  const { lost } = await lab.stream.finish();
  tell('over changes', rates);
  expect(lost).toEqual([]);
  rates.forEach(({ error }) => expect(error).toBeLessThan(TOLERANCE));
  // At most one interval of each change, and the first of a start.
  expect(rates.filter(({ told }) => told === undefined).length).toBeLessThanOrEqual(changes.length);
  expect(
    new Set(rates.filter(({ told }) => told !== undefined).map(({ engine }) => engine)).size,
  ).toBeGreaterThanOrEqual(3);
  const numbers = documents.flatMap((document) =>
    Object.entries(document).filter(([, value]) => typeof value === 'number'),
  );
  expect(numbers.filter(([, value]) => Number(value) < 0)).toEqual([]);
});

describe('in driver mode', () => {
  let deployed = '';

  /** A veth takes XDP in driver mode while its peer sends frames that fit a page, and what XDP redirects while it has GRO. */
  async function peers(mtu: number, gro: 'on' | 'off'): Promise<void> {
    for (const { namespace, interface: name } of [LAB.source, LAB.sink])
      await must('ip', ['-n', namespace, 'link', 'set', name, 'mtu', String(mtu)]);
    await must(...inNamespace(LAB.sink.namespace, 'ethtool', '-K', LAB.sink.interface, 'gro', gro));
  }

  beforeAll(async () => {
    await peers(DRIVER_MODE_MTU, 'on');
    deployed = readFileSync(SETTINGS_FILE, 'utf8');
    const fits = {
      ...{ XDP_ENGINE: 'auto', XDP_MODE: 'auto', MAX_PACKET_SIZE: LARGEST_IN_DRIVER_MODE },
      EGRESS_MTU: EGRESS_MTUS.fragmented, // of each datagram there is a copy that may be lost
    };
    const text = Object.entries(fits).reduce(
      (lines, [key, value]) => lines.replace(new RegExp(`^${key}=.*$`, 'm'), `${key}=${value}`),
      deployed,
    );
    writeFileSync(SETTINGS_FILE, text);
    await deploy('network-up');
    await deploy('attach');
  });
  afterAll(async () => {
    await deploy('detach');
    writeFileSync(SETTINGS_FILE, deployed);
    await peers(LAB.mtu, 'off');
    await deploy('network-up');
    await deploy('attach');
  });

  it('tells rates within 2 %, no loss while there is none, and as many copies as are never made', async () => {
    lab.stream = await Stream.start({ pps: 5000 }, progress);
    lab.monitoring = Monitoring.start({ seconds: 2.5 });
    const good = await lab.agent.next(3);
    await sleep(200);
    const rates = ratesOf(good, lab.stream);
    tell('driver mode', rates);
    rates.forEach(({ told, error }) => {
      expect(told).toBeDefined();
      expect(error).toBeLessThan(TOLERANCE);
    });
    expect(good.at(-1)).toMatchObject({ Engine: 'direct', XdpMode: 'driver', RedirectDropsPerSecond: 0 });
    await peers(DRIVER_MODE_MTU, 'off');
    const { RedirectDropsPerSecond, PacketsLostPerSecond, PacketsPerSecond } = (await lab.agent.next(4)).at(-1) as Emf;
    await peers(DRIVER_MODE_MTU, 'on');
    // Two fragments of each.
    expect(Number(RedirectDropsPerSecond) / Number(PacketsPerSecond)).toBeCloseTo(2, 1);
    // And each lost once: no other place has it, too.
    expect(Number(PacketsLostPerSecond) / Number(RedirectDropsPerSecond)).toBeCloseTo(1, 2);
  });
});
