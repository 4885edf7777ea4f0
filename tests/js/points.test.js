// The points of the charts: order, one row for each step, rewinds and thinning.
import assert from "node:assert/strict";
import { test } from "node:test";
import { beforeRewind, columns, newerThan, thinned, valueAt } from "../../static/js/points.js";

const train = (seq, step, loss) => ({ seq, step, split: "train", values: { loss } });
const val = (seq, step, loss) => ({ seq, step, split: "val", values: { loss } });
const SERIES = [{ split: "train", metric: "loss" }, { split: "val", metric: "loss" }];

test("a training and a validation point of one step share a row", () => {
  const [x, trained, validated] = columns([train(1, 10, 0.5), train(2, 20, 0.4), val(3, 20, 0.6)], SERIES);
  assert.deepEqual(x, [10, 20]);
  assert.deepEqual(trained, [0.5, 0.4]);
  assert.deepEqual(validated, [null, 0.6]);
});

test("x rises strictly whatever the order of the points", () => {
  const [x] = columns([train(3, 30, 1), val(4, 10, 1), train(1, 10, 1), train(2, 20, 1)], SERIES);
  assert.deepEqual(x, [10, 20, 30]);
});

test("of two points of one step and split the newer event counts", () => {
  const [, trained] = columns([train(7, 10, 0.2), train(2, 10, 0.9)], SERIES);
  assert.deepEqual(trained, [0.2]);
});

test("a value that is zero is drawn, a missing one is not", () => {
  const [, trained, validated] = columns([train(1, 10, 0), { seq: 2, step: 20, split: "val", values: {} }], SERIES);
  assert.deepEqual(trained, [0, null]);
  assert.deepEqual(validated, [null, null]);
});

test("steps can be shown as epochs", () => {
  const [x] = columns([train(1, 50, 1), train(2, 100, 1)], SERIES, (step) => step / 100);
  assert.deepEqual(x, [0.5, 1]);
});

test("columns leaves the points as they are", () => {
  const points = [train(2, 20, 1), train(1, 10, 1)];
  columns(points, SERIES);
  assert.deepEqual(points.map((point) => point.step), [20, 10]);
});

test("only events after the newest shown one are added", () => {
  assert.deepEqual(newerThan([train(4, 1, 1), train(5, 2, 1), train(6, 3, 1)], 5).map((point) => point.seq), [6]);
});

test("a rewind removes what is recorded again", () => {
  const points = [train(1, 10, 1), train(2, 20, 1), val(3, 20, 1), train(4, 30, 1)];
  assert.deepEqual(beforeRewind(points, { step: 20, validationDue: false }).map((point) => point.seq), [1, 2, 3]);
  assert.deepEqual(beforeRewind(points, { step: 20, validationDue: true }).map((point) => point.seq), [1, 2]);
});

test("thinning halves the old training points and keeps validation and recent points", () => {
  const points = Array.from({ length: 101 }, (_, index) => train(index, index, 1));
  points.splice(10, 0, val(200, 10, 1));
  const rest = thinned(points, 100);
  assert.ok(rest.length < 70, `${rest.length} points are left`);
  assert.ok(rest.some((point) => point.split === "val"));
  assert.deepEqual(rest.slice(-20), points.slice(-20));
  assert.equal(thinned(points.slice(0, 100), 100).length, 100);
});

test("the legend shows the value under the cursor or the closest one before it", () => {
  assert.equal(valueAt([1, null, 3], 1), 1);
  assert.equal(valueAt([1, null, 3], null), 3);
  assert.equal(valueAt([1, 2, null], undefined), 2);
  assert.equal(valueAt([null, 2], 0), null);
  assert.equal(valueAt([], null), null);
});
