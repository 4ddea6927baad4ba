/** What Python computes, this app computes too: the golden vectors of all apps. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { softmax, summary, top } from "../src/answers.js";
import { check } from "../src/contract.js";
import { preprocess } from "../src/preprocess.js";
import { Problem } from "../src/problem.js";
import { parity } from "../src/result.js";

const FOLDER = new URL("../../golden/", import.meta.url);
const golden = JSON.parse(bytes("golden.json"));
const TOP = 3;

function bytes(name) {
  return readFileSync(new URL(name, FOLDER));
}

function near(actual, wanted) {
  assert.ok(Math.abs(actual - wanted) <= 1e-12 * Math.abs(wanted), `${actual} is not ${wanted}`);
}

for (const { preprocess: settings, tensor } of golden.preprocess) {
  test(`preprocessing, to the last bit: ${tensor}`, () => {
    const { file, width, height } = golden.image;
    const input = preprocess({ width, height, data: bytes(file) }, settings);
    assert.deepEqual(Buffer.from(input.buffer), bytes(tensor));
  });
}

for (const { logits, probabilities, top: wanted } of golden.answers) {
  test(`softmax and top k of ${logits}`, () => {
    const answered = softmax(logits);
    assert.equal(answered.length, probabilities.length);
    answered.forEach((probability, index) => near(probability, probabilities[index]));
    assert.deepEqual(top(answered, TOP), wanted);
  });
}

for (const { times_ms, ...wanted } of golden.percentiles) {
  test(`percentiles of ${times_ms.length} times`, () => {
    const { runs, ...found } = summary(times_ms);
    assert.equal(runs, times_ms.length);
    assert.deepEqual(Object.keys(found), Object.keys(wanted));
    for (const key of Object.keys(wanted)) near(found[key], wanted[key]);
  });
}

for (const { reference: logits, output, ...wanted } of golden.parity) {
  test(`parity of ${output} with ${logits}, of ${wanted.min_sqnr_db} dB at least`, () => {
    const answer = output.map((logit) => logit ?? Number.NaN);
    const { sqnr_db, ...found } = parity({ logits, min_sqnr_db: wanted.min_sqnr_db }, answer);
    if (wanted.sqnr_db === null) assert.equal(sqnr_db, null);
    else near(sqnr_db, wanted.sqnr_db);
    assert.deepEqual({ ...found, sqnr_db: wanted.sqnr_db }, wanted);
  });
}

test("what is not finite has no probability, and nothing compares with zeros", () => {
  assert.throws(() => softmax([1, Number.NaN]), Problem);
  assert.throws(() => parity({ logits: [0, 0], min_sqnr_db: 0 }, [1, 2]), Problem);
});

golden.bundles.forEach(({ bundle, problem }, index) => {
  test(`bundle ${index}: ${problem ?? "is read"}`, () => {
    if (problem === null) return check(bundle);
    return assert.throws(
      () => check(bundle),
      (error) => error instanceof Problem && error.message.includes(problem),
    );
  });
});

test("a bundle that lacks a field is refused by the field's name", () => {
  const { classes, ...bundle } = golden.bundles[0].bundle;
  assert.throws(() => check(bundle), /has no classes/);
});
