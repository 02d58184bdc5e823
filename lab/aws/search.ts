// SPDX-License-Identifier: Apache-2.0
// What a search expression of a dashboard asks for ("CloudWatch search expression syntax", Amazon CloudWatch User Guide), in the
// one form that the stack has: SEARCH('{namespace,dimension,...} key="value" ...', 'statistic', period).

export interface Search {
  readonly namespace: string;
  readonly name: string;
  /** Exactly these; a value that is searched for, or null for any. */
  readonly dimensions: Readonly<Record<string, string | null>>;
}

/** @throws Error on a search of another form; nothing if it is none */
export function searchOf(expression: string): Search | undefined {
  if (!expression.startsWith('SEARCH(')) return undefined;
  const [, schema = '', terms = ''] =
    /^SEARCH\('\{([^{}"]+)\}((?: \w+="[^"]+")+)', '\w+', \d+\)$/.exec(expression) ?? [];
  const [namespace = '', ...keys] = schema.split(',');
  const { MetricName: name, ...values } = Object.fromEntries(
    [...terms.matchAll(/(\w+)="([^"]+)"/g)].map(([, key = '', value = '']): [string, string] => [key, value]),
  );
  const foreign = Object.keys(values).filter((key) => !keys.includes(key));
  if (name === undefined || foreign.length > 0)
    throw new Error(`'${expression}': not the form of a search that lab/aws/search.ts reads`);
  return { namespace, name, dimensions: Object.fromEntries(keys.map((key) => [key, values[key] ?? null])) };
}
