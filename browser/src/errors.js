/**
 * An error of an action, of its worker or of its host. `code` is stable, and the same as in Go: see
 * README.md. With any code, the action had no effect.
 */
export class HyperTokenError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{cause?: unknown, index?: number}} [more] index is the index of the member of a batch that failed
   */
  constructor(code, message, more = {}) {
    super(`${code}: ${message}`, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'HyperTokenError';
    this.code = code;
    this.index = more.index ?? -1;
  }
}

export const timeoutError = (what, ms) =>
  new HyperTokenError('timeout', `${what}: timeout, not done after ${ms} ms`);
export const canceledError = (what, cause) => new HyperTokenError('canceled', `${what}: canceled`, { cause });
export const unreadable = (what, cause) => new HyperTokenError('trap', `${what}: the core answered with what can not be read: ${cause.message}`, { cause });
export const shutdownError = (what = 'engine') => new HyperTokenError('shutdown', `the ${what} is shut down`);
export const badInput = (message, cause) => new HyperTokenError('bad_input', message, { cause });
