// SPDX-License-Identifier: Apache-2.0
// One exchange with a gateway: frames in at the source, then everything that this caused on both wires and at the UDP
// socket behind them. A marker datagram follows the frames on the same path; what came of them is on the wires before it.
import { randomBytes } from 'node:crypto';
import { type Datagram, datagrams, decode, type PacketFacts, payloadHash } from './decode';
import { type Macs, type MirrorOptions, mirrored, Packet } from './packet';
import { Capture, type Received, type Receiver, send, type Wire } from './traffic';

/** Where frames go in and come out of a gateway. */
export interface Path {
  readonly source: Wire;
  readonly sink: Wire;
  /** Of the mirror packets, from the source to the gateway's primary interface. */
  readonly outer: { readonly from: string; readonly to: string; readonly macs: Macs; readonly vni?: number };
}

export interface ExchangeOptions {
  readonly packetsPerSecond?: number;
  /** A port and an IP length that the gateway forwards and clears DF of at present (default: 31765, MARKER_LENGTH). */
  readonly targetPort?: number;
  readonly markerLength?: number;
}

export interface Outcome {
  /** What was on the source's wire beside the frames sent. */
  readonly strayAtSource: readonly PacketFacts[];
  /** Every frame on the sink's wire, in order. */
  readonly atSink: readonly PacketFacts[];
  /** The same frames, and the marker's, as captured: `frame` of their facts counts them from 1. */
  readonly bytesAtSink: readonly Buffer[];
  /** What tshark reassembles from them. */
  readonly datagrams: readonly Datagram[];
  /** What the UDP socket got, in order. */
  readonly received: readonly Received[];
}

/** TEST-NET-1: nothing but the marker may come from here. */
const MARKER_ADDRESS = '192.0.2.1';
/** Large and with DF, so that it waits behind others wherever such datagrams wait. */
const MARKER_LENGTH = 1428;
const MARKER_TIMEOUT = 15_000;

/** The outer frame around a mirrored one, addressed to the path's gateway. */
export function onto(path: Path, inner: Buffer, options: MirrorOptions = {}): Buffer {
  return mirrored(inner, { ...path.outer, ...options });
}

/**
 * Sends frames (outer ones, see `onto`), captures both wires meanwhile, and decodes what came.
 *
 * @throws Error when the marker does not arrive: then the gateway forwards nothing any more
 */
export async function exchange(
  path: Path,
  receiver: Receiver,
  frames: readonly Buffer[],
  options: ExchangeOptions = {},
): Promise<Outcome> {
  const marker = newMarker(path, options);
  const receivedBefore = receiver.datagrams.length;
  const captures = await Promise.all([Capture.start(path.source), Capture.start(path.sink)]);
  try {
    await send(path.source, [...frames, marker.frame], options.packetsPerSecond);
    await receiver.see(
      'the marker sent after the frames',
      (datagram) => datagram.payloadHash === marker.hash,
      MARKER_TIMEOUT,
    );
  } catch (error) {
    await Promise.all(captures.map((capture) => capture.abort()));
    throw error;
  }
  const [atSource = [], atSink = []] = await Promise.all(captures.map((capture) => capture.stop()));
  const facts = (await decode(atSink)).filter((packet) => packet.ip?.from !== MARKER_ADDRESS);
  return {
    strayAtSource: await decode(without(atSource, [...frames, marker.frame])),
    atSink: facts,
    bytesAtSink: atSink,
    datagrams: datagrams(facts),
    received: receiver.datagrams.slice(receivedBefore).filter(({ payloadHash: hash }) => hash !== marker.hash),
  };
}

function newMarker(path: Path, options: ExchangeOptions): { frame: Buffer; hash: string } {
  const { targetPort = 31765, markerLength = MARKER_LENGTH } = options;
  const payload = Buffer.concat([randomBytes(16)], markerLength - 28);
  const packet = Packet.udp({ from: `${MARKER_ADDRESS}:9`, to: `192.0.2.2:${targetPort}` })
    .df()
    .payload(payload);
  return { frame: onto(path, packet.build()), hash: payloadHash(payload) };
}

/** The captured frames less those sent, each as often as it was sent. */
function without(captured: readonly Buffer[], sent: readonly Buffer[]): Buffer[] {
  const expected = new Map<string, number>();
  for (const frame of sent) expected.set(payloadHash(frame), (expected.get(payloadHash(frame)) ?? 0) + 1);
  return captured.filter((frame) => {
    const left = expected.get(payloadHash(frame)) ?? 0;
    expected.set(payloadHash(frame), left - 1);
    return left <= 0;
  });
}
