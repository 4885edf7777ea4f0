// Asks the browser for its permission when the reader clicks, and shows what it has answered.
const box = document.querySelector("[data-browser]");
const button = box.querySelector("button");
const text = box.querySelector("[data-text]");

function show() {
  const state = globalThis.Notification ? Notification.permission : "unsupported";
  text.textContent = box.dataset[state];
  button.hidden = state !== "default";
  box.hidden = false;
}

button.addEventListener("click", async () => {
  await Notification.requestPermission();
  show();
});
show();
