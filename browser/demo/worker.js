// The package's worker, and two ways to break it from outside. A message { trouble } is handled before the package's own listener.

const trouble = {
  hang() {
    for (;;); // only the end of this thread ends the loop
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

// A dynamic import: a static one would run first, and the package's listener would come before the one above.
await import('/workers/hypertoken.worker.js');
