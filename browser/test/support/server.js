// A real server, 'hypertoken serve' with a directory, that can be killed and started again behind an address that stays.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const repository = new URL('../../../', import.meta.url);
let built;

/** Builds the program, once. */
function program(dir) {
  built ??= (async () => {
    const path = join(dir, 'hypertoken');
    await promisify(execFile)('go', ['build', '-o', path, './cmd/hypertoken'], { cwd: repository });
    return path;
  })();
  return built;
}

/** A server with games, and an address for it that outlives it. */
export class Server {
  /** The program, if it is built already. */
  static program = null;
  /** What becomes of the bytes of a connection: 'forward', or 'swallow': then the server's answers do not come. */
  mode = 'forward';
  #dir; #args; #env; #child = null; #port = 0; #forwarder; #connections = new Set();

  /**
   * @param {Record<string, string>} [env] variables of its environment
   * @param {string[]} args more arguments
   */
  static async start(env = {}, ...args) {
    const s = new Server();
    s.#env = { ...process.env, ...env };
    s.#dir = await mkdtemp(join(tmpdir(), 'served-'));
    s.#args = args;
    s.#forwarder = createServer((client) => s.#forward(client));
    await new Promise((listening) => s.#forwarder.listen(0, '127.0.0.1', listening));
    s.url = `http://127.0.0.1:${s.#forwarder.address().port}`;
    await s.up();
    return s;
  }

  /** The address of the server itself, until it ends. */
  get direct() { return `http://127.0.0.1:${this.#port}`; }

  async up() {
    this.#child = spawn(Server.program ?? await program(this.#dir), ['serve', '--listen', '127.0.0.1:0', '--workers', '1', '--data', join(this.#dir, 'games'), ...this.#args],
      { stdio: ['ignore', 'pipe', 'pipe'], env: this.#env });
    const ended = once(this.#child, 'exit'), errors = [];
    this.#child.stderr.on('data', (text) => errors.push(text));
    const [line] = await Promise.race([once(createInterface(this.#child.stdout), 'line'), ended.then(() => [''])]);
    const port = /^listening on http:\/\/.*:(\d+)$/.exec(line);
    if (!port) throw new Error(`the server does not start: ${line} ${Buffer.concat(errors)}`);
    this.#port = Number(port[1]);
  }

  /** Ends the server with a signal, and waits until it is gone. */
  async down(signal = 'SIGKILL') {
    const child = this.#child, gone = once(child, 'exit');
    this.#port = 0;
    child.kill(signal);
    await gone;
  }

  #forward(client) {
    const server = this.#port && connect(this.#port, '127.0.0.1');
    if (!server) return client.destroy();
    const pair = { client, server };
    this.#connections.add(pair);
    const end = () => {
      client.destroy();
      server.destroy();
      this.#connections.delete(pair);
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    client.pipe(server);
    server.on('data', (bytes) => { if (this.mode === 'forward') client.write(bytes); });
  }

  /** Breaks all connections. */
  cut() { for (const { client } of this.#connections) client.destroy(); }

  async remove() {
    await this.down();
    this.cut();
    this.#forwarder.close();
    await rm(this.#dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    built = undefined;
  }
}
