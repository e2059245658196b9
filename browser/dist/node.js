/*! hypertoken-worker, Apache-2.0: see LICENSE and NOTICE */

// src/frames.js
var header = 16;
var kind = { open: 1, feed: 2, replay: 3, ready: 4, dispatch: 5, batch: 6, snapshot: 7, state: 8, digest: 9, close: 10, actions: 11, checksums: 12, answer: 16, rewind: 17 };
var flag = {
  /** open: the base that follows is a snapshot. */
  restore: 1,
  /** batch: all or nothing. */
  atomic: 1,
  /** close: the instance is kept for the next engine. */
  keep: 1,
  /**
   * any request: it is a suspect. So the worker sends all earlier answers before it runs this
   * request.
   */
  suspect: 8,
  /** answer: it failed, the body is an error map. */
  failed: 1,
  /** answer: the state changed. */
  changed: 2,
  /** answer: the instance is gone. */
  lost: 4,
  /**
   * answer to a dispatch: it was quick. The worker may hold back the answer to the next action of
   * this name while it runs those behind it.
   */
  quick: 16
};
var none = [];
var Writer = class {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #end = 0;
  get length() {
    return this.#end;
  }
  /**
   * Appends a frame whose body is the parts, one after the other.
   * @param {Uint8Array[]} parts
   */
  frame(request, placement, kind2, flags, parts = none) {
    let n = 0;
    for (let k = 0; k < parts.length; k++) n += parts[k].length;
    this.#grow(header + n);
    const v = this.#view, at = this.#end;
    v.setUint32(at, n, true);
    v.setUint32(at + 4, request, true);
    v.setUint32(at + 8, placement, true);
    v.setUint8(at + 12, kind2);
    v.setUint8(at + 13, flags);
    v.setUint16(at + 14, 0);
    let to = at + header;
    for (let k = 0; k < parts.length; k++) {
      const part = parts[k];
      if (part.length > 0) this.#bytes.set(part, to);
      to += part.length;
    }
    this.#end = to;
  }
  /** Returns the gathered frames, as a buffer to transfer, and begins again with none. */
  take() {
    const taken2 = this.#bytes.buffer.slice(0, this.#end);
    this.#end = 0;
    if (this.#bytes.length > 1 << 20) {
      this.#bytes = new Uint8Array(4096);
      this.#view = new DataView(this.#bytes.buffer);
    }
    return taken2;
  }
  #grow(n) {
    if (this.#end + n <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#end + n));
    grown.set(this.#bytes.subarray(0, this.#end));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
};
var Frame = class {
  at = 0;
  length = 0;
  request = 0;
  placement = 0;
  kind = 0;
  flags = 0;
  /**
   * @param {Uint8Array} bytes the message
   * @param {DataView} view of the message
   */
  constructor(bytes, view) {
    this.bytes = bytes;
    this.view = view;
  }
  /**
   * Becomes the frame of which the body begins at `at` and has so many bytes.
   * @param {number} at
   * @param {number} length
   */
  read(at, length) {
    const { view } = this;
    this.at = at;
    this.length = length;
    this.request = view.getUint32(at - 12, true);
    this.placement = view.getUint32(at - 8, true);
    this.kind = view.getUint8(at - 4);
    this.flags = view.getUint8(at - 3);
  }
  get body() {
    return this.bytes.subarray(this.at, this.at + this.length);
  }
};
var answerOf = (flags, body) => ({ flags, body, bytes: body, view: new DataView(body.buffer, body.byteOffset, body.length), at: 0, length: body.length });
function eachFrame(buffer, f) {
  if (Object.prototype.toString.call(buffer) !== "[object ArrayBuffer]") throw new Error(`a message that is no buffer: ${typeof buffer}`);
  const v = new DataView(buffer), bytes = new Uint8Array(buffer), frame = new Frame(bytes, v), { byteLength } = buffer;
  for (let at = 0; at < byteLength; ) {
    const n = at + header <= byteLength ? v.getUint32(at, true) : 0;
    if (at + header + n > byteLength) throw new Error(`a frame at ${at} that ends beyond its message of ${byteLength} bytes`);
    frame.read(at + header, n);
    f(frame);
    at += header + n;
  }
}
function hash(bytes, from = 0, end = bytes.length) {
  let a = 2654435769 ^ end - from, b = 2246822507;
  for (let k = from; k < end; k++) {
    a = Math.imul(a ^ bytes[k], 16777619);
    b = Math.imul(b ^ bytes[k], 1540483477);
    b ^= b >>> 15;
  }
  a ^= a >>> 16;
  return (b >>> 0) * 2097152 + (a >>> 11);
}
var utf8 = new TextEncoder();
function failure(code, message) {
  const string = (text) => {
    const bytes = utf8.encode(text);
    return [219, bytes.length >>> 24, bytes.length >>> 16 & 255, bytes.length >>> 8 & 255, bytes.length & 255, ...bytes];
  };
  return Uint8Array.from([130, ...string("code"), ...string(code), ...string("message"), ...string(message.slice(0, 4096))]);
}
var answerHead = 24;
var entryHead = 12;
var read = { ran: 0, sum: 0, from: 0, end: 0, members: null, events: null };
function readAnswer({ bytes, view: v, at: start, length }) {
  const end = start + length;
  if (length < answerHead) throw new RangeError(`an answer of ${length} bytes, want at least ${answerHead}`);
  const eventsLength = v.getUint32(start + 16, true), count = v.getUint32(start + 20, true);
  const table = start + answerHead + 16 * count, from = table + eventsLength;
  if (from > end) throw new RangeError(`an answer of ${length} bytes with ${count} members and ${eventsLength} bytes of events`);
  read.ran = v.getFloat64(start, true);
  read.sum = v.getFloat64(start + 8, true);
  read.from = from;
  read.end = end;
  read.members = count > 0 ? readMembers(bytes, v, start, from, end, count) : null;
  read.events = eventsLength > 0 ? bytes.subarray(table, from) : null;
  return read;
}
function readMembers(bytes, v, start, from, end, count) {
  const members = [];
  for (let k = 0, at = from; k < count; k++) {
    const row = start + answerHead + 16 * k, to = from + v.getUint32(row, true);
    if (to < at || to > end) throw new RangeError(`an answer with a member that ends at ${to - from}, of ${end - from} bytes`);
    members.push({ body: bytes.subarray(at, to), failed: v.getUint8(row + 4) === 1, changed: v.getUint8(row + 5) === 1, sum: v.getFloat64(row + 8, true) });
    at = to;
  }
  return members;
}

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

// src/history.js
var mostRedo = 4096;
var positionAt = (base, sequence) => base?.marker && base.sequence === sequence ? base.marker : { current: sequence, redo: [] };
function firstEntries(pieces, count) {
  const cut = [];
  for (const piece of pieces) {
    const v = new DataView(piece.buffer, piece.byteOffset, piece.length);
    let end = 0;
    for (; count > 0 && end < piece.length; count--) end += entryHead + v.getUint32(end, true);
    if (end > 0) cut.push(piece.subarray(0, end));
  }
  return cut;
}
var detailsOf = ({ to, current, redo, details }) => details ?? `"to":${to},"current":${current},"redo":[${redo}],`;
var range = (newest) => `the engine has the sequences 0 to ${newest}`;
var History = class {
  /** The sequence of the newest record or marker. */
  newest;
  #segments;
  #what;
  /**
   * @param {Segment[]} segments in their order; each begins where the one before it ends. They may be
   *   a part of what is kept: then they have all that the request needs
   * @param {string} what names the request in errors
   * @param {number} [newest] the sequence of the newest record or marker
   */
  constructor(segments, what, newest = segments.at(-1).end) {
    this.newest = newest;
    this.#segments = segments;
    this.#what = what;
  }
  /** The sequence of the oldest state that there is here. */
  get oldest() {
    return this.#segments[0].base.sequence;
  }
  // Returns the index of the last segment whose base is at a sequence or before it, or -1.
  #indexAt(sequence) {
    let from = 0, to = this.#segments.length;
    while (from < to) {
      const middle = from + to >> 1;
      if (this.#segments[middle].base.sequence <= sequence) from = middle + 1;
      else to = middle;
    }
    return from - 1;
  }
  #trimmed(sequence) {
    const which = `the state of the sequence ${sequence} is not kept, but those from ${this.oldest} on`;
    return new HyperTokenError("history_trimmed", `${this.#what}: ${which}; new Engine({ history: true }) keeps all`);
  }
  #conflict(why) {
    return new HyperTokenError("conflict", `${this.#what}: ${why}`);
  }
  /** Throws `bad_input` unless the engine has, or had, a state of that sequence. */
  check(sequence, name = "the sequence") {
    const isWhole = Number.isSafeInteger(sequence) && sequence >= 0;
    if (!isWhole) throw badInput(`${this.#what}: ${name} is not a whole number from 0 on`);
    if (sequence > this.newest) throw badInput(`${this.#what}: ${name} is ${sequence}: ${range(this.newest)}`);
  }
  /**
   * Returns what leads to the state of a sequence: the nearest base at it or before it, and the
   * entries behind that. It throws `history_trimmed` if the base is not kept.
   * @returns {{base: Base, pieces: Uint8Array[]}}
   */
  partAt(sequence) {
    const segment = this.#segments[this.#indexAt(sequence)];
    if (!segment) throw this.#trimmed(sequence);
    return { base: segment.base, pieces: firstEntries(segment.journal.pieces(), sequence - segment.base.sequence) };
  }
  /**
   * The segments from the one that has the state of a sequence on, up to the one that has
   * another.
   */
  segments(from, to) {
    const first = this.#indexAt(from);
    if (first < 0) throw this.#trimmed(from);
    return this.#segments.slice(first, this.#indexAt(to) + 1).map(({ base, journal, end }) => ({
      base,
      pieces: firstEntries(journal.pieces(), Math.min(end, to) - base.sequence),
      batches: journal.batches ?? []
    }));
  }
  // Returns the step that is current at a sequence, 0 for none.
  #stepAt(sequence) {
    return positionAt(this.#segments[this.#indexAt(sequence)]?.base, sequence).current;
  }
  // Returns the sequence of the first record of a step. It throws `history_trimmed` if the step
  // is not kept.
  #firstOf(step) {
    let segment = this.#segments[this.#indexAt(step)];
    if (segment?.base.sequence === step) {
      if (segment.base.marker) return step;
      segment = this.#segments[this.#indexAt(step - 1)];
    }
    if (!segment) throw this.#trimmed(step);
    const batches = segment.journal.batches ?? [];
    for (let k = batches.length - 2; k >= 0 && batches[k + 1] >= step; k -= 2) {
      if (batches[k] <= step) return batches[k];
    }
    return step;
  }
  // The three below return a marker, and the part of the journal that leads to its state. `position` is
  // that of the newest state.
  /** @returns {{marker: Marker, part: ReturnType<History['partAt']>}} */
  revertTo(sequence) {
    this.check(sequence);
    const marker = { kind: "revert", to: sequence, current: this.newest + 1, redo: [] };
    return { marker, part: this.partAt(sequence) };
  }
  /** It throws `conflict` if there is nothing to undo. */
  undo({ current, redo }) {
    if (current === 0) throw this.#conflict("there is nothing to undo: the engine is as it began");
    const before = this.#firstOf(current) - 1, parent = this.#stepAt(before);
    const marker = { kind: "revert", to: parent, current: parent, redo: [...redo, current].slice(-mostRedo) };
    return { marker, part: this.partAt(before) };
  }
  /** It throws `conflict` if there is nothing to redo. */
  redo({ redo }) {
    const last = redo.at(-1);
    if (last === void 0) throw this.#conflict("there is nothing to redo: the newest step is no undo");
    return { marker: { kind: "revert", to: last, current: last, redo: redo.slice(0, -1) }, part: this.partAt(last) };
  }
};

// src/list.js
var List = class {
  length = 0;
  first = null;
  last = null;
  push(member) {
    member.list = this;
    member.prev = this.last;
    if (this.last) this.last.next = member;
    else this.first = member;
    this.last = member;
    this.length++;
  }
  unshift(member) {
    member.list = this;
    member.next = this.first;
    if (this.first) this.first.prev = member;
    else this.last = member;
    this.first = member;
    this.length++;
  }
  /** Takes a member out. It has to be in this list. */
  remove(member) {
    const { prev, next } = member;
    if (prev) prev.next = next;
    else this.first = next;
    if (next) next.prev = prev;
    else this.last = prev;
    member.list = member.prev = member.next = null;
    this.length--;
  }
  /** Takes the first member out and returns it, or null if there is none. */
  shift() {
    const { first } = this;
    if (first) this.remove(first);
    return first;
  }
  /** The members in their order. The one that is visited may be removed meanwhile, and no other. */
  *[Symbol.iterator]() {
    for (let member = this.first, next; member; member = next) {
      next = member.next;
      yield member;
    }
  }
};

// src/instances.js
var Instances = class {
  /**
   * The games that have a place. #idle has those without a request, the one that was idle longest
   * first. #busy has the others, in the order in which they got requests. #yielding has those that
   * give their place up once the requests that were sent there are answered.
   */
  #idle = new List();
  #busy = new List();
  #yielding = new List();
  /** The hosts that have engines waiting for room, with the number of instances that they allow. */
  #waiting = /* @__PURE__ */ new Map();
  #isTelling = false;
  /** How many instances the browser has shown to have room for. */
  #bound = Infinity;
  /** How many engines of this page have an instance, or are about to get one. */
  get count() {
    return this.#idle.length + this.#busy.length + this.#yielding.length;
  }
  /** The games without a request, the one that was idle longest first. */
  get idle() {
    return this.#idle;
  }
  /** Whether more engines wait than there is room for now. */
  get isWanted() {
    for (const [host, bound] of this.#waiting) if (host.waiting > bound - this.count) return true;
    return false;
  }
  /** Notes that a game has a place and a request. */
  markBusy(game) {
    if (game.list !== this.#busy && game.list !== this.#yielding) this.#move(game, this.#busy);
  }
  /** Notes that a game has a place and no request. */
  markIdle(game) {
    if (game.list === this.#idle) return;
    this.#move(game, this.#idle);
    this.#tellHosts();
  }
  /** Notes that a game has lost its place. */
  remove(game) {
    game.list.remove(game);
    this.#tellHosts();
  }
  #move(game, list) {
    game.list?.remove(game);
    list.push(game);
  }
  /**
   * Makes room for engines that wait: idle engines are taken out at once, others yield.
   * @param {import('./host.js').Host} host is told by assign() when there may be room
   * @param {number} most how many engines may have an instance
   * @param {number} wanted how many engines wait
   * @returns {boolean} whether there is room for one now
   */
  makeRoom(host, most, wanted) {
    const bound = Math.min(most, this.#bound);
    while (this.count >= bound && this.#idle.length > 0) this.#idle.first.leavePlace(true);
    if (this.count < bound) return true;
    while (this.#yielding.length < wanted && this.#busy.length > 0) {
      const game = this.#busy.first;
      this.#move(game, this.#yielding);
      game.yieldPlace();
    }
    this.#waiting.set(host, bound);
    return false;
  }
  /**
   * Notes that the browser had no room for another instance: from now on there are no more than the
   * page has now. It returns false if the page has none, so that fewer are not possible.
   */
  lowerBound() {
    if (this.count === 0) return false;
    this.#bound = Math.min(this.#bound, this.count);
    return true;
  }
  /**
   * Whether the page's workers have so many instances, with and without engines, that an engine has
   * to be placed where an instance is spare. Workers keep instances, and each has a garbage collector
   * of its own: so a worker may find no room because of instances in others.
   */
  needsSpare(most, made) {
    return made >= Math.min(1.5 * most, this.#bound);
  }
  // A game may be in the middle of an answer now, so hosts are told afterwards.
  #tellHosts() {
    if (this.#isTelling || this.#waiting.size === 0) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      const hosts = [...this.#waiting.keys()];
      this.#waiting.clear();
      for (const host of hosts) host.assign();
    });
  }
};
var instances = new Instances();

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
function nearest(wrong2, names2) {
  const text = String(wrong2).slice(0, 40).toLowerCase().replaceAll(/[_-]/g, "");
  const rated = names2.map((name2) => [distance(text, name2.toLowerCase()), name2]).sort(([a], [b]) => a - b);
  if (rated.length === 0) return void 0;
  const [[changes, name]] = rated;
  return changes <= Math.max(text.length, name.length) / 2 ? name : void 0;
}
function unknownOption(what, wrong2, names2) {
  const like = nearest(wrong2, names2);
  return badInput(`${what}: there is no option ${String(wrong2).slice(0, 40)}; ${like ? `did you mean ${like}? There` : "there"} are ${names2.join(", ")}`);
}
function checkOptions(what, options, names2) {
  if (options === void 0 || options === null) return;
  if (typeof options !== "object" || Array.isArray(options)) throw badInput(`${what}: options are ${nameOf(options)}, want an object`);
  for (const name in options) if (!names2.includes(name)) throw unknownOption(what, name, names2);
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

// src/rewinds.js
var Rewinds = class {
  #game;
  /**
   * The Rewind whose journal is being read, or whose state is being computed, or null. It is the
   * first request of its game.
   */
  #op = null;
  /** @param {import('./game.js').Game} game */
  constructor(game) {
    this.#game = game;
  }
  /** The game that computes the state, or null. */
  get past() {
    return this.#op?.past ?? null;
  }
  /**
   * Begins a rewind, unless it has begun. Everything before it has ended.
   * @param {import('./past.js').Rewind} op the first request of the game
   * @returns whether the rewind ends at once: it leads nowhere
   */
  endsAtOnce(op2) {
    if (op2 === this.#op) return false;
    const game = this.#game, history = game.history(op2.what, ...op2.span(game.position, game.sequence));
    this.#op = op2;
    if (!(history instanceof Promise)) return this.#failsToBegin(op2, history);
    history.then((read3) => {
      if (this.#op === op2 && this.#failsToBegin(op2, read3)) game.pump();
    }, (error) => {
      if (this.#op !== op2) return;
      this.#end(op2, error);
      game.pump();
    });
    return false;
  }
  #end(op2, error) {
    this.#op = null;
    this.#game.endRewind(op2, error);
  }
  #failsToBegin(op2, history) {
    const game = this.#game;
    let found;
    try {
      found = op2.choose(history, game.position);
    } catch (error) {
      this.#end(op2, error);
      return true;
    }
    game.leavePlace(true);
    op2.begin(game.host, found, (error, bytes, digest) => {
      this.#op = null;
      if (error) game.endRewind(op2, error);
      else game.takeRewind(op2, { sequence: game.sequence + 1, bytes, isSnapshot: true, digest, marker: found.marker });
      game.pump();
    });
    return false;
  }
  /** Stops the rewind, if this request is the one that is under way: it has ended with an error. */
  abandon(op2, error) {
    if (op2 !== this.#op) return;
    this.#op = null;
    op2.abandon(error);
  }
};

// src/storing.js
function entriesOf(records) {
  const entries = new Uint8Array(records.reduce((n, r) => n + entryHead + r.bytes.length, 0));
  const view = new DataView(entries.buffer);
  let at = 0;
  for (const { bytes, sum } of records) {
    view.setUint32(at, bytes.length, true);
    view.setFloat64(at + 4, sum, true);
    entries.set(bytes, at + entryHead);
    at += entryHead + bytes.length;
  }
  return entries;
}
var plainError = ({ code, message, index }) => ({ code, message, index });
var plainResult = (op2, result) => op2.members ? result.map((o) => o.error ? { error: plainError(o.error) } : o) : result;
var callOf = (op2, { result, error }) => ({ ...op2.key, outcome: error ? { error: plainError(error) } : { result: plainResult(op2, result) } });
var Storing = class {
  /** Whether the store does not have the game yet. */
  isNew = false;
  #game;
  #saved;
  #waiting = [];
  #handed = [];
  #isRunning = true;
  /** Called when the last answer has been settled. */
  #idle = [];
  #isAbandoned = false;
  /**
   * Opens the game in the store.
   * @param {import('./game.js').Game} game
   * @param {import('./store.js').SavedGame} saved
   */
  constructor(game, saved) {
    this.#game = game;
    this.#saved = saved;
    saved.open().then((found) => {
      this.isNew = found === null;
      this.#rest();
      game.handleOpened(found);
    }, (error) => {
      this.#rest();
      if (!game.broken) game.fail(error);
    });
  }
  /** Whether nothing waits for the store: the journal has all that the engine has answered. */
  get isIdle() {
    return !this.#isRunning && this.#waiting.length === 0;
  }
  /** The requests whose answers were not handed to the store yet. */
  get waiting() {
    return this.#waiting.filter((answer) => answer.op !== null).map((answer) => answer.op);
  }
  /**
   * Has an answer settled once all answers before it are, and its own records are stored.
   * @param {{bytes: Uint8Array, sum: number}[]} [records]
   * @param {{result?: any, error?: HyperTokenError}} [outcome] is stored if the request has a key:
   *   with the records, or with those of the next group
   */
  push(op2, settle, records = [], outcome = void 0) {
    if (records.length > 0 || !this.isIdle) {
      this.#add({ op: op2, settle, records, outcome, base: null, isHanded: false });
      return;
    }
    if (op2.key) this.#saved.defer(callOf(op2, outcome));
    settle();
  }
  /**
   * Has a base stored, which replaces the journal once all answers before it are settled. A snapshot
   * has no sequence yet: it is that of the last of these answers.
   */
  pushBase(op2, base, settle, outcome = void 0) {
    this.#add({ op: op2, settle, records: [], outcome, base, isHanded: false });
  }
  /** Reads a part of the journal: see Game.history. */
  history(what, from, to) {
    return this.#saved.history(what, from, to);
  }
  /** Has the store take the game in, which is new to it. */
  create(base) {
    const settle = () => {
      this.isNew = false;
    };
    this.#add({ op: null, settle, records: [], base: null, first: base, isHanded: false });
  }
  /** Takes an answer, and all behind it, out of those that wait, and returns those behind it. */
  takeBehind(answer) {
    return this.#waiting.splice(this.#waiting.indexOf(answer)).slice(1);
  }
  /** Takes one answer out of those that wait. */
  remove(answer) {
    this.#waiting.splice(this.#waiting.indexOf(answer), 1);
  }
  #add(answer) {
    if (answer.op) answer.op.answer = answer;
    this.#waiting.push(answer);
    if (this.#isRunning) return;
    this.#isRunning = true;
    queueMicrotask(() => this.#run());
  }
  async #run() {
    while (this.#waiting.length > 0 && !this.#isAbandoned) {
      const group = this.#nextGroup();
      this.#handed = group;
      for (const answer of group) answer.isHanded = true;
      let error = null;
      try {
        await this.#store(group);
      } catch (cause) {
        error = cause;
      }
      this.#handed = [];
      for (const { op: op2 } of group) if (op2) op2.answer = null;
      if (this.#isAbandoned) break;
      if (error) this.#handleNotStored(group, error);
      else for (const answer of group) answer.settle();
    }
    this.#rest();
    this.#game.pump();
  }
  #rest() {
    this.#isRunning = false;
    for (const done of this.#idle.splice(0)) done();
  }
  // A group ends at a base, so that no base is older than a record that it should contain.
  #nextGroup() {
    const isOwn = ({ base, first }) => base !== null || first !== void 0;
    const end = this.#waiting.findIndex(isOwn);
    return this.#waiting.splice(0, end < 0 ? this.#waiting.length : Math.max(end, 1));
  }
  #store([one, ...others]) {
    const { sequence } = this.#game;
    if (one.first) return this.#saved.create(one.first);
    if (one.base) return this.#saved.replace({ sequence, ...one.base }, one.op.key ? [callOf(one.op, one.outcome)] : []);
    const records = [], batches = [], calls = [];
    for (const answer of [one, ...others]) {
      if (answer.op?.key && answer.outcome) calls.push(callOf(answer.op, answer.outcome));
      if (answer.records.length > 1) batches.push([sequence + records.length + 1, answer.records.length]);
      for (const record of answer.records) records.push(record);
    }
    if (records.length === 0) {
      calls.forEach((call) => this.#saved.defer(call));
      return void 0;
    }
    return this.#saved.append({ first: sequence + 1, count: records.length, bytes: entriesOf(records), batches, calls });
  }
  #handleNotStored(group, cause) {
    const error = cause instanceof HyperTokenError ? cause : new HyperTokenError("store_refused", `the store has failed: ${cause?.message ?? cause}`, { cause });
    if (group[0].first) this.#game.fail(error);
    else if (group[0].base && group[0].op.internal && error.code !== "moved") this.#game.handleBaseNotStored();
    else this.#game.handleNotStored(group, this.#waiting.splice(0), error);
  }
  /**
   * Gives up waiting for the store. Returns the requests of which it is not known whether they are
   * stored.
   */
  abandon() {
    this.#isAbandoned = true;
    const unknown = this.#handed.filter((answer) => answer.op && !answer.op.internal).map((answer) => answer.op);
    this.#handed = [];
    this.#rest();
    return unknown;
  }
  /** Waits until the store has all that it was handed. */
  async close() {
    if (this.#isRunning && !this.#isAbandoned) await new Promise((resolve) => this.#idle.push(resolve));
  }
};
function checkCanPersist(what) {
  if (globalThis.indexedDB === void 0) throw badInput(`${what}: there is no IndexedDB here, as in Node; games are kept in pages and their workers`);
  if (globalThis.crypto?.subtle === void 0) throw badInput(`${what}: the page is no secure context; serve it by https, or from localhost`);
}

// src/values.js
var encodeDepth = 200;
var decodeDepth = 1024;
var pieceLength = 65536;
var keptBuffer = 1 << 20;
var utf8Encoder = new TextEncoder();
var utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
var Refused = class extends Error {
  at = [];
  constructor(reason, cause) {
    super(reason, cause === void 0 ? void 0 : { cause });
  }
};
var TooLarge = class extends Error {
  constructor(size) {
    super(`is larger than ${size} bytes`);
    this.size = size;
  }
};
var hasLoneSurrogate = (text) => text.isWellFormed ? !text.isWellFormed() : /\p{Surrogate}/u.test(text);
function pathOf(root, keys) {
  let path = root;
  for (const key of keys) {
    if (path.length > 120) return `${path}...`;
    if (typeof key === "number") path += `[${key}]`;
    else path += /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key) && key.length <= 40 ? `.${key}` : `[${JSON.stringify(key.slice(0, 40))}]`;
  }
  return path;
}
var hasOwn = (object, key) => Object.prototype.hasOwnProperty.call(object, key);
var getter = (prototype, name) => Object.getOwnPropertyDescriptor(prototype, name).get;
var mapSize = getter(Map.prototype, "size");
var setSize = getter(Set.prototype, "size");
function has(brand, object) {
  try {
    brand.call(object);
    return true;
  } catch {
    return false;
  }
}
function isPlain(object) {
  const prototype = Object.getPrototypeOf(object);
  return prototype === Object.prototype || prototype === null || Object.getPrototypeOf(prototype) === null && hasOwn(prototype, "isPrototypeOf");
}
var advice = {
  Date: "send its getTime() or toISOString()",
  RegExp: "send its source",
  Promise: "await it first",
  URL: "send its href",
  ArrayBuffer: "the core has no bytes: send text, base64 for example",
  DataView: "the core has no bytes: send text, base64 for example",
  Number: "send its valueOf()",
  String: "send its valueOf()",
  Boolean: "send its valueOf()",
  BigInt: "send its valueOf()"
};
function refusal(object) {
  let name = Object.prototype.toString.call(object).slice(8, -1);
  if (name === "Object") name = typeof object.constructor === "function" && object.constructor.name || "a class without a name";
  const what = hasOwn(advice, name) ? advice[name] : ArrayBuffer.isView(object) ? "the core has no bytes: send text, base64 for example, or Array.from() of it" : object instanceof Error ? "send its message" : typeof object.toJSON === "function" ? "send its toJSON()" : "send a plain object, {...value} for example";
  return new Refused(`is an instance of ${name}, for which the core has no value; ${what}`);
}
var loneSurrogate = "has half of a surrogate pair, for which UTF-8 has no bytes";
var Encoder = class {
  #bytes = new Uint8Array(2048);
  #view = new DataView(this.#bytes.buffer);
  #end = 0;
  #most = Infinity;
  /**
   * Encodes a value of about so many bytes at most. Without `before` the bytes are valid until the
   * next call. With `before` they are a copy, which begins with so many bytes for the caller to fill
   * in; then undefined is no value.
   */
  encode(value, most, before) {
    this.#most = most + before;
    if (this.#bytes.length > keptBuffer) {
      this.#bytes = new Uint8Array(2048);
      this.#view = new DataView(this.#bytes.buffer);
    }
    this.#end = 0;
    if (before === 0) {
      this.#value(value, 1);
      return this.#bytes.subarray(0, this.#end);
    }
    this.#take(before);
    if (value !== void 0) this.#value(value, 1);
    return this.#bytes.slice(0, this.#end);
  }
  // Makes room for n bytes, and returns the index of the first.
  #take(n) {
    const at = this.#end;
    this.#end += n;
    if (this.#end > this.#bytes.length) {
      if (at > this.#most) throw new TooLarge(at);
      const grown = new Uint8Array(Math.max(this.#end, 2 * this.#bytes.length));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }
  #byte(b) {
    const at = this.#take(1);
    this.#bytes[at] = b;
  }
  #value(v, depth) {
    switch (typeof v) {
      case "string":
        return this.#string(v);
      case "number":
        return this.#number(v);
      case "boolean":
        return this.#byte(v ? 195 : 194);
      case "object":
        return v === null ? this.#byte(192) : this.#object(v, depth);
      case "bigint":
        if (!Number.isSafeInteger(Number(v))) throw new Refused(`is the bigint ${String(v).slice(0, 40)}; integers are within \xB1(2^53 - 1)`);
        return this.#number(Number(v));
      case "undefined":
        throw new Refused("is undefined; send null, or leave it out");
      default:
        throw new Refused(`is a ${typeof v}, for which the core has no value`);
    }
  }
  #number(v) {
    if (!Number.isSafeInteger(v)) {
      if (!Number.isFinite(v)) throw new Refused(`is ${v}; numbers are finite`);
      const at = this.#take(9);
      this.#bytes[at] = 203;
      this.#view.setFloat64(at + 1, v);
    } else if (v >= 0) {
      if (v < 128) this.#byte(v);
      else if (v < 256) this.#head8(204, v);
      else if (v < 65536) this.#head16(205, v);
      else if (v < 4294967296) this.#head32(206, v);
      else this.#head64(207, v);
    } else if (v >= -32) this.#byte(v & 255);
    else if (v >= -128) this.#head8(208, v);
    else if (v >= -32768) this.#head16(209, v);
    else if (v >= -2147483648) this.#head32(210, v);
    else this.#head64(211, v);
  }
  #head8(format, n) {
    const at = this.#take(2);
    this.#bytes[at] = format;
    this.#bytes[at + 1] = n;
  }
  #head16(format, n) {
    const at = this.#take(3);
    this.#bytes[at] = format;
    this.#view.setUint16(at + 1, n);
  }
  #head32(format, n) {
    const at = this.#take(5);
    this.#bytes[at] = format;
    this.#view.setUint32(at + 1, n);
  }
  #head64(format, n) {
    const at = this.#take(9);
    this.#bytes[at] = format;
    this.#view.setInt32(at + 1, Math.floor(n / 2 ** 32));
    this.#view.setUint32(at + 5, n >>> 0);
  }
  #string(s) {
    const { length } = s;
    if (length >= 32) return this.#longString(s);
    const start = this.#take(1 + length), bytes = this.#bytes;
    for (let k = 0, at = start + 1; k < length; k++) {
      const c = s.charCodeAt(k);
      if (c >= 128) {
        this.#end = start;
        return this.#longString(s);
      }
      bytes[at++] = c;
    }
    bytes[start] = 160 | length;
  }
  #longString(s) {
    if (s.length >= pieceLength) return this.#hugeString(s);
    let head2 = headSize(s.length);
    const start = this.#take(5 + 3 * s.length);
    const { written } = utf8Encoder.encodeInto(s, this.#bytes.subarray(start + head2));
    if (written !== s.length) {
      if (hasLoneSurrogate(s)) throw new Refused(loneSurrogate);
      const need = headSize(written);
      if (need !== head2) this.#bytes.copyWithin(start + need, start + head2, start + head2 + written);
      head2 = need;
    }
    this.#end = start;
    if (head2 === 1) this.#byte(160 | written);
    else if (head2 === 2) this.#head8(217, written);
    else if (head2 === 3) this.#head16(218, written);
    else this.#head32(219, written);
    this.#end += written;
  }
  #hugeString(s) {
    const start = this.#take(5);
    for (let from = 0; from < s.length; ) {
      const piece = s.slice(from, from + pieceLength), at = this.#take(3 * piece.length);
      let { read: read3, written } = utf8Encoder.encodeInto(piece, this.#bytes.subarray(at));
      const last = piece.charCodeAt(read3 - 1);
      if (last >= 55296 && last < 56320 && read3 > 1 && from + read3 < s.length) {
        read3--;
        written -= 3;
      }
      this.#end = at + written;
      from += read3;
    }
    const size = this.#end - start - 5;
    if (size !== s.length && hasLoneSurrogate(s)) throw new Refused(loneSurrogate);
    this.#bytes[start] = 219;
    this.#view.setUint32(start + 1, size);
  }
  #object(v, depth) {
    if (depth > encodeDepth) throw new Refused(`is nested deeper than ${encodeDepth} levels, or has itself in it`);
    if (Array.isArray(v)) this.#array(v, depth);
    else if (isPlain(v)) this.#map(v, depth);
    else if (has(mapSize, v)) this.#mapOf(v, depth);
    else if (has(setSize, v)) this.#array([...Set.prototype.values.call(v)], depth);
    else throw refusal(v);
  }
  #array(list, depth) {
    const n = list.length;
    if (n < 16) this.#byte(144 | n);
    else if (n < 65536) this.#head16(220, n);
    else this.#head32(221, n);
    let k = 0;
    try {
      for (; k < n; k++) this.#value(list[k], depth + 1);
    } catch (cause) {
      throw under(k, cause);
    }
  }
  // Writes the head of a map of at most n members, and returns its position.
  #mapHead(n) {
    const at = this.#end;
    if (n < 16) this.#byte(128 | n);
    else if (n < 65536) this.#head16(222, n);
    else this.#head32(223, n);
    return at;
  }
  // Corrects the head of a map that has fewer members than its head says. The head keeps its size.
  #fewer(at, most, n) {
    if (most < 16) this.#bytes[at] = 128 | n;
    else if (most < 65536) this.#view.setUint16(at + 1, n);
    else this.#view.setUint32(at + 1, n);
  }
  #map(object, depth) {
    let key, written = 0;
    try {
      if (Object.getOwnPropertySymbols(object).length > 0) checkSymbols(object);
      const keys = Object.keys(object), n = keys.length, at = this.#mapHead(n);
      for (let k = 0; k < n; k++) {
        key = keys[k];
        const v = object[key];
        if (v === void 0) continue;
        this.#string(key);
        this.#value(v, depth + 1);
        written++;
      }
      if (written < n) this.#fewer(at, n, written);
    } catch (cause) {
      throw under(key, cause);
    }
  }
  #mapOf(map, depth) {
    const entries = [...Map.prototype.entries.call(map)], at = this.#mapHead(entries.length);
    for (const [name] of entries) if (typeof name !== "string") throw wrongKey(name);
    let key, written = 0;
    try {
      for (const [name, v] of entries) {
        key = name;
        if (v === void 0) continue;
        this.#string(name);
        this.#value(v, depth + 1);
        written++;
      }
    } catch (cause) {
      throw under(key, cause);
    }
    if (written < entries.length) this.#fewer(at, entries.length, written);
  }
};
var headSize = (n) => n < 32 ? 1 : n < 256 ? 2 : n < 65536 ? 3 : 5;
var wrongKey = (key) => new Refused(`is a Map with the key ${String(key).slice(0, 40)} (${key === null ? "null" : typeof key}); keys are strings`);
function checkSymbols(object) {
  const symbol = Object.getOwnPropertySymbols(object).find((s) => Object.prototype.propertyIsEnumerable.call(object, s));
  if (symbol !== void 0) throw new Refused(`has the key ${String(symbol)} (symbol); keys are strings`);
  if (Object.prototype.toString.call(object) !== "[object Object]") throw refusal(object);
}
function under(key, thrown) {
  if (thrown instanceof TooLarge) return thrown;
  const refused2 = thrown instanceof Refused ? thrown : new Refused(`can not be read: ${thrown?.message ?? String(thrown)}`, thrown);
  if (key !== void 0) refused2.at.unshift(key);
  return refused2;
}
var shared = new Encoder();
var encoding = false;
var encode = (value, root, most = Infinity) => run(value, root, most, 0);
var encodeBehind = (before, value, root, most) => run(value, root, most, before);
function run(value, root, most, before) {
  const encoder = encoding ? new Encoder() : shared, was = encoding;
  encoding = true;
  try {
    return encoder.encode(value, most, before);
  } catch (thrown) {
    if (thrown instanceof TooLarge) throw thrown;
    const refused2 = under(void 0, thrown);
    throw new Error(`${pathOf(root, refused2.at)} ${refused2.message}`, refused2.cause === void 0 ? void 0 : { cause: refused2.cause });
  } finally {
    encoding = was;
  }
}
var keyCache = new Array(512).fill(null);
var Decoder = class {
  #bytes;
  #view;
  #from;
  #at;
  #end;
  constructor(bytes, view, from, end) {
    this.start(bytes, view, from, end);
  }
  start(bytes, view, from, end) {
    this.#bytes = bytes;
    this.#view = view;
    this.#from = this.#at = from;
    this.#end = end;
    return this;
  }
  get atEnd() {
    return this.#at === this.#end;
  }
  #take(n) {
    const at = this.#at;
    if (n > this.#end - at) throw new RangeError(`${n} bytes are to come at ${at - this.#from}, and ${this.#end - at} are left`);
    this.#at += n;
    return at;
  }
  value(depth) {
    const b = this.#bytes[this.#take(1)];
    if (b < 128) return b;
    if (b >= 224) return b - 256;
    if (b < 144) return this.#map(b & 15, depth);
    if (b < 160) return this.#array(b & 15, depth);
    if (b < 192) return this.#string(b & 31);
    switch (b) {
      case 192:
        return null;
      case 194:
        return false;
      case 195:
        return true;
      case 202:
        return finite(this.#view.getFloat32(this.#take(4)));
      case 203:
        return finite(this.#view.getFloat64(this.#take(8)));
      case 204:
        return this.#view.getUint8(this.#take(1));
      case 205:
        return this.#view.getUint16(this.#take(2));
      case 206:
        return this.#view.getUint32(this.#take(4));
      case 207:
        return this.#wide(this.#view.getUint32(this.#at));
      case 208:
        return this.#view.getInt8(this.#take(1));
      case 209:
        return this.#view.getInt16(this.#take(2));
      case 210:
        return this.#view.getInt32(this.#take(4));
      case 211:
        return this.#wide(this.#view.getInt32(this.#at));
      case 217:
        return this.#string(this.#view.getUint8(this.#take(1)));
      case 218:
        return this.#string(this.#view.getUint16(this.#take(2)));
      case 219:
        return this.#string(this.#view.getUint32(this.#take(4)));
      case 220:
        return this.#array(this.#view.getUint16(this.#take(2)), depth);
      case 221:
        return this.#array(this.#view.getUint32(this.#take(4)), depth);
      case 222:
        return this.#map(this.#view.getUint16(this.#take(2)), depth);
      case 223:
        return this.#map(this.#view.getUint32(this.#take(4)), depth);
      default:
        throw new RangeError(`the byte ${b} at ${this.#at - 1 - this.#from} begins no value`);
    }
  }
  #wide(high) {
    const n = high * 2 ** 32 + this.#view.getUint32(this.#take(8) + 4);
    if (!Number.isSafeInteger(n)) throw new RangeError(`the integer ${n} is not within \xB1(2^53 - 1)`);
    return n;
  }
  #string(n) {
    const at = this.#take(n), bytes = this.#bytes;
    if (n <= 32) {
      let text = "";
      for (let k = at, end = at + n; ; k++) {
        if (k === end) return text;
        const b = bytes[k];
        if (b >= 128) break;
        text += String.fromCharCode(b);
      }
    }
    return utf8Decoder.decode(bytes.subarray(at, at + n));
  }
  #checkCount(n, least, depth) {
    if (n * least > this.#end - this.#at) throw new RangeError(`${n} values are to come at ${this.#at - this.#from}, and ${this.#end - this.#at} bytes are left`);
    if (depth > decodeDepth) throw new RangeError(`values are nested deeper than ${decodeDepth} levels`);
  }
  #array(n, depth) {
    this.#checkCount(n, 1, depth);
    const list = [];
    for (let k = 0; k < n; k++) list.push(this.value(depth + 1));
    return list;
  }
  #map(n, depth) {
    this.#checkCount(n, 2, depth);
    const map = {};
    for (let k = 0; k < n; k++) {
      const key = this.#key(), value = this.value(depth + 1);
      if (key === "__proto__") {
        Object.defineProperty(map, key, { value, writable: true, enumerable: true, configurable: true });
      } else {
        map[key] = value;
      }
    }
    return map;
  }
  #key() {
    const start = this.#at, b = this.#bytes[start];
    if (!(b >= 160 && b < 192)) {
      const key = this.value(0);
      if (typeof key !== "string") throw new RangeError(`a key at ${start - this.#from} is no string`);
      return key;
    }
    const n = b & 31, end = start + 1 + n, bytes = this.#bytes;
    if (end > this.#end) this.#take(1 + n);
    const slot = n === 0 ? 0 : n * 31 + bytes[start + 1] * 7 + bytes[end - 1] * 131 + bytes[start + 1 + (n >> 1)] * 17 & 511;
    const cached = keyCache[slot];
    if (cached !== null && cached.bytes.length === n) {
      let k = 0;
      while (k < n && cached.bytes[k] === bytes[start + 1 + k]) k++;
      if (k === n) {
        this.#at = end;
        return cached.text;
      }
    }
    const text = this.value(0);
    keyCache[slot] = { bytes: bytes.slice(start + 1, end), text };
    return text;
  }
};
function finite(n) {
  if (!Number.isFinite(n)) throw new RangeError(`the number ${n} is not finite`);
  return n;
}
var viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
var noBytes = new Uint8Array(0);
var noView = viewOf(noBytes);
var decoder = new Decoder(noBytes, noView, 0, 0);
var decode = (bytes) => decodeRange(bytes, viewOf(bytes), 0, bytes.length);
function decodeRange(bytes, view, from, end) {
  try {
    const value = decoder.start(bytes, view, from, end).value(1);
    if (!decoder.atEnd) throw new RangeError("more bytes follow behind the value");
    return value;
  } finally {
    decoder.start(noBytes, noView, 0, 0);
  }
}
function decodeAll(bytes) {
  const all = new Decoder(bytes, viewOf(bytes), 0, bytes.length), values = [];
  while (!all.atEnd) values.push(all.value(1));
  return values;
}

// src/game.js
var feedSize = 1 << 20;
var replaySize = 256 << 10;
var window = 1024;
var utf82 = new TextEncoder();
var names = /* @__PURE__ */ new Map();
var none2 = new Uint8Array(0);
var headBytes = new Uint8Array(28);
var head = new DataView(headBytes.buffer);
function nameBytes(type) {
  let b = names.get(type);
  if (!b) {
    if (hasLoneSurrogate(type)) throw badInput("an action's type has half of a surrogate pair, for which UTF-8 has no bytes");
    b = utf82.encode(type);
    if (names.size < 256) names.set(type, b);
  }
  return b;
}
var overhead = (type) => 28 + nameBytes(type).length;
var tooLarge = (type, size, most) => new HyperTokenError("payload_too_large", `${type}: a payload of ${size} bytes is above ${most} (maxPayload)`);
function encodeAction(type, payload, now2, entropy, maxPayload) {
  if (typeof type !== "string" || type === "") throw badInput(`an action's type is ${nameOf(type)}, want a string that is not empty`);
  if (!Number.isSafeInteger(now2)) throw badInput(`${type}: now is ${nameOf(now2)}, want whole milliseconds since the epoch`);
  if (!isBytes(entropy) || entropy.length !== 16) {
    const found = isBytes(entropy) ? `a Uint8Array of ${entropy.length} bytes` : nameOf(entropy);
    throw badInput(`${type}: entropy is ${found}, want a Uint8Array of 16 bytes`);
  }
  const name = nameBytes(type), before = 28 + name.length;
  let b;
  try {
    b = encodeBehind(before, payload ?? void 0, "payload", maxPayload);
  } catch (cause) {
    if (cause instanceof TooLarge) throw tooLarge(type, `more than ${cause.size - before}`, maxPayload);
    throw badInput(`${type}: ${cause.message}`, cause.cause);
  }
  if (b.length - before > maxPayload) throw tooLarge(type, b.length - before, maxPayload);
  head.setUint32(0, now2 >>> 0, true);
  head.setInt32(4, Math.floor(now2 / 2 ** 32), true);
  head.setUint32(24, name.length, true);
  headBytes.set(entropy, 8);
  b.set(headBytes);
  b.set(name, 28);
  return b;
}
function encodeSetup(setup) {
  if (setup === void 0 || setup === null) return none2;
  if (typeof setup !== "object" || Array.isArray(setup)) throw badInput(`setup is ${nameOf(setup)}, want an object`);
  try {
    return encode(setup, "setup").slice();
  } catch (cause) {
    throw badInput(cause.message, cause.cause);
  }
}
var resolveOne = null;
var rejectOne = null;
var takeFunctions = (resolve, reject) => {
  resolveOne = resolve;
  rejectOne = reject;
};
var Op = class {
  withdrawn = false;
  settled = false;
  members = null;
  /**
   * The engine's game, the time that the request may take in milliseconds, and when that is over. 0
   * is no limit.
   */
  game = null;
  timeout = 0;
  deadline = 0;
  /** The list of those with the same timeout, and the neighbours there: see deadlines.js. */
  line = null;
  earlier = null;
  later = null;
  /**
   * The last death of a worker that had this request, or null. All requests of that worker share
   * the object. `cleared` says that another of them has killed a worker while it ran alone, so that
   * the rest are no suspects any more.
   */
  death = null;
  /** How many workers died while they ran this request alone. */
  deaths = 0;
  /**
   * Whether the request is the host's own: a snapshot, or a piece of placing the engine. No caller
   * waits for it.
   */
  internal = false;
  /** The batch that the action was gathered into. */
  batch = null;
  /** The requests that an independent batch was split into, one for each member, or null. */
  split = null;
  /** Whether a failure of this request raises no event, because its members raise their own. */
  quiet = false;
  /**
   * charged says that the request counts against maxQueue, and `size` how many bytes it counts
   * against maxQueueBytes. release is called when the request ends.
   */
  charged = false;
  size = 0;
  release = null;
  /** Whether a game counts the request as one for which a caller waits. */
  isOpen = false;
  /** The answer to this request, while it waits for the store: see storing.js. */
  answer = null;
  /**
   * The call of another tab that the request is for: {client, number, part}. The store keeps its
   * outcome.
   */
  key = null;
  /** The list of its game that the request is in, and its neighbours there: see list.js. */
  list = null;
  prev = null;
  next = null;
  #promise = null;
  #resolve = null;
  #reject = null;
  constructor(what, k, parts = [], flags = 0) {
    this.what = what;
    this.payload = void 0;
    this.outcome = null;
    this.kind = k;
    this.parts = parts;
    this.flags = flags;
  }
  /** The promise of the outcome. It is made when it is first asked for: many requests need none. */
  get promise() {
    if (this.#promise === null) {
      this.#promise = new Promise(takeFunctions);
      this.#resolve = resolveOne;
      this.#reject = rejectOne;
      resolveOne = rejectOne = null;
      if (this.outcome?.error) this.#reject(this.outcome.error);
      else if (this.outcome) this.#resolve(this.outcome.result);
    }
    return this.#promise;
  }
  /** Whether this request is a suspect. A suspect runs alone, and never on the main thread. */
  get suspect() {
    return this.death !== null && !this.death.cleared;
  }
  resolve(result) {
    if (this.#promise) this.#resolve(result);
    else this.outcome = { result };
  }
  reject(error) {
    if (this.#promise) this.#reject(error);
    else this.outcome = { error };
  }
};
var Journal = class {
  bytes = 0;
  /** The first and the last sequence of each batch of several actions, or null: see history.js. */
  batches = null;
  #full;
  #piece = none2;
  #view = null;
  #end = 0;
  /** @param {Uint8Array[]} [pieces] what a journal that does not grow by append begins with */
  constructor(pieces = []) {
    this.#full = pieces;
  }
  append(bytes, sum) {
    const size = entryHead + bytes.length;
    if (this.#end + size > this.#piece.length) this.#grow(size);
    this.#view.setUint32(this.#end, bytes.length, true);
    this.#view.setFloat64(this.#end + 4, sum, true);
    this.#piece.set(bytes, this.#end + entryHead);
    this.#end += size;
    this.bytes += size;
  }
  /** Appends whole entries, as a store has kept them. */
  appendEntries(entries) {
    if (this.#end > 0) this.#full.push(this.#piece.subarray(0, this.#end));
    this.#piece = none2;
    this.#end = 0;
    this.#full.push(entries);
    this.bytes += entries.length;
  }
  #grow(size) {
    let kept2 = this.#piece.subarray(0, this.#end);
    if (this.#end + size > replaySize) {
      if (this.#end > 0) this.#full.push(kept2);
      kept2 = kept2.subarray(0, 0);
    }
    this.#piece = new Uint8Array(Math.max(size, Math.min(replaySize, Math.max(256, 2 * this.#piece.length))));
    this.#piece.set(kept2);
    this.#view = new DataView(this.#piece.buffer);
    this.#end = kept2.length;
  }
  /** Appends a whole piece of a replay, to a journal that does not grow by append. */
  keep(piece) {
    this.#full.push(piece);
  }
  noteBatch(first, last) {
    (this.batches ??= []).push(first, last);
  }
  pieces() {
    return this.#end > 0 ? [...this.#full, this.#piece.subarray(0, this.#end)] : this.#full;
  }
};
var Game = class {
  sequence = 0;
  place = null;
  // {thread: Thread | null for the main thread, placement}
  broken = null;
  closed = false;
  /** Called before the game closes: sends the actions that are still gathered for a batch. */
  flush = () => {
  };
  /** Called after each commit that has changed the state; null if nothing follows the state. */
  handleChange = null;
  /**
   * The list that the game is in, and its neighbours there (see list.js): the one of its host that
   * has the games that wait for a place, or one of those in instances.js.
   */
  list = null;
  prev = null;
  next = null;
  /** When the game ended its last request, as performance.now(). */
  idleSince = 0;
  #host;
  #listener;
  #isHeard;
  #limits;
  #base;
  #journal;
  #ran = 0;
  /**
   * The parts of the journal before the base, if the engine keeps its history in memory; else null.
   * That of a saved game is in the store.
   */
  #kept;
  /** The rewind that is under way; null before the first. */
  #rewinds = null;
  #queue = new List();
  #sent = new List();
  #placing = null;
  #saving = null;
  #idle = [];
  #closing = null;
  #over = false;
  #hasToldFallback = false;
  /** How many requests that callers wait for are in #queue and #sent. */
  #open = 0;
  /**
   * Whether another game waits for this one's place, and how many requests of callers were sent
   * there.
   */
  #isYielding = false;
  #ranHere = 0;
  /** Keeps the journal in a store, or null: then the journal is in memory only. */
  #storing = null;
  /**
   * How large the journal has to be for the next snapshot, in bytes, after the store had no room
   * for one.
   */
  #leastToSave = 0;
  /**
   * How many placings in a row have failed, and the last death of a worker while this engine was
   * placed there (see Op.death).
   */
  #attempts = 0;
  #placeDeath = null;
  /**
   * @param {import('./host.js').Host} host
   * @param {import('./history.js').Base} base
   * @param {(name: string, detail: object) => boolean} listener returns whether there is a listener to that event
   * @param {() => boolean} isHeard whether there is any listener
   * @param {{pieces?: Uint8Array[], hasHistory?: boolean, saved?: import('./store.js').SavedGame}}
   *   [more] pieces: what follows the base, if the game is a past (see past.js). hasHistory: whether
   *   memory keeps what is behind a snapshot. saved: keeps the journal; if it has one already, the
   *   game goes on from that
   */
  constructor(host, base, listener, isHeard, { pieces, hasHistory = false, saved } = {}) {
    this.#host = host;
    this.#listener = listener;
    this.#isHeard = isHeard;
    this.#base = base;
    this.#journal = new Journal(pieces);
    this.#kept = hasHistory ? [] : null;
    this.#limits = new Uint8Array(16);
    const v = new DataView(this.#limits.buffer), o = host.options;
    v.setUint32(0, o.maxStateBytes >>> 0, true);
    v.setUint32(4, Math.floor(o.maxStateBytes / 2 ** 32), true);
    v.setUint32(8, o.maxResult, true);
    v.setUint32(12, o.maxDepth, true);
    if (saved) this.#storing = new Storing(this, saved);
  }
  get host() {
    return this.#host;
  }
  get pending() {
    return this.#queue.length + this.#sent.length;
  }
  /** Queues a request. */
  push(op2) {
    if (this.closed) throw shutdownError();
    if (this.broken) throw this.broken;
    this.#enqueue(op2);
    this.pump();
  }
  #enqueue(op2) {
    op2.isOpen = true;
    this.#open++;
    this.#queue.push(op2);
  }
  // Notes that no caller waits for a request any more.
  #close(op2) {
    if (!op2.isOpen) return;
    op2.isOpen = false;
    this.#open--;
  }
  /** Sends the requests that may be sent now. If the engine has no place, asks the host for one. */
  pump() {
    const queue = this.#queue;
    do {
      if (!this.place && queue.length > 0 && this.wantsPlace) this.#host.requestPlace(this);
      while (this.place && queue.length > 0 && this.#mayBeSent(queue.first)) this.#sendOrRefuse(queue.shift());
    } while (this.#isRewindNext && this.#endsRewindAtOnce());
    if (this.place) this.#noteUse();
    if (this.#idle.length > 0 && this.#open === 0) {
      for (const done of this.#idle.splice(0)) done();
    }
  }
  // Tells instances.js whether the engine has anything to do. If another one waits for its place,
  // the engine gives the place up as soon as everything that was sent is answered.
  #noteUse() {
    const hasQueue = this.#queue.length > 0;
    if (this.#sent.length > 0 || hasQueue && !this.#isYielding) {
      instances.markBusy(this);
    } else if (this.#isYielding && instances.isWanted) {
      this.leavePlace(true);
      if (hasQueue) this.pump();
    } else {
      this.#isYielding = false;
      instances.markIdle(this);
      this.#host.noteIdle(this);
      if (hasQueue) this.pump();
    }
  }
  /**
   * Has the engine give its place up once everything that was sent there is answered. The rest of
   * its requests wait until it has a place again. At least one request runs at each place: otherwise
   * two engines could take the place from each other for ever.
   */
  yieldPlace() {
    this.#isYielding = true;
  }
  // A suspect runs alone: nothing of this engine is sent before it is answered, and it is sent when
  // nothing is unanswered.
  #mayBeSent(op2) {
    if (op2.kind === kind.rewind) return false;
    if (this.#isYielding && this.#ranHere > 0) return false;
    if (this.#sent.length === 0) return true;
    return this.#sent.length < window && !op2.suspect && !this.#sent.first.suspect;
  }
  #sendOrRefuse(op2) {
    if (op2.suspect && !this.place.thread) {
      this.#fail(op2, new HyperTokenError("worker_unavailable", `${op2.what}: a Worker died while it may have run, and there is none to run it again`));
      return;
    }
    if (!op2.internal) this.#ranHere++;
    this.#send(op2);
  }
  #send(op2) {
    this.#sent.push(op2);
    const { thread, placement } = this.place;
    if (thread) thread.send(this, placement, op2);
    else this.#host.runHere(this, placement, op2);
  }
  /** Whether the engine still wants a place, now that the host comes to its request for one. */
  get wantsPlace() {
    return !this.broken && this.#queue.length > 0 && !this.#isRewindNext && (this.#storing === null || this.#storing.isIdle);
  }
  get #isRewindNext() {
    return this.#queue.first?.kind === kind.rewind;
  }
  /**
   * Whether the engine may be placed on the main thread. It may not if a worker died while it was
   * placed: then all requests that wait fail, because the same death would end the page.
   */
  mayRunHere() {
    if (!this.#placeDeath) return true;
    for (const op2 of [...this.#queue]) {
      this.withdraw(op2, new HyperTokenError("worker_unavailable", `${op2.what}: a Worker died while the engine was placed, and there is none to try again`));
    }
    return false;
  }
  /**
   * Takes a place that the host has found, and sends the base and the journal there. The requests
   * that wait follow at once.
   */
  placeAt(thread, placement) {
    this.place = { thread, placement };
    this.#isYielding = false;
    this.#ranHere = 0;
    instances.markBusy(this);
    const ops = [new Op("placing", kind.open, [this.#limits], this.#base.isSnapshot ? flag.restore : 0)];
    const { bytes } = this.#base;
    for (let at = 0; at < bytes.length; at += feedSize) ops.push(new Op("placing", kind.feed, [bytes.subarray(at, at + feedSize)]));
    ops.push(new Op("placing", kind.ready));
    for (const piece of this.#journal.pieces()) ops.push(new Op("placing", kind.replay, [piece]));
    this.#placing = new Set(ops);
    this.#saving = null;
    thread?.add(placement, this);
    if (thread) this.#hasToldFallback = false;
    for (const op2 of ops) {
      op2.internal = true;
      op2.death = this.#placeDeath;
      this.#send(op2);
    }
    this.pump();
  }
  /**
   * Takes the answer to a request. An answer from a place that the engine has left counts for
   * nothing.
   */
  handleAnswer(thread, placement, op2, f) {
    if (this.place?.placement !== placement || this.place.thread !== thread) return;
    if (op2.list === this.#sent) this.#sent.remove(op2);
    if (this.#placing?.has(op2)) this.#handlePlacingAnswer(op2, f);
    else this.#handleRequestAnswer(op2, f);
    this.pump();
  }
  #handlePlacingAnswer(op2, f) {
    if (f.flags & flag.failed) {
      const cause = errorOf(f.body);
      this.leavePlace();
      if (op2.kind === kind.open && cause.code === "out_of_memory" && instances.lowerBound()) return;
      if (this.sequence === 0 && !(f.flags & flag.lost)) this.fail(cause);
      else this.#countFailedPlacing(cause, this.sequence === 0);
      return;
    }
    this.#placing.delete(op2);
    if (this.#placing.size === 0) {
      this.#placing = null;
      this.#attempts = 0;
      this.#placeDeath = null;
      this.#host.counts.placed++;
      if (this.#storing?.isNew) this.#storing.create({ sequence: 0, bytes: this.#base.bytes, isSnapshot: this.#base.isSnapshot, limits: this.#limits });
    }
  }
  // isOwnError says that the engine was never used and the core has said why: then callers get the
  // core's error itself.
  #countFailedPlacing(cause, isOwnError = false) {
    if (++this.#attempts < this.#host.options.maxAttempts) return;
    this.fail(isOwnError ? cause : new HyperTokenError("broken", `the engine could not be placed ${this.#attempts} times (maxAttempts): ${cause.message}`, { cause }));
  }
  #handleRequestAnswer(op2, f) {
    const lost = f.flags & flag.lost, changed = (f.flags & flag.changed) !== 0;
    if (lost || op2.withdrawn && changed) this.leavePlace();
    if (op2.withdrawn) return;
    if (f.flags & flag.failed) {
      const error = errorOf(f.body);
      if (this.#storing) this.#storing.push(op2, () => this.#fail(op2, error), [], { error });
      else this.#fail(op2, error);
      return;
    }
    if (op2.kind === kind.checksums) this.#journal.keep(op2.parts[0]);
    if (op2.kind === kind.dispatch || op2.kind === kind.batch) {
      this.#commit(op2, f, changed);
      return;
    }
    const body = f.body.slice();
    if (op2.internal && this.#storing) this.#storing.pushBase(op2, { bytes: body, isSnapshot: true }, () => this.#saved(body));
    else if (op2.internal) this.#saved(body);
    else if (this.#storing) this.#storing.push(op2, () => this.#succeed(op2, body));
    else this.#succeed(op2, body);
  }
  #append(bytes, sum) {
    this.#journal.append(bytes, sum);
    this.sequence++;
  }
  #commit(op2, f, changed) {
    let r, events, members = null, result;
    try {
      r = readAnswer(f);
      events = r.events ? decodeAll(r.events) : none2;
      if (op2.members) {
        members = (r.members ?? []).map((m, k) => m.failed ? { ...op2.members[k], error: errorOf(m.body) } : { ...op2.members[k], ...m, result: decode(m.body) });
        result = members.map((m) => m.error ? { error: m.error } : { result: m.result });
      } else {
        result = decodeRange(f.bytes, f.view, r.from, r.end);
      }
    } catch (cause) {
      if (changed) this.leavePlace();
      this.#fail(op2, unreadable(op2.what, cause));
      return;
    }
    if (this.#storing) {
      const { ran, sum } = r;
      const records = !changed ? [] : members ? members.filter((m) => m.changed) : [{ bytes: op2.parts[0], sum }];
      this.#storing.push(op2, () => this.#settleAction(op2, { ran, sum }, result, events, members, changed), records, { result });
    } else {
      this.#settleAction(op2, r, result, events, members, changed);
    }
  }
  // Takes an action into the journal, and tells its caller and the listeners.
  #settleAction(op2, r, result, events, members, changed) {
    if (changed) this.#ran += r.ran;
    if (!members && changed) this.#append(op2.parts[0], r.sum);
    const before = this.sequence;
    if (members) {
      for (const m of members) if (m.changed) this.#append(m.bytes, m.sum);
    }
    if (members && this.sequence > before + 1) this.#journal.noteBatch(before + 1, this.sequence);
    this.#saveIfDue();
    this.#succeed(op2, result);
    if (this.#isHeard()) this.#raise(events, members ?? [{ type: op2.what, payload: op2.payload, result, changed }]);
    if (changed) this.handleChange?.();
  }
  #raise(events, done) {
    const changes = done.length > 1 ? done.filter((d) => d.changed).length : done[0].changed ? 1 : 0;
    let sequence = this.sequence - changes;
    const first = sequence + 1;
    for (const [name, detail] of events) this.#listener(name, detail);
    for (const { type, payload, result, error, changed } of done) {
      if (error) {
        this.#listener("engine:error", { error, type });
        continue;
      }
      if (changed) sequence++;
      const detail = { type, payload, result, sequence };
      if (changed && changes > 1) detail.batch = first;
      this.#listener("engine:action", detail);
      if (changed) this.#listener("state:updated", detail);
    }
  }
  #fail(op2, error) {
    if (op2.internal) {
      this.#saving = null;
      return;
    }
    if (op2.settled) return;
    this.settle(op2, () => op2.reject(error));
    if (!op2.quiet) this.#listener("engine:error", { error, type: op2.kind === kind.batch ? "batch" : op2.what });
  }
  /** Ends a request, once. f resolves or rejects its promise. */
  settle(op2, f) {
    if (this.#end(op2)) f();
  }
  // Ends a request whose promise the caller resolves. Returns false if it has ended before.
  #end(op2) {
    if (op2.settled) return false;
    op2.settled = true;
    this.#close(op2);
    this.#host.release(op2);
    return true;
  }
  #succeed(op2, result) {
    if (this.#end(op2)) op2.resolve(result);
  }
  // A snapshot replaces the journal once a replay of the journal would cost more than the snapshot
  // does.
  #saveIfDue() {
    const { snapshotBytes, replayBudget } = this.#host.options;
    if (this.#saving || this.#journal.bytes <= Math.max(this.#base.bytes.length, snapshotBytes) && this.#ran <= replayBudget) return;
    if (this.#journal.bytes < this.#leastToSave) return;
    this.#saving = new Op("snapshot", kind.snapshot);
    this.#saving.internal = true;
    this.#queue.unshift(this.#saving);
  }
  // Answers come in order. So the snapshot is the state after exactly the actions that were
  // acknowledged before it.
  #saved(bytes) {
    this.#goOnFrom({ sequence: this.sequence, bytes, isSnapshot: true, digest: null, marker: null });
    this.#saving = null;
    this.#leastToSave = 0;
  }
  // A base takes the place of the journal.
  #goOnFrom(base) {
    this.#kept?.push(this.#newestSegment(base.marker ? base.sequence - 1 : base.sequence));
    this.#base = base;
    this.#journal = new Journal();
    this.#ran = 0;
  }
  #newestSegment(end) {
    return { base: this.#base, journal: this.#journal, end };
  }
  /**
   * The part of the journal that this game keeps. If the game is saved, it is a promise of the part from
   * the state of one sequence to that of another.
   * @param {string} what names the request in errors
   */
  history(what, from, to) {
    if (this.#storing) return this.#storing.history(what, from, to);
    return new History([...this.#kept ?? none2, this.#newestSegment(this.sequence)], what);
  }
  /** The current step, and those to redo. */
  get position() {
    return positionAt(this.#base, this.sequence);
  }
  /** The game that computes where a rewind leads, or null. It needs a place before this one. */
  get past() {
    return this.#rewinds?.past ?? null;
  }
  #endsRewindAtOnce() {
    if (this.#sent.length > 0 || this.#storing?.isIdle === false) return false;
    this.#rewinds ??= new Rewinds(this);
    return this.#rewinds.endsAtOnce(this.#queue.first);
  }
  /** Ends the rewind that is under way, the first request that waits, with an error. */
  endRewind(op2, error) {
    this.#queue.shift();
    if (this.#storing) this.#storing.push(op2, () => this.#fail(op2, error), [], { error });
    else this.#fail(op2, error);
  }
  /** Takes in the base that the rewind under way leads to. */
  takeRewind(op2, base) {
    this.#queue.shift();
    const result = { sequence: base.sequence, digest: base.digest };
    if (this.#storing) this.#storing.pushBase(op2, base, () => this.#settleRewind(op2, base, result), { result });
    else this.#settleRewind(op2, base, result);
  }
  #settleRewind(op2, base, result) {
    this.sequence++;
    this.#goOnFrom(base);
    this.#succeed(op2, result);
    if (this.#isHeard()) this.#raise([], [{ type: op2.what, result: { to: base.marker.to, digest: base.digest }, changed: true }]);
    this.handleChange?.();
  }
  // The store, which storing.js asks.
  /**
   * Takes in what the store has of this game: its base, and the entries behind it. null if the name
   * is new: then the game begins as the engine was made.
   */
  handleOpened(saved) {
    if (saved) {
      const { base, groups } = saved;
      this.#base = { sequence: base.sequence, bytes: base.bytes, isSnapshot: base.isSnapshot, digest: null, marker: base.marker };
      this.#limits = base.limits;
      this.sequence = base.sequence;
      for (const { bytes, count } of groups) {
        this.#journal.appendEntries(bytes);
        this.sequence += count;
      }
    }
    this.pump();
  }
  /**
   * Takes in that the store has not stored a group. Its actions, or its rewind, fail. What was
   * answered behind them runs again, from the journal without them.
   * @param {import('./storing.js').Answer[]} group
   * @param {import('./storing.js').Answer[]} rest what waited behind the group
   * @param {HyperTokenError} error if its code is `moved`, the game is no longer this engine's
   */
  handleNotStored(group, rest, error) {
    const changes = ({ op: op2, records, base }) => records.length > 0 || base !== null && !op2.internal;
    this.#runAgain([...group.filter((answer) => !changes(answer)), ...rest]);
    for (const answer of group) if (changes(answer)) this.#fail(answer.op, error);
    if (error.code === "moved") this.fail(error);
  }
  /**
   * Takes in that the store has not stored a snapshot. The journal goes on without it, and is to
   * double before the next one.
   */
  handleBaseNotStored() {
    this.#saving = null;
    this.#ran = 0;
    this.#leastToSave = 2 * this.#journal.bytes;
  }
  // Gives the place up, and has requests run again whose answers saw what is not stored.
  #runAgain(answers) {
    this.leavePlace();
    for (const { op: op2 } of answers.reverse()) {
      op2.answer = null;
      if (op2.internal) this.#saving = null;
      else if (!op2.settled) this.#queue.unshift(op2);
    }
  }
  // A request ends whose answer waits for the store, and was not handed to it.
  #dropAnswer(op2) {
    const { answer } = op2;
    if (answer.records.length > 0) {
      this.#runAgain(this.#storing.takeBehind(answer));
    } else {
      this.#storing.remove(answer);
    }
    op2.answer = null;
  }
  /**
   * Takes in that the worker of this engine has ended, by the rules of docs/recovery.md.
   * @param {Op} [ran] the oldest request that the worker had not answered; it may be of another engine
   * @param {{cleared: boolean} | null} death null if the host has killed the worker because of `ran`; then nothing is suspected
   */
  handleWorkerEnd(ran, death) {
    if (!this.place) return;
    const ranPlacing = this.#placing?.has(ran), ranAlone = death !== null && ran?.suspect && ran.list === this.#sent;
    if (ranAlone) {
      ran.death.cleared = true;
      ran.deaths++;
    }
    if (death) {
      if (this.#placing) this.#placeDeath = death;
      for (const op2 of this.#sent) op2.death = death;
    }
    this.#forgetPlace();
    if (death) this.#splitBatches();
    const { maxAttempts } = this.#host.options;
    if (ranPlacing && death === null) {
      this.#countFailedPlacing(new HyperTokenError("timeout", "a Worker was silent while the engine was placed"));
    } else if (ranPlacing && ranAlone) {
      this.#countFailedPlacing(new HyperTokenError("poisoned", "the Worker died while the engine was placed alone"));
    } else if (ranAlone && ran.deaths >= maxAttempts && this.#queue.first === ran) {
      this.#queue.shift();
      this.#fail(ran, new HyperTokenError("poisoned", `${ran.what}: the Worker died ${ran.deaths} times while it ran alone (maxAttempts)`));
    }
    this.pump();
  }
  // A worker that had an independent batch has died. Each member becomes a request of its own. So
  // the member that kills workers is found, and the others have their effect.
  #splitBatches() {
    const queue = this.#queue;
    this.#queue = new List();
    for (let op2 = queue.shift(); op2; op2 = queue.shift()) {
      if (!op2.suspect || !op2.members || op2.flags & flag.atomic || op2.members.length < 2) {
        this.#queue.push(op2);
        continue;
      }
      this.#close(op2);
      op2.split = op2.members.map(({ type, payload, bytes }, k) => {
        const part = new Op(type, kind.dispatch, [bytes]);
        part.payload = payload;
        part.death = op2.death;
        part.quiet = op2.quiet;
        if (op2.key) part.key = { ...op2.key, part: k };
        this.#enqueue(part);
        return part;
      });
      const outcomes = op2.split.map((part) => part.promise.then((result) => ({ result }), (error) => ({ error })));
      Promise.all(outcomes).then((all) => this.settle(op2, () => op2.resolve(all)));
    }
  }
  /**
   * Gives the place up. The requests that were sent and have no answer run again elsewhere.
   * @param {boolean} [isKept] whether the instance is kept for another engine
   */
  leavePlace(isKept = false) {
    if (!this.place) return;
    const { thread, placement } = this.place, isRunning = this.#sent.length > 0;
    if (thread) thread.close(placement, isKept);
    else this.#host.leftHere(placement, isKept);
    this.#forgetPlace();
    if (isRunning) thread?.noteDropped();
  }
  #forgetPlace() {
    if (this.#saving?.list) this.#saving.list.remove(this.#saving);
    this.#saving = null;
    for (let op2 = this.#sent.last; op2; op2 = this.#sent.last) {
      this.#sent.remove(op2);
      if (!op2.internal && !op2.withdrawn) this.#queue.unshift(op2);
    }
    this.#placing = null;
    this.place = null;
    instances.remove(this);
  }
  /**
   * Ends a request with an error, unless it has ended. From then on it has no effect: if it was
   * sent, its answer fences the engine.
   */
  withdraw(op2, error) {
    if (op2.settled) return;
    if ((op2.batch ?? op2).answer?.isHanded) return;
    if (op2.split) {
      for (const part of op2.split) this.withdraw(part, error);
      return;
    }
    const isSent = op2.list === this.#sent;
    if (op2.list === this.#queue) this.#queue.remove(op2);
    else if (op2.answer) this.#dropAnswer(op2);
    else op2.withdrawn = true;
    this.#rewinds?.abandon(op2, error);
    this.#fail(op2, error);
    if (op2.batch) {
      this.withdraw(op2.batch, new HyperTokenError("batch_aborted", `it had no effect: ${op2.what} was in the same batch, and ended: ${error.message}`, { cause: error }));
    }
    if (isSent) this.place?.thread?.noteDropped();
    this.pump();
  }
  /** Breaks the game: every request that has no outcome fails. */
  fail(error) {
    this.broken = error;
    this.#listener("engine:error", { error });
    this.#withdrawAll(error);
  }
  #withdrawAll(error) {
    const waiting2 = this.#storing?.waiting ?? [];
    for (const op2 of [...waiting2.reverse(), ...this.#sent, ...this.#queue]) if (!op2.internal) this.withdraw(op2, error);
  }
  /**
   * Waits until every request has its outcome, for `timeout` milliseconds at most, 0 for any time,
   * and gives the place up. From the first call on no request is taken. A later call may set the
   * timeout.
   */
  close(timeout) {
    this.#closing ??= (async () => {
      this.flush();
      this.closed = true;
      if (this.#open > 0) await new Promise((resolve) => this.#idle.push(resolve));
      await this.#storing?.close();
      this.leavePlace();
      this.#host.remove(this);
    })();
    if (timeout > 0 && timeout < Infinity) {
      const expire = () => {
        this.#withdrawAll(shutdownError());
        for (const op2 of this.#storing?.abandon() ?? []) this.#fail(op2, new HyperTokenError("outcome_unknown", `${op2.what}: the store has not said whether it is stored`));
        this.pump();
      };
      const timer = setTimeout(expire, Math.min(timeout, 2 ** 31 - 1));
      this.#closing.then(() => clearTimeout(timer));
    }
    return this.#closing;
  }
  /** Raises the event that the engine is shut down, once. */
  raiseShutdown() {
    if (this.#over) return;
    this.#over = true;
    this.#listener("engine:shutdown", {});
  }
  /**
   * Raises an event that says why the engine goes on on the main thread, once until it has been on
   * a worker again.
   */
  raiseFallback(error) {
    if (this.#hasToldFallback) return;
    this.#hasToldFallback = true;
    this.#host.counts.fallbacks++;
    if (!this.#listener("engine:error", { error })) this.#host.warnFallback(error);
  }
  /** Leaves the main thread for a worker, unless a request runs here. */
  moveBack() {
    if (this.place && !this.place.thread && this.#sent.length === 0) {
      this.leavePlace();
      this.pump();
    }
  }
};
function errorOf(body) {
  try {
    const { code, message, index } = decode(body);
    if (typeof code !== "string") throw new Error("it has no code");
    return new HyperTokenError(code, message, { index });
  } catch (cause) {
    return unreadable("an error", cause);
  }
}

// src/current.js
var isObject = (value) => typeof value === "object" && value !== null;
function share(before, after) {
  if (!isObject(after)) return after;
  const isSame = Array.isArray(after) ? shareItems(Array.isArray(before) ? before : [], after) : shareMembers(isObject(before) && !Array.isArray(before) ? before : {}, after);
  return isSame && isObject(before) && Array.isArray(before) === Array.isArray(after) ? before : Object.freeze(after);
}
function shareItems(before, after) {
  let isSame = before.length === after.length;
  for (let k = 0; k < after.length; k++) {
    const was = before[k];
    let value = after[k];
    if (isObject(value)) {
      const shared2 = share(was, value);
      if (shared2 !== value) after[k] = value = shared2;
    }
    if (value !== was) isSame = false;
  }
  return isSame;
}
function shareMembers(before, after) {
  const keys = Object.keys(after), formerKeys = Object.keys(before);
  let isSame = keys.length === formerKeys.length;
  for (let k = 0; k < keys.length; k++) {
    const key = keys[k];
    const was = formerKeys[k] === key || Object.hasOwn(before, key) ? before[key] : void 0;
    let value = after[key];
    if (isObject(value)) {
      const shared2 = share(was, value);
      if (shared2 !== value) after[key] = value = shared2;
    }
    if (value !== was) isSame = false;
  }
  return isSame;
}
var StateRequest = class extends Op {
  #f;
  constructor(f) {
    super("state", kind.state);
    this.#f = f;
  }
  resolve(bytes) {
    super.resolve(bytes);
    this.#f(bytes);
  }
  reject(error) {
    super.reject(error);
    this.#f(null);
  }
};
var Current = class {
  #game;
  #limit;
  #fail;
  #state;
  #isFollowing = false;
  #isAsking = false;
  #listeners = /* @__PURE__ */ new Set();
  /**
   * @param {import('./game.js').Game} game
   * @param {(request: Op) => void} limit gives a request its deadline
   * @param {(cause: Error) => void} fail is called if the core's answer can't be read
   */
  constructor(game, limit, fail) {
    this.#game = game;
    this.#limit = limit;
    this.#fail = fail;
  }
  /** The state as it was last told, or undefined. From the first read on, the engine is followed. */
  get state() {
    this.#follow();
    return this.#state;
  }
  /** Calls f after each change of `state`. Returns a function after which f is not called any more. */
  subscribe(f) {
    const listener = () => f();
    this.#listeners.add(listener);
    this.#follow();
    return () => {
      this.#listeners.delete(listener);
    };
  }
  #follow() {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    this.#game.handleChange = () => this.#ask();
    this.#ask();
  }
  // Answers come in the order of the requests. So, while a request for the state is unanswered, its
  // answer will have all changes that are told meanwhile.
  #ask() {
    if (this.#isAsking || this.#game.closed || this.#game.broken) return;
    this.#isAsking = true;
    const request = new StateRequest((bytes) => this.#take(bytes));
    this.#limit(request);
    this.#game.push(request);
  }
  #take(bytes) {
    this.#isAsking = false;
    if (bytes === null) return;
    let state;
    try {
      state = share(this.#state, decode(bytes));
    } catch (cause) {
      this.#fail(cause);
      return;
    }
    if (state === this.#state) return;
    this.#state = state;
    for (const listener of [...this.#listeners]) {
      try {
        if (this.#listeners.has(listener)) listener();
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
};

// src/lines.js
var utf83 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
var deepest = 200;
function jsonOf(bytes) {
  const writer = new Writer2(bytes), text = writer.value(1);
  if (!writer.isAtEnd) throw new RangeError("more bytes follow behind the value");
  return text;
}
var Writer2 = class {
  #bytes;
  #view;
  #at = 0;
  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  get isAtEnd() {
    return this.#at === this.#bytes.length;
  }
  #take(n) {
    const at = this.#at;
    if (n > this.#bytes.length - at) throw new RangeError(`the value ends too early, at ${at}`);
    this.#at += n;
    return at;
  }
  value(depth) {
    if (depth > deepest) throw new RangeError(`values are nested deeper than ${deepest} levels`);
    const v = this.#view, b = v.getUint8(this.#take(1));
    if (b < 128) return String(b);
    if (b >= 224) return String(b - 256);
    if (b < 144) return this.#map(b & 15, depth);
    if (b < 160) return this.#array(b & 15, depth);
    if (b < 192) return this.#string(b & 31);
    switch (b) {
      case 192:
        return "null";
      case 194:
        return "false";
      case 195:
        return "true";
      case 202:
        return float(v.getFloat32(this.#take(4)));
      case 203:
        return float(v.getFloat64(this.#take(8)));
      case 204:
        return String(v.getUint8(this.#take(1)));
      case 205:
        return String(v.getUint16(this.#take(2)));
      case 206:
        return String(v.getUint32(this.#take(4)));
      case 207:
        return wide(v.getBigUint64(this.#take(8)));
      case 208:
        return String(v.getInt8(this.#take(1)));
      case 209:
        return String(v.getInt16(this.#take(2)));
      case 210:
        return String(v.getInt32(this.#take(4)));
      case 211:
        return wide(v.getBigInt64(this.#take(8)));
      case 217:
        return this.#string(v.getUint8(this.#take(1)));
      case 218:
        return this.#string(v.getUint16(this.#take(2)));
      case 219:
        return this.#string(v.getUint32(this.#take(4)));
      case 220:
        return this.#array(v.getUint16(this.#take(2)), depth);
      case 221:
        return this.#array(v.getUint32(this.#take(4)), depth);
      case 222:
        return this.#map(v.getUint16(this.#take(2)), depth);
      case 223:
        return this.#map(v.getUint32(this.#take(4)), depth);
      default:
        throw new RangeError(`the byte ${b} at ${this.#at - 1} begins no value`);
    }
  }
  #string(n) {
    const at = this.#take(n);
    return JSON.stringify(utf83.decode(this.#bytes.subarray(at, at + n)));
  }
  #array(n, depth) {
    const items = [];
    for (let k = 0; k < n; k++) items.push(this.value(depth + 1));
    return `[${items.join(",")}]`;
  }
  #map(n, depth) {
    const members = [];
    for (let k = 0; k < n; k++) {
      const key = this.value(depth + 1);
      if (!key.startsWith('"')) throw new RangeError("a key is no string");
      members.push(`${key}:${this.value(depth + 1)}`);
    }
    return `{${members.join(",")}}`;
  }
};
function wide(n) {
  if (!Number.isSafeInteger(Number(n))) throw new RangeError(`the integer ${n} is not within \xB1(2^53 - 1)`);
  return String(n);
}
function float(n) {
  if (!Number.isFinite(n)) throw new RangeError(`the number ${n} is not finite`);
  const text = Object.is(n, -0) ? "-0" : String(n);
  return /[.e]/.test(text) ? text : `${text}.0`;
}
var space = /[ \t\r\n]*/y;
var stringForm = /"(?:[^"\\\u0000-\u001f]|\\.)*"/y;
var numberForm = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
var literals = /* @__PURE__ */ new Map([["null", [192]], ["false", [194]], ["true", [195]]]);
function readLine(text) {
  const reader = new Reader(text), members = /* @__PURE__ */ new Map();
  reader.object(1, (key, parts) => {
    if (members.has(key)) throw new SyntaxError(`the member ${JSON.stringify(key)} stands twice`);
    members.set(key, joined(parts));
  });
  reader.end();
  return members;
}
function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
var headOf = (n, small, wide16) => n < 16 ? [small | n] : n < 65536 ? [wide16, n >> 8, n & 255] : [wide16 + 1, n >>> 24, n >> 16 & 255, n >> 8 & 255, n & 255];
var Reader = class {
  #text;
  #at = 0;
  constructor(text) {
    this.#text = text;
  }
  #match(form) {
    form.lastIndex = this.#at;
    const found = form.exec(this.#text);
    if (found) this.#at = form.lastIndex;
    return found;
  }
  #next() {
    this.#match(space);
    return this.#text[this.#at];
  }
  #fail(wanted) {
    const found = this.#at < this.#text.length ? JSON.stringify(this.#text.slice(this.#at, this.#at + 10)) : "the end";
    throw new SyntaxError(`it is no JSON: at character ${this.#at + 1} is ${found}, want ${wanted}`);
  }
  #expect(character) {
    if (this.#next() !== character) this.#fail(character);
    this.#at++;
  }
  end() {
    if (this.#next() !== void 0) this.#fail("the end of the line");
  }
  #string() {
    this.#match(space);
    const found = this.#match(stringForm);
    if (!found) this.#fail("a string");
    return JSON.parse(found[0]);
  }
  /**
   * Reads an object, and calls f with each of its keys and the pieces of the value's MessagePack.
   */
  object(depth, f) {
    this.#expect("{");
    if (this.#next() === "}") {
      this.#at++;
      return;
    }
    for (; ; ) {
      const key = this.#string(), parts = [];
      this.#expect(":");
      this.#value(depth + 1, parts);
      f(key, parts);
      if (this.#next() === "}") break;
      this.#expect(",");
    }
    this.#at++;
  }
  #value(depth, out) {
    if (depth > deepest) throw new SyntaxError(`values are nested deeper than ${deepest} levels`);
    const c = this.#next();
    if (c === "{") {
      const parts = [], keys = /* @__PURE__ */ new Set();
      this.object(depth, (key, value) => {
        if (keys.has(key)) throw new SyntaxError(`the key ${JSON.stringify(key)} stands twice in one object`);
        keys.add(key);
        parts.push(encode(key, "a key").slice(), ...value);
      });
      out.push(headOf(keys.size, 128, 222));
      for (const part of parts) out.push(part);
    } else if (c === "[") {
      this.#array(depth, out);
    } else if (c === '"') {
      out.push(encode(this.#string(), "a string").slice());
    } else {
      out.push(this.#scalar());
    }
  }
  #array(depth, out) {
    const parts = [];
    let n = 0;
    this.#at++;
    if (this.#next() === "]") this.#at++;
    else {
      for (; ; ) {
        this.#value(depth + 1, parts);
        n++;
        if (this.#next() === "]") break;
        this.#expect(",");
      }
      this.#at++;
    }
    out.push(headOf(n, 144, 220));
    for (const part of parts) out.push(part);
  }
  #scalar() {
    for (const [word, bytes2] of literals) {
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return bytes2;
      }
    }
    const found = this.#match(numberForm);
    if (!found) this.#fail("a value");
    const [text, point, exponent] = found, n = Number(text);
    if (point === void 0 && exponent === void 0) {
      if (!Number.isSafeInteger(n)) throw new SyntaxError(`the integer ${text.slice(0, 40)} is not within \xB1(2^53 - 1)`);
      return encode(n, "a number").slice();
    }
    if (!Number.isFinite(n)) throw new SyntaxError(`the number ${text.slice(0, 40)} is larger than any float`);
    const bytes = new Uint8Array(9);
    bytes[0] = 203;
    new DataView(bytes.buffer).setFloat64(1, n);
    return bytes;
  }
};

// src/past.js
var hex64 = (bytes) => [...bytes].reverse().map((b) => b.toString(16).padStart(2, "0")).join("");
var Question = class extends Op {
  #f;
  constructor(what, k, parts, f) {
    super(what, k, parts);
    this.#f = f;
  }
  resolve(bytes) {
    this.#f(null, bytes);
  }
  reject(error) {
    this.#f(error);
  }
};
var Past = class {
  /** The game that is placed. */
  game;
  #host;
  #what;
  #sequence;
  #questions = /* @__PURE__ */ new Set();
  /**
   * @param {import('./host.js').Host} host
   * @param {string} what names the request in errors
   * @param {number} sequence of the state
   * @param {{base: import('./history.js').Base, pieces: Uint8Array[]}} part what leads to that
   *   state
   */
  constructor(host, what, sequence, { base, pieces }) {
    this.#host = host;
    this.#what = what;
    this.#sequence = sequence;
    this.game = new Game(host, base, () => true, () => false, { pieces });
    host.adopt(this.game);
  }
  /** Asks a question. f is called once, with (error) or with (null, bytes). */
  askThen(k, parts, f, take = void 0) {
    const question = new Question(this.#what, k, parts, (error, bytes) => {
      this.#questions.delete(question);
      f(error && this.#explain(error), bytes);
    });
    this.#questions.add(question);
    try {
      take?.(this.game, question);
      this.game.push(question);
    } catch (error) {
      this.#questions.delete(question);
      this.#host.release(question);
      throw error;
    }
  }
  /**
   * Asks a question, and resolves with the answer's bytes.
   * @param {(game: Game, question: Op) => void} take makes room for the question in the host's
   *   queue, and gives it its deadline and its signal
   */
  ask(k, parts, take) {
    return new Promise((resolve, reject) => {
      this.askThen(k, parts, (error, bytes) => error ? reject(error) : resolve(bytes), take);
    });
  }
  // A past that can not be placed is no fault of the engine itself.
  #explain(error) {
    if (error !== this.game.broken) return error;
    const { code, message } = error.code === "broken" && error.cause instanceof HyperTokenError ? error.cause : error;
    const which = `the state of the sequence ${this.#sequence}`;
    return new HyperTokenError(code, `${this.#what}: ${which} can not be placed: ${message}`, { cause: error });
  }
  /** Ends the questions that are open with an error, and gives the place up. */
  close(error) {
    for (const question of [...this.#questions]) this.game.withdraw(question, error);
    this.game.leavePlace(true);
    return this.game.close(0);
  }
};
var Rewind = class extends Op {
  #past = null;
  /**
   * @param {'revert' | 'undo' | 'redo'} what
   * @param {number} [to] the sequence of the state that a revert leads to
   */
  constructor(what, to) {
    super(what, kind.rewind);
    if (what === "revert" && !isSequence(to)) throw badInput("revert: the sequence is not a whole number from 0 on");
    this.to = to;
  }
  /**
   * Returns which part of the journal the rewind needs: from the state of one sequence to that of
   * another.
   * @param {import('./history.js').Position} position that of the newest state
   * @param {number} newest its sequence
   * @returns {[number, number]}
   */
  span({ current, redo }, newest) {
    if (this.what === "undo" && current > 0) return [current - 1, current];
    const to = this.what === "undo" ? newest : this.what === "redo" ? redo.at(-1) : this.to;
    return to <= newest ? [to, to] : [newest, newest];
  }
  /**
   * Returns where the rewind leads to, or throws.
   * @param {import('./history.js').History} history
   * @param {import('./history.js').Position} position that of the newest state
   */
  choose(history, position) {
    return this.what === "revert" ? history.revertTo(this.to) : history[this.what](position);
  }
  /** The game that computes the state, or null. */
  get past() {
    return this.#past?.game ?? null;
  }
  /**
   * Computes the state, with its digest. done is called once, unless the rewind is abandoned: with
   * (error), or with (null, bytes, digest).
   */
  begin(host, { marker, part }, done) {
    this.#past = new Past(host, this.what, marker.to, part);
    const end = (error, ...found) => {
      const past = this.#past;
      if (!past) return;
      this.#past = null;
      past.close(error);
      done(error, ...found);
    };
    let digest;
    this.#past.askThen(kind.digest, [], (error, bytes) => {
      if (error) end(error);
      else digest = hex64(bytes);
    });
    this.#past?.askThen(kind.snapshot, [], (error, bytes) => end(error, bytes, digest));
  }
  /** Stops computing the state: the rewind has ended with an error. */
  abandon(error) {
    const past = this.#past;
    this.#past = null;
    past?.close(error);
  }
};
var isSequence = (n) => Number.isSafeInteger(n) && n >= 0;
function checkSpan(history, { from, to }) {
  if (to !== void 0) history.check(to, "to");
  if (from !== void 0) history.check(from, "from");
  if (from > (to ?? history.newest)) throw badInput(`journal: from is ${from}, which is behind ${to}, which is to`);
}

// src/exporting.js
var utf84 = new TextDecoder();
var hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 24576) {
    text += btoa(String.fromCharCode(...bytes.subarray(at, at + 24576)));
  }
  return text;
}
var stateOf = ({ bytes, sequence }, core, digest) => `"snapshot":"${base64(bytes)}","sequence":${sequence},"core":"${core}","digest":"${digest}","keys":[]}`;
function baseLine(base, core, digest) {
  if (base.marker) return `{"marker":"${base.marker.kind}",${detailsOf(base.marker)}${stateOf(base, core, digest)}`;
  if (base.isSnapshot) return `{${stateOf(base, core, digest)}`;
  return `{"setup":${base.bytes.length > 0 ? jsonOf(base.bytes) : "{}"},"core":"${core}"}`;
}
function actionLine(bytes, batch, sequence, checksum) {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), end = 28 + v.getUint32(24, true);
  const type = JSON.stringify(utf84.decode(bytes.subarray(28, end)));
  const payload = end < bytes.length ? `,"payload":${jsonOf(bytes.subarray(end))}` : "";
  const now2 = v.getInt32(4, true) * 2 ** 32 + v.getUint32(0, true);
  const action = `"type":${type}${payload},"now":${now2},"entropy":"${hex(bytes.subarray(8, 24))}"`;
  return `{${action}${batch > 0 ? `,"batch":${batch}` : ""},"sequence":${sequence},"checksum":"${checksum}"}`;
}
function* actionsOf({ base, pieces, batches }) {
  let { sequence } = base, next = 0;
  for (const piece of pieces) {
    const v = new DataView(piece.buffer, piece.byteOffset, piece.length);
    for (let at = 0, end; at < piece.length; at = end) {
      end = at + entryHead + v.getUint32(at, true);
      sequence++;
      while (batches[next + 1] < sequence) next += 2;
      const batch = batches[next] <= sequence ? batches[next] : 0;
      yield { action: piece.subarray(at + entryHead, end), sum: v.getFloat64(at + 4, true), sequence, batch };
    }
  }
}
async function measure(host, { base, pieces }, take) {
  const past = new Past(host, "journal", base.sequence, { base, pieces: [] });
  try {
    const digest = base.digest ?? (base.isSnapshot ? hex64(await past.ask(kind.digest, [], take)) : null);
    const sums = [];
    for (const piece of pieces) sums.push(await past.ask(kind.checksums, [piece], take));
    return { digest, sums };
  } finally {
    past.close();
  }
}
async function coreOf(host) {
  try {
    return await host.coreHash();
  } catch (cause) {
    throw badInput(`journal: the hash of the core is not known: ${cause.message}`, cause);
  }
}
async function* journalLines(host, segments, take) {
  const core = await coreOf(host);
  for (const [k, segment] of segments.entries()) {
    const { base, pieces } = segment, needsLine = k === 0 || base.marker !== null;
    if (pieces.length === 0 && !needsLine) continue;
    const { digest, sums } = await measure(host, segment, take);
    if (needsLine) yield baseLine(base, core, digest);
    let n = 0, row = 0;
    for (const { action, batch, sequence } of actionsOf(segment)) {
      while (row === sums[n].length) [n, row] = [n + 1, 0];
      yield actionLine(action, batch, sequence, hex64(sums[n].subarray(row, row += 8)));
    }
  }
}

// src/environment.js
function getEnvironment() {
  const { process, Deno } = globalThis;
  if (typeof Deno?.version?.deno === "string") return "node";
  if (typeof process !== "object" || typeof process?.versions?.node !== "string") return "browser";
  if (process.browser && Object.prototype.toString.call(process) !== "[object process]") return "browser";
  const isPage = process.type === "renderer" || process.type === "worker" || process.versions.nw !== void 0 && typeof globalThis.document === "object";
  return isPage ? "browser" : "node";
}
function supportsWorkers() {
  return getEnvironment() === "node" || typeof Worker === "function";
}
async function nodeModule(name) {
  const address = `node:${name}`;
  return globalThis.process?.getBuiltinModule?.(address) ?? import(
    /* webpackIgnore: true */
    /* turbopackIgnore: true */
    /* @vite-ignore */
    address
  );
}
var macrotask = (() => {
  if (typeof setImmediate === "function") return setImmediate;
  const channel = new MessageChannel(), waiting2 = [];
  channel.port1.onmessage = () => waiting2.shift()();
  return (f) => {
    waiting2.push(f);
    channel.port2.postMessage(0);
  };
})();
var hasScheme = (path) => /^[a-z][a-z0-9+.-]+:/i.test(path);
var currentFolder = () => globalThis.process?.cwd?.() ?? globalThis.Deno?.cwd() ?? ".";
function coreLocation(wasmPath) {
  const given = String(wasmPath);
  if (getEnvironment() === "node" && !hasScheme(given)) return { path: given, folder: currentFolder() };
  if (/\.wasm([?#]|$)/i.test(given) || /^(data|blob):/i.test(given)) return { url: given };
  const [, address, query] = /^([^?#]*)(.*)$/s.exec(given);
  return { url: `${address.replace(/\/$/, "")}/core.wasm${query}` };
}
function coreFile(given, folder, path) {
  const whole = path.resolve(folder, given);
  return /\.wasm$/i.test(given) ? whole : path.join(whole, "core.wasm");
}
function scriptFile(given, folder, path) {
  return hasScheme(given) ? new URL(given) : path.resolve(folder, given);
}
function workerArguments() {
  const all = globalThis.process?.execArgv ?? [];
  const rest = all.filter((a, k) => !/^--input-type(=|$)/.test(a) && all[k - 1] !== "--input-type");
  return rest.length < all.length ? { execArgv: rest } : {};
}
var policyName = "hypertoken-worker";
var policy;
function newWorker(address) {
  const options = { type: "module", name: "hypertoken" }, { trustedTypes } = globalThis;
  if (!trustedTypes) return new Worker(address, options);
  let refusal2;
  try {
    policy ??= trustedTypes.createPolicy(policyName, { createScriptURL: (given) => given });
  } catch (cause) {
    refusal2 = cause;
  }
  try {
    return new Worker(policy ? policy.createScriptURL(String(address)) : address, options);
  } catch (cause) {
    if (!refusal2) throw cause;
    throw new Error(`${cause.message}: name the policy ${policyName} in the trusted-types of the page's Content-Security-Policy, or set workerOptions.worker`, { cause });
  }
}
function isForeign(address) {
  try {
    const url = new URL(address, globalThis.document?.baseURI ?? globalThis.location?.href);
    return url.origin !== globalThis.origin && url.protocol !== "data:" && url.protocol !== "blob:" ? url.href : false;
  } catch {
    return false;
  }
}
function startWebWorker(path) {
  const foreign = isForeign(path);
  if (!foreign) return newWorker(path);
  const code = `import ${JSON.stringify(foreign)};`;
  if (globalThis.origin === "null") return newWorker(`data:text/javascript,${encodeURIComponent(code)}`);
  const blob = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const worker = newWorker(blob);
  for (const event of ["message", "error"]) worker.addEventListener(event, () => URL.revokeObjectURL(blob), { once: true });
  return worker;
}
async function startNodeWorker(path) {
  const folder = currentFolder();
  const [{ Worker: Worker2 }, paths] = await Promise.all([nodeModule("worker_threads"), nodeModule("path")]);
  return new Worker2(scriptFile(String(path), folder, paths), { name: "hypertoken", ...workerArguments() });
}
async function startWorker({ worker: make, workerPath: path }, events) {
  let over = false;
  const exit = (cause) => {
    if (!over) {
      over = true;
      events.exit(cause);
    }
  };
  const worker = await (make ? make() : getEnvironment() === "node" ? startNodeWorker(path) : startWebWorker(path));
  const thing = make ? "the worker of workerOptions.worker" : `the script ${path}`, remedy = make ? "" : "workerOptions.workerPath, ";
  if (typeof worker?.on === "function") {
    worker.on("message", (data) => over || events.message(data));
    worker.on("error", (cause) => exit(/_NOT_FOUND$/.test(cause.code) ? new Error(`${thing} could not be loaded${make ? "" : ": check workerOptions.workerPath"}`, { cause }) : cause));
    worker.on("messageerror", exit);
    worker.on("exit", (code) => exit(new Error(`the Worker ended with the exit code ${code}`)));
    return {
      post: (data, transfer) => worker.postMessage(data, transfer),
      terminate: () => {
        over = true;
        return worker.terminate();
      },
      thread: worker
    };
  }
  if (typeof worker?.addEventListener !== "function") throw new Error("workerOptions.worker returned no worker: return new Worker(...)");
  let ended = Promise.resolve();
  worker.addEventListener("message", (e) => {
    if (over) return;
    const lock = e.data?.lock;
    if (lock) ended = navigator.locks.request(lock, () => exit(new Error("the Worker was terminated"))).catch(() => {
    });
    events.message(e.data);
  });
  worker.addEventListener("messageerror", () => exit(new Error("a message of the Worker can not be read")));
  worker.addEventListener("error", (e) => {
    e.preventDefault?.();
    exit(new Error(e.message || `${thing} could not be loaded: check ${remedy}that its script is served as text/javascript, with CORS headers if it is of another origin, and the page's Content-Security-Policy (worker-src)${globalThis.crossOriginIsolated ? "; in a page that is cross-origin isolated its script needs the Cross-Origin-Embedder-Policy too" : ""}`));
  });
  return {
    post: (data, transfer) => worker.postMessage(data, transfer),
    // Some browsers take a second or two to end a worker that hangs.
    terminate: () => {
      over = true;
      worker.terminate();
      return ended;
    },
    thread: worker
  };
}

// src/core.js
var op = { open: 1, restore: 2, feed: 3, ready: 4, dispatch: 5, batch: 6, snapshot: 7, state: 8, next: 9, digest: 10, actions: 11, records: 12 };
var kept = 256 << 10;
var none3 = new Uint8Array(0);
var chunkSize = 1 << 20;
var streamSlack = 16 << 20;
var exported = ["ht_abi", "ht_reply", "ht_input", "ht_call"];
var Lost = class extends Error {
  constructor(code, cause) {
    super(String(cause?.message ?? cause), { cause });
    this.code = code;
  }
};
var Instance = class {
  /** The limit that bounds the streams of this instance, in bytes. */
  maxStateBytes = 0;
  #memory;
  #bytes = none3;
  #view = null;
  #input;
  #call;
  #reply;
  #room = 0;
  #capacity = 0;
  #lost = false;
  /** @param {WebAssembly.Module} module */
  constructor(module) {
    const { exports } = new WebAssembly.Instance(module, {});
    if (!(exports.memory instanceof WebAssembly.Memory) || exported.some((name) => typeof exports[name] !== "function") || exports.ht_abi() !== 1) {
      throw new Error("the WebAssembly module is no core of this version (ABI 1)");
    }
    this.#memory = exports.memory;
    this.#input = exports.ht_input;
    this.#call = exports.ht_call;
    this.#reply = exports.ht_reply() >>> 0;
  }
  /** Whether a call has cost the instance: it runs no other. */
  get isLost() {
    return this.#lost;
  }
  /** How much memory the instance has, in bytes. It never shrinks. */
  get memorySize() {
    return this.#memory.buffer.byteLength;
  }
  // Views of the whole memory. They are made again if the memory has grown.
  #look() {
    const { buffer } = this.#memory;
    if (buffer === this.#bytes.buffer) return;
    this.#bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
  }
  // Makes room for n bytes of input.
  #makeRoom(n) {
    if (n > this.#capacity || this.#capacity > kept && n <= kept) {
      this.#capacity = Math.max(n, 4096);
      this.#checkHere();
      try {
        this.#room = this.#input(this.#capacity) >>> 0;
      } catch (cause) {
        this.#lost = true;
        throw cause;
      }
      if (this.#room === 0) {
        this.#capacity = 0;
        throw new Lost("out_of_memory", `the core has no room for ${n} bytes of input`);
      }
    }
  }
  #checkHere() {
    if (this.#lost) throw new Lost("trap", "the instance is gone");
  }
  /**
   * Runs a call on the first n bytes of the input. The result lies in the instance's memory: it is
   * valid until the next call.
   * @returns {{failed: boolean, changed: boolean, body: Uint8Array, table: Uint8Array, events: Uint8Array}}
   */
  call(what, n = 0) {
    this.#look();
    this.#view.setUint32(this.#reply, 0, true);
    this.#checkHere();
    try {
      this.#call(op[what], n);
    } catch (cause) {
      this.#lost = true;
      this.#look();
      const status = this.#view.getUint32(this.#reply, true);
      throw new Lost(status === 2 ? "out_of_memory" : "trap", cause);
    }
    this.#look();
    const v = this.#view, at = this.#reply;
    return {
      failed: v.getUint32(at, true) !== 0,
      changed: v.getUint32(at + 4, true) === 1,
      body: this.#piece(at + 8),
      table: this.#piece(at + 16),
      events: this.#piece(at + 24)
    };
  }
  // The bytes that a reply names. It throws if the memory does not have them.
  #piece(at) {
    const from = this.#view.getUint32(at, true), length = this.#view.getUint32(at + 4, true);
    return length === 0 ? none3 : new Uint8Array(this.#bytes.buffer, from, length);
  }
  /** Puts bytes into the input and runs a call on them. */
  run(what, bytes = none3) {
    this.#makeRoom(bytes.length);
    this.#look();
    this.#bytes.set(bytes, this.#room);
    return this.call(what, bytes.length);
  }
  /**
   * Returns all chunks of a snapshot or of the state as one piece. If there are more bytes than a
   * state of maxStateBytes has, the instance is given up: a stream of a hostile core never ends.
   */
  stream(what) {
    const { maxStateBytes } = this;
    const most = 2 * maxStateBytes + streamSlack;
    let all = none3, length = 0, reply = this.run(what);
    while (!reply.failed) {
      reply = this.run("next");
      const size = reply.body.length;
      if (reply.failed || size === 0) break;
      if (size > chunkSize) throw this.#broken(`it streams a chunk of ${size} bytes, ${chunkSize} are allowed`);
      if (length + size > most) throw this.#broken(`its stream has more than ${most} bytes, which no state of ${maxStateBytes} has (maxStateBytes)`);
      if (length + size > all.length) {
        const grown = new Uint8Array(length === 0 ? size : Math.min(most, Math.max(length + size, 2 * all.length)));
        grown.set(all.subarray(0, length));
        all = grown;
      }
      all.set(reply.body, length);
      length += size;
    }
    return reply.failed ? reply : { ...reply, body: all.subarray(0, length) };
  }
  #broken(message) {
    this.#lost = true;
    return new Lost("trap", new Error(`the core is broken: ${message}`));
  }
};
function join(parts) {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}
var isModule = (value) => Object.prototype.toString.call(value) === "[object WebAssembly.Module]";
var cores = /* @__PURE__ */ new Map();
function compile(from, warn) {
  if (from.module) return isModule(from.module) ? Promise.resolve(from.module) : compiled(from.module);
  const address = addressOf(from);
  let core = cores.get(address);
  if (!core) {
    core = load(from, warn);
    cores.set(address, core);
    core.catch(() => cores.delete(address));
  }
  return core;
}
function addressOf({ url, path, folder }) {
  if (path !== void 0) return `${folder}\0${path}`;
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;
  } catch {
    return url;
  }
}
var isFile = ({ url, path }) => path !== void 0 || /^file:/i.test(url) && getEnvironment() === "node";
async function readCore({ url, path, folder }) {
  const [{ readFile }, paths, { fileURLToPath }] = await Promise.all(["fs/promises", "path", "url"].map(nodeModule));
  const file = path === void 0 ? fileURLToPath(url) : coreFile(path, folder, paths);
  return readFile(file).catch((cause) => {
    throw new Error(`${file} can not be read (${cause.code ?? cause.message}): copy core.wasm there, or set workerOptions.wasmPath`, { cause });
  });
}
var hashes = /* @__PURE__ */ new Map();
function hashCore(from) {
  if (from.module) {
    if (isModule(from.module)) throw badInput("the core of a saved game is known by its bytes: give `core` as bytes, or wasmPath, and no WebAssembly.Module");
    return sha256(from.module);
  }
  const address = addressOf(from);
  let found = hashes.get(address);
  if (!found) {
    found = (isFile(from) ? readCore(from) : fetch(from.url, { cache: "force-cache" }).then((r) => r.arrayBuffer())).then(sha256);
    hashes.set(address, found);
    found.catch(() => hashes.delete(address));
  }
  return found;
}
async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (x) => x.toString(16).padStart(2, "0")).join("");
}
async function load(from, warn) {
  const { url } = from;
  if (isFile(from)) return WebAssembly.compile(await readCore(from));
  const response = await fetch(url).catch((cause) => {
    throw new Error(`${url} can not be fetched (${cause.message}): check workerOptions.wasmPath, the network, the page's Content-Security-Policy (connect-src), and its CORS headers if it is of another origin`, { cause });
  });
  if (!response.ok) throw new Error(`${url} is not there: HTTP status ${response.status}; copy core.wasm there, or set workerOptions.wasmPath`);
  const type = response.headers.get("content-type") ?? "none";
  if (type.split(";")[0].trim() === "application/wasm") return compiled(response);
  const bytes = await response.arrayBuffer();
  const magic = new Uint8Array(bytes.slice(0, 4));
  if (magic.join() !== "0,97,115,109") {
    throw new Error(`${url} is no WebAssembly (content type ${type}): copy core.wasm there, or set workerOptions.wasmPath`);
  }
  warn?.(`${url} has the content type ${type}: serve it as application/wasm, so that it is compiled while it loads`);
  return compiled(bytes);
}
async function compiled(from) {
  try {
    return await (from instanceof Response ? WebAssembly.compileStreaming(from) : WebAssembly.compile(from));
  } catch (cause) {
    if (!/CSP|Content.Security.Policy/i.test(cause.message)) throw cause;
    throw new Error(`${cause.message}: allow 'wasm-unsafe-eval' in the script-src of the page's Content-Security-Policy`, { cause });
  }
}

// src/deadlines.js
var Line = class {
  first = null;
  last = null;
  push(op2) {
    op2.line = this;
    op2.earlier = this.last;
    if (this.last) this.last.later = op2;
    else this.first = op2;
    this.last = op2;
  }
  unshift(op2) {
    op2.line = this;
    op2.later = this.first;
    if (this.first) this.first.earlier = op2;
    else this.last = op2;
    this.first = op2;
  }
  remove(op2) {
    const { earlier, later } = op2;
    if (earlier) earlier.later = later;
    else this.first = later;
    if (later) later.earlier = earlier;
    else this.last = earlier;
    op2.line = op2.earlier = op2.later = null;
  }
};
var Deadlines = class {
  /** The requests, by their timeouts. */
  #lines = /* @__PURE__ */ new Map();
  #timer = null;
  #timerAt = Infinity;
  #kept;
  #expire;
  /**
   * @param {number} kept the timeout that most requests have, in milliseconds. Its list stays when it
   *   is empty
   * @param {(op: import('./game.js').Op, shared: Map<string, Error>) => void} expire ends a request
   *   whose time is over, if it can still be ended. It gets the same map for all that have the same
   *   timeout and end in one moment, empty at first
   */
  constructor(kept2, expire) {
    this.#kept = kept2;
    this.#expire = expire;
  }
  /** Notes that a request has to end in so many milliseconds. */
  add(op2, timeout) {
    op2.timeout = timeout;
    op2.deadline = performance.now() + timeout;
    this.#lineOf(timeout).push(op2);
    this.#wake(op2.deadline);
  }
  #lineOf(timeout) {
    let line = this.#lines.get(timeout);
    if (!line) this.#lines.set(timeout, line = new Line());
    return line;
  }
  /** Forgets a request, if it has a deadline. */
  remove(op2) {
    const { line } = op2;
    if (line === null) return;
    line.remove(op2);
    if (line.first === null) this.#dropLine(op2.timeout, line);
  }
  #dropLine(timeout, line) {
    if (timeout !== this.#kept && this.#lines.get(timeout) === line) this.#lines.delete(timeout);
  }
  stop() {
    clearTimeout(this.#timer);
  }
  #wake(at) {
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => macrotask(() => this.#expireDue()), Math.min(Math.max(0, at - performance.now()), 2 ** 31 - 1));
    this.#timer.unref?.();
  }
  #expireDue() {
    clearTimeout(this.#timer);
    this.#timerAt = Infinity;
    const now2 = performance.now();
    let next = Infinity;
    for (const [timeout, line] of [...this.#lines]) {
      const shared2 = /* @__PURE__ */ new Map(), left = [];
      for (let op2 = line.first; op2 !== null && op2.deadline <= now2; op2 = line.first) {
        line.remove(op2);
        this.#expire(op2, shared2);
        if (!op2.settled) left.push(op2);
      }
      if (line.first !== null) next = Math.min(next, line.first.deadline);
      for (const op2 of left.reverse()) this.#lineOf(timeout).unshift(op2);
      if (line.first === null) this.#dropLine(timeout, line);
    }
    if (next < Infinity) this.#wake(next);
  }
};

// src/xxhash.js
var mask = (1n << 64n) - 1n;
var p1 = 0x9e3779b185ebca87n;
var p2 = 0xc2b2ae3d27d4eb4fn;
var p3 = 0x165667b19e3779f9n;
var p4 = 0x85ebca77c2b2ae63n;
var p5 = 0x27d4eb2f165667c5n;
var rotate = (x, n) => (x << n | x >> 64n - n) & mask;
var round = (acc, lane) => rotate(acc + lane * p2 & mask, 31n) * p1 & mask;
var merge = (acc, other) => (acc ^ round(0n, other)) * p1 + p4 & mask;
function xxh64(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), end = bytes.length;
  let at = 0, acc;
  if (end >= 32) {
    let a = p1 + p2 & mask, b = p2, c = 0n, d = -p1 & mask;
    for (; at + 32 <= end; at += 32) {
      a = round(a, view.getBigUint64(at, true));
      b = round(b, view.getBigUint64(at + 8, true));
      c = round(c, view.getBigUint64(at + 16, true));
      d = round(d, view.getBigUint64(at + 24, true));
    }
    acc = rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n) & mask;
    for (const lane of [a, b, c, d]) acc = merge(acc, lane);
  } else {
    acc = p5;
  }
  acc = acc + BigInt(end) & mask;
  for (; at + 8 <= end; at += 8) acc = rotate(acc ^ round(0n, view.getBigUint64(at, true)), 27n) * p1 + p4 & mask;
  if (at + 4 <= end) {
    acc = rotate(acc ^ BigInt(view.getUint32(at, true)) * p1 & mask, 23n) * p2 + p3 & mask;
    at += 4;
  }
  for (; at < end; at++) acc = rotate(acc ^ BigInt(bytes[at]) * p5 & mask, 11n) * p1 & mask;
  acc = (acc ^ acc >> 33n) * p2 & mask;
  acc = (acc ^ acc >> 29n) * p3 & mask;
  return (acc ^ acc >> 32n).toString(16).padStart(16, "0");
}

// src/executor.js
var now = () => performance.now();
var none4 = new Uint8Array(0);
var headBytes2 = new Uint8Array(answerHead);
var headView = new DataView(headBytes2.buffer);
var spares = /* @__PURE__ */ new WeakMap();
var maxSpareMemory = 4 << 20;
var Executor = class {
  #module;
  #engines = /* @__PURE__ */ new Map();
  #spares;
  constructor(module) {
    this.#module = module;
    if (!spares.has(module)) spares.set(module, []);
    this.#spares = spares.get(module);
  }
  /**
   * Runs a request.
   * @param {{placement: number, kind: number, flags: number, body: Uint8Array}} f
   * @param {(flags: number, ...parts: Uint8Array[]) => void} answer its parts are to be copied before the next request
   * @param {number} [began] a moment just before, as performance.now()
   */
  run(f, answer, began = now()) {
    if (f.kind === kind.close) {
      if (f.flags & flag.keep) this.#keep(this.#engines.get(f.placement));
      this.#engines.delete(f.placement);
      return;
    }
    try {
      if (f.kind === kind.open) this.#engines.set(f.placement, this.#make(f.body));
      const instance = this.#engines.get(f.placement);
      if (!instance) {
        answer(flag.failed | flag.lost, failure("not_placed", `the placement ${f.placement} is not open`));
        return;
      }
      this.#on(instance, f, answer, began);
    } catch (cause) {
      this.#engines.delete(f.placement);
      answer(flag.failed | flag.lost, failure(cause instanceof Lost ? cause.code : "trap", String(cause?.message ?? cause)));
    }
  }
  // An instance may be opened again: that drops the engine which it held (core-rs/ABI.md). So it is
  // kept for the next engine. The memory of one that is dropped stays reserved until the garbage
  // collector of this thread finds it, and other threads of the page have no room meanwhile.
  #keep(instance) {
    if (instance && !instance.isLost && instance.memorySize <= maxSpareMemory) this.#spares.push(instance);
  }
  // limits is the body of an open: core-rs/ABI.md.
  #make(limits) {
    let instance = this.#spares.pop();
    try {
      instance ??= new Instance(this.#module);
    } catch (cause) {
      throw cause instanceof RangeError || /out of memory/i.test(cause?.message ?? cause) ? new Lost("out_of_memory", cause) : cause;
    }
    if (limits.length >= 8) instance.maxStateBytes = Number(new DataView(limits.buffer, limits.byteOffset, 8).getBigUint64(0, true));
    return instance;
  }
  #on(instance, f, answer, began) {
    if (f.kind === kind.dispatch || f.kind === kind.batch) return this.#action(instance, f, answer, began);
    const reply = (r) => answer((r.failed ? flag.failed : 0) | (r.changed ? flag.changed : 0), r.body);
    switch (f.kind) {
      case kind.open:
        return reply(f.flags & flag.restore ? instance.run("restore") : instance.run("open", f.body));
      case kind.feed:
        return reply(instance.run("feed", f.body));
      case kind.ready:
        return reply(instance.run("ready"));
      case kind.replay:
        return this.#replay(instance, f.body, answer);
      case kind.checksums:
        return this.#replay(instance, f.body, answer, true);
      case kind.snapshot:
        return reply(instance.stream("snapshot"));
      case kind.state:
        return reply(instance.stream("state"));
      case kind.digest:
        return reply(instance.run("digest"));
      case kind.actions:
        return reply(instance.run("actions"));
      default:
        throw new Error(`a frame of the kind ${f.kind}`);
    }
  }
  #action(instance, f, answer, began) {
    const r = instance.run(f.kind === kind.batch ? "batch" : "dispatch", f.body);
    if (r.failed) {
      answer(flag.failed, r.body);
      return;
    }
    const count = r.table.length / 8;
    headView.setFloat64(0, now() - began, true);
    headView.setFloat64(8, hash(r.body), true);
    headView.setUint32(16, r.events.length, true);
    headView.setUint32(20, count, true);
    answer(r.changed ? flag.changed : 0, headBytes2, count > 0 ? this.#rows(r, count) : none4, r.events, r.body);
  }
  // The rows of a batch: what the core says of each member, and the hash of the member's result.
  #rows({ table, body }, count) {
    const rows = new Uint8Array(16 * count), v = new DataView(rows.buffer);
    for (let k = 0, at = 0; k < count; k++) {
      rows.set(table.subarray(8 * k, 8 * k + 8), 16 * k);
      const end = v.getUint32(16 * k, true);
      v.setFloat64(16 * k + 8, hash(body, at, Math.min(end, body.length)), true);
      at = end;
    }
    return rows;
  }
  // The answer has the checksums of the results if they are wanted, 8 bytes each.
  #replay(instance, body, answer, areSumsWanted = false) {
    const sums = [];
    const v = new DataView(body.buffer, body.byteOffset, body.length);
    for (let at = 0, n = 0; at < body.length; n++) {
      const length = v.getUint32(at, true), want = v.getFloat64(at + 4, true);
      const r = instance.run("dispatch", body.subarray(at + entryHead, at + entryHead + length));
      if (r.failed || hash(r.body) !== want) {
        throw new Lost("diverged", `action ${n} of a replay has another result than the one that was acknowledged`);
      }
      if (areSumsWanted) sums.push(BigInt(`0x${xxh64(r.body)}`));
      at += entryHead + length;
    }
    answer(0, new Uint8Array(BigUint64Array.from(sums).buffer));
  }
};

// src/files.dist.js
var script = globalThis.document?.currentScript?.src;
function beside(name) {
  if (script || globalThis.document) return new URL(name, script || document.baseURI);
  return typeof __dirname === "string" ? `${__dirname}/${name}` : name;
}
var here = import.meta.url;
var forServer = (url, name) => globalThis.location || /^[a-z]+:/i.test(url) ? url : new URL(name, here);
var scriptName = "hypertoken.worker.js";
var coreName = "core.wasm";
var files = () => import.meta.url ? {
  workerPath: forServer(new URL("./hypertoken.worker.js", import.meta.url), scriptName),
  wasmPath: forServer(new URL("./core.wasm", import.meta.url), coreName)
} : { workerPath: beside(scriptName), wasmPath: beside(coreName) };

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
        const shared2 = /* @__PURE__ */ new Map();
        for (const call2 of calls) call2(shared2);
      }
    };
    waiting.set(signal, entry);
    signal.addEventListener("abort", entry.listener, { once: true });
  }
  const call = (shared2) => f(shared2);
  entry.calls.add(call);
  return () => {
    if (!entry.calls.delete(call) || entry.calls.size > 0 || waiting.get(signal) !== entry) return;
    waiting.delete(signal);
    signal.removeEventListener("abort", entry.listener);
  };
}

// src/thread.js
var backoff = (n) => n < 2 ? 0 : Math.min(50 * 2 ** (n - 2), 5e3);
var mostSpares = 1024;
var nothing = { number: 0, ms: null };
var probeAfter = (n) => Math.min(1e3 * 2 ** n, 6e4);
var Thread = class {
  /** @type {'starting' | 'ready' | 'waiting' | 'given up' | 'stopped'} */
  state = "waiting";
  /** The requests that the worker has not answered, the oldest first. */
  pending = new List();
  /** The reason why its last thread ended, or could not be started. */
  cause = null;
  /** The games that are placed here, by placement. */
  games = /* @__PURE__ */ new Map();
  /**
   * How many instances the worker has. Those without an engine are kept for other engines
   * (executor.js).
   */
  instances = 0;
  #wasReady = false;
  #host;
  #worker = null;
  #requests = 0;
  #out = new Writer();
  #flushing = false;
  #timer = null;
  #failures = 0;
  #probes = 0;
  #deaths = [];
  #generation = 0;
  #watchdog = null;
  #watched = nothing;
  #isToWatch = false;
  /**
   * How many messages were sent, the number of the last request that some caller has dropped or an
   * earlier one, and the names of the actions whose answers the worker may hold back.
   */
  #messages = 0;
  #dropped = 0;
  #quick = /* @__PURE__ */ new Set();
  /**
   * Entries of `pending` that were answered, for the next requests, and their number: each has another
   * one as `next`.
   */
  #spare = null;
  #spares = 0;
  /** Promises that stop() waits for: starts, and terminations of threads. */
  #ends = /* @__PURE__ */ new Set();
  constructor(host) {
    this.#host = host;
  }
  /** Whether the worker's first start is under way. */
  get isNew() {
    return !this.#wasReady && this.#failures === 0 && this.#probes === 0;
  }
  /**
   * Whether engines wait for the worker. They do not if it was given up, and is only tried from
   * time to time.
   */
  get isExpected() {
    return this.state !== "given up" && this.state !== "stopped" && this.#probes === 0;
  }
  start() {
    const generation = ++this.#generation;
    this.state = "starting";
    const current = () => generation === this.#generation && this.state !== "stopped";
    const failed = (cause) => current() && this.#notStarted(cause);
    const { worker: make, workerPath, startTimeout } = this.#host.options;
    const start = async () => {
      try {
        const worker = await startWorker({ worker: make, workerPath }, {
          message: (data) => current() && this.#handleMessage(data, current),
          exit: (cause) => this.#handleThreadExit(cause, current)
        });
        if (!current()) return await worker.terminate();
        this.#worker = worker;
        await this.#host.module;
      } catch (cause) {
        return failed(cause);
      }
      if (current() && this.state === "starting") {
        this.#timer = setTimeout(() => failed(new Error(`the Worker was not ready within ${startTimeout} ms (startTimeout)`)), startTimeout);
      }
    };
    this.#waitFor(start());
  }
  #handleThreadExit(cause, current) {
    if (!current()) return;
    if (this.state === "ready") this.#handleDeath(cause);
    else this.#notStarted(cause);
  }
  #waitFor(promise) {
    this.#ends.add(promise);
    promise.finally(() => this.#ends.delete(promise));
  }
  #notStarted(cause) {
    this.#stopThread();
    this.cause = cause;
    this.#failures++;
    this.#host.log("a worker did not start", cause);
    if (!this.#wasReady || this.#failures > this.#host.options.maxRestarts || this.#probes > 0) this.#giveUp();
    else this.#startAfter(backoff(this.#failures));
    this.#host.assign();
  }
  async #handleMessage(data, current) {
    if (data?.loaded) {
      const module = await this.#host.module.catch(() => null);
      if (module && current()) this.#worker.post({ module }, []);
    } else if (data?.ready) {
      clearTimeout(this.#timer);
      this.state = "ready";
      this.#failures = 0;
      this.#probes = 0;
      this.#host.log("a worker is ready");
      this.#wasReady = true;
      this.#host.workerReady(this);
    } else if (data?.unreadable) {
      this.#handleThreadExit(new Error("the Worker can not read its messages: allow 'wasm-unsafe-eval' in the Content-Security-Policy with which its script is served, if it has one"), current);
    } else {
      try {
        eachFrame(data, (f) => this.#handleAnswer(f));
        this.watchOldest();
      } catch (cause) {
        this.#handleDeath(cause);
      }
    }
  }
  #handleAnswer(f) {
    const entry = this.pending.first;
    if (entry?.request !== f.request) throw new Error(`an answer to request ${f.request}, which is not the next`);
    this.pending.remove(entry);
    const { op: op2, game } = entry;
    entry.game = entry.op = null;
    if (this.#spares < mostSpares) {
      entry.next = this.#spare;
      this.#spare = entry;
      this.#spares++;
    }
    if (f.flags & flag.quick) this.#quick.add(op2.what);
    else if (op2.kind === kind.dispatch && !op2.suspect) this.#quick.delete(op2.what);
    game.handleAnswer(this, f.placement, op2, f);
  }
  /**
   * Sends a request. All requests that are sent within one turn of the event loop are one message.
   */
  send(game, placement, op2) {
    const number = ++this.#requests, request = number >>> 0;
    this.pending.push(this.#entry(game, placement, op2, request, number));
    this.#out.frame(request, placement, op2.kind, op2.flags | (op2.suspect ? flag.suspect : 0), op2.parts);
    this.#flushSoon();
    if (op2.internal && this.pending.length === 1) this.watchOldest();
  }
  #entry(game, placement, op2, request, number) {
    const entry = this.#spare;
    if (entry === null) return { game, placement, op: op2, request, number, message: this.#messages, list: null, prev: null, next: null };
    this.#spares--;
    this.#spare = entry.next;
    entry.next = null;
    entry.game = game;
    entry.placement = placement;
    entry.op = op2;
    entry.request = request;
    entry.number = number;
    entry.message = this.#messages;
    return entry;
  }
  /** Takes note of an engine that is being placed here. */
  add(placement, game) {
    this.games.set(placement, game);
    this.instances = Math.max(this.instances, this.games.size);
  }
  /**
   * Tells the worker that an engine has left a placement.
   * @param {boolean} isKept whether the worker keeps the instance for another engine
   */
  close(placement, isKept) {
    this.games.delete(placement);
    if (!isKept) this.instances = Math.max(this.games.size, this.instances - 1);
    this.#out.frame(0, placement, kind.close, isKept ? flag.keep : 0);
    this.#flushSoon();
  }
  #flushSoon() {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      if (this.#out.length === 0) return;
      const message = this.#out.take();
      this.#messages++;
      if (this.state !== "ready") return;
      this.#worker.post(message, [message]);
    });
  }
  #oldest() {
    return this.pending.first ?? void 0;
  }
  /**
   * Notes that a caller no longer waits for a request that was sent, or that an engine has left its
   * place.
   */
  noteDropped() {
    this.#dropped = this.#requests;
    if (this.#isToWatch) return;
    this.#isToWatch = true;
    queueMicrotask(() => {
      this.#isToWatch = false;
      if (this.state === "ready") this.watchOldest();
    });
  }
  // Whether the worker may run a request that no caller waits for: the oldest one, or one behind it
  // if the answers of those in between may be held back.
  #mayRunDropped(oldest) {
    const isDropped = ({ op: op2, game, placement }) => op2.withdrawn || game.place?.placement !== placement;
    if (isDropped(oldest)) return true;
    if (oldest.number > this.#dropped) return false;
    for (let e = this.pending.first; e; e = e.next) {
      if (e.message !== oldest.message || e.op.kind !== kind.dispatch || !this.#quick.has(e.op.what)) return false;
      if (isDropped(e)) return true;
    }
    return false;
  }
  /**
   * Bounds how long the oldest request may run. If no caller waits for it any more, the bound is
   * killGrace. If it is the host's own request, which has no deadline, the bound is startTimeout. A
   * worker that takes longer is killed, and another thread takes its place.
   */
  watchOldest() {
    const oldest = this.#oldest(), { killGrace, startTimeout } = this.#host.options;
    const ms = oldest && this.#mayRunDropped(oldest) ? killGrace : oldest?.op.internal ? startTimeout : null;
    const number = ms === null ? 0 : oldest.number;
    if (number === this.#watched.number && ms === this.#watched.ms) return;
    clearTimeout(this.#watchdog);
    this.#watched = { number, ms };
    if (ms === null) return;
    const { what } = oldest.op;
    const kill = () => {
      if (this.state !== "ready" || this.#watched.number !== number || this.#oldest()?.number !== number) return;
      this.#host.counts.killed++;
      this.#end(new Error(`${what} did not end`), null);
      this.start();
    };
    this.#watchdog = setTimeout(() => macrotask(kill), ms);
  }
  // If a worker dies while it runs a suspect alone, the death counts for the suspect, and not
  // against the worker, as in Go.
  #handleDeath(cause) {
    const now2 = performance.now(), { maxRestarts, restartWindow } = this.#host.options;
    const counts = !this.#oldest()?.op.suspect;
    this.#host.counts.died++;
    if (counts) this.#deaths = [...this.#deaths.filter((at) => now2 - at < restartWindow), now2];
    this.#end(cause, { cleared: false });
    if (counts && this.#deaths.length > maxRestarts) this.#giveUp();
    else this.#startAfter(counts ? backoff(this.#deaths.length) : 0);
    this.#host.assign();
  }
  // death is null if the host kills the worker. Otherwise it is the death of which all requests of
  // the worker are suspects.
  #end(cause, death) {
    this.cause = cause;
    this.#host.log("a worker ended", cause);
    this.#stopThread();
    this.state = "waiting";
    const ran = this.#oldest()?.op;
    this.pending = new List();
    this.#out.take();
    const games = this.games;
    this.games = /* @__PURE__ */ new Map();
    for (const game of games.values()) game.handleWorkerEnd(ran, death);
  }
  #stopThread() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.#watched = nothing;
    this.instances = 0;
    this.#quick = /* @__PURE__ */ new Set();
    this.#generation++;
    if (this.#worker) this.#waitFor(this.#worker.terminate());
    this.#worker = null;
  }
  #startAfter(ms) {
    if (ms === 0) {
      this.start();
      return;
    }
    this.state = "waiting";
    this.#timer = setTimeout(() => this.start(), ms);
  }
  #giveUp() {
    this.state = "given up";
    this.#deaths = [];
    this.#timer = setTimeout(() => {
      this.#failures = 0;
      this.start();
    }, probeAfter(this.#probes++));
    this.#timer.unref?.();
  }
  /** Ends the worker for good. Once the promise resolves, no thread of it is left. */
  async stop() {
    this.state = "stopped";
    this.#stopThread();
    while (this.#ends.size > 0) await Promise.all(this.#ends);
  }
  /** For tests: the thread itself. */
  get thread() {
    return this.#worker?.thread;
  }
};

// src/host.js
var turn = 8;
var requestSize = 512;
var bounds = {
  workers: [0, 1024],
  timeout: [0, 2 ** 31 - 1],
  batchWindow: [0, 6e4],
  startTimeout: [1, 2 ** 31 - 1],
  killGrace: [0, 6e4],
  maxRestarts: [0, 1e6],
  restartWindow: [1, 1e9],
  maxAttempts: [1, 100],
  maxQueue: [1, 1e9],
  maxQueueBytes: [1 << 10, 2 ** 50],
  maxInstances: [1, 1e6],
  idleAfter: [0, 2 ** 31 - 1],
  maxPayload: [1, 32 << 20],
  maxStateBytes: [1, 2 ** 40],
  maxResult: [1, 64 << 20],
  maxDepth: [1, 128],
  snapshotBytes: [1, 2 ** 40],
  replayBudget: [1, 1e9]
};
function randomness() {
  const pool = new Uint8Array(4096), taken2 = new Uint8Array(16);
  let at = pool.length;
  return () => {
    if (at === pool.length) {
      crypto.getRandomValues(pool);
      at = 0;
    }
    for (let k = 0; k < 16; k++) taken2[k] = pool[at++];
    return taken2;
  };
}
var isAddress = (value) => typeof value === "string" && value !== "" || typeof value === "object" && typeof value?.href === "string";
var isBuffer = (value) => ArrayBuffer.isView(value) || Object.prototype.toString.call(value) === "[object ArrayBuffer]";
var kinds = {
  debug: [(v) => typeof v === "boolean", "true or false"],
  enableBatching: [(v) => typeof v === "boolean", "true or false"],
  worker: [(v) => typeof v === "function", "a function that returns a Worker (workers is their number)"],
  workerPath: [isAddress, "a path or a URL"],
  wasmPath: [isAddress, "a path or a URL"],
  clock: [(v) => typeof v === "function", "a function"],
  entropy: [(v) => typeof v === "function", "a function"],
  logger: [(v) => typeof v?.debug === "function" && typeof v.warn === "function", "an object with the functions debug and warn"],
  core: [(v) => isModule(v) || isBuffer(v), "a WebAssembly.Module, an ArrayBuffer or a view of one"]
};
function hostOptions(options, what = "Host") {
  const all = {
    workers: 1,
    worker: void 0,
    debug: false,
    timeout: 3e4,
    enableBatching: false,
    batchWindow: 10,
    ...files(),
    startTimeout: 1e4,
    killGrace: 250,
    maxRestarts: 5,
    restartWindow: 1e4,
    maxAttempts: 2,
    maxQueue: 16384,
    maxQueueBytes: 64 << 20,
    maxInstances: getEnvironment() === "node" ? 1024 : 64,
    idleAfter: 3e5,
    maxPayload: 16 << 20,
    maxStateBytes: 256 << 20,
    maxResult: 16 << 20,
    maxDepth: 64,
    snapshotBytes: 1 << 20,
    replayBudget: 250,
    clock: Date.now,
    entropy: randomness(),
    logger: console,
    core: void 0
  };
  const names2 = Object.keys(all);
  checkOptions(what, options, names2);
  for (const [name, value] of Object.entries(options ?? {})) {
    if (!names2.includes(name)) throw unknownOption(what, name, names2);
    if (value === void 0) continue;
    const limits = bounds[name];
    if (limits) {
      const [least, most] = limits;
      if (!Number.isInteger(value) || value < least || value > most) throw badInput(`${what}: ${name} is ${nameOf(value)}, want an integer from ${least} to ${most}`);
    } else {
      const [is, wanted] = kinds[name];
      if (!is(value)) throw badInput(`${what}: ${name} is ${nameOf(value)}, want ${wanted}`);
    }
    all[name] = value;
  }
  return all;
}
function sharedError(shared2, what, make) {
  let error = shared2.get(what);
  if (!error) shared2.set(what, error = make());
  return error;
}
var Host = class {
  /**
   * How many workers died by themselves, how many the host killed because of what they ran, how
   * often an engine was placed, and how many engines went to the main thread because no worker
   * could run.
   */
  counts = { died: 0, killed: 0, placed: 0, fallbacks: 0 };
  /** @type {Promise<WebAssembly.Module>} the compiled core */
  module;
  #threads = [];
  #games = /* @__PURE__ */ new Set();
  #placements = 0;
  #closing = false;
  #closed = null;
  /** The games that wait for a place, in the order in which they asked. */
  #asking = new List();
  #isAssigning = false;
  #compiled = null;
  #broken = null;
  #executor = null;
  #here = /* @__PURE__ */ new Map();
  #running = new List();
  #scheduled = false;
  /** How many requests have no outcome, and the room of maxQueueBytes that they take. */
  #inFlight = 0;
  #inFlightBytes = 0;
  /**
   * The callers of drained() that wait; how many were told and are about to dispatch; and whether
   * some are told in the next task.
   */
  #undrained = [];
  #promised = 0;
  #isTelling = false;
  #hasWarnedFallback = false;
  #deadlines;
  /** Takes out the engines that have been idle for idleAfter. */
  #idleTimer = null;
  /** @param {Partial<ReturnType<typeof hostOptions>>} [options] see README.md */
  constructor(options) {
    this.options = hostOptions(options);
    const { core, wasmPath, workers, timeout } = this.options;
    this.#deadlines = new Deadlines(timeout, (op2, shared2) => op2.game.withdraw(op2, sharedError(shared2, op2.what, () => timeoutError(op2.what, op2.timeout))));
    this.module = compile(core ? { module: core } : coreLocation(wasmPath), (problem) => this.warn(problem));
    this.module.then((m) => {
      this.#compiled = m;
      this.assign();
    }, (cause) => {
      const error = new HyperTokenError("bad_input", `the core can not be run: ${cause.message}`, { cause });
      this.#broken = error;
      for (const game of this.#games) game.fail(error);
      for (const t of this.#threads) t.stop();
    });
    for (let k = 0; k < workers; k++) this.#threads.push(new Thread(this));
    if (workers > 0 && !supportsWorkers()) {
      for (const t of this.#threads) {
        t.state = "given up";
        t.cause = new Error("there are no Workers in this environment");
      }
    } else {
      for (const t of this.#threads) t.start();
    }
  }
  get threads() {
    return this.#threads;
  }
  /** The SHA-256 of the core, in hexadecimal: saved games name their core by it. */
  coreHash() {
    const { core, wasmPath } = this.options;
    return hashCore(core ? { module: core } : coreLocation(wasmPath));
  }
  /** How many engines wait for a place. */
  get waiting() {
    return this.#asking.length;
  }
  /**
   * How many engines are on the main thread, how many wait for a place, and how many requests have
   * no outcome, with the room of maxQueueBytes that they take.
   */
  get stats() {
    return {
      ...this.counts,
      here: this.#here.size,
      waiting: this.#asking.length,
      inFlight: this.#inFlight,
      inFlightBytes: this.#inFlightBytes,
      workers: this.#threads.map((t) => ({ state: t.state, engines: t.games.size, pending: t.pending.length }))
    };
  }
  log(message, cause) {
    if (this.options.debug) this.options.logger.debug(`hypertoken: ${message}`, ...cause ? [cause] : []);
  }
  /** Warns that engines run on the main thread, once until a worker is ready. */
  warnFallback(error) {
    if (!this.#hasWarnedFallback) this.warn(error.message);
    this.#hasWarnedFallback = true;
  }
  warn(message) {
    this.options.logger.warn(`hypertoken: ${message}`);
  }
  // Engines.
  add(game) {
    if (this.#closing) throw shutdownError("host");
    if (this.#broken) throw this.#broken;
    this.#games.add(game);
  }
  /** Takes in the past of an engine. It may come while the host shuts down, for a rewind that was accepted before. */
  adopt(past) {
    this.#games.add(past);
  }
  remove(game) {
    this.#games.delete(game);
    if (game.list === this.#asking) this.#asking.remove(game);
  }
  /**
   * Counts a request against maxQueue and maxQueueBytes. It throws `overloaded` if there is no room;
   * release, when the request ends, gives the room back. A request that is larger than maxQueueBytes
   * counts as that much: it has room if there is no other.
   */
  charge(op2) {
    if (this.#closing) throw shutdownError("host");
    const { maxQueue, maxQueueBytes } = this.options;
    if (this.#inFlight >= maxQueue) {
      throw new HyperTokenError("overloaded", `${op2.what}: ${this.#inFlight} actions have no outcome yet (maxQueue); wait for some, or await drained()`);
    }
    let size = requestSize;
    for (const part of op2.parts) size += part.length;
    size = Math.min(size, maxQueueBytes);
    if (this.#inFlightBytes + size > maxQueueBytes) {
      throw new HyperTokenError(
        "overloaded",
        `${op2.what}: its ${size} bytes do not fit beside the ${this.#inFlightBytes} of actions that have no outcome yet: ${maxQueueBytes} are allowed (maxQueueBytes); wait for some, or await drained()`
      );
    }
    this.#inFlight++;
    if (this.#promised > 0) this.#promised--;
    this.#inFlightBytes += size;
    op2.charged = true;
    op2.size = size;
  }
  release(op2) {
    if (op2.charged) {
      this.#inFlight--;
      this.#inFlightBytes -= op2.size;
      op2.charged = false;
      if (this.#undrained.length > 0 && this.#room(0.5) > 0) this.#tellUndrained();
    }
    op2.release?.();
    this.#deadlines.remove(op2);
  }
  // How many more requests may be dispatched until `part` of the queue is taken, those included that
  // callers of drained() are about to dispatch.
  #room(part) {
    const { maxQueue, maxQueueBytes } = this.options;
    return this.#inFlightBytes < maxQueueBytes * part ? maxQueue * part - this.#inFlight - this.#promised : 0;
  }
  /**
   * Resolves at once if there is room for another request. If the queue is full, it resolves when
   * half of it is free. If several callers wait, they are served in their order. The room is kept
   * for a caller until the next task.
   */
  drained() {
    if (this.#undrained.length === 0 && this.#room(1) > 0) {
      this.#promised++;
      this.#tellUndrained();
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#undrained.push(resolve);
      if (this.#room(0.5) > 0) this.#tellUndrained();
    });
  }
  // In the next task: tells as many callers of drained() as there is room for.
  #tellUndrained() {
    if (this.#isTelling) return;
    this.#isTelling = true;
    macrotask(() => {
      this.#isTelling = false;
      this.#promised = 0;
      if (this.#undrained.length === 0 || this.#room(0.5) <= 0) return;
      const told = this.#undrained.splice(0, Math.ceil(this.#room(1)));
      this.#promised = told.length;
      for (const resolve of told) resolve();
      this.#tellUndrained();
    });
  }
  // Places.
  /**
   * Whether the host has no workers, and the core is compiled: then the main thread can run an
   * action at once.
   */
  get synchronous() {
    return this.#threads.length === 0 && this.#compiled !== null;
  }
  /** Asks for a place for a game that has none. */
  requestPlace(game) {
    if (game.list === this.#asking) return;
    this.#asking.push(game);
    this.assign();
  }
  /** Gives places to the games that wait for one, in their order, as far as there are any. */
  assign() {
    if (this.#isAssigning || this.#asking.length === 0) return;
    this.#isAssigning = true;
    const ready = this.#threads.filter((t) => t.state === "ready");
    const wait = ready.length === 0 && this.#threads.some((t) => t.isExpected);
    const coming = this.#threads.filter((t) => t.state === "starting" && t.isNew).length;
    const share2 = coming > 0 ? Math.ceil(Math.min(this.#games.size, this.options.maxInstances) / (ready.length + coming)) : Infinity;
    const canPlace = !wait && (ready.length > 0 || this.#compiled !== null);
    try {
      for (let game = this.#asking.first; canPlace && game; game = this.#asking.first) {
        const isWanted = game.wantsPlace && (ready.length > 0 || game.mayRunHere());
        if (!isWanted) {
          if (game.list === this.#asking) this.#asking.remove(game);
          continue;
        }
        if (ready.length > 0 && ready.every((t) => t.games.size >= share2)) return;
        if (!instances.makeRoom(this, this.options.maxInstances, this.#asking.length)) return;
        const least = this.#leastOf(ready);
        this.#asking.remove(game);
        if (least) game.placeAt(least, ++this.#placements);
        else this.#placeHere(game);
      }
    } finally {
      this.#isAssigning = false;
    }
  }
  // The worker with the fewest engines; if the page has many instances, of those that have a spare
  // one.
  #leastOf(ready) {
    const least = (list) => list.reduce((a, b) => (b.games.size - a.games.size || b.pending.length - a.pending.length) < 0 ? b : a, list[0]);
    const made = ready.reduce((n, t) => n + t.instances, 0);
    if (!instances.needsSpare(this.options.maxInstances, made)) return least(ready);
    return least(ready.filter((t) => t.games.size < t.instances)) ?? least(ready);
  }
  workerReady(thread) {
    this.#hasWarnedFallback = false;
    this.assign();
    for (const game of [...this.#here.values()]) game.moveBack();
    for (const t of this.#threads) {
      const most = Math.ceil((t.games.size + thread.games.size) / 2);
      for (const game of [...t.games.values()]) if (t !== thread && t.games.size > most && game.pending === 0) game.leavePlace();
    }
  }
  #placeHere(game) {
    const placement = ++this.#placements;
    this.#executor ??= new Executor(this.#compiled);
    this.#here.set(placement, game);
    if (this.#threads.length > 0) {
      game.raiseFallback(new HyperTokenError(
        "worker_unavailable",
        `no Worker can run, the engine goes on on the main thread: ${this.#threads.find((t) => t.cause)?.cause.message ?? "unknown"}`,
        { cause: this.#threads[0].cause }
      ));
    }
    game.placeAt(null, placement);
  }
  leftHere(placement, isKept) {
    this.#here.delete(placement);
    this.#executor.run({ placement, kind: kind.close, flags: isKept ? flag.keep : 0 }, () => {
    });
  }
  /**
   * Runs the requests of a game on the main thread at once, behind the others that wait there. The
   * game gets a place though there may be no room for it, and so does its past.
   */
  runNow(game) {
    for (let rounds = 2 * game.pending + 2, asks = true; rounds > 0 && (asks || game.past); rounds--) {
      asks = false;
      for (const one of [game.past, game]) {
        if (!one || one.list !== this.#asking || !one.wantsPlace || !one.mayRunHere()) continue;
        asks = true;
        this.#asking.remove(one);
        this.#placeHere(one);
      }
      this.drain();
    }
  }
  /** Runs a request on the main thread, behind the others that wait there. */
  runHere(game, placement, op2) {
    this.#running.push({ game, placement, op: op2, list: null, prev: null, next: null });
    if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(() => this.drain(turn));
    }
  }
  /**
   * Runs the requests that wait on the main thread, for about `most` milliseconds. The rest runs in
   * a later task.
   */
  drain(most = Infinity) {
    const until = performance.now() + most;
    while (this.#running.length > 0) {
      const { game, placement, op: op2 } = this.#running.shift();
      if (!this.#here.has(placement) || op2.withdrawn) {
        if (op2.withdrawn) game.handleAnswer(null, placement, op2, { flags: 0 });
        continue;
      }
      const body = op2.parts.length === 1 ? op2.parts[0] : join(op2.parts);
      let answer;
      this.#executor.run({ placement, kind: op2.kind, flags: op2.flags, body }, (flags, ...parts) => {
        answer = answerOf(flags, join(parts));
      });
      game.handleAnswer(null, placement, op2, answer);
      if (performance.now() > until) {
        macrotask(() => this.drain(turn));
        return;
      }
    }
    this.#scheduled = false;
    if (this.#threads.some((t) => t.state === "ready")) {
      for (const game of [...this.#here.values()]) game.moveBack();
    }
  }
  // Time.
  /** Notes that a game has ended its last request. */
  noteIdle(game) {
    game.idleSince = performance.now();
    if (this.#idleTimer === null && !this.#closing && this.options.idleAfter > 0) this.#takeOutAfter(this.options.idleAfter);
  }
  // Takes out the engines that have been idle for idleAfter, so many milliseconds from now.
  #takeOutAfter(ms) {
    this.#idleTimer = setTimeout(() => {
      this.#idleTimer = null;
      const { idleAfter } = this.options, now2 = performance.now();
      for (const game of instances.idle) {
        if (game.host !== this) continue;
        const left = game.idleSince + idleAfter - now2;
        if (left > 0) {
          this.#takeOutAfter(Math.ceil(left));
          return;
        }
        game.leavePlace();
      }
    }, ms);
    this.#idleTimer.unref?.();
  }
  /** Ends a request when its time is over, or when its signal aborts. */
  limit(game, op2, timeout, signal) {
    if (signal) {
      op2.release = onAbort(signal, (shared2) => game.withdraw(op2, sharedError(shared2, op2.what, () => canceledError(op2.what, signal.reason))));
    }
    if (timeout > 0 && timeout < Infinity) {
      op2.game = game;
      this.#deadlines.add(op2, timeout);
    }
  }
  /**
   * Waits for the requests in flight, and ends the engines and the workers: once it resolves, none
   * is left. It may be called any number of times, for example again with a timeout if it takes too
   * long.
   * @param {{timeout?: number}} [options] after so many milliseconds the requests in flight fail; 0, the default, is no limit
   */
  async shutdown(options) {
    checkOptions("shutdown", options, ["timeout"]);
    const { timeout = 0 } = options ?? {};
    checkTimeout("shutdown", timeout);
    this.#closing = true;
    const games = [...this.#games], closed = games.map((game) => game.close(timeout));
    this.#closed ??= (async () => {
      await Promise.all(closed);
      this.#deadlines.stop();
      clearTimeout(this.#idleTimer);
      await Promise.all(this.#threads.map((t) => t.stop()));
      for (const game of games) game.raiseShutdown();
    })();
    return this.#closed;
  }
  [Symbol.asyncDispose ?? /* @__PURE__ */ Symbol.for("Symbol.asyncDispose")]() {
    return this.shutdown();
  }
};

// node_modules/idb/build/index.js
var instanceOfAny = (object, constructors) => constructors.some((c) => object instanceof c);
var idbProxyableTypes;
var cursorAdvanceMethods;
function getIdbProxyableTypes() {
  return idbProxyableTypes || (idbProxyableTypes = [
    IDBIndex,
    IDBObjectStore,
    IDBCursor,
    IDBDatabase,
    IDBTransaction
  ]);
}
function getCursorAdvanceMethods() {
  return cursorAdvanceMethods || (cursorAdvanceMethods = ["advance", "continue", "continuePrimaryKey"].map((method) => IDBCursor.prototype[method]));
}
var transactionDoneMap = /* @__PURE__ */ new WeakMap();
var transformCache = /* @__PURE__ */ new WeakMap();
var reverseTransformCache = /* @__PURE__ */ new WeakMap();
function promisifyRequest(request) {
  const promise = new Promise((resolve, reject) => {
    const unlisten = () => {
      request.removeEventListener("success", success);
      request.removeEventListener("error", error);
    };
    const success = () => {
      resolve(wrap(request.result));
      unlisten();
    };
    const error = () => {
      reject(request.error);
      unlisten();
    };
    request.addEventListener("success", success);
    request.addEventListener("error", error);
  });
  reverseTransformCache.set(promise, request);
  return promise;
}
function cacheDonePromiseForTransaction(tx) {
  if (transactionDoneMap.has(tx))
    return;
  const done = new Promise((resolve, reject) => {
    const unlisten = () => {
      tx.removeEventListener("complete", complete);
      tx.removeEventListener("error", error);
      tx.removeEventListener("abort", error);
    };
    const complete = () => {
      resolve();
      unlisten();
    };
    const error = () => {
      reject(tx.error || new DOMException("AbortError", "AbortError"));
      unlisten();
    };
    tx.addEventListener("complete", complete);
    tx.addEventListener("error", error);
    tx.addEventListener("abort", error);
  });
  transactionDoneMap.set(tx, done);
}
var idbProxyTraps = {
  get(target, prop, receiver) {
    if (target instanceof IDBTransaction) {
      if (prop === "done")
        return transactionDoneMap.get(target);
      if (prop === "store") {
        return receiver.objectStoreNames[1] ? void 0 : receiver.objectStore(receiver.objectStoreNames[0]);
      }
    }
    return wrap(target[prop]);
  },
  set(target, prop, value) {
    target[prop] = value;
    return true;
  },
  has(target, prop) {
    if (target instanceof IDBTransaction && (prop === "done" || prop === "store")) {
      return true;
    }
    return prop in target;
  }
};
function replaceTraps(callback) {
  idbProxyTraps = callback(idbProxyTraps);
}
function wrapFunction(func) {
  if (getCursorAdvanceMethods().includes(func)) {
    return function(...args) {
      func.apply(unwrap(this), args);
      return wrap(this.request);
    };
  }
  return function(...args) {
    return wrap(func.apply(unwrap(this), args));
  };
}
function transformCachableValue(value) {
  if (typeof value === "function")
    return wrapFunction(value);
  if (value instanceof IDBTransaction)
    cacheDonePromiseForTransaction(value);
  if (instanceOfAny(value, getIdbProxyableTypes()))
    return new Proxy(value, idbProxyTraps);
  return value;
}
function wrap(value) {
  if (value instanceof IDBRequest)
    return promisifyRequest(value);
  if (transformCache.has(value))
    return transformCache.get(value);
  const newValue = transformCachableValue(value);
  if (!Object.is(newValue, value)) {
    transformCache.set(value, newValue);
    reverseTransformCache.set(newValue, value);
  }
  return newValue;
}
var unwrap = (value) => reverseTransformCache.get(value);
function openDB(name, version, { blocked, upgrade, blocking, terminated } = {}) {
  const request = indexedDB.open(name, version);
  const openPromise = wrap(request);
  if (upgrade) {
    request.addEventListener("upgradeneeded", (event) => {
      upgrade(wrap(request.result), event.oldVersion, event.newVersion, wrap(request.transaction), event);
    });
  }
  if (blocked) {
    request.addEventListener("blocked", (event) => blocked(
      // Casting due to https://github.com/microsoft/TypeScript-DOM-lib-generator/pull/1405
      event.oldVersion,
      event.newVersion,
      event
    ));
  }
  openPromise.then((db) => {
    if (terminated)
      db.addEventListener("close", () => terminated());
    if (blocking) {
      db.addEventListener("versionchange", (event) => blocking(event.oldVersion, event.newVersion, event));
    }
  }).catch(() => {
  });
  return openPromise;
}
var readMethods = ["get", "getKey", "getAll", "getAllKeys", "count"];
var writeMethods = ["put", "add", "delete", "clear"];
var cachedMethods = {};
function getMethod(target, prop) {
  if (!(target instanceof IDBDatabase && !(prop in target) && typeof prop === "string")) {
    return;
  }
  if (cachedMethods[prop])
    return cachedMethods[prop];
  const targetFuncName = prop.replace(/FromIndex$/, "");
  const useIndex = prop !== targetFuncName;
  const isWrite = writeMethods.includes(targetFuncName);
  if (
    // Bail if the target doesn't exist on the target. Eg, getAll isn't in Edge.
    !(targetFuncName in (useIndex ? IDBIndex : IDBObjectStore).prototype) || !(isWrite || readMethods.includes(targetFuncName))
  ) {
    return;
  }
  const method = async function(storeName, ...args) {
    const tx = this.transaction(storeName, isWrite ? "readwrite" : "readonly");
    let target2 = tx.store;
    if (useIndex)
      target2 = target2.index(args.shift());
    return (await Promise.all([
      target2[targetFuncName](...args),
      isWrite && tx.done
    ]))[0];
  };
  return cachedMethods[prop] = method;
}
replaceTraps((oldTraps) => ({
  ...oldTraps,
  get: (target, prop, receiver) => getMethod(target, prop) || oldTraps.get(target, prop, receiver),
  has: (target, prop) => !!getMethod(target, prop) || oldTraps.has(target, prop)
}));
var advanceMethodProps = ["advance", "continue", "continuePrimaryKey"];
var methodMap = {};
var advanceResults = /* @__PURE__ */ new WeakMap();
var ittrProxiedCursorToOriginalProxy = /* @__PURE__ */ new WeakMap();
var cursorIteratorTraps = {
  get(target, prop) {
    if (!advanceMethodProps.includes(prop))
      return target[prop];
    let cachedFunc = methodMap[prop];
    if (!cachedFunc) {
      cachedFunc = methodMap[prop] = function(...args) {
        advanceResults.set(this, ittrProxiedCursorToOriginalProxy.get(this)[prop](...args));
      };
    }
    return cachedFunc;
  }
};
async function* iterate(...args) {
  let cursor = this;
  if (!(cursor instanceof IDBCursor)) {
    cursor = await cursor.openCursor(...args);
  }
  if (!cursor)
    return;
  cursor = cursor;
  const proxiedCursor = new Proxy(cursor, cursorIteratorTraps);
  ittrProxiedCursorToOriginalProxy.set(proxiedCursor, cursor);
  reverseTransformCache.set(proxiedCursor, unwrap(cursor));
  while (cursor) {
    yield proxiedCursor;
    cursor = await (advanceResults.get(proxiedCursor) || cursor.continue());
    advanceResults.delete(proxiedCursor);
  }
}
function isIteratorProp(target, prop) {
  return prop === Symbol.asyncIterator && instanceOfAny(target, [IDBIndex, IDBObjectStore, IDBCursor]) || prop === "iterate" && instanceOfAny(target, [IDBIndex, IDBObjectStore]);
}
replaceTraps((oldTraps) => ({
  ...oldTraps,
  get(target, prop, receiver) {
    if (isIteratorProp(target, prop))
      return iterate;
    return oldTraps.get(target, prop, receiver);
  },
  has(target, prop) {
    return isIteratorProp(target, prop) || oldTraps.has(target, prop);
  }
}));

// src/store.js
var databaseName = "hypertoken";
var databaseVersion = 1;
var plainForm = 1;
var historyForm = 2;
var formOf = (keepsHistory) => keepsHistory ? historyForm : plainForm;
var longestName = 200;
var database = null;
function connect() {
  database ??= openDB(databaseName, databaseVersion, {
    upgrade(db) {
      db.createObjectStore("games", { keyPath: "name" });
      db.createObjectStore("bases");
      db.createObjectStore("groups");
    },
    // Another tab has a newer version of the package, or deletes the database: it waits for this
    // one.
    blocking: (_current, _blocked, event) => {
      database = null;
      event.target.close();
    },
    terminated: () => {
      database = null;
    }
  }).catch((cause) => {
    database = null;
    throw refused(cause);
  });
  return database;
}
function refused(cause) {
  if (cause instanceof HyperTokenError) return cause;
  const why = cause?.message || cause?.name || String(cause);
  if (cause?.name === "QuotaExceededError") {
    return new HyperTokenError("store_full", `the browser has no room for more of this site's data: delete games, or see navigator.storage.estimate() (${why})`, { cause });
  }
  if (cause?.name === "VersionError") {
    return new HyperTokenError("store_refused", "the games were kept by a newer version of hypertoken-worker; load that version", { cause });
  }
  return new HyperTokenError("store_refused", `the browser's database has failed: ${why}`, { cause });
}
async function transact(mode, durability, f) {
  try {
    const db = await connect(), tx = db.transaction(["games", "bases", "groups"], mode, { durability });
    let result, thrown;
    tx.done.catch(() => {
    });
    try {
      result = await f(tx.objectStore("games"), tx.objectStore("bases"), tx.objectStore("groups"));
    } catch (cause) {
      thrown = cause;
      try {
        tx.abort();
      } catch {
      }
    }
    await tx.done.catch((cause) => {
      throw thrown !== void 0 && (cause?.name === "AbortError" || thrown instanceof HyperTokenError) ? thrown : cause;
    });
    if (thrown !== void 0) throw thrown;
    return result;
  } catch (cause) {
    if (cause?.name === "InvalidStateError") database = null;
    throw refused(cause);
  }
}
function together(...requests) {
  const made = [];
  try {
    for (const make of requests) made.push(make());
  } catch (cause) {
    made.push(Promise.reject(cause));
  }
  return Promise.all(made);
}
var clientLock = (client) => `hypertoken client ${client}`;
var rangeOf = (id, from = 0, to = Infinity) => IDBKeyRange.bound([id, from], [id, to]);
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (x) => x.toString(16).padStart(2, "0")).join("");
}
var checkName = (what, name) => {
  if (typeof name !== "string" || name === "" || name.length > longestName) throw badInput(`${what}: name is ${nameOf(name)}, want a string of 1 to ${longestName} characters`);
};
var damaged = (name, why) => new HyperTokenError("broken", `the saved game ${JSON.stringify(name)} is damaged: ${why}. Nothing of it was changed`);
var moved = (name) => new HyperTokenError("moved", `the saved game ${JSON.stringify(name)} was deleted, or opened by another engine, which has it now`);
var taken = (name) => new HyperTokenError("engine_exists", `there is a saved game ${JSON.stringify(name)} already: delete it first, or take another name`);
var missing = (name) => new HyperTokenError("engine_not_found", `there is no saved game ${JSON.stringify(name)}`);
var isCount = (n) => Number.isSafeInteger(n) && n >= 0;
function checkGame(game) {
  if (isCount(game.form) && game.form > historyForm) {
    throw new HyperTokenError("store_refused", `the saved game ${JSON.stringify(game.name)} was kept by a newer version of hypertoken-worker (form ${game.form}, and this one knows ${historyForm}); load that version`);
  }
  if (game.form !== plainForm && game.form !== historyForm || typeof game.id !== "string") throw damaged(game.name, "its row can not be read");
}
function baseOf(name, row) {
  checkBase(name, row);
  const { sequence, bytes, isSnapshot, limits, core, calls, digest } = row;
  return { sequence, bytes, isSnapshot, limits, core, calls, digest: typeof digest === "string" ? digest : null, marker: markerOf(name, row) };
}
function markerOf(name, { marker: kind2, details }) {
  if (kind2 === null || kind2 === void 0) return null;
  try {
    const { to, current = 0, redo = [] } = JSON.parse(`{${(details ?? "").replace(/,$/, "")}}`);
    if (typeof kind2 === "string" && isCount(current) && Array.isArray(redo) && redo.every(isCount)) return { kind: kind2, to, current, redo, details };
  } catch {
  }
  throw damaged(name, "the marker of its base can not be read");
}
function checkBase(name, base) {
  if (!base || !isCount(base.sequence) || !isBytes(base.bytes) || !isBytes(base.limits) || typeof base.core !== "string" || base.limits.length !== 16 || !isCalls(base.calls) || hash(base.bytes) !== base.sum) {
    throw damaged(name, "its base can not be read");
  }
}
function checkGroups(name, base, groups) {
  let next = base.sequence + 1;
  for (const group of groups) {
    if (group?.first !== next) throw damaged(name, `the record ${next} is missing`);
    if (!isBytes(group.bytes) || hash(group.bytes) !== group.sum || countEntries(group.bytes) !== group.count || group.count === 0 || !isBatches(group.batches) || !isCalls(group.calls)) {
      throw damaged(name, `the records from ${next} on can not be read`);
    }
    next += group.count;
  }
  return next - 1;
}
var isCalls = (calls) => calls === void 0 || Array.isArray(calls) && calls.every((c) => typeof c?.client === "string" && isCount(c.number) && typeof c.outcome === "object");
var isBatches = (batches) => Array.isArray(batches) && batches.every((b) => Array.isArray(b) && isCount(b[0]) && isCount(b[1]));
function countEntries(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let count = 0, at = 0;
  for (; at + entryHead <= bytes.length; count++) at += entryHead + view.getUint32(at, true);
  return at === bytes.length ? count : -1;
}
function baseRow(base, core) {
  const { marker = null } = base;
  return { core, ...base, marker: marker?.kind ?? null, details: marker && detailsOf(marker), sum: hash(base.bytes) };
}
var groupRow = (group, total) => ({ ...group, sum: hash(group.bytes), total, at: Date.now() });
async function readRows(game, bases, groups) {
  const cursor = await bases.openCursor(rangeOf(game.id), "prev");
  const base = baseOf(game.name, cursor?.value);
  const rows = await groups.getAll(rangeOf(game.id, base.sequence + 1));
  checkGroups(game.name, base, rows);
  return { base, groups: rows };
}
var SavedGame = class {
  /** Resolves, or rejects, as the last open() does. */
  opening = null;
  #name;
  #core;
  #sha256 = "";
  #durability;
  #upgradeFrom;
  #history;
  #owner = randomId();
  #id = "";
  #total = 0;
  /**
   * The outcomes of calls of other tabs: by client, then by number. A batch may have one for each
   * part.
   */
  #outcomes = /* @__PURE__ */ new Map();
  /** The outcomes of calls that have changed nothing, and that no group has yet. */
  #deferred = [];
  /**
   * @param {string} name
   * @param {() => Promise<string>} core returns the SHA-256 of the core, in hexadecimal
   * @param {'strict' | 'relaxed'} durability
   * @param {(core: string) => Promise<((found: object) => Promise<object>) | null>} upgradeFrom for
   *   the hash of a former core: returns a function
   *   that gives a base of the present core for a game of the former one; null if there is no such core
   * @param {boolean} [history] whether what is behind a snapshot is kept; without it, as the game was
   *   kept before
   */
  constructor(name, core, durability, upgradeFrom2, history) {
    this.#name = name;
    this.#core = core;
    this.#durability = durability;
    this.#upgradeFrom = upgradeFrom2;
    this.#history = history;
  }
  /** Names this life of the game: a game that is deleted and made again has another one. */
  get id() {
    return this.#id;
  }
  /**
   * Takes the game over. Returns its base and the groups behind it; null if there is no such game.
   * @param {string} [id] fails with `moved` unless the game has this id
   */
  open(id) {
    this.opening = this.#open(id);
    return this.opening;
  }
  async #open(id) {
    const core = this.#sha256 = await this.#core();
    const found = await this.#takeOver(id, core);
    if (found === null || found.base.core === core) return found;
    const upgrade = await this.#upgradeFrom(found.base.core);
    if (!upgrade) {
      throw new HyperTokenError("core_mismatch", `the saved game ${JSON.stringify(this.#name)} was played with the core ${found.base.core}, and this one is ${core}: name that core too (persist.formerCores)`);
    }
    await this.#takeOver(id, found.base.core);
    const base = await upgrade(found);
    await this.replace(base);
    return { base, groups: [] };
  }
  // Returns what the store has of the game. Takes it over if its core is this one.
  #takeOver(id, core) {
    return transact("readwrite", "relaxed", async (games, bases, groups) => {
      const game = await games.get(this.#name);
      if (id !== void 0 && game?.id !== id) throw moved(this.#name);
      if (!game) {
        this.#id = randomId();
        return null;
      }
      checkGame(game);
      const found = await readRows(game, bases, groups);
      if (found.base.core !== core) return found;
      this.#history ??= game.form === historyForm;
      this.#id = game.id;
      this.#total = found.groups.reduce((n, g) => n + g.bytes.length, 0);
      for (const { calls } of [found.base, ...found.groups]) this.#remember(calls);
      await games.put({ ...game, owner: this.#owner, form: formOf(this.#history) });
      return found;
    });
  }
  /** Stores a new game with its base. */
  create(base) {
    const now2 = Date.now(), form = formOf(this.#history), size = base.bytes.length;
    const game = { name: this.#name, id: this.#id, form, owner: this.#owner, created: now2, updated: now2, base: base.sequence, size };
    return transact("readwrite", this.#durability, async (games, bases) => {
      if (await games.getKey(this.#name) !== void 0) throw moved(this.#name);
      await together(() => games.add(game), () => bases.add(baseRow(base, this.#sha256), [this.#id, base.sequence]));
    });
  }
  /**
   * Stores a group of records.
   * @param {{first: number, count: number, bytes: Uint8Array, batches: number[][], calls:
   *   object[]}} group `batches` has the first sequence and
   *   the length of each batch, `calls` the outcomes of calls of other tabs
   */
  async append(group) {
    const total = this.#total + group.bytes.length, deferred = this.#deferred, calls = [...deferred, ...group.calls];
    this.#deferred = [];
    await transact("readwrite", this.#durability, async (games, _, groups) => {
      await together(() => this.#checkOwner(games), () => groups.add(groupRow({ ...group, calls }, total), [this.#id, group.first]));
    }).catch((error) => {
      this.#deferred = [...deferred, ...this.#deferred];
      throw error;
    });
    this.#total = total;
    this.#remember(calls);
  }
  /**
   * Stores a snapshot or a marker, from which the game goes on. Unless the history is kept, it replaces
   * the base and all records up to it.
   * @param {object[]} [own] the outcome of the call that it is for
   */
  async replace(base, own = []) {
    const calls = await this.#callsOfLiving(), deferred = this.#deferred, total = this.#total, keepsHistory = this.#history;
    const added = [...deferred, ...own];
    this.#deferred = [];
    await transact("readwrite", this.#durability, async (games, bases, groups) => {
      const game = await this.#checkOwner(games), { limits } = await bases.get([this.#id, game.base]);
      const former = [
        () => bases.delete(IDBKeyRange.bound([this.#id, 0], [this.#id, base.sequence], false, true)),
        () => groups.delete(rangeOf(this.#id, 0, base.sequence))
      ];
      const kept2 = keepsHistory ? (game.kept ?? 0) + game.size + total : 0;
      await together(
        () => bases.put(baseRow({ limits, calls: [...calls, ...added], ...base }, this.#sha256), [this.#id, base.sequence]),
        ...keepsHistory ? [] : former,
        () => games.put({ ...game, updated: Date.now(), base: base.sequence, size: base.bytes.length, kept: kept2 })
      );
    }).catch((error) => {
      this.#deferred = [...deferred, ...this.#deferred];
      throw error;
    });
    this.#total = 0;
    this.#remember(added);
  }
  /**
   * Reads a part of the journal: from the state of one sequence to that of another. It has no need to
   * be the owner.
   * @param {string} what names the request in errors
   * @param {string} [id] fails with `moved` unless the game has this id
   */
  async history(what, from, to, id = this.#id) {
    const core = this.#sha256 ||= await this.#core(), { segments, newest } = await readJournal(this.#name, from, to, id);
    const former = segments.find(({ base }) => base.core !== core)?.base;
    if (former) {
      const name = JSON.stringify(this.#name);
      throw new HyperTokenError("core_mismatch", `${what}: at ${former.sequence} the saved game ${name} was played with the core ${former.core}, and this one is ${core}; exportGame has it all (formerCores)`);
    }
    return new History(segments, what, newest);
  }
  // Outcomes. Another tab asks again for calls that had no answer when the tab that ran them ended.
  // Calls of a tab run in their order. So if the journal has a call, it has the outcomes of all
  // calls before it, those that have changed nothing too.
  /** Has the next group store the outcome of a call that has changed nothing. */
  defer(call) {
    this.#deferred.push(call);
  }
  #remember(calls = []) {
    for (const { client, number, part, outcome } of calls) {
      let own = this.#outcomes.get(client);
      if (!own) this.#outcomes.set(client, own = /* @__PURE__ */ new Map());
      if (part === void 0) own.set(number, outcome);
      else own.set(number, { parts: [...own.get(number)?.parts ?? [], [part, outcome]] });
    }
  }
  /**
   * Returns what the journal has of a call: {result}, {error}, {parts} of an independent batch, or
   * undefined if it has nothing.
   */
  recall(client, number) {
    return this.#outcomes.get(client)?.get(number);
  }
  /** Whether the journal has a later call of a client. Calls of a client run in their order. */
  hasLater(client, number) {
    for (const n of this.#outcomes.get(client)?.keys() ?? []) if (n > number) return true;
    return false;
  }
  /** Forgets the outcomes of calls up to a number, which the client has. */
  forget(client, number) {
    if (this.#deferred.length > 0) this.#deferred = this.#deferred.filter((call) => call.client !== client || call.number > number);
    const own = this.#outcomes.get(client);
    for (const n of own?.keys() ?? []) {
      if (n > number) break;
      own.delete(n);
    }
    if (own?.size === 0) this.#outcomes.delete(client);
  }
  async #callsOfLiving() {
    if (this.#outcomes.size === 0) return [];
    const { held } = await navigator.locks.query(), living = new Set(held.map((lock) => lock.name)), calls = [];
    for (const [client, own] of this.#outcomes) {
      if (!living.has(clientLock(client))) {
        this.#outcomes.delete(client);
        continue;
      }
      for (const [number, outcome] of own) {
        if (outcome.parts) for (const [part, one] of outcome.parts) calls.push({ client, number, part, outcome: one });
        else calls.push({ client, number, outcome });
      }
    }
    return calls;
  }
  async #checkOwner(games) {
    const game = await games.get(this.#name);
    if (game?.owner !== this.#owner) throw moved(this.#name);
    return game;
  }
};
function readJournal(name, from, to, id) {
  return transact("readonly", "default", async (games, bases, groups) => {
    const game = await games.get(name);
    if (id && game?.id !== id) throw moved(name);
    if (!game) throw missing(name);
    checkGame(game);
    const first = await bases.openKeyCursor(rangeOf(game.id, 0, from), "prev") ?? await bases.openKeyCursor(rangeOf(game.id));
    const last = await bases.openKeyCursor(rangeOf(game.id), "prev");
    if (!first) throw damaged(name, "it has no base");
    const [, begin] = first.key, [, newestBase] = last.key, group = (await groups.openCursor(rangeOf(game.id, newestBase + 1), "prev"))?.value;
    const newest = group ? group.first + group.count - 1 : newestBase, end = Math.max(begin, Math.min(to, newest));
    if (!isCount(newest)) throw damaged(name, "its last records can not be read");
    const rows = await bases.getAll(rangeOf(game.id, begin, end)), records = await groups.getAll(rangeOf(game.id, begin + 1, end + 1));
    return { segments: segmentsOf(name, rows.map((row) => baseOf(name, row)), records, end), newest };
  });
}
function segmentsOf(name, bases, groups, last) {
  return bases.map((base, k) => {
    const next = bases[k + 1], behind = groups.filter((group) => group?.first > base.sequence && !(group.first > next?.sequence));
    const end = checkGroups(name, base, behind), wanted = next ? next.sequence - (next.marker ? 1 : 0) : last;
    if (end < wanted || next && end > wanted) throw damaged(name, `the record ${end + 1} is missing`);
    const batches = behind.flatMap((group) => group.batches.flatMap(([first, length]) => [first, first + length - 1]));
    return { base, journal: { pieces: () => behind.map(({ bytes }) => bytes), batches }, end };
  });
}
function addGame(name, segments) {
  const id = randomId(), now2 = Date.now(), { base } = segments.at(-1), requests = [];
  return transact("readwrite", "strict", async (games, bases, rows) => {
    if (await games.getKey(name) !== void 0) throw taken(name);
    let kept2 = 0, size = 0;
    for (const segment of segments) {
      let total = 0;
      kept2 += size;
      requests.push(() => bases.add(baseRow(segment.base), [id, segment.base.sequence]));
      for (const group of segment.groups) {
        const upTo = total += group.bytes.length;
        requests.push(() => rows.add(groupRow(group, upTo), [id, group.first]));
      }
      size = segment.base.bytes.length + total;
    }
    const game = { name, id, form: formOf(segments.length > 1), owner: "", created: now2, updated: now2, base: base.sequence, size: base.bytes.length, kept: kept2 };
    await together(() => games.add(game), ...requests);
  });
}
function checkIsFree(name) {
  return transact("readonly", "default", async (games) => {
    if (await games.getKey(name) !== void 0) throw taken(name);
  });
}
function removeGame(name) {
  return transact("readwrite", "strict", async (games, bases, groups) => {
    const game = await games.get(name);
    if (!game) throw missing(name);
    const { id } = game;
    await together(() => games.delete(name), ...typeof id === "string" ? [() => bases.delete(rangeOf(id)), () => groups.delete(rangeOf(id))] : []);
  });
}
function listGames() {
  return transact("readonly", "default", async (games, _, groups) => {
    const list = [];
    for (const { name, id, created, updated, base, size, kept: kept2 = 0 } of await games.getAll()) {
      const last = typeof id === "string" && isCount(base) ? (await groups.openCursor(rangeOf(id, base + 1), "prev"))?.value : void 0;
      const sequence = last ? last.first + last.count - 1 : base, bytes = kept2 + size + (last ? last.total : 0);
      list.push({
        name,
        sequence: isCount(sequence) ? sequence : 0,
        bytes: isCount(bytes) ? bytes : 0,
        created: new Date(created),
        updated: new Date(last ? last.at : updated)
      });
    }
    return list;
  });
}

// src/saved.js
var turn2 = 8;
var groupLength = 1024;
var optionNames = ["core", "wasmPath", "formerCores"];
var none5 = new Uint8Array(0);
async function savedGames() {
  checkCanPersist("savedGames");
  return listGames();
}
async function deleteGame(name) {
  checkCanPersist("deleteGame");
  checkName("deleteGame", name);
  return removeGame(name);
}
function checkFormerCores(what, cores2 = []) {
  if (!Array.isArray(cores2) || cores2.some((core) => !isAddress(core) && !isBuffer(core))) {
    throw badInput(`${what}: formerCores: want an array of addresses of cores, or of their bytes`);
  }
  return cores2;
}
async function findFormer(cores2, sha2562) {
  for (const core of cores2) {
    const from = isAddress(core) ? coreLocation(core) : { module: core };
    if (await hashCore(from) === sha2562) return from;
  }
  return null;
}
var Cores = class {
  #present;
  #former;
  #unknown;
  #newest = { core: "", game: null };
  /** @param {(core: string, present: string) => HyperTokenError} unknown says that a core is none of these */
  constructor(present, former, unknown) {
    this.#present = present;
    this.#former = former;
    this.#unknown = unknown;
  }
  /** Returns a game on the core of a hash: the same one as before, if that has this core. */
  async rerunOn(core) {
    if (core !== this.#newest.core) this.#newest = { core, game: new Rerun(await this.#moduleOf(core)) };
    return this.#newest.game;
  }
  async #moduleOf(core) {
    const { module, sha256: sha2562 } = this.#present;
    if (core === sha2562) return module;
    const from = await findFormer(this.#former, core);
    if (!from) throw this.#unknown(core, sha2562);
    return compile(from);
  }
};
async function coresOf(what, options, unknown) {
  checkCanPersist(what);
  checkOptions(what, options, optionNames);
  const { formerCores, ...own } = options ?? {}, { core, wasmPath } = hostOptions(own, what), former = checkFormerCores(what, formerCores);
  const from = core ? { module: core } : coreLocation(wasmPath);
  const [module, sha2562] = await Promise.all([compile(from), hashCore(from)]).catch((cause) => {
    throw cause instanceof HyperTokenError ? cause : badInput(`${what}: the core can not be run: ${cause.message}`, cause);
  });
  return new Cores({ module, sha256: sha2562 }, former, unknown);
}
function pauses() {
  let until = performance.now() + turn2;
  return async () => {
    if (performance.now() < until) return;
    await new Promise(macrotask);
    until = performance.now() + turn2;
  };
}
var Rerun = class {
  #instance;
  constructor(module) {
    this.#instance = new Instance(module);
  }
  begin({ bytes, isSnapshot, limits }) {
    this.#instance.maxStateBytes = Number(new DataView(limits.buffer, limits.byteOffset, 8).getBigUint64(0, true));
    this.#run(isSnapshot ? "restore" : "open", isSnapshot ? none5 : limits);
    for (let at = 0; at < bytes.length; at += 1 << 20) this.#run("feed", bytes.subarray(at, at + (1 << 20)));
    this.#run("ready");
  }
  #run(what, bytes) {
    let reply;
    try {
      reply = this.#instance.run(what, bytes);
    } catch (cause) {
      throw new HyperTokenError(cause.code ?? "trap", cause.message, { cause });
    }
    if (reply.failed) throw errorOf(reply.body);
    return reply;
  }
  /** The state as bytes. */
  snapshot() {
    return this.#instance.stream("snapshot").body.slice();
  }
  digest() {
    return [...this.#run("digest").body].reverse().map((x) => x.toString(16).padStart(2, "0")).join("");
  }
  /** Runs an action. Returns its result, which is valid until the next call. */
  action(bytes) {
    return this.#run("dispatch", bytes).body;
  }
};
var diverged = (message, cause) => new HyperTokenError("diverged", message, cause === void 0 ? {} : { cause });
async function exportGame(name, options) {
  const cores2 = await coresOf("exportGame", options, (core, present) => new HyperTokenError(
    "core_mismatch",
    `the saved game ${JSON.stringify(name)} was played with the core ${core}, and this one is ${present}: name its core (wasmPath, formerCores)`
  ));
  checkName("exportGame", name);
  const { segments } = await readJournal(name, 0, Infinity), lines = [];
  let game = null;
  for (const { base, journal } of segments) {
    const known = base.digest ?? (base.marker ? null : game?.digest());
    game = await cores2.rerunOn(base.core);
    game.begin(base);
    const digest = game.digest();
    if (lines.length === 0 || base.marker) lines.push(baseLine(base, base.core, digest));
    if (digest !== (known ?? digest)) throw diverged(`the state at ${base.sequence} had the digest ${known}, and has ${digest}`);
    await replay(game, { base, pieces: journal.pieces(), batches: journal.batches }, ({ action, batch, sequence }, result) => {
      lines.push(actionLine(action, batch, sequence, xxh64(result)));
    });
  }
  return new Blob(lines.map((line) => `${line}
`), { type: "application/x-ndjson" });
}
async function replay(game, segment, f) {
  const pause = pauses();
  for (const one of actionsOf(segment)) {
    const result = rerun(game, one.action, one.sequence);
    if (hash(result) !== one.sum) throw diverged(`the action ${one.sequence} has another result than the one that was acknowledged`);
    f(one, result);
    await pause();
  }
}
async function upgradeFrom(cores2, sha2562, present) {
  const from = await findFormer(cores2, sha2562);
  if (!from) return null;
  return async ({ base, groups }) => {
    const before = new Rerun(await compile(from)), after = new Rerun(await present());
    let { sequence } = base;
    before.begin(base);
    await replay(before, { base, pieces: groups.map(({ bytes }) => bytes), batches: [] }, () => {
      sequence++;
    });
    const digest = before.digest();
    after.begin({ ...base, bytes: before.snapshot(), isSnapshot: true });
    const details = `"from_core":"${sha2562}","digest_before":"${digest}","current":0,"redo":[],`;
    const marker = { kind: "upgrade", current: 0, redo: [], details };
    return { sequence: sequence + 1, bytes: after.snapshot(), isSnapshot: true, limits: base.limits, marker };
  };
}
function rerun(game, action, sequence) {
  try {
    return game.action(action);
  } catch (cause) {
    throw diverged(`the action ${sequence} succeeded, and now fails: ${cause.message}`, cause);
  }
}
var wrong = (message) => badInput(message);
var Line2 = class {
  constructor(text) {
    this.members = readLine(text);
  }
  has(name) {
    return this.members.has(name);
  }
  #read(name) {
    return this.has(name) ? decode(this.members.get(name)) : void 0;
  }
  text(name, form, wanted) {
    const value = this.#read(name);
    if (typeof value !== "string" || !form.test(value)) throw wrong(`${name}: want ${wanted}`);
    return value;
  }
  count(name) {
    const value = this.#read(name);
    if (!Number.isSafeInteger(value) || value < 0) throw wrong(`${name}: want an integer that is not negative`);
    return value;
  }
  integer(name) {
    const value = this.#read(name);
    if (!Number.isSafeInteger(value)) throw wrong(`${name}: want an integer`);
    return value;
  }
  bytes(name) {
    const text = this.text(name, /^[A-Za-z0-9+/]*={0,2}$/, "base64");
    try {
      return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    } catch {
      throw wrong(`${name}: want base64`);
    }
  }
  entropy() {
    return Uint8Array.from(this.text("entropy", /^[0-9a-f]{32}$/i, "32 hexadecimal digits").match(/../g), (two) => parseInt(two, 16));
  }
  hash(name) {
    return this.text(name, /^[0-9a-f]{16}$/i, "16 hexadecimal digits").toLowerCase();
  }
  core() {
    return this.text("core", /^[0-9a-f]{64}$/i, "64 hexadecimal digits").toLowerCase();
  }
};
function* linesOf(text) {
  for (let at = 0, number = 1; at < text.length; number++) {
    const found = text.indexOf("\n", at), end = found < 0 ? text.length : found, line = text.slice(at, end);
    if (line.trim() !== "") yield [number, line];
    at = end + 1;
  }
}
async function importGame(name, file, options) {
  const cores2 = await coresOf("importGame", options, (core, present) => new HyperTokenError(
    "core_mismatch",
    `the game was played with the core ${core}, and this one is ${present}: name its core (wasmPath, formerCores)`
  ));
  checkName("importGame", name);
  if (typeof file?.text !== "function") throw badInput("importGame: want a Blob or a File with the lines of an export");
  await checkIsFree(name);
  const game = new Import(cores2, limitsOf()), pause = pauses();
  for (const [number, text] of linesOf(await file.text())) {
    try {
      await game.add(text);
    } catch (cause) {
      const error = cause instanceof HyperTokenError ? cause : badInput(cause?.message ?? String(cause), cause);
      throw new HyperTokenError(error.code, `line ${number}: ${error.message.slice(error.code.length + 2)}`, { cause: error.cause });
    }
    await pause();
  }
  if (game.segments.length === 0) throw badInput("importGame: there is no line: the first one of an export is a setup, a snapshot or a marker");
  game.endGroup();
  await addGame(name, game.segments);
  return { sequence: game.sequence, digest: game.digest() };
}
function limitsOf() {
  const { maxStateBytes, maxResult, maxDepth } = hostOptions(void 0), limits = new Uint8Array(16), v = new DataView(limits.buffer);
  v.setBigUint64(0, BigInt(maxStateBytes), true);
  v.setUint32(8, maxResult, true);
  v.setUint32(12, maxDepth, true);
  return limits;
}
var Import = class {
  segments = [];
  sequence = 0;
  #cores;
  #game = null;
  #limits;
  #records = [];
  #batches = [];
  constructor(cores2, limits) {
    this.#cores = cores2;
    this.#limits = limits;
  }
  digest() {
    return this.#game.digest();
  }
  /** Takes in a line. Returns a promise if it is the line of a base. */
  add(text) {
    const line = new Line2(text), isFirst = this.segments.length === 0;
    if (line.has("marker") || isFirst && (line.has("setup") || line.has("snapshot"))) return this.#begin(line);
    if (isFirst) throw wrong("the first line of an export is a setup, a snapshot or a marker");
    if (!line.has("type")) throw wrong("behind its first line, an export has actions and markers only");
    return this.#action(line);
  }
  // A marker sets the state. What is before it is the history.
  async #begin(line) {
    const core = line.core(), isSnapshot = !line.has("setup"), sequence = isSnapshot ? line.count("sequence") : 0;
    if (this.segments.length > 0 && sequence !== this.sequence + 1) throw wrong(`sequence: the marker has ${sequence}, want ${this.sequence + 1}`);
    const bytes = isSnapshot ? line.bytes("snapshot") : line.members.get("setup"), digest = isSnapshot ? line.hash("digest") : null;
    const base = { sequence, bytes, isSnapshot, limits: this.#limits, core, digest, marker: line.has("marker") ? markerOf2(line, sequence) : null };
    this.endGroup();
    this.#game = await this.#cores.rerunOn(core);
    this.#game.begin(base);
    const found = this.#game.digest();
    if (isSnapshot && digest !== found) throw diverged(`the state had the digest ${digest}, and has ${found}`);
    this.segments.push({ base, groups: [] });
    this.sequence = sequence;
  }
  #action(line) {
    const sequence = line.count("sequence"), checksum = line.hash("checksum");
    if (sequence !== this.sequence + 1) throw wrong(`sequence: it is ${sequence}, want ${this.sequence + 1}`);
    const head2 = encodeAction(line.text("type", /./s, "the name of an action"), void 0, line.integer("now"), line.entropy(), 0);
    const payload = line.members.get("payload") ?? none5, bytes = new Uint8Array(head2.length + payload.length);
    bytes.set(head2);
    bytes.set(payload, head2.length);
    const result = rerun(this.#game, bytes, sequence), found = xxh64(result);
    if (found !== checksum) throw diverged(`the recorded result has the checksum ${checksum}, and that of now ${found}`);
    this.sequence = sequence;
    this.#records.push({ bytes, sum: hash(result) });
    const batch = line.has("batch") ? line.count("batch") : 0, last = this.#batches.at(-1);
    if (batch > 0 && last?.[0] === batch && batch + last[1] === sequence) last[1]++;
    else if (batch === sequence) this.#batches.push([batch, 1]);
    else if (batch > 0) throw wrong(`batch: it is ${batch}, want the sequence of the first action of its batch`);
    else if (this.#records.length >= groupLength) this.endGroup();
  }
  // A batch is never split between groups.
  endGroup() {
    if (this.#records.length === 0) return;
    const first = this.sequence - this.#records.length + 1;
    this.segments.at(-1).groups.push({ first, count: this.#records.length, bytes: entriesOf(this.#records), batches: this.#batches });
    this.#records = [];
    this.#batches = [];
  }
};
function markerOf2(line, sequence) {
  const kind2 = line.text("marker", /^(revert|upgrade|fork)$/, "revert, upgrade or fork");
  const own = ["to", "from_core", "digest_before", "from_engine", "from_sequence", "current", "redo"].filter((name) => line.has(name));
  const details = own.map((name) => `"${name}":${jsonOf(line.members.get(name))},`).join("");
  const [to = 0, current = 0, redo = []] = ["to", "current", "redo"].map((name) => line.has(name) ? decode(line.members.get(name)) : void 0);
  const isWrong = (n) => !Number.isSafeInteger(n) || n < 0 || n > sequence;
  if (!Array.isArray(redo) || [to, current, ...redo].some(isWrong)) throw wrong(`to, current and redo: want sequences up to ${sequence}`);
  return { kind: kind2, to, current, redo, details };
}

// src/tabs.js
var protocol = 2;
var canShare = () => typeof globalThis.navigator?.locks?.request === "function" && typeof globalThis.BroadcastChannel === "function";
function payloadOf(action) {
  const from = 28 + new DataView(action.buffer, action.byteOffset, action.length).getUint32(24, true);
  return from < action.length ? decode(action.subarray(from)) : void 0;
}
var isChange = ({ kind: k }) => k === kind.dispatch || k === kind.batch || k === kind.rewind;
var messageOf = ({ what, kind: k, flags, parts, to }) => ({ what, kind: k, flags, parts, to });
function requestOf({ what, kind: k, flags, parts, to }) {
  if (k === kind.rewind) return new Rewind(what, to);
  const op2 = new Op(what, k, parts, flags);
  if (k === kind.dispatch) op2.payload = payloadOf(parts[0]);
  if (k === kind.batch) op2.members = membersOf(parts[0]);
  return op2;
}
var utf85 = new TextDecoder();
function membersOf(body) {
  const view = new DataView(body.buffer, body.byteOffset, body.length), members = [];
  for (let at = 8; at < body.length; ) {
    const bytes = body.subarray(at + 4, at += 4 + view.getUint32(at, true));
    members.push({ type: utf85.decode(bytes.subarray(28, 28 + new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(24, true))), payload: payloadOf(bytes), bytes });
  }
  return members;
}
var revived = ({ code, message, index }) => new HyperTokenError(code, message.startsWith(`${code}: `) ? message.slice(code.length + 2) : message, { index });
var noEffect = (what) => new HyperTokenError("moved", `${what}: the tab that ran the game ended, and the action is not in the journal; it had no effect`);
var timeLeft = ({ timeout, deadline }) => timeout > 0 ? Math.max(1, Math.ceil((deadline - performance.now()) / 100)) * 100 : 0;
var SharedGame = class {
  closed = false;
  broken = null;
  flush = () => {
  };
  /** Called after each change of the state; null if nothing follows the state. */
  handleChange = null;
  /** The list of its host that it is in: none, but for its own game. */
  list = null;
  prev = null;
  next = null;
  #host;
  #base;
  #listener;
  #isHeard;
  #saved;
  #client = randomId();
  #channel;
  #stop = new AbortController();
  /**
   * The game, if this engine holds its lock; whether it is open, so that it takes calls; and a
   * function that gives the lock up.
   */
  #game = null;
  #isLeading = false;
  #release = null;
  /**
   * The client that runs the game, if it is another one, the id of the game, and its sequence as
   * that client has told it.
   */
  #leader = null;
  #id;
  #sequence = 0;
  /**
   * The own calls that have no outcome and are not in #game, by number: {op, isSent, withdrawn}.
   */
  #calls = /* @__PURE__ */ new Map();
  #number = 0;
  /** The calls of others that run here. */
  #running = /* @__PURE__ */ new Map();
  #hasOthers = false;
  /**
   * The messages that this engine sends at the end of the turn: calls to the leader, or events and answers to the others.
   */
  #out = { calls: [], events: [], answers: [] };
  #isChanged = false;
  #isSending = false;
  #closing = null;
  #isOver = false;
  #wake = () => {
  };
  /**
   * @param {import('./host.js').Host} host
   * @param {{bytes: Uint8Array, isSnapshot: boolean}} base the beginning of a game that is new
   * @param {(name: string, detail: object) => boolean} listener returns whether there is a listener
   *   to that event
   * @param {() => boolean} isHeard whether there is any listener
   * @param {import('./store.js').SavedGame} saved
   * @param {string} name
   */
  constructor(host, base, listener, isHeard, saved, name) {
    this.#host = host;
    this.#base = base;
    this.#listener = listener;
    this.#isHeard = isHeard;
    this.#saved = saved;
    const lock = `hypertoken game ${name}`, { signal } = this.#stop;
    this.#channel = new BroadcastChannel(lock);
    this.#channel.onmessage = ({ data }) => this.#handle(data);
    const untilOver = () => signal.aborted || new Promise((over) => signal.addEventListener("abort", over));
    const handleRefusal = (cause) => {
      if (!signal.aborted) this.fail(new HyperTokenError("store_refused", `the lock of the game was refused, or taken away: ${cause?.message ?? cause}`, { cause }));
    };
    navigator.locks.request(clientLock(this.#client), untilOver).catch(() => {
    });
    navigator.locks.request(lock, { signal }, () => this.broken || this.#lead()).catch(handleRefusal);
    this.#post({ who: true });
  }
  get host() {
    return this.#host;
  }
  get sequence() {
    return this.#game ? this.#game.sequence : this.#sequence;
  }
  get place() {
    return this.#game?.place ?? null;
  }
  /** Whether another engine runs the game. */
  get isElsewhere() {
    return this.#leader !== null;
  }
  get pending() {
    return this.#calls.size + (this.#game?.pending ?? 0);
  }
  // The engine that runs the game.
  // Runs the game until this engine is shut down or breaks. The lock is given up then.
  #lead() {
    return new Promise((release) => {
      this.#release = release;
      this.#leader = null;
      const kept2 = this.#saved, saved = {
        open: () => kept2.open(this.#id),
        create: (base) => kept2.create(base),
        append: (group) => kept2.append(group),
        replace: (base, own) => kept2.replace(base, own),
        defer: (call) => kept2.defer(call),
        history: (what, from, to) => kept2.history(what, from, to)
      };
      const game = new Game(this.#host, this.#base, (name, detail) => this.#raise(name, detail), () => this.#hasOthers || this.#isHeard(), { saved });
      game.handleChange = () => {
        this.#isChanged = true;
        this.#sendSoon();
        this.handleChange?.();
      };
      this.#game = game;
      this.#saved.opening.then(() => this.#begin(), () => {
      });
    });
  }
  // The game is open: what waited for it comes first, and then the calls of the others.
  #begin() {
    if (this.#game.broken) return;
    this.#isLeading = true;
    this.#id = this.#saved.id;
    for (const [number, { op: op2, isSent, withdrawn }] of this.#calls) {
      this.#calls.delete(number);
      const key = [this.#client, number], stored = isSent && isChange(op2) ? this.#storedOutcome(op2, ...key) : void 0;
      op2.key = null;
      if (stored) this.#end(op2, stored, withdrawn);
      else if (withdrawn) this.#end(op2, { error: plainError(withdrawn.error) }, withdrawn);
      else if (isSent && isChange(op2) && this.#saved.hasLater(...key)) this.#fail(op2, noEffect(op2.what));
      else if (this.broken) this.#fail(op2, this.broken);
      else this.#game.push(op2);
    }
    this.#saved.forget(this.#client, Infinity);
    this.#announce();
    this.#wake();
  }
  #announce(to) {
    this.#post({ leader: this.#client, id: this.#id, sequence: this.sequence }, to);
  }
  // The outcome of a call that the journal has records of, or undefined. A batch that was split may
  // be there in part: its other members had no effect.
  #storedOutcome(op2, client, number) {
    const found = this.#saved.recall(client, number);
    if (!found?.parts) return found;
    const result = op2.members.map(({ type }) => ({ error: plainError(noEffect(type)) }));
    for (const [part, one] of found.parts) if (part in result) result[part] = one;
    return { result };
  }
  // An event of the game: for the listeners here, and for those of the others. Each tab tells of
  // the failures of its own calls.
  #raise(name, detail) {
    if (name === "engine:error") {
      if (this.#game.broken && !this.broken) this.#handleBroken(this.#game.broken);
    } else if (this.#hasOthers) {
      this.#out.events.push([name, detail]);
      this.#sendSoon();
    }
    return this.#listener(name, detail);
  }
  #handleBroken(error) {
    this.broken = error;
    for (const { op: op2 } of [...this.#calls.values()]) this.#fail(op2, error);
    this.#calls.clear();
    this.#wake();
    macrotask(() => this.#resign());
  }
  // Lets another engine run the game.
  #resign() {
    if (!this.#release) return;
    this.#isLeading = false;
    this.#post({ isGone: true });
    this.#release();
  }
  #runCalls(client, calls, acked) {
    if (!this.#isLeading || this.closed) return;
    this.#hasOthers = true;
    this.#saved.forget(client, acked);
    for (const call of calls) {
      const id = `${client} ${call.number}`, running = this.#running.get(id);
      if (running) {
        if (call.isWithdrawn) this.#game.withdraw(running, canceledError(call.what));
      } else {
        this.#runCall(id, client, call);
      }
    }
  }
  #runCall(id, client, { number, timeout, isWithdrawn, ...request }) {
    const op2 = requestOf(request), { what } = op2;
    op2.quiet = true;
    const answer = (outcome) => {
      this.#running.delete(id);
      this.#out.answers.push([client, number, outcome]);
      this.#sendSoon();
    };
    const stored = isChange(op2) ? this.#storedOutcome(op2, client, number) : void 0;
    if (stored) answer(stored);
    else if (isWithdrawn) answer({ error: plainError(canceledError(what)) });
    else if (isChange(op2) && this.#saved.hasLater(client, number)) answer({ error: plainError(noEffect(what)) });
    else {
      if (isChange(op2)) op2.key = { client, number };
      this.#running.set(id, op2);
      this.#host.limit(this.#game, op2, timeout);
      op2.promise.then((result) => answer({ result: plainResult(op2, result) }), (error) => answer({ error: plainError(error) }));
      try {
        this.#game.push(op2);
      } catch (error) {
        answer({ error: plainError(error) });
      }
    }
  }
  // The engines that do not run the game.
  #follow({ leader, id, sequence }) {
    if (this.#release || leader === this.#leader) return;
    this.#leader = leader;
    this.#id = id;
    this.#sequence = sequence;
    for (const [number, call] of this.#calls) this.#sendCall(number, call);
    this.handleChange?.();
  }
  #sendCall(number, call) {
    const { op: op2, withdrawn } = call;
    call.isSent = true;
    this.#out.calls.push({ number, ...messageOf(op2), timeout: timeLeft(op2), isWithdrawn: withdrawn !== null });
    this.#sendSoon();
  }
  #handleNews({ events, answers, sequence, isChanged }) {
    this.#sequence = sequence;
    for (const [name, detail] of events) this.#listener(name, detail);
    for (const [client, number, outcome] of answers) {
      const call = client === this.#client ? this.#calls.get(number) : void 0;
      if (!call) continue;
      this.#calls.delete(number);
      this.#end(call.op, outcome, call.withdrawn);
    }
    if (isChanged) this.handleChange?.();
    if (this.#calls.size === 0) this.#wake();
  }
  // Ends an own call with what its leader has told. `withdrawn` is the request that was withdrawn,
  // and why: the call itself, or an action that was gathered into it.
  #end(op2, { error, result }, withdrawn) {
    if (!error) {
      this.settle(op2, () => op2.resolve(op2.members ? result.map((o) => o.error ? { error: revived(o.error) } : o) : result));
    } else if (withdrawn) {
      this.#fail(withdrawn.op, withdrawn.error);
      if (withdrawn.op !== op2) this.#fail(op2, aborted(withdrawn.op, withdrawn.error));
    } else {
      this.#fail(op2, revived(error));
    }
  }
  // Messages.
  #post(message, to) {
    if (this.#isOver) return;
    const whole = { ...message, protocol, from: this.#client, to };
    try {
      this.#channel.postMessage(whole);
    } catch (cause) {
      if (!whole.events) throw cause;
      this.#channel.postMessage({ ...whole, events: whole.events.map(([name, detail]) => [name, decode(encode(detail, "an event").slice())]) });
    }
  }
  #sendSoon() {
    if (this.#isSending) return;
    this.#isSending = true;
    queueMicrotask(() => {
      this.#isSending = false;
      const { calls, events, answers } = this.#out, isChanged = this.#isChanged;
      this.#out = { calls: [], events: [], answers: [] };
      this.#isChanged = false;
      if (calls.length > 0 && this.#leader) {
        const [first = this.#number + 1] = this.#calls.keys();
        this.#post({ calls, acked: first - 1 }, this.#leader);
      }
      if (this.#game && this.#hasOthers) this.#post({ news: true, events, answers, sequence: this.sequence, isChanged });
    });
  }
  #handle(message) {
    const { from, to } = message;
    if (this.#isOver || this.broken || to !== void 0 && to !== this.#client) return;
    if (message.protocol !== protocol) {
      if (message.leader && !this.#release) this.fail(new HyperTokenError("moved", "another tab plays this game with another version of hypertoken-worker: reload that tab, or this one"));
      else if (message.who && this.#isLeading) this.#announce();
    } else if (message.leader) this.#follow(message);
    else if (message.who && this.#isLeading && !this.closed) {
      this.#hasOthers = true;
      this.#announce(from);
    } else if (message.calls) this.#runCalls(from, message.calls, message.acked);
    else if (message.news && from === this.#leader) this.#handleNews(message);
    else if (message.isGone && from === this.#leader) this.#leader = null;
  }
  // The methods that an engine calls on its game: see game.js.
  /** Reads a part of the journal. Each engine reads the store itself. */
  history(what, from, to) {
    return this.#saved.history(what, from, to, this.#id);
  }
  push(op2) {
    if (this.closed) throw shutdownError();
    if (this.broken) throw this.broken;
    if (this.#isLeading) {
      this.#game.push(op2);
      return;
    }
    const number = ++this.#number, call = { op: op2, isSent: false, withdrawn: null };
    op2.key = { number };
    this.#calls.set(number, call);
    if (this.#leader) this.#sendCall(number, call);
  }
  settle(op2, f) {
    if (this.#game && op2.isOpen) {
      this.#game.settle(op2, f);
    } else if (!op2.settled) {
      op2.settled = true;
      this.#host.release(op2);
      f();
    }
  }
  #fail(op2, error) {
    if (op2.settled) return;
    this.settle(op2, () => op2.reject(error));
    if (!op2.quiet) this.#listener("engine:error", { error, type: op2.kind === kind.batch ? "batch" : op2.what });
  }
  /**
   * Ends a request with an error. If another engine may run it, that engine says what became of it.
   */
  withdraw(op2, error) {
    if (op2.settled) return;
    const whole = op2.batch ?? op2, number = whole.key?.number, call = this.#calls.get(number);
    if (!call) {
      if (this.#game) this.#game.withdraw(op2, error);
      else this.#fail(op2, error);
      return;
    }
    if (call.isSent) {
      if (call.withdrawn) return;
      call.withdrawn = { op: op2, error };
      if (this.#leader) this.#sendCall(number, call);
      return;
    }
    this.#calls.delete(number);
    this.#fail(op2, error);
    if (whole !== op2) this.#fail(whole, aborted(op2, error));
    if (this.#calls.size === 0) this.#wake();
  }
  fail(error) {
    if (this.#game) {
      this.#game.fail(error);
    } else {
      this.#listener("engine:error", { error });
      this.#handleBroken(error);
    }
  }
  close(timeout) {
    this.#closing ??= (async () => {
      this.flush();
      this.closed = true;
      while (!this.#isLeading && this.#calls.size > 0) await new Promise((resolve) => {
        this.#wake = resolve;
      });
      if (this.#game) await this.#game.close(0);
      await new Promise(macrotask);
      this.#resign();
      this.#isOver = true;
      this.#channel.close();
      this.#stop.abort();
      this.#host.remove(this);
    })();
    if (timeout > 0 && timeout < Infinity) {
      const timer = setTimeout(() => {
        this.#game?.close(1);
        for (const { op: op2, isSent } of [...this.#calls.values()]) {
          this.#fail(op2, isSent && isChange(op2) ? new HyperTokenError("outcome_unknown", `${op2.what}: the tab that runs the game has not said what became of it`) : shutdownError());
        }
        this.#calls.clear();
        this.#wake();
      }, Math.min(timeout, 2 ** 31 - 1));
      this.#closing.then(() => clearTimeout(timer));
    }
    return this.#closing;
  }
  #hasTold = false;
  /** Raises the event that the engine is shut down, once. */
  raiseShutdown() {
    if (this.#hasTold) return;
    this.#hasTold = true;
    this.#listener("engine:shutdown", {});
  }
};
var aborted = (op2, cause) => new HyperTokenError("batch_aborted", `it had no effect: ${op2.what} was in the same batch, and ended: ${cause.message}`, { cause });

// src/engine.js
var maxBatch = 4096;
var engineNames = ["useWorker", "setup", "snapshot", "history", "workerOptions", "host", "name", "persist"];
var persistNames = ["durability", "formerCores"];
var questionNames = ["signal", "timeout"];
var actionNames = [...questionNames, "now", "entropy"];
var batchNames = [...questionNames, "mode"];
var journalNames = [...questionNames, "from", "to"];
var none6 = Object.freeze({});
var memberNames = ["type", "payload", "now", "entropy"];
var Engine = class {
  #host;
  #own;
  #isSaved;
  #isReady = false;
  #game;
  #options;
  #current;
  #listeners = /* @__PURE__ */ new Map();
  #window = [];
  #windowBytes = 0;
  #windowTimer = null;
  /** The states of the past that are asked for; null before the first. */
  #pasts = null;
  /**
   * @param {{useWorker?: boolean, setup?: object, snapshot?: Uint8Array, workerOptions?: object,
   *   host?: Host, name?: string, persist?: boolean | {durability?: 'strict' | 'relaxed',
   *   formerCores?: (string | URL | object)[]}}} [options] see index.d.ts
   */
  constructor(options) {
    checkOptions("Engine", options, engineNames);
    const { useWorker, setup, snapshot, history, workerOptions, host, name, persist } = options ?? {};
    if (history !== void 0) checkType("Engine", "history", history, "boolean");
    const durability = checkPersist(name, persist);
    if (useWorker !== void 0) checkType("Engine", "useWorker", useWorker, "boolean");
    if (setup !== void 0 && snapshot !== void 0) throw badInput("Engine: setup and snapshot are two beginnings; give one of them");
    if (snapshot !== void 0 && !isBytes(snapshot)) throw badInput(`Engine: snapshot is ${nameOf(snapshot)}, want a Uint8Array`);
    const isSnapshot = snapshot !== void 0;
    const base = { sequence: 0, bytes: isSnapshot ? snapshot.slice() : encodeSetup(setup), isSnapshot, digest: null, marker: null };
    this.#own = host === void 0 || host === null;
    this.#host = this.#own ? ownHost(useWorker ?? false, workerOptions) : sharedHost(host, useWorker, workerOptions);
    this.#options = this.#host.options;
    try {
      const saved = durability === null ? void 0 : new SavedGame(name, async () => this.#host.coreHash(), durability, (core) => upgradeFrom(persist.formerCores ?? [], core, () => this.#host.module), history);
      const listener = (event, payload) => this.#emit(event, payload), isHeard = () => this.#listeners.size > 0;
      this.#game = saved && canShare() ? new SharedGame(this.#host, base, listener, isHeard, saved, name) : new Game(this.#host, base, listener, isHeard, { saved, hasHistory: history });
      this.#host.add(this.#game);
    } catch (error) {
      if (this.#own) this.#host.shutdown();
      throw error;
    }
    this.#isSaved = durability !== null;
    this.#game.flush = () => this.#flushWindow();
    const limit = (op3) => this.#host.limit(this.#game, op3, this.#options.timeout);
    this.#current = new Current(this.#game, limit, (cause) => this.#emit("engine:error", { error: unreadable("state", cause), type: "state" }));
    const op2 = new Op("ready", kind.digest);
    this.ready = op2.promise.then(() => {
      this.#isReady = true;
    });
    this.ready.catch(() => {
    });
    this.#game.push(op2);
  }
  /** How many actions have changed the state. */
  get sequence() {
    return this.#game.sequence;
  }
  /**
   * The place of the engine: 'worker', 'main thread', 'another tab', or 'nowhere' while it is
   * placed again.
   */
  get place() {
    if (this.#game.isElsewhere) return "another tab";
    return this.#game.place ? this.#game.place.thread ? "worker" : "main thread" : "nowhere";
  }
  get host() {
    return this.#host;
  }
  /**
   * The state as the engine told it after its last change, or undefined as long as it has told none.
   * It is frozen. What has not changed since the value before is the same object.
   */
  get current() {
    return this.#current.state;
  }
  /**
   * Calls a listener after each change of `current`. Returns a function that removes the listener.
   * It needs no `this`.
   */
  subscribe = (listener) => {
    checkType("subscribe", "the listener", listener, "function");
    return this.#current.subscribe(listener);
  };
  #check() {
    if (this.#game.closed) throw shutdownError();
    if (this.#game.broken) throw this.#game.broken;
  }
  #encode(type, payload, { now: now2, entropy }) {
    const o = this.#options;
    return encodeAction(type, payload, now2 ?? o.clock(), entropy ?? o.entropy(), o.maxPayload);
  }
  #op(type, payload, options) {
    const bytes = this.#encode(type, payload, options);
    checkOptions(type, options, actionNames);
    const op2 = new Op(type, kind.dispatch, [bytes]);
    op2.payload = payload;
    return op2;
  }
  #take(op2, { signal, timeout = this.#options.timeout } = {}) {
    this.#checkWait(op2.what, signal, timeout);
    this.#host.charge(op2);
    this.#host.limit(this.#game, op2, timeout, signal);
    return op2;
  }
  #checkWait(what, signal, timeout) {
    if (signal !== void 0 && signal !== null) {
      checkSignal(what, signal);
      if (signal.aborted) throw canceledError(what, signal.reason);
    }
    checkTimeout(what, timeout);
  }
  /**
   * Runs an action. The promise rejects with a HyperTokenError; then the action had no effect.
   * @param {string} type
   * @param {object} [payload]
   * @param {{signal?: AbortSignal, timeout?: number, now?: number, entropy?: Uint8Array}} [options] timeout in ms, 0 for none
   */
  dispatchAsync(type, payload, options) {
    let op2;
    try {
      this.#check();
      op2 = this.#op(type, payload, options ?? none6);
      this.#take(op2, options ?? none6);
      if (this.#options.enableBatching) this.#gather(op2);
      else this.#push(op2);
      return op2.promise;
    } catch (error) {
      return this.#refused(type, error, op2);
    }
  }
  #refused(type, cause, op2) {
    if (op2) this.#host.release(op2);
    const error = cause instanceof HyperTokenError ? cause : badInput(`${type}: ${cause?.message ?? cause}`, cause);
    this.#emit("engine:error", { error, type });
    return Promise.reject(error);
  }
  #push(op2) {
    this.#flushWindow();
    this.#game.push(op2);
  }
  /**
   * Runs an action: on a worker as dispatchAsync does; without workers at once, and returns its
   * result, or throws. Before `ready`, and while actions of dispatchAsync are in flight, it throws
   * too. An engine that is kept in a store never returns at once: its results wait for the store.
   */
  dispatch(type, payload, options) {
    if (this.#host.threads.length > 0 || this.#isSaved) return this.dispatchAsync(type, payload, options);
    this.#check();
    if (!this.#host.synchronous) throw new HyperTokenError("bad_input", `${type}: the core is not compiled yet; await engine.ready first`);
    if (this.#window.length > 0 || this.#game.pending > 0) {
      this.#flushWindow();
      this.#host.runNow(this.#game);
    }
    const op2 = this.#op(type, payload, options ?? none6);
    this.#checkWait(type, options?.signal, options?.timeout ?? 0);
    this.#host.charge(op2);
    this.#game.push(op2);
    this.#host.runNow(this.#game);
    if (!op2.outcome) this.#game.withdraw(op2, new HyperTokenError("trap", `${type}: no outcome`));
    if (op2.outcome.error) throw op2.outcome.error;
    return op2.outcome.result;
  }
  /**
   * Runs actions one after the other, with nothing between them. An atomic batch, which is the
   * default, is all or nothing. If a member fails, it rejects with the error of that member, which
   * has the member's index. An independent batch resolves with an outcome for each member: {result}
   * or {error}.
   * @param {{type: string, payload?: object, now?: number, entropy?: Uint8Array}[]} actions
   * @param {{mode?: 'atomic' | 'independent', signal?: AbortSignal, timeout?: number}} [options]
   */
  dispatchBatch(actions, options) {
    let op2;
    try {
      this.#check();
      checkOptions("batch", options, batchNames);
      const { mode = "atomic" } = options ?? {};
      if (mode !== "atomic" && mode !== "independent") throw badInput(`batch: mode is ${nameOf(mode)}, want atomic or independent`);
      if (!Array.isArray(actions)) throw badInput(`batch: actions are ${nameOf(actions)}, want an array`);
      if (actions.length > maxBatch) throw badInput(`batch: ${actions.length} actions are above ${maxBatch}, the most of one batch`);
      const members = Array.from(actions, (action, k) => this.#member(action, k));
      const payloads = members.reduce((n, m) => n + m.bytes.length - overhead(m.type), 0);
      if (payloads > this.#options.maxPayload) {
        throw new HyperTokenError("payload_too_large", `the batch has payloads of ${payloads} bytes together, above ${this.#options.maxPayload} (maxPayload)`);
      }
      if (members.length === 0) {
        this.#checkWait("batch", options?.signal, options?.timeout ?? 0);
        return Promise.resolve([]);
      }
      op2 = batchOp(members, mode);
      this.#push(this.#take(op2, options ?? none6));
      return op2.promise.then((outcomes) => mode === "atomic" ? outcomes.map((o) => o.result) : outcomes);
    } catch (error) {
      return this.#refused("batch", error, op2);
    }
  }
  // If a member is refused, the error has its index.
  #member(action, index) {
    try {
      if (typeof action !== "object" || action === null || Array.isArray(action)) throw badInput(`it is ${nameOf(action)}, want an object`);
      checkOptions("action", action, memberNames);
      const { type, payload } = action;
      return { type, payload, bytes: this.#encode(type, payload, action) };
    } catch (cause) {
      const { code, message } = cause instanceof HyperTokenError ? cause : badInput(String(cause?.message ?? cause));
      throw new HyperTokenError(code, `actions[${index}]: ${message.slice(code.length + 2)}`, { cause: cause?.cause ?? cause, index });
    }
  }
  // Actions of the same window are one batch: they succeed or fail together.
  #gather(op2) {
    const size = op2.parts[0].length;
    if (this.#window.length === maxBatch || this.#windowBytes + size > this.#options.maxPayload) this.#flushWindow();
    this.#window.push(op2);
    this.#windowBytes += size;
    this.#windowTimer ??= setTimeout(() => this.#flushWindow(), this.#options.batchWindow);
  }
  #flushWindow() {
    if (this.#window.length === 0) return;
    clearTimeout(this.#windowTimer);
    this.#windowTimer = null;
    this.#windowBytes = 0;
    const ops = this.#window.splice(0).filter((op2) => !op2.settled);
    if (ops.length === 0) return;
    try {
      this.#game.push(ops.length > 1 ? this.#batch(ops) : ops[0]);
    } catch (error) {
      for (const op2 of ops) this.#game.withdraw(op2, error);
    }
  }
  #batch(ops) {
    const batch = batchOp(ops.map((op2) => ({ type: op2.what, payload: op2.payload, bytes: op2.parts[0] })), "atomic");
    batch.quiet = true;
    const settle = (op2, f) => this.#game.settle(op2, f);
    batch.promise.then(
      (outcomes) => ops.forEach((op2, k) => settle(op2, () => op2.resolve(outcomes[k].result))),
      (error) => ops.forEach((op2, k) => settle(op2, () => {
        const own = error.index < 0 || error.index === k ? error : new HyperTokenError("batch_aborted", `it had no effect: ${op2.what} was in a batch of which action ${error.index} failed: ${error.message}`, { cause: error });
        this.#emit("engine:error", { error: own, type: op2.what });
        op2.reject(own);
      }))
    );
    for (const op2 of ops) op2.batch = batch;
    return batch;
  }
  /**
   * Resolves when the host has room for another action: at once if the queue is not full, or else
   * when half of it is free. A caller that awaits it before each dispatch gets no `overloaded`.
   */
  async drained() {
    this.#check();
    await this.#host.drained();
    this.#check();
  }
  async #question(what, k, options) {
    this.#check();
    checkOptions(what, options, questionNames);
    const op2 = this.#take(new Op(what, k), options ?? {});
    this.#push(op2);
    return op2.promise;
  }
  /** The whole state, as one object, after all actions that were dispatched before. */
  async state(options) {
    return read2("state", await this.#question("state", kind.state, options));
  }
  /** The actions of the core, sorted by name, as it describes them: see index.d.ts. */
  async actions(options) {
    const all = read2("actions", await this.#question("actions", kind.actions, options));
    return all.map((action) => ({ ...action, fields: action.fields ?? [] }));
  }
  /**
   * A hash over the canonical state, 16 hexadecimal digits: equal states have equal digests, here
   * and in Go.
   */
  async digest(options) {
    return hex64(await this.#question("digest", kind.digest, options));
  }
  /** The state as bytes, for the option `snapshot` of another engine, here or in Go. */
  async snapshot(options) {
    return this.#question("snapshot", kind.snapshot, options);
  }
  /** The state that the engine had at a sequence, as one object. */
  async stateAt(sequence, options) {
    return read2("stateAt", await this.#askPast("stateAt", kind.state, sequence, options));
  }
  /** The digest of the state that the engine had at a sequence. */
  async digestAt(sequence, options) {
    return hex64(await this.#askPast("digestAt", kind.digest, sequence, options));
  }
  async #askPast(what, k, sequence, options) {
    this.#check();
    checkOptions(what, options, questionNames);
    const { signal, timeout = this.#options.timeout } = options ?? {};
    this.#checkWait(what, signal, timeout);
    const at = isSequence(sequence) ? sequence : 0;
    const history = this.#isSaved ? await this.#storedHistory(what, at, at, { signal, timeout }) : this.#game.history(what);
    history.check(sequence);
    const past = new Past(this.#host, what, sequence, history.partAt(sequence));
    (this.#pasts ??= /* @__PURE__ */ new Set()).add(past);
    try {
      return await past.ask(k, [], this.#taker(signal, timeout));
    } finally {
      this.#pasts.delete(past);
      past.close();
    }
  }
  // Reads a part of the journal of a saved game. Before it is ready there may be none.
  async #storedHistory(what, from, to, options) {
    if (!this.#isReady) await this.#question(what, kind.digest, options);
    const history = await this.#game.history(what, from, to);
    this.#check();
    return history;
  }
  // Returns a function that makes room for a question to a past, and gives it its bounds.
  #taker(signal, timeout) {
    return (game, op2) => {
      if (signal?.aborted) throw canceledError(op2.what, signal.reason);
      this.#host.charge(op2);
      this.#host.limit(game, op2, timeout, signal);
    };
  }
  /**
   * Sets the engine to the state that it had at a sequence. It is one more entry of the journal, a
   * marker, with a sequence of its own. Resolves with {sequence, digest}.
   */
  revert(sequence, options) {
    return this.#rewind("revert", options, sequence);
  }
  /** Takes the current step back: an action, a whole batch, or a revert. It leaves a marker. */
  undo(options) {
    return this.#rewind("undo", options);
  }
  /** Does the step again that was undone last. It leaves a marker. */
  redo(options) {
    return this.#rewind("redo", options);
  }
  #rewind(what, options, to = void 0) {
    let op2;
    try {
      this.#check();
      checkOptions(what, options, questionNames);
      op2 = this.#take(new Rewind(what, to), options ?? {});
      this.#push(op2);
      return op2.promise;
    } catch (error) {
      return this.#refused(what, error, op2);
    }
  }
  /**
   * The lines of the journal, as `hypertoken run` plays them: an async iterable of strings
   * without a line feed.
   * @param {{from?: number, to?: number, signal?: AbortSignal, timeout?: number}} [options]
   */
  async *journal(options) {
    this.#check();
    checkOptions("journal", options, journalNames);
    const { from, to, signal, timeout = this.#options.timeout } = options ?? {};
    this.#checkWait("journal", signal, timeout);
    const end = isSequence(to) ? to : Infinity, begin = isSequence(from) ? from : end;
    const history = this.#isSaved ? await this.#storedHistory("journal", begin, end, { signal, timeout }) : this.#game.history("journal");
    checkSpan(history, { from, to });
    const last = to ?? history.newest, first = from === 0 ? history.oldest : from ?? last;
    yield* journalLines(this.#host, history.segments(first, last), this.#taker(signal, timeout));
  }
  /**
   * Calls f with every event of a name, '*' for all: state:updated, engine:action, engine:error,
   * engine:shutdown, and those that a core raises. f gets {name, payload, ...payload}. Returns a
   * function that removes the listener.
   */
  on(name, f) {
    checkType("on", "the name of an event", name, "string");
    checkType(`on ${name}`, "the listener", f, "function");
    let list = this.#listeners.get(name);
    if (!list) this.#listeners.set(name, list = /* @__PURE__ */ new Set());
    list.add(f);
    return () => this.off(name, f);
  }
  off(name, f) {
    const list = this.#listeners.get(name);
    if (list?.delete(f) && list.size === 0) this.#listeners.delete(name);
  }
  // Returns whether there is a listener to the event.
  #emit(name, payload) {
    if (this.#listeners.size === 0) return false;
    const isHeard = this.#listeners.has(name) || this.#listeners.has("*");
    for (const key of [name, "*"]) {
      for (const f of [...this.#listeners.get(key) ?? []]) {
        try {
          f({ ...payload, name, payload });
        } catch (error) {
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    }
    return isHeard;
  }
  /**
   * Waits for the requests in flight, and frees the engine. If the host is the engine's own, no
   * worker of it is left then. It may be called any number of times, for example again with a
   * timeout if it takes too long.
   * @param {{timeout?: number}} [options] after so many milliseconds the requests in flight fail; 0, the default, is no limit
   */
  async shutdown(options) {
    checkOptions("shutdown", options, ["timeout"]);
    const { timeout = 0 } = options ?? {};
    checkTimeout("shutdown", timeout);
    if (this.#own) return this.#host.shutdown({ timeout });
    const pasts = Array.from(this.#pasts ?? [], (past) => past.game);
    await Promise.all([this.#game, ...pasts].map((game) => game.close(timeout)));
    this.#game.raiseShutdown();
  }
  [Symbol.asyncDispose ?? /* @__PURE__ */ Symbol.for("Symbol.asyncDispose")]() {
    return this.shutdown();
  }
};
function read2(what, bytes) {
  try {
    return decode(bytes);
  } catch (cause) {
    throw unreadable(what, cause);
  }
}
function checkPersist(name, persist) {
  if (persist === void 0 || persist === null || persist === false) {
    if (name !== void 0 && name !== null) throw badInput("Engine: name is that of a saved game; set persist: true too, or leave it out");
    return null;
  }
  if (persist !== true && typeof persist !== "object") throw badInput(`Engine: persist is ${nameOf(persist)}, want true, false or an object`);
  const options = persist === true ? {} : persist, { durability = "strict", formerCores } = options;
  checkOptions("persist", options, persistNames);
  if (durability !== "strict" && durability !== "relaxed") throw badInput(`persist: durability is ${nameOf(durability)}, want strict or relaxed`);
  checkFormerCores("persist", formerCores);
  checkName("Engine", name);
  checkCanPersist("persist");
  return durability;
}
function ownHost(useWorker, workerOptions) {
  const { workers } = hostOptions(workerOptions, "workerOptions");
  const given = workerOptions?.workers !== void 0;
  if (given && useWorker !== workers > 0) throw badInput(`Engine: useWorker is ${useWorker}, and workerOptions.workers is ${workers}; want true with workers, false with 0`);
  return new Host({ ...workerOptions, workers: useWorker ? workers : 0 });
}
function sharedHost(host, useWorker, workerOptions) {
  if (!(host instanceof Host)) throw badInput(`Engine: host is ${nameOf(host)}, want a Host`);
  if (Object.keys(workerOptions ?? {}).length > 0) throw badInput("Engine: workerOptions are those of the host; give them to new Host");
  if (useWorker !== void 0 && useWorker !== host.threads.length > 0) {
    throw badInput(`Engine: useWorker is ${useWorker}, and the host has ${host.threads.length} workers; leave it out`);
  }
  return host;
}
function batchOp(members, mode) {
  let size = 8;
  for (const m of members) size += 4 + m.bytes.length;
  const body = new Uint8Array(size), v = new DataView(body.buffer);
  v.setUint32(0, mode === "atomic" ? 0 : 1, true);
  v.setUint32(4, members.length, true);
  let at = 8;
  for (const m of members) {
    v.setUint32(at, m.bytes.length, true);
    body.set(m.bytes, at + 4);
    at += 4 + m.bytes.length;
  }
  const op2 = new Op(`a batch of ${members.length}`, kind.batch, [body], mode === "atomic" ? flag.atomic : 0);
  op2.members = members;
  return op2;
}

// src/universal.js
var UniversalWorker = class {
  #options;
  #engine = null;
  /** @param {object} [options] workerOptions, see Engine */
  constructor(options) {
    hostOptions(options, "UniversalWorker");
    this.#options = { ...options };
  }
  get environment() {
    return getEnvironment();
  }
  get engine() {
    return this.#engine;
  }
  /** Starts the worker and sets the engine up. */
  async init(options) {
    checkOptions("init", options, ["setup", "snapshot"]);
    const { setup, snapshot } = options ?? {};
    this.#engine ??= new Engine({ useWorker: true, setup, snapshot, workerOptions: this.#options });
    await this.#engine.ready;
  }
  #started() {
    if (!this.#engine) throw badInput("the Worker is not started: await init() first");
    return this.#engine;
  }
  async dispatch(type, payload, options) {
    return this.#started().dispatchAsync(type, payload, options);
  }
  on(name, f) {
    return this.#started().on(name, f);
  }
  async terminate() {
    await this.#engine?.shutdown();
  }
  [Symbol.asyncDispose ?? /* @__PURE__ */ Symbol.for("Symbol.asyncDispose")]() {
    return this.terminate();
  }
};
export {
  Engine,
  Host,
  HyperTokenError,
  UniversalWorker,
  deleteGame,
  exportGame,
  getEnvironment,
  importGame,
  savedGames,
  supportsWorkers
};
