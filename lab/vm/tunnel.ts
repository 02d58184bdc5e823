// SPDX-License-Identifier: Apache-2.0
// A far end behind the lab's sink, which forwards to it over an MTU of 1400 as an IPsec VM with a route-based tunnel does:
// whoever puts a datagram into the tunnel cuts it, under the identification that the gateway gave it.
//
//   mg-sink  t0 10.99.0.1/24 ── f0 10.99.0.2/24  mg-far
import { inNamespace, must, run } from '../support/host';
import { LAB } from '../namespaces/namespaces';

export const TUNNEL_MTU = 1400;

/** Where datagrams end that the sink gets at its own address. */
export const FAR_END = { namespace: 'mg-far', interface: 'f0', address: '10.99.0.2', port: LAB.sink.port } as const;

const ROUTER = '10.99.0.1';

/** Without connection tracking, which would put the fragments of a cut datagram together again. */
const REDIRECT = `
table ip tunnel {
  chain prerouting {
    type filter hook prerouting priority raw
    iifname ${LAB.sink.interface} ip daddr ${LAB.sink.address} notrack ip daddr set ${FAR_END.address}
  }
}`;

/** Builds it onto a lab that is up; one that was left over is taken down first. */
export async function tunnelUp(): Promise<void> {
  await tunnelDown();
  const { namespace } = LAB.sink;
  await must('ip', ['netns', 'add', FAR_END.namespace]);
  await must(
    ...inNamespace(
      namespace,
      ...['sh', '-ec'],
      `ip link add t0 mtu ${TUNNEL_MTU} type veth peer ${FAR_END.interface} netns ${FAR_END.namespace} mtu ${TUNNEL_MTU}
      ip address add ${ROUTER}/24 dev t0
      ip link set t0 up
      sysctl -qw net.ipv4.ip_forward=1
      ip -n ${FAR_END.namespace} address add ${FAR_END.address}/24 dev ${FAR_END.interface}
      ip -n ${FAR_END.namespace} link set ${FAR_END.interface} up
      ip -n ${FAR_END.namespace} route add default via ${ROUTER}`,
    ),
  );
  await must(...inNamespace(namespace, 'nft', '-f', '-'), { input: REDIRECT });
}

/** Does nothing where there is none. The sink's side goes with the lab. */
export async function tunnelDown(): Promise<void> {
  await run('ip', ['netns', 'delete', FAR_END.namespace]);
}
