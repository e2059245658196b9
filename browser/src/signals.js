// Abort signals. A signal has one listener however many actions wait for it, so that Node does not
// warn of a leak. Once no action waits for it the signal has none, so that a signal that lives long
// keeps nothing alive.

/**
 * For each signal that an action waits for: the functions to call when it aborts, and its listener.
 */
const waiting = new WeakMap();

/**
 * Calls f when a signal aborts.
 * @param {AbortSignal} signal
 * @param {(shared: Map<string, Error>) => void} f gets a map that is empty at first, and is the same for all calls of one abort
 * @returns {() => void} a function after which f is not called any more; it may be called any number of times
 */
export function onAbort(signal, f) {
  let entry = waiting.get(signal);
  if (!entry) {
    const calls = new Set();
    entry = {
      calls,
      listener() {
        waiting.delete(signal);
        const shared = new Map();
        for (const call of calls) call(shared);
      },
    };
    waiting.set(signal, entry);
    signal.addEventListener('abort', entry.listener, { once: true });
  }
  const call = (shared) => f(shared); // an entry of its own, in case f is given twice
  entry.calls.add(call);
  return () => {
    if (!entry.calls.delete(call) || entry.calls.size > 0 || waiting.get(signal) !== entry) return;
    waiting.delete(signal);
    signal.removeEventListener('abort', entry.listener);
  };
}
