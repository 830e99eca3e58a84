// One person at work in one project: tasks held and fetched ahead, answers given, answers taken back.
// It knows no page; it fires `change` after each step and `notice` (detail: {text, lasting}) for what to tell.

import { pause } from "./api.js";
import { loadContent } from "./content.js";
import { pastAnswers } from "./past.js";

const HOLD = 3; // leases at a time: one to look at, two on their way
const CLAIM_AT_MOST = 20;
const LOOK_AGAIN_MS = 10_000;
const AWAY_MS = 600_000; // who does nothing for so long (and a lease's time) has left: leases are let go
const UNDO_AT_MOST = 50;
const KEEP_AT_MOST = 10; // answered examples kept in memory; older ones are fetched again
const LEAD_AT_MOST_MS = 86_400_000;

export class Desk extends EventTarget {
  #api;
  #outbox;
  #shown = null;
  #done = new Set(); // assignments answered here: a claim that was under way may still name them
  #touched = new Set(); // and those of which this page counts the answer itself
  #history = []; // answers that undo takes back, the newest last
  #earlier = new Map(); // task → labels of an answer that was not taken
  #claiming = false;
  #claimAgain = false;
  #fresh = true;
  #seenAt = Date.now();
  #before = null; // answers of before this page; null until they are counted
  #own = 0; // what this page added to them

  // `phase`: loading | task | finished | paused | refused; `queue[0]` is what is looked at.
  phase = "loading";
  reason = "";
  queue = [];
  waiting = null;

  constructor({ api, outbox, project, annotator }) {
    super();
    this.#api = api;
    this.#outbox = outbox;
    this.project = project;
    this.annotator = annotator;
    this.lease_ms = (project.leaseS || 600) * 1000;
    outbox.addEventListener("sent", ({ detail }) => this.#sent(detail));
    outbox.addEventListener("refused", ({ detail }) => this.#refused(detail));
  }

  get labels() {
    return this.project.schema.classification.labels;
  }

  get multiple() {
    return this.project.schema.classification.multiple;
  }

  get current() {
    return this.queue[0] ?? null;
  }

  // Whether the task in front can be answered now.
  get ready() {
    return this.phase === "task" && this.current?.content != null && this.current.content.kind !== "none";
  }

  get canUndo() {
    return this.#history.length > 0;
  }

  start() {
    this.#restore(this.#outbox.items);
    this.#outbox.start();
    this.claim();
    this.#countPast();
    setInterval(() => this.#renew(), Math.max(250, Math.min(15_000, this.lease_ms / 6)));
    setInterval(() => this.phase === "finished" && !document.hidden && this.claim(), LOOK_AGAIN_MS);
  }

  // Goes on with what an earlier page of this tab did not get sent.
  #restore(items) {
    for (const item of items) {
      this.#touched.add(item.name);
      if (item.kind === "undo") {
        this.#done.delete(item.name);
        if (item.of) this.#history = this.#history.filter((one) => one.item.id !== item.of);
      } else this.#done.add(item.name);
      if (item.kind === "submit") this.#history.push({ ...item, item });
    }
    this.#own = this.#history.length;
  }

  // How many answers of mine stand; null: not counted yet.
  get answered() {
    return this.#before === null ? null : this.#before + this.#own;
  }

  // Says that the person is there.
  seen() {
    this.#seenAt = Date.now();
  }

  toggle(label) {
    const { chosen } = this.current;
    if (!chosen.delete(label)) chosen.add(label);
    this.#changed();
  }

  // The answer that Enter gives: what is toggled, one's earlier answer, or the model's; null: none.
  get proposed() {
    if (!this.ready) return null;
    if (this.multiple) return this.labels.filter((label) => this.current.chosen.has(label));
    return this.current.earlier ?? this.current.prelabel;
  }

  answer(labels) {
    if (!this.ready) return;
    const held = this.queue.shift();
    const lead = Math.min(LEAD_AT_MOST_MS, Math.round(performance.now() - held.shownAt));
    const content = { kind: "submit", name: held.name, key: held.key, labels, leadMs: lead };
    this.#leave(held);
    this.#own += 1;
    const item = this.#outbox.push(content);
    this.#history.push({ ...content, item, held });
    if (this.#history.length > UNDO_AT_MOST) this.#history.shift();
    const old = this.#history.at(-1 - KEEP_AT_MOST);
    if (old) old.held = null;
    this.#next();
  }

  skip() {
    this.#giveBack("skip", "");
  }

  flag(comment) {
    this.#giveBack("flag", comment);
  }

  #giveBack(kind, comment) {
    if (this.phase !== "task") return;
    const held = this.queue.shift();
    this.#leave(held);
    this.#outbox.push({ kind, name: held.name, key: held.key, comment });
    this.#tell(kind === "skip" ? `${held.key} was left to others.` : `${held.key} was flagged for a reviewer.`);
    this.#next();
  }

  #leave(held) {
    this.#done.add(held.name);
    this.#touched.add(held.name);
    this.#earlier.delete(held.task);
  }

  // Takes the last answer back; its task is in front again, at once when this page still has it.
  undo() {
    const last = this.#history.pop();
    if (!last) {
      this.#tell("There is no answer of yours here that could be taken back.");
      return;
    }
    this.#touched.add(last.name);
    this.#own -= 1;
    if (!last.item || !this.#outbox.cancel(last.item)) {
      const of = last.item?.id ?? "";
      const { name, key, labels, annotation = "" } = last;
      this.#outbox.push({ kind: "undo", of, name, key, labels, annotation, bring: !last.held });
    }
    if (last.held) this.#bringBack(last.held, last.labels);
    else this.#tell(`Bringing back ${last.key} …`);
    this.#changed();
  }

  #bringBack(held, labels) {
    this.#done.delete(held.name);
    held.earlier = labels;
    held.chosen = new Set(labels);
    held.renewAt = Date.now() + this.lease_ms / 3;
    this.queue = [held, ...this.queue.filter((one) => one.name !== held.name)];
    if (!held.content) this.#fetch(held);
    this.#tell(`${held.key} is back. You had said: ${labels.join(", ") || "none"}.`);
    this.#next();
  }

  // Asks for tasks until HOLD are held. What is unsent still counts as held over there.
  async claim() {
    if (this.#claiming) {
      this.#claimAgain = true;
      return;
    }
    this.#claiming = true;
    const count = Math.min(CLAIM_AT_MOST, HOLD + this.#outbox.count);
    try {
      const given = await this.#api.patiently(() => this.#api.post(`/v1/${this.project.name}:claim`, { count }));
      await this.#take(given);
    } catch (refusal) {
      const paused = refusal.reason === "ANNOTATOR_PAUSED";
      if (this.queue.length && !paused) this.#tell(`No more tasks came: ${refusal.message}`);
      else this.#stop(refusal);
    }
    this.#claiming = false;
    if (this.#claimAgain) {
      this.#claimAgain = false;
      this.claim();
    }
  }

  async #take(given) {
    this.waiting = Number(given.waitingCount);
    const known = (name) => this.#done.has(name) || this.queue.some((held) => held.name === name);
    const news = given.assignments.filter((assignment) => !known(assignment.name));
    if (news.some((assignment) => assignment.schemaVersion > this.project.schema.version)) {
      this.project = await this.#api.patiently(() => this.#api.get(`/v1/${this.project.name}`));
    }
    for (const assignment of news) this.#add(assignment);
    this.#fresh = false;
    if (!this.queue.length && !this.#outbox.count) {
      if (given.assignments.length || this.waiting) pause(500).then(() => this.claim()); // in other hands just now
      else this.phase = "finished";
    }
    if (this.queue.length) this.phase = "task";
    this.#next();
  }

  #add(assignment, front = false) {
    const task = assignment.name.split("/assignments/")[0];
    const earlier = this.#earlier.get(task) ?? null;
    const prelabel = assignment.prelabel?.choice?.labels ?? null;
    const held = {
      name: assignment.name,
      task,
      key: assignment.key,
      prelabel,
      earlier,
      chosen: new Set(earlier ?? prelabel ?? []),
      content: null,
      shownAt: 0,
      renewAt: this.#fresh ? 0 : Date.now() + this.lease_ms / 3, // the first may be of before this page
    };
    if (front) this.queue.unshift(held);
    else if (earlier) this.queue.splice(1, 0, held);
    else this.queue.push(held);
    this.#fetch(held);
    return held;
  }

  async #fetch(held) {
    const content = await loadContent(this.#api, held.task, () => this.queue.includes(held));
    if (content.refusal?.reason === "LEASE_EXPIRED") {
      this.#lose(held, content.refusal);
      return;
    }
    if (content.refusal?.passing) return; // nobody waits for it any more
    held.content = content;
    if (this.current === held) this.#next();
  }

  // Shows what is in front, and sees to it that more comes.
  #next() {
    const held = this.current;
    if (held?.content && held !== this.#shown) {
      this.#shown = held;
      held.shownAt = performance.now();
    }
    if (!held) {
      this.#shown = null;
      if (this.phase === "task") this.phase = "loading";
    } else if (this.phase === "finished" || this.phase === "loading") this.phase = "task";
    this.#changed();
    const few = this.queue.length < HOLD && (this.#outbox.count === 0 || this.queue.length <= 1);
    if (few && this.phase !== "finished" && (this.phase === "task" || this.phase === "loading")) this.#fill();
  }

  #fill() {
    if (this.waiting === 0 && this.queue.length) return; // nothing is left to ask for
    if (!this.#claiming) this.claim();
  }

  #sent({ item, result }) {
    if (item.kind === "submit") {
      const entry = this.#history.find((one) => one.item?.id === item.id);
      if (entry) entry.annotation = result.name;
    }
    if (item.kind === "undo" && item.bring && !this.queue.some((held) => held.name === item.name)) {
      this.#bringBack(this.#add(result, true), item.labels);
    }
    this.#next();
  }

  // An answer was not taken: it is told, kept, and comes back when the task does.
  #refused({ item, refusal }) {
    const answer = `Your answer “${item.labels?.join(", ")}” for`;
    const what = { submit: answer, undo: "Taking back", skip: "Skipping", flag: "Flagging" }[item.kind];
    this.#tell(`${what} ${item.key} was refused: ${refusal.message}`, true);
    if (item.kind === "undo") {
      this.queue = this.queue.filter((held) => held.name !== item.name);
      this.#done.add(item.name);
      this.#own += 1;
    } else {
      if (item.kind === "submit") {
        this.#own -= 1;
        this.#history = this.#history.filter((one) => one.item?.id !== item.id);
        this.#earlier.set(item.name.split("/assignments/")[0], item.labels);
      }
      this.#done.delete(item.name);
    }
    if (refusal.reason === "ANNOTATOR_PAUSED") this.#stop(refusal);
    else this.claim();
    this.#next();
  }

  #lose(held, refusal) {
    if (this.#done.has(held.name) || !this.queue.includes(held)) return;
    const front = this.current === held;
    this.queue = this.queue.filter((one) => one !== held);
    if (front) this.#tell(`${held.key} was taken back from you: ${refusal.message}`);
    if (refusal.reason === "ANNOTATOR_PAUSED") this.#stop(refusal);
    else this.claim();
    this.#next();
  }

  #stop(refusal) {
    const paused = refusal.reason === "ANNOTATOR_PAUSED";
    this.phase = paused ? "paused" : "refused";
    this.reason = paused ? (refusal.metadata.reason ?? refusal.message) : refusal.message;
    if (paused) this.queue = [];
    this.#changed();
  }

  // Prolongs leases while somebody is there to use them.
  #renew() {
    const now = Date.now();
    if (now - this.#seenAt > Math.max(AWAY_MS, this.lease_ms)) return;
    for (const held of this.queue) {
      if (held.renewAt > now) continue;
      held.renewAt = now + this.lease_ms / 3;
      this.#api.post(`/v1/${held.name}:renew`, {}).catch((refusal) => {
        if (refusal.passing || refusal.code >= 500) held.renewAt = 0;
        else if (!this.#outbox.items.some((item) => item.name === held.name)) this.#lose(held, refusal);
      });
    }
  }

  async #countPast() {
    const past = await pastAnswers(this.#api, this.project.name, this.annotator).catch(() => null);
    if (!past) return;
    const others = past.filter((one) => !this.#touched.has(one.name));
    this.#before = others.length;
    this.#history.unshift(...others.slice(-UNDO_AT_MOST));
    this.#changed();
  }

  #tell(text, lasting = false) {
    this.dispatchEvent(new CustomEvent("notice", { detail: { text, lasting } }));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
