// SPDX-License-Identifier: Apache-2.0
// Prometheus's text format, read by its own Python client.
import { must } from './host';
import { pythonTool } from './python-tools';

export interface PrometheusSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface PrometheusFamily {
  /** Of a counter without `_total`. */
  readonly name: string;
  readonly type: string;
  readonly documentation: string;
  readonly samples: readonly PrometheusSample[];
}

const PROGRAM = `
import json, sys
from prometheus_client.parser import text_string_to_metric_families
print(json.dumps([dict(name=f.name, type=f.type, documentation=f.documentation,
  samples=[dict(name=s.name, labels=s.labels, value=s.value) for s in f.samples])
  for f in text_string_to_metric_families(sys.stdin.read())]))`;

/** @throws Error with the parser's words where the text is none of the format */
export async function parsePrometheus(text: string): Promise<PrometheusFamily[]> {
  return JSON.parse(await must(pythonTool('python'), ['-c', PROGRAM], { input: text })) as PrometheusFamily[];
}
