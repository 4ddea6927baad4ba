/** What the page shows of answers and results. */

import { softmax, top } from "./answers.js";
import { plot } from "./plot.js";

const ANSWERS = 5;
const PLOT_HEIGHT = 240;

/** The centre of a picture that preprocessing keeps. */
export function showPicture(shown, { canvas, width, height }, { resize, crop }, name) {
  const side = (Math.min(width, height) * crop) / resize;
  const context = shown.getContext("2d");
  context.drawImage(canvas, (width - side) / 2, (height - side) / 2, side, side, 0, 0, shown.width, shown.height);
  shown.setAttribute("aria-label", `The part of ${name} that the model sees`);
  shown.hidden = false;
}

export function showAnswers(list, logits, labels) {
  const probabilities = softmax(logits);
  const items = top(probabilities, ANSWERS).map((index) => {
    const share = `${(probabilities[index] * 100).toFixed(1)} %`;
    const bar = element("div", "bar", element("div"));
    bar.firstChild.style.width = share.replace(" ", "");
    return element(
      "li",
      "",
      element("span", "", labels?.[index] ?? `class ${index}`),
      element("span", "share", share),
      bar,
    );
  });
  list.replaceChildren(...items);
}

export function parityText({ sqnr_db, min_sqnr_db, top1_matches, holds }) {
  const verdict = holds ? "Parity holds" : "Parity does not hold";
  if (sqnr_db === null) return `${verdict} on the reference input: the answer is not finite`;
  const same = top1_matches ? "the same first class" : "another first class";
  return `${verdict} on the reference input: ${sqnr_db.toFixed(1)} dB where ${min_sqnr_db.toFixed(1)} are needed, ${same}`;
}

/** A result.json's figures, as terms and what they are. */
export function showFigures(list, { runtime, threads, latency, start, sustained }) {
  const figures = [["Ran on", `${runtime.delegate}${threads === null ? "" : `, ${plural(threads, "thread")}`}`]];
  if (latency) {
    figures.push(["Median (p50)", ms(latency.p50_ms)], ["p90", ms(latency.p90_ms)], ["p99", ms(latency.p99_ms)]);
    figures.push(["Fastest", ms(latency.min_ms)], ["Spread", `${(latency.spread * 100).toFixed(1)} %`]);
    figures.push(["Runs", String(latency.runs)], ["Warm-up", latency.steady ? "steady" : "not steady in 10 s"]);
    figures.push(["Loading", ms(start.load_ms)], ["First call", ms(start.first_ms)]);
  }
  if (sustained) {
    figures.push(
      ["First minute", ms(sustained.first_minute_p50_ms)],
      ["Last minute", ms(sustained.last_minute_p50_ms)],
    );
  }
  list.replaceChildren(
    ...figures.map(([term, value]) => element("div", "", element("dt", "", term), element("dd", "", value))),
  );
}

export function showPlot(place, timing) {
  place.innerHTML = plot(timing, place.clientWidth, PLOT_HEIGHT); // numbers alone
}

export function ms(value) {
  return `${value.toPrecision(value >= 100 ? 4 : 3)} ms`;
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function element(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}
