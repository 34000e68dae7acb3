import type { Style } from './style.ts';
import { padEnd, padStart, printable, truncate, widthOf } from './text.ts';

/** One column of a table. */
export interface Column<Row> {
  readonly title: string;
  /** Plain text of the cell. */
  readonly cell: (row: Row) => string;
  /** Colour of the cell; it must not change the width. */
  readonly paint?: (text: string, row: Row) => string;
  readonly align?: 'left' | 'right';
  /** Longer cells are cut, in columns of the terminal. */
  readonly max?: number;
}

/** Lines of a table without borders: a dim head, then one line per row, columns two spaces apart. */
export function table<Row>(rows: readonly Row[], columns: readonly Column<Row>[], style: Style): string[] {
  const cells = rows.map((row) =>
    columns.map((column) => truncate(printable(column.cell(row)), column.max ?? Number.POSITIVE_INFINITY)),
  );
  const widths = columns.map((column, index) =>
    Math.max(widthOf(column.title), ...cells.map((line) => widthOf(line[index] ?? ''))),
  );
  const join = (texts: readonly string[]) => texts.join('  ').trimEnd();
  const fit = (text: string, index: number) =>
    (columns[index]?.align === 'right' ? padStart : padEnd)(text, widths[index] ?? 0);
  const head = style.dim(join(columns.map((column, index) => fit(column.title, index))));
  const body = rows.map((row, line) =>
    join(
      columns.map((column, index) => {
        const text = fit(cells[line]?.[index] ?? '', index);
        return column.paint === undefined ? text : column.paint(text, row);
      }),
    ),
  );
  return [head, ...body];
}

/** Lines of `label  value` pairs, labels padded to the longest. */
export function fields(pairs: readonly (readonly [label: string, value: string])[], style: Style): string[] {
  const width = Math.max(0, ...pairs.map(([label]) => widthOf(label)));
  return pairs.map(([label, value]) => `  ${style.dim(padEnd(label, width))}  ${value}`);
}
