use eights::{Card, Round, Suit, registry};
use hypertoken_core::testing::Table;
use hypertoken_core::{Raw, payload};

/// A deck of the ranks 6 to 9.
fn deck() -> Vec<Card> {
    let suits = [Suit::Clubs, Suit::Diamonds, Suit::Hearts, Suit::Spades];
    let of = |suit| {
        (6..10).map(move |rank| Card {
            id: format!("{rank}-{suit:?}"),
            rank,
            suit,
        })
    };
    suits.into_iter().flat_map(of).collect()
}

fn started() -> Table {
    let mut t = Table::open(registry(), &payload! { stack: deck() });
    let players = payload! { players: ["ann", "bob"] };
    t.run::<Card>("eights:start", &players).unwrap();
    t
}

/// The inventory of a player.
fn hand(t: &mut Table, player: &str) -> Vec<Card> {
    t.state(&["agents", player, "inventory"])
}

#[test]
fn a_start_deals_and_turns_a_card_up() {
    let mut t = started();
    assert_eq!(hand(&mut t, "ann").len(), 5);
    assert_eq!(hand(&mut t, "bob").len(), 5);
    let discards: Vec<Card> = t.state(&["stack", "discards"]);
    let round: Round = t.state(&["gameState", "round"]);
    assert_eq!((discards.len(), round.suit), (1, discards[0].suit));
}

#[test]
fn what_the_rules_forbid_has_no_effect() {
    let mut t = started();
    let own = hand(&mut t, "ann")[0].id.clone();
    let other = hand(&mut t, "bob")[0].id.clone();
    let play = |player: &str, card: &str| (player.to_string(), card.to_string());
    for ((player, card), code) in [
        (play("bob", &other), "not_your_turn"),
        (play("ann", &other), "not_held"),
    ] {
        let payload = payload! { player: player, card: card };
        assert_eq!(t.refused("eights:play", &payload), code);
    }
    let payload = payload! { player: "ann", card: own, suit: "cups" };
    assert_eq!(t.refused("eights:play", &payload), "bad_payload");
    let one = payload! { players: ["ann"] };
    assert_eq!(t.refused("eights:start", &one), "out_of_range");
    assert_eq!(hand(&mut t, "ann").len(), 5);
    assert_eq!(t.events::<Card>(), []);
}

/// Two players who play the first card that fits, and draw if none does, come to an end.
#[test]
fn a_game_ends() {
    let mut t = started();
    for _ in 0..500 {
        let round: Round = t.state(&["gameState", "round"]);
        if let Some(winner) = round.winner {
            assert_eq!(hand(&mut t, &winner), []);
            let draw = payload! { player: winner };
            assert_eq!(t.refused("eights:draw", &draw), "game_over");
            return;
        }
        let player = &round.players[round.turn];
        let played = hand(&mut t, player).iter().any(|c| {
            let suit = (c.rank == 8).then_some(Suit::Hearts);
            let play = payload! { player: player, card: c.id, suit: suit };
            t.run::<Round>("eights:play", &play).is_ok()
        });
        if !played {
            let draw = payload! { player: player };
            t.run::<Card>("eights:draw", &draw).unwrap();
        }
    }
    panic!("nobody has won");
}

/// Every client that may use built-in actions can write gameState. No such write costs an engine its
/// instance.
#[test]
fn a_round_that_can_not_be_is_refused() {
    let mut t = started();
    let mut round: Round = t.state(&["gameState", "round"]);
    round.turn = 2;
    let set = payload! { key: "round", value: round };
    t.run::<Raw>("game:setProperty", &set).unwrap();
    let draw = payload! { player: "ann" };
    assert_eq!(t.refused("eights:draw", &draw), "not_started");
}
