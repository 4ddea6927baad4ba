/** The page: an image in, its classes out; a benchmark; and both for scripts, by the address's query. */

import { comparesDigests, open } from "./bundle.js";
import { device } from "./device.js";
import { Model } from "./model.js";
import { read } from "./picture.js";
import { Problem, sentence } from "./problem.js";
import { parity, result } from "./result.js";
import { check, fromQuery, number, postAddress } from "./settings.js";
import { ms, parityText, showAnswers, showFigures, showPicture, showPlot } from "./show.js";

const at = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const here = { isolated: crossOriginIsolated, cores: navigator.hardwareConcurrency };
const NO_THREADS =
  "This page is not cross-origin isolated, so the model has one thread here: serve it with node serve.mjs for more.";
const NO_DIGESTS = "The files' digests were not compared, which a browser does on https and on localhost only.";

let bundle;
let current; // the model, its settings, and what loading it gave

async function start() {
  at.notice.textContent = [here.isolated || NO_THREADS, comparesDigests || NO_DIGESTS]
    .filter((told) => told !== true)
    .join(" ");
  at.form.threads.max = here.isolated ? here.cores : 1;
  at.form.querySelector("[value=webgpu]").disabled = navigator.gpu === undefined;
  const asked = fromQuery(location.search);
  at.model.textContent = "Opening the bundle…";
  bundle = await open().finally(() => {
    at.model.textContent = "";
  });
  at.model.textContent = `${bundle.model}, ${bundle.quant}, ${bundle.input.shape.slice(2).join(" × ")} px`;
  if (asked) return benchmark(asked);
  return load(fromForm());
}

/** Loads the model anew: cold, as its start is measured. */
async function load(settings) {
  check(settings, here);
  current?.model.close();
  current = { model: new Model(), settings };
  at.parity.textContent = "";
  current.loaded = await current.model.load(bundle, settings);
  at.parity.textContent = `${parityText(parity(bundle, current.loaded.output))}.`;
}

async function classify(file) {
  at.answers.replaceChildren();
  at.picture.hidden = true;
  at.took.textContent = `Reading ${file.name}…`;
  try {
    const picture = await read(file);
    showPicture(at.picture, picture, bundle.preprocess, file.name);
    const { provider, threads } = fromForm();
    const same = current?.settings.provider === provider && current.settings.threads === threads;
    if (!same || !current.loaded) await load(fromForm());
    const { logits, preprocess_ms, run_ms } = await current.model.classify(picture);
    showAnswers(at.answers, logits, bundle.labels);
    at.took.textContent = `Classified in ${ms(run_ms)}, after ${ms(preprocess_ms)} of preprocessing.`;
  } catch (error) {
    at.took.textContent = "";
    throw error;
  }
}

/** Gives the result.json. */
async function benchmark(settings) {
  at.result.hidden = true;
  progress("Loading", null);
  at.going.hidden = false;
  try {
    await load(settings);
    const timing = settings.parityOnly ? null : await current.model.benchmark(settings, progress);
    const { loaded } = current;
    const made = result({ bundle, device: await device(navigator), settings, loaded, timing, now: new Date() });
    showResult(made, timing);
    return made;
  } finally {
    at.going.hidden = true;
  }
}

function progress(phase, fraction) {
  if (at.phase.textContent !== phase) at.phase.textContent = phase;
  if (fraction === null) at.progress.removeAttribute("value");
  else at.progress.value = fraction;
}

function showResult(made, timing) {
  at.result.hidden = false;
  showFigures(at.figures, made);
  at.plot.replaceChildren();
  if (timing) showPlot(at.plot, timing);
  URL.revokeObjectURL(at.download.href);
  at.download.href = URL.createObjectURL(
    new Blob([`${JSON.stringify(made, null, 1)}\n`], { type: "application/json" }),
  );
}

function fromForm() {
  const { provider, threads, runs, seconds, minutes } = at.form;
  const numbers = { threads, runs, seconds, minutes };
  const entries = Object.entries(numbers).map(([name, { value }]) => [name, number(name, value)]);
  return { provider: provider.value, ...Object.fromEntries(entries), parityOnly: false };
}

/** One thing at a time, with everything else off; what goes wrong is told on the page, and given back. */
async function alone(work) {
  const controls = [at.drop, at.settings];
  const focused = document.activeElement;
  for (const control of controls) control.disabled = true;
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error);
    at.problem.textContent = sentence(error);
    at.problem.scrollIntoView({ block: "nearest" });
    return { error: sentence(error) };
  } finally {
    for (const control of controls) control.disabled = bundle === undefined;
    focused.focus({ preventScroll: true });
  }
}

/** What a user asks for: what was wrong before is told no longer. */
function afresh(work) {
  at.problem.textContent = "";
  return alone(work);
}

/** Where the address asks for it, the result of its benchmark, or what went wrong. */
async function post(outcome) {
  const address = postAddress(location.search, location.href);
  if (address === null) return;
  const headers = { "content-type": "application/json" };
  const response = await fetch(address, { method: "POST", headers, body: JSON.stringify(outcome) });
  if (!response.ok)
    throw new Problem(`${address} did not take the result (${response.status}): see what its server says.`);
}

function take(files) {
  const [file] = files;
  if (file && !at.drop.disabled) afresh(() => classify(file));
}

for (const input of [at.choose, at.photograph]) {
  input.onchange = () => {
    take(input.files);
    input.value = ""; // so that the same file can be chosen again
  };
}
document.ondragover = (event) => {
  event.preventDefault();
  at.drop.classList.add("over");
};
document.ondragleave = () => at.drop.classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  at.drop.classList.remove("over");
  take(event.dataTransfer.files);
};
at.form.provider.onchange = ({ target }) => {
  const gpu = target.value === "webgpu";
  if (gpu) at.form.threads.value = 1;
  at.form.threads.readOnly = gpu;
};
at.form.onsubmit = async (event) => {
  event.preventDefault();
  await afresh(() => benchmark(fromForm()));
  at.result.focus();
};

const outcome = await alone(start);
await alone(() => post(outcome));
