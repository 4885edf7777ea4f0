// Non-maximum suppression in the browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { iou, suppressed } from "../../static/js/boxes.js";

test("IoU of equal, half, touching and separate boxes", () => {
  const box = [0, 0.9, 0, 0, 10, 10];
  assert.equal(iou(box, box), 1);
  assert.ok(Math.abs(iou(box, [0, 0.9, 5, 0, 15, 10]) - 1 / 3) < 1e-12);
  assert.equal(iou(box, [0, 0.9, 10, 0, 20, 10]), 0);
  assert.equal(iou(box, [0, 0.9, 50, 50, 60, 60]), 0);
});

test("a box without an area does not divide by zero", () => {
  assert.equal(iou([0, 1, 5, 5, 5, 5], [0, 1, 5, 5, 5, 5]), 0);
});

test("of overlapping boxes of one class the one with the highest score stays", () => {
  const boxes = [[0, 0.9, 0, 0, 10, 10], [1, 0.8, 0, 0, 10, 10], [0, 0.7, 1, 0, 10, 10], [0, 0.6, 40, 40, 50, 50]];
  assert.deepEqual(suppressed(boxes, 0, 0.5).map((box) => box[1]), [0.9, 0.8, 0.6]);
  assert.equal(suppressed(boxes, 0, 1).length, 4);
});

test("boxes below the confidence threshold are left out", () => {
  const boxes = [[0, 0.9, 0, 0, 1, 1], [0, 0.5, 5, 5, 6, 6], [0, 0.1, 8, 8, 9, 9]];
  assert.deepEqual(suppressed(boxes, 0.5, 0.5).map((box) => box[1]), [0.9, 0.5]);
});

test("the number of boxes is limited", () => {
  const boxes = Array.from({ length: 400 }, (_, index) => [0, 0.9, 20 * index, 0, 20 * index + 10, 10]);
  assert.equal(suppressed(boxes, 0, 0.5).length, 300);
  assert.equal(suppressed(boxes, 0, 0.5, 7).length, 7);
});
