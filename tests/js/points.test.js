// The points of a run: values by step, rewinds and thinning.
import assert from "node:assert/strict";
import { test } from "node:test";
import { beforeRewind, newerThan, thinned, valuesOf } from "../../static/js/points.js";

const train = (seq, step, loss) => ({ seq, step, split: "train", values: { loss } });
const val = (seq, step, loss) => ({ seq, step, split: "val", values: { loss } });

test("the values of a series come in the order of the steps, with epoch and time", () => {
  const points = [{ ...train(3, 30, 0.2), time: 130 }, { ...train(1, 10, 0.4), time: 110 }, { ...val(2, 20, 0.6), time: 120 }];
  assert.deepEqual(valuesOf(points, { split: "train", metric: "loss" }, { perEpoch: 10, since: 100 }), [
    { step: 10, epoch: 1, time: 10, value: 0.4 }, { step: 30, epoch: 3, time: 30, value: 0.2 },
  ]);
  assert.deepEqual(points.map((point) => point.step), [30, 10, 20]);
});

test("of two points of one step and split the newer event counts", () => {
  assert.deepEqual(valuesOf([train(7, 10, 0.2), train(2, 10, 0.9)], { split: "train", metric: "loss" }).map((one) => one.value), [0.2]);
});

test("a value that is zero counts, a missing one does not", () => {
  const points = [train(1, 10, 0), { seq: 2, step: 20, split: "train", values: {} }];
  assert.deepEqual(valuesOf(points, { split: "train", metric: "loss" }).map((one) => [one.step, one.value]), [[10, 0]]);
});

test("only events after the newest shown one are added", () => {
  assert.deepEqual(newerThan([train(4, 1, 1), train(5, 2, 1), train(6, 3, 1)], 5).map((point) => point.seq), [6]);
});

test("a rewind removes what is recorded again", () => {
  const points = [train(1, 10, 1), train(2, 20, 1), val(3, 20, 1), train(4, 30, 1)];
  assert.deepEqual(beforeRewind(points, { step: 20, validationDue: false }).map((point) => point.seq), [1, 2, 3]);
  assert.deepEqual(beforeRewind(points, { step: 20, validationDue: true }).map((point) => point.seq), [1, 2]);
});

test("what the machine was doing is kept by moments and not repeated", () => {
  const measured = (seq, step, time, bytes) => ({ seq, step, time, split: "system", values: { bytes } });
  const points = [measured(1, 30, 5, 2048), measured(2, 30, 10, 4096), train(3, 30, 1)];
  assert.deepEqual(beforeRewind(points, { step: 20, validationDue: false }).map((point) => point.seq), [1, 2]);
  const series = { split: "system", metric: "bytes", divisor: 1024 };
  assert.deepEqual(valuesOf(points, series).map((one) => [one.time, one.value]), [[5, 2], [10, 4]]);
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
