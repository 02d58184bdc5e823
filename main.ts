// SPDX-License-Identifier: Apache-2.0
// The app that cdktf runs: settings in, one synthesized stack out. What people get wrong is reported without a stack trace.
import { App } from 'cdktf';
import { loadConfig } from './constructs/config/load';
import { writeEniPackage, writeRolloutPackage } from './constructs/fleet/function-packages';
import { GatewayStack } from './constructs/gateway-stack';
import { baseName } from './constructs/config/names';
import { UserError } from './constructs/config/user-error';

function main(): void {
  // Stack traces would put this machine's paths into what is synthesized.
  const app = new App({ stackTraces: false });
  const config = loadConfig(app.node.getAllContext() as Record<string, unknown>, process.env);
  const packages = { eniPackagePath: writeEniPackage(), rolloutPackagePath: writeRolloutPackage() };
  new GatewayStack(app, baseName(config), { config, ...packages });
  app.synth();
}

try {
  main();
} catch (error) {
  console.error(error instanceof UserError ? error.message : error);
  process.exitCode = 1;
}
