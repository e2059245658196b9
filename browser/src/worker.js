// The worker's script. It runs the requests that a page or a Node program sends it, one after the
// other. Answers that follow each other quickly are sent in one message. An answer is not held back
// while a slow action runs, since that action may never end. An action counts as slow if the last
// action of its name was. The worker tells the page which actions are quick. So, if such an action
// hangs nevertheless, the page knows which answers may be held back.

import { getEnvironment, nodeModule } from './environment.js';
import { Executor } from './executor.js';
import { eachFrame, flag, hash, kind, Writer } from './frames.js';

// The longest time for which answers are held back while there is more to run, and the run time
// below which an action is quick, in milliseconds.
const gather = 2, quick = 0.5;

let port, executor;
// The request that is run, the hash of its name, when it began, and when the oldest answer that is
// held back did.
let request = null, name = 0, before = 0, began = 0;
const post = (message, transfer) => port.postMessage(message, transfer);
const out = new Writer();
// The hashes of the names of actions that were quick when they ran last.
const known = new Set();

function note(name, ms) {
  const isQuick = name !== 0 && ms < quick && (known.has(name) || known.size < 1024);
  if (isQuick) known.add(name);
  else known.delete(name);
  return isQuick;
}

/** The hash of an action's name, or 0 if the frame is no action or a suspect. */
function nameOf(f) {
  if (f.kind !== kind.dispatch || f.flags & flag.suspect) return 0;
  const from = f.at + 28;
  return hash(f.bytes, from, Math.min(from + f.view.getUint32(f.at + 24, true), f.bytes.length));
}

function handle(message) {
  if (!executor) {
    // The first message is the compiled core.
    executor = new Executor(message.module);
    post({ ready: true }, []);
    return;
  }
  began = before = performance.now();
  eachFrame(message, run);
  request = null; // it keeps no message alive
  flush();
}

function run(f) {
  request = f;
  name = nameOf(f);
  const held = known.has(name);
  if (!held) {
    flush();
    before = performance.now();
  }
  executor.run(f, answer, before);
  if (!held || before - began > gather) {
    flush();
    began = before = performance.now();
  }
}

function answer(flags, ...parts) {
  const now = performance.now(), isQuick = note(name, now - before);
  before = now;
  out.frame(request.request, request.placement, kind.answer, flags | (isQuick ? flag.quick : 0), parts);
}

function flush() {
  if (out.length === 0) return;
  const answers = out.take();
  post(answers, [answers]);
}

// A page gets no event if a worker was terminated. So the worker holds a lock for its whole life,
// and the page waits for that lock.
async function lifelong() {
  if (!globalThis.navigator?.locks) return undefined;
  const name = `hypertoken-${crypto.randomUUID()}`;
  await new Promise((granted, failed) => {
    navigator.locks.request(name, () => {
      granted();
      return new Promise(() => {});
    }).catch(failed);
  });
  return name;
}

async function startInThread(parentPort) {
  port = parentPort;
  port.on('message', handle);
  post({ loaded: true }, []);
}

async function startInPage() {
  port = self;
  port.addEventListener('message', (e) => handle(e.data));
  // If the policy of this script's own response forbids WebAssembly, Firefox does not deliver the
  // message with the compiled core.
  port.addEventListener('messageerror', () => post({ unreadable: true }, []));
  post({ loaded: true, lock: await lifelong().catch(() => undefined) }, []);
}

// There is no await at the top level: tools that minify a worker as a classic script can not read it.
if (getEnvironment() === 'node') {
  nodeModule('worker_threads').then(({ parentPort }) => (parentPort ? startInThread(parentPort) : startInPage()));
} else {
  startInPage();
}
