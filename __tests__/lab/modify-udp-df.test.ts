// SPDX-License-Identifier: Apache-2.0
// The NFQUEUE daemon as an operator meets it: its flags, its refusals, and what it says when it is told to stop.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inNamespace, must, REPOSITORY, run } from '../../lab/support/host';
import { deploy, LAB, RUNTIME } from '../../lab/namespaces/namespaces';
import { Packet } from '../../lab/packets/packet';
import { mirror, useLab } from './gateway';

const SOURCES = join(REPOSITORY, 'netfilter');
const PROGRAM = join(SOURCES, 'modify_udp_df');
const LOG = join(RUNTIME, 'modify_udp_df.log');

function inGateway(...command: string[]): ReturnType<typeof run> {
  return run(...inNamespace(LAB.primary.namespace, ...command), { timeoutMs: 10_000 });
}

describe('modify_udp_df', () => {
  const lab = useLab('nfqueue');

  it.each([
    ['--queue 65536', '--queue 65536: must be a whole number from 0 to 65535'],
    ['--queue -1', '--queue -1: must be a whole number from 0 to 65535'],
    ['--queue=', '--queue : must be a whole number from 0 to 65535'],
    ['--target-port 0', '--target-port 0: must be a whole number from 1 to 65535'],
    ['--target-port 80x', '--target-port 80x: must be a whole number from 1 to 65535'],
    ['--min-packet-size 1e3', '--min-packet-size 1e3: must be a whole number from 28 to 9001'],
    ['--max-packet-size +9', '--max-packet-size +9: must be a whole number from 28 to 9001'],
    ['--max-packet-size 99999999999', '--max-packet-size 99999999999: must be a whole number from 28 to 9001'],
    ['--min-packet-size 9000', '--min-packet-size 9000: must be less than 9000, the maximum'],
    ['9000', '9000: not an option, see --help'],
    ['--queues 1', "unrecognized option '--queues'"],
    ['--queue', "option '--queue' requires an argument"],
  ])('refuses %s in one line', async (flags, message) => {
    const { code, stderr } = await run(PROGRAM, flags.split(' '), { timeoutMs: 5000 });
    expect({ code, lines: stderr.trimEnd().split('\n').length }).toEqual({ code: 1, lines: 1 });
    expect(stderr).toContain(message);
  });

  it('explains itself', async () => {
    const { code, stdout } = await run(PROGRAM, ['--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^usage: modify_udp_df .*--max-packet-size/);
  });

  it('says who holds its queue', async () => {
    const { code, stderr } = await inGateway(PROGRAM, '--queue', '0');
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^modify_udp_df: --queue 0: held by another program \(netlink port \d+\): .*another queue\n$/,
    );
  });

  it('says that it needs root', async () => {
    const { code, stderr } = await inGateway('setpriv', '--reuid=65534', '--clear-groups', PROGRAM, '--queue', '7');
    expect(code).toBe(1);
    expect(stderr).toBe('modify_udp_df: --queue 7: Operation not permitted: run as root on a kernel with NFQUEUE\n');
  });

  it('counts what it did, says so when it stops, and stops well', async () => {
    const packet = Packet.udp({ from: '198.51.100.7:4000', to: '203.0.113.9:31765' }).totalLength(1428).df();
    const outcome = await lab.send([1, 2, 3].map((id) => mirror(packet.id(id))));
    expect(outcome.received).toHaveLength(3);
    await deploy('attach');
    const log = readFileSync(LOG, 'utf8');
    expect(log).toMatch(/^modify_udp_df: queue 0: \d+ seen, \d+ modified, 0 malformed, 0 errors$/m);
  });

  it.each(['g++', 'clang++'])('builds in silence with %s', async (compiler) => {
    const object = join('/tmp', `modify_udp_df-${process.pid}`);
    const flags = (await must('make', ['-C', SOURCES, '-n', '-B', `CXX=${compiler}`])).split('\n');
    const command = flags.find((line) => line.startsWith(compiler))?.replace('-o modify_udp_df', `-o ${object}`) ?? '';
    const { code, stdout, stderr } = await run('sh', ['-c', `cd ${SOURCES} && ${command} && rm ${object}`]);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: '' });
  });
});
