// Compares the time of an action on a worker with that of a bare message there and back, in the same run. It runs in pages and in Node.

const seconds = (ms) => ms / 1000;

/** Times calls of f for so many milliseconds. Returns the median and the 95th percentile, in µs. */
export async function times(f, most) {
  for (const until = performance.now() + most / 4; performance.now() < until;) await f();
  const all = [];
  for (const until = performance.now() + most; performance.now() < until;) {
    // Clocks of browsers are coarse, so eight calls are timed together.
    const began = performance.now();
    for (let k = 0; k < 8; k++) await f();
    all.push((performance.now() - began) / 8 * 1000);
  }
  all.sort((a, b) => a - b);
  return { p50: all[Math.floor(all.length * 0.5)], p95: all[Math.floor(all.length * 0.95)] };
}

/** Returns how many calls of f end in a second, with so many in flight. */
export async function rate(f, most, many = 1000) {
  const round = () => Promise.all(Array.from({ length: many }, () => f()));
  for (const until = performance.now() + most / 4; performance.now() < until;) await round();
  let n = 0;
  const began = performance.now();
  while (performance.now() - began < most) {
    await round();
    n += many;
  }
  return n / seconds(performance.now() - began);
}

export const median = (all) => all.sort((a, b) => a - b)[all.length >> 1];

const setup = { stack: Array.from({ length: 52 }, (_, k) => ({ id: `c${k}` })) };

/**
 * Measures many actions and many engines at once. The result has `queued`, actions per second with 104,000 queued; `abort`, the milliseconds
 * that it takes to abort 16,000 that have one signal; `engines`, their number; for one of them, in microseconds, `engine`, its start, and
 * `again`, an action if the engine was taken out. With `memory`, which returns the bytes that the process or the browser has, the result also
 * has the bytes that an engine takes: `engineMemory` for one of `engines`, most of which are out, and `placedMemory` for one that has an instance.
 * @param {{Engine: any, Host: any, workerOptions?: object, engines?: number, memory?: () => Promise<number | undefined>}} with
 */
export async function measureScale({ Engine, Host, workerOptions = {}, engines: n = 10_000, memory = async () => undefined }) {
  const host = new Host({ ...workerOptions, timeout: 0, maxQueue: 1e6, maxQueueBytes: 1e9 });
  const engine = new Engine({ host, setup });
  const timed = async (f) => {
    const began = performance.now();
    await f();
    return performance.now() - began;
  };
  await engine.ready;

  // Memory is measured first. Later, what was given back meanwhile would count as well.
  let engines;
  const start = (many) => {
    engines = Array.from({ length: many }, () => new Engine({ host, setup }));
    return Promise.all(engines.map((e) => e.ready));
  };
  const stop = () => Promise.all(engines.map((e) => e.shutdown()));
  const few = 48; // all of them have an instance
  const empty = await memory();
  await start(few);
  const placed = await memory();
  await stop();
  const result = { engines: n };
  const without = await memory();
  result.engine = await timed(() => start(n)) / n * 1000;
  const full = await memory();
  if (typeof full === 'number') {
    result.placedMemory = (placed - empty) / few;
    result.engineMemory = (full - without) / n;
  }
  result.again = await timed(async () => {
    for (let k = 0; k < 200; k++) await engines[k % n].dispatchAsync('stack:draw');
  }) / 200 * 1000;
  await stop();

  const queue = (many) => timed(() => Promise.all(Array.from({ length: many }, (_, k) => engine.dispatchAsync(k % 52 === 51 ? 'stack:reset' : 'stack:draw'))));
  await queue(10_400);
  result.queued = 104_000 / seconds(await queue(104_000));

  const abort = new AbortController();
  const all = Promise.allSettled(Array.from({ length: 16_000 }, () => engine.dispatchAsync('stack:peek', {}, { signal: abort.signal })));
  await Promise.resolve(); // the first of them are sent
  result.abort = await timed(() => {
    abort.abort();
    return all;
  });
  await host.shutdown();
  return result;
}

/** Returns the core with a section that nobody reads. So its bytes differ from those that an engine of the page was made of. */
function differently(core, k) {
  const other = new Uint8Array(core.length + 5);
  other.set(core);
  other.set([0, 3, 1, 0x78, k], core.length);
  return other;
}

/**
 * Measures games that the browser keeps, with each durability: an action, with one in flight, in µs; actions in a second, with a thousand in
 * flight; an action of another engine that plays the same game, as another tab does; and how long it takes to open the game again, in ms, of so
 * many actions.
 * @param {{Engine: any, deleteGame: any, most?: number}} with
 */
export async function measureSaved({ Engine, deleteGame, most = 1000 }) {
  const result = {}, workerOptions = { timeout: 0 };
  for (const durability of ['strict', 'relaxed']) {
    const name = `measured ${durability}`, options = { useWorker: true, name, persist: { durability }, setup, workerOptions };
    const engine = new Engine(options);
    await engine.ready;
    let drawn = 0;
    const draw = (e) => () => (++drawn % 52 === 0 ? e.dispatchAsync('stack:reset') : e.dispatchAsync('stack:draw', { count: 1 }));
    const r = result[durability] = { one: await times(draw(engine), most), rate: await rate(draw(engine), most) };
    const other = new Engine(options);
    await other.ready;
    r.tab = await times(draw(other), most);
    r.tabRate = await rate(draw(other), most);
    await other.shutdown();
    r.actions = engine.sequence;
    await engine.shutdown();
    const began = performance.now(), again = new Engine(options);
    await again.ready;
    r.open = performance.now() - began;
    await again.shutdown();
    await deleteGame(name);
  }
  return result;
}

/**
 * Measures one engine on a worker. Times are in microseconds, but `start`, how long a new engine takes until it is ready, is in milliseconds.
 * So is `startAlone`, for an engine whose core has to be compiled, since the page has no module of it. Rates are per second.
 * @param {{Engine: any, bare: () => Promise<{ping: () => Promise<void>, end: () => unknown}>, core: Uint8Array, workerOptions?: object,
 *   most?: number}} with
 */
export async function measure({ Engine, bare, core, workerOptions = {}, most = 1000 }) {
  const starts = [], alone = [];
  const start = async (options) => {
    const began = performance.now();
    const engine = new Engine({ useWorker: true, setup, workerOptions: options });
    await engine.ready;
    const took = performance.now() - began;
    await engine.shutdown();
    return took;
  };
  await start(workerOptions); // the page has the core from now on
  for (let k = 0; k < 5; k++) {
    starts.push(await start(workerOptions));
    alone.push(await start({ ...workerOptions, core: differently(core, k) }));
  }

  const engine = new Engine({ useWorker: true, setup, workerOptions: { ...workerOptions, timeout: 0 } });
  await engine.ready;
  const here = new Engine({ setup, workerOptions });
  await here.ready;
  const echo = await bare();
  let drawn = 0;
  const draw = (e, dispatch) => (++drawn % 52 === 0 ? dispatch.call(e, 'stack:reset') : dispatch.call(e, 'stack:draw', { count: 1 }));
  const onWorker = () => draw(engine, engine.dispatchAsync);
  const result = { start: median(starts), startAlone: median(alone) };
  // They are measured in turn, several times, so that other work of the machine slows all of them alike.
  const rounds = [];
  for (let k = 0; k < 3; k++) {
    const r = {};
    r.bare = await times(echo.ping, most);
    r.log = await times(() => engine.dispatchAsync('debug:log'), most);
    r.dispatch = await times(onWorker, most);
    r.five = await times(() => Promise.all([onWorker(), onWorker(), onWorker(), onWorker(), onWorker()]), most);
    r.here = await times(() => draw(here, here.dispatch), most);
    r.bareRate = await rate(echo.ping, most);
    r.rate = await rate(onWorker, most);
    rounds.push(r);
  }
  const middle = (f) => median(rounds.map(f));
  for (const name of ['bare', 'log', 'dispatch', 'five', 'here']) result[name] = { p50: middle((r) => r[name].p50), p95: middle((r) => r[name].p95) };
  for (const name of ['bareRate', 'rate']) result[name] = middle((r) => r[name]);
  await echo.end();
  await engine.shutdown();
  await here.shutdown();
  return result;
}

/** A worker that sends every message back. It works with the Worker of pages and with Node's. */
export function pinger(worker) {
  const waiting = [];
  const back = () => waiting.shift()();
  if (worker.on) worker.on('message', back);
  else worker.onmessage = back;
  const bare = new Uint8Array(32);
  return {
    ping: (message = bare) => new Promise((resolve) => {
      waiting.push(resolve);
      worker.postMessage(message);
    }),
    end: () => worker.terminate(),
  };
}
