/*! hypertoken-worker, Apache-2.0: see LICENSE and NOTICE */

// src/react.js
import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
var whole = (state) => state;
var unsubscribed = () => () => {
};
var nothing = () => void 0;
function alike(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const prototype = Object.getPrototypeOf(a);
  if (prototype !== Object.getPrototypeOf(b) || prototype !== Array.prototype && prototype !== Object.prototype) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && Object.is(a[key], b[key]));
}
function useEngine(make, deps = []) {
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
function useEngineState(engine, select = whole) {
  const last = useRef(void 0);
  const read = useMemo(() => {
    let state, selected2;
    return () => {
      const current = engine?.current;
      if (current !== state) {
        state = current;
        const next = current === void 0 ? void 0 : select(current);
        selected2 = alike(last.current, next) ? last.current : next;
      }
      return selected2;
    };
  }, [engine, select]);
  const selected = useSyncExternalStore(engine?.subscribe ?? unsubscribed, read, nothing);
  useEffect(() => {
    last.current = selected;
  }, [selected]);
  return selected;
}
export {
  useEngine,
  useEngineState
};
