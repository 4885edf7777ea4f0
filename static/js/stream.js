// Reads Server-Sent Events with fetch. Unlike EventSource it can tell 401, 404 and 502 apart, detects a connection
// without traffic, and reconnects with the number of the last event.
import { parseBlock, splitBlocks } from "./server_events.js";

const SILENCE_MS = 25000; // the server sends a comment every 10 s
const MIN_WAIT_MS = 500;
const MAX_WAIT_MS = 8000;
const HIDDEN_MS = 60000; // browsers allow six connections per site: a hidden tab releases its own

export class Stream {
  // handlers: {event name: (data, id) => void}; onState: "live" | "lost" | "logged-out" | "gone"
  constructor(url, { after = null, handlers, onState }) {
    this.url = url;
    this.after = after;
    this.handlers = handlers;
    this.onState = onState;
    this.wait = MIN_WAIT_MS;
    this.ended = false;
    this.sleeping = false;
    document.addEventListener("visibilitychange", () => this.seen());
    addEventListener("online", () => this.wake());
    addEventListener("pagehide", () => this.abort());
    addEventListener("pageshow", (event) => event.persisted && this.wake());
    this.run();
  }

  async run() {
    while (!this.ended) {
      await this.connect();
      if (this.ended) return;
      if (!this.sleeping) this.onState("lost");
      await new Promise((resolve) => {
        this.wake = resolve;
        if (!this.sleeping) setTimeout(resolve, this.wait * (0.75 + Math.random() / 2));
      });
      this.sleeping = false;
      this.wait = Math.min(this.wait * 1.6, MAX_WAIT_MS);
    }
  }

  wake() {}

  seen() {
    clearTimeout(this.hiding);
    if (!document.hidden) {
      this.wait = MIN_WAIT_MS;
      this.wake();
      return;
    }
    this.hiding = setTimeout(() => {
      this.sleeping = true;
      this.abort();
    }, HIDDEN_MS);
  }

  abort() {
    if (this.controller) this.controller.abort();
  }

  end(state) {
    this.ended = true;
    this.onState(state);
    this.abort();
  }

  async connect() {
    this.controller = new AbortController();
    const headers = { Accept: "text/event-stream" };
    if (this.after !== null) headers["Last-Event-ID"] = String(this.after);
    try {
      const response = await fetch(this.url, {
        headers, signal: this.controller.signal, cache: "no-store", redirect: "manual",
      });
      if (response.type === "opaqueredirect" || response.status === 401) return this.end("logged-out");
      if (response.status === 404 || response.status === 410) return this.end("gone");
      if (!response.ok) return undefined;
      await this.read(response.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch {
      // refused, interrupted or silent for too long: the loop reconnects
    } finally {
      clearTimeout(this.watch);
    }
    return undefined;
  }

  async read(reader) {
    let buffer = "";
    for (;;) {
      clearTimeout(this.watch);
      this.watch = setTimeout(() => this.abort(), SILENCE_MS);
      const { value, done } = await reader.read();
      if (done) return;
      this.wait = MIN_WAIT_MS;
      this.onState("live");
      const { blocks, rest } = splitBlocks(buffer + value);
      buffer = rest; // an incomplete event is requested again after a reconnect
      for (const block of blocks) this.handle(block);
      if (this.ended) return;
    }
  }

  handle(block) {
    const { event, id, data } = parseBlock(block);
    if (event === "logged-out" || event === "gone") return this.end(event);
    if (id !== null && this.after !== null && id <= this.after) return undefined;
    const handler = this.handlers[event];
    if (handler) handler(data, id);
    if (id !== null) this.after = id;
    return undefined;
  }
}

// The banner below the top bar shows the state of the connection; interruptions below 700 ms are not reported.
export function connectionBanner(element) {
  const text = element.querySelector("[data-text]");
  let timer = null;
  return (state) => {
    clearTimeout(timer);
    timer = null;
    if (state === "live") {
      element.hidden = true;
      text.textContent = "";
      return;
    }
    const show = () => {
      element.hidden = false;
      element.dataset.state = state;
      text.textContent = element.dataset[{ "logged-out": "loggedOut" }[state] || state];
      const link = element.querySelector("a");
      link.hidden = state !== "logged-out";
    };
    if (state === "lost" && element.hidden) timer = setTimeout(show, 700);
    else show();
  };
}
