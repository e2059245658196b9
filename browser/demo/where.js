// The game runs in this page, or on the server that the page is from. The page's address says which: ?page, or ?game=NAME.

const $ = (id) => document.getElementById(id);
const { cluster, token: wantsToken } = document.body.dataset;
const key = 'token';

/** A name that no other game has. */
export function newName() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return `blackjack-${[...bytes].map((b) => b.toString(16).padStart(2, '0')).join('')}`;
}

/** The address of a game, at this node or at another one. */
export function addressOf(name, node = location.origin) {
  const url = new URL('/', node);
  url.searchParams.set('game', name);
  return url.href;
}

/**
 * Returns the name of the game on the server, or null if the game runs in this page. Without a word in the address it runs on the server if that is
 * a node of a cluster which wants no token: then a visitor is here to kill it.
 */
export function choose() {
  const asked = new URLSearchParams(location.search), isServer = asked.has('game') || (cluster !== undefined && wantsToken === undefined && !asked.has('page'));
  document.body.dataset.on = isServer ? 'server' : 'page';
  $(isServer ? 'on-server' : 'on-page').setAttribute('aria-current', 'page');
  if (!isServer) return null;
  const name = asked.get('game') || newName();
  history.replaceState(null, '', addressOf(name)); // a reload, and a copy of the address, are this game
  return name;
}

/** Returns the server's token, which the visitor is asked for; undefined if it wants none. The tab keeps it. */
export async function askForToken() {
  if (wantsToken === undefined) return undefined;
  for (let token = sessionStorage.getItem(key); ; token = await typed()) {
    if (!token) continue;
    const response = await fetch('/v1/engines?limit=1', { headers: { authorization: `Bearer ${token}` } });
    await response.body?.cancel();
    if (response.status !== 401) {
      sessionStorage.setItem(key, token);
      $('ask').hidden = true;
      return token;
    }
    sessionStorage.removeItem(key);
    $('refused').textContent = 'The server does not take this token.';
  }
}

function typed() {
  $('ask').hidden = false;
  $('token').focus();
  return new Promise((resolve) => {
    $('ask').onsubmit = (event) => {
      event.preventDefault();
      resolve($('token').value.trim());
    };
  });
}
