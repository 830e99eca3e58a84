// What is on the page. Texts of others are set as text, never as HTML.

import { LABEL_KEYS } from "./keys.js";

const PIXELS_UP_TO = 3; // an image shown larger than this shows its pixels, sharp
const NOTICE_MS = 5000;
const MANY_LABELS = 9; // that many fit below each other

export const el = (id) => document.getElementById(id);

// Returns an element with properties and children.
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function show(id, visible) {
  el(id).hidden = !visible;
}

// Shows one of the main sections, or the line that says what is waited for.
export function showSection(id, waitingFor = "Loading …") {
  for (const one of ["loading", "projects", "work", "end"]) show(one, one === id);
  el("loading").textContent = waitingFor;
}

export function showTrouble(text) {
  show("trouble", text !== "");
  const kept = "What you answer is kept here and sent when it is back.";
  el("trouble").textContent = text && `The server does not answer (${text}). ${kept}`;
}

// Adds a message; a lasting one stays until it is closed.
export function showNotice({ text, lasting = false }) {
  const item = make("li", { className: lasting ? "lasting" : "" }, make("span", { textContent: text }));
  const gone = () => item.remove();
  for (const old of el("notices").querySelectorAll("li:not(.lasting)")) old.remove();
  if (lasting) item.append(make("button", { type: "button", className: "quiet", textContent: "Close", onclick: gone }));
  else setTimeout(gone, NOTICE_MS);
  el("notices").append(item);
}

export function showProjects(projects) {
  const cards = projects.map((project) => {
    const open = Number(project.taskCounts?.OPEN ?? 0);
    const link = make("a", { href: `/label/${project.name.split("/")[1]}`, className: "card" });
    link.append(make("b", { textContent: titleOf(project) }));
    const { instructions } = project.schema;
    if (instructions) link.append(make("span", { className: "clip", textContent: instructions }));
    const counts = `${plural(open, "open task")} · ${plural(Number(project.annotationCount), "answer")} so far`;
    link.append(make("span", { className: "faint", textContent: counts }));
    return make("li", {}, link);
  });
  const none = make("li", { className: "faint", textContent: "There is no labelling project yet." });
  el("project-list").replaceChildren(...(cards.length ? cards : [none]));
}

export function titleOf(project) {
  return project.displayName || project.name.split("/")[1];
}

export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

// Makes the buttons of the labels; `choose(index)` is called with a click.
export function makeLabels(desk, choose) {
  const buttons = desk.labels.map((label, index) => {
    const key = make("kbd", { textContent: LABEL_KEYS[index] ?? "" });
    const name = make("span", { className: "name", textContent: label });
    const button = make("button", { type: "button" }, key, name, make("span", { className: "mark" }));
    button.addEventListener("click", (event) => choose(index, event));
    return button;
  });
  el("labels").replaceChildren(...buttons);
  el("labels").classList.toggle("many", buttons.length > MANY_LABELS);
}

export function showLabels(desk) {
  const { current, ready } = desk;
  const own = new Set(current?.earlier ?? []);
  const model = new Set(current?.prelabel ?? []);
  [...el("labels").children].forEach((button, index) => {
    const label = desk.labels[index];
    button.disabled = !ready;
    button.classList.toggle("proposed", !desk.multiple && Boolean(desk.proposed?.includes(label)));
    if (desk.multiple) button.setAttribute("aria-pressed", String(ready && current.chosen.has(label)));
    const marks = [own.has(label) && "yours", model.has(label) && "model"].filter(Boolean);
    button.querySelector(".mark").textContent = marks.join(" · ");
  });
}

// Says in a line what Enter does now.
export function hintOf(desk) {
  const { current, ready } = desk;
  if (current?.content?.kind === "none") return "Skip it, or flag it so that somebody looks into it.";
  if (!ready) return "";
  if (desk.multiple) return "Choose all that hold, then Enter.";
  if (current.earlier) return "You answered this before: Enter gives the same answer, a key another.";
  if (current.prelabel) return "The model proposes an answer: Enter accepts it, a key gives another.";
  return "";
}

// Puts a task's example on the stage; nothing is there while it is on its way.
export function showStage(held) {
  const stage = el("stage");
  const task = held?.content ? held.name : "";
  if (stage.dataset.task === task && task) return;
  stage.replaceChildren(held?.content ? contentOf(held) : make("p", { className: "faint", textContent: "…" }));
  stage.dataset.task = task;
  stage.dataset.key = task ? held.key : "";
  stage.scrollTop = 0;
  fitImage();
}

function contentOf({ key, content }) {
  if (content.kind === "text") return make("pre", { textContent: content.text, tabIndex: 0, ariaLabel: "Text to label" });
  if (content.kind === "none") return make("p", { className: "wrong", textContent: `${key}: ${content.trouble}.` });
  content.image.alt = `Image to label, ${key}`;
  return content.image;
}

// Makes the image as large as the stage lets it; a small one by whole pixels, not blurred.
export function fitImage() {
  const stage = el("stage");
  const image = stage.querySelector("img");
  if (!image) return;
  const [width, height] = [image.naturalWidth || 300, image.naturalHeight || 300];
  const free = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  const scale = free >= 2 ? Math.floor(free) : free;
  image.style.width = `${Math.max(1, Math.round(width * scale))}px`;
  image.style.height = `${Math.max(1, Math.round(height * scale))}px`;
  image.classList.toggle("pixels", scale > PIXELS_UP_TO);
}

export function showProgress({ answered, waiting, queue, phase }) {
  const capped = waiting >= 100; // the service counts no further
  const left = (waiting ?? 0) + queue.length;
  el("answered").textContent = answered === null ? "…" : answered.toLocaleString("en");
  el("waiting").textContent = waiting === null ? "…" : `${left}${capped ? "+" : ""}`;
  const whole = answered !== null && waiting !== null && !capped && answered + left > 0;
  show("bar", whole);
  if (whole) Object.assign(el("bar"), { max: answered + left, value: answered });
  show("progress", phase !== "refused");
}

export function showUnsent(count) {
  show("unsent", count > 0);
  el("unsent").textContent = count ? `${count} unsent` : "";
}

const ENDS = {
  finished: ["Nothing is left for you here", "Thank you. This page looks again by itself: tasks may come back from others."],
  paused: [
    "You are paused in this project",
    "You get no tasks of it for now. An engineer or a reviewer can let you go on. The reason:",
  ],
  refused: ["This does not work", "The server says:"],
};

export function showEnd({ phase, reason, answered, canUndo }) {
  const [title, text] = ENDS[phase];
  const count = phase === "finished" && answered ? ` You answered ${plural(answered, "task")}.` : "";
  el("end-title").textContent = title;
  el("end-text").textContent = text + count;
  el("end-reason").textContent = reason;
  show("end-reason", phase !== "finished");
  show("end-undo", phase === "finished" && canUndo);
  el("again").textContent = phase === "finished" ? "Look again" : "Try again";
}
