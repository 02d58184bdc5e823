// SPDX-License-Identifier: Apache-2.0
// The program on the kernel of this machine: every fixture, and a million random packets beside the model of it.
// DIFFERENTIAL_PACKETS sets another number.
import { itAgreesWithTheModel } from './differential';
import { itTreatsEveryFixture } from './fixtures';
import { murmur3 } from './model';
import { useProgram } from './program';

describe('udp_df_modifier.bpf.c', () => {
  const program = useProgram();

  itTreatsEveryFixture(program);
  itAgreesWithTheModel(program, Number(process.env.DIFFERENTIAL_PACKETS ?? 1_000_000));
});

test('the flow hash of the model is MurmurHash3, by published values', () => {
  expect(murmur3(Buffer.from(''), 1)).toBe(0x514e28b7);
  expect(murmur3(Buffer.from('test'))).toBe(0xba6bd213);
  expect(murmur3(Buffer.from('hello'))).toBe(0x248bfa47);
  expect(murmur3(Buffer.from('Hello, world!'), 0x9747b28c)).toBe(0x24884cba);
});
