// The panel that steps through the journal of the game, and goes back and forth in it.

const $ = (id) => document.getElementById(id);
/** How many steps the list shows at once. */
const shown = 5;

/** The values of a payload, as short as they can be told. */
function brief(value) {
  if (Array.isArray(value)) return `${value.length} items`;
  if (typeof value !== 'object' || value === null) return `${value}`;
  return value.id ?? Object.entries(value).map(([key, v]) => (typeof v === 'object' || typeof v === 'string' ? brief(v) : `${key} ${v}`)).join(' ');
}

/** How long one of the requests that read the journal may take, in milliseconds. */
const patience = 10_000;

export class Journal {
  #engine; #calls; #page; #steps = [{ sequence: 0, what: 'the beginning', with: '' }];
  /** How many steps there are to redo, and whether the journal is being read. */
  #redo = 0; #isReading = false;
  /** The index of the step that is looked at, or null for the newest; and that of the step that is drawn. */
  #at = null; #drawn = null; #isDrawing = false; #isBusy = false; #isListed = false;

  /**
   * @param {import('/hypertoken/hypertoken.js').Engine} engine
   * @param {import('./calls.js').Calls} calls
   * @param {{draw: (state: object) => void, drawNow: () => void, mayChange: () => boolean, changed: () => void, failed: (error: Error) => void,
   *   inTurn: (f: () => Promise) => Promise}} page
   *   draws a state of the past, or the newest one; says whether the game may be set back now; is told when `isPast` may have changed;
   *   calls a function when no tab changes the game
   */
  constructor(engine, calls, page) {
    this.#engine = engine;
    this.#calls = calls;
    this.#page = page;
    engine.on('state:updated', ({ payload }) => (payload ? this.#add(payload) : this.catchUp()));
    const slider = $('step');
    slider.addEventListener('input', () => this.#go(slider.valueAsNumber));
    for (const [id, to] of Object.entries({ first: () => 0, back: () => this.#index - 1, forward: () => this.#index + 1, last: () => this.#newest, now: () => this.#newest })) {
      $(id).addEventListener('click', () => $(id).getAttribute('aria-disabled') !== 'true' && this.#go(to()));
    }
    for (const [id, change] of Object.entries({ undo: () => calls.undo(), redo: () => calls.redo(), 'go-on': () => calls.revert(this.#steps[this.#at].sequence) })) {
      $(id).addEventListener('click', () => $(id).getAttribute('aria-disabled') !== 'true' && this.#change(change));
    }
    $('save').addEventListener('click', () => this.#save().catch(page.failed));
    this.update();
  }

  /** Whether a state of the past is drawn, and not the newest. */
  get isPast() { return this.#at !== null; }

  /** Whether the panel has all that the journal has. */
  get isComplete() { return this.#steps.at(-1).sequence >= this.#engine.sequence; }

  get #newest() { return this.#steps.length - 1; }

  get #index() { return this.#at ?? this.#newest; }

  /** Reads what the journal has and this panel does not: all of it after a reload, or what another tab did as it ended. */
  async catchUp() {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      while (!this.isComplete) {
        for await (const line of this.#engine.journal({ from: this.#steps.at(-1).sequence, timeout: patience })) this.#read(JSON.parse(line));
      }
    } catch (error) {
      this.#page.failed(error);
    } finally {
      this.#isReading = false;
    }
  }

  // Takes in a line of the journal. The base that the lines begin with is none of the steps.
  #read({ type, payload, sequence, batch, marker, to, current, redo, snapshot }) {
    const [first] = this.#steps;
    if (type) this.#add({ type, payload, sequence, batch });
    else if (snapshot && first === this.#steps.at(-1)) first.sequence = sequence - (marker ? 1 : 0); // what was before is not kept
    if (!marker) return;
    this.#add({ type: current === sequence ? 'revert' : redo.length > this.#redo ? 'undo' : 'redo', result: { to }, sequence });
  }

  // Takes in the change that follows the newest step. A batch is one step, as for an undo.
  #add({ type, payload, result, sequence, batch }) {
    const last = this.#steps.at(-1);
    if (sequence <= last.sequence) return;
    if (sequence > last.sequence + 1) {
      this.catchUp(); // another tab ran the game, and has ended: nobody has told of what is between them
      return;
    }
    this.#redo = type === 'undo' ? this.#redo + 1 : type === 'redo' ? this.#redo - 1 : 0;
    if (batch && batch === last.batch) {
      last.sequence = sequence;
      last.count++;
      last.what = `${last.count} actions`;
      last.with = `${last.with}, ${type}`.slice(0, 120);
    } else {
      const isRewind = ['undo', 'redo', 'revert'].includes(type), to = isRewind && this.#steps.findIndex((s) => s.sequence >= result.to);
      this.#steps.push({ sequence, batch, count: 1, what: type, with: batch ? type : isRewind ? `to ${to}` : brief(payload ?? '').slice(0, 120) });
    }
    if (this.#isListed) return;
    this.#isListed = true;
    requestAnimationFrame(() => {
      this.#isListed = false;
      this.update();
    });
  }

  #go(index) {
    const to = Math.max(0, Math.min(index, this.#newest)), wasPast = this.isPast;
    this.#at = to === this.#newest ? null : to;
    if (this.isPast) {
      this.#draw();
    } else if (wasPast) {
      this.#drawn = null;
      this.#page.drawNow();
    }
    this.#page.changed();
    this.update();
  }

  // Draws the step that is looked at. While a state is asked for, the slider may have moved on.
  async #draw() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    try {
      while (this.isPast && this.#drawn !== this.#at) {
        const at = this.#at, state = await this.#calls.stateAt(this.#steps[at].sequence);
        if (!this.isPast) break;
        this.#drawn = at;
        this.#page.draw(state);
      }
    } catch (error) {
      this.#page.failed(error);
      this.#go(this.#newest);
    } finally {
      this.#isDrawing = false;
    }
  }

  async #change(change) {
    this.#isBusy = true;
    this.update();
    try {
      await this.#page.inTurn(change);
    } catch (error) {
      if (error.code !== 'conflict') this.#page.failed(error); // the event engine:error has told of it
    }
    this.#isBusy = false;
    this.#go(this.#newest);
  }

  // The file is one that `hypertoken run` plays.
  async #save() {
    const lines = [];
    for await (const line of this.#engine.journal({ from: 0 })) lines.push(`${line}\n`);
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob(lines, { type: 'application/jsonl' }));
    link.download = 'blackjack.jsonl';
    link.click();
    URL.revokeObjectURL(link.href);
  }

  /** Draws the panel. */
  update() {
    const index = this.#index, newest = this.#newest, { isPast } = this, step = this.#steps[index];
    const place = isPast ? `step ${index} of ${newest}` : 'now';
    document.body.dataset.past = isPast;
    const slider = $('step');
    slider.max = newest;
    slider.value = index;
    slider.setAttribute('aria-valuetext', `${place}: ${step.what} ${step.with}`);
    const mayChange = this.#page.mayChange() && !this.#isBusy;
    for (const [id, can] of Object.entries({ first: index > 0, back: index > 0, forward: isPast, last: isPast, undo: mayChange, redo: mayChange, 'go-on': mayChange && isPast })) {
      $(id).setAttribute('aria-disabled', !can);
    }
    $('journal-at').textContent = place;
    $('journal-at').dataset.kind = isPast ? 'warn' : 'good';
    $('past').hidden = !isPast;
    if (isPast) $('past-text').textContent = `Step ${index} of ${newest}.`;
    const from = Math.max(0, Math.min(index - (shown >> 1), newest - shown + 1));
    $('steps').replaceChildren(...this.#steps.slice(from, from + shown).map((s, k) => {
      const row = document.createElement('li'), number = document.createElement('span'), what = document.createElement('b');
      number.textContent = from + k;
      what.textContent = s.what;
      row.append(number, what, ` ${s.with}`);
      if (from + k === index) row.setAttribute('aria-current', 'step');
      return row;
    }));
  }
}
