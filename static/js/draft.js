// A draft of the form of a new run, which is kept in the browser.

/** The key under which the draft is stored. */
export const KEY = "studio-draft-run";

/** The run that the draft was submitted for exists: its page is open. */
export function forgetSubmitted() {
  try {
    if (JSON.parse(localStorage.getItem(KEY))?.submitted) localStorage.removeItem(KEY);
  } catch {
    // a damaged draft is not offered either
  }
}

/** The entries of a form that are kept: [[name, value], ...] without secrets, files and buttons. */
export function entriesOf(pairs) {
  return pairs.filter(([name, value]) => name !== "csrfmiddlewaretoken" && typeof value === "string");
}

/** Whether two lists of entries are the same, in any order. */
export function sameEntries(one, other) {
  const text = (entries) => JSON.stringify([...entries].sort((a, b) => (`${a}` < `${b}` ? -1 : 1)));
  return text(one) === text(other);
}

/** A stored draft, or null where there is none that can be used: another form, damaged, or older than `maxAgeMs`. */
export function readDraft(text, form, now, maxAgeMs) {
  try {
    const draft = JSON.parse(text);
    if (draft.form !== form || !Array.isArray(draft.entries) || now - draft.time > maxAgeMs) return null;
    return draft;
  } catch {
    return null;
  }
}
