// Which option of the palette a key leads to, and what an option posts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fieldsOf, moved } from "../../static/js/palette.js";

test("the arrows go through the options, and round", () => {
  assert.equal(moved(0, 3, "ArrowDown"), 1);
  assert.equal(moved(2, 3, "ArrowDown"), 0);
  assert.equal(moved(0, 3, "ArrowUp"), 2);
  assert.equal(moved(-1, 3, "ArrowDown"), 0);
  assert.equal(moved(-1, 3, "ArrowUp"), 2);
});

test("a page is eight options, and stops at the ends", () => {
  assert.equal(moved(1, 20, "PageDown"), 9);
  assert.equal(moved(15, 20, "PageDown"), 19);
  assert.equal(moved(3, 20, "PageUp"), 0);
});

test("other keys stay, and nothing is chosen where there is nothing", () => {
  assert.equal(moved(1, 3, "a"), 1);
  assert.equal(moved(0, 0, "ArrowDown"), -1);
});

test("the fields of an option are in its data attributes", () => {
  assert.deepEqual(fieldsOf({ url: "/language/", fieldLanguage: "en", fieldNext: "/runs/" }), [["language", "en"], ["next", "/runs/"]]);
});
