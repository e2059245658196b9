// Holds an engine against a conformance trace: integration/testdata/conformance/README.md has their format. It runs in Node and in
// browsers.

const prefix = '$id';

/** Returns the first difference between a value and the one of the trace, or null. ids are the identifiers that are bound. */
export function compare(want, got, ids, path = '') {
  const differ = (w = want, g = got) => `${path}: want ${show(w)}, got ${show(g)}`;
  if (typeof want === 'string' && want.startsWith(prefix)) {
    if (typeof got !== 'string' || (ids.has(want) && ids.get(want) !== got)) return differ(ids.get(want) ?? want);
    ids.set(want, got);
    return null;
  }
  if (typeof want === 'number') return typeof got === 'number' && Math.abs(want - got) <= 1e-9 ? null : differ();
  if (Array.isArray(want)) {
    if (!Array.isArray(got) || got.length !== want.length) return differ();
    for (const [k, w] of want.entries()) {
      const d = compare(w, got[k], ids, `${path}[${k}]`);
      if (d) return d;
    }
    return null;
  }
  if (want !== null && typeof want === 'object') {
    if (got === null || typeof got !== 'object' || Array.isArray(got)) return differ();
    const named = new Map(Object.entries(want).map(([k, v]) => [ids.get(k) ?? k, v]));
    for (const [k, w] of [...named].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (!(k in got)) return `${path}.${k}: want ${show(w)}, got nothing`;
      const d = compare(w, got[k], ids, `${path}.${k}`);
      if (d) return d;
    }
    for (const k of Object.keys(got)) if (!named.has(k)) return `${path}.${k}: want nothing, got ${show(got[k])}`;
    return null;
  }
  return want === got ? null : differ();
}

const show = (v) => (v === undefined ? 'nothing' : JSON.stringify(v).slice(0, 400));

/** Puts bound identifiers into a payload. */
function bind(v, ids) {
  if (typeof v === 'string') return v.startsWith(prefix) ? ids.get(v) ?? v : v;
  if (Array.isArray(v)) return v.map((x) => bind(x, ids));
  if (v !== null && typeof v === 'object') return Object.fromEntries(Object.entries(v).map(([k, x]) => [bind(k, ids), bind(x, ids)]));
  return v;
}

const byName = (list) => (Array.isArray(list) ? [...list].sort((a, b) => (a.name < b.name ? -1 : 1)) : list);

/** Adds the sections that a state may leave out. */
function whole(state) {
  const s = { ...state };
  for (const k of ['zones', 'agents', 'gameState']) s[k] ??= {};
  for (const k of ['transactions', 'locked']) s[k] ??= [];
  return s;
}

export function parse(text) {
  const [first, ...lines] = text.trim().split('\n').map((l) => JSON.parse(l));
  return { name: first.trace, setup: first.setup, lines };
}

/**
 * Runs a trace, and throws at the first difference.
 * @param {{dispatch: (type: string, payload: unknown, now: number) => Promise<unknown>, state: () => Promise<object>}} engine
 * @param {(step: number) => unknown} [each] is called after each step
 */
export async function verify(trace, engine, each) {
  const ids = new Map();
  let n = 0;
  for (const line of trace.lines) {
    if ('state' in line) {
      const d = compare(whole(line.state), whole(await engine.state()), ids, 'state');
      if (d) throw new Error(`${trace.name}: state after step ${n}: ${d}`);
      continue;
    }
    n = line.n;
    let result, failed = null;
    try {
      result = await engine.dispatch(line.type, bind(line.payload, ids), line.now);
    } catch (error) {
      failed = error;
    }
    if (line.error) {
      if (!failed) throw new Error(`${trace.name}: step ${n} (${line.type}): want an error, got ${show(result)}`);
    } else {
      if (failed) throw new Error(`${trace.name}: step ${n} (${line.type}): ${failed.message}`, { cause: failed });
      const all = line.type === 'agent:getAll';
      const d = compare(all ? byName(line.result) : line.result, all ? byName(result) : result, ids, 'result');
      if (d) throw new Error(`${trace.name}: step ${n} (${line.type}): ${d}`);
    }
    await each?.(n);
  }
  return n;
}
