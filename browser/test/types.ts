// Checked, not run: the declarations say what the package has, and refuse what it has not.

import { Engine, getEnvironment, Host, HyperTokenError, supportsWorkers, UniversalWorker, type ErrorCode, type Outcome, type WorkerOptions } from 'hypertoken-worker';

type Card = { id: string };

export async function everything(core: WebAssembly.Module, more: AbortSignal): Promise<void> {
  const workerOptions: WorkerOptions = {
    workers: 2, debug: true, timeout: 0, enableBatching: true, batchWindow: 10, workerPath: '/workers/hypertoken.worker.js', wasmPath: new URL('https://games.example/'),
    core, clock: () => 0, entropy: () => new Uint8Array(16), logger: console, startTimeout: 1, killGrace: 1, maxRestarts: 1, restartWindow: 1, maxQueue: 1,
    maxPayload: 1, maxResult: 1, maxStateBytes: 1, maxDepth: 1, snapshotBytes: 1, replayBudget: 1,
  };
  await using engine = new Engine({ useWorker: true, setup: { stack: [{ id: 'a' }] }, workerOptions });
  await engine.ready;
  const drawn = await engine.dispatchAsync<Card[]>('stack:draw', { count: 1 }, { signal: more, timeout: 10, now: 0, entropy: new Uint8Array(16) });
  const id: string = drawn[0].id;
  const again: Card[] = await engine.dispatch<Card[]>('stack:draw');
  const results: any[] = await engine.dispatchBatch([{ type: 'stack:draw' }, { type: 'stack:peek', payload: null }]);
  const outcomes: Outcome<Card[]>[] = await engine.dispatchBatch([{ type: 'stack:draw' }], { mode: 'independent' });
  const error: HyperTokenError | undefined = outcomes[0].error;
  const code: ErrorCode | undefined = error?.code, index: number | undefined = error?.index;
  const off: () => void = engine.on('state:updated', (e) => e.sequence.toFixed());
  engine.on('engine:error', (e) => e.error.code);
  engine.on('*', (e) => e.name);
  engine.off('*', off);
  const state: { stack: object } = await engine.state();
  const digest: string = await engine.digest({ timeout: 1 });
  const bytes: Uint8Array = await engine.snapshot();
  const place: 'worker' | 'main thread' | 'nowhere' = engine.place;

  const host = new Host({ workers: 4 });
  const other = new Engine({ host, snapshot: bytes });
  const counts: number[] = [host.stats.died, host.stats.killed, host.stats.placed, host.stats.fallbacks, host.stats.here, host.stats.inFlight, host.stats.workers[0].engines];
  await other.shutdown({ timeout: 1 });
  await host.shutdown();

  const worker = new UniversalWorker(workerOptions);
  await worker.init({ setup: {} });
  await worker.dispatch('stack:draw');
  worker.on('engine:action', (e) => e.type);
  await worker.terminate();
  console.log(id, again, results, code, index, state, digest, place, counts, worker.environment, worker.engine?.sequence, getEnvironment() === 'node', supportsWorkers());

  // @ts-expect-error an option that there is not
  new Engine({ useWorkers: true });
  // @ts-expect-error a mode that there is not
  await engine.dispatchBatch([], { mode: 'best effort' });
  // @ts-expect-error milliseconds are a number
  await engine.dispatchAsync('stack:draw', {}, { timeout: '10' });
}
