// SPDX-License-Identifier: Apache-2.0

const NUMBER = /^(?:[\d.,]+(?:\*| %)?|-)$/;

/** Columns as wide as they need to be; those of numbers end where their titles end. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const columns = head.map((title, at) => {
    const cells = rows.map((row) => row[at] ?? '');
    return {
      width: Math.max(title.length, ...cells.map((cell) => cell.length)),
      isOfNumbers: cells.length > 0 && cells.every((cell) => NUMBER.test(cell)),
    };
  });
  const line = (row: readonly string[]): string =>
    columns
      .map(({ width, isOfNumbers }, at) => (row[at] ?? '')[isOfNumbers ? 'padStart' : 'padEnd'](width))
      .join('  ')
      .trimEnd();
  return [head, ...rows].map(line).join('\n');
}
