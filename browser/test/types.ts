// Uses all that index.d.ts declares; tsc checks it, and that what must not compile does not.

import {
  Engine, getEnvironment, Host, HyperTokenError, supportsWorkers, UniversalWorker,
  type Action, type ActionDetail, type ActionName, type ActionOf, type ActionOptions, type Actions, type Agent, type AnyActions, type BatchOptions, type CoreErrorCode,
  type EngineOptions, type Events, type HostErrorCode, type HostStats, type Outcome, type Payload, type PayloadOf, type Placement, type ResultOf, type Setup, type State,
  type Token, type Value, type WorkerOptions, type WorkerStats,
} from 'hypertoken-worker';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>) => {};

export async function everything(core: WebAssembly.Module) {
  const workerOptions: Required<WorkerOptions> = {
    workers: 2, worker: () => new Worker("w.js"), debug: true, timeout: 30_000, enableBatching: true, batchWindow: 10, workerPath: new URL('file:///w.js'), wasmPath: '/wasm/', core,
    startTimeout: 1, killGrace: 1, maxRestarts: 1, restartWindow: 1, maxAttempts: 1, maxQueue: 1, maxQueueBytes: 1, maxInstances: 1, idleAfter: 1, maxPayload: 1, maxStateBytes: 1, maxResult: 1, maxDepth: 1,
    snapshotBytes: 1, replayBudget: 1, clock: () => 0, entropy: () => new Uint8Array(16), logger: console,
  };
  const options: EngineOptions = { useWorker: true, setup: { stack: [{ id: 'a' }] }, workerOptions };
  await using engine = new Engine(options);
  await engine.ready;
  same<typeof engine.place, 'worker' | 'main thread' | 'nowhere'>(true);
  const sequence: number = engine.sequence;
  same<ReturnType<typeof engine.drained>, Promise<void>>(true);

  const payload: Payload = { count: 1 }, value: Value = { a: [1, 'b', null, true] };
  const action: ActionOptions = { signal: new AbortController().signal, timeout: 5, now: sequence, entropy: new Uint8Array(16) };
  const drawn = await engine.dispatchAsync<{ id: string }[]>('stack:draw', payload, action);
  same<typeof drawn, { id: string }[]>(true);
  await engine.dispatchAsync('stack:shuffle');
  await engine.dispatch('debug:log', { value });
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

/** The actions of the built-in core, by their names. */
export async function builtIn(engine: Engine) {
  const drawn = await engine.dispatchAsync('stack:draw', { count: 2 });
  same<typeof drawn, Token[]>(true);
  const now = engine.dispatch('stack:draw', { count: 2 });
  same<typeof now, Token[] | Promise<Token[]>>(true);
  const agent = await engine.dispatchAsync('agent:create', { name: 'ada' }, { timeout: 5 });
  same<typeof agent, Agent>(true);
  const placed = await engine.dispatchAsync('space:place', { zone: 'table', card: drawn[0] });
  same<typeof placed, Placement | null>(true);
  await engine.dispatchAsync('stack:reset');
  await engine.dispatchAsync('stack:reset', {}, { timeout: 5 });
  await engine.dispatchAsync('stack:shuffle', null, { timeout: 5 });
  same<ResultOf<'tokens:count'>, number>(true);
  const name: ActionName = 'stack:draw', payload: PayloadOf<'stack:draw'> = { count: 1 };
  await engine.dispatchAsync(name, payload);

  const [some, ada, other] = await engine.dispatchBatch([
    { type: 'stack:draw', payload: { count: 1 } }, { type: 'agent:create', payload: { name: 'bob' }, now: 5 }, { type: 'chess:move', payload: { to: ['e', 4] } },
  ]);
  same<typeof some, Token[]>(true);
  same<typeof ada, Agent>(true);
  same<typeof other, any>(true);
  const [each] = await engine.dispatchBatch([{ type: 'stack:draw' }], { mode: 'independent' });
  same<typeof each, Outcome<Token[]>>(true);
  const agents = await engine.dispatchBatch(['a', 'b'].map((n) => ({ type: 'agent:create' as const, payload: { name: n } })));
  same<typeof agents, Agent[]>(true);
  const mixed: ActionOf[] = [{ type: 'stack:draw', payload: { count: 1 } }, { type: 'agent:create', payload: { name: 'eve' } }];
  await engine.dispatchBatch(mixed);
  const any: Action[] = [{ type: 'stack:draw' }, { type: 'chess:move' }];
  const results = await engine.dispatchBatch(any);
  same<typeof results, any[]>(true);

  const state = await engine.state();
  same<typeof state, State>(true);
  const setup: Setup = { stack: [{ id: 'a', meta: { suit: 'spades' } }] };
  new Engine({ setup, workerOptions: {} });
  new Engine({ setup: { stack: drawn } });

  // @ts-expect-error a member that the action does not have
  engine.dispatchAsync('stack:draw', { cuont: 2 });
  // @ts-expect-error a member of another type
  engine.dispatchAsync('stack:draw', { count: '2' });
  // @ts-expect-error a member is missing
  engine.dispatchAsync('agent:create', {});
  // @ts-expect-error the payload is missing
  engine.dispatchAsync('agent:create');
  // @ts-expect-error it has no payload
  engine.dispatchAsync('stack:reset', { count: 1 });
  // @ts-expect-error the result is of another type
  const wrong: Agent = await engine.dispatchAsync('stack:draw');
  // @ts-expect-error the same without a worker
  engine.dispatch('stack:draw', { count: '2' });
  // @ts-expect-error a member of a batch, with a member of another type
  engine.dispatchBatch([{ type: 'stack:draw', payload: { count: '1' } }]);
  // @ts-expect-error a member of a batch, without its payload
  engine.dispatchBatch([{ type: 'agent:create' }], { mode: 'independent' });
  // @ts-expect-error a member of a batch has no such key
  engine.dispatchBatch([{ type: 'stack:draw', pyload: {} }]);
  // @ts-expect-error a section is of another type
  new Engine({ setup: { stack: 5 } });
  return wrong;
}

/** A core of one's own: all names, or those of its table only. */
export async function own(engine: Engine, type: string) {
  const moved = await engine.dispatchAsync('chess:move', { to: 'e4' });
  same<typeof moved, any>(true);
  const counted = await engine.dispatchAsync<number>('chess:count', new Map([['of', 'pawns']]));
  same<typeof counted, number>(true);
  await engine.dispatchAsync(type, { to: 'e4' });
  same<AnyActions['stack:draw'], Actions['stack:draw']>(true);
  // @ts-expect-error a payload is an object
  engine.dispatchAsync('chess:move', 'e4');
  // @ts-expect-error keys are strings
  engine.dispatchAsync('chess:move', new Map([[1, 1]]));

  interface Chess { 'chess:move': { payload: { to: string }; result: number }; 'stack:draw': Actions['stack:draw'] }
  const chess = new Engine<Chess, { turn: number }>();
  const result = await chess.dispatchAsync('chess:move', { to: 'e4' });
  same<typeof result, number>(true);
  const [first] = await chess.dispatchBatch([{ type: 'chess:move', payload: { to: 'e4' } }]);
  same<typeof first, number>(true);
  (await chess.state()).turn.toFixed();
  // @ts-expect-error there is no such action
  chess.dispatchAsync('chess:mvoe', { to: 'e4' });
  // @ts-expect-error its payload is another
  chess.dispatchAsync('chess:move', { to: 5 });
  // @ts-expect-error there is no such action
  chess.dispatchBatch([{ type: 'chess:mvoe' }]);
  // @ts-expect-error the built-in actions are those of its table
  new Engine<Actions>().dispatchAsync('stack:drew');

  const loose: Engine<any, any> = chess;
  await loose.dispatchAsync('anything', { at: 'all' });
  await loose.dispatchBatch([{ type: 'anything', payload: { at: 'all' } }]);

  const worker = new UniversalWorker<Chess>();
  const told = await worker.dispatch('chess:move', { to: 'e4' });
  same<typeof told, number>(true);
  // @ts-expect-error there is no such action
  worker.dispatch('chess:mvoe', { to: 'e4' });
}
