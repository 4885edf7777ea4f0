// The draft of a form: what is kept, and when it is offered again.
import assert from "node:assert/strict";
import { test } from "node:test";
import { entriesOf, readDraft, sameEntries } from "../../static/js/draft.js";

test("secrets and files are not kept", () => {
  const pairs = [["csrfmiddlewaretoken", "x"], ["name", "pets"], ["file", { size: 1 }]];
  assert.deepEqual(entriesOf(pairs), [["name", "pets"]]);
});

test("entries are compared in any order", () => {
  assert.ok(sameEntries([["a", "1"], ["b", "2"]], [["b", "2"], ["a", "1"]]));
  assert.ok(!sameEntries([["a", "1"]], [["a", "2"]]));
  assert.ok(!sameEntries([["a", "1"]], []));
});

test("a draft of another form, a damaged and an old one are not offered", () => {
  const draft = { form: "detection", time: 1000, entries: [["name", "x"]] };
  assert.deepEqual(readDraft(JSON.stringify(draft), "detection", 2000, 5000), draft);
  assert.equal(readDraft(JSON.stringify(draft), "segmentation", 2000, 5000), null);
  assert.equal(readDraft(JSON.stringify(draft), "detection", 9000, 5000), null);
  for (const text of [null, "", "{", "{}", '{"form": "detection", "time": 1}']) assert.equal(readDraft(text, "detection", 2, 5), null);
});
