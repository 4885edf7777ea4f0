// The SharedWorker that holds the stream of all tabs of a browser.
import { Hub } from "./hub.js";

const hub = new Hub("/events/");
self.addEventListener("online", () => hub.hurry());
self.addEventListener("connect", (event) => {
  const [port] = event.ports;
  const send = (message) => port.postMessage(message);
  port.addEventListener("message", ({ data }) => {
    if (data.leave) hub.leave(send);
    else hub.want(send, data.want);
  });
  port.start();
});
