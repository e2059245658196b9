/** MessagePack values, which actions take and give: what JSON has, and bytes. */
export type Value = null | boolean | number | string | Uint8Array | Value[] | { [key: string]: Value | undefined };

/** The codes of errors, the same as in Go: README.md says what they mean. A core of your own may have more. */
export type ErrorCode =
  | 'bad_input' | 'payload_too_large' | 'overloaded' | 'timeout' | 'canceled' | 'shutdown' | 'batch_aborted' | 'worker_unavailable' | 'poisoned'
  | 'broken' | 'diverged' | 'trap' | 'out_of_memory' | 'unknown_action' | 'bad_payload' | 'out_of_range' | 'not_found' | (string & {});

/** What fails rejects with this. Whatever the code, the action had no effect. */
export class HyperTokenError extends Error {
  readonly name: 'HyperTokenError';
  readonly code: ErrorCode;
  /** Of the member of an atomic batch that failed; -1 for all else. */
  readonly index: number;
  readonly cause?: unknown;
}

export interface WorkerOptions {
  /** How many worker threads there are, 0 to 1,024; default 1. */
  workers?: number;
  /** Says what workers do, to `logger.debug`. */
  debug?: boolean;
  /** What an action may take, in ms, waiting included; 0 for no limit. Default 30,000. */
  timeout?: number;
  /** Gathers the actions of a window into an atomic batch. */
  enableBatching?: boolean;
  /** How long that window is, in ms, 0 to 60,000; default 10. */
  batchWindow?: number;
  /** The worker's script. Default '/workers/hypertoken.worker.js', in Node the package's. */
  workerPath?: string | URL;
  /** A folder with core.wasm, or a .wasm file. Default '/wasm/', in Node the package's. */
  wasmPath?: string | URL;
  /** A core in place of the one at wasmPath. */
  core?: WebAssembly.Module | BufferSource;
  /** The clock of actions: ms since the epoch. Default Date.now. */
  clock?: () => number;
  /** What an action's randomness and identifiers are made from: 16 bytes. Default crypto.getRandomValues. */
  entropy?: () => Uint8Array;
  /** Where warnings go, and with `debug` what workers do. Default console. */
  logger?: { debug(message: string, ...more: unknown[]): void; warn(message: string, ...more: unknown[]): void };
  /** For how long a worker may start, in ms; default 10,000. */
  startTimeout?: number;
  /** How long what was aborted, or missed its deadline, may go on before its worker is terminated, in ms, 0 to 60,000; default 250. */
  killGrace?: number;
  /** How many times a worker may die within restartWindow ms before it is given up; default 5 in 10,000. One that was never ready is given up at its first failure. It is tried again. */
  maxRestarts?: number;
  restartWindow?: number;
  /** How many actions may have no outcome; default 16,384. */
  maxQueue?: number;
  /** Bounds of a payload and a result, in bytes as MessagePack; default 16 MiB, at most 32 and 64 MiB. */
  maxPayload?: number;
  maxResult?: number;
  /** Bound of a state, in bytes; default 256 MiB. */
  maxStateBytes?: number;
  /** How deep payloads nest, 1 to 128; default 64. */
  maxDepth?: number;
  /** A snapshot replaces a journal of more bytes than this (default 1 MiB), or that takes longer to replay than so many ms (default 250). */
  snapshotBytes?: number;
  replayBudget?: number;
}

export interface CallOptions {
  /** Ends the call with `canceled`; then it had no effect. */
  signal?: AbortSignal;
  /** In ms, 0 for no limit; default that of the WorkerOptions. */
  timeout?: number;
}

export interface DispatchOptions extends CallOptions {
  /** The action's clock: whole ms since the epoch. */
  now?: number;
  /** The action's entropy: 16 bytes. */
  entropy?: Uint8Array;
}

export interface Action {
  type: string;
  payload?: object | null;
  now?: number;
  entropy?: Uint8Array;
}

export type Outcome<R = any> = { result: R; error?: undefined } | { result?: undefined; error: HyperTokenError };

export interface ActionEvent {
  type: string;
  payload: any;
  result: any;
  /** How many actions had changed the state then. */
  sequence: number;
}

export interface EngineEvents {
  /** An action changed the state. */
  'state:updated': ActionEvent;
  /** An action succeeded. */
  'engine:action': ActionEvent;
  /** An action failed, or the engine went on elsewhere, or it can't be placed any more. */
  'engine:error': { error: HyperTokenError; type?: string };
  'engine:shutdown': {};
}

export interface EngineOptions {
  /** Runs the engine on a worker; default false, the main thread. */
  useWorker?: boolean;
  /** The first state. */
  setup?: object;
  /** A state that `snapshot()` gave, here or in Go; in place of setup. */
  snapshot?: Uint8Array;
  workerOptions?: WorkerOptions;
  /** Workers that are shared; in place of useWorker and workerOptions. */
  host?: Host;
}

/** A game: its actions, its state, its events. */
export class Engine {
  constructor(options?: EngineOptions);
  /** Resolves once the setup is accepted where the engine runs; rejects where the setup or the core can't be used. */
  readonly ready: Promise<void>;
  /** How many actions have changed the state. */
  readonly sequence: number;
  readonly place: 'worker' | 'main thread' | 'nowhere';
  readonly host: Host;
  /** Runs an action. Rejects with a HyperTokenError; then it had no effect. */
  dispatchAsync<R = any>(type: string, payload?: object | null, options?: DispatchOptions): Promise<R>;
  /** With a worker the same as dispatchAsync; without one it returns the result, or throws. */
  dispatch<R = any>(type: string, payload?: object | null, options?: DispatchOptions): Promise<R> | R;
  /** Runs up to 4,096 actions, nothing between them: all or nothing, */
  dispatchBatch(actions: Action[], options?: CallOptions & { mode?: 'atomic' }): Promise<any[]>;
  /** or each by itself. */
  dispatchBatch(actions: Action[], options: CallOptions & { mode: 'independent' }): Promise<Outcome[]>;
  /** The state, after all that was dispatched before. */
  state(options?: CallOptions): Promise<any>;
  /** The state's hash, 16 hexadecimal digits: equal states have equal ones, here and in Go. */
  digest(options?: CallOptions): Promise<string>;
  /** The state as bytes, for the option `snapshot`, here or in Go. */
  snapshot(options?: CallOptions): Promise<Uint8Array>;
  /** Calls f with each event of a name, '*' for all. Returns what ends that. */
  on<N extends keyof EngineEvents>(name: N, f: (event: EngineEvents[N] & { name: N; payload: any }) => void): () => void;
  on(name: string, f: (event: any) => void): () => void;
  off(name: string, f: (event: any) => void): void;
  /** Waits for what is in flight, for timeout ms at most (0, the default, for ever). Then no worker of the engine's own is left. */
  shutdown(options?: { timeout?: number }): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Workers for any number of engines. */
export class Host {
  constructor(options?: WorkerOptions);
  readonly stats: {
    /** Workers that ended by themselves, and that were ended for what they ran. */
    died: number;
    killed: number;
    /** Engines that were placed, and those of them that were on the main thread for want of a worker. */
    placed: number;
    fallbacks: number;
    /** Engines on the main thread. */
    here: number;
    /** Actions without an outcome. */
    inFlight: number;
    workers: { state: 'starting' | 'ready' | 'waiting' | 'given up' | 'stopped'; engines: number; pending: number }[];
  };
  shutdown(options?: { timeout?: number }): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A worker with one engine, in whichever environment this is. */
export class UniversalWorker {
  constructor(options?: WorkerOptions);
  readonly environment: 'node' | 'browser';
  readonly engine: Engine | null;
  init(from?: { setup?: object; snapshot?: Uint8Array }): Promise<void>;
  dispatch<R = any>(type: string, payload?: object | null, options?: DispatchOptions): Promise<R>;
  on: Engine['on'];
  terminate(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export function getEnvironment(): 'node' | 'browser';
/** Whether workers can be started here. */
export function supportsWorkers(): boolean;
