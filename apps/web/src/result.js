/** A result.json: what was measured of a bundle's model here. */

import { sqnr, top } from "./answers.js";
import { DELEGATES } from "./settings.js";

/** How near the answer for the reference input comes to that of the host that exported the model. */
export function parity({ logits, min_sqnr_db }, output) {
  const sqnr_db = sqnr(logits, output);
  if (sqnr_db === null) return { sqnr_db, min_sqnr_db, top1_matches: false, holds: false };
  const top1_matches = first(logits) === first(output);
  return { sqnr_db, min_sqnr_db, top1_matches, holds: top1_matches && sqnr_db >= min_sqnr_db };
}

/** `loaded` is what a Model's `load` gave, `timing` what its `benchmark` did, or null where nothing was to be timed. */
export function result({ bundle, device, settings, loaded, timing, now }) {
  const { edgevit, export_sha256, model, quant } = bundle;
  const { version, load_ms, first_ms, output } = loaded;
  return {
    schema: 1,
    edgevit,
    export_sha256,
    model,
    quant,
    created: now.toISOString().replace(/\.\d+Z$/, "Z"),
    app: "web",
    device,
    runtime: { name: "onnxruntime", version, delegate: delegate(settings, quant) },
    threads: settings.provider === "wasm" ? settings.threads : null,
    parity: parity(bundle, output),
    latency: timing?.latency ?? null,
    start: timing ? { load_ms, first_ms } : null,
    memory_mb: null,
    sustained: timing?.sustained ?? null,
    thermal: null,
  };
}

/** WebGPU has float kernels alone: it computes an INT8 model in float32. */
function delegate({ provider }, quant) {
  return provider === "webgpu" && quant === "int8" ? "WebGPU, in float32" : DELEGATES[provider];
}

function first(logits) {
  return top(logits, 1)[0];
}
