// SPDX-License-Identifier: Apache-2.0
// CloudWatch's embedded metric format: what makes a document one, and what a set of documents makes CloudWatch see. The schema
// says what the specification's says ("Specification: Embedded metric format", Amazon CloudWatch User Guide); what it cannot
// say, that each name refers to a member of the right type, stands below it.
import Ajv from 'ajv';

const UNITS = [
  ...['Seconds', 'Microseconds', 'Milliseconds', 'Percent', 'Count', 'Count/Second', 'None'],
  ...['Bytes', 'Bits'].flatMap((unit) => ['', 'Kilo', 'Mega', 'Giga', 'Tera'].map((by) => prefixed(by, unit))),
  ...['Bytes', 'Bits'].flatMap((unit) =>
    ['', 'Kilo', 'Mega', 'Giga', 'Tera'].map((by) => `${prefixed(by, unit)}/Second`),
  ),
];

function prefixed(by: string, unit: string): string {
  return by === '' ? unit : `${by}${unit.toLowerCase()}`;
}

const name = (maxLength: number) => ({ type: 'string', pattern: '^(.*)$', minLength: 1, maxLength });

export const EMF_SCHEMA = {
  type: 'object',
  required: ['_aws'],
  properties: {
    _aws: {
      type: 'object',
      required: ['Timestamp', 'CloudWatchMetrics'],
      properties: {
        Timestamp: { type: 'integer' },
        // Of the CloudWatch agent, not of the specification.
        LogGroupName: { type: 'string', pattern: '^[a-zA-Z0-9_\\-/.#]{1,512}$' },
        LogStreamName: { type: 'string', pattern: '^[^:*]{1,512}$' },
        CloudWatchMetrics: {
          type: 'array',
          items: {
            type: 'object',
            required: ['Namespace', 'Dimensions', 'Metrics'],
            properties: {
              Namespace: name(1024),
              Dimensions: {
                type: 'array',
                minItems: 1,
                items: { type: 'array', minItems: 0, maxItems: 30, items: name(250) },
              },
              Metrics: {
                type: 'array',
                items: {
                  type: 'object',
                  required: ['Name'],
                  properties: {
                    Name: name(1024),
                    Unit: { type: 'string', enum: UNITS },
                    StorageResolution: { type: 'integer' },
                  },
                },
              },
            },
          },
        },
      },
    },
  },
} as const;

interface Directive {
  readonly Namespace: string;
  readonly Dimensions: readonly (readonly string[])[];
  readonly Metrics: readonly { readonly Name: string; readonly Unit?: string }[];
}

export interface Emf extends Readonly<Record<string, unknown>> {
  readonly _aws: {
    readonly Timestamp: number;
    readonly LogGroupName: string;
    readonly LogStreamName: string;
    readonly CloudWatchMetrics: readonly Directive[];
  };
}

const isEmf = new Ajv({ allErrors: true }).compile(EMF_SCHEMA);

/** Why a document is none that CloudWatch would take all of; nothing if it would. */
export function emfProblems(document: unknown): string[] {
  if (isEmf(document) !== true)
    return (isEmf.errors ?? []).map(({ dataPath, message }) => `${dataPath} ${String(message)}`);
  const emf = document as Emf;
  return emf._aws.CloudWatchMetrics.flatMap(({ Dimensions, Metrics }) => [
    // The agent drops what is beyond a hundred.
    ...(Metrics.length > 100 ? [`${Metrics.length} metrics in one document`] : []),
    ...Metrics.filter(({ Name }) => typeof emf[Name] !== 'number').map(({ Name }) => `${Name} has no numeric value`),
    ...Dimensions.flat()
      .filter((key) => typeof emf[key] !== 'string' || emf[key] === '')
      .map((key) => `dimension ${key} has no value`),
  ]);
}

/** A metric as CloudWatch knows it: the same name under other dimensions is another one. */
export interface Series {
  readonly namespace: string;
  readonly name: string;
  readonly unit: string;
  readonly dimensions: Readonly<Record<string, string>>;
}

/** What CloudWatch makes of documents, each series once. */
export function seriesOf(documents: readonly Emf[]): Series[] {
  const all = documents.flatMap((document) =>
    document._aws.CloudWatchMetrics.flatMap(({ Namespace, Dimensions, Metrics }) =>
      Dimensions.flatMap((keys) =>
        Metrics.map(({ Name, Unit = 'None' }) => ({
          namespace: Namespace,
          name: Name,
          unit: Unit,
          dimensions: Object.fromEntries(keys.map((key): [string, string] => [key, String(document[key])])),
        })),
      ),
    ),
  );
  return [...new Map(all.map((series) => [JSON.stringify(series), series])).values()];
}
