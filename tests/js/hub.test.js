// The hub that shares one stream between the tabs of a browser, with a server and a clock of the test.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FORGET_MS, Hub } from "../../static/js/hub.js";

// A server that keeps its streams open until the test sends something or ends them.
function made() {
  const calls = [];
  const timers = [];
  let time = 0;
  const fetch = (url, { signal }) => {
    const call = { url, signal };
    calls.push(call);
    return new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(new Error("aborted")));
      call.refuse = (status, headers = {}) => resolve(new Response(null, { status, headers }));
      call.open = () => {
        const encoder = new TextEncoder();
        const start = (controller) => {
          call.send = (...events) => controller.enqueue(encoder.encode(events.map((lines) => `${lines.join("\n")}\n\n`).join("")));
          call.cut = (text) => controller.enqueue(encoder.encode(text));
          call.end = () => controller.close();
        };
        resolve(new Response(new ReadableStream({ start }), { status: 200 }));
        call.send([": connected"]);
      };
    });
  };
  const hub = new Hub("/events/", {
    fetch, now: () => time, setTimeout: (callback, ms) => timers.push({ at: time + ms, callback }),
  });
  const settle = async () => {
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  };
  async function pass(ms) {
    const end = time + ms;
    await settle();
    for (;;) {
      timers.sort((a, b) => a.at - b.at);
      if (!timers.length || timers[0].at > end) break;
      time = timers[0].at;
      timers.shift().callback();
      await settle();
    }
    time = end;
  }
  function tab() {
    const got = [];
    const send = (message) => got.push(message);
    const events = () => got.filter(({ topic }) => topic).map(({ topic, event, id, data }) => [topic, event, id, data]);
    return { send, got, events };
  }
  return { hub, calls, pass, tab };
}

const log = (topic, id, data) => [`topic: ${topic}`, `id: ${id}`, "event: log", `data: ${data}`];
const header = (topic, data) => [`topic: ${topic}`, "event: header", `data: ${data}`];

test("tabs that open together share one connection with all of their topics", async () => {
  const { hub, calls, pass, tab } = made();
  const [one, two, three] = [tab(), tab(), tab()];
  hub.want(one.send, { "run.1": 5 });
  hub.want(two.send, { "run.1": 3 });
  hub.want(three.send, { runs: 100 });
  await pass(100);
  assert.deepEqual(calls.map(({ url }) => url), ["/events/?topics=run.1:3,runs:100"]);
  calls[0].open();
  calls[0].send(log("run.1", 4, "four"), ["topic: runs", "id: 101", "event: changed", "data: "]);
  await pass(0);
  assert.deepEqual(one.events(), [["run.1", "log", 4, "four"]]);
  assert.deepEqual(two.events(), [["run.1", "log", 4, "four"]]);
  assert.deepEqual(three.events(), [["runs", "changed", 101, ""]]);
});

test("a further tab of the same topic gets the newest parts without another connection", async () => {
  const { hub, calls, pass, tab } = made();
  const [one, two] = [tab(), tab()];
  hub.want(one.send, { "run.1": 0 });
  await pass(100);
  calls[0].open();
  calls[0].send(header("run.1", "old"), header("run.1", "new"));
  await pass(0);
  hub.want(two.send, { "run.1": 7 });
  await pass(100);
  assert.equal(calls.length, 1);
  assert.deepEqual(two.events(), [["run.1", "header", null, "new"]]);
});

test("a tab that is behind makes the hub ask again from there", async () => {
  const { hub, calls, pass, tab } = made();
  const [one, two] = [tab(), tab()];
  hub.want(one.send, { "run.1": 0 });
  await pass(100);
  calls[0].open();
  calls[0].send(log("run.1", 9, "nine"));
  await pass(0);
  hub.want(one.send, { "run.1": 9 });
  hub.want(two.send, { "run.1": 6 });
  await pass(100);
  assert.ok(calls[0].signal.aborted);
  assert.equal(calls[1].url, "/events/?topics=run.1:6");
});

test("after an interruption it continues where it was, and equal parts are not drawn again", async () => {
  const { hub, calls, pass, tab } = made();
  const one = tab();
  hub.want(one.send, { "run.1": 0 });
  await pass(100);
  calls[0].open();
  calls[0].send(header("run.1", "same"), log("run.1", 2, "two"));
  calls[0].cut("topic: run.1\nid: 3\nev");
  await pass(0);
  calls[0].end();
  await pass(0);
  assert.equal(one.got.at(-1).state, "lost");
  await pass(2000);
  assert.equal(calls[1].url, "/events/?topics=run.1:2");
  calls[1].open();
  calls[1].send(header("run.1", "same"), log("run.1", 3, "three"));
  await pass(0);
  assert.deepEqual(one.events().map(([, event, id]) => [event, id]), [["header", null], ["log", 2], ["log", 3]]);
  assert.ok(one.got.some(({ state }) => state === "live"));
});

test("without a tab in view there is no connection", async () => {
  const { hub, calls, pass, tab } = made();
  const one = tab();
  hub.want(one.send, { "run.1": 0 });
  await pass(100);
  calls[0].open();
  await pass(0);
  hub.want(one.send, {});
  await pass(5000);
  assert.ok(calls[0].signal.aborted);
  await pass(60000);
  assert.equal(calls.length, 1);
});

test("a tab that no longer says what it wants is forgotten", async () => {
  const { hub, calls, pass, tab } = made();
  const [gone, here] = [tab(), tab()];
  hub.want(gone.send, { "run.1": 0 });
  hub.want(here.send, { "run.2": 0 });
  await pass(100);
  for (let waited = 0; waited < FORGET_MS + 20000; waited += 15000) {
    calls.at(-1).open();
    await pass(15000);
    hub.want(here.send, { "run.2": 0 });
  }
  await pass(5000);
  assert.equal(calls.at(-1).url, "/events/?topics=run.2:0");
});

test("a silent connection is given up", async () => {
  const { hub, calls, pass, tab } = made();
  const one = tab();
  hub.want(one.send, { runs: 1 });
  await pass(100);
  calls[0].open();
  await pass(20000);
  calls[0].send([": alive"]);
  await pass(20000);
  assert.equal(calls[0].signal.aborted, false);
  await pass(20000);
  assert.ok(calls[0].signal.aborted);
});

test("where the server has no stream left it is polled", async () => {
  const { hub, calls, pass, tab } = made();
  const one = tab();
  hub.want(one.send, { "run.1": 4 });
  await pass(100);
  calls[0].refuse(503, { "Retry-After": "30" });
  await pass(0);
  assert.equal(calls[1].url, "/events/?topics=run.1:4&poll=1");
  calls[1].open();
  calls[1].send(log("run.1", 5, "five"));
  calls[1].end();
  await pass(0);
  assert.deepEqual(one.events(), [["run.1", "log", 5, "five"]]);
  assert.ok(one.got.every(({ state }) => state !== "lost"));
  await pass(6000);
  assert.equal(calls[2].url, "/events/?topics=run.1:5");
});

test("a session that has ended is told, and tried again for a new page only", async () => {
  const { hub, calls, pass, tab } = made();
  const [one, two] = [tab(), tab()];
  hub.want(one.send, { "run.1": 0 });
  await pass(100);
  calls[0].open();
  calls[0].send(["event: logged-out", "data: "]);
  await pass(0);
  assert.equal(one.got.at(-1).state, "logged-out");
  await pass(30000);
  assert.equal(calls.length, 1);
  hub.want(two.send, { "run.2": 0 });
  await pass(100);
  assert.equal(calls.length, 2);
});
