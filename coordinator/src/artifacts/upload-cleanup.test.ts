import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { Secret } from '@clipfarm/shared/secret';
import { s3Place } from './s3-client.ts';
import { ensureUploadCleanup } from './upload-cleanup.ts';

const refusal = (code: string) => `<Error><Code>${code}</Code><Message>no</Message></Error>`;
const configuration = (rules: string) => `<LifecycleConfiguration>${rules}</LifecycleConfiguration>`;
const rule = (id: string, filter: string, action: string) =>
  `<Rule><ID>${id}</ID><Filter>${filter}</Filter><Status>Enabled</Status>${action}</Rule>`;
const abort = (days: number) =>
  `<AbortIncompleteMultipartUpload><DaysAfterInitiation>${days}</DaysAfterInitiation></AbortIncompleteMultipartUpload>`;
const expire = '<Expiration><Days>30</Days></Expiration>';

/** A server that answers a GET of the lifecycle as told and keeps what is PUT. */
async function scene(t: TestContext, answer: { readonly status: number; readonly body: string }) {
  const puts: string[] = [];
  const server = createServer(async (request, response) => {
    if (request.method === 'PUT') puts.push(await text(request));
    if (request.method === 'GET') response.writeHead(answer.status).end(answer.body);
    else response.end();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => server.close().closeAllConnections());
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const place = s3Place(
    { endpoint: `http://127.0.0.1:${address.port}`, region: 'us-east-1', bucket: 'clips', prefix: 'farm' },
    { accessKeyId: 'key', secretAccessKey: new Secret('secret') },
  );
  t.after(() => place.client.destroy());
  return { place, puts };
}

test('a bucket without rules gets one for the prefix', async (t) => {
  const { place, puts } = await scene(t, { status: 404, body: refusal('NoSuchLifecycleConfiguration') });
  await ensureUploadCleanup(place, 1);
  assert.equal(puts.length, 1);
  assert.match(puts[0] ?? '', /<ID>clipfarm-incomplete-uploads<\/ID>/);
  assert.match(puts[0] ?? '', /<Prefix>farm\/<\/Prefix>/);
  assert.match(puts[0] ?? '', /<DaysAfterInitiation>1<\/DaysAfterInitiation>/);
});

test('rules of others are kept, an older one of its own is replaced', async (t) => {
  const rules = rule('theirs', '<Prefix>x/</Prefix>', expire) + rule('clipfarm-incomplete-uploads', '', abort(9));
  const { place, puts } = await scene(t, { status: 200, body: configuration(rules) });
  await ensureUploadCleanup(place, 1);
  assert.equal(puts.length, 1);
  const ids = [...(puts[0] ?? '').matchAll(/<ID>([^<]*)<\/ID>/g)].map(([, id]) => id);
  assert.deepEqual(ids, ['theirs', 'clipfarm-incomplete-uploads']);
  assert.match(puts[0] ?? '', /<Days>30<\/Days>/);
});

test('a rule that does the work already is enough', async (t) => {
  for (const filter of ['', '<Prefix></Prefix>', '<Prefix>fa</Prefix>', '<Prefix>farm/</Prefix>']) {
    const { place, puts } = await scene(t, { status: 200, body: configuration(rule('theirs', filter, abort(1))) });
    await ensureUploadCleanup(place, 1);
    assert.deepEqual(puts, [], filter);
  }
});

test('a rule for something else is not', async (t) => {
  const tagged = '<Tag><Key>a</Key><Value>b</Value></Tag>';
  for (const rules of [
    rule('theirs', '<Prefix>other/</Prefix>', abort(1)),
    rule('theirs', tagged, abort(1)),
    rule('theirs', '', abort(2)),
    rule('theirs', '', expire),
    rule('theirs', '', abort(1)).replace('Enabled', 'Disabled'),
  ]) {
    const { place, puts } = await scene(t, { status: 200, body: configuration(rules) });
    await ensureUploadCleanup(place, 1);
    assert.equal(puts.length, 1, rules);
  }
});

test('a server without such rules, or one that refuses, is named with what to do', async (t) => {
  for (const [status, code] of [
    [501, 'NotImplemented'],
    [403, 'AccessDenied'],
  ] as const) {
    const { place, puts } = await scene(t, { status, body: refusal(code) });
    await assert.rejects(ensureUploadCleanup(place, 1), {
      code: 'failed_precondition',
      message: /lifecycle of bucket clips/,
      hint: /s3:PutLifecycleConfiguration.*clean-uploads-days/,
    });
    assert.deepEqual(puts, []);
  }
});
