// SPDX-License-Identifier: Apache-2.0
// The stand-in's own rules, one at a time and without Terraform: what is unknown at plan, what apply makes up, and what a
// change makes unknown again.
import { X509Certificate } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { answer } from '../../lab/terraform/answers';
import { selfSigned } from '../../lab/terraform/certificate';
import { apply, complete, plan, type ProviderSettings, unconfigurable } from '../../lab/terraform/resources';
import { type Block, resourceSchema } from '../../lab/terraform/schema';
import { launchedTypes, usedTypes } from '../../lab/terraform/stack';
import { decodeValue, encodeValue, type Fields, UNKNOWN, Unknown, type Value } from '../../lab/terraform/value';

const SETTINGS: ProviderSettings = { region: 'eu-central-1', defaultTags: { Product: 'gateway', Stage: 'test' } };
const TEMPLATE = 'aws_launch_template';
const SURROUNDINGS = { region: 'eu-central-1', instanceTypes: ['c6gn.large'] };

function schemaOf(type: string): Block {
  const schema = resourceSchema(type);
  if (!schema) throw new Error(`${type}: no schema`);
  return schema;
}

/** What Terraform proposes for a new resource: every attribute, null where nothing is configured. */
function proposal(schema: Block, given: Fields): Fields {
  const attributes = schema.attributes.map(({ name }): [string, Value] => [name, null]);
  const blocks = schema.blocks.map(({ name, nesting }): [string, Value] => [name, nesting === 'single' ? null : []]);
  return { ...Object.fromEntries([...attributes, ...blocks]), ...given };
}

function created(type: string, given: Fields): Fields {
  const schema = schemaOf(type);
  const proposed = proposal(schema, given);
  const planned = plan({ type, schema, prior: null, proposed, config: proposed }, SETTINGS);
  return apply({ type, schema, prior: null, planned }, SETTINGS) as Fields;
}

/** Plans a change of some attributes, as Terraform proposes it: computed values kept from before. */
function changed(type: string, prior: Fields, given: Fields, configured: Fields): Fields {
  const schema = schemaOf(type);
  const config = proposal(schema, { ...configured, ...given });
  return plan({ type, schema, prior, proposed: { ...prior, ...given }, config }, SETTINGS) as Fields;
}

test('what only AWS knows is unknown at plan, and what is configured stays', () => {
  const schema = schemaOf(TEMPLATE);
  const ebs = { encrypted: 'true', iops: null };
  const proposed = proposal(schema, { name: 'gateway', block_device_mappings: [{ device_name: 'x', ebs: [ebs] }] });
  const planned = plan({ type: TEMPLATE, schema, prior: null, proposed, config: proposed }, SETTINGS);
  expect(planned).toMatchObject({
    name: 'gateway',
    instance_type: null,
    ...{ id: UNKNOWN, arn: UNKNOWN, latest_version: UNKNOWN },
    block_device_mappings: [{ device_name: 'x', ebs: [{ encrypted: 'true', iops: UNKNOWN }] }],
  });
});

test('the provider’s own region and default tags are known at plan; tags of the resource win', () => {
  const schema = schemaOf('aws_lb');
  const proposed = proposal(schema, { tags: { Stage: 'other' } });
  const planned = plan({ type: 'aws_lb', schema, prior: null, proposed, config: proposed }, SETTINGS);
  expect(planned).toMatchObject({ region: 'eu-central-1', tags_all: { Product: 'gateway', Stage: 'other' } });
});

test('tags that are not known yet leave all tags unknown', () => {
  const schema = schemaOf('aws_lb');
  const proposed = proposal(schema, { tags: UNKNOWN });
  const planned = plan({ type: 'aws_lb', schema, prior: null, proposed, config: proposed }, SETTINGS);
  expect(planned).toMatchObject({ tags: UNKNOWN, tags_all: UNKNOWN });
});

test('apply leaves nothing unknown, and the same resource becomes the same again', () => {
  const once = created('aws_lb', { name: 'gateway' });
  expect(Object.values(once).filter((value) => value instanceof Unknown)).toEqual([]);
  expect(created('aws_lb', { name: 'gateway' })).toEqual(once);
  expect(created('aws_lb', { name: 'another' }).id).not.toBe(once.id);
});

test('what is made up is nobody’s, and a name begins as its prefix says', () => {
  const role = created('aws_iam_role', { name_prefix: 'gateway-' });
  expect(role).toMatchObject({ name: expect.stringMatching(/^gateway-[0-9a-f]{17}$/) as unknown });
  expect(role).toMatchObject({ arn: expect.stringMatching(/^arn:aws:stand-in:.*:123456789012:iam-role-/) as unknown });
});

test('what could have been set and was not is empty; what only AWS fills can be referred to', () => {
  expect(created('aws_security_group', {})).toMatchObject({ ingress: [], owner_id: '123456789012' });
  const schema = schemaOf('aws_vpc_endpoint');
  const endpoint = complete('aws_vpc_endpoint', schema, proposal(schema, {}), SETTINGS);
  expect(endpoint).toMatchObject({ dns_entry: [{ dns_name: expect.stringMatching(/\.invalid$/) as unknown }] });
});

test('nothing changes where nothing changed', () => {
  const configured = { name: 'gateway', instance_type: 'c5n.large' };
  const prior = created(TEMPLATE, configured);
  expect(changed(TEMPLATE, prior, {}, configured)).toEqual(prior);
});

test('any change makes a template’s version unknown, and apply counts it up', () => {
  const configured = { name: 'gateway', update_default_version: true };
  const prior = created(TEMPLATE, configured);
  const planned = changed(TEMPLATE, prior, { description: 'another' }, configured);
  expect(planned).toEqual({ ...prior, description: 'another', latest_version: UNKNOWN, default_version: UNKNOWN });
  const applied = apply({ type: TEMPLATE, schema: schemaOf(TEMPLATE), prior, planned }, SETTINGS);
  expect(applied).toEqual({ ...prior, description: 'another', latest_version: 2, default_version: 2 });
});

test('the default version stays where nobody asked to move it', () => {
  const prior = created(TEMPLATE, { name: 'gateway' });
  const planned = changed(TEMPLATE, prior, { description: 'another' }, { name: 'gateway' });
  expect(planned).toMatchObject({ latest_version: UNKNOWN, default_version: 1 });
});

test('what AWS chose is kept when something else changes', () => {
  const prior = created('aws_lb', { name: 'gateway' });
  const planned = changed('aws_lb', prior, { internal: true }, { name: 'gateway' });
  expect(planned).toEqual({ ...prior, internal: true });
});

test('a resource that is to go is planned and applied as nothing', () => {
  const schema = schemaOf('aws_lb');
  const prior = created('aws_lb', { name: 'gateway' });
  expect(plan({ type: 'aws_lb', schema, prior, proposed: null, config: null }, SETTINGS)).toBeNull();
  expect(apply({ type: 'aws_lb', schema, prior, planned: null }, SETTINGS)).toBeNull();
});

test('attributes that only AWS sets are found at any depth; others are let through', () => {
  const schema = schemaOf('aws_lambda_function');
  const config = proposal(schema, { arn: 'x', role: 'y', vpc_config: [{ subnet_ids: ['a'], vpc_id: 'z' }] });
  expect(unconfigurable(schema, config)).toEqual(['arn', 'vpc_config.vpc_id']);
  expect(unconfigurable(schema, proposal(schema, { role: 'y' }))).toEqual([]);
});

test('a function whose code is not where the stack says cannot be applied; one whose code is there can', () => {
  const type = 'aws_lambda_function';
  expect(() => created(type, { filename: 'assets/nothing.zip' })).toThrow(
    'filename = "assets/nothing.zip": no such file',
  );
  expect(created(type, { filename: __filename })).toMatchObject({ filename: __filename });
});

test('an image has the architecture that its name tells, or else the one that the stack’s instances need', () => {
  const image = (id: Value): Value =>
    answer('aws_ami', { filter: [{ name: 'image-id', values: [id] }] }, SURROUNDINGS).architecture ?? null;
  const parameter = (name: string): Value => answer('aws_ssm_parameter', { name }, SURROUNDINGS).insecure_value ?? null;
  expect(image(parameter('/aws/service/debian/release/13/latest/amd64'))).toBe('x86_64');
  expect(image(parameter('/aws/service/debian/release/13/latest/arm64'))).toBe('arm64');
  expect(image('ami-0123456789abcdef0')).toBe('arm64');
});

test('a data source without an answer is refused by name', () => {
  expect(() => answer('aws_eip', {}, SURROUNDINGS)).toThrow(
    /^data aws_eip: .* add one to lab\/terraform\/answers\.ts$/,
  );
});

test('Terraform hears of the types in the stack and of those that only its state still has', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mirror-gateway-stack-'));
  const write = (name: string, text: string): void => fs.writeFileSync(path.join(folder, name), text);
  try {
    expect(usedTypes(folder)).toEqual({ resources: [], data: [] });
    const template = { gateway: { instance_type: 'c5n.large' } };
    const resource = { aws_lb: { one: {} }, [TEMPLATE]: template };
    const terraform = { backend: { local: { path: 'state' } } };
    write('cdk.tf.json', JSON.stringify({ resource, data: { aws_vpc: { one: {} } }, terraform }));
    write('state', '');
    expect(usedTypes(folder)).toEqual({ resources: [TEMPLATE, 'aws_lb'], data: ['aws_vpc'] });
    expect(launchedTypes(folder)).toEqual(['c5n.large']);
    const gone = { mode: 'managed', type: 'aws_sns_topic' };
    write('state', JSON.stringify({ resources: [gone, { mode: 'managed', type: 'aws_lb' }] }));
    expect(usedTypes(folder).resources).toEqual([TEMPLATE, 'aws_lb', 'aws_sns_topic']);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

test('values survive the way to Terraform and back, unknown ones with what is known of them', () => {
  const value = {
    text: 'a',
    number: 4789,
    none: null,
    list: [true],
    unknown: UNKNOWN,
    refined: new Unknown(12, Uint8Array.of(0x81, 1, 0xc2)),
  };
  expect(decodeValue(encodeValue(value))).toEqual(value);
  expect(Buffer.from(encodeValue(UNKNOWN)).toString('hex')).toBe('d40000');
});

test('the certificate is for localhost, valid now, and vouches for itself', () => {
  const { certificate, handshake } = selfSigned();
  const parsed = new X509Certificate(certificate);
  expect(parsed.checkHost('localhost')).toBe('localhost');
  expect(parsed.checkHost('example.com')).toBeUndefined();
  expect(parsed.verify(parsed.publicKey)).toBe(true);
  expect(parsed.ca).toBe(true);
  const now = Date.now();
  expect(Date.parse(parsed.validFrom)).toBeLessThan(now);
  expect(Date.parse(parsed.validTo)).toBeGreaterThan(now);
  expect(Buffer.from(handshake, 'base64')).toEqual(parsed.raw);
  expect(handshake).not.toContain('=');
});
