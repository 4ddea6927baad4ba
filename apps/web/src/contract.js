/** What a bundle.json has to say before anything is done with it: the contract of the apps, schema 1. */

import { KERNELS } from "./preprocess.js";
import { Problem } from "./problem.js";

const SCHEMA = 1;
const FIELDS = ["edgevit", "export_sha256", "model", "quant", "input", "classes", "labels", "preprocess", "reference"];

/** Throws a Problem unless this app can read the bundle. */
export function check(bundle) {
  demand(bundle?.schema === SCHEMA, `has the schema ${bundle?.schema} where this app reads ${SCHEMA}`);
  for (const field of FIELDS) demand(field in bundle, `has no ${field}`);
  const { classes, input, labels, models, preprocess } = bundle;
  const { crop, interpolation, mean, resize, std } = preprocess;
  demand(interpolation in KERNELS, `has the interpolation ${interpolation}, which is neither bilinear nor bicubic`);
  demand(
    labels === null || (Array.isArray(labels) && labels.length === classes),
    `has ${labels?.length} labels for ${classes} classes`,
  );
  demand(threeNumbers(mean) && threeNumbers(std), "has a mean or a std that is not three numbers");
  demand(!std.includes(0), "has a std of 0");
  demand(String(input.shape) === String([1, 3, crop, crop]), `has a crop of ${crop} for an input of ${input.shape}`);
  demand(resize >= crop, `has a resize of ${resize}, which is less than its crop of ${crop}`);
  demand(Object.keys(models ?? {}).length > 0, "has no models");
  for (const path of paths(bundle)) demand(inside(path), `has the path "${path}", which leaves the bundle`);
}

/** Of the files that this app reads. */
function paths({ reference, models: { onnx } }) {
  const own = onnx ? [onnx.path, ...Object.keys(onnx.files), onnx.reference.file] : [];
  return [reference.file, ...own];
}

function inside(path) {
  return path.split("/").every((step) => !["", ".", ".."].includes(step));
}

function threeNumbers(values) {
  return Array.isArray(values) && values.length === 3 && values.every(Number.isFinite);
}

function demand(holds, wrong) {
  if (!holds)
    throw new Problem(`bundle.json ${wrong}: write it again with the edgevit bundle that goes with this app.`);
}
