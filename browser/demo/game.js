// Blackjack over an engine, without a page. The engine's state is the whole game: the moves that are allowed next are read from it.

const suits = ['spades', 'hearts', 'diamonds', 'clubs'];
const ranks = [
  ['A', 'Ace', [1, 11]], ['2', 'Two', [2]], ['3', 'Three', [3]], ['4', 'Four', [4]], ['5', 'Five', [5]], ['6', 'Six', [6]], ['7', 'Seven', [7]],
  ['8', 'Eight', [8]], ['9', 'Nine', [9]], ['10', 'Ten', [10]], ['J', 'Jack', [10]], ['Q', 'Queen', [10]], ['K', 'King', [10]],
];

/** A deck of 52, as examples/blackjack.jsonl has it. */
export const deck = suits.flatMap((suit) => ranks.map(([rank, name, value]) => ({
  id: `${suit}-${name.toLowerCase()}-0`, kind: 'playing-cards', group: suit, label: rank,
  text: `${name} of ${suit[0].toUpperCase()}${suit.slice(1)}`, meta: { rank, suit, value },
})));

export const stake = { Player: 1000, House: 10_000, Pot: 0 };
export const bets = { least: 10, most: 500, step: 10 };
/** With fewer cards than this in the shoe, the next hand is dealt from a new one. */
const reshuffleBelow = 16;
const loan = 500;

/** The value of cards: an ace counts 11 if the sum does not go over 21, and 1 otherwise. */
export function total(cards) {
  let sum = 0, aces = 0;
  for (const { meta } of cards) {
    sum += meta.value[0];
    if (meta.rank === 'A') aces++;
  }
  const soft = aces > 0 && sum + 10 <= 21;
  return { sum: soft ? sum + 10 : sum, soft };
}

const isBlackjack = (cards) => cards.length === 2 && total(cards).sum === 21;

/** The table as the state has it, and what may be done now. */
export function read(state) {
  const { phase = 'closed', bet = 0, result = null, paid = 0, doubled = false } = state.gameState;
  const zone = (name) => state.zones[name] ?? [];
  const chips = (name) => state.agents[name]?.resources.chips ?? 0;
  const player = zone('player'), dealer = zone('dealer'), bank = chips('Player');
  const cards = (placements) => placements.map((p) => p.tokenSnapshot);
  const resting = phase === 'betting' || phase === 'over', broken = chips('House') < 2 * bets.least;
  const placed = new Set([...player, ...dealer, ...zone('discards')].map((p) => p.tokenSnapshot.id)), playerTotal = total(cards(player));
  /** A card that is drawn, and lies nowhere yet. */
  const loose = state.stack.drawn.find((card) => !placed.has(card.id)) ?? null;
  // A game that was set back may be in the middle of a move, or as it was before the table was set.
  const finish = phase === 'closed' || phase === 'dealing' || phase === 'dealer' || (phase === 'player' && (loose !== null || doubled || playerTotal.sum >= 21));
  const turn = phase === 'player' && !finish;
  return {
    phase, bet, result, paid, doubled, broken, player, dealer, loose, discards: zone('discards'), shoe: state.stack.stack.length,
    chips: { Player: bank, House: chips('House'), Pot: chips('Pot') },
    playerTotal, dealerTotal: total(cards(dealer.filter((p) => p.faceUp))), hidden: dealer.some((p) => !p.faceUp),
    most: Math.floor(Math.min(bets.most, bank, chips('House') / 2) / bets.step) * bets.step,
    can: {
      deal: resting && bank >= bets.least && !broken, borrow: resting && bank < bets.least,
      finish, hit: turn, stand: turn, double: turn && player.length === 2 && bank >= bet,
    },
  };
}

/** The move of a player who does not count cards: 'hit', 'stand' or 'double'. */
export function advice({ playerTotal: { sum, soft }, dealer, can }) {
  const up = Math.max(...dealer.filter((p) => p.faceUp).flatMap((p) => p.tokenSnapshot.meta.value));
  if (!soft && can.double && (sum === 11 || (sum === 10 && up < 10))) return 'double';
  if (soft) return sum < 18 ? 'hit' : 'stand';
  if (sum < 12) return 'hit';
  return sum < 17 && up >= 7 ? 'hit' : 'stand';
}

const pay = (from, to, amount) => ['agent:transferResource', { from, to, resource: 'chips', amount }];
/** Where the n-th card of a hand lies, from 0, and whether it is face up. */
const place = (n) => [n % 2 === 0 ? 'player' : 'dealer', n !== 1];
const note = (state) => ['game:mergeState', { state }];

export class Blackjack {
  #calls; #pace;

  /**
   * @param {import('./calls.js').Calls} calls
   * @param {() => Promise<void>} [pace] is waited for after each card
   */
  constructor(calls, pace = async () => {}) {
    this.#calls = calls;
    this.#pace = pace;
  }

  async look() { return read(await this.#calls.state()); }

  /** Sets the table: agents with chips, zones, and a shuffled shoe. */
  open() {
    return this.#calls.batch([
      ...Object.entries(stake).flatMap(([name, amount]) => [['agent:create', { name }], ['agent:giveResource', { name, resource: 'chips', amount }]]),
      ...['dealer', 'player', 'discards'].map((name) => ['space:createZone', { name }]),
      ['stack:shuffle', {}],
      note({ phase: 'betting' }),
    ]);
  }

  async #may(move) {
    const table = await this.look();
    if (!table.can[move]) throw new Error(`you can not ${move} now: the hand is at ${table.phase}`);
    return table;
  }

  async deal(bet) {
    const { shoe, most } = await this.#may('deal');
    const amount = Math.max(bets.least, Math.min(bet, most));
    const fresh = [['space:clearZone', { zone: 'discards' }], ['stack:reset', {}], ['stack:shuffle', {}],
      ['game:setState', { key: 'transactions', value: [], replace: true }]]; // otherwise the memory of a long game would grow without end
    await this.#calls.batch([
      ['space:transferZone', { fromZone: 'dealer', toZone: 'discards' }],
      ['space:transferZone', { fromZone: 'player', toZone: 'discards' }],
      ...(shoe < reshuffleBelow ? fresh : []),
      pay('Player', 'Pot', amount),
      note({ phase: 'dealing', bet: amount, result: null, paid: 0, doubled: false }),
    ]);
    await this.#dealOut(0);
  }

  // Deals the four cards with which a hand begins, of which so many lie on the table.
  async #dealOut(dealt) {
    for (let n = dealt; n < 4; n++) await this.#card(...place(n));
    await this.#calls.batch([note({ phase: 'player' })]);
    if ((await this.look()).playerTotal.sum === 21) await this.#stand();
  }

  async hit() {
    await this.#may('hit');
    await this.#card('player');
    await this.#judge();
  }

  // Ends the player's turn if it is over.
  async #judge() {
    const { doubled, playerTotal: { sum } } = await this.look();
    if (sum > 21) await this.#settle();
    else if (sum === 21 || doubled) await this.#stand();
  }

  async double() {
    const { bet } = await this.#may('double');
    await this.#calls.batch([pay('Player', 'Pot', bet), note({ bet: 2 * bet, doubled: true })]);
    await this.#card('player');
    await this.#judge();
  }

  async stand() {
    await this.#may('stand');
    await this.#stand();
  }

  async #stand() {
    const { player, phase } = await this.look();
    if (phase !== 'dealer') await this.#calls.batch([note({ phase: 'dealer' })]);
    await this.#reveal();
    const done = isBlackjack(player.map((p) => p.tokenSnapshot));
    while (!done && (await this.look()).dealerTotal.sum < 17) await this.#card('dealer');
    await this.#settle();
  }

  /** Plays a move to its end, in a game that was set back into the middle of it. */
  async finish() {
    const { phase, loose, doubled, player, dealer } = await this.#may('finish');
    if (phase === 'closed') return void await this.open();
    const dealt = player.length + dealer.length;
    if (loose) await this.#lay(loose, ...(phase === 'dealing' ? place(dealt) : [phase, true]));
    else if (phase === 'player' && doubled && player.length === 2) await this.#card('player');
    if (phase === 'dealing') await this.#dealOut(loose ? dealt + 1 : dealt);
    else if (phase === 'player') await this.#judge();
    else await this.#stand();
  }

  /** The house lends chips to a player who has lost all of them. */
  async borrow() {
    await this.#may('borrow');
    await this.#calls.batch([pay('House', 'Player', loan), note({ phase: 'betting', result: null })]);
  }

  async #card(zone, faceUp = true) {
    const [card] = await this.#calls.act('stack:draw', { count: 1 });
    await this.#lay(card, zone, faceUp);
  }

  async #lay(card, zone, faceUp) {
    await this.#calls.act('space:place', { zone, card, opts: { faceUp } });
    await this.#pace();
  }

  async #reveal() {
    const { dealer } = await this.look();
    for (const { id } of dealer.filter((p) => !p.faceUp)) {
      await this.#calls.act('space:flip', { zone: 'dealer', placementId: id, faceUp: true });
      await this.#pace();
    }
  }

  async #settle() {
    await this.#reveal();
    const { player, dealer, playerTotal: mine, dealerTotal: theirs, bet, chips } = await this.look();
    const cards = (placements) => placements.map((p) => p.tokenSnapshot);
    const natural = isBlackjack(cards(player)), theirNatural = isBlackjack(cards(dealer));
    let result = 'push';
    if (mine.sum > 21) result = 'bust';
    else if (natural && !theirNatural) result = 'blackjack';
    else if (theirNatural && !natural) result = 'house';
    else if (theirs.sum > 21 || mine.sum > theirs.sum) result = 'player';
    else if (mine.sum < theirs.sum) result = 'house';
    const won = { blackjack: bet * 1.5, player: bet, push: 0, house: -bet, bust: -bet }[result];
    await this.#calls.batch([
      ...(won > 0 ? [pay('House', 'Pot', won)] : []),
      pay('Pot', won < 0 ? 'House' : 'Player', chips.Pot + Math.max(won, 0)),
      note({ phase: 'over', result, paid: won }),
    ]);
  }
}
