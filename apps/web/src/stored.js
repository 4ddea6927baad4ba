/**
 * JPEG and PNG files without EXIF, so that they are decoded as they are stored.
 *
 * createImageBitmap has `imageOrientation: "none"` for that, but a Chromium turns the image all the same.
 */

const JPEG = [0xff, 0xd8];
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const START_OF_SCAN = 0xda;
const APP1 = 0xe1;

/** What is left of a file's bytes, in parts; null if they are neither of a JPEG nor of a PNG file. */
export function withoutExif(bytes) {
  const view = new DataView(bytes);
  const sections = [jpegSegments, pngChunks][[JPEG, PNG].findIndex((signature) => starts(bytes, signature))];
  if (sections === undefined) return null;
  const parts = [];
  let from = 0;
  for (const { start, end, exif } of sections(view)) {
    if (!exif) continue;
    parts.push(bytes.slice(from, start));
    from = end;
  }
  return [...parts, bytes.slice(from)];
}

function starts(bytes, signature) {
  const first = new Uint8Array(bytes.slice(0, signature.length));
  return signature.every((byte, index) => first[index] === byte);
}

/** Up to the first scan: a marker, a length that counts itself, and what it is long. */
function* jpegSegments(view) {
  for (let start = JPEG.length, end; start + 8 <= view.byteLength; start = end) {
    const marker = view.getUint8(start + 1);
    if (view.getUint8(start) !== 0xff || marker === START_OF_SCAN) return;
    end = start + 2 + view.getUint16(start + 2);
    yield { start, end, exif: marker === APP1 && name(view, start + 4) === "Exif" };
  }
}

/** Each a length, a name, what it is long, and a checksum. */
function* pngChunks(view) {
  for (let start = PNG.length, end; start + 12 <= view.byteLength; start = end) {
    end = start + 12 + view.getUint32(start);
    yield { start, end, exif: name(view, start + 4) === "eXIf" };
  }
}

function name(view, at) {
  return String.fromCharCode(...new Uint8Array(view.buffer, at, 4));
}
