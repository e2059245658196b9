// The worker: it runs what a page, or a program on Node, sends it, one request after the other, and answers what came together in one
// message.

import { Executor } from './executor.js';
import { eachFrame, kind, Writer } from './frames.js';

// How long answers are gathered at most while more is to run, in milliseconds.
const gather = 2;

const inBrowser = typeof self === 'object' && typeof self.postMessage === 'function';
const port = inBrowser ? self : (await import('node:worker_threads')).parentPort;
const post = (message, transfer) => port.postMessage(message, transfer);
const on = (f) => (port.on ? port.on('message', f) : port.addEventListener('message', (e) => f(e.data)));

let executor;
const out = new Writer();

on((message) => {
  if (!executor) {
    // The first message is the compiled core.
    executor = new Executor(message.module);
    post({ ready: true }, []);
    return;
  }
  let began = performance.now();
  const flush = () => {
    if (out.length > 0) {
      const answers = out.take();
      post(answers, [answers]);
    }
  };
  eachFrame(message, (f) => {
    executor.run(f, (flags, ...parts) => out.frame(f.request, f.placement, kind.answer, flags, ...parts));
    if (performance.now() - began > gather) {
      flush();
      began = performance.now();
    }
  });
  flush();
});

// A page is not told that a worker was terminated. So the worker has a lock for as long as it lives, and the page waits for that.
async function lifelong() {
  if (!inBrowser || !navigator.locks) return undefined;
  const name = `hypertoken-${crypto.randomUUID()}`;
  await new Promise((granted, failed) => {
    navigator.locks.request(name, () => {
      granted();
      return new Promise(() => {});
    }).catch(failed);
  });
  return name;
}

post({ loaded: true, lock: await lifelong().catch(() => undefined) }, []);
