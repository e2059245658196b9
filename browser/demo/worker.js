// The package's worker, with two ways to make trouble for it from outside: a message { trouble } is taken before the package sees it.

const trouble = {
  hang() {
    for (;;); // nothing but the end of this thread ends it
  },
  crash() {
    throw new Error('the page asked for it');
  },
};

self.addEventListener('message', (event) => {
  const make = trouble[event.data?.trouble];
  if (!make) return;
  event.stopImmediatePropagation();
  make();
});

// Not as a static import: those run first, and the package's listener would be the first too.
await import('/workers/hypertoken.worker.js');
