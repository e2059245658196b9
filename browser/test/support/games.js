// Setups and events that the tests in Node and the tests in pages share.

/** A setup of so many tokens, t0 at the bottom. */
export const deck = (n) => ({ stack: Array.from({ length: n }, (_, k) => ({ id: `t${k}` })) });

/** The next event of a name for which `when` returns true. */
export const event = (engine, name, when = () => true) => new Promise((resolve) => {
  const off = engine.on(name, (e) => {
    if (when(e)) {
      off();
      resolve(e);
    }
  });
});
