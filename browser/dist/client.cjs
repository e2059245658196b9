/*! hypertoken-worker, Apache-2.0: see LICENSE and NOTICE */
"use strict";
var __defProp = Object.defineProperty;
var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
var __getOwnPropNames = Object.getOwnPropertyNames;
var __hasOwnProp = Object.prototype.hasOwnProperty;
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};
var __copyProps = (to, from, except, desc) => {
  if (from && typeof from === "object" || typeof from === "function") {
    for (let key of __getOwnPropNames(from))
      if (!__hasOwnProp.call(to, key) && key !== except)
        __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
  }
  return to;
};
var __toCommonJS = (mod) => __copyProps(__defProp({}, "__esModule", { value: true }), mod);

// src/client.js
var client_exports = {};
__export(client_exports, {
  RemoteEngine: () => RemoteEngine
});
module.exports = __toCommonJS(client_exports);

// src/errors.js
var HyperTokenError = class extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{cause?: unknown, index?: number}} [more] index is the index of the member of a batch that failed
   */
  constructor(code, message, more = {}) {
    super(`${code}: ${message}`, more.cause === void 0 ? void 0 : { cause: more.cause });
    this.name = "HyperTokenError";
    this.code = code;
    this.index = more.index ?? -1;
  }
};
var timeoutError = (what, ms) => new HyperTokenError("timeout", `${what}: timeout, not done after ${ms} ms`);
var canceledError = (what, cause) => new HyperTokenError("canceled", `${what}: canceled`, { cause });
var unreadable = (what, cause) => new HyperTokenError("trap", `${what}: the core answered with what can not be read: ${cause.message}`, { cause });
var shutdownError = (what = "engine") => new HyperTokenError("shutdown", `the ${what} is shut down`);
var badInput = (message, cause) => new HyperTokenError("bad_input", message, { cause });

// src/options.js
function nameOf(value) {
  if (value === null || ["undefined", "number", "boolean", "bigint"].includes(typeof value)) return String(value);
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  if (typeof value !== "object") return `a ${typeof value}`;
  return Array.isArray(value) ? "an array" : `an object (${Object.prototype.toString.call(value).slice(8, -1)})`;
}
var isBytes = (value) => ArrayBuffer.isView(value) && value[Symbol.toStringTag] === "Uint8Array";
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, k) => k);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
}
function nearest(wrong, names) {
  const text = String(wrong).slice(0, 40).toLowerCase().replaceAll(/[_-]/g, "");
  const rated = names.map((name2) => [distance(text, name2.toLowerCase()), name2]).sort(([a], [b]) => a - b);
  if (rated.length === 0) return void 0;
  const [[changes, name]] = rated;
  return changes <= Math.max(text.length, name.length) / 2 ? name : void 0;
}
function unknownOption(what, wrong, names) {
  const like = nearest(wrong, names);
  return badInput(`${what}: there is no option ${String(wrong).slice(0, 40)}; ${like ? `did you mean ${like}? There` : "there"} are ${names.join(", ")}`);
}
function checkOptions(what, options, names) {
  if (options === void 0 || options === null) return;
  if (typeof options !== "object" || Array.isArray(options)) throw badInput(`${what}: options are ${nameOf(options)}, want an object`);
  for (const name in options) if (!names.includes(name)) throw unknownOption(what, name, names);
}
function checkType(what, name, value, type) {
  if (typeof value !== type) throw badInput(`${what}: ${name} is ${nameOf(value)}, want a ${type}`);
}
function checkTimeout(what, timeout) {
  if (typeof timeout !== "number" || !(timeout >= 0)) throw badInput(`${what}: timeout is ${nameOf(timeout)}, want milliseconds, 0 for none`);
}
function checkSignal(what, signal) {
  if (typeof signal.addEventListener !== "function" || typeof signal.aborted !== "boolean") throw badInput(`${what}: signal is ${nameOf(signal)}, want an AbortSignal`);
}

// src/signals.js
var waiting = /* @__PURE__ */ new WeakMap();
function onAbort(signal, f) {
  let entry = waiting.get(signal);
  if (!entry) {
    const calls = /* @__PURE__ */ new Set();
    entry = {
      calls,
      listener() {
        waiting.delete(signal);
        const shared = /* @__PURE__ */ new Map();
        for (const call2 of calls) call2(shared);
      }
    };
    waiting.set(signal, entry);
    signal.addEventListener("abort", entry.listener, { once: true });
  }
  const call = (shared) => f(shared);
  entry.calls.add(call);
  return () => {
    if (!entry.calls.delete(call) || entry.calls.size > 0 || waiting.get(signal) !== entry) return;
    waiting.delete(signal);
    signal.removeEventListener("abort", entry.listener);
  };
}

// src/client.js
var most = 256;
var firstPause = 50;
var lastPause = 2e3;
var knownFor = 3e4;
var askPatience = 5e3;
var again = /* @__PURE__ */ new Set(["shutdown", "outcome_unknown"]);
var refusals = /* @__PURE__ */ new Map([[1002, "bad_input"], [1003, "bad_input"], [1009, "payload_too_large"]]);
var clientNames = ["engine", "setup", "token", "timeout", "silence", "maxQueue", "discover", "WebSocket"];
var questionNames = ["signal", "timeout"];
var changeNames = [...questionNames, "key", "ifSequence"];
var actionNames = [...changeNames, "now", "entropy"];
var batchNames = [...changeNames, "mode"];
var memberNames = ["type", "payload", "now", "entropy"];
var Line = class {
  isSetup = false;
  isSent = false;
  wasSent = false;
  isSettled = false;
  timer = null;
  forget = null;
  constructor(what, members, read, deadline) {
    this.what = what;
    this.members = members;
    this.read = read;
    this.deadline = deadline;
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
  /** The line as it is sent now. The server is told how much of its time is left. */
  text() {
    const left = Math.ceil(this.deadline - performance.now());
    return JSON.stringify(this.deadline === Infinity ? this.members : { ...this.members, timeout: Math.max(left, 1) });
  }
  settle(f) {
    if (this.isSettled) return;
    this.isSettled = true;
    clearTimeout(this.timer);
    this.forget?.();
    f();
  }
};
function checkJSON(what, value) {
  JSON.stringify(value, function(key, v) {
    if (typeof v === "number" && !Number.isFinite(v)) throw badInput(`${what}: ${key || "the value"} is ${v}, which JSON has no number for`);
    if (v === void 0 && !Array.isArray(this)) return v;
    const original = this[key];
    if (v === void 0 || ["bigint", "function", "symbol"].includes(typeof v) || isPeculiar(original)) {
      throw badInput(`${what}: ${key || "the value"} is ${nameOf(original)}, which JSON has no value for`);
    }
    return v;
  });
}
var isPeculiar = (v) => typeof v === "object" && v !== null && !Array.isArray(v) && (isBytes(v) || v instanceof Map || v instanceof Set);
var hex = (bytes) => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
function addressOf(server, path) {
  let url;
  try {
    url = new URL(server, globalThis.location?.href);
  } catch (cause) {
    throw badInput(`RemoteEngine: a server is ${nameOf(server)}, want a URL`, cause);
  }
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(url.protocol)) throw badInput(`RemoteEngine: a server is ${url.href}, want a URL that begins with https:, http:, wss: or ws:`);
  url.pathname = `${url.pathname.replace(/\/$/, "")}/v1/${path}`;
  return url.href;
}
function protocolsOf(token) {
  if (!token) return ["hypertoken"];
  const bytes = new TextEncoder().encode(token);
  const base64 = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  return ["hypertoken", `hypertoken.token.${base64}`];
}
var RemoteEngine = class {
  /** The URLs of the servers: first those that were given, then those that a server has named. */
  #servers;
  #given;
  #path;
  #options;
  #protocols;
  #Socket;
  #askedAt = -Infinity;
  #socket = null;
  #server = 0;
  #pause = firstPause;
  #pauseTimer = null;
  #silenceTimer = null;
  #lost = null;
  /** The lines without an answer, in order. Those that are sent on the present connection come first. */
  #lines = [];
  #sent = 0;
  #session = hex(crypto.getRandomValues(new Uint8Array(16)));
  #keys = 0;
  #sequence = 0;
  #closing = null;
  #failed = null;
  #whenIdle = null;
  #listeners = /* @__PURE__ */ new Set();
  /**
   * @param {string | URL | (string | URL)[]} servers the URLs of one server, or of several that have the same games
   * @param {{engine: string, setup?: object, token?: string, timeout?: number, silence?: number, maxQueue?: number, discover?: boolean, WebSocket?: Function}} options see client.d.ts
   */
  constructor(servers, options) {
    checkOptions("RemoteEngine", options, clientNames);
    const all = { timeout: 3e4, silence: 5e3, maxQueue: 1024, discover: false, WebSocket: globalThis.WebSocket, ...options };
    checkType("RemoteEngine", "engine", all.engine, "string");
    checkType("RemoteEngine", "discover", all.discover, "boolean");
    if (all.token !== void 0) checkType("RemoteEngine", "token", all.token, "string");
    checkTimeout("RemoteEngine", all.timeout);
    for (const name of ["silence", "maxQueue"]) {
      if (!Number.isInteger(all[name]) || all[name] < 1) throw badInput(`RemoteEngine: ${name} is ${nameOf(all[name])}, want an integer from 1`);
    }
    if (typeof all.WebSocket !== "function") throw badInput("RemoteEngine: there is no WebSocket here: give the class of a library as the option WebSocket");
    this.#servers = this.#given = [servers].flat().map(String);
    if (this.#servers.length === 0) throw badInput("RemoteEngine: there are no servers");
    this.#path = `engines/${encodeURIComponent(all.engine)}`;
    for (const server of this.#servers) addressOf(server, this.#path);
    this.#options = all;
    this.#protocols = protocolsOf(all.token);
    this.#Socket = all.WebSocket;
    const first = all.setup === void 0 || all.setup === null ? this.#line("digest", { digest: true }, () => void 0) : this.#line("setup", { setup: all.setup }, () => void 0);
    first.isSetup = first.members.setup !== void 0;
    this.ready = first.promise;
    this.ready.catch(() => {
    });
    this.#push(first);
  }
  /** The URLs of the servers to which the client connects, one after the other. */
  get servers() {
    return [...this.#servers];
  }
  /** The sequence of the engine in the last answer: 0 before there is one. */
  get sequence() {
    return this.#sequence;
  }
  /** The URL of the server that the client is connected to, or null while it is not. */
  get server() {
    return this.#socket?.readyState === 1 ? this.#servers[this.#server] : null;
  }
  /**
   * Calls f each time that the connection is made, with {server}, or lost, with {server, error}.
   * Returns a function that removes f.
   */
  onConnection(f) {
    checkType("onConnection", "the listener", f, "function");
    this.#listeners.add(f);
    return () => {
      this.#listeners.delete(f);
    };
  }
  #tell(event) {
    for (const f of [...this.#listeners]) {
      try {
        f({ server: this.#servers[this.#server], ...event });
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
  /** Runs an action, once, however often it has to be sent. */
  dispatchAsync(type, payload, options) {
    return this.#request(type, options, actionNames, () => [this.#action(type, payload, options ?? {}), (answer) => answer.result ?? null, true]);
  }
  #action(type, payload, { now, entropy }) {
    if (typeof type !== "string" || type === "") throw badInput(`an action's type is ${nameOf(type)}, want a string that is not empty`);
    if (now !== void 0 && !Number.isSafeInteger(now)) throw badInput(`${type}: now is ${nameOf(now)}, want whole milliseconds since the epoch`);
    if (entropy !== void 0 && !(isBytes(entropy) && entropy.length === 16)) throw badInput(`${type}: entropy is ${nameOf(entropy)}, want a Uint8Array of 16 bytes`);
    checkJSON(type, payload);
    return { type, payload: payload ?? void 0, now, entropy: entropy && hex(entropy) };
  }
  /** Runs actions one after the other, with nothing between them: see Engine. */
  dispatchBatch(actions, options) {
    return this.#request("batch", options, batchNames, () => {
      const { mode = "atomic" } = options ?? {};
      if (mode !== "atomic" && mode !== "independent") throw badInput(`batch: mode is ${nameOf(mode)}, want atomic or independent`);
      if (!Array.isArray(actions)) throw badInput(`batch: actions are ${nameOf(actions)}, want an array`);
      const batch = actions.map((action, k) => {
        if (typeof action !== "object" || action === null) throw badInput(`actions[${k}] is ${nameOf(action)}, want an object`);
        checkOptions(`actions[${k}]`, action, memberNames);
        return this.#action(action.type, action.payload, action);
      });
      const outcome = ({ error, result }) => error ? { error: errorOf(error) } : { result: result ?? null };
      return [{ batch, mode }, ({ results }) => results.map(mode === "atomic" ? ({ result }) => result ?? null : outcome), true];
    });
  }
  /** The whole state, as one object. */
  state(options) {
    return this.#request("state", options, questionNames, () => [{ state: true }, (answer) => answer.state]);
  }
  /** The state as it was at an earlier sequence. */
  stateAt(sequence, options) {
    return this.#past("state", sequence, options);
  }
  /** The digest of the state as it was at an earlier sequence. */
  digestAt(sequence, options) {
    return this.#past("digest", sequence, options);
  }
  #past(what, sequence, options) {
    return this.#request(`${what}At`, options, questionNames, () => {
      if (!Number.isSafeInteger(sequence) || sequence < 0) throw badInput(`${what}At: the sequence is ${nameOf(sequence)}, want an integer from 0`);
      return [{ [what]: true, at: sequence }, (answer) => answer[what]];
    });
  }
  /** The digest of the state, 16 hexadecimal digits. */
  digest(options) {
    return this.#request("digest", options, questionNames, () => [{ digest: true }, (answer) => answer.digest]);
  }
  /** Takes the last step back. Resolves with {sequence, digest}. */
  undo(options) {
    return this.#rewind("undo", true, options);
  }
  /** Takes the last undo back. Resolves with {sequence, digest}. */
  redo(options) {
    return this.#rewind("redo", true, options);
  }
  /** Sets the state to that of an earlier sequence. Resolves with {sequence, digest}. */
  revert(to, options) {
    return this.#rewind("revert", to, options);
  }
  #rewind(what, to, options) {
    return this.#request(what, options, changeNames, () => [{ [what]: to }, ({ sequence, digest }) => ({ sequence, digest }), true]);
  }
  // make returns the members of the line, a function that reads its answer, and whether it changes the engine.
  #request(what, options, names, make) {
    try {
      if (this.#closing) throw shutdownError();
      if (this.#failed) throw this.#failed;
      checkOptions(what, options, names);
      const { signal, timeout = this.#options.timeout, key, ifSequence } = options ?? {};
      checkTimeout(what, timeout);
      if (signal !== void 0 && signal !== null) {
        checkSignal(what, signal);
        if (signal.aborted) throw canceledError(what, signal.reason);
      }
      const [members, read, changes] = make();
      if (this.#lines.length >= this.#options.maxQueue) throw new HyperTokenError("overloaded", `${what}: ${this.#lines.length} lines have no answer, the most there may be (maxQueue)`);
      if (changes) Object.assign(members, { key: key ?? `${this.#session}-${++this.#keys}`, if_sequence: ifSequence });
      const line = this.#line(what, members, read, timeout);
      if (signal) line.forget = onAbort(signal, () => this.#giveUp(line, canceledError(what, signal.reason)));
      this.#push(line);
      return line.promise;
    } catch (cause) {
      return Promise.reject(cause instanceof HyperTokenError ? cause : badInput(`${what}: ${cause?.message ?? cause}`, cause));
    }
  }
  #line(what, members, read, timeout = this.#options.timeout) {
    const isBounded = timeout > 0 && timeout < 2 ** 31;
    const line = new Line(what, { ...members, want: ["sequence"] }, read, isBounded ? performance.now() + timeout : Infinity);
    if (isBounded) line.timer = setTimeout(() => this.#giveUp(line, timeoutError(what, timeout)), timeout);
    return line;
  }
  // Ends the wait of a line's caller. If the line was sent, and may have an effect, nobody knows whether it runs.
  #giveUp(line, error) {
    const why = this.#lost ? `${error.message}; the last connection was lost: ${this.#lost}` : error.message;
    const isUnknown = line.wasSent && line.members.key !== void 0;
    line.settle(() => line.reject(isUnknown ? new HyperTokenError("outcome_unknown", `${line.what}: it may run or not; send it again with the key ${line.members.key}: ${why}`, { cause: error }) : new HyperTokenError(error.code, why.slice(error.code.length + 2), { cause: error.cause })));
    if (!line.isSent) this.#remove(line);
  }
  #remove(line) {
    const at = this.#lines.indexOf(line);
    if (at >= 0) this.#lines.splice(at, 1);
    this.#checkIdle();
  }
  #push(line) {
    this.#lines.push(line);
    this.#send();
  }
  // Sends what may be sent. Without a connection it makes one.
  #send() {
    if (this.#lines.length === 0) return;
    if (!this.#socket) {
      if (!this.#pauseTimer) this.#connect();
      return;
    }
    if (this.#socket.readyState !== 1) return;
    if (this.#sent === 0) this.#listen();
    this.#discover();
    while (this.#sent < Math.min(this.#lines.length, most)) {
      const line = this.#lines[this.#sent++];
      line.isSent = line.wasSent = true;
      this.#socket.send(line.text());
    }
  }
  #connect() {
    const socket = new this.#Socket(addressOf(this.#servers[this.#server], this.#path), this.#protocols);
    this.#socket = socket;
    socket.onerror = () => {
    };
    this.#listen();
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      clearTimeout(this.#silenceTimer);
      this.#askedAt = -Infinity;
      this.#tell({});
      this.#send();
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#take(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#socket !== socket) return;
      const refusal = refusals.get(code);
      if (refusal && this.#sent > 0) this.#refuse(new HyperTokenError(refusal, `the server closed the connection: ${reason || code}`));
      this.#lose(reason || (code === 1006 ? "it could not be made, or ended without a word" : `it was closed with ${code}`));
    };
  }
  // Asks the server that it is connected to for the other nodes of its cluster. If that fails, the servers stay as they are.
  async #discover() {
    const now = performance.now(), { discover, token } = this.#options, server = this.#servers[this.#server];
    if (!discover || now < this.#askedAt + knownFor) return;
    this.#askedAt = now;
    try {
      const headers = token ? { authorization: `Bearer ${token}` } : {};
      const response = await fetch(addressOf(server, "cluster").replace(/^ws/, "http"), { headers, credentials: "omit", signal: AbortSignal.timeout(askPatience) });
      if (response.ok) this.#learn((await response.json()).members);
      else await response.body?.cancel();
    } catch {
      this.#askedAt = performance.now() - knownFor + lastPause;
    }
  }
  // Takes in the members of a cluster. The server that the client is connected to stays, also if it is not named.
  #learn(members) {
    const present = this.#servers[this.#server], last = members.filter((m) => m.draining), first = members.filter((m) => !m.draining);
    const all = /* @__PURE__ */ new Map();
    for (const url of [...this.#given, ...[...first, ...last].map((m) => m.client), present]) {
      try {
        const address = addressOf(url ?? "", this.#path);
        if (url && !all.has(address)) all.set(address, url);
      } catch {
      }
    }
    this.#servers = [...all.values()];
    this.#server = [...all.keys()].indexOf(addressOf(present, this.#path));
  }
  // A server that is silent for too long while a line waits may be gone.
  #listen() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => this.#lose(`the server was silent for ${this.#options.silence} ms`), this.#options.silence);
  }
  // The line that a server refuses by closing the connection is the first one without an answer.
  #refuse(error) {
    const line = this.#lines[0];
    line.settle(() => line.reject(error));
  }
  #take(data) {
    const line = this.#lines.shift();
    if (!line) return;
    this.#sent--;
    if (this.#sent > 0) this.#listen();
    else clearTimeout(this.#silenceTimer);
    let answer;
    try {
      answer = JSON.parse(data);
    } catch (cause) {
      answer = { error: { code: "trap", message: `the answer is no JSON: ${cause.message}` } };
    }
    const { error, sequence } = answer;
    if (error && again.has(error.code) && !line.isSettled) {
      line.isSent = false;
      this.#lines.unshift(line);
      this.#lose(error.message);
      return;
    }
    this.#pause = firstPause;
    this.#lost = null;
    if (Number.isInteger(sequence) && line.members.at === void 0) this.#sequence = sequence;
    if (error && !(line.isSetup && error.code === "exists")) {
      const own = errorOf(error);
      if (line.isSetup) this.#failed = own;
      line.settle(() => line.reject(own));
    } else {
      line.settle(() => {
        try {
          line.resolve(line.read(answer));
        } catch (cause) {
          line.reject(unreadable(line.what, cause));
        }
      });
    }
    this.#checkIdle();
    this.#send();
  }
  // The connection is no good any more. What was sent and has no answer is sent again to the next server.
  #lose(why) {
    const socket = this.#socket;
    if (!socket) return;
    this.#socket = null;
    clearTimeout(this.#silenceTimer);
    this.#sent = 0;
    this.#lines = this.#lines.filter((line) => !line.isSettled);
    for (const line of this.#lines) line.isSent = false;
    this.#lost = why;
    const server = this.#servers[this.#server];
    this.#server = (this.#server + 1) % this.#servers.length;
    closeQuietly(socket);
    this.#pauseTimer = setTimeout(() => {
      this.#pauseTimer = null;
      this.#send();
    }, this.#pause * (0.5 + Math.random() / 2));
    this.#pause = Math.min(2 * this.#pause, lastPause);
    this.#tell({ server, error: new HyperTokenError("unavailable", `${server}: ${why}`) });
    this.#checkIdle();
  }
  #checkIdle() {
    if (this.#whenIdle && this.#lines.every((line) => line.isSettled)) this.#whenIdle();
  }
  /**
   * Takes no more requests, waits for the answers of those that were made, and closes the connection.
   * The engine stays on the server.
   * @param {{timeout?: number}} [options] after so many milliseconds the requests without an answer fail; 0, the default, is no limit
   */
  shutdown(options) {
    checkOptions("shutdown", options, ["timeout"]);
    const { timeout = 0 } = options ?? {};
    checkTimeout("shutdown", timeout);
    this.#closing ??= (async () => {
      await new Promise((idle) => {
        this.#whenIdle = idle;
        this.#checkIdle();
      });
      clearTimeout(this.#pauseTimer);
      clearTimeout(this.#silenceTimer);
      const socket = this.#socket;
      this.#socket = null;
      if (socket) closeQuietly(socket);
    })();
    if (timeout > 0 && timeout < Infinity) {
      const timer = setTimeout(() => {
        for (const line of [...this.#lines]) this.#giveUp(line, shutdownError());
        this.#checkIdle();
      }, Math.min(timeout, 2 ** 31 - 1));
      this.#closing.then(() => clearTimeout(timer));
    }
    return this.#closing;
  }
  [Symbol.asyncDispose ?? /* @__PURE__ */ Symbol.for("Symbol.asyncDispose")]() {
    return this.shutdown();
  }
};
function closeQuietly(socket) {
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.close();
}
var errorOf = ({ code, message, index }) => new HyperTokenError(code, message, { index });
