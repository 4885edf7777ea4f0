// The data of charts: one row for each x, smoothing, zoom, ranges of the axes and CSV.
import assert from "node:assert/strict";
import { test } from "node:test";
import { clock, csvText, extent, padded, placeOf, smoothed, table, valueAt, valueRange, wholeSteps, withinShare, zoomRange } from "../../static/js/chart_data.js";

const at = (step, value, time = null) => ({ step, epoch: step / 10, time, value });

test("a training and a validation value of one step share a row: the newest validation is drawn", () => {
  const [x, trained, validated] = table([{ values: [at(10, 0.5), at(20, 0.4)] }, { values: [at(20, 0.6)] }], "step");
  assert.deepEqual(x, [10, 20]);
  assert.deepEqual(trained, [0.5, 0.4]);
  assert.deepEqual(validated, [null, 0.6]);
});

test("x rises strictly on each axis, and values without a place on it are left out", () => {
  const lines = [{ values: [at(30, 1, 9), at(10, 2, 3), at(20, 3)] }, { values: [at(25, 4, 6)] }];
  assert.deepEqual(table(lines, "step")[0], [10, 20, 25, 30]);
  assert.deepEqual(table(lines, "epoch")[0], [1, 2, 2.5, 3]);
  assert.deepEqual(table(lines, "time"), [[3, 6, 9], [2, null, 1], [null, 4, null]]);
});

test("smoothing follows a constant at once, keeps gaps and is off at zero", () => {
  assert.deepEqual(smoothed([3, null, 3, 3], 0.9).map((value) => value && Math.round(value * 1e9) / 1e9), [3, null, 3, 3]);
  const values = [0, 10, 0, 10, 0, 10, 0, 10];
  assert.equal(smoothed(values, 0), values);
  const calm = smoothed(values, 0.8);
  assert.ok(Math.max(...calm.slice(4)) - Math.min(...calm.slice(4)) < 4);
});

test("the extent covers all charts and is never empty", () => {
  assert.deepEqual(extent([[3, 7], [], [5, 20]]), [3, 20]);
  assert.deepEqual(extent([[5]]), [4.5, 5.5]);
  assert.equal(extent([[], []]), null);
});

test("a zoom stays within the data, and one that would empty every plot is refused", () => {
  const columns = [[0, 50, 100], [0, 100]];
  assert.deepEqual(zoomRange([60, 20], [0, 100], columns), [20, 60]);
  assert.deepEqual(zoomRange([-30, 50], [0, 100], columns), [0, 50]);
  assert.equal(zoomRange([51, 99], [0, 100], columns), null);
  assert.equal(zoomRange([-1, 200], [0, 100], columns), null);
  assert.equal(zoomRange(null, [0, 100], columns), null);
});

test("the range of values is that of the window and of the lines that cross it", () => {
  const xs = [0, 10, 20, 30];
  assert.deepEqual(valueRange(xs, [[5, 1, 2, 9]], [10, 20]), [1, 9]);
  assert.deepEqual(valueRange(xs, [[5, null, null, 9]], [11, 19]), [5, 9]);
  assert.deepEqual(valueRange(xs, [[-1, 0, 3, 0.1]], [0, 30], true), [0.1, 3]);
  assert.equal(valueRange(xs, [[null, null, null, null]], [0, 30]), null);
  assert.equal(valueRange(xs, [], [0, 30]), null);
});

test("an axis leaves space around its values, also around a single one", () => {
  const [low, high] = padded([0, 1]);
  assert.ok(low < 0 && high > 1);
  assert.ok(padded([2, 2])[1] > 2);
  assert.ok(padded([0, 0])[1] > 0);
  assert.ok(padded([0.1, 10], true)[0] > 0);
});

test("an axis of shares has no marks below 0 or above 1", () => {
  const [low, high] = withinShare(padded([1, 1]));
  assert.ok(low < 1 && high > 1 && high < 1.01);
  assert.ok(withinShare(padded([0, 0]))[0] > -0.05);
  assert.deepEqual(withinShare([0.3, 0.6]), [0.3, 0.6]);
});

test("an axis that counts has whole marks only", () => {
  assert.deepEqual(wholeSteps(100), [1, 2, 5, 10, 20, 50, 100, 200, 500]);
});

test("the legend shows the value under the cursor or the closest one before it", () => {
  assert.equal(valueAt([1, null, 3], 1), 1);
  assert.equal(valueAt([1, null, 3], null), 3);
  assert.equal(valueAt([1, 2, null], undefined), 2);
  assert.equal(valueAt([null, 2], 0), null);
  assert.equal(valueAt([], null), null);
});

test("CSV quotes what needs it and leaves missing values empty", () => {
  assert.equal(csvText(["step", 'a "b", c'], [[1, 2], [0.5, null]]), 'step,"a ""b"", c"\r\n1,0.5\r\n2,\r\n');
  assert.equal(csvText(["step"], [[]]), "step\r\n");
});

test("durations are short", () => {
  assert.deepEqual([12.34, 90, 5400, 36000].map(clock), ["12.3 s", "2 min", "1:30 h", "10:00 h"]);
});

test("a mark without a time has no place on the axis of time", () => {
  assert.equal(placeOf({ step: 5, epoch: null }, "step"), 5);
  assert.equal(placeOf({ step: 5, epoch: null }, "epoch"), null);
  assert.equal(placeOf({ step: 5 }, "time"), null);
});
