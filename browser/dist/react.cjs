/*! hypertoken-worker, Apache-2.0: see LICENSE and NOTICE */
"use strict";
var __defProp = Object.defineProperty;
var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
var __getOwnPropNames = Object.getOwnPropertyNames;
var __hasOwnProp = Object.prototype.hasOwnProperty;
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};
var __copyProps = (to, from, except, desc) => {
  if (from && typeof from === "object" || typeof from === "function") {
    for (let key of __getOwnPropNames(from))
      if (!__hasOwnProp.call(to, key) && key !== except)
        __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
  }
  return to;
};
var __toCommonJS = (mod) => __copyProps(__defProp({}, "__esModule", { value: true }), mod);

// src/react.js
var react_exports = {};
__export(react_exports, {
  useEngine: () => useEngine,
  useEngineState: () => useEngineState
});
module.exports = __toCommonJS(react_exports);
var import_react = require("react");
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
  const [engine, setEngine] = (0, import_react.useState)(null);
  (0, import_react.useEffect)(() => {
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
  const last = (0, import_react.useRef)(void 0);
  const read = (0, import_react.useMemo)(() => {
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
  const selected = (0, import_react.useSyncExternalStore)(engine?.subscribe ?? unsubscribed, read, nothing);
  (0, import_react.useEffect)(() => {
    last.current = selected;
  }, [selected]);
  return selected;
}
