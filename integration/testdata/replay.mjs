// Runs calls of the ABI in V8: the counterpart of core-rs/examples/replay.rs, which describes the input and the output.
import { readFileSync, writeSync } from 'node:fs';

const module = new WebAssembly.Module(readFileSync(process.argv[2]));
const input = readFileSync(0);
const u32 = n => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(n);
  return b;
};

let core;
for (let at = 0; at < input.length; ) {
  const op = input.readUInt32LE(at);
  const length = input.readUInt32LE(at + 4);
  at += 8;
  if (op === 0) {
    core = new WebAssembly.Instance(module, {}).exports;
    continue;
  }
  const room = core.ht_input(length) >>> 0;
  new Uint8Array(core.memory.buffer, room, length).set(input.subarray(at, at + length));
  at += length;
  const status = core.ht_call(op, length);
  const view = new DataView(core.memory.buffer, core.ht_reply() >>> 0, 48);
  const out = [Buffer.from([status === 0 ? 1 : 0, view.getUint32(4, true)]), Buffer.alloc(8)];
  out[1].writeBigUInt64LE(view.getBigUint64(40, true));
  for (const part of [8, 16, 24]) {
    const n = view.getUint32(part + 4, true);
    out.push(u32(n), Buffer.from(core.memory.buffer, view.getUint32(part, true), n));
  }
  let rest = Buffer.concat(out);
  while (rest.length > 0) {
    rest = rest.subarray(writeSync(1, rest));
  }
}
