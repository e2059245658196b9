// Draws the table on the page from the engine's state alone.

import { back, chips, face } from './cards.js';

const $ = (id) => document.getElementById(id);
const words = { A: 'ace', J: 'jack', Q: 'queen', K: 'king' };
const nameOf = ({ meta: { rank, suit } }) => `${words[rank] ?? rank} of ${suit}`;
const money = (n) => n.toLocaleString('en');

/** One or two sentences about the last move and the moves that are allowed now. */
export function story(t) {
  const mine = `${t.playerTotal.soft && t.playerTotal.sum < 21 ? 'a soft ' : ''}${t.playerTotal.sum}`;
  const theirs = t.dealerTotal.sum;
  const gain = money(Math.abs(t.paid));
  switch (t.phase) {
    case 'closed': return 'The table is being set.';
    case 'betting': return 'Place your bet, then deal.';
    case 'dealing': return 'Dealing.';
    case 'player': return `You have ${mine}, the dealer shows ${theirs}.`;
    case 'dealer': return `The dealer has ${theirs}.`;
    default:
  }
  const broke = t.can.borrow ? ' You are out of chips: the house will lend you some.' : t.broken ? ' You have broken the bank.' : '';
  const text = {
    blackjack: `Blackjack! You win ${gain}.`,
    player: theirs > 21 ? `The dealer is over with ${theirs}. You win ${gain}.` : `${mine} against ${theirs}: you win ${gain}.`,
    push: `${mine} each: your bet comes back.`,
    house: `${mine} against ${theirs}: you lose ${gain}.`,
    bust: `Over with ${mine}: you lose ${gain}.`,
  }[t.result] + broke;
  return text[0].toUpperCase() + text.slice(1);
}

export class Table {
  #cards = new Map(); #drawn = {};

  /** Draws a table that read() has read. */
  draw(t) {
    this.#hand('dealer', t.dealer);
    this.#hand('player', t.player);
    for (const [id, total, count] of [['dealer-total', t.dealerTotal, t.dealer.length], ['player-total', t.playerTotal, t.player.length]]) {
      this.#text(id, count === 0 ? '' : `${total.sum}`);
      $(id).hidden = count === 0;
    }
    for (const who of ['Player', 'House', 'Pot']) this.#chips(who, t.chips[who]);
    this.#text('shoe-count', `${t.shoe}`);
    this.#text('discards-count', `${t.discards.length}`);
    this.#pile('shoe', t.shoe);
    this.#pile('discards', t.discards.length);
    const total = t.chips.Player + t.chips.House + t.chips.Pot;
    this.#text('conserved', `${t.shoe + t.player.length + t.dealer.length + t.discards.length} cards and ${money(total)} in chips on the table`);
    document.body.dataset.result = t.phase === 'over' ? t.result : '';
  }

  #text(id, text) {
    if (this.#drawn[id] === text) return;
    this.#drawn[id] = text;
    $(id).textContent = text;
  }

  #chips(who, amount) {
    const id = `chips-${who}`;
    if (this.#drawn[id] === amount) return;
    this.#drawn[id] = amount;
    $(id).replaceChildren(chips(amount));
    $(`amount-${who}`).textContent = money(amount);
  }

  // A pile with more cards shows more edges.
  #pile(id, count) {
    const edges = Math.min(6, Math.ceil(count / 9));
    if (this.#drawn[`${id}-pile`] === edges) return;
    this.#drawn[`${id}-pile`] = edges;
    const pile = $(`${id}-pile`);
    pile.dataset.empty = edges === 0;
    pile.replaceChildren(...Array.from({ length: edges }, (_, k) => {
      const card = document.createElement('span');
      card.style.transform = `translate(${-1.5 * k}px, ${-1.5 * k}px)`;
      if (k === edges - 1) card.append(back());
      return card;
    }));
  }

  #hand(zone, placements) {
    const list = $(`${zone}-hand`);
    const gone = new Set([...list.children]);
    placements.forEach((p, at) => {
      let card = this.#cards.get(p.id);
      if (!card) {
        card = this.#card(p);
        this.#cards.set(p.id, card);
      }
      gone.delete(card);
      if (list.children[at] !== card) list.insertBefore(card, list.children[at] ?? null);
      if (card.dataset.up !== String(p.faceUp)) {
        card.dataset.up = p.faceUp;
        // A card that lies face down is neither read aloud nor in the page's source.
        card.firstChild.setAttribute('aria-label', p.faceUp ? nameOf(p.tokenSnapshot) : 'a card, face down');
        if (p.faceUp) card.firstChild.lastChild.replaceChildren(face(p.tokenSnapshot));
      }
    });
    for (const card of gone) {
      card.remove();
      for (const [id, c] of this.#cards) if (c === card) this.#cards.delete(id);
    }
    list.style.setProperty('--count', placements.length);
  }

  #card() {
    const card = document.createElement('li'), turn = document.createElement('div');
    card.className = 'card';
    turn.className = 'turn';
    turn.setAttribute('role', 'img');
    const rear = document.createElement('div'), front = document.createElement('div');
    rear.className = 'side rear';
    front.className = 'side front';
    rear.append(back());
    turn.append(rear, front);
    card.append(turn);
    return card;
  }
}
