// The worker: it runs what a page, or a program on Node, sends it, one request after the other, and answers what came together in one
// message.

import { Executor } from './executor.js';
import { eachFrame, flag, kind, Writer } from './frames.js';

// How long answers are gathered at most while more is to run, in milliseconds.
const gather = 2;

const port = typeof self === 'object' && typeof self.postMessage === 'function' ? self : (await import('node:worker_threads')).parentPort;
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
    if (f.flags & flag.suspect) flush();
    executor.run(f, (flags, ...parts) => out.frame(f.request, f.placement, kind.answer, flags, ...parts));
    if (performance.now() - began > gather) {
      flush();
      began = performance.now();
    }
  });
  flush();
});
post({ loaded: true }, []);
