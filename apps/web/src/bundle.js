/** The bundle beside this page, as `edgevit bundle` wrote it; nothing of it is used before its digest was compared. */

import { check } from "./contract.js";
import { Problem } from "./problem.js";

const FOLDER = "bundle";
const RUNTIME = "onnx";
const AGAIN = "write the bundle again with edgevit bundle";

/** Whether this browser can compare digests: it has the means on https and on localhost alone. */
export const comparesDigests = globalThis.crypto?.subtle !== undefined;

/** What bundle.json says, the model's bytes, the reference input and what the model gave for it. */
export async function open() {
  const bundle = await manifest();
  check(bundle);
  const model = bundle.models[RUNTIME];
  if (model === undefined)
    throw new Problem("This bundle has no ONNX model: export for --target onnx, and bundle that.");
  const [path] = Object.keys(model.files);
  if (path !== model.path || Object.keys(model.files).length > 1) {
    throw new Problem(
      `This bundle's ONNX model is more than the file ${model.path}, which is all that this app reads: ${AGAIN}.`,
    );
  }
  return {
    ...bundle,
    min_sqnr_db: model.min_sqnr_db,
    bytes: await file(path, model.files[path]),
    values: floats(await named(bundle.reference), size(bundle.input.shape), bundle.reference.file),
    logits: floats(await named(model.reference), bundle.classes, model.reference.file),
  };
}

async function manifest() {
  const text = new TextDecoder().decode(await fetched("bundle.json"));
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Problem(`bundle.json is not JSON (${error.message}): ${AGAIN}.`);
  }
}

function named(reference) {
  return file(reference.file, reference.sha256);
}

/** A file's bytes, if they are those that the bundle was written with. */
async function file(path, sha256) {
  const bytes = await fetched(path);
  if (comparesDigests && (await digest(bytes)) !== sha256) {
    throw new Problem(`${path} is not the file that bundle.json names, as its SHA-256 is another: ${AGAIN}.`);
  }
  return bytes;
}

async function fetched(path) {
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  const response = await fetch(`${FOLDER}/${encoded}`).catch((error) => {
    throw new Problem(
      `${path} could not be fetched (${error.message}): see that the server still runs, and load the page again.`,
    );
  });
  if (response.ok) return response.arrayBuffer();
  throw new Problem(`There is no ${path} in the folder ${FOLDER} beside this page (${response.status}): ${AGAIN}.`);
}

async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function floats(bytes, count, path) {
  if (bytes.byteLength === count * 4) return new Float32Array(bytes);
  throw new Problem(`${path} has ${bytes.byteLength} bytes where ${count} float32 numbers were to be: ${AGAIN}.`);
}

function size(shape) {
  return shape.reduce((a, b) => a * b);
}
