// SPDX-License-Identifier: Apache-2.0
// The fuzz targets in a few seconds: they build, they find nothing, and each finds what is wrong with a program that has a
// fault planted in it. `make fuzz` gives them the time that finding something new takes.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { type Outcome, TARGETS, buildTargets, fuzz } from '../../lab/fuzz';
import { Progress, REPOSITORY } from '../../lab/support/host';

const SEED = 1;
const CLEAN = { seconds: 5, runs: 200_000, seed: SEED };
const FAULTY = { seconds: 60, seed: SEED };

interface Fault {
  readonly name: string;
  readonly target: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const FAULTS: readonly Fault[] = [
  {
    name: 'a read before its bounds check',
    target: 'fuzz_parsing',
    file: 'bpf/xdp/parsing.h',
    from: 'if (bytes + size > frame->end)',
    to: 'if (bytes > frame->end)',
  },
  {
    name: 'a checksum without its carry',
    target: 'fuzz_parsing',
    file: 'bpf/xdp/checksum.h',
    from: 'sum = (sum & 0xffff) + (sum >> 16);',
    to: 'sum &= 0xffff;',
  },
  {
    name: 'a number beyond its maximum',
    target: 'fuzz_loader',
    file: 'bpf/loader/options.c',
    from: 'value > max)',
    to: 'value > max + 1)',
  },
  {
    name: 'a packet longer than what is there',
    target: 'fuzz_packets',
    file: 'netfilter/modify_udp_df.cpp',
    from: ' || total > size',
    to: '',
  },
  {
    name: 'a number with something behind it',
    target: 'fuzz_options',
    file: 'netfilter/modify_udp_df.cpp',
    from: 'rest != end || ',
    to: '',
  },
];

describe('the fuzz targets', () => {
  const progress = new Progress('fuzz');
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'mirror-gateway-fuzz-'));
  const byName = (name: string) => {
    const target = TARGETS.find(({ program }) => path.basename(program) === name);
    if (!target) throw new Error(`no fuzz target ${name}`);
    return target;
  };
  beforeAll(() => buildTargets());
  afterAll(() => fs.rmSync(scratch, { recursive: true }));

  test.each(TARGETS.map((target) => [path.basename(target.program), target] as const))(
    '%s finds nothing',
    async (name, target) => {
      const outcome = await fuzz(target, CLEAN, { folder: path.join(scratch, name), progress });
      const inputs = outcome.findings.map((file) => (fs.existsSync(file) ? fs.readFileSync(file, 'base64') : file));
      expect(inputs).toEqual([]);
      expect(outcome.executions).toBeGreaterThan(1_000);
    },
  );

  test.each(FAULTS)('$target finds $name', async ({ target, file, from, to, name }) => {
    const root = path.join(scratch, name.replaceAll(' ', '-'));
    for (const folder of ['lib', 'bpf', 'netfilter', 'userdata']) {
      fs.cpSync(path.join(REPOSITORY, folder), path.join(root, folder), {
        recursive: true,
        filter: (source) => !path.basename(source).startsWith('fuzz_') || /\.c(pp)?$/.test(source),
      });
    }
    const sound = fs.readFileSync(path.join(root, file), 'utf8');
    if (!sound.includes(from)) throw new Error(`${file} no longer contains "${from}": plant the fault elsewhere`);
    fs.writeFileSync(path.join(root, file), sound.replaceAll(from, to));

    const faulty = byName(target);
    await buildTargets(root, [faulty]);
    const outcome: Outcome = await fuzz(faulty, FAULTY, { root, folder: path.join(root, 'inputs'), progress });
    expect(outcome.findings).toHaveLength(1);
    progress.say(`${target}: ${name} is found after ${outcome.executions} runs`);
  });
});
