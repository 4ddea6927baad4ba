/** What is computed of logits and of times: each as the contract of the apps defines it. */

import { Problem } from "./problem.js";

const MAX_DB = 200;

/** The probabilities of logits. Throws a Problem where one is not finite. */
export function softmax(logits) {
  if (!logits.every(Number.isFinite)) {
    throw new Problem("The model's answer is not finite here: try the other provider.");
  }
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** The classes of the `count` largest, the largest first; of equal ones the lower class first. */
export function top(values, count) {
  const order = [...values.keys()].sort((a, b) => values[b] - values[a] || a - b);
  return order.slice(0, count);
}

/** Of values in ascending order: linear between neighbours. */
export function percentile(ascending, percent) {
  const place = ((ascending.length - 1) * percent) / 100;
  const low = ascending[Math.floor(place)];
  const high = ascending[Math.ceil(place)];
  return low + (high - low) * (place - Math.floor(place));
}

export function median(values) {
  return percentile(Float64Array.from(values).sort(), 50);
}

/** The latency of calls that took these milliseconds. */
export function summary(times) {
  const ascending = Float64Array.from(times).sort();
  const [p25, p50, p75, p90, p99] = [25, 50, 75, 90, 99].map((percent) => percentile(ascending, percent));
  return { runs: times.length, p50_ms: p50, p90_ms: p90, p99_ms: p99, min_ms: ascending[0], spread: (p75 - p25) / p50 };
}

/** Signal to quantisation noise in dB; null of an output that is not finite. Throws a Problem for a reference of 0. */
export function sqnr(reference, output) {
  const signal = reference.reduce((sum, value) => sum + value * value, 0);
  const noise = reference.reduce((sum, value, index) => sum + (value - output[index]) ** 2, 0);
  if (signal === 0)
    throw new Problem("The reference answer is all zero, so nothing compares with it: export it again.");
  if (!Number.isFinite(noise)) return null;
  return noise === 0 ? MAX_DB : Math.min(MAX_DB, 10 * Math.log10(signal / noise));
}
