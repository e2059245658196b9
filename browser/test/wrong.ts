// What must not compile. tsc fails if one of these lines does.

import { Engine, Host, UniversalWorker, type ActionOf, type Actions, type Agent, type AnyActions } from 'hypertoken-worker';
import { useEngine, useEngineState } from 'hypertoken-worker/react';

export async function builtIn(engine: Engine, type: string) {
  // @ts-expect-error there is no such action
  engine.dispatchAsync('stack:drwa', { count: 2 });
  // @ts-expect-error nor this one
  engine.dispatchAsync('chess:move', { to: 'e4' });
  // @ts-expect-error nor this one, without a worker
  engine.dispatch('stack:drwa');
  // @ts-expect-error a name that is not known
  engine.dispatchAsync(type);
  // @ts-expect-error a field that the action does not have
  engine.dispatchAsync('stack:draw', { cuont: 2 });
  // @ts-expect-error a field of another type
  engine.dispatchAsync('stack:draw', { count: '2' });
  // @ts-expect-error a field of another type, in an interface
  engine.dispatchAsync('stack:draw', {} as { count: string });
  // @ts-expect-error a field is missing
  engine.dispatchAsync('agent:create', {});
  // @ts-expect-error the payload is missing
  engine.dispatchAsync('agent:create');
  // @ts-expect-error it has no payload
  engine.dispatchAsync('stack:reset', { count: 1 });
  // @ts-expect-error a payload is an object
  engine.dispatchAsync('stack:draw', 5);
  // @ts-expect-error a field of a record in the payload
  engine.dispatchAsync('space:place', { zone: 'table', card: { id: 'a' }, opts: { faceup: true } });
  // @ts-expect-error a token has an id
  engine.dispatchAsync('stack:discard', { card: { label: 'A' } });
  // @ts-expect-error the result is of another type
  const wrong: Agent = await engine.dispatchAsync('stack:draw');
  // @ts-expect-error it may be null
  (await engine.dispatchAsync('tokens:find', { tokens: [] })).id;
  // @ts-expect-error a field of another type, without a worker
  engine.dispatch('stack:draw', { count: '2' });
  // @ts-expect-error a member of a batch, with a field of another type
  engine.dispatchBatch([{ type: 'stack:draw', payload: { count: '1' } }]);
  // @ts-expect-error a member of a batch, without its payload
  engine.dispatchBatch([{ type: 'agent:create' }], { mode: 'independent' });
  // @ts-expect-error a member of a batch has no such key
  engine.dispatchBatch([{ type: 'stack:draw', pyload: {} }]);
  // @ts-expect-error a member of a batch, with a name that there is not
  engine.dispatchBatch([{ type: 'stack:drwa' }]);
  // @ts-expect-error there are two modes
  engine.dispatchBatch([] as ActionOf[], { mode: 'some' });
  // @ts-expect-error an atomic batch has results
  (await engine.dispatchBatch([{ type: 'stack:draw' }]))[0].error;
  // @ts-expect-error the option is called signal
  engine.dispatchAsync('stack:draw', {}, { signals: new AbortController().signal });
  // @ts-expect-error a signal is one
  engine.dispatchAsync('stack:draw', {}, { signal: 'stop' });
  // @ts-expect-error it is read only
  engine.sequence = 5;
  // @ts-expect-error the transactions are an array
  (await engine.state()).transactions.ada;
  // @ts-expect-error there is no such event
  engine.on('state:update', () => {});
  // @ts-expect-error the built-in core raises no events
  engine.on('item:processed', () => {});
  // @ts-expect-error the detail has no such member
  engine.on('engine:action', ({ results }) => results);
  engine.on('engine:action', (e) => {
    // @ts-expect-error these are tokens
    if (e.type === 'stack:draw') e.result.name;
  });
  return wrong;
}

export function shown(engine: Engine) {
  // @ts-expect-error there is no state at first
  engine.current.stack;
  // @ts-expect-error it is read only
  engine.current = undefined;
  // @ts-expect-error what is made is an engine
  useEngine(() => 5);
  // @ts-expect-error the state has no such section of that type
  useEngineState(engine, (state) => state.agents.toFixed());
}

export function beginnings() {
  // @ts-expect-error there is no such option
  new Engine({ useWorkers: true });
  // @ts-expect-error it is kept, or it is not
  new Engine({ history: 5 });
  // @ts-expect-error nor this one
  new Host({ timeouts: 5 });
  // @ts-expect-error a section is of another type
  new Engine({ setup: { stack: 5 } });
  // @ts-expect-error a section that there is not
  new Engine({ setup: { stak: [] } });
  // @ts-expect-error a token has an id
  new Engine({ setup: { stack: [{ label: 'A' }] } });
  // @ts-expect-error a path is a text or a URL
  new Engine({ workerOptions: { wasmPath: 5 } });
  // @ts-expect-error a core is no path
  new Engine({ workerOptions: { core: '/wasm/core.wasm' } });
  // @ts-expect-error a logger warns
  new Engine({ workerOptions: { logger: { debug() {} } } });
}

export async function anything(engine: Engine<AnyActions>) {
  // @ts-expect-error a payload is an object
  engine.dispatchAsync('chess:move', 'e4');
  // @ts-expect-error keys are strings
  engine.dispatchAsync('chess:move', new Map([[1, 1]]));
  // @ts-expect-error a payload is no array
  engine.dispatchAsync('chess:move', [1, 2]);
  // @ts-expect-error nor a promise
  engine.dispatchAsync('chess:move', engine.state());
  // @ts-expect-error nor bytes
  engine.dispatchAsync('chess:move', new Uint8Array(1));
  // @ts-expect-error the fields of built-in actions are known
  engine.dispatchAsync('stack:draw', { cuont: 2 });
}

interface Chess { 'chess:move': { payload: { to: string }; result: number } }

export function own(chess: Engine<Chess, { turn: number }, { 'chess:check': { by: string } }, { size: number }>, worker: UniversalWorker<Chess>) {
  // @ts-expect-error there is no such action
  chess.dispatchAsync('chess:mvoe', { to: 'e4' });
  // @ts-expect-error its payload is another
  chess.dispatchAsync('chess:move', { to: 5 });
  // @ts-expect-error there is no such action
  chess.dispatchBatch([{ type: 'chess:mvoe' }]);
  // @ts-expect-error there is no such action
  worker.dispatch('chess:mvoe', { to: 'e4' });
  // @ts-expect-error there is no such event
  chess.on('chess:chekc', () => {});
  // @ts-expect-error it has no such member
  chess.on('chess:check', ({ of }) => of);
  // @ts-expect-error its setup is another
  new Engine<Chess, {}, {}, { size: number }>({ setup: { stack: [] } });
  // @ts-expect-error the built-in actions are those of its table
  new Engine<Actions>().dispatchAsync('stack:drew');
}
