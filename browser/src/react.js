// Hooks for React 18 and newer.

import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from 'react';

const whole = (state) => state;
const unsubscribed = () => () => {};
const nothing = () => undefined;

/** Whether two values are the same, or arrays or plain objects with the same members. */
function alike(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  const prototype = Object.getPrototypeOf(a);
  if (prototype !== Object.getPrototypeOf(b) || (prototype !== Array.prototype && prototype !== Object.prototype)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && Object.is(a[key], b[key]));
}

/**
 * Makes an engine when the component is mounted, and shuts it down when it is unmounted. Returns the
 * engine, or null before it is made.
 * @param {() => import('./engine.js').Engine} make
 * @param {unknown[]} [deps] if one of them changes, the engine is shut down and another is made
 */
export function useEngine(make, deps = []) {
  const [engine, setEngine] = useState(null);
  useEffect(() => {
    const made = make();
    setEngine(made);
    return () => {
      setEngine(null);
      made.shutdown();
    };
  }, deps);
  return engine;
}

/**
 * Returns what `select` returns for the current state of an engine, and renders again when that
 * changes. It returns undefined while there is no state yet, or no engine.
 * @param {import('./engine.js').Engine | null | undefined} engine
 * @param {(state: object) => unknown} [select] default: the whole state
 */
export function useEngineState(engine, select = whole) {
  const last = useRef(undefined);
  const read = useMemo(() => {
    let state, selected;
    return () => {
      const current = engine?.current;
      if (current !== state) {
        state = current;
        const next = current === undefined ? undefined : select(current);
        selected = alike(last.current, next) ? last.current : next;
      }
      return selected;
    };
  }, [engine, select]);
  const selected = useSyncExternalStore(engine?.subscribe ?? unsubscribed, read, nothing);
  useEffect(() => { last.current = selected; }, [selected]);
  return selected;
}
