// SPDX-License-Identifier: Apache-2.0
// What comes from outside: AWS, the settings, the clock and the log.
import type { Log } from '../shared/log';
import type { Clock } from '../shared/clock';
import type { Aws } from './aws';
import type { Configuration } from './configuration';

export interface Context {
  readonly aws: Aws;
  readonly configuration: Configuration;
  readonly clock: Clock;
  readonly log: Log;
}
