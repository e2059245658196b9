// Types of hypertoken-worker/client: an engine of a server, 'hypertoken serve'.

import type { Action, Actions, Address, HyperTokenError, Outcome, Payload, Setup, Signal, State } from 'hypertoken-worker';

type Name<A> = keyof A & string;
type PayloadIn<A, N extends Name<A>> = A[N] extends { payload: infer P } ? P : never;
type ResultIn<A, N extends Name<A>> = A[N] extends { result: infer R } ? R : never;
type Rest<P> = {} extends P ? [payload?: P | null, options?: RemoteActionOptions] : [payload: P, options?: RemoteActionOptions];

export interface RemoteOptions<B = Setup> {
  /** The engine's name on the server. */
  engine: string;
  /** The sections of the state that the engine begins with, if the server has no engine of that name. Without it the engine has to be there. */
  setup?: B | null;
  /** The server's token. Default none. */
  token?: string;
  /** How long a request may take from its call, with all its tries, in milliseconds; 0 is no limit. Default 30000. */
  timeout?: number;
  /**
   * How long the server may be silent while a request waits, in milliseconds, at least 1. Then the request goes to the next server. It does
   * no harm if that is too early: the repetition waits for the outcome of the first. Default 5000.
   */
  silence?: number;
  /** How many requests may be unanswered, at least 1; one more fails with `overloaded`. Default 1024. */
  maxQueue?: number;
  /**
   * Whether a server is asked for the other nodes of its cluster, and these are servers too: those that were started with --advertise-client.
   * Default false.
   */
  discover?: boolean;
  /** The class of WebSockets. Default that of the page or of Node, which has one from Node 22 on. */
  WebSocket?: Function;
}

export interface RemoteQuestionOptions {
  /** If it aborts, the caller's wait ends: with `canceled`, or with `outcome_unknown` if the request was sent and may run. */
  signal?: Signal | null;
  /** How long the request may take, in milliseconds; 0 is no limit. Then it fails with `timeout`, or with `outcome_unknown`. */
  timeout?: number;
}

export interface ChangeOptions extends RemoteQuestionOptions {
  /** A request with the same key runs once, and gets the first answer. Default a key that no other request has. */
  key?: string;
  /** The request fails with `conflict` unless the engine has this sequence just before it. Default any. */
  ifSequence?: number;
}

export interface RemoteActionOptions extends ChangeOptions {
  /** The action's clock, in whole milliseconds since the epoch. Default the server's. */
  now?: number;
  /** 16 bytes, from which shuffles and identifiers are made. Default the server's. */
  entropy?: Uint8Array;
}

export interface RemoteBatchOptions extends ChangeOptions {
  /** Default atomic: all or nothing. */
  mode?: 'atomic' | 'independent';
}

/** The engine after it went back or forth. */
export interface Rewound { sequence: number; digest: string }

/** A connection is made, or lost: then there is an error. */
export interface ConnectionEvent { server: string; error?: HyperTokenError }

/**
 * An engine of a server. If the connection is lost, the client connects again, to the next of its servers, and sends what has no answer again,
 * with the same keys. So an action runs once, whoever dies. A request fails with `outcome_unknown` only if its time ended after it was sent.
 */
export class RemoteEngine<A = Actions, S = State, B = Setup> implements AsyncDisposable {
  /**
   * @param servers the URL of a server, such as https://games.example, or those of several that have the same games
   * @throws HyperTokenError `bad_input`
   */
  constructor(servers: string | Address | readonly (string | Address)[], options: RemoteOptions<B>);
  /** Resolves once a server has the engine; rejects if there is none, or if it refuses the setup. */
  readonly ready: Promise<void>;
  /** The sequence of the engine in the newest answer; 0 before there is one. */
  readonly sequence: number;
  /** The URL of the server that the client is connected to; null while it is not. */
  readonly server: string | null;
  /** The URLs of the servers to which the client connects, one after the other: with `discover`, those too that a server has named. */
  readonly servers: string[];
  /** Calls f whenever the connection is made or lost. Returns a function that removes f. */
  onConnection(f: (event: ConnectionEvent) => void): () => void;
  /** Runs an action. Actions run in the order of their calls. */
  dispatchAsync<N extends Name<A>>(type: N, ...rest: Rest<PayloadIn<A, N>>): Promise<ResultIn<A, N>>;
  /** Runs actions with nothing between them, and returns an outcome for each. If one fails, the others have their effect. */
  dispatchBatch<T = any>(actions: readonly RemoteMember<A>[], options: RemoteBatchOptions & { mode: 'independent' }): Promise<Outcome<T>[]>;
  /** Runs actions with nothing between them, all or nothing. It rejects with the error of the action that failed, and its `index`. */
  dispatchBatch<T = any>(actions: readonly RemoteMember<A>[], options?: RemoteBatchOptions & { mode?: 'atomic' }): Promise<T[]>;
  state<T = S>(options?: RemoteQuestionOptions): Promise<T>;
  /** The state at an earlier sequence. It fails with `history_trimmed` if the server does not have that any more. */
  stateAt<T = S>(sequence: number, options?: RemoteQuestionOptions): Promise<T>;
  digest(options?: RemoteQuestionOptions): Promise<string>;
  /** The digest at an earlier sequence. */
  digestAt(sequence: number, options?: RemoteQuestionOptions): Promise<string>;
  /** Takes the last step back. It fails with `conflict` if there is none. */
  undo(options?: ChangeOptions): Promise<Rewound>;
  /** Takes the last undo back. It fails with `conflict` if there is none. */
  redo(options?: ChangeOptions): Promise<Rewound>;
  /** Sets the state to that of an earlier sequence. It fails with `history_trimmed` if the server does not have that any more. */
  revert(to: number, options?: ChangeOptions): Promise<Rewound>;
  /**
   * Takes no more requests, waits for the answers of those that were made, and closes the connection; the engine stays on the server. After
   * `timeout` milliseconds requests without an answer fail; 0, the default, is no limit.
   */
  shutdown(options?: { timeout?: number }): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** An action of a batch. */
export type RemoteMember<A = Actions> = { [N in Name<A>]: Omit<Action, 'type' | 'payload'> & { type: N; payload?: PayloadIn<A, N> | Payload | null } }[Name<A>];

export {};
