// The frames that a page and its worker send each other. A message has several of them: it is one
// buffer, which is transferred.
//
// A frame: length of its body u32, request u32, placement u32, kind u8, flags u8, two zero bytes;
// all little-endian. A worker answers each request in their order, but for `close`, which has no
// answer.

export const header = 16;

// `checksums` is a replay that answers with the XXH64 of each result. `rewind` is no frame: see past.js.
export const kind = { open: 1, feed: 2, replay: 3, ready: 4, dispatch: 5, batch: 6, snapshot: 7, state: 8, digest: 9, close: 10, actions: 11, checksums: 12, answer: 16, rewind: 17 };

export const flag = {
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
  quick: 16,
};

const none = [];

/** Gathers frames. */
export class Writer {
  #bytes = new Uint8Array(4096); #view = new DataView(this.#bytes.buffer); #end = 0;

  get length() { return this.#end; }

  /**
   * Appends a frame whose body is the parts, one after the other.
   * @param {Uint8Array[]} parts
   */
  frame(request, placement, kind, flags, parts = none) {
    let n = 0; // an iterator would be an object for each frame
    for (let k = 0; k < parts.length; k++) n += parts[k].length;
    this.#grow(header + n);
    const v = this.#view, at = this.#end;
    v.setUint32(at, n, true);
    v.setUint32(at + 4, request, true);
    v.setUint32(at + 8, placement, true);
    v.setUint8(at + 12, kind);
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
    const taken = this.#bytes.buffer.slice(0, this.#end);
    this.#end = 0;
    if (this.#bytes.length > 1 << 20) {
      this.#bytes = new Uint8Array(4096);
      this.#view = new DataView(this.#bytes.buffer);
    }
    return taken;
  }

  #grow(n) {
    if (this.#end + n <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#end + n));
    grown.set(this.#bytes.subarray(0, this.#end));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/** A frame of a message. One object is all frames of the message in turn. */
export class Frame {
  at = 0; length = 0; request = 0; placement = 0; kind = 0; flags = 0;

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

  get body() { return this.bytes.subarray(this.at, this.at + this.length); }
}

/** An answer that was made on this thread. It has the members of a Frame that its readers use. */
export const answerOf = (flags, body) => ({ flags, body, bytes: body, view: new DataView(body.buffer, body.byteOffset, body.length), at: 0, length: body.length });

/**
 * Calls f with each frame of a message. The frame is valid until f returns: the next one is the same
 * object. An error says that the message is malformed.
 */
export function eachFrame(buffer, f) {
  // Tests in jsdom have an ArrayBuffer that is not the one of Node.
  if (Object.prototype.toString.call(buffer) !== '[object ArrayBuffer]') throw new Error(`a message that is no buffer: ${typeof buffer}`);
  const v = new DataView(buffer), bytes = new Uint8Array(buffer), frame = new Frame(bytes, v), { byteLength } = buffer;
  for (let at = 0; at < byteLength;) {
    const n = at + header <= byteLength ? v.getUint32(at, true) : 0;
    if (at + header + n > byteLength) throw new Error(`a frame at ${at} that ends beyond its message of ${byteLength} bytes`);
    frame.read(at + header, n);
    f(frame);
    at += header + n;
  }
}

/**
 * A hash of 53 bits. A replay has to give results with the hashes of those that were acknowledged.
 */
export function hash(bytes, from = 0, end = bytes.length) {
  let a = 0x9e3779b9 ^ (end - from), b = 0x85ebca6b;
  for (let k = from; k < end; k++) {
    a = Math.imul(a ^ bytes[k], 0x01000193);
    b = Math.imul(b ^ bytes[k], 0x5bd1e995);
    b ^= b >>> 15;
  }
  a ^= a >>> 16;
  return (b >>> 0) * 0x200000 + (a >>> 11);
}

const utf8 = new TextEncoder();

/** An error as a core writes it: a MessagePack map of code and message. */
export function failure(code, message) {
  const string = (text) => {
    const bytes = utf8.encode(text);
    return [0xdb, bytes.length >>> 24, (bytes.length >>> 16) & 255, (bytes.length >>> 8) & 255, bytes.length & 255, ...bytes];
  };
  return Uint8Array.from([0x82, ...string('code'), ...string(code), ...string('message'), ...string(message.slice(0, 4096))]);
}

/**
 * The head of an answer to a dispatch or a batch: the run time in milliseconds f64, the hash of its
 * result f64, the length of its events u32, and the number of members of a batch u32. After it come
 * the table of the batch, with 16 bytes for each member (the ABI's 8, and a hash f64), the events,
 * and the result.
 */
export const answerHead = 24;

/**
 * The head of an entry of a replay: the length of its action u32, and the hash of the action's
 * result f64.
 */
export const entryHead = 12;

const read = { ran: 0, sum: 0, from: 0, end: 0, members: null, events: null };

/**
 * Reads an answer to a dispatch or a batch. It throws if the answer is malformed. The result is the
 * bytes of the message from `from` to `end`. What is returned is valid until the next call.
 * @param {Frame} f
 */
export function readAnswer({ bytes, view: v, at: start, length }) {
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
