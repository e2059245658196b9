// A whole cluster, 'hypertoken cluster dev', whose processes are killed by name.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Cluster {
  /** The URL of each process by its name: the nodes are a, b and c. */
  address = {};
  #child; #ready = new Set(); #waiting = new Set(); #said = []; #isOver = false;

  /**
   * Starts a cluster, and waits until all its processes are ready.
   * @param {string} program the path of hypertoken
   * @param {Record<string, string>} [env] variables of its environment
   */
  static async start(program, env = {}) {
    const c = new Cluster();
    c.#child = spawn(program, ['cluster', 'dev'], { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, ...env } });
    c.#child.stdin.on('error', () => {}); // it has ended
    c.#follow();
    await c.#until(() => c.#said.at(-1)?.startsWith('all are ready'));
    return c;
  }

  async #follow() {
    for await (const line of createInterface({ input: this.#child.stdout })) {
      this.#said.push(line);
      const [, ready, address] = /^(\w+) is ready: (.*)/.exec(line) ?? [], [, ended] = /^(\w+) has ended/.exec(line) ?? [];
      if (ready) {
        this.#ready.add(ready);
        this.address[ready] = address;
      }
      if (ended) this.#ready.delete(ended);
      // On a machine that is too busy, nodes may declare one dead that does nothing wrong. In real life it is started again, too.
      if (ended && /exit status 3/.test(line)) this.#child.stdin.write(`restart ${ended}\n`);
      for (const look of [...this.#waiting]) look();
    }
    this.#isOver = true;
    for (const look of [...this.#waiting]) look();
  }

  #until(isTrue) {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (isTrue()) resolve();
        else if (this.#isOver) reject(new Error(`the cluster has ended: ${this.#said.join('\n')}`));
        else return;
        this.#waiting.delete(look);
      };
      this.#waiting.add(look);
      look();
    });
  }

  /** Kills a process, and waits until it is gone. */
  async kill(name) {
    this.#child.stdin.write(`kill ${name}\n`);
    await this.#until(() => !this.#ready.has(name));
  }

  /** Starts a process again, and waits until it is ready. */
  async restart(name) {
    this.#child.stdin.write(`restart ${name}\n`);
    await this.#until(() => this.#ready.has(name));
  }

  /** The name of the node with an address. */
  nameOf(url) { return Object.keys(this.address).find((name) => this.address[name] === url); }

  /** Ends all processes. */
  async close() {
    this.#child.stdin.end('quit\n');
    await this.#until(() => this.#isOver).catch(() => {});
  }
}
