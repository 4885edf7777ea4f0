// Which notifications a browser still has to show.
import assert from "node:assert/strict";
import { test } from "node:test";
import { show, unseen } from "../../static/js/browser_notifications.js";

test("those with a higher number than the last one are new, the oldest first", () => {
  const items = [{ id: 9 }, { id: 7 }, { id: 8 }];
  assert.deepEqual(unseen(items, 7).map(({ id }) => id), [8, 9]);
  assert.deepEqual(unseen(items, 9), []);
});

test("each is shown once, and only where the browser allows it", () => {
  const stored = new Map();
  const shown = [];
  globalThis.localStorage = { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
  globalThis.document = { querySelector: () => ({ href: "/logo.svg" }) };
  globalThis.Notification = class {
    static permission = "default";
    constructor(title, { body, tag }) {
      shown.push([title, body, tag]);
    }
    addEventListener() {}
  };
  const items = [{ id: 3, title: "Run failed", text: "No room.", url: "/runs/1/" }];
  show(items);
  assert.deepEqual(shown, []);
  Notification.permission = "granted";
  show(items);
  show(items);
  assert.deepEqual(shown, [["Run failed", "No room.", "studio-3"]]);
});
