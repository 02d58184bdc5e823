// SPDX-License-Identifier: Apache-2.0
// Stands where the CloudWatch agent does: a real UDP socket on loopback, and nothing behind it. Prints `bound`, then each
// datagram as a JSON string, a line each. Ends when its standard input does.
import { createSocket } from 'node:dgram';

const PORT = 25888;
const socket = createSocket({ type: 'udp4' });

socket.on('message', (datagram) => process.stdout.write(`${JSON.stringify(datagram.toString())}\n`));
socket.on('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
socket.bind(PORT, '127.0.0.1', () => process.stdout.write('bound\n'));
process.stdin.on('end', () => process.exit(0)).resume();
