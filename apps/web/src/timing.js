/** How a latency is timed: the contract of the apps, as logic over a call and a clock in milliseconds. */

import { median, summary } from "./answers.js";

const WINDOW_MS = 200;
const STEADY = 0.05; // of the median of the window before
const WARM_UP_MS = 10_000;
const MAX_MS = 60_000;
const MIN_RUNS = 20;
const MINUTE_MS = 60_000;

/**
 * Warms `call` up, times it, and where `minutes` are asked for goes on for so long.
 *
 * Gives `latency` and `sustained` as a result.json has them, and of every call after the warm-up when it began (`at`,
 * from the first) and what it took (`ms`). After every call `progress` is told what goes on and how much of it is done.
 */
export async function time(call, { runs, seconds, minutes }, progress, clock = () => performance.now()) {
  const steady = await warmUp(call, clock, () => progress("Warming up", null));
  const started = clock();
  const enough = (count, ms) => (count >= runs && ms >= seconds * 1000) || (ms >= MAX_MS && count >= MIN_RUNS);
  const timed = await repeat(call, clock, enough, (count, ms) => progress("Timing", done(count, ms, runs, seconds)));
  const latency = { ...summary(timed.ms), steady };
  if (minutes === 0) return { latency, sustained: null, ...timed };
  const offset = clock() - started;
  const length = minutes * MINUTE_MS;
  const over = (_, ms) => ms >= length;
  const held = await repeat(call, clock, over, (_, ms) => progress("Sustaining", Math.min(1, ms / length)));
  return {
    latency,
    sustained: sustained(held, minutes),
    at: timed.at.concat(held.at.map((at) => at + offset)),
    ms: timed.ms.concat(held.ms),
  };
}

/** How much of the timing is done, from 0 to 1. */
function done(count, ms, runs, seconds) {
  const asked = Math.min(count / runs, seconds === 0 ? 1 : ms / (seconds * 1000));
  return Math.min(1, Math.max(asked, ms / MAX_MS));
}

/** Windows of calls until two neighbours agree: whether they did in time. */
async function warmUp(call, clock, progress) {
  const deadline = clock() + WARM_UP_MS;
  let before = await windowMedian(call, clock, progress);
  for (;;) {
    const after = await windowMedian(call, clock, progress);
    const steady = Math.abs(after - before) <= STEADY * before;
    if (steady || clock() >= deadline) return steady;
    before = after;
  }
}

async function windowMedian(call, clock, progress) {
  return median((await repeat(call, clock, (_, ms) => ms >= WINDOW_MS, progress)).ms);
}

/** Calls one after the other, at least one, until there are `enough`. */
async function repeat(call, clock, enough, progress) {
  const started = clock();
  const at = [];
  const ms = [];
  do {
    const start = clock();
    await call();
    ms.push(clock() - start);
    at.push(start - started);
    progress(ms.length, clock() - started);
  } while (!enough(ms.length, clock() - started));
  return { at, ms };
}

function sustained({ at, ms }, minutes) {
  const first = ms.filter((_, index) => at[index] < MINUTE_MS);
  const last = ms.filter((_, index) => at[index] >= (minutes - 1) * MINUTE_MS);
  return { minutes, calls: ms.length, first_minute_p50_ms: median(first), last_minute_p50_ms: median(last) };
}
