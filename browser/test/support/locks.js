// Web Locks for tests in Node, which has none before version 24: as a page has them, for one thread.

class Locks {
  #held = new Map(); #waiting = [];

  request(name, ...rest) {
    const f = rest.pop(), { signal } = rest[0] ?? {};
    return new Promise((resolve, reject) => {
      const entry = { name, f, resolve, reject };
      this.#waiting.push(entry);
      signal?.addEventListener('abort', () => {
        if (!this.#waiting.includes(entry)) return;
        this.#waiting.splice(this.#waiting.indexOf(entry), 1);
        reject(signal.reason);
      });
      queueMicrotask(() => this.#grant());
    });
  }

  async query() { return { held: [...this.#held.keys()].map((name) => ({ name })), pending: this.#waiting.map(({ name }) => ({ name })) }; }

  /** Takes a lock from its holder, as when the holder's tab has ended, and gives it to the next one. */
  take(name) {
    this.#held.delete(name);
    this.#grant();
  }

  #grant() {
    for (const entry of [...this.#waiting]) {
      const { name, f, resolve, reject } = entry;
      if (this.#held.has(name)) continue;
      this.#waiting.splice(this.#waiting.indexOf(entry), 1);
      this.#held.set(name, entry);
      const over = (end) => (value) => {
        if (this.#held.get(name) === entry) this.#held.delete(name);
        end(value);
        this.#grant();
      };
      Promise.resolve().then(() => f({ name })).then(over(resolve), over(reject));
    }
  }
}

/** Gives Node a navigator with locks, for one test. */
export function withLocks(t) {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { locks: new Locks() }, configurable: true, writable: true });
  t.after(() => (before ? Object.defineProperty(globalThis, 'navigator', before) : delete globalThis.navigator));
}
