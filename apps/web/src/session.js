/** A model in onnxruntime-web. */

import { Problem } from "./problem.js";

const FOLDER = "../node_modules/onnxruntime-web/dist";
const ERRORS = 3; // of what the runtime logs: it warns of every initializer that it folds away
const BUILDS = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs" };

/** Gives the runtime's `version`, how long loading took, and `run`, from an input's values to the logits'. */
export async function load({ bytes, input, classes }, { provider, threads }) {
  const ort = await runtime(provider);
  ort.env.wasm.numThreads = threads;
  const started = performance.now();
  const session = await create(ort, bytes, provider);
  const load_ms = performance.now() - started;
  const [output] = session.outputNames;

  async function run(values) {
    const outputs = await session.run({ [input.name]: new ort.Tensor("float32", values, input.shape) });
    const logits = outputs[output].data;
    if (logits.length === classes) return logits;
    throw new Problem(
      `The model gives ${logits.length} logits where its bundle says ${classes}: export and bundle it again.`,
    );
  }

  return { version: ort.env.versions.web, load_ms, run };
}

async function runtime(provider) {
  if (provider === "webgpu" && !(await navigator.gpu?.requestAdapter())) {
    throw new Problem("This browser has no WebGPU here: choose WASM.");
  }
  return import(`${FOLDER}/${BUILDS[provider]}`).catch((error) => {
    throw new Problem(
      `onnxruntime-web cannot be loaded (${error.message}): run npm ci --ignore-scripts in this app's folder.`,
    );
  });
}

async function create(ort, bytes, provider) {
  try {
    return await ort.InferenceSession.create(bytes, { executionProviders: [provider], logSeverityLevel: ERRORS });
  } catch (error) {
    const reason = String(error.message ?? error)
      .replace(/\s+/g, " ")
      .trim(); // it throws numbers, too
    throw new Problem(
      `onnxruntime-web ${ort.env.versions.web} does not load the model (${reason}): export and bundle it again.`,
    );
  }
}
