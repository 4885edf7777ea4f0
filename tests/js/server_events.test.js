// The text format of Server-Sent Events.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseBlock, splitBlocks } from "../../static/js/server_events.js";

test("a block holds a topic, an event, its number and its data", () => {
  const block = 'topic: run.3\nevent: metrics\nid: 12\ndata: [{"seq": 12}]';
  assert.deepEqual(parseBlock(block), { topic: "run.3", event: "metrics", id: 12, data: '[{"seq": 12}]' });
});

test("data of several lines is joined", () => {
  assert.equal(parseBlock("event: log\ndata: <li>1</li>\ndata: <li>2</li>").data, "<li>1</li>\n<li>2</li>");
});

test("a comment is a message without a number and without data", () => {
  assert.deepEqual(parseBlock(": keep-alive"), { topic: "", event: "message", id: null, data: "" });
});

test("an incomplete block is kept for the next read", () => {
  const { blocks, rest } = splitBlocks("event: a\n\nevent: b\n\nevent: c\nda");
  assert.deepEqual(blocks, ["event: a", "event: b"]);
  assert.equal(rest, "event: c\nda");
  assert.deepEqual(splitBlocks(`${rest}ta: 1\n\n`).blocks, ["event: c\ndata: 1"]);
});
