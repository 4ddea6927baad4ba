/** An image file's pixels as they are stored: neither turned by EXIF nor converted between colour spaces. */

import { Problem } from "./problem.js";
import { withoutExif } from "./stored.js";

const AS_STORED = { premultiplyAlpha: "none", colorSpaceConversion: "none" };

/** `{width, height, data}` of 8-bit RGB pixels, and the `canvas` that they were read from. */
export async function read(file) {
  const parts = withoutExif(await file.arrayBuffer());
  if (parts === null) throw new Problem(`${file.name} is neither a JPEG nor a PNG file: choose one of those.`);
  const bitmap = await createImageBitmap(new Blob(parts), AS_STORED).catch(() => {
    throw new Problem(`${file.name} is a broken image, which this browser cannot read: choose another.`);
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
