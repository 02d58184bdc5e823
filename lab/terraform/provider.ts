// SPDX-License-Identifier: Apache-2.0
// A stand-in for the AWS provider: a program that Terraform starts and asks, over gRPC on a Unix socket, about types,
// plans and changes. It has the real provider's schemas and nothing of AWS behind them. lab/terraform/README.md says what
// a run with it proves and what it cannot.
import {
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../../constructs/config/user-error';
import { answer } from './answers';
import { selfSigned } from './certificate';
import { AwsEndpoint } from './aws';
import { apply, complete, madeAnewBy, plan, type ProviderSettings, unconfigurable } from './resources';
import { type Block, dataSchema, providerSchema, resourceSchema } from './schema';
import { launchedTypes, usedTypes } from './stack';
import { decodeValue, encodeValue, type Fields, isFields, type Value } from './value';

const PROTOCOL = 5;
const LARGEST_MESSAGE = 64 * 1024 * 1024;
const NESTING = { single: 1, list: 2, set: 3 } as const;
const ERROR = 1;

interface Wire {
  readonly msgpack: Uint8Array;
}

/** Every request in one shape: each procedure reads the fields that its own has. */
interface Request {
  readonly type_name: string;
  readonly config: Wire;
  readonly raw_state: { readonly json: Uint8Array };
  readonly current_state: Wire;
  readonly prior_state: Wire;
  readonly proposed_new_state: Wire;
  readonly planned_state: Wire;
}

type Procedure = (request: Request) => object | Promise<object>;

const open = ({ msgpack }: Wire): Value => decodeValue(msgpack);
const wrap = (value: Value): Wire => ({ msgpack: encodeValue(value) });

// --- what Terraform asks --------------------------------------------------------------------------------------------

const aws = process.env.STAND_IN_URL ? new AwsEndpoint(process.env.STAND_IN_URL) : undefined;

let settings: ProviderSettings = { region: '', defaultTags: {} };

const procedures: Readonly<Record<string, Procedure>> = {
  GetSchema: () => {
    const { resources, data } = usedTypes(process.cwd());
    return {
      provider: { block: blockMessage(providerSchema()) },
      resource_schemas: schemaMessages(resources, resourceSchema),
      data_source_schemas: schemaMessages(data, dataSchema),
    };
  },
  PrepareProviderConfig: ({ config }) => ({ prepared_config: config }),
  Configure: ({ config }) => {
    settings = settingsOf(open(config));
    return {};
  },
  ValidateResourceTypeConfig: ({ type_name: type, config }) => validated(required(type, resourceSchema), open(config)),
  ValidateDataSourceConfig: ({ type_name: type, config }) => validated(required(type, dataSchema), open(config)),
  // The state was written with these very schemas, so that its JSON is good as it is.
  UpgradeResourceState: ({ raw_state }) => ({ state: { json: raw_state.json } }),
  // Without a stand-in for AWS nobody but Terraform changes what does not exist.
  ReadResource: async ({ type_name: type, current_state }) =>
    aws ? { state: wrap(await aws.read(type, open(current_state))) } : { state: current_state },
  PlanResourceChange: ({ type_name: type, prior_state, proposed_new_state, config }) => {
    const schema = required(type, resourceSchema);
    const proposed = open(proposed_new_state);
    const prior = open(prior_state);
    const planned = plan({ type, schema, prior, proposed, config: open(config) }, settings);
    const anew = madeAnewBy(type, prior, planned).map((name) => ({ steps: [{ attribute_name: name }] }));
    return { state: wrap(planned), requires_replace: anew };
  },
  ApplyResourceChange: async ({ type_name: type, prior_state, planned_state }) => {
    const schema = required(type, resourceSchema);
    const [prior, planned] = [open(prior_state), open(planned_state)];
    const state = apply({ type, schema, prior, planned }, settings);
    return { state: wrap(aws ? await aws.applied({ type, prior, planned, state }) : state) };
  },
  ReadDataSource: ({ type_name: type, config }) => {
    const given = open(config);
    const fields = isFields(given) ? given : {};
    const answered = answer(type, fields, { region: settings.region, instanceTypes: launchedTypes(process.cwd()) });
    return { state: wrap(complete(type, required(type, dataSchema), { ...fields, ...answered }, settings)) };
  },
  ImportResourceState: ({ type_name: type }) => {
    throw new UserError(`${type}: the stand-in for the AWS provider has nothing to import; use the real provider`);
  },
  Stop: () => ({}),
};

function settingsOf(config: Value): ProviderSettings {
  const { region = null, default_tags: blocks = null } = isFields(config) ? config : {};
  const first: Value = Array.isArray(blocks) ? ((blocks as readonly Value[])[0] ?? null) : null;
  const tags: Value = isFields(first) ? (first.tags ?? null) : null;
  const defaultTags: Fields = isFields(tags) ? tags : {};
  return { region: typeof region === 'string' ? region : 'us-east-1', defaultTags };
}

function validated(schema: Block, config: Value): object {
  const lines = unconfigurable(schema, config).map((name) => `${name} cannot be set: AWS decides its value; remove it`);
  return { diagnostics: lines.map((summary) => ({ severity: ERROR, summary })) };
}

function required(type: string, schemaOf: (type: string) => Block | undefined): Block {
  const schema = schemaOf(type);
  if (schema) return schema;
  throw new UserError(`${type}: @cdktf/provider-aws has no such type`);
}

// --- how the answers travel -----------------------------------------------------------------------------------------

function schemaMessages(types: readonly string[], schemaOf: (type: string) => Block | undefined): object {
  const known = types.flatMap((type) => {
    const schema = schemaOf(type);
    return schema ? [[type, { block: blockMessage(schema) }]] : [];
  });
  return Object.fromEntries(known) as object;
}

function blockMessage({ attributes, blocks }: Block): object {
  return {
    attributes: attributes.map((each) => ({ ...each, type: Buffer.from(JSON.stringify(each.type)) })),
    block_types: blocks.map((each) => ({
      type_name: each.name,
      nesting: NESTING[each.nesting],
      min_items: each.minItems,
      max_items: each.maxItems,
      block: blockMessage(each.block),
    })),
  };
}

function diagnostic(error: unknown): object {
  const summary = error instanceof UserError ? error.message : `stand-in for the AWS provider: ${String(error)}`;
  return { severity: ERROR, summary };
}

function handler(procedure: Procedure): handleUnaryCall<Request, object> {
  return ({ request }, reply) => {
    Promise.resolve()
      .then(() => procedure(request))
      .then(
        (answer) => reply(null, answer),
        (error: unknown) => reply(null, { diagnostics: [diagnostic(error)] }),
      );
  };
}

// --- the program ----------------------------------------------------------------------------------------------------

/** How Terraform ends a provider, outside of protocol 5. */
const CONTROLLER: ServiceDefinition = {
  shutdown: {
    path: '/plugin.GRPCController/Shutdown',
    requestStream: false,
    responseStream: false,
    requestSerialize: () => Buffer.alloc(0),
    requestDeserialize: () => ({}),
    responseSerialize: () => Buffer.alloc(0),
    responseDeserialize: () => ({}),
  },
};

function serve(clientCertificate: string): void {
  const socket = join(process.env.PLUGIN_UNIX_SOCKET_DIR || tmpdir(), `stand-in-${process.pid}.sock`);
  const identity = selfSigned();
  const server = new Server({ 'grpc.max_receive_message_length': LARGEST_MESSAGE });
  const protocol = loadSync(join(__dirname, 'tfplugin5.proto'), { keepCase: true, defaults: true });
  const answers: UntypedServiceImplementation = {};
  for (const [name, procedure] of Object.entries(procedures)) answers[name] = handler(procedure);
  server.addService(protocol['tfplugin5.Provider'] as ServiceDefinition, answers);
  const shutdown: handleUnaryCall<object, object> = (_, reply) => {
    reply(null, {});
    server.tryShutdown(() => process.exit());
  };
  server.addService(CONTROLLER, { shutdown });
  process.on('exit', () => rmSync(socket, { force: true }));
  // Terraform passes an interrupt on to the whole group and then asks each provider to end by itself.
  process.on('SIGINT', () => undefined);
  endWithParent();
  const credentials = ServerCredentials.createSsl(
    Buffer.from(clientCertificate),
    [{ private_key: identity.key, cert_chain: identity.certificate }],
    true,
  );
  server.bindAsync(`unix:${socket}`, credentials, (error) => {
    if (error) throw error;
    process.stdout.write(`1|${PROTOCOL}|unix|${socket}|grpc|${identity.handshake}\n`);
  });
}

/** A Terraform that was killed asks nothing any more. */
function endWithParent(): void {
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || process.exit(1), 1000).unref();
}

const clientCertificate = process.env.PLUGIN_CLIENT_CERT;
if (clientCertificate) serve(clientCertificate);
else {
  console.error('This program is started by Terraform: see lab/terraform/README.md, or run make plan.');
  process.exitCode = 1;
}
