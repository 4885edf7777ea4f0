// A button that copies a new token; without scripts the field can be copied by hand. A double click creates one token.
(() => {
  "use strict";
  const TWICE_MS = 3000; // the response to a second click would hide the first one, which shows the token
  let sent = -Infinity;
  document.querySelector("[data-sent-once]").addEventListener("submit", (event) => {
    if (event.timeStamp - sent < TWICE_MS) event.preventDefault();
    else sent = event.timeStamp;
  });

  const button = document.querySelector("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  const label = button.querySelector("span");
  button.hidden = false;
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      document.execCommand("copy"); // the clipboard API needs HTTPS
    }
    label.textContent = button.dataset.copied;
    document.getElementById("announcer").textContent = button.dataset.copied;
  });
})();
