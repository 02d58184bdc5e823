// SPDX-License-Identifier: Apache-2.0
// What is read out of the bindings, against facts about the AWS provider that are written down here by hand.
import * as fs from 'node:fs';
import * as path from 'node:path';
import {
  type Attribute,
  type Block,
  dataSchema,
  type NestedBlock,
  providerAddress,
  providerSchema,
  resourceSchema,
} from '../../lab/terraform/schema';

const LIBRARY = path.join(path.dirname(require.resolve('@cdktf/provider-aws/package.json')), 'lib');

function schemaOf(name: string): Block {
  const [type = '', ...data] = name.split('.').reverse();
  const schema = data.length > 0 ? dataSchema(type) : resourceSchema(type);
  if (!schema) throw new Error(`${name}: no schema`);
  return schema;
}

/** A block by its path, such as `aws_lb access_logs`. */
function blockAt(place: string): NestedBlock {
  const [type = '', ...names] = place.split(' ');
  let [block, found]: [Block, NestedBlock | undefined] = [schemaOf(type), undefined];
  for (const name of names) {
    found = block.blocks.find((each) => each.name === name);
    if (!found) throw new Error(`${place}: no block ${name}`);
    ({ block } = found);
  }
  if (!found) throw new Error(`${place}: names no block`);
  return found;
}

function attributeAt(place: string): Attribute {
  const names = place.split(' ');
  const name = names.pop();
  const block = names.length > 1 ? blockAt(names.join(' ')).block : schemaOf(names[0] ?? '');
  const found = block.attributes.find((each) => each.name === name);
  if (!found) throw new Error(`${place}: no such attribute`);
  return found;
}

const REQUIRED = { required: true, optional: false, computed: false };
const OPTIONAL = { required: false, optional: true, computed: false };
const COMPUTED = { required: false, optional: false, computed: true };
const EITHER = { required: false, optional: true, computed: true };

test.each([
  ['aws_autoscaling_group max_size', 'number', REQUIRED],
  ['aws_autoscaling_group capacity_rebalance', 'bool', OPTIONAL],
  ['aws_autoscaling_group desired_capacity', 'number', EITHER],
  ['aws_autoscaling_group vpc_zone_identifier', ['set', 'string'], EITHER],
  ['aws_autoscaling_group termination_policies', ['list', 'string'], OPTIONAL],
  ['aws_autoscaling_group instance_refresh preferences checkpoint_percentages', ['list', 'number'], OPTIONAL],
  ['aws_autoscaling_group tag propagate_at_launch', 'bool', REQUIRED],
  ['aws_launch_template latest_version', 'number', COMPUTED],
  ['aws_launch_template tags', ['map', 'string'], OPTIONAL],
  ['aws_launch_template block_device_mappings ebs encrypted', 'string', OPTIONAL],
  ['aws_lambda_function vpc_config vpc_id', 'string', COMPUTED],
  [
    'aws_accessanalyzer_analyzer configuration unused_access analysis_rule exclusion resource_tags',
    ['list', ['map', 'string']],
    OPTIONAL,
  ],
  ['data.aws_ami architecture', 'string', COMPUTED],
  ['data.aws_ami filter values', ['set', 'string'], REQUIRED],
  ['data.aws_ami state_reason', ['map', 'string'], COMPUTED],
  [
    'data.aws_ami product_codes',
    ['set', ['object', { product_code_id: 'string', product_code_type: 'string' }]],
    COMPUTED,
  ],
])('%s is %j', (place, type, flags) => {
  expect(attributeAt(place)).toMatchObject({ type, ...flags });
});

test.each([
  ['aws_autoscaling_group tag', { nesting: 'set', minItems: 0, maxItems: 0 }],
  ['aws_autoscaling_group launch_template', { nesting: 'list', minItems: 0, maxItems: 1 }],
  ['aws_autoscaling_group mixed_instances_policy launch_template', { nesting: 'list', minItems: 1, maxItems: 1 }],
  ['aws_launch_template tag_specifications', { nesting: 'list', minItems: 0, maxItems: 0 }],
  ['aws_lb timeouts', { nesting: 'single', minItems: 0, maxItems: 0 }],
  ['aws_lb_listener default_action', { nesting: 'list', minItems: 1, maxItems: 0 }],
])('%s is a block: %j', (place, shape) => {
  expect(blockAt(place)).toMatchObject(shape);
});

test('rules of a security group are an attribute, although they are written like blocks', () => {
  expect(attributeAt('aws_security_group ingress')).toMatchObject({
    type: ['set', ['object', expect.objectContaining({ from_port: 'number', cidr_blocks: ['list', 'string'] })]],
    ...EITHER,
  });
  expect(() => blockAt('aws_security_group ingress')).toThrow('no block ingress');
});

test('the provider’s own configuration has region and default tags', () => {
  const { attributes, blocks } = providerSchema();
  expect(attributes).toContainEqual({ name: 'region', type: 'string', ...OPTIONAL });
  const tags = [{ name: 'tags', type: ['map', 'string'], ...OPTIONAL }];
  expect(blocks.find(({ name }) => name === 'default_tags')).toMatchObject({ block: { attributes: tags, blocks: [] } });
});

test('the provider’s address is the one that the bindings require', () => {
  const { namespace, name, version } = providerAddress();
  const bindings = fs.readFileSync(path.join(LIBRARY, 'provider/index.js'), 'utf8');
  expect(bindings).toContain(`providerVersion: '${version}'`);
  expect([namespace, name]).toEqual(['hashicorp', 'aws']);
});

test('a type that the bindings lack has no schema', () => {
  expect([resourceSchema('aws_lunch_template'), dataSchema('aws_lunch_template')]).toEqual([undefined, undefined]);
});

test('every type has a schema, but for four that no gateway needs', () => {
  const folders = fs.readdirSync(LIBRARY, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const without = folders.flatMap(({ name }) => {
    const type = `aws_${name.replace(/^data-aws-/, '').replaceAll('-', '_')}`;
    try {
      const schema = name === 'provider' || (name.startsWith('data-aws-') ? dataSchema(type) : resourceSchema(type));
      return schema ? [] : [name];
    } catch {
      return [name];
    }
  });
  // Their structures are kept in files of their own, or are maps of blocks, which this protocol knows but AWS does not use.
  expect(without).toEqual(['lexv2models-bot-version', 'lexv2models-intent', 'lexv2models-slot', 'medialive-channel']);
  expect(folders.length).toBeGreaterThan(2000);
});
