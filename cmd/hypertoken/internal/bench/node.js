// Echoes 32 bytes through a worker thread, as one line of standard input after the other asks: {"depth":N,"ms":T}.
// One at a time it answers with the time of each round trip in ns, otherwise with how many there were in how many ns.
const { Worker } = require('node:worker_threads');
const worker = new Worker(
  "const { parentPort } = require('node:worker_threads'); parentPort.on('message', m => parentPort.postMessage(m));",
  { eval: true });
const message = new Uint8Array(32);
let arrived = () => {};
worker.on('message', () => arrived());

const run = ({ depth, ms }) => new Promise(done => {
  const from = performance.now() + ms / 10, until = from + ms * 0.9;
  const laps = [];
  let count = 0, began = 0, flying = depth, sent = performance.now();
  arrived = () => {
    const now = performance.now();
    flying--;
    if (depth === 1) {
      if (sent >= from && laps.length < 200000) laps.push(Math.round((now - sent) * 1e6));
    } else if (began === 0) {
      if (now >= from) began = now;
    } else {
      count++;
    }
    if (now < until || (depth === 1 && laps.length === 0) || (depth > 1 && count === 0)) {
      flying++;
      sent = performance.now();
      worker.postMessage(message);
    } else if (flying === 0) {
      done(depth === 1 ? { laps } : { count, ns: Math.round((now - began) * 1e6) });
    }
  };
  for (let k = 0; k < depth; k++) worker.postMessage(message);
});

(async () => {
  for await (const line of require('node:readline').createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await run(JSON.parse(line))) + '\n');
  }
  process.exit(0);
})();
