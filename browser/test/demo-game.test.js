// The demo's blackjack without a page: its rules, and that nothing is lost while its workers die.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Calls } from '../demo/calls.js';
import { advice, bets, Blackjack, deck, read, stake, total } from '../demo/game.js';
import { Engine } from '../src/index.js';

const workerOptions = { wasmPath: new URL('../../wasm/', import.meta.url) };
const inAll = Object.values(stake).reduce((a, b) => a + b);
const cards = (...ranks) => ranks.map((rank) => deck.find((c) => c.meta.rank === rank));

for (const [ranks, want] of [
  [[], { sum: 0, soft: false }], [['A'], { sum: 11, soft: true }], [['A', 'K'], { sum: 21, soft: true }], [['A', 'A'], { sum: 12, soft: true }],
  [['A', '5', '5'], { sum: 21, soft: true }], [['A', '5', '6'], { sum: 12, soft: false }], [['A', 'A', '9'], { sum: 21, soft: true }],
  [['A', 'A', '10'], { sum: 12, soft: false }], [['K', 'Q', '2'], { sum: 22, soft: false }],
]) {
  test(`${ranks.join(' ') || 'no cards'} count ${want.sum}`, () => assert.deepEqual(total(cards(...ranks)), want));
}

/** A table that is dealt from the top of these cards, without a shuffle. */
async function rigged(t, ...ranks) {
  // Suits differ, so that no token is there twice.
  const used = new Map(), stacked = ranks.map((rank) => {
    const n = used.get(rank) ?? 0;
    used.set(rank, n + 1);
    return deck.filter((c) => c.meta.rank === rank)[n];
  });
  const rest = deck.filter((c) => !stacked.includes(c));
  const engine = new Engine({ setup: { stack: [...rest, ...stacked.reverse()] }, workerOptions });
  t.after(() => engine.shutdown());
  await engine.ready;
  const calls = new Calls(engine), batch = calls.batch.bind(calls);
  calls.batch = (actions) => batch(actions.filter(([type]) => type !== 'stack:shuffle'));
  const game = new Blackjack(calls);
  await game.open();
  return game;
}

// Dealt are: a card to the player, one to the dealer, face down, and one more to each.
for (const [name, ranks, moves, want] of [
  ['a blackjack pays 3 to 2', ['A', '9', 'K', '9'], [], { result: 'blackjack', paid: 75 }],
  ['a blackjack each is a push', ['A', 'A', 'K', 'K'], [], { result: 'push', paid: 0 }],
  ['the dealer\'s blackjack beats 21 of three cards', ['7', 'A', '7', 'K', '7'], ['hit'], { result: 'house', paid: -50 }],
  ['over 21 loses, and the dealer draws no more', ['K', '2', 'Q', '2', '5'], ['hit'], { result: 'bust', paid: -50 }],
  ['20 beats 19', ['K', 'K', 'Q', '9'], ['stand'], { result: 'player', paid: 50 }],
  ['18 loses to 19', ['K', 'K', '8', '9'], ['stand'], { result: 'house', paid: -50 }],
  ['19 each is a push', ['K', 'K', '9', '9'], ['stand'], { result: 'push', paid: 0 }],
  ['the dealer stands on a soft 17', ['K', 'A', '8', '6', '4'], ['stand'], { result: 'player', paid: 50 }],
  ['the dealer draws on 16', ['K', 'K', '8', '6', '5'], ['stand'], { result: 'house', paid: -50 }],
  ['the dealer goes over', ['K', 'K', '2', '6', 'Q'], ['stand'], { result: 'player', paid: 50 }],
  ['doubling wins twice the bet', ['6', 'K', '5', '7', 'K'], ['double'], { result: 'player', paid: 100 }],
  ['doubling loses twice the bet', ['6', 'K', '5', 'Q', '2'], ['double'], { result: 'house', paid: -100 }],
  ['an ace counts 1 where 11 is too much', ['A', 'K', '5', '9', 'K', '3'], ['hit', 'hit', 'stand'], { result: 'push', paid: 0 }],
]) {
  test(name, async (t) => {
    const game = await rigged(t, ...ranks);
    await game.deal(50);
    for (const move of moves) await game[move]();
    const { phase, result, paid, chips, hidden } = await game.look();
    assert.deepEqual({ phase, result, paid, hidden }, { phase: 'over', hidden: false, ...want });
    assert.deepEqual(chips, { Player: stake.Player + want.paid, House: stake.House - want.paid, Pot: 0 });
  });
}

test('a move that is not allowed now is refused, and changes nothing', async (t) => {
  const game = await rigged(t, 'K', '9', '5', '9');
  await assert.rejects(game.hit(), /you can not hit now/);
  await game.deal(50);
  const before = await game.look();
  await assert.rejects(game.deal(50), /you can not deal now/);
  await assert.rejects(game.borrow(), /you can not borrow now/);
  assert.deepEqual(await game.look(), before);
});

test('a bet is at most as high as the chips of the player', async (t) => {
  for (const [bet, want] of [[1, bets.least], [10_000, bets.most]]) {
    const game = await rigged(t, 'K', '9', '5', '9');
    await game.deal(bet);
    assert.equal((await game.look()).chips.Pot, want);
  }
});

const zoned = (player, house) => read({
  gameState: { phase: 'over' }, zones: {}, stack: { stack: [], drawn: [] },
  agents: { Player: { resources: { chips: player } }, House: { resources: { chips: house } } },
});

test('a player without chips may borrow, and a player who has won everything is done', () => {
  for (const [player, house, deal, borrow] of [[bets.least, 9000, true, false], [bets.least - 1, 9000, false, true], [9000, 20, true, false], [9000, 19, false, false]]) {
    const { can } = zoned(player, house);
    assert.deepEqual([can.deal, can.borrow], [deal, borrow], `${player} against ${house}`);
  }
});

test('a game that is set back to any step goes on from there, and no card and no chip is lost', async (t) => {
  const engine = new Engine({ setup: { stack: deck }, workerOptions, history: true });
  t.after(() => engine.shutdown());
  const game = new Blackjack(new Calls(engine)), ends = new Set(), inside = new Set(), played = new Set();
  engine.on('state:updated', ({ sequence, batch }) => {
    ends.add(sequence);
    if (batch) for (let k = batch; k < sequence; k++) inside.add(k);
  });
  const play = async () => {
    for (let now; (now = await game.look()).phase === 'player';) {
      const move = now.can.double && played.size < 2 ? 'double' : advice(now);
      played.add(move);
      await game[move]();
    }
  };
  await game.open();
  const opened = engine.sequence;
  for (let hands = 0; hands < 12; hands++) {
    await game.deal(50);
    await play();
  }
  let finished = 0;
  for (const sequence of [0, ...[...ends].filter((s) => s >= opened && !inside.has(s))]) {
    await engine.revert(sequence);
    const before = await game.look();
    if (before.can.finish) {
      finished++;
      await game.finish();
    }
    if ((await game.look()).phase === 'betting' || before.phase === 'over') await game.deal(50);
    await play();
    const now = await game.look();
    assert.deepEqual([now.phase, now.loose, now.chips.Pot, now.chips.Player + now.chips.House], ['over', null, 0, inAll], `from ${sequence}`);
    assert.equal(now.shoe + now.player.length + now.dealer.length + now.discards.length, deck.length, `from ${sequence}`);
  }
  assert.ok(finished > 60, `${finished} states were in the middle of a move`);
});

test('no card and no chip is lost while workers die in the middle of hands', async (t) => {
  const engine = new Engine({ useWorker: true, setup: { stack: deck }, workerOptions: { ...workerOptions, maxRestarts: 1000, restartWindow: 1 } });
  t.after(() => engine.shutdown());
  await engine.ready;
  let calls = 0;
  const game = new Blackjack(new Calls(engine, () => {
    if (++calls % 97 === 0) engine.host.threads[0].thread?.terminate();
  }));
  await game.open();
  for (let hands = 0; hands < 80; hands++) {
    if ((await game.look()).can.borrow) await game.borrow();
    await game.deal(50);
    let now;
    while ((now = await game.look()).phase === 'player') await game[advice(now)]();
    assert.equal(now.phase, 'over');
    assert.equal(now.shoe + now.player.length + now.dealer.length + now.discards.length, deck.length);
    assert.equal(now.chips.Player + now.chips.House, inAll);
    assert.equal(now.chips.Pot, 0);
  }
  assert.ok(engine.host.stats.died > 3, `${engine.host.stats.died} workers died`);
});
