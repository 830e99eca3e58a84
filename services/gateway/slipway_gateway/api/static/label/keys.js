// Which key means what. Labels take 1 … 9, 0, then the letters that no action has.

export const ACTIONS = { u: "undo", s: "skip", f: "flag", "?": "help", Enter: "enter" };
export const LABEL_KEYS = [..."1234567890abcdeghijklmnopqrtvwxyz"];

// Returns the index of the label of a key press, or -1. Where figures need Shift (AZERTY), their place counts.
export function labelOf(event) {
  const place = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
  const letter = event.key.length === 1 ? event.key.toLowerCase() : "";
  const found = LABEL_KEYS.indexOf(letter);
  return found >= 0 || !place ? found : LABEL_KEYS.indexOf(place[1]);
}

// Whether a key press is meant for the page: no shortcut of the browser, no held key, no field to type in.
export function isForPage(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return false;
  return !event.target.closest?.("dialog, input, textarea, select");
}
