// Abort signals. However many actions wait for one, it has one listener, so that Node does not warn of a leak; and none once nothing
// waits for it, so that a signal that lives long keeps nothing alive.

/** What is to be called for each signal, and its listener. */
const waiting = new WeakMap();

/**
 * Calls f when a signal aborts.
 * @param {AbortSignal} signal
 * @param {() => void} f
 * @returns {() => void} takes that back; it may be called any number of times
 */
export function onAbort(signal, f) {
  let entry = waiting.get(signal);
  if (!entry) {
    const calls = new Set();
    entry = {
      calls,
      listener() {
        waiting.delete(signal);
        for (const call of calls) call();
      },
    };
    waiting.set(signal, entry);
    signal.addEventListener('abort', entry.listener, { once: true });
  }
  const call = () => f(); // its own, if f is given twice
  entry.calls.add(call);
  return () => {
    if (!entry.calls.delete(call) || entry.calls.size > 0 || waiting.get(signal) !== entry) return;
    waiting.delete(signal);
    signal.removeEventListener('abort', entry.listener);
  };
}
