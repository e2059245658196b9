// Uses all that index.d.ts declares, in a project that has the DOM library; tsc checks it. wrong.ts has what must not compile.

import {
  deleteGame, Engine, exportGame, getEnvironment, Host, HyperTokenError, importGame, savedGames, supportsWorkers, UniversalWorker,
  type Action, type ActionDetail, type ActionInfo, type ActionName, type ActionOf, type ActionOptions, type Actions, type Agent, type AnyActions, type BatchOptions,
  type CoreErrorCode, type EngineOptions, type Events, type HostErrorCode, type HostStats, type JournalOptions, type Outcome, type Payload, type PayloadOf, type PersistOptions, type Placement, type Position, type ResultOf, type RewindDetail, type SavedGame, type Setup, type State,
  type Token, type Value, type WorkerOptions, type WorkerStats,
} from 'hypertoken-worker';
import { RemoteEngine } from 'hypertoken-worker/client';
import { useEngine, useEngineState } from 'hypertoken-worker/react';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>) => {};

export async function everything(core: WebAssembly.Module) {
  const workerOptions: Required<WorkerOptions> = {
    workers: 2, worker: () => new Worker('w.js'), debug: true, timeout: 30_000, enableBatching: true, batchWindow: 10, workerPath: new URL('file:///w.js'), wasmPath: '/wasm/', core,
    startTimeout: 1, killGrace: 1, maxRestarts: 1, restartWindow: 1, maxAttempts: 1, maxQueue: 1, maxQueueBytes: 1, maxInstances: 1, idleAfter: 1, maxPayload: 1, maxStateBytes: 1, maxResult: 1, maxDepth: 1,
    snapshotBytes: 1, replayBudget: 1, clock: () => 0, entropy: () => new Uint8Array(16), logger: console,
  };
  const options: EngineOptions = { useWorker: true, history: true, setup: { stack: [{ id: 'a' }] }, workerOptions };
  await using engine = new Engine(options);
  await engine.ready;
  same<typeof engine.place, 'worker' | 'main thread' | 'another tab' | 'nowhere'>(true);
  const sequence: number = engine.sequence;
  same<ReturnType<typeof engine.drained>, Promise<void>>(true);

  const payload: Payload = { count: 1 }, value: Value = { a: [1, 'b', null, true] };
  const action: ActionOptions = { signal: new AbortController().signal, timeout: 5, now: sequence, entropy: new Uint8Array(16) };
  const drawn = await engine.dispatchAsync('stack:draw', { count: 1 }, action);
  same<typeof drawn, Token[]>(true);
  await engine.dispatchAsync('stack:shuffle');
  await engine.dispatch('debug:log', { value });
  const actions: ActionOf[] = [{ type: 'stack:draw', payload: { count: 1 }, now: 1, entropy: new Uint8Array(16) }];
  await engine.dispatchBatch(actions);
  const batch: BatchOptions = { mode: 'atomic' };

  const state = await engine.state<{ stack: object }>({ timeout: 1 });
  const digest: string = await engine.digest();
  const snapshot: Uint8Array = await engine.snapshot();
  const span: JournalOptions = { from: 0, to: sequence, timeout: 1, signal: null };
  for await (const line of engine.journal(span)) same<typeof line, string>(true);
  for (const at of [engine.revert(0, { timeout: 1 }), engine.undo(), engine.redo()]) same<typeof at, Promise<Position>>(true);
  const past: State = await engine.stateAt(0), then: string = await engine.digestAt(sequence, { timeout: 1 });
  engine.on('engine:action', (e) => {
    if (e.payload.type === 'undo') same<typeof e.payload, RewindDetail>(true);
  });
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
  engine.off('*', listener);
  same<keyof Events, 'state:updated' | 'engine:action' | 'engine:error' | 'engine:shutdown'>(true);

  const persist: Required<PersistOptions> = { durability: 'relaxed', formerCores: ['/cores/1.wasm', new URL('file:///2.wasm'), new ArrayBuffer(8)] };
  await using kept = new Engine({ name: 'table', persist, history: true });
  same<typeof kept, Engine>(true);
  const games: SavedGame[] = await savedGames(), { name, sequence: newest, bytes, created, updated } = games[0]!;
  console.log(name, newest + bytes, created.getTime(), updated.getTime());
  const file: Blob = await exportGame('table', { wasmPath: '/wasm/', formerCores: ['/cores/1.wasm'] });
  const { digest: imported }: { digest: string } = await importGame('copy', file, { core });
  await importGame(imported, { text: async () => '' });
  await deleteGame('copy');

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

  return { batch, payload, state, past, then, digest, worker, own, error, environment, workers };
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
    { type: 'stack:draw', payload: { count: 1 } }, { type: 'agent:create', payload: { name: 'bob' }, now: 5 }, { type: 'stack:shuffle' },
  ]);
  same<typeof some, Token[]>(true);
  same<typeof ada, Agent>(true);
  same<typeof other, null>(true);
  const [each] = await engine.dispatchBatch([{ type: 'stack:draw' }], { mode: 'independent' });
  same<typeof each, Outcome<Token[]>>(true);
  const agents = await engine.dispatchBatch(['a', 'b'].map((n) => ({ type: 'agent:create' as const, payload: { name: n } })));
  same<typeof agents, Agent[]>(true);
  const mixed: ActionOf[] = [{ type: 'stack:draw', payload: { count: 1 } }, { type: 'agent:create', payload: { name: 'eve' } }];
  await engine.dispatchBatch(mixed);
  const state = await engine.state();
  same<typeof state, State>(true);
  const setup: Setup = { stack: [{ id: 'a', meta: { suit: 'spades' } }] };
  new Engine({ setup, workerOptions: {} });
  new Engine({ setup: { stack: drawn } });


  // Tokens, setups and payloads may be interfaces of one's own.
  interface Card { id: string; suit: 'hearts' | 'spades'; rank: number }
  interface Draw { count: number }
  const card: Card = { id: 'a', suit: 'spades', rank: 1 }, draw: Draw = { count: 1 };
  new Engine({ setup: { stack: [card] } });
  await engine.dispatchAsync('space:place', { zone: 'table', card });
  await engine.dispatchAsync('stack:draw', draw);
  await engine.dispatchAsync('game:setProperty', { key: 'card', value: card });

  // What is told of an action is known once its type is.
  engine.on('engine:action', (e) => {
    if (e.type !== 'stack:draw') return;
    same<typeof e.result, Token[]>(true);
    const { payload: told } = e;
    if (told.type === 'stack:draw') told.payload?.count?.toFixed();
  });
  engine.on('state:updated', ({ payload: told }) => {
    if (told.type === 'agent:create') same<typeof told.result, Agent>(true);
  });
  const detail: ActionDetail = { type: 'stack:draw', payload: { count: 1 }, result: [], sequence: 1 };

  const described: ActionInfo[] = await engine.actions();
  described[0]?.fields[0]?.shape?.toUpperCase();
  return { detail };
}

/** The state for user interfaces. */
export function shown(engine: Engine, useSyncExternalStore: <T>(subscribe: (f: () => void) => () => void, read: () => T) => T) {
  same<typeof engine.current, State | undefined>(true);
  const stop = engine.subscribe(() => engine.current?.stack?.drawn.length);
  stop();
  const state = useSyncExternalStore(engine.subscribe, () => engine.current);
  same<typeof state, State | undefined>(true);

  const own = useEngine(() => new Engine({ useWorker: true }), [1]);
  same<typeof own, Engine | null>(true);
  own?.dispatchAsync('stack:draw');
  const all = useEngineState(own), hand = useEngineState(own, (s) => s.stack?.drawn ?? []);
  same<typeof all, State | undefined>(true);
  same<typeof hand, Token[] | undefined>(true);
  interface Chess { 'chess:move': { payload: { to: string }; result: number } }
  const chess = useEngine(() => new Engine<Chess, { turn: number }>());
  const turn = useEngineState(chess, (s) => s.turn);
  same<typeof turn, number | undefined>(true);
}

/** Actions of any names. */
export async function anything(engine: Engine<AnyActions>, type: string) {
  interface Move { to: string }
  const move: Move = { to: 'e4' };
  const moved = await engine.dispatchAsync('chess:move', move);
  same<typeof moved, any>(true);
  const drawn = await engine.dispatchAsync('stack:draw', { count: 1 });
  same<typeof drawn, Token[]>(true);
  const counted = await engine.dispatchAsync<number>('chess:count', new Map([['of', 'pawns']]));
  same<typeof counted, number>(true);
  await engine.dispatchAsync(type, { to: 'e4' });
  same<AnyActions['stack:draw'], Actions['stack:draw']>(true);

  const actions: Action[] = [{ type: 'stack:draw', payload: move, now: 1, entropy: new Uint8Array(16) }, { type: 'chess:move' }];
  const all = await engine.dispatchBatch<string>(actions);
  same<typeof all, string[]>(true);
  const results = await engine.dispatchBatch(actions);
  same<typeof results, any[]>(true);
  const each = await engine.dispatchBatch<string>(actions, { mode: 'independent', timeout: 1 });
  same<typeof each, Outcome<string>[]>(true);
  for (const o of each) (o.error ? o.error.code : o.result).toUpperCase();
  const [drew, other] = await engine.dispatchBatch([{ type: 'stack:draw', payload: { count: 1 } }, { type: 'chess:move', payload: { to: ['e', 4] } }]);
  same<typeof drew, Token[]>(true);
  same<typeof other, any>(true);

  engine.on('item:processed', ({ payload }) => payload.item);
  engine.on('engine:action', ({ result }) => result);
  new Engine<AnyActions>({ setup: { board: [1, 2] } });
}

/** A core of one's own: the names of its tables only. */
export async function own() {
  interface Chess { 'chess:move': { payload: { to: string }; result: number }; 'stack:draw': Actions['stack:draw'] }
  interface Raised { 'chess:check': { by: string } }
  interface Board { size: number }
  const chess = new Engine<Chess, { turn: number }, Raised, Board>({ setup: { size: 8 } });
  const result = await chess.dispatchAsync('chess:move', { to: 'e4' });
  same<typeof result, number>(true);
  const [first] = await chess.dispatchBatch([{ type: 'chess:move', payload: { to: 'e4' } }]);
  same<typeof first, number>(true);
  (await chess.state()).turn.toFixed();
  chess.on('chess:check', ({ by, payload }) => {
    same<typeof by, string>(true);
    same<typeof payload, { by: string }>(true);
  });
  chess.on('engine:action', (e) => e.type === 'chess:move' && e.result.toFixed());
  chess.on('*', ({ name, payload }) => [name, payload]);

  const loose: Engine<any, any> = chess;
  await loose.dispatchAsync('anything', { at: 'all' });
  await loose.dispatchBatch([{ type: 'anything', payload: { at: 'all' } }]);

  const worker = new UniversalWorker<Chess>();
  const told = await worker.dispatch('chess:move', { to: 'e4' });
  same<typeof told, number>(true);
}

export async function remote() {
  const table = new RemoteEngine(['https://a.example', new URL('https://b.example')], { engine: 'table', setup: { stack: [{ id: 'a' }] }, discover: true });
  await table.ready;
  const servers: string[] = table.servers;
  const drawn: Token[] = await table.dispatchAsync('stack:draw', { count: 5 }, { key: 'k', ifSequence: table.sequence });
  await table.dispatchAsync('stack:shuffle');
  const stack: Token[] | undefined = (await table.state()).stack?.stack;
  const before: Token[] | undefined = (await table.stateAt(1)).stack?.stack;
  const old: string = await table.digestAt(1);
  const outcomes = await table.dispatchBatch([{ type: 'stack:draw' }, { type: 'stack:peek', payload: { count: 1 } }], { mode: 'independent' });
  const { sequence, digest } = await table.undo();
  // @ts-expect-error there is no such action
  await table.dispatchAsync('stack:drow');
  // @ts-expect-error count is a number
  await table.dispatchAsync('stack:draw', { count: '5' });
  table.onConnection(({ server, error }) => error?.code ?? server);
  return [servers, drawn, stack, before, old, outcomes[0]?.error?.code, sequence, digest, await table.shutdown({ timeout: 5 })];
}
