// A button that copies a new token; without it the field can be copied by hand.
(() => {
  "use strict";
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
      document.execCommand("copy"); // without HTTPS there is no clipboard to write to
    }
    label.textContent = button.dataset.copied;
    document.getElementById("announcer").textContent = button.dataset.copied;
  });
})();
