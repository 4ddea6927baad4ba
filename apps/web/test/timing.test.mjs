/** The timing protocol, on a clock that only the calls move. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { time } from "../src/timing.js";

/** Times calls whose lengths in ms `lengthOf` tells by their number and by the clock. */
async function timed(lengthOf, settings) {
  let now = 0;
  let calls = 0;
  const told = [];
  const call = async () => {
    now += lengthOf(calls++, now);
  };
  const given = await time(
    call,
    { runs: 480, seconds: 5, minutes: 0, ...settings },
    (...what) => told.push(what),
    () => now,
  );
  return { ...given, calls, now, told };
}

test("two windows of 0.2 s warm up a call that is steady, and are not counted", async () => {
  const { latency, calls, at, ms } = await timed(() => 10);
  assert.equal(latency.steady, true);
  assert.equal(calls - latency.runs, 40);
  assert.deepEqual([at[0], at[1], ms.length], [0, 10, latency.runs]);
});

test("there are as many runs as asked, and more until the seconds are over", async () => {
  assert.equal((await timed(() => 10)).latency.runs, 500);
  assert.equal((await timed(() => 20)).latency.runs, 480);
  assert.equal((await timed(() => 10, { runs: 30, seconds: 0 })).latency.runs, 30);
});

test("slow calls end after 60 s, but never before there are 20", async () => {
  assert.equal((await timed(() => 500)).latency.runs, 120);
  assert.equal((await timed(() => 4000)).latency.runs, 20);
});

test("the warm-up goes on until windows agree", async () => {
  const { latency, calls } = await timed((index) => (index < 100 ? 20 - index / 10 : 10));
  assert.equal(latency.steady, true);
  assert.ok(calls - latency.runs > 60);
});

test("a warm-up that never is steady ends after 10 s and says so", async () => {
  let slow = false;
  let since = 0;
  const { latency } = await timed((_, now) => {
    if (now - since >= 200) [slow, since] = [!slow, now];
    return slow ? 20 : 10;
  });
  assert.equal(latency.steady, false);
});

test("minutes set the first beside the last, after the timing", async () => {
  const { latency, sustained, at, ms, now } = await timed((_, now) => (now < 60_000 ? 10 : now < 120_000 ? 16 : 25), {
    minutes: 3,
  });
  assert.equal(latency.p50_ms, 10);
  assert.equal(sustained.minutes, 3);
  assert.equal(sustained.calls, ms.length - latency.runs);
  assert.deepEqual([sustained.first_minute_p50_ms, sustained.last_minute_p50_ms], [10, 25]);
  assert.ok(at.every((value, index) => index === 0 || value > at[index - 1]));
  assert.ok(now >= 185_000 && now < 186_000);
});

test("progress tells the phases in their order, and never more than all of it", async () => {
  const { told } = await timed(() => 10, { minutes: 2 });
  assert.deepEqual([...new Set(told.map(([phase]) => phase))], ["Warming up", "Timing", "Sustaining"]);
  const fractions = told.filter(([phase]) => phase === "Timing").map(([, fraction]) => fraction);
  assert.ok(fractions.every((fraction, index) => fraction <= 1 && (index === 0 || fraction >= fractions[index - 1])));
  assert.deepEqual([fractions[249], fractions.at(-1)], [0.5, 1]);
});
