// Predicted boxes, as pure functions. A box is [label, score, left, top, right, bottom]; boxes come sorted by score,
// the highest first.

/** The number of boxes drawn on one image. */
export const MAX_BOXES = 300;

/** Intersection over union of two boxes, from 0 to 1. */
export function iou(one, other) {
  const width = Math.min(one[4], other[4]) - Math.max(one[2], other[2]);
  const height = Math.min(one[5], other[5]) - Math.max(one[3], other[3]);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box[4] - box[2]) * (box[5] - box[3]);
  const shared = width * height;
  return shared / Math.max(area(one) + area(other) - shared, 1e-12);
}

/** Non-maximum suppression by class: the boxes above both thresholds, at most `max`. */
export function suppressed(boxes, confidence, iouThreshold, max = MAX_BOXES) {
  const kept = [];
  for (const box of boxes) {
    if (box[1] < confidence || kept.length >= max) break;
    if (kept.every((other) => other[0] !== box[0] || iou(box, other) <= iouThreshold)) kept.push(box);
  }
  return kept;
}
