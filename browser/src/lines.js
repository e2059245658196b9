// Values of the core as JSON, and back, for the lines of an export. JSON.parse does not tell 1.0
// from 1, and the core does: a result with the other one has another checksum. So numbers with a
// point or an exponent are floats here, and floats are written with one of them, as Go does it.

import { encode } from './values.js';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** How deep values may be nested. The core's own bound is at most 128. */
const deepest = 200;

/** Writes the one value of some MessagePack as JSON. It throws if the bytes are no value. */
export function jsonOf(bytes) {
  const writer = new Writer(bytes), text = writer.value(1);
  if (!writer.isAtEnd) throw new RangeError('more bytes follow behind the value');
  return text;
}

class Writer {
  #bytes; #view; #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get isAtEnd() { return this.#at === this.#bytes.length; }

  #take(n) {
    const at = this.#at;
    if (n > this.#bytes.length - at) throw new RangeError(`the value ends too early, at ${at}`);
    this.#at += n;
    return at;
  }

  value(depth) {
    if (depth > deepest) throw new RangeError(`values are nested deeper than ${deepest} levels`);
    const v = this.#view, b = v.getUint8(this.#take(1));
    if (b < 0x80) return String(b);
    if (b >= 0xe0) return String(b - 0x100);
    if (b < 0x90) return this.#map(b & 15, depth);
    if (b < 0xa0) return this.#array(b & 15, depth);
    if (b < 0xc0) return this.#string(b & 31);
    switch (b) {
      case 0xc0: return 'null';
      case 0xc2: return 'false';
      case 0xc3: return 'true';
      case 0xca: return float(v.getFloat32(this.#take(4)));
      case 0xcb: return float(v.getFloat64(this.#take(8)));
      case 0xcc: return String(v.getUint8(this.#take(1)));
      case 0xcd: return String(v.getUint16(this.#take(2)));
      case 0xce: return String(v.getUint32(this.#take(4)));
      case 0xcf: return wide(v.getBigUint64(this.#take(8)));
      case 0xd0: return String(v.getInt8(this.#take(1)));
      case 0xd1: return String(v.getInt16(this.#take(2)));
      case 0xd2: return String(v.getInt32(this.#take(4)));
      case 0xd3: return wide(v.getBigInt64(this.#take(8)));
      case 0xd9: return this.#string(v.getUint8(this.#take(1)));
      case 0xda: return this.#string(v.getUint16(this.#take(2)));
      case 0xdb: return this.#string(v.getUint32(this.#take(4)));
      case 0xdc: return this.#array(v.getUint16(this.#take(2)), depth);
      case 0xdd: return this.#array(v.getUint32(this.#take(4)), depth);
      case 0xde: return this.#map(v.getUint16(this.#take(2)), depth);
      case 0xdf: return this.#map(v.getUint32(this.#take(4)), depth);
      default: throw new RangeError(`the byte ${b} at ${this.#at - 1} begins no value`);
    }
  }

  #string(n) {
    const at = this.#take(n);
    return JSON.stringify(utf8.decode(this.#bytes.subarray(at, at + n)));
  }

  #array(n, depth) {
    const items = [];
    for (let k = 0; k < n; k++) items.push(this.value(depth + 1));
    return `[${items.join(',')}]`;
  }

  #map(n, depth) {
    const members = [];
    for (let k = 0; k < n; k++) {
      const key = this.value(depth + 1);
      if (!key.startsWith('"')) throw new RangeError('a key is no string');
      members.push(`${key}:${this.value(depth + 1)}`);
    }
    return `{${members.join(',')}}`;
  }
}

function wide(n) {
  if (!Number.isSafeInteger(Number(n))) throw new RangeError(`the integer ${n} is not within ±(2^53 - 1)`);
  return String(n);
}

function float(n) {
  if (!Number.isFinite(n)) throw new RangeError(`the number ${n} is not finite`);
  const text = Object.is(n, -0) ? '-0' : String(n);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

const space = /[ \t\r\n]*/y, stringForm = /"(?:[^"\\\u0000-\u001f]|\\.)*"/y, numberForm = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const literals = new Map([['null', [0xc0]], ['false', [0xc2]], ['true', [0xc3]]]);

/**
 * Reads a line, which has to be one JSON object.
 * @returns {Map<string, Uint8Array>} the value of each member, as MessagePack
 */
export function readLine(text) {
  const reader = new Reader(text), members = new Map();
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

const headOf = (n, small, wide16) => (n < 16 ? [small | n] : n < 0x10000 ? [wide16, n >> 8, n & 255] : [wide16 + 1, n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255]);

class Reader {
  #text; #at = 0;

  constructor(text) { this.#text = text; }

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
    const found = this.#at < this.#text.length ? JSON.stringify(this.#text.slice(this.#at, this.#at + 10)) : 'the end';
    throw new SyntaxError(`it is no JSON: at character ${this.#at + 1} is ${found}, want ${wanted}`);
  }

  #expect(character) {
    if (this.#next() !== character) this.#fail(character);
    this.#at++;
  }

  end() {
    if (this.#next() !== undefined) this.#fail('the end of the line');
  }

  #string() {
    this.#match(space);
    const found = this.#match(stringForm);
    if (!found) this.#fail('a string');
    return JSON.parse(found[0]);
  }

  /**
   * Reads an object, and calls f with each of its keys and the pieces of the value's MessagePack.
   */
  object(depth, f) {
    this.#expect('{');
    if (this.#next() === '}') {
      this.#at++;
      return;
    }
    for (;;) {
      const key = this.#string(), parts = [];
      this.#expect(':');
      this.#value(depth + 1, parts);
      f(key, parts);
      if (this.#next() === '}') break;
      this.#expect(',');
    }
    this.#at++;
  }

  #value(depth, out) {
    if (depth > deepest) throw new SyntaxError(`values are nested deeper than ${deepest} levels`);
    const c = this.#next();
    if (c === '{') {
      const parts = [], keys = new Set();
      this.object(depth, (key, value) => {
        if (keys.has(key)) throw new SyntaxError(`the key ${JSON.stringify(key)} stands twice in one object`);
        keys.add(key);
        parts.push(encode(key, 'a key').slice(), ...value);
      });
      out.push(headOf(keys.size, 0x80, 0xde));
      for (const part of parts) out.push(part);
    } else if (c === '[') {
      this.#array(depth, out);
    } else if (c === '"') {
      out.push(encode(this.#string(), 'a string').slice());
    } else {
      out.push(this.#scalar());
    }
  }

  #array(depth, out) {
    const parts = [];
    let n = 0;
    this.#at++;
    if (this.#next() === ']') this.#at++;
    else {
      for (;;) {
        this.#value(depth + 1, parts);
        n++;
        if (this.#next() === ']') break;
        this.#expect(',');
      }
      this.#at++;
    }
    out.push(headOf(n, 0x90, 0xdc));
    for (const part of parts) out.push(part);
  }

  #scalar() {
    for (const [word, bytes] of literals) {
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return bytes;
      }
    }
    const found = this.#match(numberForm);
    if (!found) this.#fail('a value');
    const [text, point, exponent] = found, n = Number(text);
    if (point === undefined && exponent === undefined) {
      if (!Number.isSafeInteger(n)) throw new SyntaxError(`the integer ${text.slice(0, 40)} is not within ±(2^53 - 1)`);
      return encode(n, 'a number').slice();
    }
    if (!Number.isFinite(n)) throw new SyntaxError(`the number ${text.slice(0, 40)} is larger than any float`);
    const bytes = new Uint8Array(9);
    bytes[0] = 0xcb;
    new DataView(bytes.buffer).setFloat64(1, n);
    return bytes;
  }
}
