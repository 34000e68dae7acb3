import { existsSync, readFileSync, writeFileSync } from 'node:fs';

/**
 * Writes a report into a file. In a page that has lines `<!-- NAME -->` and `<!-- /NAME -->` it replaces what is between
 * them; otherwise it becomes the whole file.
 */
export function writeSection(path: string, name: string, text: string): void {
  const page = existsSync(path) ? readFileSync(path, 'utf8') : '';
  const [begin, end] = [`<!-- ${name} -->\n`, `<!-- /${name} -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  const whole = from < 0 || to < from;
  writeFileSync(path, whole ? text : `${page.slice(0, from + begin.length)}\n${text.trim()}\n\n${page.slice(to)}`);
}
