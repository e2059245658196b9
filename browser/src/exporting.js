// A journal as lines of JSON, which the Go programs read: `hypertoken run` plays them. First
// comes a base, then the actions behind it, each with the checksum of its result, and the
// markers, each with the state that it sets. internal/jsonl/export.go writes the
// same lines.

import { badInput } from './errors.js';
import { entryHead, kind } from './frames.js';
import { detailsOf } from './history.js';
import { jsonOf } from './lines.js';
import { hex64, Past } from './past.js';

const utf8 = new TextDecoder();
const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');

function base64(bytes) {
  let text = '';
  // A multiple of 3 bytes, so that the pieces can be joined.
  for (let at = 0; at < bytes.length; at += 0x6000) {
    text += btoa(String.fromCharCode(...bytes.subarray(at, at + 0x6000)));
  }
  return text;
}

const stateOf = ({ bytes, sequence }, core, digest) =>
  `"snapshot":"${base64(bytes)}","sequence":${sequence},"core":"${core}","digest":"${digest}","keys":[]}`;

/** The line of a base. */
export function baseLine(base, core, digest) {
  if (base.marker) return `{"marker":"${base.marker.kind}",${detailsOf(base.marker)}${stateOf(base, core, digest)}`;
  if (base.isSnapshot) return `{${stateOf(base, core, digest)}`;
  return `{"setup":${base.bytes.length > 0 ? jsonOf(base.bytes) : '{}'},"core":"${core}"}`;
}

/**
 * The line of an action.
 * @param {Uint8Array} bytes
 * @param {number} batch the sequence of the first action of its batch, 0 for none
 * @param {number} sequence
 * @param {string} checksum that of its result
 */
export function actionLine(bytes, batch, sequence, checksum) {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), end = 28 + v.getUint32(24, true);
  const type = JSON.stringify(utf8.decode(bytes.subarray(28, end)));
  const payload = end < bytes.length ? `,"payload":${jsonOf(bytes.subarray(end))}` : '';
  const now = v.getInt32(4, true) * 2 ** 32 + v.getUint32(0, true);
  const action = `"type":${type}${payload},"now":${now},"entropy":"${hex(bytes.subarray(8, 24))}"`;
  return `{${action}${batch > 0 ? `,"batch":${batch}` : ''},"sequence":${sequence},"checksum":"${checksum}"}`;
}

/**
 * Yields the actions behind a base, each with the checksum that the journal has of its result, and
 * its batch: the sequence of the first action, or 0.
 * @param {{base: import('./history.js').Base, pieces: Uint8Array[], batches: number[]}} segment
 */
export function* actionsOf({ base, pieces, batches }) {
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

// Returns the digest of a base and the checksums of what follows it, as a past gives them. The
// past is asked for one piece after the other, so that requests of engines come between them.
async function measure(host, { base, pieces }, take) {
  const past = new Past(host, 'journal', base.sequence, { base, pieces: [] });
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

/**
 * Yields the lines of a part of a journal.
 * @param {import('./host.js').Host} host
 * @param {import('./history.js').Segment[]} segments as History.segments returns them
 * @param {(game: import('./game.js').Game, op: import('./game.js').Op) => void} take as that of
 *   Past.ask
 */
export async function* journalLines(host, segments, take) {
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
