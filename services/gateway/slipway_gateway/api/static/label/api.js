// Calls of the REST door: one refusal type, patience with a server that is away, and a signal when it is.

const TIMEOUT_MS = 20_000;
const REFUSED_AT_MOST = 3; // tokens in a row
const PASSING = new Set([0, 408, 429, 499, 502, 503, 504]);

// Why a call was not answered as asked. `code` is the HTTP status, 0 when no answer came at all.
export class Refusal extends Error {
  constructor(code, reason, message, metadata = {}) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.metadata = metadata;
  }

  // Whether the same call may succeed a moment later.
  get passing() {
    return PASSING.has(this.code);
  }
}

// Sends one request and returns its JSON; throws a Refusal.
export async function request(method, path, token, body) {
  const headers = { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer, document;
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    answer = await fetch(path, { method, headers, body: JSON.stringify(body), signal, credentials: "omit" });
    document = await answer.json().catch((error) => {
      if (answer.ok) throw error;
      return {}; // a proxy's error page
    });
  } catch {
    throw new Refusal(0, "NO_ANSWER", "the server cannot be reached");
  }
  if (answer.ok) return document;
  const { message, status, details = [] } = document.error ?? {};
  const info = details.find((detail) => detail["@type"]?.endsWith("google.rpc.ErrorInfo")) ?? {};
  const text = message ?? `the server answered ${answer.status} to ${method} ${path}`;
  throw new Refusal(answer.status, info.reason ?? status ?? "", text, info.metadata);
}

// Returns a promise that is kept after `ms` milliseconds.
export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// The pause before try `tries` + 1: doubled each time, spread so that many pages do not come at once.
export function backoffMs(tries) {
  return Math.min(3000, 200 * 2 ** tries) * (0.75 + Math.random() / 2);
}

// Calls as somebody. Fires `trouble` (detail: text, empty when over) as the server goes away and comes back.
export class Api extends EventTarget {
  #session;
  #trouble = "";

  constructor(session) {
    super();
    this.#session = session;
  }

  get(path, query = {}) {
    const search = new URLSearchParams(query).toString();
    return this.#call("GET", search ? `${path}?${search}` : path);
  }

  post(path, body) {
    return this.#call("POST", path, body);
  }

  // Repeats `call` until its outcome is not a passing one, or `wanted()` is false.
  async patiently(call, wanted = () => true) {
    for (let tries = 0; ; tries += 1) {
      try {
        return await call();
      } catch (error) {
        if (!error.passing || !wanted()) throw error;
        await pause(backoffMs(tries));
      }
    }
  }

  async #call(method, path, body) {
    for (let tries = 1; ; tries += 1) {
      try {
        const token = await this.#session.token();
        const document = await request(method, path, token, body);
        this.#report("");
        return document;
      } catch (error) {
        if (error.code === 401) this.#session.renew(); // the next token is a fresh one, or its owner is asked
        if (error.code === 401 && tries < REFUSED_AT_MOST) continue;
        // A fresh token that is refused is no fault of what was sent: that is kept and tried again.
        const told = error.code === 401 ? new Refusal(0, error.reason, error.message) : error;
        this.#report(told.passing ? told.message : "");
        throw told;
      }
    }
  }

  #report(text) {
    if (text === this.#trouble) return;
    this.#trouble = text;
    this.dispatchEvent(new CustomEvent("trouble", { detail: text }));
  }
}
