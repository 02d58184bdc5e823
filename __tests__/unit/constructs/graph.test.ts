// SPDX-License-Identifier: Apache-2.0
// What refers to what: nothing to what is missing, and nothing to itself the long way round, which Terraform would only say
// at the plan.
import { SqsQueue } from '@cdktf/provider-aws/lib/sqs-queue';
import { synth, synthOwn, type Synthesized, VARIANTS } from './synthesized';

type Graph = ReadonlyMap<string, readonly string[]>;

const ADDRESS = /(?<![\w.-])(?:data\.)?aws_\w+\.[A-Za-z][\w-]*/g;

/** The body of every ${...}, with what stands inside its braces and quotes. */
function interpolations(text: string): string[] {
  return [...text.matchAll(/\$\{((?:[^{}"]|"(?:\\.|[^"\\])*")*)\}/g)].map(([, body = '']) =>
    // What is quoted in an expression is text, not a reference.
    body.replace(/"(?:\\.|[^"\\])*"/g, '""'),
  );
}

/** Addresses that a value refers to, however deep; depends_on names them plainly. */
function referencesOf(value: unknown, plain = false): string[] {
  if (typeof value === 'string')
    return (plain ? [value] : interpolations(value)).flatMap((text) => text.match(ADDRESS) ?? []);
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => referencesOf(inner, plain || key === 'depends_on'));
}

function graphOf({ resource, data = {}, output = {}, provider }: Synthesized): Graph {
  const nodes = (blocks: Record<string, Record<string, unknown>>, prefix: string) =>
    Object.entries(blocks).flatMap(([type, bodies]) =>
      Object.entries(bodies).map(([name, body]) => [`${prefix}${type}.${name}`, referencesOf(body)] as const),
    );
  return new Map([
    ...nodes(resource, ''),
    ...nodes(data, 'data.'),
    ...nodes({ output }, ''),
    ['provider', referencesOf(provider)] as const,
  ]);
}

function missingFrom(graph: Graph): string[] {
  return [...graph].flatMap(([from, references]) =>
    references.filter((to) => !graph.has(to)).map((to) => `${from} refers to ${to}`),
  );
}

/** The first way from a node back to itself, if there is one. */
function cycleIn(graph: Graph): readonly string[] {
  const done = new Set<string>();
  const walk = (node: string, way: readonly string[]): readonly string[] => {
    if (way.includes(node)) return [...way.slice(way.indexOf(node)), node];
    if (done.has(node)) return [];
    for (const next of graph.get(node) ?? []) {
      const cycle = walk(next, [...way, node]);
      if (cycle.length > 0) return cycle;
    }
    done.add(node);
    return [];
  };
  for (const node of graph.keys()) {
    const cycle = walk(node, []);
    if (cycle.length > 0) return cycle;
  }
  return [];
}

describe.each(VARIANTS)('in the stack with %s', (_, settings) => {
  const stack = synth(settings);
  const graph = graphOf(stack);

  test('everything that is referred to exists', () => {
    expect([...graph.values()].flat().length).toBeGreaterThan(60);
    expect(missingFrom(graph)).toEqual([]);
  });

  test('nothing waits for itself', () => {
    expect(cycleIn(graph)).toEqual([]);
  });

  test('no reference escapes the graph', () => {
    const known = new Set([...graph.values()].flat());
    const all = JSON.stringify(stack).match(ADDRESS) ?? [];
    expect(all.filter((address) => !known.has(address))).toEqual([]);
  });
});

describe('the graph of a broken stack', () => {
  const own = (...names: readonly [name: string, policy: string][]) =>
    graphOf(
      synthOwn((stack) =>
        names.forEach(([id, redrivePolicy]) => new SqsQueue(stack, id, { name: `own-${id}`, redrivePolicy })),
      ),
    );

  test('shows a reference to what is missing, of a resource and of a lookup', () => {
    expect(missingFrom(own(['a', '${aws_sqs_queue.b.arn}']))).toEqual(['aws_sqs_queue.a refers to aws_sqs_queue.b']);
    expect(missingFrom(own(['a', '{"x":"${jsonencode(data.aws_vpc.own.id)}"}']))).toEqual([
      'aws_sqs_queue.a refers to data.aws_vpc.own',
    ]);
  });

  test('shows a cycle, with its way', () => {
    const graph = own(
      ['a', '${aws_sqs_queue.b.arn}'],
      ['b', 'x ${aws_sqs_queue.c.arn}'],
      ['c', '${aws_sqs_queue.b.id}'],
    );
    expect(missingFrom(graph)).toEqual([]);
    expect(cycleIn(graph)).toEqual(['aws_sqs_queue.b', 'aws_sqs_queue.c', 'aws_sqs_queue.b']);
  });

  test('takes no quoted text for a reference', () => {
    expect(missingFrom(own(['a', '${upper("aws_sqs_queue.b")} aws_sqs_queue.c']))).toEqual([]);
  });
});
