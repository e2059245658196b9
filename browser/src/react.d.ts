// Types of hypertoken-worker/react: hooks for React 18 and newer. They need no types of React.

import type { AnyEngine, StateOf } from 'hypertoken-worker';

/**
 * Makes an engine when the component is mounted, and shuts it down when it is unmounted. Returns the engine, or null before it is made. In
 * StrictMode, React mounts each component twice: then the first engine is shut down at once.
 * @param deps if one of them changes, the engine is shut down and another is made. Default none
 */
export function useEngine<G extends AnyEngine>(make: () => G, deps?: readonly unknown[]): G | null;

/**
 * Returns what `select` returns for the current state of an engine, or the whole state, and renders again when that changes. Returns
 * undefined while there is no state yet, or no engine. `select` may return an array or an object: it counts as the same if its members are.
 */
export function useEngineState<G extends AnyEngine>(engine: G | null | undefined): StateOf<G> | undefined;
export function useEngineState<G extends AnyEngine, T>(engine: G | null | undefined, select: (state: StateOf<G>) => T): T | undefined;
