// SPDX-License-Identifier: Apache-2.0
// A second opinion on the rule, written from its text and not from the C: which frames match, what a match becomes and
// what is counted. The two must agree on every frame there is; differential.ts looks for one on which they do not.
import { type Config, type Stats } from './program';

const TAGS = new Set([0x8100, 0x88a8]);
const MAX_TAGS = 2;
const IPV4 = 0x0800;
const UDP = 17;
const DF = 0x4000;
const MF_AND_OFFSET = 0x3fff;

export type Judgement =
  | { readonly kind: 'not IPv4' | 'not UDP' | 'other port' | 'other size' | 'matched without DF' | 'left' }
  | { readonly kind: 'malformed'; readonly why: string }
  | { readonly kind: 'fragment' }
  | { readonly kind: 'modified'; readonly ipAt: number; readonly totalLength: number };

export function judge(frame: Buffer, config: Config): Judgement {
  const ipAt = ipOffset(frame);
  if (ipAt === undefined) return { kind: 'not IPv4' };

  const present = frame.length - ipAt;
  if (present < 20) return malformed('IP header cut');
  const version = frame.readUInt8(ipAt) >> 4;
  const headerLength = (frame.readUInt8(ipAt) & 15) * 4;
  const totalLength = frame.readUInt16BE(ipAt + 2);
  if (version !== 4) return malformed('version');
  if (headerLength < 20) return malformed('IHL below 5');
  if (totalLength < headerLength) return malformed('total length below header length');
  if (totalLength > present) return malformed('total length beyond the frame');

  const flags = frame.readUInt16BE(ipAt + 6);
  if (frame.readUInt8(ipAt + 9) !== UDP) return { kind: 'not UDP' };
  if (flags & MF_AND_OFFSET) return { kind: 'fragment' };

  const udpAt = ipAt + headerLength;
  const payloadLength = totalLength - headerLength;
  if (payloadLength < 8) return malformed('UDP header cut');
  const udpLength = frame.readUInt16BE(udpAt + 4);
  if (udpLength < 8 || udpLength > payloadLength) return malformed('UDP length');

  if (frame.readUInt16BE(udpAt + 2) !== config.target_port) return { kind: 'other port' };
  if (!(config.min_packet_size < totalLength && totalLength <= config.max_packet_size)) return { kind: 'other size' };
  if (!(flags & DF)) return { kind: 'matched without DF' };

  const flow = Buffer.concat([frame.subarray(ipAt + 12, ipAt + 20), frame.subarray(udpAt, udpAt + 4)]);
  if (murmur3(flow) % 100 >= config.traffic_percent) return { kind: 'left' };
  return { kind: 'modified', ipAt, totalLength };
}

/** The frame as it must leave, in place. */
export function apply(judgement: Judgement, frame: Buffer): void {
  if (judgement.kind !== 'modified') return;
  const { ipAt } = judgement;
  frame.writeUInt16BE(frame.readUInt16BE(ipAt + 6) & ~DF, ipAt + 6);
  // One's complement arithmetic is arithmetic modulo 65535: what the flag loses, the checksum gains. RFC 1624 answers
  // with 0, never with 65535, where the two would mean the same.
  frame.writeUInt16BE((frame.readUInt16BE(ipAt + 10) + DF) % 0xffff, ipAt + 10);
}

/** Adds what the gateway counts for this frame. */
export function count(judgement: Judgement, stats: Stats): void {
  stats.packets_seen++;
  switch (judgement.kind) {
    case 'malformed':
      stats.packets_malformed++;
      break;
    case 'fragment':
      stats.fragments_seen++;
      break;
    case 'matched without DF':
      stats.packets_matched++;
      break;
    case 'left':
      stats.packets_matched++;
      stats.packets_left_to_netfilter++;
      break;
    case 'modified':
      stats.packets_matched++;
      stats.packets_modified++;
      stats.bytes_processed += judgement.totalLength;
      break;
    default:
  }
}

/** MurmurHash3_x86_32 of any bytes. */
export function murmur3(bytes: Buffer, seed = 0): number {
  const scramble = (k: number): number => Math.imul(rotate(Math.imul(k, 0xcc9e2d51), 15), 0x1b873593);
  const whole = bytes.length - (bytes.length % 4);
  let hash = seed;
  for (let at = 0; at < whole; at += 4) {
    hash = rotate(hash ^ scramble(bytes.readInt32LE(at)), 13);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  if (whole < bytes.length) hash ^= scramble(bytes.readUIntLE(whole, bytes.length - whole));
  hash ^= bytes.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

function malformed(why: string): Judgement {
  return { kind: 'malformed', why };
}

function ipOffset(frame: Buffer): number | undefined {
  for (let tags = 0, at = 12; tags <= MAX_TAGS; tags++, at += 4) {
    if (frame.length < at + 2) return undefined;
    const type = frame.readUInt16BE(at);
    if (type === IPV4) return at + 2;
    if (!TAGS.has(type)) return undefined;
  }
  return undefined;
}
