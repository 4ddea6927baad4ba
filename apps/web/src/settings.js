/** What a benchmark is asked to do: by the form on the page, or by the query of its address. */

import { Problem } from "./problem.js";

/** What onnxruntime-web runs a model with, by the name that it has for it: how a result.json calls it. */
export const DELEGATES = { wasm: "WASM SIMD", webgpu: "WebGPU" };

const DEFAULTS = { provider: "wasm", threads: 1, runs: 480, seconds: 5, minutes: 0 };
const FLAGS = ["benchmark", "parity-only"];

/**
 * The settings in a query such as `?benchmark&provider=wasm&threads=2&runs=480&seconds=5&minutes=0&parity-only`.
 *
 * Null where it does not ask for a benchmark.
 */
export function fromQuery(search) {
  const query = new URLSearchParams(search);
  if (!query.has("benchmark")) return null;
  const settings = { ...DEFAULTS, parityOnly: query.has("parity-only") };
  for (const [name, value] of query) {
    if (FLAGS.includes(name) || name === "post") continue;
    if (!(name in DEFAULTS)) throw new Problem(`The address asks for ${name}, which is no setting: leave it out.`);
    settings[name] = name === "provider" ? value : number(name, value);
  }
  return settings;
}

/** Where a query wants its benchmark's result posted: an address of the page's own origin, or null. */
export function postAddress(search, page) {
  const query = new URLSearchParams(search);
  const post = query.get("post");
  if (post === null || !query.has("benchmark")) return null;
  const address = new URL(post, page);
  if (post.startsWith("/") && address.origin === new URL(page).origin) return address.href;
  throw new Problem(
    `The address asks to post to ${post}: a path of this origin, such as /result, is all that is posted to.`,
  );
}

/** Throws a Problem unless a browser that has `cores`, and is `isolated` or not, can do what is asked. */
export function check({ provider, threads, runs, seconds, minutes }, { isolated, cores }) {
  const demand = (holds, sentence) => {
    if (!holds) throw new Problem(sentence);
  };
  demand(provider in DELEGATES, `There is no provider ${provider}: ask for wasm or webgpu.`);
  const most = provider === "wasm" ? cores : 1;
  demand(
    whole(threads) && threads >= 1 && threads <= most,
    `${provider} takes 1 to ${most} threads here, not ${threads}.`,
  );
  demand(
    isolated || threads === 1,
    "This page is not cross-origin isolated: ask for one thread, or serve it with node serve.mjs.",
  );
  demand(whole(runs) && runs >= 1, `The runs are ${runs}: ask for a whole number of them, at least one.`);
  demand(seconds >= 0 && seconds <= 60, `The seconds are ${seconds}: ask for 0 to 60.`);
  demand(minutes === 0 || minutes >= 2, `The minutes are ${minutes}: ask for 2 or more, or for 0.`);
}

/** The number that a text says. */
export function number(name, text) {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  throw new Problem(`The ${name} is "${text}", which is no number: write one such as ${DEFAULTS[name]}.`);
}

function whole(value) {
  return Number.isSafeInteger(value);
}
