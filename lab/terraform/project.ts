// SPDX-License-Identifier: Apache-2.0
// A copy of the project in which the real cdktf and the real Terraform may do what they like: state, locks and output
// stay in the copy and go with it.
import {
  accessSync,
  constants,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { REPOSITORY, run, type RunOptions, type RunResult } from '../support/host';
import { installProvider } from './install';

/** Not part of what synth reads, large, or somebody's state. */
const LEFT_OUT = /^(?:\..*|node_modules|cdktf\.out|coverage|docs|.*\.tfstate.*)$/;
/** An operator's settings must not leak into a test, nor jest's into what a test runs. */
const NOT_INHERITED = /^(?:CDKTF_|TF_|JEST_|NODE_OPTIONS|TERRAFORM_BINARY_NAME|MIRROR_GATEWAY_)/i;
const LONGEST_MS = 300_000;

/** Why Terraform cannot be run here, and what to do about it; undefined when it can. */
export function terraformMissing(path = process.env.PATH ?? ''): string | undefined {
  const found = path.split(delimiter).some((folder) => folder && isExecutable(join(folder, 'terraform')));
  return found ? undefined : 'terraform is not on the path: install Terraform 1.10 or newer';
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Of cdktf.json. */
interface Settings {
  readonly app: string;
  readonly context: object;
}

/** Of cdktf.out/manifest.json. */
interface Manifest {
  readonly stacks: Readonly<Record<string, { readonly workingDirectory: string }>>;
}

/** A copy of the checkout, with the stand-in provider installed beside it. */
export class Project {
  readonly folder: string;
  /** For what does not belong into the project; goes with it. */
  readonly root: string;
  private readonly configuration: string;

  /** @param endpoint where the provider's stand-in finds one for AWS. @default - there is none */
  constructor(private readonly endpoint?: string) {
    this.root = mkdtempSync(join(tmpdir(), 'mirror-gateway-terraform-'));
    this.folder = join(this.root, 'project');
    mkdirSync(this.folder);
    const parts = readdirSync(REPOSITORY).filter((name) => !LEFT_OUT.test(name));
    parts.forEach((name) => cpSync(join(REPOSITORY, name), join(this.folder, name), { recursive: true }));
    symlinkSync(join(REPOSITORY, 'node_modules'), join(this.folder, 'node_modules'));
    this.configuration = installProvider(this.root);
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }

  /** The folder of the only stack that the last synth made. */
  stackFolder(): string {
    const out = join(this.folder, 'cdktf.out');
    const { stacks } = JSON.parse(readFileSync(join(out, 'manifest.json'), 'utf8')) as Manifest;
    const [only, ...others] = Object.values(stacks);
    if (only && others.length === 0) return join(out, only.workingDirectory);
    throw new Error(`${out}: ${others.length + 1} stacks, there must be one`);
  }

  /** cdktf as an operator runs it: it synthesizes anew, with these variables, and starts Terraform where it needs to. */
  cdktf(args: readonly string[], variables: NodeJS.ProcessEnv = {}, onLine?: RunOptions['onLine']): Promise<RunResult> {
    // Locking asks the registry for other platforms' checksums.
    const offline = args[0] === 'synth' ? [] : ['--skip-provider-lock'];
    return run(join(REPOSITORY, 'node_modules/.bin/cdktf'), [...args, ...offline], {
      cwd: this.folder,
      env: this.environment(variables),
      timeoutMs: LONGEST_MS,
      onLine,
    });
  }

  /**
   * What cdktf starts to synthesize, without cdktf around it, which takes five times as long: for what a test has seen
   * cdktf do already.
   */
  synth(variables: NodeJS.ProcessEnv = {}): Promise<RunResult> {
    const { app, context } = JSON.parse(readFileSync(join(this.folder, 'cdktf.json'), 'utf8')) as Settings;
    const env = { ...this.environment(variables), CDKTF_CONTEXT_JSON: JSON.stringify(context) };
    return run('sh', ['-c', app], { cwd: this.folder, env, timeoutMs: LONGEST_MS });
  }

  /** Terraform itself, on what is synthesized already. */
  terraform(args: readonly string[], cwd = this.stackFolder()): Promise<RunResult> {
    return run('terraform', args, { cwd, env: this.environment({}), timeoutMs: LONGEST_MS });
  }

  private environment(variables: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
    const inherited = Object.entries(process.env).filter(([name]) => !NOT_INHERITED.test(name));
    return {
      ...Object.fromEntries(inherited),
      TF_CLI_ARGS: '-no-color',
      ...variables,
      ...(this.endpoint && { STAND_IN_URL: this.endpoint }),
      TF_CLI_CONFIG_FILE: this.configuration,
      CHECKPOINT_DISABLE: '1',
      CI: '1',
    };
  }
}
