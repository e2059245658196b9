// Types of hypertoken-worker. README.md lists the codes of errors.

/// <reference lib="esnext.disposable" />
// AsyncDisposable is in no older lib, and a project may have any. No type here needs the DOM library or those of Node.

import type { Actions, Setup, State } from './actions.js';

export type * from './actions.js';

/** An AbortSignal, as pages and Node have it. */
export interface Signal {
  readonly aborted: boolean;
  readonly reason?: any;
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

/** A URL, as pages and Node have it. */
export interface Address { readonly href: string }

/** The part of a console that warnings and the log go to. */
export interface Logger {
  debug(...data: any[]): void;
  warn(...data: any[]): void;
}

/** Says of a table of actions that there are others, which it does not list. */
declare const others: unique symbol;

/**
 * The actions of the built-in core with their types, and actions of any other name with payloads and results of any type:
 * `Engine<AnyActions>` is for a core of your own whose types you have not generated, and for names that are known only when the program runs.
 */
export interface AnyActions extends Actions { readonly [others]?: true }

/** Events of any names, with payloads of any types. */
export interface AnyEvents { [name: string]: any }

type Name<A> = keyof A & string;
type PayloadIn<A, N extends Name<A>> = A[N] extends { payload: infer P } ? P : never;
type ResultIn<A, N extends Name<A>> = A[N] extends { result: infer R } ? R : never;

/** B, without that the compiler infers B from the argument. */
type Given<B> = [B][B extends any ? 0 : never];

/** A name that is not in a table; none, if the table has no others. */
type OtherName<A, N extends string> = typeof others extends keyof A ? (N extends Name<A> ? never : N) : never;

/** A payload that has to be given only if it has a member that has to be. */
type Rest<P> = {} extends P ? [payload?: P | null, options?: ActionOptions] : [payload: P, options?: ActionOptions];
type PayloadMember<P> = {} extends P ? { payload?: P | null } : { payload: P };

/**
 * A payload: an object of any type or interface, or a Map whose keys are strings. Members that are undefined are left out. Everything in it
 * that is none of the core's values is refused with `bad_input`: README.md, "Values".
 */
export type Payload = { readonly [key: string]: unknown } | ReadonlyMap<string, unknown> | PlainObject;

/** An object that is no array, Map, Promise or buffer: those have one of these members. */
export type PlainObject = object & { readonly [Symbol.iterator]?: never; readonly [Symbol.toStringTag]?: never };

/**
 * The codes of errors of the host and of a worker: README.md says what each means. `poisoned` is an action that killed its worker each time
 * that it ran alone, `maxAttempts` times. `broken` is an engine that could not be placed; `cause` says why.
 */
export type HostErrorCode =
  | 'bad_input' | 'timeout' | 'canceled' | 'overloaded' | 'payload_too_large' | 'batch_aborted' | 'poisoned' | 'worker_unavailable'
  | 'broken' | 'diverged' | 'shutdown' | 'trap' | 'out_of_memory' | 'not_placed' | 'store_full' | 'store_refused' | 'moved' | 'core_mismatch'
  | 'outcome_unknown' | 'engine_exists' | 'engine_not_found' | 'conflict' | 'history_trimmed';

/** The codes of the core's own errors. A core of your own may have others. */
export type CoreErrorCode =
  | 'unknown_action' | 'bad_payload' | 'out_of_range' | 'not_found' | 'exists' | 'insufficient' | 'too_large' | 'too_deep' | 'bad_state'
  | 'bad_snapshot' | 'bad_request';

/** An error of an action, of its worker or of its host. Whatever its code, the action had no effect; `outcome_unknown` is the one exception. */
export class HyperTokenError extends Error {
  constructor(code: string, message: string, more?: { cause?: unknown; index?: number });
  readonly name: 'HyperTokenError';
  /** It is stable, and the same as in Go. */
  readonly code: HostErrorCode | CoreErrorCode | (string & {});
  /** Which member of a batch failed or was refused, from 0; -1 if the error is none of a member. */
  readonly index: number;
  readonly cause?: unknown;
}

/** A worker that an application makes: a Web Worker, or a worker thread of Node. */
export interface WorkerLike {
  postMessage(message: any, transfer?: any): void;
  terminate(): unknown;
}

/**
 * Options of a host and its workers. Numbers are integers. A number out of its bounds is an error, `bad_input`, and so is an option that does
 * not exist. Times are in milliseconds, and at most 2147483647 unless another bound is given.
 */
export interface WorkerOptions {
  /** How many workers there are, 0 to 1024. 0 runs engines on the main thread. Default 1. */
  workers?: number;
  /** Logs starts and ends of workers, with `logger.debug`. Default false. */
  debug?: boolean;
  /** How long an action may take from its dispatch, in milliseconds; 0 is no limit. Afterwards it fails with `timeout`. Default 30000. */
  timeout?: number;
  /** Gathers the actions of an engine within `batchWindow` into one atomic batch: they succeed or fail together. Default false. */
  enableBatching?: boolean;
  /** How long a batch waits for more actions after its first one, in milliseconds, 0 to 60000. Default 10. */
  batchWindow?: number;
  /**
   * Makes each worker, in place of `workerPath`. A bundler that builds workers recognizes
   * `() => new Worker(new URL('hypertoken-worker/worker', import.meta.url), { type: 'module' })`.
   */
  worker?: () => WorkerLike;
  /** The address of the worker's script; in Node a path too. Default that of the package. */
  workerPath?: string | Address;
  /** The folder of core.wasm, or a file that ends in .wasm; in Node a path too, relative to the current folder. Default that of the package. */
  wasmPath?: string | Address;
  /** The core itself, instead of `wasmPath`: a WebAssembly.Module, or its bytes as an ArrayBuffer or a view of one. */
  core?: object;
  /** How long a worker may take to start, and to answer each piece of the placing of an engine, in milliseconds, at least 1. Default 10000. */
  startTimeout?: number;
  /**
   * How long a worker may go on with a request for which no caller waits any more, in milliseconds, 0 to 60000. Then it is killed, and
   * another one takes its place. Default 250.
   */
  killGrace?: number;
  /**
   * How many deaths of a worker within `restartWindow`, or failed starts in a row, are allowed, 0 to 1000000. After one more the worker is
   * given up: it is tried again after 1 s, then after 2 s, at most after 60 s. A worker that was never ready is given up at its first
   * failure. Default 5.
   */
  maxRestarts?: number;
  /** The time over which the deaths of a worker are counted, in milliseconds, 1 to 1000000000. Default 10000. */
  restartWindow?: number;
  /**
   * How many workers may die while a request runs alone before the request fails with `poisoned`, and how many placings of an engine may
   * fail in a row before the engine is `broken`, 1 to 100. The first death, while other requests are at the worker, does not count. Default 2.
   */
  maxAttempts?: number;
  /** How many actions and questions may be unanswered, 1 to 1000000000; one more fails with `overloaded`. Default 16384. */
  maxQueue?: number;
  /**
   * How many bytes the actions and questions that are unanswered may take, 1 KiB to 1 PiB; one that does not fit fails with `overloaded`.
   * Each takes its payload and its name, and 540 bytes more. One that is larger than this has room if there is no other. Default 64 MiB.
   */
  maxQueueBytes?: number;
  /**
   * How many engines may have an instance of the core at once, 1 to 1000000. All hosts of a page count together. Beyond it, the engine that
   * was idle longest is taken out: its next action places it again, from its journal. Browsers have room for some hundred instances in a
   * tab. Default 64, in Node 1024.
   */
  maxInstances?: number;
  /** How long an engine may be idle before it is taken out, in milliseconds; 0 for any time. Default 300000. */
  idleAfter?: number;
  /** How large a payload, or the payloads of a batch together, may be, in bytes, at most 32 MiB; a larger one is `payload_too_large`. Default 16 MiB. */
  maxPayload?: number;
  /** How large an engine's state may be, in logical bytes, at most 1 TiB; a larger one is `too_large`. Default 256 MiB. */
  maxStateBytes?: number;
  /** How large a result, or the results of a batch together, may be, in bytes, at most 64 MiB; a larger one is `too_large`. Default 16 MiB. */
  maxResult?: number;
  /** How deep values may be nested, 1 to 128; deeper ones are `too_deep`. Default 64. */
  maxDepth?: number;
  /** A snapshot replaces a journal that is larger than this, in bytes, and larger than the last snapshot, 1 to 1 TiB. Default 1 MiB. */
  snapshotBytes?: number;
  /** A snapshot replaces a journal whose actions have run longer than this, in milliseconds, 1 to 1000000000. Default 250. */
  replayBudget?: number;
  /** The clock of actions, in whole milliseconds since the epoch. Default Date.now. */
  clock?: () => number;
  /** Returns 16 bytes for each action, from which shuffles and identifiers are made. Default crypto.getRandomValues. */
  entropy?: () => Uint8Array;
  /** Gets warnings and, with `debug`, the log of workers. Default console. */
  logger?: Logger;
}

/** How an engine begins: from a setup, or from a snapshot, but not from both. */
export interface Beginning<B = Setup> {
  /** The sections of the state that the engine begins with. Default none. Not together with `snapshot`. */
  setup?: B | null;
  /** The bytes of `snapshot()` of another engine, here or in Go. */
  snapshot?: Uint8Array;
}

export interface PersistOptions {
  /**
   * When an action counts as stored. 'strict': once the browser has handed it to the disk. 'relaxed': once the browser has handed it to the
   * operating system, which is faster; a loss of power may cost the actions of the last seconds. Default 'strict'.
   */
  durability?: 'strict' | 'relaxed';
  /**
   * The cores of earlier releases: the address of each .wasm file, or its bytes. A game that was played with one of them goes on with the
   * present core: that core replays it, on this thread, and what follows has the marker `upgrade` before it. Default none.
   */
  formerCores?: (string | Address | object)[];
}

export interface EngineOptions<B = Setup> extends Beginning<B> {
  /**
   * Keeps the whole journal, so that all steps can be undone, and all earlier states be had: in memory, or with `persist` in IndexedDB. Without
   * it, what follows the newest snapshot, revert, undo or redo is kept. Default false; for a saved game, as it was kept before. The history of a
   * game that was saved without it begins where the game is. With `false` a saved game loses its history at its next snapshot or rewind.
   */
  history?: boolean;
  /**
   * The name of the game, 1 to 200 characters, with `persist`. If this browser has a saved game of that name, the engine goes on from it, and
   * `setup` and `snapshot` are not used.
   */
  name?: string;
  /**
   * Keeps the game in this browser's IndexedDB: an action has its result only once it is stored. Engines of the same name, in all tabs, play one
   * game. Not in Node. Default false.
   */
  persist?: boolean | PersistOptions;
  /** Runs the engine on a worker. Default false. With `host` it may be left out, and has to agree with whether that has workers. */
  useWorker?: boolean;
  /** Options of the engine's own host. Not together with `host`. */
  workerOptions?: WorkerOptions;
  /** A host to share with other engines. */
  host?: Host;
}

export interface QuestionOptions {
  /** If it aborts before the outcome, the request fails with `canceled`, with the signal's reason as cause, and has no effect. */
  signal?: Signal | null;
  /** How long the request may take from its dispatch, in milliseconds; 0 or Infinity is no limit. Then it fails with `timeout`. Default the host's. */
  timeout?: number;
}

export interface JournalOptions extends QuestionOptions {
  /** The sequence of the first state. The lines begin with the nearest base at it or before it; 0 is all that is kept. Default the newest base. */
  from?: number;
  /** The sequence of the last line. Default the newest. */
  to?: number;
}

/** The state that a revert, an undo or a redo has led to. */
export interface Position {
  /** The sequence that it has now, which is the newest one. */
  sequence: number;
  digest: string;
}

export interface ActionOptions extends QuestionOptions {
  /** The action's clock, in whole milliseconds since the epoch. Default the host's `clock`. */
  now?: number;
  /** 16 bytes, from which shuffles and identifiers are made. Default the host's `entropy`. */
  entropy?: Uint8Array;
}

interface Timed {
  /** As those of `dispatchAsync`. */
  now?: number;
  entropy?: Uint8Array;
}

/** An action of a batch, of any type. */
export interface Action extends Timed {
  type: string;
  payload?: Payload | null;
}

/** An action of a batch whose payload is that of its type. */
export type ActionOf<A = Actions, N extends Name<A> = Name<A>> = { [K in N]: Timed & { type: K } & PayloadMember<PayloadIn<A, K>> }[N];

/** A member of a batch. Its payload is checked once its type is known. */
interface Member<A> extends Timed { type: Name<A> | (string & {}); payload?: object | null }
type Checked<A, M extends Member<A>> = M['type'] extends Name<A> ? ActionOf<A, M['type']> : OtherName<A, M['type']> extends never ? never : Action;
/** Any actions, if the type of their results is given. */
type Unchecked<T> = [T] extends [never] ? never : readonly Action[];
type ResultOfMember<A, M extends Member<A>> = M['type'] extends Name<A> ? ResultIn<A, M['type']> : any;

export interface BatchOptions extends QuestionOptions {
  /** Default atomic: all or nothing. */
  mode?: 'atomic' | 'independent';
}

/** The outcome of one member of an independent batch: its result, or its error. */
export type Outcome<T = any> = { result: T; error?: undefined } | { error: HyperTokenError; result?: undefined };

/** What is told of an action that is done. Once its `type` is known, so are the types of its payload and its result. */
export type ActionDetail<A = Actions> =
  | { [N in Name<A>]: DetailOf<N, PayloadIn<A, N>, ResultIn<A, N>> }[Name<A>]
  | RewindDetail
  | (typeof others extends keyof A ? DetailOf<string, Payload, any> : never);

interface DetailOf<N, P, R> {
  type: N;
  payload?: P | null;
  result: R;
  /** The sequence that the engine had then. */
  sequence: number;
  /** If the action is one of several in a batch that have changed the state: the sequence of the first. They are one step, which is undone as a whole. */
  batch?: number;
}

/** What is told of a revert, an undo or a redo. */
export interface RewindDetail extends DetailOf<'revert' | 'undo' | 'redo', undefined, { to: number; digest: string }> {
  /** `to` is the sequence of the state that it went back to. */
  result: { to: number; digest: string };
}

export interface ErrorDetail {
  error: HyperTokenError;
  /** The action's type, or 'batch'. undefined if the error is the engine's own. */
  type?: string;
}

/** The `payload` of each event that the engine raises itself, whatever its core. */
export interface Events<A = Actions> {
  /** An action is done and has changed the state. */
  'state:updated': ActionDetail<A>;
  /** An action is done. */
  'engine:action': ActionDetail<A>;
  /**
   * An action has failed, or the engine runs on the main thread because no worker can run: then the message says what to repair. If there is
   * no listener, the logger gets that message as a warning.
   */
  'engine:error': ErrorDetail;
  /** The engine is shut down. */
  'engine:shutdown': {};
}

/** An event as a listener gets it: the payload, and beside it the payload's members, but for those called name or payload. */
export type EngineEvent<N extends string = string, P = any> = P extends unknown ? Omit<P, 'name' | 'payload'> & { name: N; payload: P } : never;

/** An event of a core: its name is in the table E, and is none of the engine's own. */
type CoreEvent<E> = Exclude<keyof E & string, keyof Events>;

/** A field of a payload, as the core describes it. */
export interface FieldInfo {
  /** Its name; `*`, always the last one, stands for any other field. */
  name: string;
  /** Its type in one word. */
  kind?: string;
  /** Its shape, such as `Token[]`. */
  shape?: string;
  required?: boolean;
  /** What it is if it is not there, as JSON. */
  default?: string;
}

/** An action, as the core describes it. */
export interface ActionInfo {
  name: string;
  /** One line on what it does. */
  about?: string;
  fields: FieldInfo[];
  /** The shape of its result. */
  result?: string;
}

/**
 * A game, its actions as promises, its events. `Engine` alone has the actions of the built-in core, and no others. For a core of your own,
 * write `Engine<Actions, State, Events, Setup>` with the types that `npx hypertoken-worker types core.wasm` writes, or `Engine<AnyActions>`.
 */
export class Engine<A = Actions, S = State, E = typeof others extends keyof A ? AnyEvents : {}, B = typeof others extends keyof A ? object : Setup>
  implements AsyncDisposable {
  /** @throws HyperTokenError `bad_input`, or `shutdown` if the host is shut down */
  constructor(options?: EngineOptions<Given<B>>);
  /** Resolves once the engine is placed; rejects if its setup, its snapshot or its core can't be used. */
  readonly ready: Promise<void>;
  /** The sequence of the newest change: how many actions, reverts, undos and redos have changed the state. */
  readonly sequence: number;
  /**
   * The place of the engine: 'nowhere' before it is placed, while it is placed again, and while it is taken out because it is idle. A saved game
   * that an engine of another tab, or another engine of this one, runs is in 'another tab'.
   */
  readonly place: 'worker' | 'main thread' | 'another tab' | 'nowhere';
  readonly host: Host;
  // If a call fits no overload, the compiler explains the last one. So the one that knows the payloads is last.

  /** Runs an action. Actions run in the order of their dispatch. The promise rejects with a HyperTokenError: then it had no effect. */
  dispatchAsync<T = any, N extends string = string>(type: OtherName<A, N>, payload?: Payload | null, options?: ActionOptions): Promise<T>;
  dispatchAsync<N extends Name<A>>(type: N, ...rest: Rest<PayloadIn<A, N>>): Promise<ResultIn<A, N>>;
  /**
   * Runs an action. If the host has workers, or with `persist`, it does so as dispatchAsync does. Else it runs the action at once, and returns
   * the result itself, or throws. Such an action has no timeout, and `signal` counts only if it is aborted already.
   */
  dispatch<T = any, N extends string = string>(type: OtherName<A, N>, payload?: Payload | null, options?: ActionOptions): Promise<T> | T;
  dispatch<N extends Name<A>>(type: N, ...rest: Rest<PayloadIn<A, N>>): Promise<ResultIn<A, N>> | ResultIn<A, N>;
  /** Runs at most 4096 actions with nothing between them, and returns an outcome for each. If one fails, the others have their effect. */
  dispatchBatch<T = never>(actions: Unchecked<T>, options: BatchOptions & { mode: 'independent' }): Promise<Outcome<T>[]>;
  dispatchBatch<const M extends readonly Member<A>[]>(
    actions: M & { readonly [K in keyof M]: Checked<A, M[K]> }, options: BatchOptions & { mode: 'independent' },
  ): Promise<{ -readonly [K in keyof M]: Outcome<ResultOfMember<A, M[K]>> }>;
  /** Runs at most 4096 actions with nothing between them, all or nothing. It rejects with the error of the action that failed, and its `index`. */
  dispatchBatch<T = never>(actions: Unchecked<T>, options?: BatchOptions & { mode?: 'atomic' }): Promise<T[]>;
  dispatchBatch<const M extends readonly Member<A>[]>(
    actions: M & { readonly [K in keyof M]: Checked<A, M[K]> }, options?: BatchOptions & { mode?: 'atomic' },
  ): Promise<{ -readonly [K in keyof M]: ResultOfMember<A, M[K]> }>;
  /** The whole state, after all actions that were dispatched before. */
  state<T = S>(options?: QuestionOptions): Promise<T>;
  /**
   * The state, for user interfaces: as the engine told it after its last change, or undefined as long as it has told none. From the first read
   * or the first `subscribe` on, the engine asks for its state after each change. It is frozen, and what has not changed is the same object.
   */
  readonly current: S | undefined;
  /** Calls a listener after each change of `current`. Returns a function that removes the listener. It needs no `this`. */
  readonly subscribe: (listener: () => void) => () => void;
  /** A hash over the canonical state, 16 hexadecimal digits: equal states have equal digests, here and in Go. */
  digest(options?: QuestionOptions): Promise<string>;
  /** The state as bytes, for the option `snapshot` of another engine, here or in Go. */
  snapshot(options?: QuestionOptions): Promise<Uint8Array>;
  /**
   * The state that the engine had at a sequence. It is of what is done at the moment of the call, and the engine goes on meanwhile. It rejects
   * with `history_trimmed` if that state is not kept, and with `core_mismatch` if it is of a saved game from before its core was replaced.
   */
  stateAt<T = S>(sequence: number, options?: QuestionOptions): Promise<T>;
  /** The digest of the state that the engine had at a sequence. It rejects as stateAt does. */
  digestAt(sequence: number, options?: QuestionOptions): Promise<string>;
  /**
   * Sets the engine to the state that it had at a sequence, behind the actions that were dispatched before. It is one more entry of the journal,
   * with a sequence of its own: nothing is lost from the history. The events `engine:action` and `state:updated` tell of it.
   */
  revert(sequence: number, options?: QuestionOptions): Promise<Position>;
  /**
   * Takes the current step back, as a revert does. A step is an action, a whole batch, or a revert; after an undo it is the one before.
   * It rejects with `conflict` if there is nothing to undo, and with `history_trimmed` if the state before the step is not kept.
   */
  undo(options?: QuestionOptions): Promise<Position>;
  /**
   * Does the step again that was undone last. It rejects with `conflict` if there is nothing to redo: a new step forgets what was undone.
   * At most 4096 steps are remembered.
   */
  redo(options?: QuestionOptions): Promise<Position>;
  /**
   * The journal as lines of JSON, which `hypertoken run` plays: a base, and the actions, reverts, undos and redos behind it. A line has no line
   * feed. What is done when the first line is asked for is in it. `timeout` bounds each of the requests that it takes.
   */
  journal(options?: JournalOptions): AsyncGenerator<string, void, undefined>;
  /** The actions of the core, sorted by name, as it describes them. */
  actions(options?: QuestionOptions): Promise<ActionInfo[]>;
  /**
   * Resolves when the host has room for another action: at once if its queue is not full, or else when half of it is free. A caller that
   * awaits it before each dispatch is never `overloaded`, if the host's other callers do so too. It rejects with `shutdown` or `broken`.
   */
  drained(): Promise<void>;
  /** Calls f with each event of a name, '*' for all. Returns a function that removes the listener. */
  on(name: '*', f: (event: EngineEvent) => void): () => void;
  on<N extends CoreEvent<E>>(name: N, f: (event: EngineEvent<N, E[N]>) => void): () => void;
  on<N extends keyof Events>(name: N, f: (event: EngineEvent<N, Events<A>[N]>) => void): () => void;
  off(name: '*' | keyof Events | CoreEvent<E>, f: (event: any) => void): void;
  /**
   * Waits for the requests that were dispatched, and frees the engine. After `timeout` milliseconds those without an outcome fail with
   * `shutdown`; 0, the default, is no limit. Once it resolves no worker of the engine's own host is left. It may be called any number of times.
   */
  shutdown(options?: { timeout?: number }): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** An engine of any core. */
export type AnyEngine = Pick<Engine<any, any, any, any>, 'current' | 'subscribe' | 'shutdown'>;
/** The type of an engine's state. */
export type StateOf<G extends AnyEngine> = Exclude<G['current'], undefined>;

export interface WorkerStats {
  state: 'starting' | 'ready' | 'waiting' | 'given up' | 'stopped';
  /** How many engines are placed there. */
  engines: number;
  /** How many requests it owes an answer to. */
  pending: number;
}

export interface HostStats {
  /** How many workers died: ended by themselves, or were ended from outside. */
  died: number;
  /** How many workers the host killed, because what they ran took too long. */
  killed: number;
  /** How often an engine was placed. */
  placed: number;
  /** How often an engine went to the main thread because no worker could run. */
  fallbacks: number;
  /** How many engines are on the main thread. */
  here: number;
  /** How many engines wait for a place: for a worker, or for an instance (`maxInstances`). */
  waiting: number;
  /** How many actions and questions have no outcome yet. */
  inFlight: number;
  /** How many bytes of `maxQueueBytes` they take. */
  inFlightBytes: number;
  workers: WorkerStats[];
}

/** Workers, for any number of engines. */
export class Host implements AsyncDisposable {
  /** @throws HyperTokenError `bad_input` */
  constructor(options?: WorkerOptions);
  readonly stats: HostStats;
  /** Shuts the engines down, and ends the workers: once it resolves, none is left. `timeout` is as that of an engine's shutdown. */
  shutdown(options?: { timeout?: number }): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A game that this browser keeps for this origin. */
export interface SavedGame {
  name: string;
  /** The sequence of its newest change: how many actions, reverts, undos and redos have changed its state. */
  sequence: number;
  /** How many bytes its journal has: the newest base and the actions behind it, and its history, if that is kept. */
  bytes: number;
  created: Date;
  updated: Date;
}

/** The core that a saved game was played with, as in `WorkerOptions`, and those before it, if its history has actions of them. */
export type CoreOptions = Pick<WorkerOptions, 'core' | 'wasmPath'> & Pick<PersistOptions, 'formerCores'>;

/** The part of a Blob that an import needs: Blob and File have it. */
export interface TextFile { text(): Promise<string> }

/** A Blob, if the project has the types of the DOM or of Node. */
export type ExportedFile = typeof globalThis extends { Blob: { prototype: infer P } } ? P : TextFile & { readonly size: number; readonly type: string };

/** The games that this browser keeps for this origin, in the order of their names. */
export function savedGames(): Promise<SavedGame[]>;
/** Deletes a saved game. An engine that plays it fails with `moved`. It rejects with `engine_not_found`. */
export function deleteGame(name: string): Promise<void>;
/**
 * A saved game as JSON Lines, which importGame, `hypertoken run` and `hypertoken journal import` read: the oldest base that is kept, and the
 * actions, reverts, undos and redos behind it. Each action is run again, on this thread, to write the checksum of its result. It rejects with
 * `engine_not_found` and `core_mismatch`.
 */
export function exportGame(name: string, options?: CoreOptions): Promise<ExportedFile>;
/**
 * Saves the game of an export under a name that is free. Each action is run again, on this thread, and every checksum and digest is compared:
 * the game is saved whole, or not at all. If the file has reverts, undos or redos, the history is kept. Keys of actions are not. It rejects with `engine_exists`, `core_mismatch`, `diverged`, and
 * `bad_input`, which name the line.
 */
export function importGame(name: string, file: TextFile, options?: CoreOptions): Promise<{ sequence: number; digest: string }>;

/** A worker with one engine, in whichever environment this is. */
export class UniversalWorker<A = Actions, S = State, E = typeof others extends keyof A ? AnyEvents : {}, B = typeof others extends keyof A ? object : Setup>
  implements AsyncDisposable {
  constructor(options?: WorkerOptions);
  readonly environment: 'node' | 'browser';
  /** null before init. */
  readonly engine: Engine<A, S, E, B> | null;
  /** Starts the worker and sets the engine up. */
  init(beginning?: Beginning<B>): Promise<void>;
  dispatch<T = any, N extends string = string>(type: OtherName<A, N>, payload?: Payload | null, options?: ActionOptions): Promise<T>;
  dispatch<N extends Name<A>>(type: N, ...rest: Rest<PayloadIn<A, N>>): Promise<ResultIn<A, N>>;
  /** @throws HyperTokenError `bad_input` before init */
  on(name: '*', f: (event: EngineEvent) => void): () => void;
  on<N extends CoreEvent<E>>(name: N, f: (event: EngineEvent<N, E[N]>) => void): () => void;
  on<N extends keyof Events>(name: N, f: (event: EngineEvent<N, Events<A>[N]>) => void): () => void;
  terminate(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export function getEnvironment(): 'node' | 'browser';
/** Whether workers can be started here: Web Workers, or Node's worker threads. */
export function supportsWorkers(): boolean;
