// Checks of options and arguments. An option that does not exist, or has a wrong type, is an error
// and never ignored.

import { badInput } from './errors.js';

/** Describes a value for an error's message: the value itself if that is short, else its type. */
export function nameOf(value) {
  if (value === null || ['undefined', 'number', 'boolean', 'bigint'].includes(typeof value)) return String(value);
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40));
  if (typeof value !== 'object') return `a ${typeof value}`;
  return Array.isArray(value) ? 'an array' : `an object (${Object.prototype.toString.call(value).slice(8, -1)})`;
}

/** Returns whether a value is a Uint8Array. It may be from another realm, such as an iframe. */
export const isBytes = (value) => ArrayBuffer.isView(value) && value[Symbol.toStringTag] === 'Uint8Array';

// The number of characters that have to be added, removed or replaced to turn a into b.
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, k) => k);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
}

/** Returns the name that is the most similar to a wrong one, or undefined if none is similar. */
export function nearest(wrong, names) {
  const text = String(wrong).slice(0, 40).toLowerCase().replaceAll(/[_-]/g, '');
  const rated = names.map((name) => [distance(text, name.toLowerCase()), name]).sort(([a], [b]) => a - b);
  if (rated.length === 0) return undefined;
  const [[changes, name]] = rated;
  return changes <= Math.max(text.length, name.length) / 2 ? name : undefined;
}

/** The error for an option that does not exist. */
export function unknownOption(what, wrong, names) {
  const like = nearest(wrong, names);
  return badInput(`${what}: there is no option ${String(wrong).slice(0, 40)}; ${like ? `did you mean ${like}? There` : 'there'} are ${names.join(', ')}`);
}

/** Checks that options are an object with no other members than these. It throws `bad_input`. */
export function checkOptions(what, options, names) {
  if (options === undefined || options === null) return;
  if (typeof options !== 'object' || Array.isArray(options)) throw badInput(`${what}: options are ${nameOf(options)}, want an object`);
  // Members of prototypes are checked, too: an AbortSignal that is given instead of {signal} has no
  // members of its own.
  for (const name in options) if (!names.includes(name)) throw unknownOption(what, name, names);
}

export function checkType(what, name, value, type) {
  if (typeof value !== type) throw badInput(`${what}: ${name} is ${nameOf(value)}, want a ${type}`);
}

export function checkTimeout(what, timeout) {
  if (typeof timeout !== 'number' || !(timeout >= 0)) throw badInput(`${what}: timeout is ${nameOf(timeout)}, want milliseconds, 0 for none`);
}

export function checkSignal(what, signal) {
  if (typeof signal.addEventListener !== 'function' || typeof signal.aborted !== 'boolean') throw badInput(`${what}: signal is ${nameOf(signal)}, want an AbortSignal`);
}
