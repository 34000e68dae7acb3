import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { shellWord } from './shell-word.ts';

test('a shell reads the word as the text that it stands for, and runs nothing of it', () => {
  for (const text of ['talk.mp3', 'a b', '', "it's", '"q" $(exit 3) `exit 4` \\', '日本 *?', 'a\nb']) {
    assert.equal(execFileSync('sh', ['-c', `printf %s ${shellWord(text)}`], { encoding: 'utf8' }), text);
  }
  assert.equal(shellWord('/data/talk_1.mp3'), '/data/talk_1.mp3');
  assert.equal(shellWord('-rf'), "'./-rf'");
});
