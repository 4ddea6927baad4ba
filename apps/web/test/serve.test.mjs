/** The server as a program; what it answers is tested with the page. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const SERVER = fileURLToPath(new URL("../serve.mjs", import.meta.url));

test("it says where it serves, on this machine alone, with what threads need", async () => {
  const server = spawn(process.execPath, [SERVER, "0"]);
  try {
    const [said] = await once(server.stdout, "data");
    assert.match(String(said), /^http:\/\/127\.0\.0\.1:\d+\/\n$/);
    const { headers, status } = await fetch(new URL("/src/worker.js", String(said).trim()));
    assert.equal(status, 200);
    assert.equal(headers.get("content-type"), "text/javascript; charset=utf-8");
    assert.equal(headers.get("cross-origin-opener-policy"), "same-origin");
    assert.equal(headers.get("cross-origin-embedder-policy"), "require-corp");
  } finally {
    server.kill();
  }
});

test("a port that cannot be served is told in one sentence", async () => {
  const server = spawn(process.execPath, [SERVER, "http"]);
  const told = server.stderr.setEncoding("utf8").toArray();
  assert.deepEqual(await once(server, "close"), [2, null]);
  assert.match((await told).join(""), /^Port http of 127\.0\.0\.1 cannot be served \(ERR_SOCKET_BAD_PORT\): .*\.\n$/);
});
