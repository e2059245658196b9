#!/usr/bin/env node
/*! hypertoken-worker, Apache-2.0: see LICENSE and NOTICE */

// src/cli.js
import { readFile } from "node:fs/promises";

// src/errors.js
var HyperTokenError = class extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{cause?: unknown, index?: number}} [more] index is the index of the member of a batch that failed
   */
  constructor(code, message, more2 = {}) {
    super(`${code}: ${message}`, more2.cause === void 0 ? void 0 : { cause: more2.cause });
    this.name = "HyperTokenError";
    this.code = code;
    this.index = more2.index ?? -1;
  }
};
var unreadable = (what, cause) => new HyperTokenError("trap", `${what}: the core answered with what can not be read: ${cause.message}`, { cause });

// src/core.js
var op = { open: 1, restore: 2, feed: 3, ready: 4, dispatch: 5, batch: 6, snapshot: 7, state: 8, next: 9, digest: 10, actions: 11, records: 12 };
var kept = 256 << 10;
var none = new Uint8Array(0);
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
  #bytes = none;
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
    return length === 0 ? none : new Uint8Array(this.#bytes.buffer, from, length);
  }
  /** Puts bytes into the input and runs a call on them. */
  run(what, bytes = none) {
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
    let all = none, length = 0, reply = this.run(what);
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
    let head3 = headSize(s.length);
    const start = this.#take(5 + 3 * s.length);
    const { written } = utf8Encoder.encodeInto(s, this.#bytes.subarray(start + head3));
    if (written !== s.length) {
      if (hasLoneSurrogate(s)) throw new Refused(loneSurrogate);
      const need = headSize(written);
      if (need !== head3) this.#bytes.copyWithin(start + need, start + head3, start + head3 + written);
      head3 = need;
    }
    this.#end = start;
    if (head3 === 1) this.#byte(160 | written);
    else if (head3 === 2) this.#head8(217, written);
    else if (head3 === 3) this.#head16(218, written);
    else this.#head32(219, written);
    this.#end += written;
  }
  #hugeString(s) {
    const start = this.#take(5);
    for (let from = 0; from < s.length; ) {
      const piece = s.slice(from, from + pieceLength), at = this.#take(3 * piece.length);
      let { read, written } = utf8Encoder.encodeInto(piece, this.#bytes.subarray(at));
      const last = piece.charCodeAt(read - 1);
      if (last >= 55296 && last < 56320 && read > 1 && from + read < s.length) {
        read--;
        written -= 3;
      }
      this.#end = at + written;
      from += read;
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
  const refused = thrown instanceof Refused ? thrown : new Refused(`can not be read: ${thrown?.message ?? String(thrown)}`, thrown);
  if (key !== void 0) refused.at.unshift(key);
  return refused;
}
var shared = new Encoder();
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

// src/game.js
var feedSize = 1 << 20;
var replaySize = 256 << 10;
var utf8 = new TextEncoder();
var none2 = new Uint8Array(0);
var headBytes = new Uint8Array(28);
var head = new DataView(headBytes.buffer);
function errorOf(body) {
  try {
    const { code, message, index } = decode(body);
    if (typeof code !== "string") throw new Error("it has no code");
    return new HyperTokenError(code, message, { index });
  } catch (cause) {
    return unreadable("an error", cause);
  }
}

// src/describe.js
var maxShape = 1024;
var maxDepth = 32;
var scalars = /* @__PURE__ */ new Set(["any", "null", "bool", "number", "int", "string"]);
var isRecordName = (name) => typeof name === "string" && /^[A-Z][A-Za-z0-9]{0,63}$/.test(name);
var isPrintable = (text) => /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]*$/u.test(text);
var plain = (text) => text.replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S}]+/gu, " ").trim().replaceAll("*/", "* /");
var quoted = (text) => `'${JSON.stringify(text.toWellFormed?.() ?? text).slice(1, -1).replaceAll(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;
function parseShape(text) {
  if (new TextEncoder().encode(text).length > maxShape) throw new Error(`a shape of more than ${maxShape} bytes`);
  let rest = text;
  const take = (token) => rest.startsWith(token) && (rest = rest.slice(token.length), true);
  const tooDeep = () => new Error(`it is nested more than ${maxDepth} deep`);
  function union(depth) {
    if (depth > maxDepth) throw tooDeep();
    const all = [];
    do
      all.push(array(depth));
    while (take("|"));
    return all.length === 1 ? all[0] : { oneOf: all };
  }
  function array(depth) {
    let shape = one(depth);
    for (let n = 0; take("[]"); n++) {
      if (n >= maxDepth) throw tooDeep();
      shape = { items: shape };
    }
    return shape;
  }
  function one(depth) {
    if (take("(")) {
      const shape = union(depth + 1);
      if (!take(")")) throw new Error("a parenthesis is not closed");
      return shape;
    }
    if (take("map<")) {
      const values = union(depth + 1);
      if (!take(">")) throw new Error("map< is not closed");
      return { values };
    }
    if (take("'")) {
      const end = rest.indexOf("'"), literal = rest.slice(0, end);
      if (end < 0) throw new Error("a string is not closed");
      if (!isPrintable(literal)) throw new Error(`the string ${JSON.stringify(literal)} can't be printed`);
      rest = rest.slice(end + 1);
      return { literal };
    }
    const [name = ""] = /^[A-Za-z][A-Za-z0-9]*/.exec(rest) ?? [];
    if (name === "" || !scalars.has(name) && !/^[A-Z]/.test(name)) throw new Error(`${JSON.stringify(rest)} begins no shape`);
    rest = rest.slice(name.length);
    return { name };
  }
  try {
    const shape = union(0);
    if (rest !== "") throw new Error(`${JSON.stringify(rest)} is left over`);
    return shape;
  } catch (cause) {
    throw new Error(`the shape ${JSON.stringify(text)}: ${cause.message}`);
  }
}
function* namesIn({ name, items, values, oneOf = [] }) {
  if (name !== void 0 && !scalars.has(name)) yield name;
  for (const inner of [items, values, ...oneOf]) if (inner) yield* namesIn(inner);
}
function typeOf({ name, literal, items, values, oneOf }) {
  if (literal !== void 0) return quoted(literal);
  if (items) return items.oneOf ? `(${typeOf(items)})[]` : `${typeOf(items)}[]`;
  if (values) return `{ [key: string]: ${typeOf(values)} }`;
  if (oneOf) return oneOf.map(typeOf).join(" | ");
  return { bool: "boolean", int: "number" }[name] ?? name;
}
var own = ["ActionName", "Actions", "PayloadOf", "ResultOf", "Value"];
var head2 = `// Generated by "hypertoken actions --typescript". Do not edit it.

/** A value: what MessagePack has, with integers within \xB1(2^53 - 1) and finite numbers. */
export type Value = null | boolean | number | string | Value[] | { [key: string]: Value };
`;
var anyEvents = `
/** The events that the core raises, with their payloads. It describes none of them, so that they may have any names. */
export interface Events { [name: string]: any }
`;
var tail = `
/** The name of an action. */
export type ActionName = keyof Actions;
/** The payload of an action. */
export type PayloadOf<Name extends ActionName> = Actions[Name]['payload'];
/** The result of an action. */
export type ResultOf<Name extends ActionName> = Actions[Name]['result'];
`;
function member(name, optional, type) {
  return `${/^[A-Za-z_$][A-Za-z0-9_$]*$/.test(name) ? name : quoted(name)}${optional ? "?" : ""}: ${type}`;
}
function typeScript(actions, records) {
  const known = /* @__PURE__ */ new Set();
  for (const { name } of records) {
    if (!isRecordName(name) || known.has(name)) throw new Error(`no record can have the name ${JSON.stringify(name)}, or there are two`);
    if (own.includes(name)) throw new Error(`every file of TypeScript has a type ${name} of its own: call the record something else`);
    known.add(name);
  }
  const shapeOf = (where, text2) => {
    const shape = parseShape(text2 || "any");
    for (const name of namesIn(shape)) if (!known.has(name)) throw new Error(`${JSON.stringify(where)}: there is no record ${JSON.stringify(name)}`);
    return shape;
  };
  const distinct = (owner, fields) => {
    const names = fields.map((f) => f.name), twice = names.find((name, k) => names.indexOf(name) < k);
    if (twice !== void 0) throw new Error(`${JSON.stringify(owner)} has the field ${JSON.stringify(twice)} twice`);
  };
  let text = head2;
  const needs = /* @__PURE__ */ new Map();
  for (const { name, about = "", fields: listed, rest } of records) {
    const fields = listed ?? [];
    distinct(name, fields);
    if (rest) shapeOf(name, rest);
    needs.set(name, []);
    text += `
/** ${plain(about)} */
export interface ${name} {
`;
    for (const f of fields) {
      const shape = shapeOf(`${name}.${f.name}`, f.shape), note = plain(f.about ?? "");
      if (!f.optional && known.has(shape.name)) needs.get(name).push(shape.name);
      if (note !== "") text += `  /** ${note} */
`;
      text += `  ${member(f.name, f.optional, typeOf(shape))};
`;
    }
    if (rest) text += "  [key: string]: any;\n";
    text += "}\n";
  }
  refuseEndless(needs);
  if (!known.has("Events")) text += anyEvents;
  text += "\n/** The actions, by their names: what each takes and returns. */\nexport interface Actions {\n";
  const taken = /* @__PURE__ */ new Set();
  for (const { name, about = "", fields, result } of actions) {
    if (taken.has(name)) throw new Error(`there are two actions with the name ${JSON.stringify(name)}`);
    taken.add(name);
    const all = fields ?? [], others = all.some((f) => f.name === "*"), members = [], named = all.filter((f) => f.name !== "*");
    distinct(name, named);
    for (const f of named) {
      const note = f.default ? `/** default ${plain(f.default)} */ ` : "";
      members.push(note + member(f.name, !f.required, typeOf(shapeOf(`${name}.${f.name}`, f.shape))));
    }
    if (others) members.push("[key: string]: any");
    const payload = members.length > 0 ? `{ ${members.join("; ")} }` : "{ [key: string]: never }";
    text += `  /** ${plain(about)} */
  ${quoted(name)}: { payload: ${payload}; result: ${typeOf(shapeOf(name, result))} };
`;
  }
  return `${text}}
${tail}`;
}
function refuseEndless(needs) {
  const over = /* @__PURE__ */ new Set();
  const visit = (name, on) => {
    if (on.includes(name)) throw new Error(`no value can be a ${JSON.stringify(name)}: it would have another one in it, without end`);
    if (over.has(name)) return;
    for (const inner of needs.get(name)) visit(inner, [...on, name]);
    over.add(name);
  };
  for (const name of needs.keys()) visit(name, []);
}
function description(module) {
  const instance = new Instance(module);
  const ask = (what) => {
    const reply = instance.run(what);
    if (!reply.failed) return decode(reply.body.slice());
    const error = errorOf(reply.body);
    if (what === "records" && error.code === "bad_request") return [];
    throw error;
  };
  return { actions: ask("actions"), records: ask("records") };
}

// src/cli.js
var usage = `Usage: hypertoken-worker types FILE

Writes the types of the core in FILE, as TypeScript, to standard output: its actions with their payloads and results, its state, its setup and
its events. For example:

  npx hypertoken-worker types core.wasm >src/core.ts

  import type { Actions, Events, Setup, State } from './core.js';
  const engine = new Engine<Actions, State, Events, Setup>({ ... });
`;
async function types(file2) {
  const bytes = await readFile(file2).catch((cause) => {
    throw new Error(`it can not be read (${cause.code})`);
  });
  const module = await WebAssembly.compile(bytes).catch((cause) => {
    throw new Error(`it is no WebAssembly module: ${cause.message}`);
  });
  const { actions, records } = description(module);
  return typeScript(actions, records);
}
var [command, file, ...more] = process.argv.slice(2);
if (command === "--help" || command === "-h" || command === "help") {
  process.stdout.write(usage);
} else if (command !== "types" || file === void 0 || more.length > 0) {
  process.stderr.write(usage);
  process.exitCode = 2;
} else {
  try {
    process.stdout.write(await types(file));
  } catch (error) {
    process.stderr.write(`hypertoken-worker: ${file}: ${error.message}
`);
    process.exitCode = 1;
  }
}
