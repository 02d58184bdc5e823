// SPDX-License-Identifier: Apache-2.0
// What becomes of a resource between plan and apply, as far as a schema alone can tell. What AWS would choose is unknown
// at plan and made up at apply: the same again for the same resource, and plainly nobody's (account 123456789012).
// Which changes make the real provider replace a resource (ForceNew) is written in its code, not in its schema, so here
// every change is an update in place.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { UserError } from '../../constructs/config/user-error';
import type { Attribute, Block, NestedBlock, Type } from './schema';
import { encodeValue, type Fields, isFields, UNKNOWN, Unknown, type Value } from './value';

export const ACCOUNT = '123456789012';

/** What the provider block says that its resources need. */
export interface ProviderSettings {
  readonly region: string;
  readonly defaultTags: Fields;
}

export interface Change {
  readonly type: string;
  readonly schema: Block;
  /** Null: there is none yet. */
  readonly prior: Value;
  /** Terraform's own merge of configuration and prior state. Null: it is to go. */
  readonly proposed: Value;
  readonly config: Value;
}

// --- validation -----------------------------------------------------------------------------------------------------

/** Attributes that are set although only AWS can. Terraform itself leaves this to the provider. */
export function unconfigurable(schema: Block, config: Value): string[] {
  if (Array.isArray(config)) return (config as readonly Value[]).flatMap((each) => unconfigurable(schema, each));
  if (!isFields(config)) return [];
  const readOnly = schema.attributes.filter(({ optional, required }) => !optional && !required);
  const set = readOnly.map(({ name }) => name).filter((name) => (config[name] ?? null) !== null);
  const nested = schema.blocks.flatMap(({ name, block }) =>
    unconfigurable(block, config[name] ?? null).map((inner) => `${name}.${inner}`),
  );
  return [...set, ...nested];
}

// --- plan -----------------------------------------------------------------------------------------------------------

/** The state to expect. Whatever is computed, not given and not known from before is unknown. */
export function plan({ type, schema, prior, proposed, config }: Change, settings: ProviderSettings): Value {
  if (!isFields(proposed)) return null;
  const planned = withUnknowns(schema, { ...proposed, ...settledByProvider(schema, proposed, config, settings) });
  if (!isFields(prior) || isDeepStrictEqual(planned, prior)) return planned;
  return { ...planned, ...Object.fromEntries(countersOf(type, planned).map((name) => [name, UNKNOWN])) };
}

function withUnknowns(schema: Block, fields: Fields): Fields {
  const unknown = schema.attributes.filter(({ name, computed }) => computed && (fields[name] ?? null) === null);
  const nested = schema.blocks.map(({ name, block }): [string, Value] => [
    name,
    inEach(fields[name] ?? null, (inner) => withUnknowns(block, inner)),
  ]);
  return {
    ...fields,
    ...Object.fromEntries(nested),
    ...Object.fromEntries(unknown.map(({ name }) => [name, UNKNOWN])),
  };
}

/** Applied to a block's content, or to that of each block of its kind. */
function inEach(value: Value, change: (fields: Fields) => Fields): Value {
  if (isFields(value)) return change(value);
  return Array.isArray(value) ? (value as readonly Value[]).map((each) => inEach(each, change)) : value;
}

/** The two computed attributes that the real provider knows at plan, from its own configuration. */
function settledByProvider(schema: Block, fields: Fields, config: Value, settings: ProviderSettings): Fields {
  const given = isFields(config) ? config : {};
  const settles = (name: string): boolean =>
    schema.attributes.some((each) => each.name === name && each.computed) && (given[name] ?? null) === null;
  const { region, defaultTags } = settings;
  const { tags = null } = fields;
  const allTags = tags instanceof Unknown ? tags : { ...defaultTags, ...(isFields(tags) ? tags : {}) };
  return { ...(settles('region') && { region }), ...(settles('tags_all') && { tags_all: allTags }) };
}

/** Attributes that count a template's versions: any change makes a new one, and that is what makes a group roll. */
function countersOf(type: string, fields: Fields): string[] {
  if (type !== 'aws_launch_template') return [];
  return fields.update_default_version === true ? ['latest_version', 'default_version'] : ['latest_version'];
}

/** Attributes whose change the real provider answers with another resource: of one type alone, see aws.ts. */
export function madeAnewBy(type: string, prior: Value, planned: Value): string[] {
  if (type !== 'aws_lambda_invocation' || !isFields(prior) || !isFields(planned)) return [];
  if (planned.lifecycle_scope === 'CRUD') return ['function_name'].filter((name) => prior[name] !== planned[name]);
  return ['function_name', 'input'].filter((name) => prior[name] !== planned[name]);
}

// --- apply ----------------------------------------------------------------------------------------------------------

/** The state after apply: as planned, and made up where it was unknown. */
export function apply({ type, schema, prior, planned }: AppliedChange, settings: ProviderSettings): Value {
  if (!isFields(planned)) return null;
  refuseMissingFile(type, planned);
  const versions = ['latest_version', 'default_version'].map((name): [string, Value] => [name, next(prior)]);
  const counted = versions.filter(([name]) => type === 'aws_launch_template' && planned[name] instanceof Unknown);
  return complete(type, schema, { ...planned, ...Object.fromEntries(counted) }, settings);
}

export interface AppliedChange extends Pick<Change, 'type' | 'schema' | 'prior'> {
  readonly planned: Value;
}

/** The one thing that the real provider reads from this machine: its working folder is the stack's. */
function refuseMissingFile(type: string, { filename }: Fields): void {
  if (type !== 'aws_lambda_function' || typeof filename !== 'string' || existsSync(filename)) return;
  throw new UserError(
    `${type}: filename = "${filename}": no such file in ${process.cwd()}; synthesize the stack again`,
  );
}

function next(prior: Value): number {
  const { latest_version: latest = 0 } = isFields(prior) ? prior : {};
  return Number(latest) + 1;
}

/** Everything unknown, or computed and null, made up. */
export function complete(type: string, schema: Block, fields: Fields, { region }: ProviderSettings): Fields {
  const digest = createHash('sha256').update(type).update(encodeValue(fields)).digest('hex').slice(0, 17);
  const kind = type.replace(/^aws_/, '').replaceAll('_', '-');
  return new Maker(kind, digest, region).block(schema, fields);
}

/** Makes up values that say what they stand for. */
class Maker {
  constructor(
    private readonly kind: string,
    private readonly digest: string,
    private readonly region: string,
  ) {}

  block(schema: Block, fields: Fields): Fields {
    const attributes = schema.attributes.map((each): [string, Value] => [each.name, this.attribute(each, fields)]);
    const blocks = schema.blocks.map((each): [string, Value] => [each.name, this.nested(each, fields)]);
    return Object.fromEntries([...attributes, ...blocks]);
  }

  private nested({ name, block }: NestedBlock, fields: Fields): Value {
    return inEach(fields[name] ?? null, (inner) => this.block(block, inner));
  }

  private attribute({ name, type, computed, optional }: Attribute, fields: Fields): Value {
    const value = fields[name] ?? null;
    const missing = value instanceof Unknown || (computed && value === null);
    if (!missing) return value;
    const prefix = fields[`${name}_prefix`];
    if (typeof prefix === 'string') return prefix + this.digest;
    // What could have been configured and was not is empty; what only AWS can fill has one element to refer to.
    return optional && Array.isArray(type) && type[0] !== 'object' ? this.empty(type[0]) : this.value(name, type);
  }

  private empty(collection: 'list' | 'set' | 'map'): Value {
    return collection === 'map' ? {} : [];
  }

  private value(name: string, type: Type): Value {
    if (type === 'number') return 0;
    if (type === 'bool') return false;
    if (type === 'string' || type === 'dynamic') return this.text(name);
    if (type[0] === 'map') return {};
    if (type[0] !== 'object') return [this.value(name, type[1])];
    return Object.fromEntries(Object.entries(type[1]).map(([member, inner]) => [member, this.value(member, inner)]));
  }

  private text(name: string): string {
    const id = `${this.kind}-${this.digest}`;
    if (/(?:^|_)arns?$/.test(name)) return `arn:aws:stand-in:${this.region}:${ACCOUNT}:${id}`;
    if (/(?:^|_)(?:account|owner)(?:_id)?$/.test(name)) return ACCOUNT;
    if (/(?:^|_)(?:url|uri)$/.test(name)) return `https://${id}.invalid/`;
    if (/(?:^|_)(?:dns_name|endpoint|domain|domain_name)$/.test(name)) return `${id}.invalid`;
    if (/^(?:id|name)$/.test(name)) return id;
    return `${name.replaceAll('_', '-')}-of-${id}`;
  }
}
