// A game that the server has: an engine there, as the page uses one, and the panel that says which node it is connected to.

import { RemoteEngine } from '/hypertoken/client.js';
import { duration } from './latency.js';
import { say } from './trouble.js';
import { addressOf, newName } from './where.js';

const $ = (id) => document.getElementById(id);
/** How often it is looked for what others have played, and whether the node still lives, in milliseconds. */
const lookEvery = 1000;
/** How long a request for a journal may take, in milliseconds, and the pause before it is made again. */
const readPatience = 10_000, readPause = 200;

/** The codes of answers that say that no node could run a line for a while. Nothing of it ran. */
const passing = new Set(['timeout', 'overloaded', 'moved', 'worker_unavailable']);

const pause = () => new Promise((resolve) => setTimeout(resolve, readPause));
const hostOf = (server) => new URL(server).host;

/** Asks again while no node can answer. */
async function patiently(ask) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!passing.has(error.code)) throw error;
    }
    await pause();
  }
}

/** An engine of a server with the methods that the page uses. Its requests wait until a node answers, and fail for no other reason than their own. */
export class ServerGame {
  /** How many connections were lost. */
  lost = 0;
  #remote; #name; #token; #listeners = new Set();

  /**
   * @param {string} name the engine's name on the server
   * @param {string | undefined} token that of the server
   * @param {object} setup what the engine begins with, if the server has none of that name
   */
  constructor(name, token, setup) {
    this.#name = name;
    this.#token = token;
    this.#remote = new RemoteEngine(location.origin, { engine: name, token, setup, timeout: 0, discover: true });
    this.#remote.onConnection(({ error }) => { if (error) this.lost++; });
  }

  get ready() { return this.#remote.ready; }

  get sequence() { return this.#remote.sequence; }

  get server() { return this.#remote.server; }

  get servers() { return this.#remote.servers; }

  get name() { return this.#name; }

  onConnection(f) { return this.#remote.onConnection(f); }

  /** Calls f after each change that this page has made. The event does not say what it was: the journal does. */
  on(event, f) { if (event === 'state:updated') this.#listeners.add(f); }

  async #change(made) {
    const result = await made;
    for (const f of this.#listeners) f({});
    return result;
  }

  dispatchAsync(type, payload, options) { return this.#change(this.#remote.dispatchAsync(type, payload, options)); }

  dispatchBatch(actions, options) { return this.#change(this.#remote.dispatchBatch(actions, options)); }

  undo(options) { return this.#change(this.#remote.undo(options)); }

  redo(options) { return this.#change(this.#remote.redo(options)); }

  revert(to, options) { return this.#change(this.#remote.revert(to, options)); }

  state(options) { return this.#remote.state(options); }

  stateAt(sequence, options) { return this.#remote.stateAt(sequence, options); }

  digest(options) { return patiently(() => this.#remote.digest(options)); }

  digestAt(sequence, options) { return patiently(() => this.#remote.digestAt(sequence, options)); }

  /** The lines of the journal after a sequence. */
  async* journal({ from }) {
    const response = await this.#ask(`/journal?${from > 0 ? 'after' : 'from'}=${from}`), text = await response.text();
    for (const line of text.split('\n')) {
      if (line === '') continue;
      const { error } = JSON.parse(line);
      if (error) throw Object.assign(new Error(error.message), { code: error.code });
      yield line;
    }
  }

  // Makes a request about the engine. If the node does not answer, it is made again, at the node that the page is connected to by then.
  async #ask(path, options = {}) {
    for (;;) {
      await this.digest(); // there is a node
      try {
        const response = await fetch(new URL(`/v1/engines/${this.#name}${path}`, this.server ?? this.servers[0]), {
          ...options, headers: this.#headers, credentials: 'omit', signal: AbortSignal.timeout(readPatience),
        });
        if (response.ok) return response;
        const { error } = await response.json();
        if (![429, 503].includes(response.status)) throw Object.assign(new Error(error.message), { code: error.code, isFinal: true });
      } catch (error) {
        if (error.isFinal) throw error;
      }
      await pause();
    }
  }

  /** The URLs of the members of the cluster, as the node says that the page is connected to; null if it does not say so. */
  async members() {
    try {
      const response = await fetch(new URL('/v1/cluster', this.server ?? this.servers[0]), { headers: this.#headers, credentials: 'omit', signal: AbortSignal.timeout(readPatience) });
      return response.ok ? (await response.json()).members.map((m) => m.client) : null;
    } catch {
      return null;
    }
  }

  get #headers() { return this.#token ? { authorization: `Bearer ${this.#token}` } : {}; }

  /** Deletes the game, and begins another one. */
  async beginAnew() {
    await this.#ask('', { method: 'DELETE' }).catch(() => {}); // somebody else has deleted it
    location.assign(addressOf(newName()));
  }
}

/** The panel of the server: its nodes, and what came of the death of one. */
export class Nodes {
  #game; #lostAt = null; #lostServer = null; #isBack = false; #isLooking = false; #known = { sequence: 0, digest: null }; #members = null;

  /** @param {ServerGame} game */
  constructor(game) {
    this.#game = game;
    game.onConnection((event) => this.#connection(event));
    this.#draw();
    setInterval(() => this.#draw(), 200);
    setInterval(() => this.look(), lookEvery);
  }

  /** Asks for the digest. The answer has the newest sequence too. */
  async look() {
    if (this.#isLooking || document.hidden) return;
    this.#isLooking = true;
    try {
      const digest = await this.#game.digest(), { sequence } = this.#game;
      this.#known = { sequence, digest };
      $('digest').textContent = digest;
      if (document.body.dataset.cluster !== undefined) this.#members = (await this.#game.members()) ?? this.#members;
    } catch (error) {
      this.#outcome(`The game does not go on: ${error.message}`, 'bad');
    } finally {
      this.#isLooking = false;
    }
  }

  #connection({ server, error }) {
    if (error) {
      if (this.#lostAt !== null) return; // the next node was not there either
      this.#lostAt = performance.now();
      this.#lostServer = server;
      say(`The connection to ${hostOf(server)} is lost.`, 'bad');
      this.#outcome(`${hostOf(server)} is gone. Looking for another node …`, 'bad');
      this.#recover();
    }
    this.#draw();
  }

  // Waits until a node has the game, and compares it with what it was.
  async #recover() {
    const { sequence, digest } = this.#known, answered = this.#game.sequence;
    try {
      await this.#game.digest();
      const took = duration(performance.now() - this.#lostAt), { server, sequence: now } = this.#game, at = server ? hostOf(server) : 'another node';
      const isSame = now >= answered && (digest === null || (await this.#past(sequence, digest)) === digest);
      $('recovery').hidden = false;
      $('recovery-time').textContent = took;
      const proof = digest === null ? '' : `: the checksum of change ${sequence} is still ${digest}`;
      say(isSame ? `The game goes on at ${at} after ${took}. Nothing is lost${proof}.`
        : `The game at ${at} is another one than the one at ${hostOf(this.#lostServer)}.`, isSame ? 'good' : 'bad');
      this.#outcome(isSame ? `Back after ${took}, at ${at}. Nothing is lost.` : 'The game is another.', isSame ? 'good' : 'bad');
    } catch (error) {
      say(`The game did not go on: ${error.message}`, 'bad');
      this.#outcome(`The game did not go on: ${error.message}`, 'bad');
    }
    this.#lostAt = null;
  }

  /** The digest of a sequence; the one of before if the server keeps no history. */
  async #past(sequence, before) {
    try {
      return await this.#game.digestAt(sequence);
    } catch (error) {
      if (error.code === 'history_trimmed') return before;
      throw error;
    }
  }

  #draw() {
    const { server, servers, sequence, lost, name } = this.#game, isBack = server !== null && this.#lostAt === null;
    const figures = { worker: isBack ? 'connected' : 'looking for a node', sequence: sequence.toLocaleString('en'), replaced: `${lost}`, place: server ? hostOf(server) : '–' };
    for (const [id, value] of Object.entries(figures)) {
      if ($(id).textContent !== value) $(id).textContent = value;
    }
    $('worker').dataset.kind = isBack ? 'good' : 'bad';
    const isMember = (node) => this.#members === null || this.#members.some((m) => m && hostOf(m) === hostOf(node));
    const isGone = (node) => node !== server && (!isMember(node) || (this.#lostAt !== null && node === this.#lostServer));
    const drawn = JSON.stringify([server, servers.map((node) => [node, isGone(node)])]);
    if ($('nodes').dataset.drawn === drawn) return;
    $('nodes').dataset.drawn = drawn;
    $('nodes').replaceChildren(...servers.map((node) => {
      const item = document.createElement('li'), link = document.createElement('a');
      link.href = addressOf(name, node);
      link.textContent = hostOf(node);
      link.dataset.gone = isGone(node);
      if (node === server) link.setAttribute('aria-current', 'true');
      item.append(link);
      return item;
    }));
  }

  #outcome(text, kind = '') {
    $('outcome').textContent = text;
    $('outcome').dataset.kind = kind;
  }

  /** Says what a visitor can do. */
  welcome() {
    if (this.#lostAt !== null) return;
    this.#outcome(this.#game.servers.length > 1 ? 'Kill the node that this page is connected to, while you play.' : 'The game runs on this server.');
  }
}
