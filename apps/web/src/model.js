/** The page's side of the model's own thread: one task at a time. */

import { Problem } from "./problem.js";

export class Model {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting;

  constructor() {
    this.#worker.onmessage = ({ data }) => this.#heard(data);
    this.#worker.onerror = ({ message }) => {
      this.#heard({
        problem: `The model's thread cannot start (${message ?? "no reason told"}): load the page again.`,
      });
    };
  }

  /** Gives the runtime's `version`, `load_ms`, `first_ms`, and the `output` for the reference input. */
  load(bundle, settings) {
    return this.#ask("load", [bundle, settings]);
  }

  /** Gives the `logits` of a picture, `preprocess_ms` and `run_ms`. */
  classify({ width, height, data }) {
    return this.#ask("classify", [{ width, height, data }]);
  }

  /** See `time` in timing.js; `progress` gets a phase and how much of it is done, or null. */
  benchmark(settings, progress) {
    return this.#ask("benchmark", [settings], progress);
  }

  close() {
    this.#worker.terminate();
  }

  #ask(task, given, progress) {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject, progress };
      this.#worker.postMessage({ task, given });
    });
  }

  #heard({ value, problem, progress }) {
    if (progress) this.#waiting.progress(progress.phase, progress.fraction);
    else if (problem) this.#waiting.reject(new Problem(problem));
    else this.#waiting.resolve(value);
  }
}
