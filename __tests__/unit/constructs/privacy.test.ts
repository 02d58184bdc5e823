// SPDX-License-Identifier: Apache-2.0
// What must never be in a stack that people paste into pull requests: accounts, secrets, places on somebody's machine.
import * as os from 'node:os';
import * as path from 'node:path';
import { unpackUserData } from '../../../constructs/user-data/user-data';
import { all, BUNDLE, only, synth, VARIANTS, withoutBundle } from './synthesized';

const PRIVATE: Readonly<Record<string, RegExp>> = {
  'an account id': /(?<![0-9a-f])[0-9]{12}(?![0-9a-f])/,
  'an access key': /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/,
  'a secret key': /(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=])/,
  'a private key': /-----BEGIN/,
  'a secret by its name': /secret|password|passwd|credential|api_?key|access_?key|bearer/i,
};

// A container's home may be the root, which every path begins with.
const PLACES = [process.cwd(), os.homedir(), os.tmpdir(), path.dirname(BUNDLE)].filter((place) => place !== '/');

function leaksIn(text: string): string[] {
  const matches = Object.entries(PRIVATE).flatMap(([what, pattern]) => {
    const [found] = pattern.exec(text) ?? [];
    return found ? [`${what}: ${found}`] : [];
  });
  return [...matches, ...PLACES.filter((place) => text.includes(place)).map((place) => `a place: ${place}`)];
}

describe.each(VARIANTS)('the stack with %s', (_, settings) => {
  const stack = synth(settings);

  test('holds no account, no secret and no place on this machine', () => {
    expect(leaksIn(JSON.stringify(withoutBundle(stack)))).toEqual([]);
  });

  test('hides none in the settings of a gateway', () => {
    const { env, bundleEnv } = unpackUserData(
      Buffer.from(only(stack, 'aws_launch_template').user_data as string, 'base64'),
    );
    expect(env.length).toBeGreaterThan(100);
    expect(leaksIn(env + bundleEnv)).toEqual([]);
  });

  test('takes the function from a place beside itself', () => {
    all(stack, 'aws_lambda_function').forEach(({ filename }) =>
      expect(path.isAbsolute(filename as string)).toBe(false),
    );
  });
});

test.each([
  ['arn:aws:iam::123456789012:root', 'an account id: 123456789012'],
  ['AKIAIOSFODNN7EXAMPLE', 'an access key: AKIAIOSFODNN7EXAMPLE'],
  ['"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"', 'a secret key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'],
  ['"DB_PASSWORD"', 'a secret by its name: PASSWORD'],
  [`${process.cwd()}/bundle.zip`, `a place: ${process.cwd()}`],
])('%s would be found', (text, leak) => {
  expect(leaksIn(text)).toContain(leak);
});
