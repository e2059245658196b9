//! Crazy Eights, a core that docs/cores.md builds step by step.

use hypertoken_core::{
    Action, Context, Error, Kind, Pile, Record, Registry, Result, handler, member, optional,
    payload, required,
};
use serde::{Deserialize, Serialize};

/// The built-in actions, and those of the game.
pub fn registry() -> Registry {
    let mut r = Registry::builtin();
    r.register_all(ACTIONS);
    for (action, shape) in RESULTS {
        r.result(action, shape);
    }
    r.record(ROUND);
    r.record(PLAYED);
    r.record(EVENTS);
    r
}

// The functions that a host calls.
hypertoken_core::export!(registry);

const ACTIONS: &[Action] = &[
    Action {
        name: "eights:start",
        about: "Seats 2 to 5 players, deals five cards to each and turns one up; returns it.",
        fields: &[required("players", Kind::Strings)],
        handler: handler!(start),
    },
    Action {
        name: "eights:play",
        about: "Plays a card that follows suit or rank, or an eight and a suit; returns the round.",
        fields: &[
            required("player", Kind::String),
            required("card", Kind::String),
            optional("suit", Kind::String),
        ],
        handler: handler!(play),
    },
    Action {
        name: "eights:draw",
        about: "Draws a card instead, and passes the turn on; returns the card.",
        fields: &[required("player", Kind::String)],
        handler: handler!(draw),
    },
];

/// The shapes of the results, for the list of actions and for the types that are made from it.
const RESULTS: &[(&str, &str)] = &[
    ("eights:start", "Token"),
    ("eights:play", "Round"),
    ("eights:draw", "Token"),
];

/// The shape of a [`Round`].
const ROUND: Record = Record {
    name: "Round",
    about: "What the game remembers beside hands and piles.",
    fields: &[
        member("players", "string[]", ""),
        member("turn", "int", "an index of players"),
        member("suit", "string", "the suit to follow"),
        member("winner", "string|null", ""),
    ],
    rest: None,
};

/// The payload of an event.
const PLAYED: Record = Record {
    name: "Played",
    about: "A card that was played.",
    fields: &[member("player", "string", ""), member("card", "Token", "")],
    rest: None,
};

/// The events, and the shapes of their payloads.
const EVENTS: Record = Record {
    name: "Events",
    about: "The events of the game.",
    fields: &[member("eights:played", "Played", "a card lies on the pile")],
    rest: None,
};

/// The number of cards with which a player begins.
const HAND: usize = 5;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Suit {
    Clubs,
    Diamonds,
    Hearts,
    Spades,
}

/// A token of the setup. It may have more members; they are kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Card {
    pub id: String,
    pub rank: u8,
    pub suit: Suit,
}

/// The game's own data, in addition to hands and piles. It is kept in gameState.round.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Round {
    pub players: Vec<String>,
    /// The index in `players` of the player whose turn it is.
    pub turn: usize,
    /// The suit to follow: that of the card on top, or the suit that was named with an eight.
    pub suit: Suit,
    pub winner: Option<String>,
}

impl Round {
    fn pass(&mut self) {
        self.turn = (self.turn + 1) % self.players.len();
    }
}

/// The moves that the rules forbid. Each has an error code of its own, so clients can tell them apart.
enum Rule {
    NotStarted,
    Over { winner: String },
    NotYourTurn { player: String, turn: String },
    NotHeld { player: String, card: String },
    NoMatch { card: String, suit: Suit, rank: u8 },
    SuitNeeded { card: String },
    SuitNamed { card: String },
    NothingToDraw,
}

impl From<Rule> for Error {
    fn from(rule: Rule) -> Error {
        let (code, message) = match rule {
            Rule::NotStarted => (
                "not_started",
                "the game has not started: eights:start starts it".into(),
            ),
            Rule::Over { winner } => ("game_over", format!("the game is over: {winner} has won")),
            Rule::NotYourTurn { player, turn } => (
                "not_your_turn",
                format!("field player: it is the turn of {turn}, not of {player}"),
            ),
            Rule::NotHeld { player, card } => (
                "not_held",
                format!("field card: {player} does not hold {card}"),
            ),
            Rule::NoMatch { card, suit, rank } => (
                "no_match",
                format!("field card: {card} is neither of {suit:?} nor a {rank}, nor an eight"),
            ),
            Rule::SuitNeeded { card } => (
                "suit_needed",
                format!("field suit: {card} is an eight, and names the suit to follow"),
            ),
            Rule::SuitNamed { card } => (
                "suit_named",
                format!("field suit: {card} is no eight, and names no suit"),
            ),
            Rule::NothingToDraw => (
                "nothing_to_draw",
                "the stack is empty, and so are the discards below the top".into(),
            ),
        };
        Error::new(code, message)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    players: Vec<String>,
}

fn start(cx: &mut Context<'_>, start: Start) -> Result<Card> {
    let players = start.players;
    if !(2..=5).contains(&players.len()) {
        let n = players.len();
        return Err(Error::out_of_range(format!(
            "field players: {n} players are outside 2..5"
        )));
    }
    cx.run("stack:shuffle", &())?;
    for name in &players {
        cx.run("agent:create", &payload! { name: name })?;
        let deal = payload! { name: name, count: HAND };
        let hand: Vec<Card> = cx.call("agent:drawCards", &deal)?;
        if hand.len() < HAND {
            return Err(Rule::NothingToDraw.into());
        }
    }
    let turned: Vec<Card> = cx.call("stack:burn", &())?;
    let first = turned.into_iter().next().ok_or(Rule::NothingToDraw)?;
    cx.run("game:start", &())?;
    let round = Round {
        players,
        turn: 0,
        suit: first.suit,
        winner: None,
    };
    cx.set_game("round", &round)?;
    Ok(first)
}

/// Returns the round. Fails if there is none, if it is over, or if it is not the player's turn.
fn turn_of(cx: &Context<'_>, player: &str) -> Result<Round> {
    let round: Round = cx.game("round")?.ok_or(Rule::NotStarted)?;
    if let Some(winner) = round.winner {
        return Err(Rule::Over { winner }.into());
    }
    // A client may write anything to gameState with game:setProperty, so an index must be checked: a panic
    // would cost the engine its instance.
    let turn = round.players.get(round.turn).ok_or(Rule::NotStarted)?;
    if turn != player {
        let (player, turn) = (player.to_string(), turn.clone());
        return Err(Rule::NotYourTurn { player, turn }.into());
    }
    Ok(round)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Play {
    player: String,
    card: String,
    suit: Option<Suit>,
}

fn play(cx: &mut Context<'_>, play: Play) -> Result<Round> {
    let Play { player, card, suit } = play;
    let mut round = turn_of(cx, &player)?;
    let hand: Vec<Card> = cx.hand(&player)?;
    let Some(played) = hand.iter().find(|c| c.id == card) else {
        return Err(Rule::NotHeld { player, card }.into());
    };
    let top: Card = cx.top(Pile::Discards)?.ok_or(Rule::NotStarted)?;
    round.suit = match (played.rank, suit) {
        (8, Some(named)) => named,
        (8, None) => return Err(Rule::SuitNeeded { card }.into()),
        (_, Some(_)) => return Err(Rule::SuitNamed { card }.into()),
        (rank, None) if rank == top.rank || played.suit == round.suit => played.suit,
        _ => {
            let (suit, rank) = (round.suit, top.rank);
            return Err(Rule::NoMatch { card, suit, rank }.into());
        }
    };

    // Built-in actions do the rest. All changes of this action take effect together, or not at all.
    let discard = payload! { name: player, tokenIds: [&card] };
    cx.run("agent:discardCards", &discard)?;
    cx.raise("eights:played", &payload! { player: player, card: played })?;
    if hand.len() == 1 {
        cx.run("game:end", &payload! { winner: player })?;
        round.winner = Some(player);
    } else {
        round.pass();
    }
    cx.set_game("round", &round)?;
    Ok(round)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Draw {
    player: String,
}

fn draw(cx: &mut Context<'_>, draw: Draw) -> Result<Card> {
    let mut round = turn_of(cx, &draw.player)?;
    if cx.state.pile(Pile::Stack).is_empty() {
        turn_discards_over(cx)?;
    }
    let drawn: Vec<Card> = cx.call("agent:drawCards", &payload! { name: draw.player })?;
    let card = drawn.into_iter().next().ok_or(Rule::NothingToDraw)?;
    round.pass();
    cx.set_game("round", &round)?;
    Ok(card)
}

/// Makes a new stack of all discards but the top one.
fn turn_discards_over(cx: &mut Context<'_>) -> Result<()> {
    let below = cx.state.pile(Pile::Discards).len().saturating_sub(1);
    if below > 0 {
        let top = cx.state.remove(Pile::Discards, below);
        cx.state.move_top(Pile::Discards, Pile::Stack, below);
        cx.state.push(Pile::Discards, top);
    }
    cx.run("stack:shuffle", &())
}
