// MessagePack as JSON. Nothing is lost on the way: keys keep their order, and a float has a point
// or an exponent, so that a Go program reads it as a float again.

const utf8 = new TextDecoder();

const floatText = (n) => (/[.e]/.test(n) ? `${n}` : `${n}.0`);

/**
 * Returns a value as JSON, on one line. The bytes have to be a value that was encoded here, or by
 * a core.
 */
export function toJSON(bytes) {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  const take = (n) => {
    at += n;
    return at - n;
  };
  const unsigned = (size) => {
    let n = 0;
    for (const end = at + size; at < end; at++) n = n * 0x100 + bytes[at];
    return n;
  };
  const string = (n) => JSON.stringify(utf8.decode(bytes.subarray(take(n), at)));
  const list = (n, item) => Array.from({ length: n }, item).join();
  const array = (n) => `[${list(n, value)}]`;
  const map = (n) => `{${list(n, () => `${value()}:${value()}`)}}`;
  function value() {
    const b = bytes[at++];
    if (b < 0x80) return `${b}`;
    if (b >= 0xe0) return `${b - 0x100}`;
    if (b < 0x90) return map(b & 15);
    if (b < 0xa0) return array(b & 15);
    if (b < 0xc0) return string(b & 31);
    if (b >= 0xde) return map(unsigned(2 << (b - 0xde)));
    if (b >= 0xdc) return array(unsigned(2 << (b - 0xdc)));
    if (b >= 0xd9) return string(unsigned(1 << (b - 0xd9)));
    if (b >= 0xcc && b <= 0xcf) return `${unsigned(1 << (b - 0xcc))}`;
    switch (b) {
      case 0xc0: return 'null';
      case 0xc2: return 'false';
      case 0xc3: return 'true';
      case 0xca: return floatText(v.getFloat32(take(4)));
      case 0xcb: return floatText(v.getFloat64(take(8)));
      case 0xd0: return `${v.getInt8(take(1))}`;
      case 0xd1: return `${v.getInt16(take(2))}`;
      case 0xd2: return `${v.getInt32(take(4))}`;
      case 0xd3: return `${v.getBigInt64(take(8))}`;
      default: throw new RangeError(`the byte ${b} begins no value`);
    }
  }
  return value();
}
