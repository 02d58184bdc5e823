// SPDX-License-Identifier: Apache-2.0
// How it is measured, and what this bench cannot tell.
import { bullets, code, paragraphs, table } from './markdown';
import { ALL, NEAR_LIMIT, percent, REFUSED, rounded } from './report';
import { type Results, type Run, type DeviceUnderTest, DEVICES_UNDER_TEST } from '../results';

const DESCRIPTIONS: Readonly<Record<DeviceUnderTest, string>> = {
  nfqueue: 'the NFQUEUE daemon behind NFQUEUE; what its queue has no room for, `standby` does',
  standby: 'one nftables rule on br0',
  bridge: "the migration report's design: XDP on br0, in generic mode",
  generic: 'the `direct` engine in generic mode, on the primary interface',
  driver: 'the `direct` engine in driver mode',
  baseline: 'no gateway: a program in the driver that only takes off the outer headers and redirects',
  path: 'no gateway: what the generator can offer, counted at the primary interface',
};

function machine({ how, machine, software, runs }: Results): string {
  const hours = runs.reduce((sum, { seconds }) => sum + seconds, 0) / 3600;
  const facts = [
    ['machine', `${machine.cpu}, ${machine.cores} processors, load ${machine.load.map(rounded).join(' ')}`],
    ['kernel', `Linux ${machine.kernel}`],
    ['commit', software.commit],
    ['compiler', software.clang],
    [
      'complete runs',
      `${runs.length} (${runs.map(({ date }) => date.slice(0, 10)).join(', ')}), ${rounded(hours)} hours`,
    ],
    [
      'repetitions in a run',
      `overload ${how.repetitions}, rate without loss ${how.searches}, cost ${how.costRepetitions}; in the driver one in ` +
        `${how.inDriverEvery} of the first two`,
    ],
    ['a trial', `${how.milliseconds / 1000} s, of a search for a rate without loss ${how.searchMilliseconds / 1000} s`],
    ['offered at overload', how.overload === 0 ? 'as much as the generator can' : `${rounded(how.overload)}/s`],
  ];
  return ['| | |', '| --- | --- |', ...facts.map(([what = '', is = '']) => `| ${what} | ${is} |`)].join('\n');
}

function trialsOf({ runs }: Results): string {
  const sum = (key: keyof Run['trials']): string =>
    runs.reduce((all, { trials }) => all + trials[key], 0).toLocaleString('en-US');
  return `${sum('discarded')} trials were discarded; ${sum('counted')} count, ${sum('apart')} of them although the processors were apart.`;
}

export function howItIsMeasured(results: Results): string {
  const { how } = results;
  const subjects = table(
    [
      { title: 'subject', meaning: 'as tables and charts name it', cell: (subject: DeviceUnderTest) => code(subject) },
      {
        title: 'what it is',
        meaning: 'who has the datagrams',
        cell: (subject: DeviceUnderTest) => DESCRIPTIONS[subject],
      },
    ],
    DEVICES_UNDER_TEST,
  );
  return paragraphs(
    '## How it is measured',
    machine(results),
    'Gateways of three network namespaces and two pairs of veth, with the settings, rules and programs of a real one: each subject has ' +
      'its own. Rates are measured in rounds: a round is one trial of every size and subject, so that whatever disturbs the machine ' +
      `disturbs all, and no figure in all its trials. What stays in the driver takes part in one of ${how.inDriverEvery}: it ends ` +
      'where the generator does, and varies half as much. A figure is the median of the complete runs, the value of a run the mean of ' +
      'its repetitions: a shared machine is now quick, now slow, for seconds at a time, and the median of a few trials is that of ' +
      'whichever state had the majority.',
    bullets(
      '**Generator**: frames that an XDP program writes and paces in the kernel (live frames of `BPF_PROG_TEST_RUN`). **Sink**: an ' +
        'XDP program in the driver behind the secondary interface. It counts datagrams whose fragments all came; a fragment alone ' +
        'is worth nothing.',
      `**Their own limit** is the subject \`path\`. A figure above ${percent(NEAR_LIMIT)} of it in any run is a lower bound (≥): ` +
        'the generator is as much its limit as the engine. So is, at overload, one where in any of its trials more than ' +
        `${percent(ALL)} came of what the generator offered, or the frames for which the sink's ring had no room could be more than ` +
        `${percent(REFUSED)} of what the engine sent; without loss, one where in any of its searches the generator could offer no more, or such ` +
        'frames could be all that was lost at the rate above. Every trial counts them.',
      '**Rates and latency**: the generator and the polling of the primary interface share core 0; RPS hands what becomes a ' +
        'packet of the kernel to core 1. What stays in the driver (`driver`, `baseline`, `path`) shares core 0 with the generator and ' +
        'the sink, so its figures contain their work, too. Behind the others the sink works on core 1: a kernel that sends a packet ' +
        'to it copies it into a frame first. The NFQUEUE daemon is kept on core 1, too.',
      `**Without loss**: the search of RFC 2544, section 26.1: the highest rate of a trial in which every datagram came. A run's first ` +
        `search begins at nine tenths of what came at overload, each later one at the mean of those before. A trial that ` +
        `loses up to ${percent(how.much)} is repeated in a later round, and so is one in which the generator was held up; a rate fails ` +
        `when one loses more, or of ${how.tries} none is without loss. Below ` +
        `${rounded(how.longerBelow)}/s trials last longer in proportion: what the kernel's queues take in before they lose something has ` +
        'to be a small part of a trial.',
      `**Queues**: the kernel takes packets from the queue of RPS in turns of ${how.devWeight} (\`net.core.dev_weight\`), by ` +
        'default of 64, and the sink takes 64 frames from its ring in a turn. With fragments more come than go, the ring (256 frames) ' +
        `would fill up, and the sink be the limit. The queue (\`net.core.netdev_max_backlog\`) holds ${how.backlog.overload} at ` +
        `overload: a longer one that is always full does not fit into a processor's caches. Else it holds ` +
        `${how.backlog.other}: a processor of a virtual machine stands still for some milliseconds now and then.`,
      '**Processors near each other**: the host of a virtual machine moves its processors every few seconds. Where the two share no ' +
        'cache, what one hands to the other takes several times as long. So a trial begins while they do, and is discarded when they ' +
        'do not at its end. What waiting and repeating take is, in all, no longer than the trials that count, and a minute; beyond ' +
        `that, a trial counts as it is. ${trialsOf(results)}`,
      '**Latency**: each datagram carries the time at which it was made; the sink compares when its last fragment came ' +
        '(`bpf_ktime_get_ns`), in a histogram with a resolution of 3 %. Live frames leave in batches, so a part of it is the ' +
        "bench's own: all that `path` shows.",
      "**Cost of a datagram**: a kernel thread on core 1 polls the primary interface, so that all of a gateway's work is on core 1. " +
        'What it is not idle (`/proc/stat`), less what it is not at rest, divided by the datagrams that came, at half the highest ' +
        "rate without loss. The sink is in it, and is all of `path`; here it takes the kernel's packets as they are (tc), frames of the " +
        'driver as above.',
      '**Memory**: resident set of the long-lived processes, memory of the BPF maps (`memlock`).',
    ),
    subjects,
  );
}

export function benchLimits({ machine }: Results): string {
  return paragraphs(
    '## Limits of this bench',
    bullets(
      'A veth is not ENA: no DMA, no interrupts, no queues of hardware, no allowances of EC2. What the driver itself costs is not in here.',
      `One machine of ${machine.cores} processors. How a gateway of many grows is not shown: with two cores, one is the generator's as well.`,
      'The generator and what stays in the driver share a core. That makes driver mode look slower than it is, and nearer to `baseline`.',
      "Rates and latencies of the others contain the sink's copy of each packet, which driver mode is spared: ratios of driver mode to " +
        'them are too high by that, ratios among them too near to 1. Ratios of cost are free of it.',
      'Live frames fit in a page. Datagrams of more than 3000 bytes come from a packet socket, which offers less.',
      'All datagrams of a trial have one size, and all are to be forwarded. Mixed traffic lies between.',
      'Turns of a few packets cost those engines a little that have packets from the queue of RPS, which `driver` and `baseline` have not.',
      'Whether processors stay near each other while a trial lasts is not seen, and slow engines have longer ones.',
      'A rate without loss hangs on a single datagram, so that a core that is held up decides it now and then; the rates at ' +
        'overload tell more.',
      "Trials last seconds. What hours do to a gateway, the lab's tests look at.",
    ),
  );
}
