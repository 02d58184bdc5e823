// SPDX-License-Identifier: Apache-2.0
// Who tests the testers: packets that the builder makes are the bytes that scapy makes, the decoder calls wrong what is
// wrong, and captures and sockets see what is there and say so when it is not.
import { type Checksum, datagrams, decode, payloadHash } from '../../lab/packets/decode';
import { inNamespace, must } from '../../lab/support/host';
import { arp, icmp, icmpRedirect, routerAdvertisement, tcpSyn } from '../../lab/packets/unmatched';
import { mirrored, Packet, PROTOCOL } from '../../lab/packets/packet';
import { Capture, Receiver, send } from '../../lab/packets/traffic';

const FROM = '198.51.100.7:40000';
const TO = '203.0.113.9:31765';
const hello = Packet.udp({ from: FROM, to: TO }).payload(Buffer.from('hello'));

describe('the packet builder', () => {
  const IP = "IP(src='198.51.100.7',dst='203.0.113.9',id=1,ttl=64,flags=FLAGS)";
  const UDP = "UDP(sport=40000,dport=31765)/b'hello'";
  const ETHER = "Ether(src='0e:aa:00:00:00:01',dst='0e:bb:00:00:00:02')";
  const ip = (flags = '0', more = ''): string => IP.replace('FLAGS', flags).replace(/\)$/, `${more})`);
  const macs = { source: '0e:aa:00:00:00:01', destination: '0e:bb:00:00:00:02' };

  const CASES: readonly [string, Buffer, string][] = [
    ['a datagram', hello.build(), `${ETHER}/${ip()}/${UDP}`],
    ['DF', hello.df().build(), `${ETHER}/${ip("'DF'")}/${UDP}`],
    [
      'id, TTL, TOS',
      hello.id(65535).ttl(1).tos(7).build(),
      `${ETHER}/${ip().replace('id=1,ttl=64', 'id=65535,ttl=1,tos=7')}/${UDP}`,
    ],
    [
      'IP options',
      hello.options(Buffer.from([7, 7, 4, 0, 0, 0, 0])).build(),
      `${ETHER}/${ip('0', ",options=IPOption(b'\\x07\\x07\\x04\\0\\0\\0\\0\\0')")}/${UDP}`,
    ],
    ['two VLAN tags', hello.vlan(5, 0x88a8).vlan(0).build(), `${ETHER}/Dot1AD(vlan=5)/Dot1Q(vlan=0)/${ip()}/${UDP}`],
    ['an odd payload', hello.payload(Buffer.from('odd')).build(), `${ETHER}/${ip()}/${UDP.replace('hello', 'odd')}`],
    [
      'UDP checksum zero',
      hello.udpChecksum('zero').build(),
      `${ETHER}/${ip()}/${UDP.replace('31765', '31765,chksum=0')}`,
    ],
    ['a claimed IHL', hello.ihl(7).ipChecksum(0x1234).build(), `${ETHER}/${ip('0', ',ihl=7,chksum=0x1234')}/${UDP}`],
    [
      'claimed lengths',
      hello.claimTotalLength(9).ipChecksum(1).udpLength(7).udpChecksum(2).build(),
      `${ETHER}/${ip('0', ',len=9,chksum=1')}/${UDP.replace('31765', '31765,len=7,chksum=2')}`,
    ],
    [
      'a VXLAN packet',
      mirrored(hello.build(), { sourcePort: 50000, udpChecksum: 'valid', vni: 0xabcdef, macs }),
      `${ETHER}/IP(src='10.77.0.1',dst='10.77.0.2',ttl=255,id=0)/UDP(sport=50000,dport=4789)/VXLAN(flags=8,vni=0xabcdef)/(${ETHER}/${ip()}/${UDP})`,
    ],
    [
      'an ARP request',
      arp({ from: '10.0.0.1', to: '10.0.0.2' }),
      "Ether(src='0e:aa:00:00:00:01',dst='ff:ff:ff:ff:ff:ff')/ARP(hwsrc='0e:aa:00:00:00:01',psrc='10.0.0.1',pdst='10.0.0.2')",
    ],
    [
      'an ICMP echo request',
      icmp({ from: '198.51.100.7', to: '203.0.113.9' }).build(),
      `${ETHER}/${ip()}/ICMP()/bytes(28)`,
    ],
    [
      'a TCP SYN',
      tcpSyn({ from: '198.51.100.7', to: '203.0.113.9' }, 80).build(),
      `${ETHER}/${ip()}/TCP(sport=40000,dport=80,window=65535)`,
    ],
    [
      'a router advertisement',
      routerAdvertisement('fe80::1', '2001:db8::'),
      "Ether(src='0e:aa:00:00:00:01',dst='33:33:00:00:00:01')/IPv6(src='fe80::1',dst='ff02::1',hlim=255)/ICMPv6ND_RA(chlim=64,prf=0)/ICMPv6NDOptSrcLLAddr(lladdr='0e:aa:00:00:00:01')/ICMPv6NDOptMTU(mtu=1280)/ICMPv6NDOptPrefixInfo(prefix='2001:db8::',validlifetime=86400,preferredlifetime=86400)",
    ],
  ];
  let scapySays: string[];
  beforeAll(async () => {
    const packets = CASES.map(([, , packet]) => `print(bytes(${packet}).hex())`);
    const script = ['from scapy.all import *', 'from scapy.layers.vxlan import VXLAN', ...packets].join('\n');
    scapySays = (await must('/usr/bin/python3', ['-c', script])).trim().split('\n');
  });

  it.each(CASES.map(([name, frame], index) => ({ name, frame, index })))(
    'makes the bytes of $name that scapy makes',
    ({ frame, index }) => {
      expect(frame.toString('hex')).toBe(scapySays[index]);
    },
  );

  it('cuts a frame after padding it', () => {
    expect(hello.pad(100).build()).toHaveLength(100);
    expect(hello.pad(100).truncate(20).build()).toEqual(hello.build().subarray(0, 20));
  });

  it('never changes a packet that somebody holds', () => {
    const before = hello.build();
    hello.df().id(9).options(Buffer.alloc(4)).vlan(1).truncate(3);
    expect(hello.build()).toEqual(before);
  });

  it('says what is out of the ordinary', () => {
    expect(hello.df().ttl(1).udpChecksum(5).truncate(30).describe()).toBe(
      'UDP 198.51.100.7:40000 > 203.0.113.9:31765, 33 bytes, id 1, DF, TTL 1, UDP checksum 0x0005, frame cut at 30',
    );
  });

  it('refuses what no packet can be', () => {
    expect(() => hello.ttl(256)).toThrow('TTL 256: an integer from 0 to 255 is expected');
    expect(() => Packet.udp({ from: '1.2.3', to: TO })).toThrow('IPv4 address "1.2.3"');
    expect(() => hello.totalLength(20).build()).toThrow('the headers alone take 28 bytes');
  });
});

describe('the decoder', () => {
  /** A datagram cut as a router would. */
  function fragments(packet: Packet, id: number, room = 1376): Buffer[] {
    const whole = packet.ipPacket().subarray(20);
    const starts = Array.from({ length: Math.ceil(whole.length / room) }, (_, n) => n * room);
    const cut = { from: '198.51.100.7', to: '203.0.113.9', protocol: PROTOCOL.udp };
    return starts.map((at) => {
      const part = Packet.ip({ ...cut, transport: whole.subarray(at, at + room) }).id(id);
      return part
        .fragmentOffset(at / 8)
        .mf(at + room < whole.length)
        .build();
    });
  }

  it.each<[string, Packet, Checksum, Checksum]>([
    ['right checksums', hello, 'good', 'good'],
    ['a wrong IP checksum', hello.ipChecksum(1), 'bad', 'good'],
    ['a wrong UDP checksum', hello.udpChecksum(1), 'good', 'bad'],
    ['no UDP checksum', hello.udpChecksum('zero'), 'good', 'none'],
  ])('sees %s', async (_, packet, ip, udp) => {
    const [facts] = await decode([packet.df().ttl(9).tos(4).id(77).build()]);
    expect(facts).toMatchObject({
      ip: { from: '198.51.100.7', to: '203.0.113.9', id: 77, df: true, mf: false, ttl: 9, tos: 4, totalLength: 33 },
      udp: { fromPort: 40000, toPort: 31765, length: 13, payloadHash: payloadHash(Buffer.from('hello')) },
    });
    expect([facts?.ip?.checksum, facts?.udp?.checksum]).toEqual([ip, udp]);
  });

  it('puts fragments together and checks the whole', async () => {
    const right = hello.totalLength(3000);
    const frames = [...fragments(right, 1), ...fragments(right.udpChecksum(1), 2), ...fragments(right, 3).slice(1)];
    const found = datagrams(await decode(frames));
    expect(found.map(({ id, udp }) => [id, udp.checksum, udp.payloadHash])).toEqual([
      [1, 'good', payloadHash(right.data())],
      [2, 'bad', payloadHash(right.data())],
    ]);
    expect(found[0]?.fragments.map(({ offset, mf }) => [offset, mf])).toEqual([
      [0, true],
      [1376, true],
      [2752, false],
    ]);
  });

  it('takes nothing inside another packet for the packet', async () => {
    const between = { from: '198.51.100.7', to: '203.0.113.9' };
    const facts = await decode([icmpRedirect(between, '10.0.0.1', '10.0.0.2').build(), mirrored(hello.build())]);
    expect(facts[0]).toMatchObject({ ip: { from: '198.51.100.7', protocol: 1 }, udp: undefined });
    expect(facts[1]).toMatchObject({ ip: { from: '10.77.0.1' }, udp: { toPort: 4789, checksum: 'none' } });
  });

  it('sees VLAN tags', async () => {
    const facts = await decode([hello.vlan(7, 0x88a8).vlan(0).build(), hello.build()]);
    expect(facts.map(({ vlans }) => vlans)).toEqual([[7, 0], []]);
  });
});

describe('on a wire', () => {
  const near = { namespace: 'mg-near', interface: 'near' };
  const far = { namespace: 'mg-far', interface: 'far' };

  beforeAll(async () => {
    for (const { namespace } of [near, far]) await must('ip', ['netns', 'add', namespace]);
    const end = (wire: typeof near): string[] => [wire.interface, 'netns', wire.namespace];
    await must('ip', ['link', 'add', ...end(near), 'type', 'veth', 'peer', ...end(far)]);
    for (const { namespace, interface: name } of [near, far]) {
      await must(...inNamespace(namespace, 'sysctl', '-qw', `net.ipv6.conf.${name}.disable_ipv6=1`));
      await must('ip', ['-n', namespace, 'link', 'set', name, 'up']);
    }
    await must('ip', ['-n', far.namespace, 'address', 'add', '203.0.113.9/24', 'dev', far.interface]);
    await must(
      ...inNamespace(
        far.namespace,
        'sysctl',
        '-qw',
        `net.ipv4.conf.${far.interface}.rp_filter=0`,
        'net.ipv4.conf.all.rp_filter=0',
      ),
    );
  });
  afterAll(async () => {
    for (const { namespace } of [near, far]) await must('ip', ['netns', 'delete', namespace]);
  });

  it('a capture holds every frame, in order, and nothing else', async () => {
    const frames = Array.from({ length: 500 }, (_, id) => hello.id(id).build());
    const captures = await Promise.all([Capture.start(near), Capture.start(far)]);
    await send(near, frames, 5000);
    const [sent, arrived] = await Promise.all(captures.map((capture) => capture.stop()));
    // The far end's mark passes the near end too, and the other way round: both are left out.
    expect(sent).toEqual(frames);
    expect(arrived).toEqual(frames);
  });

  it('waiting for a frame that does not come ends with a clear message', async () => {
    const capture = await Capture.start(far);
    await expect(capture.see('a unicorn', () => false, 300)).rejects.toThrow('a unicorn on far: not seen within 0.3 s');
    await capture.abort();
  });

  it('a socket gets datagrams whose checksum is right or absent, and no others', async () => {
    const mac = JSON.parse(await must('ip', ['-n', far.namespace, '-j', 'link', 'show', far.interface])) as {
      address: string;
    }[];
    const packet = Packet.udp({ from: FROM, to: TO }).macs('0e:aa:00:00:00:01', mac[0]?.address ?? '');
    const receiver = await Receiver.start(far, '203.0.113.9', 31765);
    await must('ip', ['-n', far.namespace, 'route', 'add', '198.51.100.0/24', 'dev', far.interface]);
    const [right, wrong, none] = [packet.id(1), packet.id(2).udpChecksum(1), packet.id(3).udpChecksum('zero')];
    await send(
      near,
      [right, wrong, none].map((each) => each.build()),
    );
    await receiver.see('the last datagram', ({ payloadHash: hash }) => hash === payloadHash(none.data()));
    const expected = [right, none].map((each) => ({ from: FROM, length: 32, payloadHash: payloadHash(each.data()) }));
    expect(receiver.datagrams).toEqual(expected);
    await receiver.stop();
  });

  it('what cannot start says why', async () => {
    await expect(Receiver.start(far, '192.0.2.99', 9)).rejects.toThrow('EADDRNOTAVAIL');
    await expect(Capture.start({ ...far, interface: 'none' })).rejects.toThrow('No such device');
    await expect(send({ ...near, interface: 'none' }, [hello.build()])).rejects.toThrow('none');
  });
});
