// Scripts of every page: menus that close, errors that htmx reports, protection against outdated headers.
(() => {
  "use strict";

  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target) || event.target.closest(".menu-item")) menu.open = false;
    }
  });
  // An opened <details> stays open and a selected row selected when the part around it is rendered again, and what says so
  // is left as it is: a name that is being edited, charts that are drawn.
  if (window.Idiomorph) {
    Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
      !(name === "open" && node.matches("details")) && !(name === "checked" && node.matches("[data-select]"));
    Idiomorph.defaults.callbacks.beforeNodeMorphed = (node) => node.dataset?.keep === undefined;
  }
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  // The palette opens with Ctrl+K or a click, the list of shortcuts with ? (which the reader can turn off).
  const searching = document.querySelector("[data-palette]");
  const openPalette = (event, part) => {
    event.preventDefault();
    import("./palette.js").then(({ open }) => open(part));
  };
  searching?.addEventListener("click", (event) => event.ctrlKey || event.metaKey || event.shiftKey || openPalette(event, "dialog"));
  document.addEventListener("keydown", (event) => {
    if (!searching || event.altKey || event.defaultPrevented) return;
    const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") openPalette(event, "dialog");
    else if (event.key === "?" && !isTyping && !localStorage.getItem("studio-no-help-key")) openPalette(event, "shortcuts");
  });

  const messages = document.getElementById("messages");
  let hiding = 0;

  function showProblem(text) {
    show(text, "notice-error", "bi-x-octagon-fill");
  }

  // The notice covers the page and moves nothing: a second click must not hit another button.
  function show(text, level, symbol) {
    const notice = document.createElement("div");
    notice.className = `notice ${level}`;
    const icon = document.createElement("i");
    icon.className = `bi ${symbol}`;
    icon.setAttribute("aria-hidden", "true");
    const body = document.createElement("div");
    body.className = "notice-body";
    body.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "notice-close";
    close.setAttribute("aria-label", messages.dataset.close);
    const cross = document.createElement("i");
    cross.className = "bi bi-x-lg";
    cross.setAttribute("aria-hidden", "true");
    close.append(cross);
    close.addEventListener("click", () => notice.remove());
    notice.append(icon, body, close);
    messages.classList.add("messages-above");
    messages.replaceChildren(notice);
    clearTimeout(hiding);
    if (level === "notice-info") hiding = setTimeout(() => notice.remove(), 8000);
  }

  document.addEventListener("studio:problem", (event) => showProblem(event.detail.message));
  document.addEventListener("studio:notice", (event) => show(event.detail.message, "notice-info", "bi-info-circle-fill"));
  document.addEventListener("htmx:responseError", (event) => {
    const texts = messages.dataset;
    const status = event.detail.xhr.status;
    showProblem(status === 403 ? texts.forbidden : texts.failed);
  });
  document.addEventListener("htmx:sendError", () => {
    showProblem(messages.dataset.unreachable);
    untilReachable(messages.firstElementChild);
  });

  // The notice that the server cannot be reached is removed as soon as it answers again.
  function untilReachable(notice) {
    setTimeout(async () => {
      if (!notice.isConnected) return;
      const response = await fetch("/healthz", { cache: "no-store" }).catch(() => null);
      if (response?.ok) notice.remove();
      else untilReachable(notice);
    }, 1500);
  }

  // A header that is older than the one on the page must not replace it, whichever response brings it.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    const shown = target?.dataset.version;
    const match = shown && /data-version="([\d.]+)"/.exec(event.detail.serverResponse || "");
    if (match && Number(match[1]) < Number(shown)) event.detail.shouldSwap = false;
    // The login page instead of a part means that the session has ended.
    if (/data-login-page/.test(event.detail.serverResponse || "")) {
      event.detail.shouldSwap = false;
      location.reload();
    }
  });
})();
