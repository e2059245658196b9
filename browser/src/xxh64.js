// XXH64 of bytes, with the seed 0: the checksum of a result in an exported journal, here and in
// Go. https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md has the algorithm.

const p1 = 0x9e3779b185ebca87n, p2 = 0xc2b2ae3d27d4eb4fn, p3 = 0x165667b19e3779f9n;
const p4 = 0x85ebca77c2b2ae63n, p5 = 0x27d4eb2f165667c5n;

const u64 = (n) => BigInt.asUintN(64, n);
const rotate = (n, by) => u64(n << by) | (n >> (64n - by));
const round = (lane, input) => u64(rotate(u64(lane + u64(input * p2)), 31n) * p1);
const merge = (all, lane) => u64(u64((all ^ round(0n, lane)) * p1) + p4);

/** @returns {bigint} */
export function xxh64(bytes) {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), n = bytes.length;
  let at = 0, h = p5;
  if (n >= 32) {
    let a = u64(p1 + p2), b = p2, c = 0n, d = u64(-p1);
    for (; at + 32 <= n; at += 32) {
      a = round(a, v.getBigUint64(at, true));
      b = round(b, v.getBigUint64(at + 8, true));
      c = round(c, v.getBigUint64(at + 16, true));
      d = round(d, v.getBigUint64(at + 24, true));
    }
    h = u64(rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n));
    for (const lane of [a, b, c, d]) h = merge(h, lane);
  }
  h = u64(h + BigInt(n));
  for (; at + 8 <= n; at += 8) h = u64(rotate(h ^ round(0n, v.getBigUint64(at, true)), 27n) * p1 + p4);
  if (at + 4 <= n) {
    h = u64(rotate(h ^ u64(BigInt(v.getUint32(at, true)) * p1), 23n) * p2 + p3);
    at += 4;
  }
  for (; at < n; at++) h = u64(rotate(h ^ u64(BigInt(v.getUint8(at)) * p5), 11n) * p1);
  h = u64((h ^ (h >> 33n)) * p2);
  h = u64((h ^ (h >> 29n)) * p3);
  return h ^ (h >> 32n);
}
