// SPDX-License-Identifier: Apache-2.0
// A real UDP socket, as the IPsec VM's program would open one: prints `bound`, then one line of JSON a datagram. What the
// kernel does not deliver (a wrong checksum, a missing fragment) is not printed. Ends when its standard input does.
import { createSocket } from 'node:dgram';
import { payloadHash } from './decode';

const [address = '0.0.0.0', port = '0'] = process.argv.slice(2);
const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });

socket.on('message', (payload, from) => {
  const datagram = { from: `${from.address}:${from.port}`, length: payload.length, payloadHash: payloadHash(payload) };
  process.stdout.write(`${JSON.stringify(datagram)}\n`);
});
socket.on('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
socket.bind(Number(port), address, () => process.stdout.write('bound\n'));
process.stdin.on('end', () => process.exit(0)).resume();
