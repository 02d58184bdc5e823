// SPDX-License-Identifier: Apache-2.0
// What EC2 lets out of a gateway on a machine, of one stream: forwarded whole, as deployed, and cut into fragments. Every
// datagram goes in with DF and identification 0, as Linux sends from sockets that are not connected.
import { EC2_FRAGMENTS_PER_SECOND, fragmentsOf } from '../../constructs/config/limits';
import type { Engine } from './engines';
import { limitedFragments, limitFragments } from './fragment-limit';
import { Capture } from '../packets/traffic';
import { Stream } from '../packets/traffic-stream';
import { type Computer } from '../vm/computer';
import { VM_LAB } from '../vm/surroundings';

/** More than three times what fragments of EC2's limit make, and what an emulated machine can take. */
const PPS = 1000;
const COUNT = 4 * PPS;
const BYTES = 2852;
const CUT_AT = 1400;
/** What the limit drops never comes. */
const ARRIVAL_MS = 1500;

/** What became of the stream. */
export interface Choice {
  readonly egressMtu: number;
  readonly bytes: number;
  readonly offered: number;
  /** Put together again, with the right payload. */
  readonly delivered: number;
  /** That left the machine. */
  readonly packets: number;
  /** By EC2's limit. */
  readonly dropped: number;
  /** Distinct IP identifications that left. */
  readonly ids: number;
  readonly problems: readonly string[];
}

/** Plays the stream twice, and leaves the machine with fragments on. */
export async function playChoices(vm: Computer, engine: Engine): Promise<Choice[]> {
  await Stream.build();
  const settings = await vm.exec('cat /etc/mirror-gateway/gateway.env');
  const deployed = Number(/^EGRESS_MTU=(\d+)$/m.exec(settings)?.[1]);
  vm.progress.say(`sending ${PPS} datagrams of ${BYTES} bytes a second, egress_mtu ${deployed}, behind EC2's limit`);
  const whole = await playOne(vm, deployed);
  vm.progress.say(`the same with egress_mtu ${CUT_AT}, changed in place`);
  await cut(vm, engine);
  return [whole, await playOne(vm, CUT_AT)];
}

/**
 * As an operator would try it; a deployment would replace the gateways. An engine learns br0's MTU from the kernel. Only in
 * driver mode it must be attached again: the program that cuts is left out where nothing is cut.
 */
async function cut(vm: Computer, engine: Engine): Promise<void> {
  const attach = engine === 'direct/driver' ? ' && deploy_xdp.sh attach' : '';
  await vm.exec(
    `sed -i 's/^EGRESS_MTU=.*/EGRESS_MTU=${CUT_AT}/' /etc/mirror-gateway/gateway.env && deploy_xdp.sh network-up${attach}`,
  );
}

async function playOne(vm: Computer, egressMtu: number): Promise<Choice> {
  await limitFragments(VM_LAB.sink);
  const capture = await Capture.start(VM_LAB.sink);
  try {
    const options = { pps: PPS, bytes: [BYTES], flows: 1, id: 0, count: COUNT };
    const stream = await Stream.start(options, vm.progress, VM_LAB);
    const { sent, report } = await stream.finish({ early: false, arrivalMs: ARRIVAL_MS });
    const frames = (await capture.stop()).filter(isStreams);
    const counted = {
      offered: sent.sent,
      delivered: report.received,
      packets: frames.length,
      dropped: (await limitedFragments(VM_LAB.sink))?.dropped ?? 0,
      ids: new Set(frames.map((frame) => frame.readUInt16BE(18))).size,
    };
    const { corrupt, duplicates, frames_with_df } = report;
    const pieces = fragmentsOf(BYTES, egressMtu);
    // A machine that falls behind sends for longer than it was sent to.
    const seconds = Math.ceil(Math.max(sent.seconds, report.seconds)) + 1;
    const most = Math.ceil(EC2_FRAGMENTS_PER_SECOND / pieces) * seconds;
    const checks: [boolean, string][] = [
      [corrupt + duplicates + frames_with_df === 0, JSON.stringify({ corrupt, duplicates, frames_with_df })],
      [counted.ids === counted.offered, `${counted.offered} datagrams left with ${counted.ids} identifications`],
      [
        // An emulated machine may lose some of what it cuts, for want of a processor.
        pieces === 1 ? counted.packets === counted.offered : counted.packets > counted.offered,
        `${counted.packets} packets left of ${counted.offered} datagrams, of which each makes ${pieces}`,
      ],
      [
        pieces > 1 || (counted.delivered === counted.offered && counted.dropped === 0),
        `${counted.offered - counted.delivered} of whole datagrams lost, ${counted.dropped} dropped by the limit`,
      ],
      [
        pieces === 1 || (counted.delivered > 0 && counted.delivered <= most),
        `${counted.delivered} datagrams delivered, of which the limit leaves from 1 to ${most}`,
      ],
    ];
    const problems = checks.filter(([right]) => !right).map(([, problem]) => `egress_mtu ${egressMtu}: ${problem}`);
    return { egressMtu, bytes: BYTES, ...counted, problems };
  } finally {
    await capture.abort();
  }
}

/** Whether it is one of the stream's packets: IPv4 and UDP to the sink, not what the machine says to find it. */
function isStreams(frame: Buffer): boolean {
  return frame.readUInt16BE(12) === 0x0800 && frame.readUInt8(23) === 17 && frame.readUInt32BE(30) === sinkAddress();
}

function sinkAddress(): number {
  return Buffer.from(VM_LAB.sink.address.split('.').map(Number)).readUInt32BE();
}
