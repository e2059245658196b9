// XXH64, the checksum of results in an export of a journal: Go writes and checks it. It follows
// https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, with the seed 0. It is used for
// exports and imports only, so it may take some microseconds.

const mask = (1n << 64n) - 1n;
const p1 = 0x9e3779b185ebca87n, p2 = 0xc2b2ae3d27d4eb4fn, p3 = 0x165667b19e3779f9n, p4 = 0x85ebca77c2b2ae63n, p5 = 0x27d4eb2f165667c5n;

const rotate = (x, n) => ((x << n) | (x >> (64n - n))) & mask;
const round = (acc, lane) => (rotate((acc + lane * p2) & mask, 31n) * p1) & mask;
const merge = (acc, other) => ((acc ^ round(0n, other)) * p1 + p4) & mask;

/** The XXH64 of bytes, as 16 hexadecimal digits. */
export function xxh64(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), end = bytes.length;
  let at = 0, acc;
  if (end >= 32) {
    let a = (p1 + p2) & mask, b = p2, c = 0n, d = (-p1) & mask;
    for (; at + 32 <= end; at += 32) {
      a = round(a, view.getBigUint64(at, true));
      b = round(b, view.getBigUint64(at + 8, true));
      c = round(c, view.getBigUint64(at + 16, true));
      d = round(d, view.getBigUint64(at + 24, true));
    }
    acc = (rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n)) & mask;
    for (const lane of [a, b, c, d]) acc = merge(acc, lane);
  } else {
    acc = p5;
  }
  acc = (acc + BigInt(end)) & mask;
  for (; at + 8 <= end; at += 8) acc = (rotate(acc ^ round(0n, view.getBigUint64(at, true)), 27n) * p1 + p4) & mask;
  if (at + 4 <= end) {
    acc = (rotate(acc ^ ((BigInt(view.getUint32(at, true)) * p1) & mask), 23n) * p2 + p3) & mask;
    at += 4;
  }
  for (; at < end; at++) acc = (rotate(acc ^ ((BigInt(bytes[at]) * p5) & mask), 11n) * p1) & mask;
  acc = ((acc ^ (acc >> 33n)) * p2) & mask;
  acc = ((acc ^ (acc >> 29n)) * p3) & mask;
  return (acc ^ (acc >> 32n)).toString(16).padStart(16, '0');
}
