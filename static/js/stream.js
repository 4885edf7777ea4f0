// What a page hears from the server: topics of the one stream that all tabs of the browser share.
import { FORGET_MS, Hub, SILENCE_MS } from "./hub.js";
import { parseBlock, splitBlocks } from "./server_events.js";

const REPEAT_MS = 15000;
const START_MS = 4000; // a worker that does not answer by then is not there
const HIDDEN_MS = 1000;
const REST_POLL_MS = 20000;
const REST_AFTER_MS = 5000; // what belongs to the end of a run comes with its last status

// The tab's way to the hub: a SharedWorker, one for each user and language, or a hub of its own.
class Link {
  constructor() {
    const { dataset } = document.getElementById("connection");
    this.address = dataset.events;
    this.topics = new Set();
    this.heardAt = Date.now();
    this.open(`studio-${dataset.reader}-${document.documentElement.lang}`);
    document.addEventListener("visibilitychange", () => this.seen());
    addEventListener("online", () => this.hub?.hurry());
    addEventListener("pagehide", () => this.say({ leave: true }));
    addEventListener("pageshow", (event) => event.persisted && this.want());
    setInterval(() => this.repeat(), REPEAT_MS);
    setInterval(() => this.pollResting(), REST_POLL_MS);
  }

  open(name) {
    try {
      const worker = new SharedWorker(new URL("./stream_worker.js", import.meta.url), { type: "module", name });
      worker.addEventListener("error", () => this.openHere());
      worker.port.addEventListener("message", ({ data }) => this.receive(data));
      worker.port.start();
      this.worker = worker;
      this.say = (message) => worker.port.postMessage(message);
      setTimeout(() => this.hasAnswered || this.openHere(), START_MS);
    } catch {
      this.openHere();
    }
  }

  openHere() {
    if (this.hub) return;
    this.worker?.port.close();
    this.worker = null;
    const hub = new Hub(this.address);
    const send = (message) => this.receive(message);
    this.hub = hub;
    this.say = (message) => (message.leave ? hub.leave(send) : hub.want(send, message.want));
    this.want();
  }

  // A browser may end a worker; its silence shows it.
  repeat() {
    const isWaiting = !document.hidden && this.wanted().length;
    if (isWaiting && this.worker && Date.now() - this.heardAt > SILENCE_MS + FORGET_MS) this.openHere();
    if (!document.hidden) this.want();
  }

  seen() {
    clearTimeout(this.hiding);
    if (document.hidden) this.hiding = setTimeout(() => this.want(), HIDDEN_MS);
    else {
      this.heardAt = Date.now();
      this.want();
      this.hub?.hurry();
      this.pollResting();
    }
  }

  // A hidden tab wants nothing; it asks for what it has missed when it is shown again.
  want() {
    this.say({ want: Object.fromEntries(this.wanted().map((topic) => [topic.name, topic.after])) });
  }

  wanted() {
    const open = document.hidden ? [] : [...this.topics].filter((topic) => !topic.isResting && !topic.hasEnded);
    return open.some((topic) => topic !== bell) ? open : []; // the bell alone holds no stream
  }

  receive(message) {
    this.hasAnswered = true;
    this.heardAt = Date.now();
    for (const topic of this.topics) {
      if (message.state) topic.onState(message.state);
      else if (message.topic === topic.name) topic.handle(message);
    }
  }

  // Topics on which nothing is expected hold no stream: they are asked for once in a while, and when the tab is shown.
  async pollResting() {
    const resting = [...this.topics].filter((topic) => topic.isResting && !topic.hasEnded);
    if (document.hidden || !resting.length) return;
    const names = resting.map((topic) => `${topic.name}:${topic.after}`).join(",");
    const tell = (state) => {
      for (const topic of resting) topic.onState(state);
    };
    try {
      const response = await fetch(`${this.address}?topics=${names}&poll=1`, { cache: "no-store", redirect: "manual" });
      if (response.type === "opaqueredirect" || response.status === 401) return tell("logged-out");
      if (!response.ok) return tell("lost");
      const text = await response.text();
      tell("live");
      for (const block of splitBlocks(text).blocks) {
        const message = parseBlock(block);
        for (const topic of resting) if (topic.name === message.topic) topic.handle(message);
      }
    } catch {
      tell("lost");
    }
  }
}

let link = null;
let bell = null; // the notifications of the reader, which every page with a stream shows

function showBell(html) {
  const shown = document.querySelector("[data-bell]");
  if (shown) shown.outerHTML = html;
}

// Loaded where it is of use only: most people have not allowed notifications.
const notify = (json) =>
  globalThis.Notification?.permission === "granted" &&
  import("./browser_notifications.js").then(({ show }) => show(JSON.parse(json)));

export class Stream {
  // `after` is the number that the page has of the topic: of an event, or a time in milliseconds.
  // handlers: {event name: (data, id) => void}; onState: "live" | "lost" | "logged-out" | "gone"
  constructor(name, { after = 0, handlers, onState, isResting = false }) {
    Object.assign(this, { name, after, handlers, isResting });
    this.hasEnded = false;
    this.onState = (state) => this.hasEnded || onState(state);
    this.end = (state) => {
      onState(state);
      this.hasEnded = true;
    };
    if (!link) {
      link = new Link();
      bell = new Stream("bell", { handlers: { bell: showBell, notify }, onState() {} });
    }
    link.topics.add(this);
    link.want();
  }

  // A run that has finished needs no stream.
  rest(isResting) {
    clearTimeout(this.resting);
    if (isResting === this.isResting) return;
    const change = () => {
      this.isResting = isResting;
      link.want();
      link.pollResting();
    };
    if (isResting) this.resting = setTimeout(change, REST_AFTER_MS);
    else change();
  }

  handle({ event, id, data }) {
    if (event === "gone") {
      this.end(event);
      link.want();
      return;
    }
    if (id !== null && id <= this.after) return;
    const handler = this.handlers[event];
    if (handler) handler(data, id);
    if (id !== null) this.after = id;
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
      element.querySelector("a").hidden = state !== "logged-out";
    };
    if (state === "lost" && element.hidden) timer = setTimeout(show, 700);
    else show();
  };
}
