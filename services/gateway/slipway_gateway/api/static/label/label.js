// The labelling page: who it is, which project, and then task after task.

import { Api } from "./api.js";
import { Desk } from "./desk.js";
import { ACTIONS, isForPage, labelOf } from "./keys.js";
import { Outbox } from "./outbox.js";
import { Session } from "./session.js";
import * as view from "./view.js";

const { el } = view;
const PROJECTS_PER_PAGE = 1000;

const session = new Session(signIn);
const api = new Api(session);

// Lets a person sign in; returns when that is done.
function signIn(trouble) {
  const [box, form, secret] = [el("sign-in"), el("sign-in-form"), el("secret")];
  el("sign-in-trouble").textContent = trouble && `The token was not accepted: ${trouble}.`;
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
  box.oncancel = (event) => event.preventDefault(); // there is nothing behind it
  box.showModal();
  return new Promise((resolve) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      button.disabled = true;
      try {
        await session.signIn(secret.value.trim());
      } catch (refusal) {
        const again = refusal.passing ? "; try again in a moment" : "";
        el("sign-in-trouble").textContent = `That did not work: ${refusal.message}${again}.`;
        secret.select();
        return;
      } finally {
        button.disabled = false;
      }
      secret.value = "";
      box.close();
      resolve();
    };
  });
}

async function openProjects() {
  const found = [];
  let pageToken = "";
  do {
    const query = { pageSize: PROJECTS_PER_PAGE, pageToken };
    const page = await api.patiently(() => api.get("/v1/labelingProjects", query));
    found.push(...page.projects);
    pageToken = page.nextPageToken;
  } while (pageToken);
  view.showProjects(found);
  view.showSection("projects");
  el("project-list").querySelector("a")?.focus();
}

async function openProject(id) {
  const { subject } = session;
  const outbox = new Outbox(`slipway.unsent.${subject}.${id}`, send);
  outbox.addEventListener("change", () => view.showUnsent(outbox.count));
  view.showUnsent(outbox.count);
  addEventListener("beforeunload", (event) => outbox.count && event.preventDefault());
  const project = await api.patiently(() => api.get(`/v1/labelingProjects/${encodeURIComponent(id)}`));
  const desk = new Desk({ api, outbox, project, annotator: subject.replace("users/", "annotators/") });
  document.title = `${view.titleOf(project)} · Slipway`;
  el("title").textContent = view.titleOf(project);
  view.show("open-help", true);
  connect(desk, outbox);
  desk.start();
}

// Makes the call of one item of the outbox.
function send({ kind, id, name, annotation, labels, leadMs, comment }) {
  const requestId = id;
  if (kind === "submit") return api.post(`/v1/${name}:submit`, { answer: { choice: { labels } }, leadMs, requestId });
  if (kind === "undo") return api.post(`/v1/${annotation}:undo`, { requestId });
  return api.post(`/v1/${name}:${kind}`, { comment, requestId });
}

function connect(desk, outbox) {
  let made = null;
  const draw = () => {
    if (made !== desk.project) {
      view.makeLabels(desk, (index, event) => choose(desk, index, event));
      el("instructions").textContent = desk.project.schema.instructions;
      view.show("instructions", desk.project.schema.instructions !== "");
      made = desk.project;
    }
    render(desk, outbox);
  };
  desk.addEventListener("change", draw);
  desk.addEventListener("notice", ({ detail }) => view.showNotice(detail));
  connectKeys(desk);
  connectButtons(desk);
  addEventListener("resize", view.fitImage);
  for (const kind of ["keydown", "pointerdown", "pointermove"]) addEventListener(kind, () => desk.seen());
}

function render(desk, outbox) {
  view.showProgress(desk);
  if (desk.phase === "loading") view.showSection("loading", outbox.count ? "Sending your answers …" : "Loading …");
  else if (desk.phase === "task") view.showSection("work");
  else {
    view.showSection("end");
    view.showEnd(desk);
  }
  view.showStage(desk.phase === "task" ? desk.current : null);
  view.showLabels(desk);
  el("hint").textContent = view.hintOf(desk);
  view.show("submit", desk.multiple);
  const chosen = desk.ready ? desk.proposed?.length : 0;
  el("submit").replaceChildren(view.make("kbd", { textContent: "Enter" }), ` Submit ${view.plural(chosen ?? 0, "label")}`);
  el("submit").disabled = !desk.ready;
  el("undo").disabled = !desk.canUndo;
}

function choose(desk, index, event) {
  const label = desk.labels[index];
  if (label === undefined || !desk.ready) return;
  if (desk.multiple) desk.toggle(label);
  else desk.answer([label]);
  if (event?.detail) el("main").focus({ preventScroll: true }); // a click of the mouse: the keys are the page's again
}

function connectKeys(desk) {
  const enter = () => desk.proposed && desk.answer(desk.proposed);
  const actions = { undo: () => desk.undo(), skip: () => desk.skip(), enter };
  actions.flag = () => openFlag(desk);
  actions.help = () => openHelp(desk);
  addEventListener("keydown", (event) => {
    if (!isForPage(event)) return;
    if (event.key === "Enter" && event.target.closest?.("button, a")) return; // it presses that one
    const name = ACTIONS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const index = labelOf(event);
    if (!name && index < 0) return;
    event.preventDefault();
    if (name) actions[name]();
    else choose(desk, index);
  });
}

function connectButtons(desk) {
  const again = () => {
    view.showSection("loading");
    desk.claim();
  };
  const clicks = { undo: () => desk.undo(), "end-undo": () => desk.undo(), skip: () => desk.skip(), again };
  clicks.flag = () => openFlag(desk);
  clicks["open-help"] = () => openHelp(desk);
  clicks.submit = () => desk.proposed && desk.answer(desk.proposed);
  for (const [id, act] of Object.entries(clicks)) {
    el(id).addEventListener("click", (event) => {
      if (event.detail) el("main").focus({ preventScroll: true });
      act();
    });
  }
}

// Asks what is wrong; Enter sends, Shift+Enter makes a new line.
function openFlag(desk) {
  if (desk.phase !== "task") return;
  const [box, form, comment] = [el("flag-box"), el("flag-form"), el("comment")];
  const held = desk.current;
  comment.value = "";
  el("flag-cancel").onclick = () => box.close();
  comment.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    const text = comment.value.trim();
    if (!text) return;
    box.close();
    if (desk.current === held) desk.flag(text);
  };
  box.showModal();
}

function openHelp(desk) {
  el("help-labels").textContent = desk.multiple ? "choose a label, or unchoose it" : "answer with this label, and go on";
  el("help-enter").textContent = desk.multiple
    ? "submit what is chosen, and go on"
    : "accept the answer that is marked (the model's, or your earlier one)";
  el("help").showModal();
}

async function start() {
  api.addEventListener("trouble", ({ detail }) => view.showTrouble(detail));
  el("sign-out").addEventListener("click", () => session.signOut());
  const id = decodeURIComponent(location.pathname.split("/")[2] ?? "");
  try {
    await api.patiently(() => session.token());
    el("who").textContent = session.subject.replace("users/", "");
    view.show("who", true);
    view.show("sign-out", true);
    await (id ? openProject(id) : openProjects());
  } catch (refusal) {
    view.showSection("end");
    view.showEnd({ phase: "refused", reason: refusal.message });
    el("again").onclick = () => location.reload();
  }
}

start();
