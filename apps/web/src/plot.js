/** Latency over time, as SVG. */

import { percentile } from "./answers.js";

const MARGIN = { top: 12, right: 12, bottom: 40, left: 48 };
const COLUMN = 4; // pixels
const SHORTEST_MS = 0.001; // a coarse clock tells 0 of a fast call

/** Calls that began `at` and took `ms`: the median of each few pixels' calls as a line, and their middle 80 % as a band. */
export function plot({ at, ms }, width, height) {
  const total = Math.max(SHORTEST_MS, at.at(-1) + ms.at(-1));
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const columns = gather(at, ms, total, Math.floor(inner.width / COLUMN));
  const highest = Math.max(SHORTEST_MS, ...columns.map(({ high }) => high));
  const step = nice(highest / 4);
  const most = step * Math.ceil(highest / step);
  const x = (time) => (MARGIN.left + (time / total) * inner.width).toFixed(1);
  const y = (value) => (MARGIN.top + (1 - value / most) * inner.height).toFixed(1);
  const line = columns.map(({ time, middle }) => `${x(time)},${y(middle)}`);
  const band = [
    ...columns.map(({ time, high }) => `${x(time)},${y(high)}`),
    ...columns.toReversed().map(({ time, low }) => `${x(time)},${y(low)}`),
  ];
  return `<svg class="plot" viewBox="0 0 ${width} ${height}" role="img" aria-label="${label(ms, total, columns)}">
${ticks(most, step)
  .map((value) => horizontal(y(value), short(value), width))
  .join("\n")}
${seconds(total, inner.width)
  .map((value) => vertical(x(value * 1000), short(value), height))
  .join("\n")}
<polygon class="band" points="${band.join(" ")}"/>
<polyline class="line" points="${line.join(" ")}"/>
<text x="${MARGIN.left + inner.width / 2}" y="${height - 6}" text-anchor="middle">seconds since the warm-up</text>
<text transform="translate(12 ${MARGIN.top + inner.height / 2}) rotate(-90)" text-anchor="middle">ms a call</text>
</svg>`;
}

/** Of each column that has calls: its `time`, and the 10th, 50th and 90th percentile of what they took. */
function gather(at, ms, total, count) {
  const columns = Array.from({ length: count }, () => []);
  at.forEach((time, index) => columns[Math.min(count - 1, Math.floor((time / total) * count))].push(ms[index]));
  return columns.flatMap((times, index) => {
    if (times.length === 0) return [];
    const ascending = Float64Array.from(times).sort();
    const [low, middle, high] = [10, 50, 90].map((percent) => percentile(ascending, percent));
    return [{ time: ((index + 0.5) / count) * total, low, middle, high }];
  });
}

/** The next number up of 1, 2 and 5 times a power of ten. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= value);
}

function ticks(most, step) {
  return Array.from({ length: Math.round(most / step) + 1 }, (_, index) => index * step);
}

function seconds(total, width) {
  const step = nice(total / 1000 / Math.max(2, width / 80));
  return ticks(Math.floor(total / 1000 / step) * step, step);
}

function horizontal(y, text, width) {
  return `<path class="grid" d="M${MARGIN.left} ${y}H${width - MARGIN.right}"/>
<text x="${MARGIN.left - 6}" y="${y}" text-anchor="end" dominant-baseline="central">${text}</text>`;
}

function vertical(x, text, height) {
  return `<text x="${x}" y="${height - MARGIN.bottom + 16}" text-anchor="middle">${text}</text>`;
}

function short(value) {
  return String(Number(value.toPrecision(3)));
}

function label(ms, total, columns) {
  const middles = columns.map(({ middle }) => middle);
  const [least, most] = [Math.min(...middles), Math.max(...middles)].map((value) => value.toPrecision(3));
  return `Latency of ${ms.length} calls over ${(total / 1000).toFixed(1)} seconds: medians from ${least} to ${most} ms`;
}
