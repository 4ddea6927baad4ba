/**
 * The page in Chromium, as tests/apps/test_web.py runs it: SITE is the folder that it made, with the app, bundles, images
 * and what Python answers for each; CHROMIUM is the browser, PLAYWRIGHT and AXE are folders of npm packages.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

const { AXE, CHROMIUM, PLAYWRIGHT, SITE } = process.env;
const { chromium } = await import(pathToFileURL(join(PLAYWRIGHT, "index.mjs")));
const { handler } = await import(pathToFileURL(join(SITE, "app", "serve.mjs")));
const { images, bundle } = JSON.parse(readFileSync(join(SITE, "expected.json")));

const FLAGS = [
  ...["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"],
  ...["--disable-background-networking", "--disable-component-update"],
];
const NO_GPU = ["--disable-gpu"];
const SOFTWARE_GPU = [
  ...["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
  ...["--use-vulkan=swiftshader", "--enable-features=Vulkan"],
];
const LOOPBACK = "127.0.0.1";
const INSECURE = "insecure.example"; // this machine too, but for a browser no secure address
const BROWSERS_OWN = /^(http:\/\/)?[a-z.-]+\.(google|googleapis|gvt1)\.com[:/]/; // Chromium asks them on any page
const SHORT = { runs: "30", seconds: "0.2" };
const PATIENCE_MS = 120_000;
const RESULT = {
  device: ["name", "os", "soc", "arch", "cores", "emulated"],
  runtime: ["name", "version", "delegate"],
  parity: ["sqnr_db", "min_sqnr_db", "top1_matches", "holds"],
  latency: ["runs", "p50_ms", "p90_ms", "p99_ms", "min_ms", "spread", "steady"],
  start: ["load_ms", "first_ms"],
};

let browser; // without a GPU
let server;
let outside; // a proxy, which whatever is not on this machine is asked of
let proxy;
let origin; // of a host
const asked = []; // of the proxy: nothing must be
const posted = [];
const spawned = []; // what the runtime started as threads of its own
let served; // which bundle, and what the server is to do amiss

before(async () => {
  outside = createServer((request, response) => {
    note(request.url);
    response.writeHead(502).end();
  });
  outside.on("connect", (request, socket) => {
    note(request.url);
    socket.end();
  });
  server = createServer(answer);
  const [outsides, port] = await Promise.all([outside, server].map(listening));
  origin = (host) => `http://${host}:${port}`;
  proxy = { server: `http://${LOOPBACK}:${outsides}`, bypass: `${LOOPBACK},${INSECURE}` };
  browser = await launch(NO_GPU);
});

after(async () => {
  await browser?.close();
  server?.closeAllConnections();
  for (const open of [server, outside]) open?.close();
});

function launch(flags) {
  const args = [...FLAGS, ...flags, `--host-resolver-rules=MAP ${INSECURE} ${LOOPBACK}`];
  return chromium.launch({ executablePath: CHROMIUM, args, proxy });
}

function note(url) {
  if (!BROWSERS_OWN.test(url)) asked.push(url);
}

async function listening(made) {
  made.listen(0, "127.0.0.1");
  await once(made, "listening");
  return made.address().port;
}

function answer(request, response) {
  if (request.method === "POST") return take(request, response);
  if (!served.isolated) withoutHeaders(response);
  if (request.headers["sec-fetch-dest"] === "worker" && request.url.includes("ort-wasm")) spawned.push(request.url);
  if (request.url.startsWith("/node_modules/") && !served.installed) return response.writeHead(404).end();
  if (!request.url.startsWith("/bundle/")) return handler(join(SITE, "app"))(request, response);
  request.url = request.url.slice("/bundle".length);
  return handler(join(SITE, "bundles", served.bundle))(request, response);
}

async function take(request, response) {
  const parts = await request.toArray();
  posted.push({ url: request.url, body: JSON.parse(Buffer.concat(parts)) });
  response.writeHead(204).end();
}

function withoutHeaders(response) {
  const { writeHead } = response;
  response.writeHead = (status, headers) => {
    const kept = Object.entries(headers).filter(([name]) => !name.startsWith("cross-origin-"));
    return writeHead.call(response, status, Object.fromEntries(kept));
  };
}

/** Runs `look` on a page of its own, and sees that it asked nothing of any other origin. */
async function onPage(look, { query = "", host = LOOPBACK, context: options = {}, within = browser, ...amiss } = {}) {
  served = { bundle: "good", installed: true, isolated: true, ...amiss };
  const context = await within.newContext(options);
  context.setDefaultTimeout(PATIENCE_MS);
  const elsewhere = [];
  context.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${origin(host)}/`)) elsewhere.push(url);
  });
  try {
    const page = await context.newPage();
    await page.goto(`${origin(host)}/${query}`);
    await look(page);
  } finally {
    await context.close();
  }
  assert.deepEqual([elsewhere, asked], [[], []]);
}

function ready(page) {
  return page.waitForSelector("#drop:enabled");
}

function problem(page) {
  return page.waitForFunction(() => document.querySelector("#problem").textContent).then((text) => text.jsonValue());
}

async function answered(page) {
  await page.waitForFunction(() => document.querySelector("#took").textContent.startsWith("Classified in"));
  const texts = await page
    .locator("#answers li")
    .evaluateAll((items) =>
      items.map(({ children: [label, share] }) => [label.textContent, Number.parseFloat(share.textContent) / 100]),
    );
  return { labels: texts.map(([label]) => label), shares: texts.map(([, share]) => share) };
}

function sameAnswer({ labels, shares }, wanted, tolerance = 0) {
  assert.deepEqual(labels, wanted.labels);
  const written = 0.0005 + 1e-9; // one digit after the point of a per cent
  shares.forEach((share, index) => assert.ok(Math.abs(share - wanted.probabilities[index]) <= written + tolerance));
}

function valid(result, { threads, timed, delegate = "WASM SIMD" }) {
  const { schema, edgevit, export_sha256, model, quant, app, memory_mb, sustained, thermal } = result;
  assert.deepEqual(
    { schema, edgevit, export_sha256, model, quant, app, memory_mb, sustained, thermal },
    {
      ...{
        schema: 1,
        edgevit: bundle.edgevit,
        export_sha256: bundle.export_sha256,
        model: bundle.model,
        quant: bundle.quant,
      },
      ...{ app: "web", memory_mb: null, sustained: null, thermal: null },
    },
  );
  for (const [field, keys] of Object.entries(RESULT)) {
    if (!timed && (field === "latency" || field === "start")) assert.equal(result[field], null);
    else assert.deepEqual(Object.keys(result[field]), keys);
  }
  assert.match(result.created, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.ok(Math.abs(Date.parse(result.created) - Date.now()) < 60_000);
  assert.match(result.device.name, /^Chrom.* \d+\./);
  assert.deepEqual([result.device.os, result.device.soc, result.device.emulated], ["Linux", null, null]);
  assert.ok(result.device.cores >= 1);
  assert.deepEqual(result.runtime, { name: "onnxruntime", version: bundle.runtime, delegate });
  assert.equal(result.threads, threads);
  assert.ok(result.parity.holds && result.parity.top1_matches && result.parity.sqnr_db >= result.parity.min_sqnr_db);
  assert.equal(result.parity.min_sqnr_db, bundle.min_sqnr_db);
  if (!timed) return;
  const { runs, min_ms, p50_ms, p90_ms, p99_ms, spread } = result.latency;
  assert.ok(runs >= 30 && 0 < min_ms && min_ms <= p50_ms && p50_ms <= p90_ms && p90_ms <= p99_ms && spread >= 0);
  assert.ok(result.start.load_ms > 0 && result.start.first_ms > 0);
}

/** What a page with this query posts. */
async function postedBy(query, options) {
  posted.length = 0;
  await onPage(
    async (page) => {
      await page.waitForResponse((response) => response.request().method() === "POST");
      assert.equal(posted.length, 1);
      assert.equal(posted[0].url, "/result");
    },
    { query: `?benchmark&post=/result&${query}`, ...options },
  );
  return posted[0].body;
}

test("the model is named, and parity holds on the reference input", () =>
  onPage(async (page) => {
    await ready(page);
    assert.equal(await page.textContent("#model"), `${bundle.model}, ${bundle.quant}, 32 × 32 px`);
    assert.match(await page.textContent("#parity"), /^Parity holds on the reference input: \d+\.\d dB/);
    assert.equal(await page.textContent("#notice"), "");
    assert.equal(await page.textContent("#problem"), "");
  }));

for (const { file, exact, ...wanted } of images) {
  test(`the top five of ${file} are those of Pillow and onnxruntime`, () =>
    onPage(async (page) => {
      await ready(page);
      await page.setInputFiles("#choose", join(SITE, "images", file));
      sameAnswer(await answered(page), wanted, exact ? 0 : 0.02);
      assert.equal(await page.getAttribute("#picture", "aria-label"), `The part of ${file} that the model sees`);
    }));
}

for (const { file, width, height, sha256 } of images.filter(({ exact }) => exact)) {
  test(`the pixels of ${file} are those of Pillow, to the last bit`, () =>
    onPage(async (page) => {
      const contents = readFileSync(join(SITE, "images", file)).toString("base64");
      const found = await page.evaluate(async (base64) => {
        const { read } = await import("/src/picture.js");
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        const { width, height, data } = await read(new File([bytes], "x"));
        return { width, height, digest: [...new Uint8Array(await crypto.subtle.digest("SHA-256", data))] };
      }, contents);
      assert.deepEqual([found.width, found.height], [width, height]);
      assert.equal(Buffer.from(found.digest).toString("hex"), sha256);
    }));
}

test("an image can be dropped anywhere on the page", () =>
  onPage(async (page) => {
    await ready(page);
    const [{ file, ...wanted }] = images;
    const contents = readFileSync(join(SITE, "images", file)).toString("base64");
    const dropped = await page.evaluateHandle((base64) => {
      const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], "dropped.png"));
      return data;
    }, contents);
    await page.dispatchEvent("h1", "drop", { dataTransfer: dropped });
    sameAnswer(await answered(page), wanted);
  }));

test("what is no image, or has transparent pixels, is refused by name, and the next image is taken", () =>
  onPage(async (page) => {
    await ready(page);
    for (const [file, wanted] of [
      ["text.png", /^text\.png is no image that this browser can read/],
      ["broken.png", /^broken\.png is no image that this browser can read/],
      ["transparent.png", /^transparent\.png has transparent pixels/],
    ]) {
      await page.setInputFiles("#choose", join(SITE, "images", file));
      await page.waitForFunction((name) => document.querySelector("#problem").textContent.startsWith(name), file);
      assert.match(await problem(page), wanted);
      assert.equal(await page.locator("#answers li").count(), 0);
      await ready(page);
    }
    await page.setInputFiles("#choose", join(SITE, "images", images[0].file));
    sameAnswer(await answered(page), images[0]);
    assert.equal(await page.textContent("#problem"), "");
  }));

test("the button times, draws, and offers a result.json; then an image is classified with the same threads", () =>
  onPage(async (page) => {
    await ready(page);
    spawned.length = 0;
    for (const [name, value] of Object.entries({ ...SHORT, threads: "2" })) await page.fill(`[name=${name}]`, value);
    await page.click("form button");
    await page.waitForSelector("#result:not([hidden])");
    assert.ok(spawned.length >= 1);
    assert.match(await page.getAttribute("#plot svg", "aria-label"), /^Latency of \d+ calls over/);
    assert.equal(await page.evaluate(() => document.activeElement.id), "result");
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
    assert.equal(download.suggestedFilename(), "result.json");
    valid(JSON.parse(readFileSync(await download.path())), { threads: 2, timed: true });
    await page.setInputFiles("#choose", join(SITE, "images", images[0].file));
    sameAnswer(await answered(page), images[0]);
  }));

test("a form that asks for what cannot be is told, where it is seen", () =>
  onPage(
    async (page) => {
      await ready(page);
      await page.fill("[name=minutes]", "1");
      await page.click("form button");
      assert.match(await problem(page), /^The minutes are 1/);
      await ready(page);
      const { y, height } = await page.locator("#problem").boundingBox();
      assert.ok(y >= 0 && y + height <= 500);
      assert.equal(await page.isVisible("#result"), false);
      assert.equal(await page.isVisible("#going"), false);
    },
    { context: { viewport: { width: 360, height: 500 } } },
  ));

test("a query's benchmark is posted", async () => {
  const query = new URLSearchParams({ provider: "wasm", threads: 1, minutes: 0, ...SHORT });
  spawned.length = 0;
  valid(await postedBy(query), { threads: 1, timed: true });
  assert.equal(spawned.length, 0);
});

test("of parity alone nothing is timed", async () => {
  valid(await postedBy("parity-only&threads=2"), { threads: 2, timed: false });
});

test("WebGPU answers as near, on a software adapter", async () => {
  const within = await launch(SOFTWARE_GPU);
  try {
    const result = await postedBy("parity-only&provider=webgpu", { within });
    valid(result, { threads: null, timed: false, delegate: "WebGPU, in float32" });
  } finally {
    await within.close();
  }
});

for (const [query, amiss, wanted] of [
  ["threads=two", {}, /^The threads is "two"/],
  ["threads=2", { isolated: false }, /^This page is not cross-origin isolated/],
  ["provider=webgpu", {}, /^This browser has no WebGPU here/],
  ["", { bundle: "none" }, /^There is no bundle\.json in the folder bundle/],
]) {
  test(`what a query's benchmark cannot do is posted as an error: ${query} ${Object.values(amiss)}`, async () => {
    const { error, ...rest } = await postedBy(query, amiss);
    assert.match(error, wanted);
    assert.deepEqual(rest, {});
  });
}

test("after a query that asked for what cannot be, an image is classified all the same", () =>
  onPage(
    async (page) => {
      assert.match(await problem(page), /^The minutes are 1/);
      await ready(page);
      await page.setInputFiles("#choose", join(SITE, "images", images[0].file));
      sameAnswer(await answered(page), images[0]);
    },
    { query: "?benchmark&minutes=1" },
  ));

test("nothing is posted elsewhere, and the page says so", () =>
  onPage(async (page) => assert.match(await problem(page), /^The address asks to post to \/\/elsewhere\.example/), {
    query: "?benchmark&parity-only&post=//elsewhere.example/result",
  }));

for (const [amiss, wanted] of [
  [
    { bundle: "none" },
    /^There is no bundle\.json in the folder bundle beside this page \(404\): write the bundle again/,
  ],
  [{ bundle: "no-json" }, /^bundle\.json is not JSON/],
  [{ bundle: "schema-2" }, /^bundle\.json has the schema 2/],
  [{ bundle: "no-onnx" }, /^This bundle has no ONNX model/],
  [{ bundle: "changed-model" }, /^onnx\/model\.onnx is not the file that bundle\.json names/],
  [{ bundle: "changed-reference" }, /^reference\.f32 is not the file that bundle\.json names/],
  [{ bundle: "short-reference" }, /^reference\.f32 has 12 bytes where 3072 float32 numbers were to be/],
  [{ bundle: "no-model" }, /^There is no onnx\/model\.onnx in the folder bundle/],
  [{ bundle: "broken-model" }, /^onnxruntime-web [\d.]+ does not load the model \(/],
  [{ bundle: "other-classes" }, /^The model gives 7 logits where its bundle says 6/],
  [{ installed: false }, /^onnxruntime-web cannot be loaded .*: run npm ci/],
]) {
  test(`told on the page: ${Object.values(amiss)}`, () =>
    onPage(async (page) => {
      assert.match(await problem(page), wanted);
      assert.equal(
        await page.locator("#problem").evaluate(({ textContent }) => /[.] ./.test(textContent.replace(/\(.*\)/, ""))),
        false,
      );
    }, amiss));
}

test("parity that does not hold is told", () =>
  onPage(
    async (page) => {
      await ready(page);
      assert.match(
        await page.textContent("#parity"),
        /^Parity does not hold on the reference input: .* where 250\.0 are needed/,
      );
    },
    { bundle: "no-parity" },
  ));

test("a page that is not isolated has one thread and says so", () =>
  onPage(
    async (page) => {
      await ready(page);
      assert.match(await page.textContent("#notice"), /one thread here: serve it with node serve\.mjs/);
      assert.equal(await page.getAttribute("[name=threads]", "max"), "1");
      await page.setInputFiles("#choose", join(SITE, "images", images[0].file));
      sameAnswer(await answered(page), images[0]);
    },
    { isolated: false },
  ));

test("an address that is not secure has one thread, compares no digests, and says so", () =>
  onPage(
    async (page) => {
      await ready(page);
      assert.match(await page.textContent("#notice"), /one thread here: .* digests were not compared/);
      assert.match(await page.textContent("#parity"), /^Parity holds/);
    },
    { host: INSECURE },
  ));

for (const colorScheme of ["light", "dark"]) {
  for (const width of [360, 1200]) {
    test(`nothing is wider than ${width} px, and axe finds no fault, ${colorScheme}`, () =>
      onPage(
        async (page) => {
          await ready(page);
          assert.equal(await page.isVisible(".camera"), width === 360);
          await page.setInputFiles("#choose", join(SITE, "images", images[0].file));
          await answered(page);
          await ready(page);
          await page.fill("[name=runs]", "20");
          await page.fill("[name=seconds]", "0");
          await page.click("form button");
          await page.waitForSelector("#result:not([hidden])");
          await ready(page);
          assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width);
          await page.evaluate(readFileSync(join(AXE, "axe.min.js"), "utf8"));
          const { violations } = await page.evaluate(() => globalThis.axe.run());
          assert.deepEqual(
            violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]),
            [],
          );
        },
        { context: { colorScheme, viewport: { width, height: 800 }, hasTouch: width === 360 } },
      ));
  }
}

test("the keyboard alone chooses an image and starts a benchmark", () =>
  onPage(async (page) => {
    await ready(page);
    const order = [];
    for (let step = 0; step < 7; step++) {
      await page.keyboard.press("Tab");
      order.push(
        await page.evaluate(
          () => document.activeElement.id || document.activeElement.name || document.activeElement.textContent,
        ),
      );
    }
    assert.deepEqual(order, ["choose", "provider", "threads", "runs", "seconds", "minutes", "Benchmark"]);
    await page.fill("[name=runs]", "20");
    await page.fill("[name=seconds]", "0");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#result:not([hidden])");
  }));

test("the server has its folder's files and nothing else", async () => {
  served = { bundle: "good", installed: true, isolated: true };
  const status = async (path, options) => (await fetch(`${origin(LOOPBACK)}${path}`, options)).status;
  assert.equal(await status("/"), 200);
  assert.equal(await status("/style.css", { method: "HEAD" }), 200);
  assert.equal(await status("/style.css", { method: "PUT" }), 405);
  for (const path of ["/nothing", "/src", "/..%2fexpected.json", "/%2e%2e%5cexpected.json", "/%00", "/%ff"]) {
    assert.equal(await status(path), 404, path);
  }
});
