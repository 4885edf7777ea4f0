// Notifications of the browser: those that this browser has not shown yet, where the reader has allowed them.
const KEY = "studio-notified";

const known = () => {
  try {
    return Number(localStorage.getItem(KEY)) || 0;
  } catch {
    return 0; // storage is blocked: the tags still keep the browser from showing one twice at a time
  }
};

// Those with a higher number than `last`, the oldest first.
export const unseen = (items, last) => items.filter(({ id }) => id > last).sort((a, b) => a.id - b.id);

// items: [{id, title, text, url}]
export function show(items) {
  const fresh = unseen(items, known());
  if (!fresh.length || globalThis.Notification?.permission !== "granted") return;
  try {
    localStorage.setItem(KEY, fresh.at(-1).id);
  } catch {
    // see above
  }
  for (const { id, title, text, url } of fresh) {
    const shown = new Notification(title, { body: text, tag: `studio-${id}`, icon: document.querySelector("link[rel=icon]").href });
    shown.addEventListener("click", () => {
      window.focus();
      location.assign(url);
    });
  }
}
