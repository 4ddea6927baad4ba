/** An image file's pixels, upright as its EXIF says, and not converted between colour spaces. */

import { Problem } from "./problem.js";

const UPRIGHT = { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" };

/** `{width, height, data}` of 8-bit RGB pixels, and the `canvas` that they were read from. */
export async function read(file) {
  const bitmap = await createImageBitmap(file, UPRIGHT).catch(() => {
    throw new Problem(`${file.name} is no image that this browser can read: choose a JPEG or PNG file.`);
  });
  const { width, height } = bitmap;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, data: opaque(context.getImageData(0, 0, width, height).data, file.name), canvas };
}

/** RGB of RGBA. */
function opaque(rgba, name) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    if (rgba[from + 3] !== 255) {
      throw new Problem(`${name} has transparent pixels, which no camera gives: choose an image without any.`);
    }
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return rgb;
}
