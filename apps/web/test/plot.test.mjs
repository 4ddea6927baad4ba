import assert from "node:assert/strict";
import { test } from "node:test";

import { plot } from "../src/plot.js";

const SIZE = [640, 240];

function calls(count, lengthOf) {
  const ms = Array.from({ length: count }, (_, index) => lengthOf(index));
  let now = 0;
  return { ms, at: ms.map((length) => (now += length) - length) };
}

/** The points of the line or of the band. */
function points(svg, name) {
  const [, text] = svg.match(new RegExp(`class="${name}" points="([^"]*)"`));
  return text.split(" ").map((point) => point.split(",").map(Number));
}

test("a step in the latency is a step in the line, and slower is higher", () => {
  const line = points(
    plot(
      calls(2000, (index) => (index < 1000 ? 2 : 4)),
      ...SIZE,
    ),
    "line",
  );
  const heights = [...new Set(line.map(([, y]) => y))];
  assert.equal(heights.length, 2);
  assert.ok(heights[1] < heights[0]);
  assert.ok(line.every(([x], index) => index === 0 || x > line[index - 1][0]));
});

test("the axes start at zero and end above all of the band", () => {
  const svg = plot(
    calls(500, (index) => 2 + (index % 7) / 10),
    ...SIZE,
  );
  assert.match(svg, />0<\/text>/);
  const highest = Math.min(...points(svg, "band").map(([, y]) => y));
  assert.ok(highest >= 12);
});

test("every point lies inside, whatever the number of calls and the clock", () => {
  for (const timed of [
    calls(1, () => 5),
    calls(3, () => 0),
    calls(20, () => 900),
    calls(200_000, (index) => 1 + (index % 3)),
  ]) {
    for (const [x, y] of [...points(plot(timed, ...SIZE), "line"), ...points(plot(timed, ...SIZE), "band")]) {
      assert.ok(x >= 48 && x <= 628 && y >= 12 && y <= 200, `${x}, ${y}`);
    }
  }
});

test("a screen reader is told what is drawn", () => {
  const svg = plot(
    calls(1000, () => 2.5),
    ...SIZE,
  );
  assert.match(svg, /aria-label="Latency of 1000 calls over 2\.5 seconds: medians from 2\.50 to 2\.50 ms"/);
});
