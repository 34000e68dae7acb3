import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseOptions } from './options.ts';

const required = {
  '--socket': '/s',
  '--python': '/venv/bin/python',
  '--checkout': '/la',
  '--ckpt-dir': '/ckpt',
  '--lora': '/lora/liveavatar.safetensors',
};
const args = (change: Readonly<Record<string, string>> = {}): string[] =>
  Object.entries({ ...required, ...change }).flat();

test('what is not given is off, or as usual', () => {
  const { fp8, compile, tpp, patience, workDir, trainingConfig } = parseOptions(args(), '/tmp');
  assert.deepEqual(
    { fp8, compile, tpp, patience, workDir, trainingConfig },
    {
      ...{ fp8: false, compile: false, tpp: false, patience: 1, workDir: '/tmp', trainingConfig: undefined },
    },
  );
});

test('everything can be given', () => {
  const given = parseOptions(
    [...args({ '--patience': '2.5', '--work-dir': '/w' }), '--fp8', '--compile', '--t5-cpu'],
    '/tmp',
  );
  assert.deepEqual(
    [given.patience, given.workDir, given.fp8, given.compile, given.t5Cpu],
    [2.5, '/w', true, true, true],
  );
});

test('what can not work is refused by the name of its option', () => {
  const refuse = (field: string, given: readonly string[]) =>
    assert.throws(() => parseOptions(given, '/tmp'), { code: 'invalid_argument', field });
  for (const name of Object.keys(required).filter((each) => each !== '--lora')) {
    refuse(
      name,
      Object.entries(required)
        .filter(([other]) => other !== name)
        .flat(),
    );
  }
  refuse('--python', args({ '--python': '' }));
  refuse('--checkout', args({ '--checkout': 'LiveAvatar' }));
  refuse('--lora', args({ '--lora': 'Quark-Vision/Live-Avatar' }));
  refuse('--patience', args({ '--patience': '0' }));
  refuse('--work-dir', args({ '--work-dir': '/tmp/a+b' }));
  refuse('--online-decode', [...args(), '--tpp', '--online-decode']);
  assert.throws(() => parseOptions([...args(), '--fp9'], '/tmp'), { code: 'invalid_argument', message: /--fp9/ });
});
