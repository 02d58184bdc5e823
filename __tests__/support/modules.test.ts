// SPDX-License-Identifier: Apache-2.0
// How modules and folders hang together: nobody imports in a circle, and no folder of the product is a heap.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { preProcessFile } from 'typescript';
import { REPOSITORY } from '../../lab/support/host';

const FILES_IN_A_FOLDER = 15;
const PRODUCT = ['constructs', 'lambda'];

const modulesBelow = (folder: string): string[] =>
  readdirSync(join(REPOSITORY, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name));

const MODULES = ['main.ts', ...[...PRODUCT, 'lab', 'bench', '__tests__'].flatMap(modulesBelow)];

/** The modules of ours that one imports, for their types alone included. */
function importsOf(module: string): string[] {
  const { importedFiles } = preProcessFile(readFileSync(join(REPOSITORY, module), 'utf8'));
  return importedFiles
    .filter(({ fileName }) => fileName.startsWith('.'))
    .map(({ fileName }) => normalize(join(dirname(module), `${fileName}.ts`)))
    .filter((file) => MODULES.includes(file));
}

/** One circle, in its order, or nothing. */
function circleIn(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const done = new Set<string>();
  const visit = (module: string, way: readonly string[]): string[] => {
    if (way.includes(module)) return [...way.slice(way.indexOf(module)), module];
    if (done.has(module)) return [];
    for (const each of graph.get(module) ?? []) {
      const circle = visit(each, [...way, module]);
      if (circle.length > 0) return circle;
    }
    done.add(module);
    return [];
  };
  return [...graph.keys()].map((module) => visit(module, [])).find((circle) => circle.length > 0) ?? [];
}

describe('modules', () => {
  test('import nothing that imports them', () => {
    expect(MODULES.length).toBeGreaterThan(150);
    expect(circleIn(new Map(MODULES.map((module) => [module, importsOf(module)])))).toEqual([]);
  });

  test('that do are found', () => {
    const graph = { a: ['b'], b: ['c', 'd'], c: [], d: ['b'] };
    expect(circleIn(new Map(Object.entries(graph)))).toEqual(['b', 'd', 'b']);
  });

  test(`of the product are at most ${FILES_IN_A_FOLDER} in a folder`, () => {
    const folders = PRODUCT.flatMap(modulesBelow).map(dirname);
    const sizes = [...new Set(folders)].map((folder) => ({
      folder,
      size: folders.filter((each) => each === folder).length,
    }));
    const large = sizes.filter(({ size }) => size > FILES_IN_A_FOLDER);
    expect(large).toEqual([]);
  });
});
