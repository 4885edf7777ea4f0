// The number formats of static/js/numbers.js; tests/e2e/test_numbers.py compares them with those of the server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { metricText, numbersApart, numberText } from "../../static/js/numbers.js";

test("numbers between 1e-4 and 1e6 are written without an exponent", () => {
  for (const [value, text] of [[0, "0"], [-0, "0"], [0.1 + 0.2, "0.3"], [0.123456, "0.1235"], [1e-4, "0.0001"], [12345.6, "12350"], [-2.5, "-2.5"]]) {
    assert.equal(numberText(value), text);
  }
});

test("smaller and larger numbers are written with a power of ten", () => {
  for (const [value, text] of [[1e-5, "10⁻⁵"], [-1e-5, "-10⁻⁵"], [8.157e-9, "8.157×10⁻⁹"], [1.25e12, "1.25×10¹²"]]) {
    assert.equal(numberText(value), text);
  }
});

test("the number of digits can be chosen", () => {
  assert.equal(numberText(2.07995, 6), "2.07995");
  assert.equal(numberText(2.07995, 2), "2.1");
});

test("tick labels get as many digits as it takes to differ", () => {
  assert.deepEqual(numbersApart([1, 2, 3]), ["1", "2", "3"]);
  assert.deepEqual(numbersApart([2.07995, 2.08, 2.08005]), ["2.07995", "2.08", "2.08005"]);
});

test("equal tick values end the search for digits", () => {
  assert.deepEqual(numbersApart([1.5, 1.5]), ["1.5", "1.5"]);
});

test("a metric is a percentage, a number or a dash", () => {
  assert.equal(metricText(0.1234, true), "12.3 %");
  assert.equal(metricText(0.1234, false), "0.1234");
  assert.equal(metricText(0, true), "0.0 %");
  assert.equal(metricText(null, true), "–");
  assert.equal(metricText(undefined, false), "–");
});
