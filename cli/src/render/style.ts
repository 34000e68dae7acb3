import pc from 'picocolors';

type Paint = (text: string) => string;

/** How text is decorated. Every function returns the text unchanged when colours are off. */
export interface Style {
  readonly bold: Paint;
  readonly dim: Paint;
  readonly good: Paint;
  readonly warn: Paint;
  readonly bad: Paint;
  /** The colour of the n-th slot, n from 0; colours repeat after six. */
  readonly owner: (index: number) => Paint;
}

/** @param enabled false gives plain text. */
export function createStyle(enabled: boolean): Style {
  const colors = pc.createColors(enabled);
  // Red is left out: it means a fault everywhere else.
  const owners: readonly Paint[] = [
    colors.cyan,
    colors.magenta,
    colors.yellow,
    colors.blueBright,
    colors.green,
    colors.white,
  ];
  return {
    bold: colors.bold,
    dim: colors.dim,
    good: colors.green,
    warn: colors.yellow,
    bad: colors.red,
    owner: (index) => owners[index % owners.length] ?? String,
  };
}

/** What decides whether a stream gets colours. */
export interface ColorChoice {
  /** Value of `--color`. */
  readonly when: 'auto' | 'always' | 'never';
  /** True when the stream is a terminal. */
  readonly isTTY: boolean;
  /** True when NO_COLOR is set to anything, or TERM is `dumb` (see no-color.org). */
  readonly plain: boolean;
}

/** Whether to colour: `--color` decides; `auto` means a terminal that NO_COLOR does not keep plain. */
export function wantsColor(choice: ColorChoice): boolean {
  if (choice.when !== 'auto') return choice.when === 'always';
  return choice.isTTY && !choice.plain;
}
