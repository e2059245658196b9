// The part of its journal that an engine keeps, and where its steps lead. The rules are those of Go's
// internal/driver/rewinding.go, so that a game goes back and forth alike here and there.
//
// A step is an action, a whole batch, or a revert. The current step is the one that an undo takes
// back; its parent is the step that was current before it, and is current then. What was undone
// can be redone until a new step is made. A marker is a base that takes a sequence of its own: a
// revert, an undo or a redo leaves it. It has the current step and those to redo. Elsewhere the
// current step is the newest record, and there is none to redo.

import { badInput, HyperTokenError } from './errors.js';
import { entryHead } from './frames.js';

/** How many steps there are to redo at most: further ones are forgotten, as in Go. */
const mostRedo = 4096;

/**
 * @typedef {{current: number, redo: number[]}} Position
 *   `current` is the sequence of the current step, 0 for none; `redo` has the sequences of the
 *   steps to redo, the next one last
 * @typedef {Position & {kind: 'revert' | 'upgrade' | 'fork', to: number, details?: string}} Marker
 *   `details` has the members of the marker as an export writes them; if it is left out, they are
 *   those of a revert
 * @typedef {{sequence: number, bytes: Uint8Array, isSnapshot: boolean, digest: string | null,
 *   marker: Marker | null}} Base
 *   `bytes` is a setup or a snapshot as the core takes it; `digest` is null if it is not known
 * @typedef {{base: Base, journal: {pieces: () => Uint8Array[], batches: number[] | null}, end:
 *   number}} Segment
 *   a base and the records behind it; `end` is the sequence of the last one. `batches` has the
 *   sequences of the first and of the last record
 *   of each batch of several records, one pair after the other
 */

/**
 * The step that is current at a sequence, and those to redo.
 * @param {Base} [base] the newest one at the sequence or before it
 * @returns {Position}
 */
export const positionAt = (base, sequence) => (base?.marker && base.sequence === sequence ? base.marker : { current: sequence, redo: [] });

/** The first entries of a journal, so many of them, as pieces of a replay. */
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

/** The members of a marker that stand before its state in an export. */
export const detailsOf = ({ to, current, redo, details }) => details ?? `"to":${to},"current":${current},"redo":[${redo}],`;

const range = (newest) => `the engine has the sequences 0 to ${newest}`;

export class History {
  /** The sequence of the newest record or marker. */
  newest;
  #segments; #what;

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
  get oldest() { return this.#segments[0].base.sequence; }

  // Returns the index of the last segment whose base is at a sequence or before it, or -1.
  #indexAt(sequence) {
    let from = 0, to = this.#segments.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.#segments[middle].base.sequence <= sequence) from = middle + 1;
      else to = middle;
    }
    return from - 1;
  }

  #trimmed(sequence) {
    const which = `the state of the sequence ${sequence} is not kept, but those from ${this.oldest} on`;
    return new HyperTokenError('history_trimmed', `${this.#what}: ${which}; new Engine({ history: true }) keeps all`);
  }

  #conflict(why) { return new HyperTokenError('conflict', `${this.#what}: ${why}`); }

  /** Throws `bad_input` unless the engine has, or had, a state of that sequence. */
  check(sequence, name = 'the sequence') {
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
      base, pieces: firstEntries(journal.pieces(), Math.min(end, to) - base.sequence), batches: journal.batches ?? [],
    }));
  }

  // Returns the step that is current at a sequence, 0 for none.
  #stepAt(sequence) { return positionAt(this.#segments[this.#indexAt(sequence)]?.base, sequence).current; }

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
    const marker = { kind: 'revert', to: sequence, current: this.newest + 1, redo: [] };
    return { marker, part: this.partAt(sequence) };
  }

  /** It throws `conflict` if there is nothing to undo. */
  undo({ current, redo }) {
    if (current === 0) throw this.#conflict('there is nothing to undo: the engine is as it began');
    // The state before the step is that of the parent, and may be kept where that of the parent
    // is not.
    const before = this.#firstOf(current) - 1, parent = this.#stepAt(before);
    const marker = { kind: 'revert', to: parent, current: parent, redo: [...redo, current].slice(-mostRedo) };
    return { marker, part: this.partAt(before) };
  }

  /** It throws `conflict` if there is nothing to redo. */
  redo({ redo }) {
    const last = redo.at(-1);
    if (last === undefined) throw this.#conflict('there is nothing to redo: the newest step is no undo');
    return { marker: { kind: 'revert', to: last, current: last, redo: redo.slice(0, -1) }, part: this.partAt(last) };
  }
}
