// SPDX-License-Identifier: Apache-2.0
// The AWS provider's schema, read out of the bindings that the stack is written with: cdktf generated them from that very
// schema, and each module carries its TypeScript source, where every attribute has a line with its name and whether it is
// computed, optional or required, a getter that gives its type, and an entry that tells blocks from attributes.
// What the generator does not keep is lost here too: sensitive, deprecated, ForceNew, conflicts and value checks.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export type Type = 'string' | 'number' | 'bool' | 'dynamic' | ['list' | 'set' | 'map', Type] | ['object', Members];
interface Members {
  [name: string]: Type;
}

export interface Attribute {
  readonly name: string;
  readonly type: Type;
  readonly required: boolean;
  readonly optional: boolean;
  readonly computed: boolean;
}

export interface NestedBlock {
  readonly name: string;
  readonly nesting: 'single' | 'list' | 'set';
  readonly minItems: number;
  /** 0: any number. */
  readonly maxItems: number;
  readonly block: Block;
}

export interface Block {
  readonly attributes: readonly Attribute[];
  readonly blocks: readonly NestedBlock[];
}

export interface ProviderAddress {
  readonly host: string;
  readonly namespace: string;
  readonly name: string;
  readonly version: string;
}

type Flags = Pick<Attribute, 'required' | 'optional' | 'computed'>;
type Collection = 'list' | 'set' | 'map';

/** One of a class's attributes: its comment line, and the lines up to the next one's. */
interface Member extends Flags {
  readonly name: string;
  readonly code: string;
}

/** What synthesizing an attribute that can be set says about it. */
interface Setting {
  readonly name: string;
  /** Base of the names of the class and functions of a nested structure. */
  readonly struct?: string;
  /** The nested structure is one object or block, not a collection of them. */
  readonly alone: boolean;
  readonly isBlock: boolean;
  readonly kind: string;
  readonly storage: string;
}

const LIBRARY = join(dirname(require.resolve('@cdktf/provider-aws/package.json')), 'lib');

const PART = /^export (?:class|interface|function) (\w+)/;
const MEMBER = /^ *\/\/ (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n/gm;
const SETTING =
  /^ *(\w+): \{\n *value: (.*),\n *isBlock: (true|false),\n *type: "(\w+)",\n *storageClassType: "(\w+)",\n *\},$/gm;
const NESTED = /(?<![.\w])(\w+)ToHclTerraform\b/;
/** cdktf's mappers take a second argument that is false for attributes that merely look like blocks. */
const ATTRIBUTE_AS_BLOCK = /ToHclTerraform, false\)/;

const SCALARS: Readonly<Record<string, Type>> = {
  string: 'string',
  number: 'number',
  boolean: 'bool',
  any: 'dynamic',
};

/** A resource's schema; undefined where the bindings have no such type. */
export function resourceSchema(type: string): Block | undefined {
  return schemaOf(folderOf(type));
}

/** A data source's schema; undefined where the bindings have no such type. */
export function dataSchema(type: string): Block | undefined {
  return schemaOf(`data-aws-${folderOf(type)}`);
}

export function providerSchema(): Block {
  const schema = schemaOf('provider');
  if (schema) return schema;
  throw new Error(`${LIBRARY}: no provider in there; install the npm packages anew`);
}

/** Where Terraform looks for the provider that the bindings were made for: their links to its documentation say it. */
export function providerAddress(): ProviderAddress {
  const link = /https:\/\/([\w.]+)\/providers\/(\w+)\/(\w+)\/([\d.]+)\/docs/.exec(sourceOf('provider') ?? '');
  const [, host, namespace, name, version] = link ?? [];
  if (host && namespace && name && version) return { host, namespace, name, version };
  throw new Error(`${LIBRARY}: no link in there tells the provider's version; the bindings have changed their form`);
}

function folderOf(type: string): string {
  return type.replace(/^aws_/, '').replaceAll('_', '-');
}

/** The TypeScript source that a module's source map carries. */
function sourceOf(folder: string): string | undefined {
  const file = join(LIBRARY, folder, 'index.js');
  if (!existsSync(file)) return undefined;
  const map = readFileSync(file, 'utf8').split('//# sourceMappingURL=data:application/json;base64,')[1];
  if (map === undefined) throw new Error(`${file}: no source map inside; the bindings have changed their form`);
  return (JSON.parse(Buffer.from(map, 'base64').toString('utf8')) as { sourcesContent: string[] }).sourcesContent[0];
}

function schemaOf(folder: string): Block | undefined {
  const source = sourceOf(folder);
  return source === undefined ? undefined : new Module(folder, source).schema();
}

function upperFirst(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

class Module {
  private readonly parts: ReadonlyMap<string, string>;

  constructor(
    private readonly folder: string,
    source: string,
  ) {
    const parts = source.split(/^(?=export )/m);
    this.parts = new Map(parts.map((part) => [PART.exec(part)?.[1] ?? '', part]));
  }

  schema(): Block {
    // The resource's own class comes last; what it is made of, before.
    const [name, code] = [...this.parts].at(-1) ?? ['', ''];
    if (!/^export class \w+ extends cdktf\.Terraform/.test(code)) throw this.strange(`last part is ${name}`);
    return this.blockOf(membersOf(code), settingsOf(code));
  }

  private strange(what: string): Error {
    return new Error(`@cdktf/provider-aws/lib/${this.folder}: ${what}; the bindings have changed their form`);
  }

  private structOf(base: string): Block {
    const code = this.parts.get(`${base}ToHclTerraform`);
    if (code === undefined) throw this.strange(`no function ${base}ToHclTerraform`);
    return this.blockOf(membersOf(this.parts.get(`${upperFirst(base)}OutputReference`) ?? ''), settingsOf(code));
  }

  private blockOf(members: readonly Member[], settings: readonly Setting[]): Block {
    const known = new Map(members.map((member) => [member.name, member]));
    const forgotten = members.find(({ name, computed }) => !computed && !settings.some((each) => each.name === name));
    if (forgotten) throw this.strange(`${forgotten.name} can be set, but is never synthesized`);
    // Structures of the provider's own configuration have no class, and hold nothing that is required or computed.
    const flagsOf = (name: string): Flags => known.get(name) ?? { required: false, optional: true, computed: false };
    const given = new Set(settings.map(({ name }) => name));
    const readOnly = members.filter(({ name }) => !given.has(name));
    return {
      attributes: [
        ...settings.filter((each) => !each.isBlock).map((each) => this.attribute(each, flagsOf(each.name))),
        ...readOnly.map((each) => ({ ...flags(each), name: each.name, type: this.typeOfMember(each) })),
      ],
      blocks: settings.filter((each) => each.isBlock).map((each) => this.nested(each, flagsOf(each.name))),
    };
  }

  private attribute(setting: Setting, given: Flags): Attribute {
    return { ...flags(given), name: setting.name, type: this.typeOfSetting(setting) };
  }

  private nested({ name, struct = '', kind, alone }: Setting, { required }: Flags): NestedBlock {
    const nesting = kind === 'struct' ? 'single' : kind;
    if (nesting !== 'single' && nesting !== 'list' && nesting !== 'set') throw this.strange(`${name} is a ${kind}`);
    // A single block is limited by its nesting.
    const maxItems = alone && nesting !== 'single' ? 1 : 0;
    return { name, nesting, minItems: required ? 1 : 0, maxItems, block: this.structOf(struct) };
  }

  private typeOfSetting({ name, struct, kind, storage, alone }: Setting): Type {
    if (struct === undefined) return this.typeOfStorage(name, kind, storage);
    const object = this.objectOf(struct);
    return alone ? object : [this.collection(name, kind), object];
  }

  /** `stringMapList` is a list of maps of strings; whether a list is a set, only `kind` knows. */
  private typeOfStorage(name: string, kind: string, storage: string): Type {
    const [, scalar = '', suffixes = ''] = /^([a-z]+)((?:List|Map)*)$/.exec(storage) ?? [];
    const wrappers = suffixes.match(/List|Map/g) ?? [];
    const inner = SCALARS[scalar];
    if (inner === undefined) throw this.strange(`${name} is stored as ${storage}`);
    if (wrappers.length === 0) return inner;
    const wrapped = wrappers.slice(0, -1).reduce<Type>((type, word) => [word === 'Map' ? 'map' : 'list', type], inner);
    return [this.collection(name, kind), wrapped];
  }

  private collection(name: string, kind: string): Collection {
    if (kind === 'list' || kind === 'set' || kind === 'map') return kind;
    throw this.strange(`${name} is a ${kind}`);
  }

  private typeOfMember({ name, code }: Member): Type {
    const map = /new cdktf\.(String|Number|Boolean|Any)Map\(/.exec(code)?.[1];
    if (map) return ['map', this.typeOfStorage(name, 'simple', map.toLowerCase())];
    const [, struct, shape, set] = /new (\w+?)(List|Map|OutputReference)\(this, "\w+"(?:, (true))?/.exec(code) ?? [];
    if (struct && shape) return this.typeOfStructure(struct, shape, set !== undefined);
    if (/this\.interpolationForAttribute\(/.test(code)) return 'dynamic';
    const got = /this\.get(\w+)Attribute\(/.exec(code)?.[1];
    if (got === undefined) throw this.strange(`${name} has no type`);
    const kind = got.endsWith('Map') ? 'map' : /Fn\.tolist\(/.test(code) ? 'set' : 'list';
    const storage = got === 'List' ? 'stringList' : got.charAt(0).toLowerCase() + got.slice(1);
    return this.typeOfStorage(name, kind, storage);
  }

  private typeOfStructure(struct: string, shape: string, set: boolean): Type {
    const object = this.objectOf(struct.charAt(0).toLowerCase() + struct.slice(1));
    if (shape === 'OutputReference') return object;
    return [shape === 'Map' ? 'map' : set ? 'set' : 'list', object];
  }

  private objectOf(base: string): Type {
    const { attributes, blocks } = this.structOf(base);
    const plain = attributes.map(({ name, type }): [string, Type] => [name, type]);
    return ['object', Object.fromEntries([...plain, ...blocks.map(objectsOf)])];
  }
}

function objectsOf({ name, nesting, block }: NestedBlock): [string, Type] {
  const members = block.attributes.map((each): [string, Type] => [each.name, each.type]);
  const object: Type = ['object', Object.fromEntries([...members, ...block.blocks.map(objectsOf)])];
  return [name, nesting === 'single' ? object : [nesting, object]];
}

function flags({ required, optional, computed }: Flags): Flags {
  return { required, optional, computed };
}

function membersOf(code: string): Member[] {
  const found = [...code.matchAll(MEMBER)];
  return found.map((match, index) => ({
    name: match[1] ?? '',
    computed: match[2] === 'true',
    optional: match[3] === 'true',
    required: match[4] === 'true',
    code: code.slice(match.index + match[0].length, found[index + 1]?.index),
  }));
}

function settingsOf(code: string): Setting[] {
  return [...code.matchAll(SETTING)].map(([, name = '', value = '', block, kind = '', storage = '']) => ({
    name,
    struct: NESTED.exec(value)?.[1],
    alone: !/listMapperHcl|hashMapperHcl/.test(value),
    isBlock: block === 'true' && !ATTRIBUTE_AS_BLOCK.test(value),
    kind,
    storage,
  }));
}
