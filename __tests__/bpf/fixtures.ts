// SPDX-License-Identifier: Apache-2.0
// Named packets, each with what must come out and what must be counted. The expected bytes of a modified packet are the
// same packet described again without DF, so its checksum is computed from scratch: nothing here adds incrementally.
// Every kernel has to pass them: the running one in this folder's tests, others in those of machines.
import { ETHERNET_HEADER, ETHERTYPE, Packet, PROTOCOL, internetChecksum } from '../../lab/packets/packet';
import {
  type Changes,
  DEFAULT_CONFIG,
  LONGEST_FRAME,
  type Program,
  REFUSED,
  type Stats,
  XDP_PASS,
  stats,
} from './program';

interface Fixture {
  readonly name: string;
  readonly frame: Buffer;
  readonly expected: Buffer;
  readonly counted: Partial<Stats>;
  readonly config?: Changes;
}

const VLAN_TAG = 4;
const IP_FLAGS = 6;
const IP_CHECKSUM = 10;

const datagram = Packet.udp({ from: '198.51.100.7:40000', to: '203.0.113.9:31765' });
const large = datagram.totalLength(1500).df();
/** Small packets for what a cut or a wrong field does, with bounds that they meet. */
const small = datagram.totalLength(60).df();
const smallMatches: Changes = { min_packet_size: 27, max_packet_size: 200 };

function cleared(name: string, packet: Packet, config?: Changes): Fixture {
  const expected = packet.df(false);
  const bytes = packet.ipPacket().readUInt16BE(2);
  const counted = { packets_matched: 1, packets_modified: 1, bytes_processed: bytes };
  return { name, frame: packet.build(), expected: expected.build(), counted, config };
}

function untouched(name: string, packet: Packet | Buffer, counted: Partial<Stats>, config?: Changes): Fixture {
  const frame = Buffer.isBuffer(packet) ? packet : packet.build();
  return { name, frame, expected: Buffer.from(frame), counted, config };
}

const justSeen = (name: string, packet: Packet | Buffer, config?: Changes): Fixture =>
  untouched(name, packet, {}, config);
const malformed = (name: string, packet: Packet | Buffer, config?: Changes): Fixture =>
  untouched(name, packet, { packets_malformed: 1 }, config);
const fragment = (name: string, packet: Packet): Fixture => untouched(name, packet, { fragments_seen: 1 });
const withoutDf = (name: string, packet: Packet): Fixture => untouched(name, packet, { packets_matched: 1 });
const left = (name: string, packet: Packet, percent: number): Fixture =>
  untouched(name, packet, { packets_matched: 1, packets_left_to_netfilter: 1 }, { traffic_percent: percent });

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Chooses the IP id that makes the header's right checksum the one that is wanted. */
function checksummed(wanted: number): Packet {
  const sum = 0xffff - large.id(0).ipPacket().readUInt16BE(IP_CHECKSUM);
  const packet = large.id((0xffff - wanted + 0xffff - sum) % 0xffff);
  if (packet.ipPacket().readUInt16BE(IP_CHECKSUM) !== wanted) throw new Error(`no id gives checksum ${wanted}`);
  return packet;
}

/** Changes one 16-bit field of the IP header of an untagged frame. */
function withWord(frame: Buffer, offset: number, value: number): Buffer {
  const copy = Buffer.from(frame);
  copy.writeUInt16BE(value, ETHERNET_HEADER + offset);
  return copy;
}

function carry(name: string, before: number, after: number): Fixture {
  const packet = before === 0xffff ? checksummed(0).ipChecksum(0xffff) : checksummed(before);
  return {
    ...cleared(`checksum ${name}`, packet),
    expected: packet.df(false).ipChecksum(after).build(),
  };
}

const carries: Fixture[] = [
  carry('0x0000 becomes 0x4000', 0x0000, 0x4000),
  carry('0x0001 becomes 0x4001', 0x0001, 0x4001),
  carry('0x3fff becomes 0x7fff', 0x3fff, 0x7fff),
  carry('0x7fff becomes 0xbfff', 0x7fff, 0xbfff),
  carry('0xbffe becomes 0xfffe, the last without carry', 0xbffe, 0xfffe),
  carry('0xbfff becomes 0x0000, the zero that RFC 1624 chooses', 0xbfff, 0x0000),
  carry('0xc000 carries to 0x0001', 0xc000, 0x0001),
  carry('0xc001 carries to 0x0002', 0xc001, 0x0002),
  carry('0xfffe carries to 0x3fff', 0xfffe, 0x3fff),
  carry('0xffff, the other zero, carries to 0x4000', 0xffff, 0x4000),
];

const brokenChecksum = large.ipChecksum(0x1234);
const reservedFlag = withWord(withWord(large.build(), IP_FLAGS, 0xc000), IP_CHECKSUM, 0xc000);

const matches: Fixture[] = [
  cleared('a datagram of 1500 bytes', large),
  cleared('a datagram of 1428 bytes', large.totalLength(1428)),
  cleared('an odd length', large.totalLength(1501)),
  cleared('the longest frame that runs here', large.totalLength(LONGEST_FRAME - ETHERNET_HEADER)),
  cleared('zero UDP checksum stays zero', large.udpChecksum('zero')),
  cleared('wrong UDP checksum stays wrong', large.udpChecksum(0xbeef)),
  cleared('UDP checksum 0xffff stays', large.udpChecksum(0xffff)),
  cleared('TTL 1', large.ttl(1)),
  cleared('TTL 0', large.ttl(0)),
  cleared('DSCP and ECN set', large.tos(0xff)),
  cleared('IP id 0', large.id(0)),
  cleared('IP id 0xffff', large.id(0xffff)),
  cleared('broadcast MAC', large.macs('02:00:00:00:00:01', 'ff:ff:ff:ff:ff:ff')),
  cleared('from port 0', Packet.udp({ from: '198.51.100.7:0', to: '203.0.113.9:31765' }).totalLength(1500).df()),
  cleared('from and to one address', Packet.udp({ from: '1.1.1.1:31765', to: '1.1.1.1:31765' }).totalLength(1500).df()),
  cleared(
    'addresses of ones only',
    Packet.udp({ from: '255.255.255.255:1', to: '255.255.255.255:31765' }).totalLength(1500).df(),
  ),
  cleared('UDP length shorter than its IP packet', large.udpLength(100)),
  cleared('Ethernet padding behind a short packet', small.totalLength(30).pad(60), smallMatches),
  cleared('padding much longer than the packet', small.pad(1500), smallMatches),
  cleared('an empty datagram', small.payload(Buffer.alloc(0)), smallMatches),
  withoutDf('DF already clear', large.df(false)),
  {
    name: 'a wrong IP checksum stays as wrong as it was',
    frame: brokenChecksum.build(),
    expected: brokenChecksum.df(false).ipChecksum(0x5234).build(),
    counted: { packets_matched: 1, packets_modified: 1, bytes_processed: 1500 },
  },
  {
    name: 'the reserved flag beside DF is kept',
    frame: reservedFlag,
    expected: withWord(withWord(reservedFlag, IP_FLAGS, 0x8000), IP_CHECKSUM, 0x0001),
    counted: { packets_matched: 1, packets_modified: 1, bytes_processed: 1500 },
  },
  untouched('the reserved flag without DF', withWord(large.build(), IP_FLAGS, 0x8000), { packets_matched: 1 }),
];

const sizes: Fixture[] = [
  justSeen('1400 bytes, the minimum, is not greater than it', large.totalLength(1400)),
  cleared('1401 bytes, the minimum and one', large.totalLength(1401)),
  justSeen('60 bytes', small),
  cleared('200 bytes, the maximum', small.totalLength(200), smallMatches),
  justSeen('201 bytes, the maximum and one', small.totalLength(201), smallMatches),
  cleared('199 bytes, the maximum less one', small.totalLength(199), smallMatches),
  justSeen('a minimum of one less than the maximum, at the minimum', small.totalLength(99), {
    min_packet_size: 99,
    max_packet_size: 100,
  }),
  cleared('a minimum of one less than the maximum, at the maximum', small.totalLength(100), {
    min_packet_size: 99,
    max_packet_size: 100,
  }),
  cleared('a minimum of 0', small.totalLength(28), { min_packet_size: 0 }),
  cleared('a maximum of 65535', large, { max_packet_size: 65535 }),
  justSeen('a minimum of 65534', large, { min_packet_size: 65534, max_packet_size: 65535 }),
  cleared('the size is the IP length, not the frame length', small.totalLength(200).pad(300), smallMatches),
  cleared(
    'the size is the IP length, options included',
    small.options(Buffer.alloc(40, 1)).totalLength(200),
    smallMatches,
  ),
];

const to = (port: number): Packet =>
  Packet.udp({ from: '198.51.100.7:31765', to: `203.0.113.9:${port}` })
    .totalLength(1500)
    .df();
const swapped = 0x157c; // 31765 is 0x7c15
const ports: Fixture[] = [
  justSeen('the target port with its bytes swapped', to(swapped)),
  cleared('a target port that is the swapped one', to(swapped), { target_port: swapped }),
  justSeen('port 31765 when the target is its swapped bytes', to(31765), { target_port: swapped }),
  justSeen('one port less', to(31764)),
  justSeen('one port more', to(31766)),
  justSeen('the target port as source port only', to(8081)),
  justSeen('port 0', to(0)),
  cleared('port 1', to(1), { target_port: 1 }),
  cleared('port 65535', to(65535), { target_port: 65535 }),
  cleared('port 255', to(255), { target_port: 255 }),
  cleared('port 256', to(256), { target_port: 256 }),
  justSeen('a configuration of zeros matches nothing', to(0), {
    target_port: 0,
    min_packet_size: 0,
    max_packet_size: 0,
    traffic_percent: 0,
  }),
];

const tags: Fixture[] = [
  cleared('one 802.1Q tag', large.vlan(7)),
  cleared('one 802.1ad tag', large.vlan(7, ETHERTYPE.qinq)),
  cleared('802.1ad around 802.1Q', large.vlan(7, ETHERTYPE.qinq).vlan(8)),
  cleared('two 802.1Q tags', large.vlan(7).vlan(8)),
  cleared('priority bits and all in the tag', large.vlan(0xffff)),
  justSeen('three tags', large.vlan(7, ETHERTYPE.qinq).vlan(8).vlan(9)),
  justSeen('an unknown tag protocol, 0x9100', large.vlan(7, 0x9100)),
  justSeen('IPv6 behind a tag', large.vlan(7).etherType(ETHERTYPE.ipv6)),
  fragment('a fragment behind a tag', large.vlan(7).mf()),
  malformed('IHL 4 behind two tags', large.vlan(7).vlan(8).ihl(4)),
  justSeen('another port behind a tag', to(31764).vlan(7)),
];

const middle = datagram.totalLength(1500).mf().fragmentOffset(185);
const fragments: Fixture[] = [
  fragment('first fragment, which has the real UDP header', datagram.totalLength(1500).mf()),
  fragment('first fragment with DF, as some hosts send', large.mf()),
  fragment('middle fragment whose payload looks like a UDP header to the port', middle),
  fragment('last fragment whose payload looks like a UDP header to the port', middle.mf(false)),
  fragment('last fragment with DF whose payload looks like a UDP header', large.fragmentOffset(1)),
  fragment('fragment at the greatest offset', large.fragmentOffset(0x1fff)),
  fragment('last fragment of one byte', datagram.totalLength(29).ihl(7).fragmentOffset(100)),
  fragment('first fragment with IP options', large.options(Buffer.alloc(8, 1)).mf()),
  justSeen('fragment of another protocol', large.mf().protocol(PROTOCOL.tcp)),
  malformed('fragment cut short', large.mf().truncate(1000)),
];

const others: Fixture[] = [
  justSeen('TCP to the port', large.protocol(PROTOCOL.tcp)),
  justSeen('ICMP', large.protocol(PROTOCOL.icmp)),
  justSeen('UDP-Lite', large.protocol(136)),
  justSeen('protocol 0', large.protocol(0)),
  justSeen('IPv6', large.etherType(ETHERTYPE.ipv6).version(6)),
  justSeen('ARP', large.etherType(ETHERTYPE.arp)),
  justSeen('EtherType 0', large.etherType(0)),
  justSeen('an 802.3 length in place of the EtherType', large.etherType(46)),
  justSeen('an EtherType with the bytes of IPv4 swapped', large.etherType(0x0008)),
  justSeen('an Ethernet header of another type and nothing else', large.etherType(0x88cc).truncate(14)),
];

const headerWords = range(0, 15);
/** Four bytes further on, a UDP checksum is the destination port, and this begins with the length. */
const looksLikeUdpLength = Buffer.concat([Buffer.from([0, 100]), Buffer.alloc(1470)]);
/** A header of 16 bytes would end before the destination address, here 124.21 = port 31765, and a "length" of 1000. */
const addressLikePorts = Packet.udp({ from: '198.51.100.7:1000', to: '203.0.124.21:31765' }).totalLength(1500).df();
const lengths: Fixture[] = [
  ...headerWords.filter((ihl) => ihl < 5).map((ihl) => malformed(`IHL ${ihl}`, large.ihl(ihl))),
  ...headerWords
    .filter((ihl) => ihl >= 5)
    .map((ihl) =>
      cleared(`IHL ${ihl}, options and all`, large.options(Buffer.alloc(ihl * 4 - 20, 1)).totalLength(1500)),
    ),
  cleared(
    'IHL 6 without options: the UDP header begins where it says',
    large.ihl(6).udpChecksum(31765).payload(looksLikeUdpLength),
  ),
  malformed('IHL 4, where the address looks like the ports', addressLikePorts.ihl(4)),
  malformed('IHL 15 in a packet of 28 bytes', small.totalLength(28).ihl(15), smallMatches),
  malformed('IHL 8 in a packet of 28 bytes and a padded frame', small.totalLength(28).ihl(8).pad(100), smallMatches),
  ...[0, 5, 6, 15].map((version) =>
    malformed(`version ${version} behind the EtherType of IPv4`, large.version(version)),
  ),
  malformed('total length 0, as of a TSO packet', large.claimTotalLength(0)),
  malformed('total length 19, less than a header', large.claimTotalLength(19)),
  malformed('total length 20: no UDP header', small.claimTotalLength(20), smallMatches),
  malformed('total length 27: a UDP header less one byte', small.claimTotalLength(27), smallMatches),
  malformed('total length 28 where the UDP length says 40', small.claimTotalLength(28), smallMatches),
  cleared('total length 28 and UDP length 8, padding behind', small.claimTotalLength(28).udpLength(8), smallMatches),
  malformed('total length one byte beyond the frame', large.claimTotalLength(1501)),
  malformed('total length 65535', large.claimTotalLength(65535)),
  malformed('total length with its bytes swapped', large.claimTotalLength(0xdc05)),
  malformed('total length less than IHL 15', small.options(Buffer.alloc(40, 1)).totalLength(100).claimTotalLength(59)),
  ...[0, 1, 7].map((bytes) => malformed(`UDP length ${bytes}`, large.udpLength(bytes))),
  cleared('UDP length 8', large.udpLength(8)),
  cleared('UDP length of all the payload', large.udpLength(1480)),
  malformed('UDP length one byte beyond the payload', large.udpLength(1481)),
  malformed('UDP length 65535', large.udpLength(65535)),
  malformed('UDP length wrong, to another port', to(31764).udpLength(7)),
];

const taggedSmall = small.vlan(7, ETHERTYPE.qinq).vlan(8);
const withOptions = small.options(Buffer.alloc(8, 1)).totalLength(60);
const cuts: Fixture[] = [
  ...range(14, 14 + 59).map((bytes) => malformed(`cut at byte ${bytes} of 74`, small.truncate(bytes), smallMatches)),
  cleared('cut at byte 74 of 74: not at all', small.truncate(74), smallMatches),
  ...range(14, 14 + 2 * VLAN_TAG - 1).map((bytes) =>
    justSeen(`tagged twice, cut in the tags at byte ${bytes}`, taggedSmall.truncate(bytes), smallMatches),
  ),
  ...range(22, 22 + 28).map((bytes) =>
    malformed(`tagged twice, cut at byte ${bytes}`, taggedSmall.truncate(bytes), smallMatches),
  ),
  ...range(34, 34 + 16).map((bytes) =>
    malformed(`with IP options, cut at byte ${bytes}`, withOptions.truncate(bytes), smallMatches),
  ),
  // Here the IP header claims no more than is there, so that only the UDP header's own check can notice.
  ...range(20, 27).map((bytes) =>
    malformed(
      `cut at byte ${14 + bytes}, total length right`,
      small.claimTotalLength(bytes).truncate(14 + bytes),
      smallMatches,
    ),
  ),
];

// Buckets 61, 2, 0 and 90 of 100, computed by another implementation of the hash.
const flow = (port: number): Packet =>
  Packet.udp({ from: `198.51.100.7:${port}`, to: '203.0.113.9:31765' })
    .totalLength(1500)
    .df();
const share = (percent: number): Changes => ({ traffic_percent: percent });
const shares: Fixture[] = [
  left('0 percent, bucket 0', flow(40003), 0),
  cleared('1 percent, bucket 0', flow(40003), share(1)),
  left('2 percent, bucket 2', flow(40002), 2),
  cleared('3 percent, bucket 2', flow(40002), share(3)),
  cleared('37 percent, bucket 2', flow(40002), share(37)),
  left('37 percent, bucket 61', flow(40001), 37),
  left('61 percent, bucket 61', flow(40001), 61),
  cleared('62 percent, bucket 61', flow(40001), share(62)),
  left('90 percent, bucket 90', flow(40000), 90),
  cleared('91 percent, bucket 90', flow(40000), share(91)),
  cleared('100 percent, bucket 90', flow(40000), share(100)),
  untouched('0 percent, DF clear: nothing is left to anybody', flow(40000).df(false), { packets_matched: 1 }, share(0)),
];

const groups: Record<string, readonly Fixture[]> = {
  'what matches': matches,
  'the checksum, carries at both ends': carries,
  'sizes at each bound': sizes,
  'ports in both byte orders': ports,
  'VLAN tags': tags,
  fragments,
  'other protocols': others,
  'lengths that lie': lengths,
  'every truncation point': cuts,
  'the share of the flows': shares,
};

/** Declares a test for each fixture, and those of many packets. The program is asked for when the first one runs. */
export function itTreatsEveryFixture(program: () => Program): void {
  const run = async (frame: Buffer, config: Changes = {}): ReturnType<Program['run']> => {
    program().configure({ ...DEFAULT_CONFIG, ...config });
    return program().run([frame]);
  };

  describe.each(Object.entries(groups))('%s', (_, fixtures) => {
    test.each(fixtures.map((fixture) => [fixture.name, fixture] as const))('%s', async (_name, fixture) => {
      const { answers, counted } = await run(fixture.frame, fixture.config);
      expect(answers[0]?.verdict).toBe(XDP_PASS);
      expect(answers[0]?.bytes.toString('hex')).toBe(fixture.expected.toString('hex'));
      expect(counted).toEqual(stats({ packets_seen: 1, ...fixture.counted }));
    });
  });

  test('no two fixtures share a name', () => {
    const names = Object.values(groups).flatMap((fixtures) => fixtures.map(({ name }) => name));
    expect(new Set(names).size).toBe(names.length);
  });

  test('a frame shorter than an Ethernet header reaches no XDP program, or passes as it is where it does', async () => {
    for (const bytes of range(0, 13)) {
      const frame = large.truncate(bytes).build();
      const { answers, counted } = await run(frame);
      if (answers[0]?.verdict === REFUSED) continue;
      // Linux 5.10 runs it.
      expect(answers[0]).toEqual({ verdict: XDP_PASS, bytes: frame });
      expect(counted).toEqual(stats({ packets_seen: 1 }));
    }
  });

  test('every cleared packet has a valid IP checksum and the UDP checksum it came with', async () => {
    const untagged = [...matches, ...carries, ...sizes, ...ports, ...shares].filter(
      ({ name, counted }) => counted.packets_modified && !/wrong IP|reserved/.test(name),
    );
    expect(untagged.length).toBeGreaterThan(40);
    for (const { frame, config } of untagged) {
      const [answer] = (await run(frame, config)).answers;
      const headerBytes = (frame.readUInt8(ETHERNET_HEADER) & 15) * 4;
      const headerEnd = ETHERNET_HEADER + headerBytes;
      expect(internetChecksum(answer?.bytes.subarray(ETHERNET_HEADER, headerEnd) ?? Buffer.alloc(1))).toBe(0);
      expect(answer?.bytes.subarray(headerEnd)).toEqual(frame.subarray(headerEnd));
    }
  });

  test('the checksum is right for all of its 65535 values', async () => {
    const packets = range(0, 0xfffe).map((id) => datagram.totalLength(28).df().id(id));
    program().configure({ ...DEFAULT_CONFIG, min_packet_size: 0 });
    const { answers, counted } = await program().run(packets.map((packet) => packet.build()));
    const checksums = new Set(packets.map((packet) => packet.ipPacket().readUInt16BE(IP_CHECKSUM)));
    expect(checksums.size).toBe(0xffff);
    expect(counted.packets_modified).toBe(0xffff);
    const wrong = packets.filter((packet, i) => !answers[i]?.bytes.equals(packet.df(false).build()));
    expect(wrong.map((packet) => packet.describe())).toEqual([]);
  });

  test('settings change under traffic, without a reload', async () => {
    const frame = large.build();
    expect((await run(frame, { target_port: 4500 })).counted).toEqual(stats({ packets_seen: 1 }));
    expect((await run(frame, { traffic_percent: 0 })).counted.packets_left_to_netfilter).toBe(1);
    expect((await run(frame, { min_packet_size: 1500 })).counted).toEqual(stats({ packets_seen: 1 }));
    expect((await run(frame)).counted.packets_modified).toBe(1);
  });

  test('a flow never leaves XDP as its share grows, and the share is what the setting says', async () => {
    const flows = range(1, 10_000).map((i) =>
      Packet.udp({ from: `198.51.${i >> 8}.${i & 255}:${(i * 7919) % 65536}`, to: '203.0.113.9:31765' })
        .totalLength(28)
        .df(),
    );
    const frames = flows.map((packet) => packet.build());
    let before = new Set<number>();
    for (const percent of [0, 1, 10, 37, 38, 50, 99, 100]) {
      program().configure({ ...DEFAULT_CONFIG, min_packet_size: 0, traffic_percent: percent });
      const { answers } = await program().run(frames);
      const taken = new Set(answers.flatMap(({ bytes }, i) => (frames[i]?.equals(bytes) ? [] : [i])));
      expect([...before].filter((i) => !taken.has(i))).toEqual([]);
      expect(Math.abs(taken.size / 100 - percent)).toBeLessThan(percent % 100 ? 1.5 : 0.001);
      before = taken;
    }
  });
}
