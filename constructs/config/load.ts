// SPDX-License-Identifier: Apache-2.0
// Reads the settings: cdktf.json context, overridden key by key by MIRROR_GATEWAY_<KEY>, becomes a typed GatewayConfig, or a
// ConfigError that lists every problem, one line each.
import { distance } from 'fastest-levenshtein';
import { CONFIG_KEYS, type ConfigKey, ENV_PREFIX, envName, type GatewayConfig, type Key, KEYS } from './keys';
import { RULES, withValues } from './rules';
import { UserError } from './user-error';
import { NO_REASON, show } from './values';

/** Refuses a configuration; the message has one line per problem and is meant to be printed as it is. */
export class ConfigError extends UserError {
  public override readonly name = 'ConfigError';

  public constructor(public readonly problems: readonly string[]) {
    super(problems.join('\n'));
  }
}

type Partially = { -readonly [K in ConfigKey]?: GatewayConfig[K] };

// What cdktf, constructs and the AWS CDK keep in the context themselves; none of it is ours to check.
const TOOL_CONTEXT = /^(?:cdktf|@|aws:|aws-cdk:|cdk-)|^(?:allowSepCharsInLogicalIds|excludeStackIdFromLogicalIds)$/;

function isOfTools(name: string): boolean {
  return TOOL_CONTEXT.test(name);
}

interface Source {
  readonly name: string;
  readonly value: unknown;
}

function wordsOf(name: string): string[] {
  return name
    .replace(/^mirror_?gateway_?(?=.)/i, '')
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter(Boolean);
}

const MAX_TYPO_DISTANCE = 2;
const WHOLE_WORD = 3;

function alike(a: string, b: string): boolean {
  return Math.min(a.length, b.length) >= WHOLE_WORD && (a.startsWith(b) || b.startsWith(a));
}

/** The key somebody meant: a slip of the finger first, then one that shares words ("subnets"), then whatever is closest. */
function nearestKey(name: string): ConfigKey {
  const words = wordsOf(name);
  const typed = words.join('_');
  const candidates = CONFIG_KEYS.map((key) => {
    const shared = words.filter((word) => wordsOf(key).some((other) => alike(word, other))).length;
    const edits = distance(typed, key);
    return { key, edits, rank: edits <= Math.min(MAX_TYPO_DISTANCE, key.length / 3) ? Infinity : shared };
  });
  return candidates.reduce((best, next) => {
    if (next.rank !== best.rank) return next.rank > best.rank ? next : best;
    return next.edits < best.edits ? next : best;
  }).key;
}

function isKey(name: string): name is ConfigKey {
  return Object.hasOwn(KEYS, name);
}

function unknownNames(context: Record<string, unknown>, env: NodeJS.ProcessEnv): string[] {
  const inContext = Object.entries(context)
    .filter(([name]) => !isKey(name) && !isOfTools(name))
    .map(([name, value]) => `${name} = ${show(value)}: no such key; the nearest one is ${nearestKey(name)}`);
  const variables = new Set(CONFIG_KEYS.map(envName));
  const inEnv = Object.entries(env)
    .filter(([name]) => name.toUpperCase().startsWith(ENV_PREFIX) && !variables.has(name))
    .map(
      ([name, value]) => `${name} = ${show(value)}: no such variable; the nearest one is ${envName(nearestKey(name))}`,
    );
  return [...inContext, ...inEnv];
}

function sourceOf(key: ConfigKey, context: Record<string, unknown>, env: NodeJS.ProcessEnv): Source | undefined {
  const variable = envName(key);
  if (env[variable] !== undefined) return { name: `${key} (from ${variable})`, value: env[variable] };
  return context[key] === undefined ? undefined : { name: key, value: context[key] };
}

/** How to leave an optional key unset where a template or a CI system must write something. */
function isUnset(source: Source | undefined, key: Key<unknown>): boolean {
  if (source === undefined) return true;
  const mayBeEmpty = key.default === null || Array.isArray(key.default);
  return mayBeEmpty && (source.value === '' || source.value === null);
}

type Outcome<T> = { readonly value: T } | { readonly problem: string };

function readKey<T>(name: ConfigKey, key: Key<T>, source: Source | undefined): Outcome<T | undefined> {
  const mustBe = `must be ${key.allowed}`;
  if (source === undefined || isUnset(source, key)) {
    if (key.default !== undefined) return { value: key.default ?? undefined };
    return { problem: `${name} is not set: it ${mustBe}; set it in the context of cdktf.json or as ${envName(name)}` };
  }
  const parsed = key.schema.safeParse(source.value);
  if (parsed.success) return { value: parsed.data };
  const reason = parsed.error.issues[0]?.message;
  const why = reason === undefined || reason === NO_REASON ? '' : ` (${reason})`;
  return { problem: `${source.name} = ${show(source.value)}: ${mustBe}${why}` };
}

function brokenRules(config: Partially): string[] {
  const problems: string[] = [];
  for (const { keys, problem } of RULES) {
    // A key that is wrong by itself is missing here, and already has its line.
    if (!keys.every((key) => key in config)) continue;
    const text = problem(config as GatewayConfig);
    if (text) problems.push(withValues(config, keys, text));
  }
  return problems;
}

/**
 * Reads and checks the configuration. An environment variable wins over the context, key by key. An optional key may be
 * given as an empty string, which means unset.
 *
 * @throws ConfigError with every problem found, not only the first.
 */
export function loadConfig(context: Record<string, unknown>, env: NodeJS.ProcessEnv): GatewayConfig {
  const problems = unknownNames(context, env);
  const config: Record<string, unknown> = {};
  for (const name of CONFIG_KEYS) {
    const outcome = readKey<unknown>(name, KEYS[name], sourceOf(name, context, env));
    if ('problem' in outcome) problems.push(outcome.problem);
    else config[name] = outcome.value;
  }
  problems.push(...brokenRules(config));
  if (problems.length > 0) throw new ConfigError(problems);
  return config as GatewayConfig;
}
