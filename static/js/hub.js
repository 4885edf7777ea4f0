// One stream for all tabs of a browser: it carries the topics that visible tabs show, and passes their messages on.
// It runs in a SharedWorker, or in the page itself where there is none.
import { parseBlock, splitBlocks } from "./server_events.js";

export const SILENCE_MS = 25000; // the server sends a comment every 10 s
const MIN_WAIT_MS = 500;
const MAX_WAIT_MS = 8000;
const GATHER_MS = 30; // tabs that open together share one connection from the start
const LINGER_MS = 2000; // a tab that loads its next page needs the connection again
export const FORGET_MS = 60000; // tabs repeat what they want every 15 s; one that does not has gone
const POLL_MS = 5000; // while the server has no stream left

// Messages without a number that say what has happened; all others are the newest state of a part of the page.
const PASSING = new Set(["rewind", "gone", "changed", "rows"]);

export class Hub {
  // `address` is that of the stream. `fetch`, `setTimeout` and `now` can be replaced by tests.
  constructor(address, { fetch = globalThis.fetch.bind(globalThis), setTimeout = globalThis.setTimeout.bind(globalThis), now = Date.now } = {}) {
    Object.assign(this, { address, fetch, setTimeout, now });
    this.ports = new Map(); // send -> {topics: Map(name -> number of what the tab has), heard}
    this.topics = new Map(); // name -> {after, parts: Map(event -> data)}: what the connection carries
    this.state = "connecting";
    this.wait = MIN_WAIT_MS;
    this.turn = 0; // counts connections; an earlier one that still reads stops
  }

  // A tab says what it wants, {topic: number}; an empty object when it is hidden or leaves.
  want(send, wanted) {
    const isNew = !this.ports.has(send);
    const before = this.ports.get(send)?.topics || new Map();
    const topics = new Map(Object.entries(wanted));
    this.ports.set(send, { topics, heard: this.now() });
    for (const [name, after] of topics) {
      const carried = this.topics.get(name);
      if (!carried || before.has(name)) continue;
      if (after < carried.after) this.topics.delete(name); // the connection is ahead of it: ask again from there
      else for (const [event, data] of carried.parts) send({ topic: name, event, id: null, data });
    }
    if (isNew) send({ state: this.state === "connecting" ? "live" : this.state });
    if (this.state === "logged-out" && isNew) {
      this.state = "connecting"; // somebody may have signed in again
      this.topics = new Map();
    }
    this.adjust();
  }

  leave(send) {
    this.ports.delete(send);
    this.adjust();
  }

  // The topics that some tab wants, with the lowest number among them.
  wanted() {
    const found = new Map();
    for (const [send, { topics, heard }] of this.ports) {
      if (this.now() - heard > FORGET_MS) {
        this.ports.delete(send);
        continue;
      }
      for (const [name, after] of topics) found.set(name, Math.min(found.get(name) ?? after, after));
    }
    return found;
  }

  // Connects again when a topic is missing: at once. Topics that nobody wants any longer may wait.
  adjust() {
    const wanted = this.wanted();
    const isMissing = [...wanted.keys()].some((name) => !this.topics.has(name));
    const isExtra = [...this.topics.keys()].some((name) => !wanted.has(name));
    if (isMissing) this.later(GATHER_MS);
    else if (isExtra) this.later(LINGER_MS);
  }

  later(ms) {
    const due = this.now() + ms;
    if (this.due && this.due <= due) return;
    this.due = due;
    this.setTimeout(() => {
      if (this.due !== due) return;
      this.due = null;
      const wanted = this.wanted();
      const same = wanted.size === this.topics.size && [...wanted.keys()].every((name) => this.topics.has(name));
      if (!same) this.restart(wanted);
    }, ms);
  }

  restart(wanted) {
    const carried = this.topics;
    this.topics = new Map();
    for (const [name, after] of wanted) {
      this.topics.set(name, carried.get(name) || { after, parts: new Map() });
    }
    this.turn += 1;
    this.controller?.abort();
    this.wake?.();
    if (this.topics.size && this.state !== "logged-out") this.run(this.turn);
  }

  async run(turn) {
    while (turn === this.turn) {
      const answer = await this.connect(turn);
      if (turn !== this.turn) return;
      if (answer === "logged-out") return this.tell(answer);
      if (answer !== "full") this.tell("lost");
      this.wanted(); // forgets tabs that have gone
      await new Promise((resolve) => {
        this.wake = resolve;
        this.setTimeout(resolve, answer === "full" ? POLL_MS : this.wait * (0.75 + Math.random() / 2));
      });
      this.wait = Math.min(this.wait * 1.6, MAX_WAIT_MS);
    }
  }

  // Reads until the connection ends. "full" when the server has no stream left: what there is has been polled.
  async connect(turn, isPoll = false) {
    const controller = new AbortController();
    this.controller = controller;
    const reading = { at: this.now(), ended: false };
    const watch = () => {
      if (reading.ended) return;
      if (this.now() - reading.at >= SILENCE_MS) controller.abort();
      else this.setTimeout(watch, SILENCE_MS / 5);
    };
    watch();
    const topics = [...this.topics].map(([name, { after }]) => `${name}:${after}`).join(",");
    try {
      const response = await this.fetch(`${this.address}?topics=${topics}${isPoll ? "&poll=1" : ""}`, {
        headers: { Accept: "text/event-stream" }, signal: controller.signal, cache: "no-store", redirect: "manual",
      });
      if (response.type === "opaqueredirect" || response.status === 401) return "logged-out";
      if (response.status === 503 && !isPoll && response.headers.has("Retry-After")) {
        return (await this.connect(turn, true)) === "polled" ? "full" : "lost";
      }
      if (!response.ok) return "lost";
      return await this.read(response.body.pipeThrough(new TextDecoderStream()).getReader(), turn, isPoll, reading);
    } catch {
      return "lost"; // refused, interrupted or silent for too long: the loop reconnects
    } finally {
      reading.ended = true;
    }
  }

  async read(reader, turn, isPoll, reading) {
    let buffer = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (turn !== this.turn) return "old";
      if (done) return isPoll ? "polled" : "lost";
      reading.at = this.now();
      this.wait = MIN_WAIT_MS;
      this.tell("live");
      const { blocks, rest } = splitBlocks(buffer + value);
      buffer = rest; // an incomplete event is requested again after a reconnect
      for (const block of blocks) if (this.handle(parseBlock(block)) === "logged-out") return "logged-out";
    }
  }

  handle({ topic, event, id, data }) {
    if (event === "logged-out") return event;
    const carried = this.topics.get(topic);
    if (!carried) return undefined;
    if (id !== null) carried.after = id;
    else if (!PASSING.has(event)) {
      if (carried.parts.get(event) === data) return undefined; // sent again because the connection is new
      carried.parts.set(event, data);
    }
    for (const [send, { topics }] of this.ports) if (topics.has(topic)) send({ topic, event, id, data });
    return undefined;
  }

  // The state of the connection goes to every tab, and with it a sign of life.
  tell(state) {
    const isNews = state !== this.state;
    this.state = state;
    if (!isNews && this.now() - (this.toldAt || 0) < 5000) return;
    this.toldAt = this.now();
    for (const send of this.ports.keys()) send({ state });
  }

  // The network is back, or somebody looks: do not wait for the next try.
  hurry() {
    this.wait = MIN_WAIT_MS;
    this.wake?.();
  }
}
