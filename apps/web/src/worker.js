/**
 * The model's own thread: the page stays usable while a call runs, and every model gets a fresh runtime, which takes
 * its number of threads but once.
 */

import { preprocess } from "./preprocess.js";
import { sentence } from "./problem.js";
import { load } from "./session.js";
import { time } from "./timing.js";

const PROGRESS_MS = 250;

let session;
let bundle;

const tasks = {
  /** Loads the model and makes its first call, on the reference input. */
  async load(opened, settings) {
    bundle = opened;
    session = await load(bundle, settings);
    const { version, load_ms } = session;
    const { value, ms } = await timed(() => session.run(bundle.values));
    return { version, load_ms, first_ms: ms, output: value };
  },

  async classify(picture) {
    const input = await timed(() => preprocess(picture, bundle.preprocess));
    const logits = await timed(() => session.run(input.value));
    return { logits: logits.value, preprocess_ms: input.ms, run_ms: logits.ms };
  },

  benchmark(settings) {
    return time(() => session.run(bundle.values), settings, throttled(told));
  },
};

async function timed(call) {
  const started = performance.now();
  const value = await call();
  return { value, ms: performance.now() - started };
}

function told(phase, fraction) {
  postMessage({ progress: { phase, fraction } });
}

/** Seldom enough to take nothing from what is timed. */
function throttled(tell) {
  let next = 0;
  return (...what) => {
    const now = performance.now();
    if (now < next) return;
    next = now + PROGRESS_MS;
    tell(...what);
  };
}

onmessage = async ({ data: { task, given } }) => {
  try {
    postMessage({ value: await tasks[task](...given) });
  } catch (error) {
    postMessage({ problem: sentence(error) });
  }
};
