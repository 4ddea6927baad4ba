/**
 * From 8-bit RGB pixels to the model's input: what Pillow's resize and crop and numpy's float32 give, to the last bit.
 *
 * Only what the crop keeps is resampled, which changes none of it; a side that keeps its size is weighed by 1 alone.
 */

const PRECISION = 22; // fractional bits of a weight
const A = -0.5; // of the bicubic kernel

/** By interpolation: how far a kernel reaches, and what it weighs at a distance. */
export const KERNELS = {
  bilinear: { radius: 1, weigh: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { radius: 2, weigh: bicubic },
};

/** `[3, crop, crop]` float32 of an image's `width * height * 3` bytes. */
export function preprocess({ width, height, data }, { resize, crop, interpolation, mean, std }) {
  const scale = resize / Math.min(width, height);
  const kernel = KERNELS[interpolation];
  const [columns, rows] = [width, height].map((side) => {
    const size = Math.max(crop, roundHalfToEven(side * scale));
    return centre(crop, size).map((output) => weights(side, size, output, kernel));
  });
  const narrow = resample(data, [height, width, 3], columns);
  const square = resample(narrow, [1, height, crop * 3], rows);
  return normalise(square, mean, std);
}

function bicubic(x) {
  x = Math.abs(x);
  if (x < 1) return ((A + 2) * x - (A + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * A : 0;
}

function roundHalfToEven(x) {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

/** The places of `size` that a crop of its centre keeps. */
function centre(crop, size) {
  const first = Math.floor((size - crop) / 2);
  return Array.from({ length: crop }, (_, index) => first + index);
}

/** The `first` of the inputs that make up an output, and the integers that weigh it and those after it. */
function weights(inputs, outputs, output, { radius, weigh }) {
  const step = inputs / outputs;
  const stretch = Math.max(step, 1);
  const support = stretch * radius;
  const middle = (output + 0.5) * step;
  const first = Math.max(0, Math.trunc(middle - support + 0.5));
  const end = Math.min(inputs, Math.trunc(middle + support + 0.5));
  const real = Array.from({ length: end - first }, (_, j) => weigh((j + first - middle + 0.5) * (1 / stretch)));
  const sum = real.reduce((a, b) => a + b, 0);
  return { first, integers: real.map((weight) => fixed(weight / sum)) };
}

function fixed(weight) {
  return Math.trunc(weight * (1 << PRECISION) + (weight < 0 ? -0.5 : 0.5));
}

/** Resamples the middle one of three axes. */
function resample(samples, [outer, inputs, inner], outputs) {
  const resampled = new Uint8ClampedArray(outer * outputs.length * inner);
  let at = 0;
  for (let line = 0; line < outer; line++) {
    for (const { first, integers } of outputs) {
      const start = (line * inputs + first) * inner;
      for (let offset = 0; offset < inner; offset++) {
        let sum = 1 << (PRECISION - 1);
        for (let j = 0; j < integers.length; j++) sum += integers[j] * samples[start + j * inner + offset];
        resampled[at++] = sum >> PRECISION;
      }
    }
  }
  return resampled;
}

/** From `[pixels, 3]` bytes to `[3, pixels]` float32. */
function normalise(pixels, mean, std) {
  const count = pixels.length / 3;
  const input = new Float32Array(pixels.length);
  for (let channel = 0; channel < 3; channel++) {
    const values = valuesOfBytes(Math.fround(mean[channel]), Math.fround(std[channel]));
    for (let index = 0; index < count; index++) input[channel * count + index] = values[pixels[index * 3 + channel]];
  }
  return input;
}

function valuesOfBytes(mean, std) {
  return Float32Array.from({ length: 256 }, (_, byte) => Math.fround(Math.fround(byte / 255) - mean) / std);
}
