// SPDX-License-Identifier: Apache-2.0
// What comes from outside: AWS, the settings, the clock and the log.
import type { Log } from '../log';
import type { Pace } from '../pace';
import type { Aws } from './aws';
import type { Configuration } from './configuration';

export interface Context {
  readonly aws: Aws;
  readonly configuration: Configuration;
  readonly pace: Pace;
  readonly log: Log;
}
