import assert from "node:assert/strict";
import { test } from "node:test";

import { withoutExif } from "../src/stored.js";

const SIGNATURE = Buffer.from("89504e470d0a1a0a", "hex");

function segment(marker, text) {
  return Buffer.concat([Buffer.from([0xff, marker, 0, text.length + 2]), Buffer.from(text)]);
}

function chunk(name, text) {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, Buffer.from(name + text), Buffer.from("sums")]);
}

function left(...pieces) {
  const bytes = Uint8Array.from(Buffer.concat(pieces)).buffer;
  return Buffer.concat(withoutExif(bytes).map((part) => Buffer.from(part)));
}

test("a JPEG file loses its EXIF and keeps all else, what looks like EXIF in a scan too", () => {
  const start = Buffer.from([0xff, 0xd8]);
  const [before, exif, xmp] = [
    segment(0xfe, "Exif, as a comment"),
    segment(0xe1, "Exif\0\0turned"),
    segment(0xe1, "http://ns.adobe"),
  ];
  const scan = Buffer.concat([segment(0xda, "scan"), exif, Buffer.from([0xff, 0xd9])]);
  assert.deepEqual(left(start, before, exif, xmp, scan), Buffer.concat([start, before, xmp, scan]));
});

test("a PNG file loses its EXIF and keeps all else", () => {
  const [header, exif, data, end] = [
    chunk("IHDR", "header"),
    chunk("eXIf", "turned"),
    chunk("IDAT", "eXIf"),
    chunk("IEND", ""),
  ];
  assert.deepEqual(left(SIGNATURE, header, exif, data, end), Buffer.concat([SIGNATURE, header, data, end]));
});

test("a file that is cut short is left to the decoder", () => {
  for (let length = 8; length < 30; length++) {
    const cut = Buffer.concat([SIGNATURE, chunk("IHDR", "header"), chunk("IDAT", "data")]).subarray(0, length);
    assert.deepEqual(left(cut), cut);
  }
});

test("nothing else is taken", () => {
  for (const text of ["", "GIF89a", "RIFF1234WEBP", "\u0000\u0000\u0000\u001cftypavif"]) {
    assert.equal(withoutExif(Uint8Array.from(Buffer.from(text)).buffer), null);
  }
});
