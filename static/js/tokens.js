// The form of a new token. A double click creates one token.
import "./copy.js";

const TWICE_MS = 3000; // the response to a second click would hide the first one, which shows the token
let sent = -Infinity;
document.querySelector("[data-sent-once]").addEventListener("submit", (event) => {
  if (event.timeStamp - sent < TWICE_MS) event.preventDefault();
  else sent = event.timeStamp;
});
