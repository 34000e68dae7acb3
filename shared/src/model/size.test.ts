import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  checkImage,
  checkPicture,
  formatPicture,
  MAX_UNITS_SINGLE,
  MAX_UNITS_TPP,
  parseSize,
  pictureSize,
  pixelBudget,
  sizesThatFit,
  UPSTREAM_SIZES,
  USABLE_SIZES,
  unitBudget,
  unitsOf,
} from './size.ts';

const invalid = (field: string, message: RegExp) => ({ name: 'FarmError', code: 'invalid_argument', field, message });

const COLUMNS = ['384*256', '688*368', '704*384', '720*400', '832*480', '1280*720'] as const;

/** Image, then the picture at each of the sizes above; as upstream's own function gave them. */
const UPSTREAM_PICTURES = [
  [[1024, 1024], '256x256 448x448 512x512 512x512 576x576 960x960', '16 49 64 64 81 225'],
  [[720, 1280], '256x384 384x640 384x704 384x704 448x832 704x1280', '24 60 66 66 91 220'],
  [[1080, 1920], '256x384 384x640 384x704 384x704 448x832 704x1280', '24 60 66 66 91 220'],
  [[1920, 1080], '384x256 640x384 704x384 704x384 832x448 1280x704', '24 60 66 66 91 220'],
  [[1280, 720], '384x256 640x384 704x384 704x384 832x448 1280x704', '24 60 66 66 91 220'],
  [[512, 768], '256x384 384x576 384x576 448x640 512x768 512x768', '24 54 54 70 96 96'],
  [[512, 512], '256x256 448x448 512x512 512x512 512x512 512x512', '16 49 64 64 64 64'],
  [[768, 1024], '256x384 384x512 448x576 448x640 512x704 768x1024', '24 48 63 70 88 192'],
  [[720, 400], '384x256 640x384 704x384 704x384 768x448 768x448', '24 60 66 66 84 84'],
] as const;

for (const [[width, height], pictures, units] of UPSTREAM_PICTURES) {
  test(`a ${width}x${height} image gets upstream's pictures at every size`, () => {
    const found = COLUMNS.map((size) => pictureSize(width, height, size));
    assert.equal(found.map(formatPicture).join(' '), pictures);
    assert.equal(found.map((picture) => picture.units).join(' '), units);
  });
}

test("images for which a hundredth of the scale decides get upstream's picture", () => {
  const cases = [
    [2274, 2937, '720*400', '448x640'],
    [548, 622, '704*384', '512x512'],
    [2147, 4309, '384*256', '192x448'],
    [1140, 2738, '704*384', '320x768'],
    [1038, 2071, '688*368', '320x640'],
    [597, 746, '384*256', '256x320'],
  ] as const;
  for (const [width, height, size, picture] of cases) {
    assert.equal(formatPicture(pictureSize(width, height, size)), picture);
  }
});

test('a small image is not enlarged', () => {
  assert.deepEqual(pictureSize(640, 360, '720*400'), { width: 640, height: 384, units: 60 });
  assert.deepEqual(pictureSize(640, 360, '1280*720'), { width: 640, height: 384, units: 60 });
});

/** Images within the limits. */
const images = fc
  .tuple(fc.integer({ min: 256, max: 8192 }), fc.double({ min: 0.4, max: 2.5, noNaN: true }))
  .map(([width, aspect]) => ({ width, height: Math.round(width / aspect) }))
  .filter(({ width, height }) => {
    const [short, long] = [Math.min(width, height), Math.max(width, height)];
    return short >= 256 && long <= 8192 && long * 2 <= short * 5;
  });

test('every picture has sides in multiples of 64 and stays within its budget', () => {
  fc.assert(
    fc.property(images, fc.constantFrom(...UPSTREAM_SIZES), ({ width, height }, size) => {
      checkImage(width, height);
      const picture = pictureSize(width, height, size);
      assert.ok(picture.width >= 64 && picture.height >= 64);
      assert.equal(picture.width % 64, 0);
      assert.equal(picture.height % 64, 0);
      assert.ok(picture.width * picture.height <= pixelBudget(size));
      assert.equal(picture.units, unitsOf(picture.width, picture.height));
    }),
    { numRuns: 2000 },
  );
});

test('a portrait that was cut to its picture gets the same picture again', () => {
  fc.assert(
    fc.property(images, fc.constantFrom(...UPSTREAM_SIZES), ({ width, height }, size) => {
      const picture = pictureSize(width, height, size);
      assert.deepEqual(pictureSize(picture.width, picture.height, size), picture);
    }),
  );
});

test('an image turned on its side gets the picture turned on its side', () => {
  fc.assert(
    fc.property(images, fc.constantFrom(...UPSTREAM_SIZES), ({ width, height }, size) => {
      const picture = pictureSize(width, height, size);
      assert.deepEqual(pictureSize(height, width, size), {
        width: picture.height,
        height: picture.width,
        units: picture.units,
      });
    }),
  );
});

test('the usable sizes are those that fit one GPU with every image', () => {
  assert.equal(UPSTREAM_SIZES.length, 12);
  const usable: readonly string[] = USABLE_SIZES;
  for (const size of UPSTREAM_SIZES) assert.equal(unitBudget(size) <= MAX_UNITS_SINGLE, usable.includes(size), size);
});

test('a size is read as upstream spells it, or with an x', () => {
  assert.equal(parseSize('704*384'), '704*384');
  assert.equal(parseSize('704x384'), '704*384');
  assert.equal(parseSize(' 704X384 '), '704*384');
  assert.equal(parseSize('720×400'), '720*400');
});

test('an unknown size is refused with every accepted one', () => {
  for (const text of ['', '704', '384*704', '704*384*1', '700x400', '-704*384', '704* 384']) {
    assert.throws(() => parseSize(text), invalid('size', /accepted: 384\*256, 688\*368, .*1280\*720/));
  }
});

test('images outside the limits are refused with what is accepted', () => {
  checkImage(256, 256);
  checkImage(8192, 8192);
  checkImage(640, 256);
  assert.throws(() => checkImage(255, 400), invalid('image', /255x400 .* at least 256/));
  assert.throws(() => checkImage(8193, 8000), invalid('image', /8193x8000 .* at most 8192/));
  assert.throws(() => checkImage(641, 256), invalid('image', /1:2\.5/));
  assert.throws(() => checkImage(256, 641), invalid('image', /1:2\.5/));
  assert.throws(() => checkImage(Number.NaN, 400), invalid('image', /whole numbers/));
  assert.throws(() => checkImage(300.5, 400), invalid('image', /whole numbers/));
  assert.throws(() => pictureSize(0, 400, '704*384'), invalid('image', /0/));
  assert.throws(() => pictureSize(1, 1_000_000, '704*384'), invalid('image', /no picture/));
});

test('a picture above the cap is refused with the sizes that fit this image', () => {
  assert.deepEqual(checkPicture(1280, 720, '704*384', MAX_UNITS_SINGLE), { width: 704, height: 384, units: 66 });
  assert.throws(
    () => checkPicture(1280, 720, '832*480', MAX_UNITS_SINGLE),
    invalid('size', /832x448 .* 91 units .* 70 .*accepted: 384\*256 \(384x256\), 688\*368 \(640x384\), 704\*384/),
  );
  assert.throws(() => checkPicture(255, 255, '704*384', MAX_UNITS_SINGLE), invalid('image', /256/));
  assert.throws(() => checkPicture(512, 512, '704*384', 10), invalid('size', /accepted: none/));
});

test('a large size with a small image is accepted because the picture counts', () => {
  assert.equal(checkPicture(512, 512, '1280*720', MAX_UNITS_SINGLE).units, 64);
});

test('the sizes that fit are exactly those within the cap', () => {
  fc.assert(
    fc.property(images, fc.constantFrom(38, MAX_UNITS_SINGLE, MAX_UNITS_TPP), ({ width, height }, cap) => {
      const fitting = sizesThatFit(width, height, cap);
      for (const size of UPSTREAM_SIZES) {
        const fits = pictureSize(width, height, size).units <= cap;
        assert.equal(
          fitting.some((fit) => fit.size === size),
          fits,
        );
      }
    }),
  );
});
