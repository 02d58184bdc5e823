// SPDX-License-Identifier: Apache-2.0
// Which trials count, on processors of which it is known when they are near each other.
import { CpuAffinity } from '../../../bench/measure/cpu-affinity';

const [NEAR, APART] = [50, 300];

/** Has learnt what is near; then come these looks, the last for ever. */
async function learning(
  looks: readonly number[],
  patience = 60_000,
): Promise<{ cpuAffinity: CpuAffinity; said: string[] }> {
  const left = [20, ...Array<number>(99).fill(NEAR), ...looks];
  const said: string[] = [];
  const look = (): Promise<number> => Promise.resolve((left.length > 1 ? left.shift() : left[0]) ?? NaN);
  const learnt = new CpuAffinity((message) => said.push(message), look, patience);
  await passing(learnt.learn());
  return { cpuAffinity: learnt, said };
}

/** A run that takes as long, and says which one it was. */
function runs(milliseconds = 0): () => Promise<number> {
  let number = 0;
  return async () => {
    await jest.advanceTimersByTimeAsync(milliseconds);
    return ++number;
  };
}

const goOn = (): void => undefined;

/** Lets time pass as long as somebody waits for it. */
async function passing<T>(work: Promise<T>): Promise<T> {
  let isOver = false;
  const end = work.finally(() => (isOver = true));
  end.catch(() => undefined);
  for (let steps = 0; !isOver && steps < 100_000; steps++) await jest.advanceTimersByTimeAsync(50);
  return end;
}

beforeEach(() => jest.useFakeTimers());
afterEach(() => jest.useRealTimers());

describe('a run', () => {
  test('counts when the processors are near before and after it, whatever a single look made of it', async () => {
    const { cpuAffinity: near } = await learning([NEAR]);
    expect(await passing(near.while(runs(), goOn))).toEqual({ result: 1, discarded: 0, isApart: false });
  });

  test('is discarded when they are apart at its end, and then waits until they are near', async () => {
    const { cpuAffinity: near } = await learning([NEAR, APART, APART, APART, NEAR, NEAR]);
    expect(await passing(near.while(runs(1000), goOn))).toEqual({ result: 2, discarded: 1, isApart: false });
  });

  test('counts all the same when there is no more patience', async () => {
    const { cpuAffinity: near, said } = await learning([NEAR, APART], 30_000);
    const started = performance.now();
    const { discarded, isApart } = await passing(near.while(runs(1000), goOn));
    expect({ discarded, isApart }).toEqual({ discarded: 1, isApart: true });
    expect(performance.now() - started).toBeLessThan(35_000);
    expect(said[0]).toMatch(/^waiting for processors 0 and 1 to share a cache/);
  });

  test('is apart when it began like that, whatever its end was', async () => {
    const { cpuAffinity: near } = await learning([...Array<number>(30).fill(APART), NEAR], 1000);
    expect(await passing(near.while(runs(1000), goOn))).toEqual({ result: 1, discarded: 0, isApart: true });
  });

  test('gives patience for as long as it took itself', async () => {
    const { cpuAffinity: near } = await learning([NEAR, APART, NEAR, NEAR, NEAR, APART, NEAR, NEAR], 1500);
    expect((await passing(near.while(runs(1000), goOn))).discarded).toBe(1);
    expect((await passing(near.while(runs(1000), goOn))).discarded).toBe(1);
  });

  test('does not begin, and waits for nothing, once it is not to go on', async () => {
    const { cpuAffinity: near } = await learning([NEAR, NEAR, APART]);
    const run = jest.fn(runs());
    await passing(near.while(run, goOn));
    let isStopped = false;
    const stop = (): void => {
      if (isStopped) throw new Error('stopped');
    };
    const waiting = near.while(run, stop);
    isStopped = true;
    await expect(passing(waiting)).rejects.toThrow('stopped');
    await expect(passing(near.while(run, stop))).rejects.toThrow('stopped');
    expect(run).toHaveBeenCalledTimes(1);
  });
});
