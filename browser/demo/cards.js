// Draws cards and chips.

const ns = 'http://www.w3.org/2000/svg';

/** An SVG element with attributes and children. */
export function svg(name, attributes = {}, ...children) {
  const e = document.createElementNS(ns, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

// The shapes of the suits. Each is drawn around the origin, and about 20 units high.
const shapes = {
  hearts: 'M0 9.5C-3 5.5-9.2 1.5-9.2-3.8a4.7 4.7 0 0 1 9.2-1.7A4.7 4.7 0 0 1 9.2-3.8C9.2 1.5 3 5.5 0 9.5Z',
  diamonds: 'M0-10Q2.6-4.2 7 0Q2.6 4.2 0 10Q-2.6 4.2-7 0Q-2.6-4.2 0-10Z',
  spades: 'M0-10C3-5.6 9-1.4 9 3.4a4.4 4.4 0 0 1-7.6 2.9Q1.7 8.8 3.6 10H-3.6Q-1.7 8.8-1.4 6.3A4.4 4.4 0 0 1-9 3.4C-9-1.4-3-5.6 0-10Z',
  clubs: 'M0-10a4.5 4.5 0 0 1 3.5 7.3A4.5 4.5 0 1 1 1.3 5Q1.7 8.6 3.6 10H-3.6Q-1.7 8.6-1.3 5A4.5 4.5 0 1 1-3.5-2.7 4.5 4.5 0 0 1 0-10Z',
};

const pip = (suit, x, y, scale = 1, turned = false) =>
  svg('path', { d: shapes[suit], transform: `translate(${x} ${y}) scale(${turned ? -scale : scale})` });

// The positions of the pips of the cards 2 to 10, on a card of 100 by 140 units. Pips below the middle are upside down.
const left = 32, mid = 50, right = 68;
const rows = { top: 28, upper: 42, third: 56, half: 70 };
const pairs = (...ys) => ys.flatMap((y) => [[left, y], [right, y]]);
const pips = {
  2: [[mid, rows.top], [mid, 112]],
  3: [[mid, rows.top], [mid, rows.half], [mid, 112]],
  4: pairs(rows.top, 112),
  5: [...pairs(rows.top, 112), [mid, rows.half]],
  6: pairs(rows.top, rows.half, 112),
  7: [...pairs(rows.top, rows.half, 112), [mid, 49]],
  8: [...pairs(rows.top, rows.half, 112), [mid, 49], [mid, 91]],
  9: [...pairs(rows.top, rows.third, 84, 112), [mid, rows.half]],
  10: [...pairs(rows.top, rows.third, 84, 112), [mid, rows.upper], [mid, 98]],
};

const crowns = {
  K: 'M38 38V25l6 6 6-10 6 10 6-6V38Z',
  Q: 'M39 38l-3-11 7 5 7-9 7 9 7-5-3 11Z',
  J: 'M37 37q2-14 14-14t12 9l6-7q3 8-6 12Z',
};

// A court card has one half, and the same half again upside down.
function court(rank, suit) {
  const half = () => svg('g', {},
    svg('path', { class: 'robe', d: 'M23 70V64q3-11 17-12h20q14 1 17 12V70Z' }),
    svg('path', { class: 'trim', d: 'M44 52l6 18 6-18Z' }),
    svg('circle', { class: 'head', cx: 50, cy: 45, r: 9 }),
    svg('path', { class: 'crown', d: crowns[rank] }),
    pip(suit, 33, 30, 0.62));
  const lower = half();
  lower.setAttribute('transform', 'rotate(180 50 70)');
  return svg('g', {}, svg('rect', { class: 'frame', x: 22, y: 17, width: 56, height: 106, rx: 4 }), half(), lower);
}

function corner(rank, suit, turned) {
  return svg('g', turned ? { transform: 'rotate(180 50 70)' } : {},
    svg('text', { x: 12, y: 21, class: rank === '10' ? 'rank narrow' : 'rank' }, rank), pip(suit, 12, 32, 0.62));
}

/** The face of a card. */
export function face({ meta: { rank, suit } }) {
  let middle = [];
  if (rank === 'A') middle = [pip(suit, 50, 70, 2.4)];
  else if (rank in crowns) middle = [court(rank, suit)];
  else middle = pips[rank].map(([x, y]) => pip(suit, x, y, 0.9, y > 70));
  const red = suit === 'hearts' || suit === 'diamonds';
  return svg('svg', { viewBox: '0 0 100 140', class: red ? 'face red' : 'face', 'aria-hidden': 'true' },
    corner(rank, suit), corner(rank, suit, true), ...middle);
}

/** The back of any card. */
export function back() {
  const lattice = [];
  for (let k = -14; k <= 14; k++) lattice.push(`M${50 + 10 * k} 0l140 140M${50 + 10 * k} 0l-140 140`);
  return svg('svg', { viewBox: '0 0 100 140', class: 'back', 'aria-hidden': 'true' },
    svg('path', { class: 'lattice', d: lattice.join('') }),
    svg('rect', { class: 'rim', x: 5, y: 5, width: 90, height: 130, rx: 5 }),
    svg('circle', { class: 'seal', cx: 50, cy: 70, r: 17 }),
    svg('path', { class: 'mark', d: 'M42 60v20M58 60v20M42 70h16' }));
}

const kinds = [1000, 500, 100, 50, 10, 5];
const most = 14;

/** Stacks of chips that are worth an amount. */
export function chips(amount) {
  const stacks = [];
  let left = amount, count = 0;
  for (const kind of kinds) {
    const n = Math.min(Math.floor(left / kind), most - count);
    left %= kind;
    count += n;
    if (n > 0) stacks.push({ kind, n });
  }
  const tallest = Math.max(1, ...stacks.map((s) => s.n));
  const width = Math.max(1, stacks.length) * 30, height = 22 + 5 * (tallest - 1);
  const picture = svg('svg', { class: 'chips', viewBox: `0 0 ${width} ${height}`, width, height, 'aria-hidden': 'true' });
  stacks.forEach(({ kind, n }, column) => {
    for (let k = 0; k < n; k++) {
      const x = 15 + 30 * column, y = height - 10 - 5 * k;
      picture.append(svg('g', { class: `chip of${kind}` },
        svg('path', { class: 'edge', d: `M${x - 14} ${y - 2}v4a14 7 0 0 0 28 0v-4Z` }),
        svg('path', { class: 'spots', d: `M${x - 10} ${y + 4}v4M${x} ${y + 5}v4M${x + 10} ${y + 4}v4` }),
        svg('ellipse', { class: 'top', cx: x, cy: y - 2, rx: 14, ry: 7 }),
        svg('ellipse', { class: 'inlay', cx: x, cy: y - 2, rx: 8.5, ry: 4 })));
    }
  });
  return picture;
}
