// The page: it has an engine, on a worker or on a server, plays the game on it, and draws both.

import { Calls } from './calls.js';
import { advice, bets, Blackjack, deck, read } from './game.js';
import { Journal } from './journal.js';
import { beginAnew, inTurn, openGame } from './keeping.js';
import { Latency } from './latency.js';
import { Race } from './race.js';
import { Nodes, ServerGame } from './server.js';
import { story, Table } from './table.js';
import { say, Trouble } from './trouble.js';
import { askForToken, choose } from './where.js';

const $ = (id) => document.getElementById(id);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const still = matchMedia('(prefers-reduced-motion: reduce)');

/** How often it is looked for changes of which no event has told: the tab that ran the game has ended, in milliseconds. */
const lookEvery = 300;

const options = { useWorker: true, history: true, setup: { stack: deck }, workerOptions: { workerPath: '/worker.js', killGrace: 100, snapshotBytes: 64 << 10 } };
const name = choose(), isServer = name !== null;
const engine = isServer ? new ServerGame(name, await askForToken(), options.setup) : await openGame(options, say);
const latency = new Latency($('histogram'));
const calls = new Calls(engine, ({ ms, missed }) => latency.add(ms, missed), isServer ? { deadline: 0, patience: Infinity } : {});
const nodes = isServer ? new Nodes(engine) : null;
if (!isServer) new Trouble(engine, calls);
const table = new Table();
let now = null; // the table that was drawn last
let auto = false, playing = false, moving = false, moves = 0;

const game = new Blackjack(calls, () => wait(auto ? 60 : still.matches ? 80 : 320));

// Drawing: the state is drawn once per frame at most, and an older state never over a newer one.

let drawing = false, stale = false;
async function draw() {
  stale = true;
  if (drawing) return;
  drawing = true;
  try {
    while (stale) {
      stale = false;
      show(read(await calls.state()));
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
  } catch (error) {
    failed(error);
  } finally {
    drawing = false;
  }
}

function show(t) {
  now = t;
  if (!journal.isPast) paint(t);
  buttons();
}

function paint(t) {
  table.draw(t);
  const text = story(t);
  if ($('story').textContent !== text) $('story').textContent = text;
}

const journal = new Journal(engine, calls, {
  draw: (state) => paint(read(state)), drawNow: () => now && paint(now), mayChange: () => now !== null && !moving && !auto, changed: buttons, failed, inTurn,
});

function buttons() {
  const can = { ...now?.can };
  const labels = { deal: can.borrow ? 'Borrow 500' : can.finish && !moving && !auto ? 'Go on' : 'Deal' };
  can.deal = can.deal || can.borrow || can.finish;
  for (const move of ['deal', 'hit', 'stand', 'double']) {
    const button = $(move);
    button.setAttribute('aria-disabled', !can[move] || moving || auto || journal.isPast);
    if (labels[move] && button.firstChild.data !== labels[move]) button.firstChild.data = labels[move];
  }
  const bet = clamp($('bet').valueAsNumber || bets.least);
  $('less').setAttribute('aria-disabled', bet <= bets.least);
  $('more').setAttribute('aria-disabled', bet >= (now?.most ?? bets.most));
  journal.update();
}

const clamp = (bet) => Math.max(bets.least, Math.min(Math.round(bet / bets.step) * bets.step, now?.most || bets.most));

function bet(change = 0) {
  $('bet').value = clamp((Number.isFinite($('bet').valueAsNumber) ? $('bet').valueAsNumber : bets.least) + change);
  buttons();
  return $('bet').valueAsNumber;
}

function failed(error) {
  say(`${error.message}`, 'bad');
}

// Playing: one move at a time. What may be done is looked at anew, because another tab may have moved.

async function move(name) {
  if (moving || !now) return;
  moving = true;
  buttons();
  try {
    await inTurn(async () => {
      const { can } = await game.look(), chosen = name !== 'deal' ? name : can.finish ? 'finish' : can.borrow ? 'borrow' : 'deal';
      if (can[chosen]) await (chosen === 'deal' ? game.deal(bet()) : game[chosen]());
    });
  } catch (error) {
    failed(error);
  }
  try {
    show(await game.look());
  } catch (error) {
    failed(error);
  }
  moving = false;
  buttons();
  document.body.dataset.moves = ++moves;
}

async function autoplay(on) {
  auto = on;
  $('auto').setAttribute('aria-pressed', on);
  $('story').setAttribute('aria-live', on ? 'off' : 'polite'); // a screen reader would read two hands a second aloud
  buttons();
  if (playing) return; // the loop below looks at it
  playing = true;
  while (auto) {
    if (!moving) await move(now.can.borrow || now.can.deal || now.can.finish ? 'deal' : advice(now));
    await wait(now.phase === 'over' ? (still.matches ? 60 : 350) : 20);
  }
  playing = false;
}

const keys = { d: 'deal', h: 'hit', s: 'stand', x: 'double' };

function wire() {
  for (const name of Object.values(keys)) $(name).addEventListener('click', () => auto || journal.isPast || move(name));
  $('less').addEventListener('click', () => bet(-bets.step));
  $('more').addEventListener('click', () => bet(bets.step));
  $('bet').addEventListener('change', () => bet());
  $('auto').addEventListener('click', () => autoplay(!auto));
  $('anew').addEventListener('click', () => (isServer ? engine.beginAnew() : beginAnew(engine)).catch(failed));
  document.addEventListener('keydown', (event) => {
    if (!$('keys').checked || event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.matches('input[type=number]')) return;
    const key = event.key.toLowerCase();
    if (keys[key]) $(keys[key]).click();
    else if (key === 'a') $('auto').click();
    else if (key === 'z') $('undo').click();
    else if (key === 'y') $('redo').click();
    else if (key === '+' || key === '=') $('more').click();
    else if (key === '-') $('less').click();
    else return;
    event.preventDefault();
  });
}

engine.on('state:updated', draw);
engine.on('engine:error', ({ error }) => {
  if (error.code === 'timeout') say('A call had no answer in time. It had no effect, and is made again.');
  else if (error.code === 'moved') say('This game was ended in another tab, or by one. Load the page again.', 'bad');
  else failed(error);
});
setInterval(() => {
  if (journal.isComplete) return;
  journal.catchUp();
  draw();
}, lookEvery);

try {
  new Race();
  await engine.ready;
  const isKept = engine.sequence > 0;
  await inTurn(async () => {
    if ((await game.look()).phase === 'closed') await game.open();
  });
  show(await game.look());
  wire();
  bet();
  $('digest').textContent = await calls.digest();
  await journal.catchUp();
  nodes?.welcome();
  say(isKept ? 'The game goes on where it was.' : 'The table is open.', 'good');
  document.body.dataset.ready = 'true';
} catch (error) {
  $('story').textContent = `The table can not be opened: ${error.message}`;
  failed(error);
}
