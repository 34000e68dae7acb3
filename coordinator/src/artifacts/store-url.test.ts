import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { artifactStoreFromUrl } from './store-url.ts';

test('whatever has no scheme is a directory', () => {
  for (const path of ['/var/lib/clipfarm', 'artifacts', './a b', 'C-drive']) {
    assert.deepEqual(artifactStoreFromUrl(path), { kind: 'directory', path });
  }
});

test('a bucket needs a region, and a prefix is optional', () => {
  assert.deepEqual(artifactStoreFromUrl('s3://clips?region=eu-central-1'), {
    kind: 's3',
    bucket: 'clips',
    region: 'eu-central-1',
  });
  assert.deepEqual(artifactStoreFromUrl('s3://clips.example/farm/a/?region=eu-central-1&direct-uploads=false'), {
    kind: 's3',
    bucket: 'clips.example',
    prefix: 'farm/a',
    region: 'eu-central-1',
    directUploads: false,
  });
});

test('a server of one’s own is named by its endpoint and needs no region', () => {
  const url =
    's3://clips?endpoint=http%3A%2F%2F127.0.0.1%3A9000&path-style=false&clean-uploads-days=2&direct-uploads=true';
  assert.deepEqual(artifactStoreFromUrl(url), {
    kind: 's3',
    bucket: 'clips',
    region: 'us-east-1',
    endpoint: 'http://127.0.0.1:9000',
    forcePathStyle: false,
    cleanUploadsAfterDays: 2,
    directUploads: true,
  });
  const plain = artifactStoreFromUrl('s3://clips?endpoint=https://s3.example.org&region=home');
  assert.deepEqual(plain, { kind: 's3', bucket: 'clips', region: 'home', endpoint: 'https://s3.example.org' });
});

test('what can’t be meant is refused by its name', () => {
  const region = 'region=eu-central-1';
  for (const [text, message] of [
    ['', /path "" must be a path/],
    ['a\0b', /path .* must be a path/],
    ['s3:/clips', /path "s3:\/clips" lacks the \/\/ of s3:\/\/BUCKET/],
    ['gs://clips', /scheme "gs" must be s3/],
    ['S3://clips', /scheme "S3" must be s3/],
    ['s3://clips', /region is missing/],
    [`s3://?${region}`, /bucket "" must be 3 to 63/],
    [`s3://Clips?${region}`, /bucket "Clips" must be 3 to 63/],
    [`s3://cl?${region}`, /bucket "cl" must be/],
    [`s3://clips:9000/?${region}`, /bucket "clips:9000" must be a bucket name alone/],
    [`s3://clips?${region}#x`, /bucket/],
    [`s3://clips/a/../../b//c?${region}`, /prefix "b\/\/c" must be/],
    [`s3://clips/a%20b?${region}`, /prefix/],
    [`s3://clips/-rf?${region}`, /prefix "-rf"/],
    [`s3://clips?${region}&prefix=x`, /prefix "x" is part of the path/],
    [`s3://clips?${region}&bucket=other`, /bucket "other" is part of the path/],
    [`s3://clips?${region}&${region}`, /region "eu-central-1, eu-central-1" must be given once/],
    ['s3://clips?region=Frankfurt', /region "Frankfurt" must be a name/],
    [`s3://clips?${region}&secret=x`, /secret "x"/],
    [`s3://clips?${region}&path-style=yes`, /path-style "yes"/],
    [`s3://clips?${region}&clean-uploads-days=0`, /clean-uploads-days "0"/],
    [`s3://clips?${region}&clean-uploads-days=`, /clean-uploads-days ""/],
    ['s3://clips?endpoint=127.0.0.1:9000', /endpoint "127.0.0.1:9000" must be http/],
    ['s3://clips?endpoint=ftp://host', /endpoint/],
    ['s3://clips?endpoint=http://host/path', /endpoint "http:\/\/host\/path"/],
  ] as const) {
    assert.throws(() => artifactStoreFromUrl(text), { code: 'invalid_argument', field: '--artifacts', message }, text);
  }
});

test('credentials in the URL are refused and not repeated', () => {
  for (const text of [
    's3://AKIAKEY:topsecret@clips?region=eu-central-1',
    's3://clips?endpoint=http://AKIAKEY:topsecret@host:9000',
    's3://AKIAKEY:top/secret@clips?region=eu-central-1',
  ]) {
    assert.throws(
      () => artifactStoreFromUrl(text),
      (error) => error instanceof FarmError && !/topsecret|top\/secret|AKIAKEY/.test(`${error.message} ${error.hint}`),
    );
  }
});
