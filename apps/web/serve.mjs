/**
 * Serves this folder: `node serve.mjs [PORT [HOST]]`, port 8000 of this machine alone unless told otherwise.
 *
 * With the headers that make a page cross-origin isolated, which is when a browser lets it have threads.
 */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HEADERS = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-cache",
  "x-content-type-options": "nosniff",
};
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

/** Answers requests with the files of `folder`. */
export function handler(folder) {
  return async (request, response) => {
    const [status, body, type] = await answer(folder, request);
    response.writeHead(status, { ...HEADERS, "content-type": type, "content-length": body.length });
    response.end(request.method === "HEAD" ? undefined : body);
  };
}

async function answer(folder, { method, url }) {
  if (method !== "GET" && method !== "HEAD") return plain(405, "This server has files to GET and nothing else.");
  try {
    const path = pathOf(url);
    return [200, await readFile(join(folder, path)), TYPES[extname(path)] ?? "application/octet-stream"];
  } catch (error) {
    if (error instanceof URIError || ["ENOENT", "EISDIR", "ENOTDIR", "ERR_INVALID_ARG_VALUE"].includes(error.code)) {
      return plain(404, "There is no such file.");
    }
    console.error(error);
    return plain(500, "The file could not be read.");
  }
}

/** The file that a request is for, relative to the folder and inside it. */
function pathOf(url) {
  const path = decodeURIComponent(new URL(url, "http://localhost").pathname);
  if (path.split(/[/\\]/).includes("..")) throw new URIError(`${path} leaves the folder`);
  return path.endsWith("/") ? `${path}index.html` : path;
}

function plain(status, sentence) {
  return [status, Buffer.from(`${sentence}\n`), "text/plain; charset=utf-8"];
}

const file = fileURLToPath(import.meta.url);
if (process.argv[1] === file) {
  const [port = "8000", host = "127.0.0.1"] = process.argv.slice(2);
  const server = createServer(handler(join(file, "..")));
  const refuse = ({ code }) => {
    console.error(`Port ${port} of ${host} cannot be served (${code}): name another, node serve.mjs PORT HOST.`);
    process.exitCode = 2;
  };
  server.on("error", refuse);
  try {
    server.listen(Number(port), host, () => console.log(`http://${host}:${server.address().port}/`));
  } catch (error) {
    refuse(error);
  }
}
