// Who is at work: an API token, kept while the tab is open, and the short JWT that it is exchanged for.

import { request } from "./api.js";

const KEPT = "slipway.api-token";
const RENEW_AT = 2 / 3; // of a JWT's life

export class Session {
  #ask;
  #secret;
  #jwt = "";
  #renewAt = 0;
  #endsAt = 0;
  #exchanging = null;
  #asking = null;
  subject = "";

  // `ask(trouble)` lets a person sign in, by `signIn`, and returns when that is done.
  constructor(ask) {
    this.#ask = ask;
    this.#takeFragment();
    this.#secret = sessionStorage.getItem(KEPT) ?? "";
    addEventListener("hashchange", () => {
      if (this.#takeFragment()) location.reload();
    });
  }

  // Takes `#token=…` from the address, so that it is in no bookmark and no history.
  #takeFragment() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!given) return false;
    sessionStorage.setItem(KEPT, given.trim());
    history.replaceState(null, "", location.pathname + location.search);
    return true;
  }

  // Returns a JWT that is good for a while; asks for an API token when there is no good one.
  async token() {
    for (;;) {
      if (this.#jwt && Date.now() < this.#renewAt) return this.#jwt;
      let trouble = "";
      if (this.#secret) {
        try {
          this.#exchanging ??= this.#exchange(this.#secret).finally(() => (this.#exchanging = null));
          await this.#exchanging;
          continue;
        } catch (error) {
          if (error.code !== 401) {
            if (this.#jwt && Date.now() < this.#endsAt) return this.#jwt;
            throw error;
          }
          trouble = error.message;
        }
      }
      this.#asking ??= this.#ask(trouble).finally(() => (this.#asking = null));
      await this.#asking;
    }
  }

  // Tries an API token; throws a Refusal when it is not good.
  async signIn(secret) {
    const given = await request("POST", "/v1/auth:exchange", secret);
    sessionStorage.setItem(KEPT, secret);
    if (this.subject && this.subject !== subjectOf(given.access_token)) {
      location.reload(); // somebody else: nothing shown here is theirs, and nothing unsent may go out as theirs
      await new Promise(() => {});
    }
    this.#secret = secret;
    this.#keep(given);
  }

  signOut() {
    sessionStorage.removeItem(KEPT);
    location.assign("/label");
  }

  // Makes the next call ask for a fresh JWT.
  renew() {
    this.#jwt = "";
  }

  async #exchange(secret) {
    this.#keep(await request("POST", "/v1/auth:exchange", secret));
  }

  #keep(given) {
    this.#jwt = given.access_token;
    this.#renewAt = Date.now() + given.expires_in * 1000 * RENEW_AT;
    this.#endsAt = Date.now() + given.expires_in * 1000;
    this.subject = subjectOf(given.access_token);
  }
}

// Returns who a JWT names (RFC 7519, `sub`).
function subjectOf(jwt) {
  const claims = jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  return JSON.parse(atob(claims)).sub;
}
