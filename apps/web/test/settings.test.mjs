import assert from "node:assert/strict";
import { test } from "node:test";

import { check, fromQuery, postAddress } from "../src/settings.js";

const PAGE = "http://localhost:8000/index.html";
const HERE = { isolated: true, cores: 4 };
const ASKED = { provider: "wasm", threads: 2, runs: 30, seconds: 0.5, minutes: 2 };

test("a query without benchmark asks for none", () => {
  assert.equal(fromQuery("?threads=2&utm_source=x"), null);
  assert.equal(postAddress("?post=/result", PAGE), null);
});

test("what a query leaves out is as the contract has it", () => {
  const wanted = { provider: "wasm", threads: 1, runs: 480, seconds: 5, minutes: 0, parityOnly: false };
  assert.deepEqual(fromQuery("?benchmark"), wanted);
});

test("a query says every setting", () => {
  const query = "?benchmark&provider=wasm&threads=2&runs=30&seconds=0.5&minutes=2&parity-only&post=/result";
  assert.deepEqual(fromQuery(query), { ...ASKED, parityOnly: true });
  assert.equal(postAddress(query, PAGE), "http://localhost:8000/result");
});

test("a setting that there is not, or that is no number, is refused by name", () => {
  assert.throws(() => fromQuery("?benchmark&thread=2"), /asks for thread,/);
  assert.throws(() => fromQuery("?benchmark&threads=two"), /threads is "two"/);
  assert.throws(() => fromQuery("?benchmark&seconds="), /seconds is ""/);
});

for (const post of ["http://elsewhere.example/x", "//elsewhere.example/x", "/\\elsewhere.example/x", "result"]) {
  test(`nothing is posted to ${post}`, () => {
    assert.throws(() => postAddress(`?benchmark&post=${encodeURIComponent(post)}`, PAGE), /path of this origin/);
  });
}

test("settings that can be met are", () => {
  check(ASKED, HERE);
  check({ ...ASKED, provider: "webgpu", threads: 1, minutes: 0 }, HERE);
});

for (const [changed, here, wanted] of [
  [{ provider: "webgl" }, HERE, /provider webgl/],
  [{ threads: 5 }, HERE, /1 to 4 threads/],
  [{ threads: 0 }, HERE, /1 to 4 threads/],
  [{ threads: 1.5 }, HERE, /1 to 4 threads/],
  [{ provider: "webgpu" }, HERE, /1 to 1 threads/],
  [{}, { ...HERE, isolated: false }, /not cross-origin isolated/],
  [{ runs: 0 }, HERE, /runs are 0/],
  [{ seconds: 61 }, HERE, /seconds are 61/],
  [{ minutes: 1 }, HERE, /minutes are 1/],
]) {
  test(`refused: ${JSON.stringify(changed)}`, () => {
    assert.throws(() => check({ ...ASKED, ...changed }, here), wanted);
  });
}
