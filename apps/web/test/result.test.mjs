import assert from "node:assert/strict";
import { test } from "node:test";

import { device } from "../src/device.js";
import { result } from "../src/result.js";

const BUNDLE = {
  edgevit: "0.1.0",
  export_sha256: "ab",
  model: "efficientvit_m0",
  quant: "int8",
  logits: [1, 2, 3],
  min_sqnr_db: 20,
};
const SETTINGS = { provider: "wasm", threads: 2 };
const TIMING = { latency: { runs: 480 }, sustained: { minutes: 2 } };
const NOW = new Date("2026-01-31T12:00:00.123Z");

function made(changes = {}) {
  const loaded = { version: "1.2.3", load_ms: 7, first_ms: 8, output: [1, 2, 3] };
  return result({
    bundle: BUNDLE,
    device: { name: "x" },
    settings: SETTINGS,
    loaded,
    timing: TIMING,
    now: NOW,
    ...changes,
  });
}

test("a result has what the contract lists, in its order", () => {
  assert.deepEqual(made(), {
    schema: 1,
    edgevit: "0.1.0",
    export_sha256: "ab",
    model: "efficientvit_m0",
    quant: "int8",
    created: "2026-01-31T12:00:00Z",
    app: "web",
    device: { name: "x" },
    runtime: { name: "onnxruntime", version: "1.2.3", delegate: "WASM SIMD" },
    threads: 2,
    parity: { sqnr_db: 200, min_sqnr_db: 20, top1_matches: true, holds: true },
    latency: { runs: 480 },
    start: { load_ms: 7, first_ms: 8 },
    memory_mb: null,
    sustained: { minutes: 2 },
    thermal: null,
  });
});

test("what was not timed is null, and WebGPU has no threads to choose", () => {
  const { latency, start, sustained, threads, runtime } = made({
    timing: null,
    settings: { provider: "webgpu", threads: 1 },
  });
  assert.deepEqual([latency, start, sustained, threads], [null, null, null, null]);
  assert.equal(runtime.delegate, "WebGPU, in float32");
});

test("WebGPU is said to compute an INT8 model in float32", () => {
  const settings = { provider: "webgpu", threads: 1 };
  const delegate = (quant) => made({ bundle: { ...BUNDLE, quant }, settings }).runtime.delegate;
  assert.deepEqual([delegate("int8"), delegate("fp32")], ["WebGPU, in float32", "WebGPU"]);
});

test("a browser that tells its brands is named by its own, with the phone", async () => {
  const brands = [
    { brand: "Not;A=Brand", version: "8.0.0.0" },
    { brand: "Chromium", version: "156.0.1.2" },
    { brand: "Google Chrome", version: "156.0.1.2" },
  ];
  const told = { fullVersionList: brands, architecture: "arm", bitness: "64", model: "Pixel 9" };
  const userAgentData = { platform: "Android", getHighEntropyValues: async () => told };
  assert.deepEqual(await device({ userAgent: "", userAgentData, platform: "Linux armv81", hardwareConcurrency: 8 }), {
    name: "Pixel 9, Google Chrome 156.0.1.2",
    os: "Android",
    soc: null,
    arch: "aarch64",
    cores: 8,
    emulated: null,
  });
});

for (const [userAgent, platform, name] of [
  ["Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0", "Linux x86_64", "Firefox 150.0"],
  [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "iPhone",
    "Safari 18.5",
  ],
]) {
  test(`a browser that tells its user agent alone: ${name}`, async () => {
    const found = await device({ userAgent, platform, hardwareConcurrency: 4 });
    assert.deepEqual([found.name, found.os, found.arch], [name, platform, null]);
  });
}
