// Values as MessagePack. The core's values are null, booleans, finite numbers, strings, arrays, and
// maps whose keys are strings. Encoding refuses everything that has no obvious equal among them:
// README.md, "Values", has the table. No library is used, because an error must have the path of
// the refused value, and because @msgpack/msgpack cannot read the key `__proto__`.

/**
 * How deep values may be nested when they are encoded, and when they are decoded. The core's own
 * bound (maxDepth) is at most 128.
 */
const encodeDepth = 200, decodeDepth = 1024;
/** Strings that are longer are encoded in pieces of so many characters. */
const pieceLength = 0x10000;
/** A buffer that has grown larger than this is not kept for the next value, in bytes. */
const keptBuffer = 1 << 20;

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The error for a value that can not be encoded. `at` has the keys that lead to it, the outermost
 * first.
 */
class Refused extends Error {
  at = [];

  constructor(reason, cause) {
    super(reason, cause === undefined ? undefined : { cause });
  }
}

/** The error for a value that is larger than it may be: it was not encoded to its end. */
export class TooLarge extends Error {
  constructor(size) {
    super(`is larger than ${size} bytes`);
    this.size = size;
  }
}

/**
 * Returns whether a text has one half of a surrogate pair without the other. UTF-8 has no bytes for
 * that.
 */
export const hasLoneSurrogate = (text) => (text.isWellFormed ? !text.isWellFormed() : /\p{Surrogate}/u.test(text));

/** The keys that lead to a value, as a program would write them: payload.tokens[3]["odd key"]. */
function pathOf(root, keys) {
  let path = root;
  for (const key of keys) {
    if (path.length > 120) return `${path}...`;
    if (typeof key === 'number') path += `[${key}]`;
    else path += /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key) && key.length <= 40 ? `.${key}` : `[${JSON.stringify(key.slice(0, 40))}]`;
  }
  return path;
}

const hasOwn = (object, key) => Object.prototype.hasOwnProperty.call(object, key);

// A getter of a built-in prototype throws if it is called on any other object. That tells an
// object's real kind, even if it is from another realm.
const getter = (prototype, name) => Object.getOwnPropertyDescriptor(prototype, name).get;
const mapSize = getter(Map.prototype, 'size'), setSize = getter(Set.prototype, 'size');
function has(brand, object) {
  try {
    brand.call(object);
    return true;
  } catch {
    return false;
  }
}

/**
 * Returns whether an object is a plain one, as {...} makes it: it has no prototype, or the
 * Object.prototype of any realm.
 */
function isPlain(object) {
  const prototype = Object.getPrototypeOf(object);
  return prototype === Object.prototype || prototype === null
    || (Object.getPrototypeOf(prototype) === null && hasOwn(prototype, 'isPrototypeOf'));
}

const advice = {
  Date: 'send its getTime() or toISOString()', RegExp: 'send its source', Promise: 'await it first', URL: 'send its href',
  ArrayBuffer: 'the core has no bytes: send text, base64 for example', DataView: 'the core has no bytes: send text, base64 for example',
  Number: 'send its valueOf()', String: 'send its valueOf()', Boolean: 'send its valueOf()', BigInt: 'send its valueOf()',
};

function refusal(object) {
  let name = Object.prototype.toString.call(object).slice(8, -1);
  if (name === 'Object') name = typeof object.constructor === 'function' && object.constructor.name || 'a class without a name';
  const what = hasOwn(advice, name) ? advice[name]
    : ArrayBuffer.isView(object) ? 'the core has no bytes: send text, base64 for example, or Array.from() of it'
      : object instanceof Error ? 'send its message'
        : typeof object.toJSON === 'function' ? 'send its toJSON()' : 'send a plain object, {...value} for example';
  return new Refused(`is an instance of ${name}, for which the core has no value; ${what}`);
}

const loneSurrogate = 'has half of a surrogate pair, for which UTF-8 has no bytes';

class Encoder {
  #bytes = new Uint8Array(2048); #view = new DataView(this.#bytes.buffer); #end = 0; #most = Infinity;

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
    if (value !== undefined) this.#value(value, 1);
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
    const at = this.#take(1); // it may replace #bytes
    this.#bytes[at] = b;
  }

  #value(v, depth) {
    switch (typeof v) {
      case 'string': return this.#string(v);
      case 'number': return this.#number(v);
      case 'boolean': return this.#byte(v ? 0xc3 : 0xc2);
      case 'object': return v === null ? this.#byte(0xc0) : this.#object(v, depth);
      case 'bigint':
        if (!Number.isSafeInteger(Number(v))) throw new Refused(`is the bigint ${String(v).slice(0, 40)}; integers are within ±(2^53 - 1)`);
        return this.#number(Number(v));
      case 'undefined': throw new Refused('is undefined; send null, or leave it out');
      default: throw new Refused(`is a ${typeof v}, for which the core has no value`);
    }
  }

  #number(v) {
    if (!Number.isSafeInteger(v)) {
      if (!Number.isFinite(v)) throw new Refused(`is ${v}; numbers are finite`);
      const at = this.#take(9);
      this.#bytes[at] = 0xcb;
      this.#view.setFloat64(at + 1, v);
    } else if (v >= 0) {
      if (v < 0x80) this.#byte(v); // -0 is 0, as it is in the core
      else if (v < 0x100) this.#head8(0xcc, v);
      else if (v < 0x10000) this.#head16(0xcd, v);
      else if (v < 0x100000000) this.#head32(0xce, v);
      else this.#head64(0xcf, v);
    } else if (v >= -0x20) this.#byte(v & 0xff);
    else if (v >= -0x80) this.#head8(0xd0, v);
    else if (v >= -0x8000) this.#head16(0xd1, v);
    else if (v >= -0x80000000) this.#head32(0xd2, v);
    else this.#head64(0xd3, v);
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
      if (c >= 0x80) {
        this.#end = start;
        return this.#longString(s);
      }
      bytes[at++] = c;
    }
    bytes[start] = 0xa0 | length;
  }

  #longString(s) {
    if (s.length >= pieceLength) return this.#hugeString(s);
    // The head's size depends on the length in bytes, which is known after encoding. It is the
    // right one if all characters are ASCII.
    let head = headSize(s.length);
    const start = this.#take(5 + 3 * s.length);
    const { written } = utf8Encoder.encodeInto(s, this.#bytes.subarray(start + head));
    if (written !== s.length) {
      if (hasLoneSurrogate(s)) throw new Refused(loneSurrogate);
      const need = headSize(written);
      if (need !== head) this.#bytes.copyWithin(start + need, start + head, start + head + written);
      head = need;
    }
    this.#end = start;
    if (head === 1) this.#byte(0xa0 | written);
    else if (head === 2) this.#head8(0xd9, written);
    else if (head === 3) this.#head16(0xda, written);
    else this.#head32(0xdb, written);
    this.#end += written;
  }

  #hugeString(s) {
    const start = this.#take(5);
    for (let from = 0; from < s.length;) {
      const piece = s.slice(from, from + pieceLength), at = this.#take(3 * piece.length);
      let { read, written } = utf8Encoder.encodeInto(piece, this.#bytes.subarray(at));
      const last = piece.charCodeAt(read - 1);
      if (last >= 0xd800 && last < 0xdc00 && read > 1 && from + read < s.length) { // half of a pair: the next piece has it whole
        read--;
        written -= 3;
      }
      this.#end = at + written;
      from += read;
    }
    const size = this.#end - start - 5;
    if (size !== s.length && hasLoneSurrogate(s)) throw new Refused(loneSurrogate);
    this.#bytes[start] = 0xdb;
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
    if (n < 16) this.#byte(0x90 | n);
    else if (n < 0x10000) this.#head16(0xdc, n);
    else this.#head32(0xdd, n);
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
    if (n < 16) this.#byte(0x80 | n);
    else if (n < 0x10000) this.#head16(0xde, n);
    else this.#head32(0xdf, n);
    return at;
  }

  // Corrects the head of a map that has fewer members than its head says. The head keeps its size.
  #fewer(at, most, n) {
    if (most < 16) this.#bytes[at] = 0x80 | n;
    else if (most < 0x10000) this.#view.setUint16(at + 1, n);
    else this.#view.setUint32(at + 1, n);
  }

  #map(object, depth) {
    let key, written = 0;
    try {
      if (Object.getOwnPropertySymbols(object).length > 0) checkSymbols(object);
      const keys = Object.keys(object), n = keys.length, at = this.#mapHead(n);
      for (let k = 0; k < n; k++) {
        key = keys[k];
        const v = object[key]; // read once, because it may be a getter
        if (v === undefined) continue;
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
    for (const [name] of entries) if (typeof name !== 'string') throw wrongKey(name);
    let key, written = 0;
    try {
      for (const [name, v] of entries) {
        key = name;
        if (v === undefined) continue;
        this.#string(name);
        this.#value(v, depth + 1);
        written++;
      }
    } catch (cause) {
      throw under(key, cause);
    }
    if (written < entries.length) this.#fewer(at, entries.length, written);
  }
}

const headSize = (n) => (n < 32 ? 1 : n < 0x100 ? 2 : n < 0x10000 ? 3 : 5);

const wrongKey = (key) =>
  new Refused(`is a Map with the key ${String(key).slice(0, 40)} (${key === null ? 'null' : typeof key}); keys are strings`);

function checkSymbols(object) {
  const symbol = Object.getOwnPropertySymbols(object).find((s) => Object.prototype.propertyIsEnumerable.call(object, s));
  if (symbol !== undefined) throw new Refused(`has the key ${String(symbol)} (symbol); keys are strings`);
  if (Object.prototype.toString.call(object) !== '[object Object]') throw refusal(object); // such as Math and arguments
}

/**
 * Adds the key of the value for which an error was thrown, if there is a key. Errors of getters and
 * proxies become refusals.
 */
function under(key, thrown) {
  if (thrown instanceof TooLarge) return thrown;
  const refused = thrown instanceof Refused ? thrown : new Refused(`can not be read: ${thrown?.message ?? String(thrown)}`, thrown);
  if (key !== undefined) refused.at.unshift(key);
  return refused;
}

const shared = new Encoder();
let encoding = false;

/**
 * Encodes a value. `root` is its name in error messages. The bytes that it returns are valid until
 * the next call. A value that is much larger than `most` bytes is not encoded to its end, so that
 * it costs no more memory than that.
 * @throws an Error whose message begins with the path of the value that can not be encoded, or TooLarge
 */
export const encode = (value, root, most = Infinity) => run(value, root, most, 0);

/**
 * Encodes a value, or nothing if it is undefined, behind so many bytes that the caller fills in. The
 * bytes are the caller's own. It throws as `encode` does.
 */
export const encodeBehind = (before, value, root, most) => run(value, root, most, before);

function run(value, root, most, before) {
  // A getter may call this again.
  const encoder = encoding ? new Encoder() : shared, was = encoding;
  encoding = true;
  try {
    return encoder.encode(value, most, before);
  } catch (thrown) {
    if (thrown instanceof TooLarge) throw thrown;
    const refused = under(undefined, thrown);
    throw new Error(`${pathOf(root, refused.at)} ${refused.message}`, refused.cause === undefined ? undefined : { cause: refused.cause });
  } finally {
    encoding = was;
  }
}

// Decoding. The bytes come from a core: every length and count in them is checked before it is
// used.

/**
 * The keys that were read last. The objects of a state have the same keys again and again, so most
 * of them are found here.
 */
const keyCache = new Array(512).fill(null);

class Decoder {
  #bytes; #view; #from; #at; #end;

  constructor(bytes, view, from, end) { this.start(bytes, view, from, end); }

  start(bytes, view, from, end) {
    this.#bytes = bytes;
    this.#view = view;
    this.#from = this.#at = from;
    this.#end = end;
    return this;
  }

  get atEnd() { return this.#at === this.#end; }

  #take(n) {
    const at = this.#at;
    if (n > this.#end - at) throw new RangeError(`${n} bytes are to come at ${at - this.#from}, and ${this.#end - at} are left`);
    this.#at += n;
    return at;
  }

  value(depth) {
    const b = this.#bytes[this.#take(1)];
    if (b < 0x80) return b;
    if (b >= 0xe0) return b - 0x100;
    if (b < 0x90) return this.#map(b & 15, depth);
    if (b < 0xa0) return this.#array(b & 15, depth);
    if (b < 0xc0) return this.#string(b & 31);
    switch (b) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xca: return finite(this.#view.getFloat32(this.#take(4)));
      case 0xcb: return finite(this.#view.getFloat64(this.#take(8)));
      case 0xcc: return this.#view.getUint8(this.#take(1));
      case 0xcd: return this.#view.getUint16(this.#take(2));
      case 0xce: return this.#view.getUint32(this.#take(4));
      case 0xcf: return this.#wide(this.#view.getUint32(this.#at));
      case 0xd0: return this.#view.getInt8(this.#take(1));
      case 0xd1: return this.#view.getInt16(this.#take(2));
      case 0xd2: return this.#view.getInt32(this.#take(4));
      case 0xd3: return this.#wide(this.#view.getInt32(this.#at));
      case 0xd9: return this.#string(this.#view.getUint8(this.#take(1)));
      case 0xda: return this.#string(this.#view.getUint16(this.#take(2)));
      case 0xdb: return this.#string(this.#view.getUint32(this.#take(4)));
      case 0xdc: return this.#array(this.#view.getUint16(this.#take(2)), depth);
      case 0xdd: return this.#array(this.#view.getUint32(this.#take(4)), depth);
      case 0xde: return this.#map(this.#view.getUint16(this.#take(2)), depth);
      case 0xdf: return this.#map(this.#view.getUint32(this.#take(4)), depth);
      default: throw new RangeError(`the byte ${b} at ${this.#at - 1 - this.#from} begins no value`);
    }
  }

  #wide(high) {
    const n = high * 2 ** 32 + this.#view.getUint32(this.#take(8) + 4);
    if (!Number.isSafeInteger(n)) throw new RangeError(`the integer ${n} is not within ±(2^53 - 1)`);
    return n;
  }

  #string(n) {
    const at = this.#take(n), bytes = this.#bytes;
    if (n <= 32) {
      let text = '';
      for (let k = at, end = at + n; ; k++) {
        if (k === end) return text;
        const b = bytes[k];
        if (b >= 0x80) break;
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
      if (key === '__proto__') {
        // An assignment would replace the prototype, and keep no member.
        Object.defineProperty(map, key, { value, writable: true, enumerable: true, configurable: true });
      } else {
        map[key] = value;
      }
    }
    return map;
  }

  #key() {
    const start = this.#at, b = this.#bytes[start];
    if (!(b >= 0xa0 && b < 0xc0)) {
      const key = this.value(0);
      if (typeof key !== 'string') throw new RangeError(`a key at ${start - this.#from} is no string`);
      return key;
    }
    const n = b & 31, end = start + 1 + n, bytes = this.#bytes;
    if (end > this.#end) this.#take(1 + n); // this throws
    const slot = n === 0 ? 0 : (n * 31 + bytes[start + 1] * 7 + bytes[end - 1] * 131 + bytes[start + 1 + (n >> 1)] * 17) & 511;
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
}

function finite(n) {
  if (!Number.isFinite(n)) throw new RangeError(`the number ${n} is not finite`);
  return n;
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const noBytes = new Uint8Array(0), noView = viewOf(noBytes);
/** Reads one value after the other: nothing that it calls reads another value. */
const decoder = new Decoder(noBytes, noView, 0, 0);

/** Reads one value. It throws if more bytes follow. */
export const decode = (bytes) => decodeRange(bytes, viewOf(bytes), 0, bytes.length);

/** Reads the one value that a range of bytes has. `view` is a view of the same bytes. */
export function decodeRange(bytes, view, from, end) {
  try {
    const value = decoder.start(bytes, view, from, end).value(1);
    if (!decoder.atEnd) throw new RangeError('more bytes follow behind the value');
    return value;
  } finally {
    decoder.start(noBytes, noView, 0, 0); // it keeps no message alive
  }
}

/** Reads values that follow each other. */
export function decodeAll(bytes) {
  const all = new Decoder(bytes, viewOf(bytes), 0, bytes.length), values = [];
  while (!all.atEnd) values.push(all.value(1));
  return values;
}
