// Reads Server-Sent Events with fetch: unlike EventSource it sees 401, 404 and 502 for what they are, notices a
// connection that has gone silent, and comes back after each with the number of the last event.
"use strict";

const SILENCE_MS = 25000; // the server says something every 10 s
const LEAST_WAIT_MS = 500;
const MOST_WAIT_MS = 8000;
const HIDDEN_MS = 60000; // browsers give a site six connections: a tab that nobody sees gives its own back

export class Stream {
  // handlers: {event name: (data, id) => void}; onState: "live" | "lost" | "logged-out" | "gone"
  constructor(url, { after = null, handlers, onState }) {
    this.url = url;
    this.after = after;
    this.handlers = handlers;
    this.onState = onState;
    this.wait = LEAST_WAIT_MS;
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
      this.wait = Math.min(this.wait * 1.6, MOST_WAIT_MS);
    }
  }

  wake() {}

  seen() {
    clearTimeout(this.hiding);
    if (!document.hidden) {
      this.wait = LEAST_WAIT_MS;
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
      // refused, cut off, or silent for too long: the loop tries again
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
      this.wait = LEAST_WAIT_MS;
      this.onState("live");
      const blocks = (buffer + value).split("\n\n");
      buffer = blocks.pop(); // an event cut short is asked for again
      for (const block of blocks) this.handle(block);
      if (this.ended) return;
    }
  }

  handle(block) {
    let event = "message";
    let id = null;
    const data = [];
    for (const line of block.split("\n")) {
      if (line.startsWith("event: ")) event = line.slice(7);
      else if (line.startsWith("id: ")) id = Number(line.slice(4));
      else if (line.startsWith("data: ")) data.push(line.slice(6));
    }
    if (event === "logged-out" || event === "gone") return this.end(event);
    if (id !== null && this.after !== null && id <= this.after) return undefined;
    const handler = this.handlers[event];
    if (handler) handler(data.join("\n"), id);
    if (id !== null) this.after = id;
    return undefined;
  }
}

// The banner under the top bar says how the connection stands; a short gap is not worth a word.
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
