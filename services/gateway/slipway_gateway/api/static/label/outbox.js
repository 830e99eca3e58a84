// Answers on their way: sent one after another in their order, each until the server took or refused it.
// They are kept with the tab, too, so that a reload loses none; `id` is the request_id, so none is doubled.

import { backoffMs, pause } from "./api.js";

const FAULTS_AT_MOST = 5; // of a server that answers with an error of its own

// Fires `change`, `sent` (detail: {item, result}) and `refused` (detail: {item, refusal}).
export class Outbox extends EventTarget {
  #key;
  #send;
  #items;
  #tried = new Set();
  #running = false;

  // `send(item)` makes the call; `key` names the place in the tab's storage.
  constructor(key, send) {
    super();
    this.#key = key;
    this.#send = send;
    this.#items = JSON.parse(sessionStorage.getItem(key) ?? "[]");
    for (const item of this.#items) this.#tried.add(item.id);
  }

  get count() {
    return this.#items.length;
  }

  // What an earlier page of this tab left here.
  get items() {
    return [...this.#items];
  }

  start() {
    if (!this.#running && this.#items.length) this.#run();
  }

  // Takes an item and returns it with its id.
  push(content) {
    const item = { id: newId(), ...content };
    this.#items.push(item);
    this.#changed();
    this.start();
    return item;
  }

  // Takes an item out that was never on its way; returns whether it could.
  cancel(item) {
    const index = this.#items.findIndex((one) => one.id === item.id);
    if (index < 0 || this.#tried.has(item.id)) return false;
    this.#items.splice(index, 1);
    this.#changed();
    return true;
  }

  async #run() {
    this.#running = true;
    let tries = 0;
    while (this.#items.length) {
      const item = this.#items[0];
      this.#tried.add(item.id);
      try {
        const result = await this.#send(item);
        this.#end(item);
        for (const later of this.#items) if (later.of === item.id) later.annotation = result.name;
        this.#changed();
        this.dispatchEvent(new CustomEvent("sent", { detail: { item, result } }));
        tries = 0;
      } catch (refusal) {
        tries += 1;
        if (refusal.passing || (refusal.code >= 500 && tries < FAULTS_AT_MOST)) {
          await pause(backoffMs(tries));
          continue;
        }
        this.#end(item);
        this.#items = this.#items.filter((later) => later.of !== item.id);
        this.#changed();
        this.dispatchEvent(new CustomEvent("refused", { detail: { item, refusal } }));
        tries = 0;
      }
    }
    this.#running = false;
  }

  #end(item) {
    this.#items.splice(this.#items.indexOf(item), 1);
    this.#tried.delete(item.id);
  }

  #changed() {
    try {
      if (this.#items.length) sessionStorage.setItem(this.#key, JSON.stringify(this.#items));
      else sessionStorage.removeItem(this.#key);
    } catch {
      // No room in the tab's storage: what is in memory is sent all the same.
    }
    this.dispatchEvent(new Event("change"));
  }
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID needs https
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
