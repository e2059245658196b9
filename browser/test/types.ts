// Uses all that index.d.ts declares; tsc checks it, and that what must not compile does not.

import {
  Engine, getEnvironment, Host, HyperTokenError, supportsWorkers, UniversalWorker,
  type Action, type ActionDetail, type ActionOptions, type BatchOptions, type CoreErrorCode, type EngineOptions, type Events, type HostErrorCode,
  type HostStats, type Outcome, type Payload, type Value, type WorkerOptions, type WorkerStats,
} from 'hypertoken-worker';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>) => {};

export async function everything(core: WebAssembly.Module) {
  const workerOptions: Required<WorkerOptions> = {
    workers: 2, debug: true, timeout: 30_000, enableBatching: true, batchWindow: 10, workerPath: new URL('file:///w.js'), wasmPath: '/wasm/', core,
    startTimeout: 1, killGrace: 1, maxRestarts: 1, restartWindow: 1, maxQueue: 1, maxPayload: 1, maxStateBytes: 1, maxResult: 1, maxDepth: 1,
    snapshotBytes: 1, replayBudget: 1, clock: () => 0, entropy: () => new Uint8Array(16), logger: console,
  };
  const options: EngineOptions = { useWorker: true, setup: { stack: [{ id: 'a' }] }, workerOptions };
  await using engine = new Engine(options);
  await engine.ready;
  same<typeof engine.place, 'worker' | 'main thread' | 'nowhere'>(true);
  const sequence: number = engine.sequence;

  const payload: Payload = { count: 1 }, value: Value = { a: [1, 'b', null, true] };
  const action: ActionOptions = { signal: new AbortController().signal, timeout: 5, now: sequence, entropy: new Uint8Array(16) };
  const drawn = await engine.dispatchAsync<{ id: string }[]>('stack:draw', payload, action);
  same<typeof drawn, { id: string }[]>(true);
  await engine.dispatchAsync('stack:shuffle');
  await engine.dispatch('stack:peek', { value });
  const actions: Action[] = [{ type: 'stack:draw', payload, now: 1, entropy: new Uint8Array(16) }];
  const all = await engine.dispatchBatch<string>(actions);
  same<typeof all, string[]>(true);
  const each = await engine.dispatchBatch<string>(actions, { mode: 'independent', timeout: 1 });
  same<typeof each, Outcome<string>[]>(true);
  for (const o of each) (o.error ? o.error.code : o.result).toUpperCase();
  const batch: BatchOptions = { mode: 'atomic' };

  const state = await engine.state<{ stack: object }>({ timeout: 1 });
  const digest: string = await engine.digest();
  const snapshot: Uint8Array = await engine.snapshot();
  const off = engine.on('state:updated', (e) => {
    same<typeof e.payload, ActionDetail>(true);
    same<typeof e.sequence, number>(true);
    same<typeof e.name, 'state:updated'>(true);
  });
  off();
  engine.on('engine:error', ({ error, payload }) => `${error.code satisfies HostErrorCode | CoreErrorCode | string} ${payload.error.index} ${payload.type}`);
  engine.on('engine:shutdown', () => {});
  const listener = (e: { name: string; payload: any }) => console.log(e.name, e.payload);
  engine.on('*', listener);
  engine.on('item:processed', ({ payload }) => payload);
  engine.off('*', listener);
  same<keyof Events, 'state:updated' | 'engine:action' | 'engine:error' | 'engine:shutdown'>(true);

  await using host = new Host(workerOptions);
  const shared = new Engine({ host, snapshot });
  same<typeof shared.host, Host>(true);
  const stats: HostStats = host.stats, worker: WorkerStats | undefined = stats.workers[0];
  await shared.shutdown();
  await host.shutdown({ timeout: 1000 });

  await using universal = new UniversalWorker({ debug: true });
  await universal.init({ setup: {} });
  same<typeof universal.environment, 'node' | 'browser'>(true);
  universal.on('engine:action', ({ result }) => result);
  await universal.dispatch('stack:draw', { count: 1 });
  const own: Engine | null = universal.engine;
  await universal.terminate();

  const error = new HyperTokenError('mine', 'because', { cause: 5, index: 1 });
  const environment: 'node' | 'browser' = getEnvironment(), workers: boolean = supportsWorkers();

  await engine.dispatchAsync('stack:peek', new Map([['count', 1]]));
  // @ts-expect-error keys are strings
  engine.dispatchAsync('stack:peek', new Map([[1, 1]]));

  // @ts-expect-error there is no such option
  new Engine({ useWorkers: true });
  // @ts-expect-error nor this one
  new Host({ timeouts: 5 });
  // @ts-expect-error a payload is an object
  engine.dispatchAsync('stack:draw', 5);
  // @ts-expect-error there are two modes
  engine.dispatchBatch(actions, { mode: 'some' });
  // @ts-expect-error it is read only
  engine.sequence = 5;
  // @ts-expect-error an atomic batch has results
  all[0].error;
  return { batch, state, digest, worker, own, error, environment, workers };
}
