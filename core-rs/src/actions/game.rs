//! game:* and rule:*: the state of a game as the game itself keeps it, its loop, and which rules
//! have fired.

use super::{action, boolean, number, set_state, string, write_map};
use crate::engine::{Action, Context, Kind, default, optional, required};
use crate::error::{Error, Result};
use crate::payload::{Payload, add, whole};
use crate::sections::{At, Rules, Section};
use crate::value::{MAX_INT, Value};

pub(super) const ACTIONS: &[Action] = &[
    action("game:start", "Marks the game as started now; returns the gameState.", &[], |cx, _| {
        set(cx, "started", boolean(true));
        set(cx, "startTime", &number(cx.now as f64));
        set(cx, "ended", boolean(false));
        set(cx, "paused", boolean(false));
        set(cx, "totalPauseDuration", &number(0.0));
        finish(cx)
    }),
    action(
        "game:end",
        "Marks the game as ended now; returns the gameState.",
        &[optional("winner", Kind::Any), optional("reason", Kind::Any)],
        |cx, p| {
            set(cx, "ended", boolean(true));
            set(cx, "endTime", &number(cx.now as f64));
            for field in ["winner", "reason"] {
                if let Some(v) = p.get(field).filter(|v| !v.is_nil()) {
                    set(cx, field, v.bytes());
                }
            }
            finish(cx)
        },
    ),
    action("game:pause", "Pauses the game; returns the gameState.", &[], |cx, _| {
        set(cx, "paused", boolean(true));
        set(cx, "pauseTime", &number(cx.now as f64));
        finish(cx)
    }),
    action("game:resume", "Resumes the game and adds up how long it was paused; returns the gameState.", &[], resume),
    action(
        "game:nextPhase",
        "Enters a phase and counts a turn; returns the gameState.",
        &[required("phase", Kind::String)],
        |cx, p| {
            set(cx, "phase", &string(p.str("phase")?));
            let turn = add("turn", stored(cx, At::GameState, "turn")?.unwrap_or(0.0), 1.0)?;
            set(cx, "turn", &number(turn));
            finish(cx)
        },
    ),
    action(
        "game:setProperty",
        "Sets an entry of the gameState; returns it.",
        &[required("key", Kind::String), required("value", Kind::Any)],
        |cx, p| {
            set(cx, p.name("key")?, p.need("value")?.bytes());
            finish(cx)
        },
    ),
    action(
        "game:mergeState",
        "Merges entries into the gameState; returns it.",
        &[required("state", Kind::Map)],
        |cx, p| {
            let Some(entries) = p.map("state")?.and_then(Value::entries) else {
                return Err(Error::bad_payload("field state: want a map, got nothing"));
            };
            for (k, v) in entries {
                set(cx, k, v.bytes());
            }
            finish(cx)
        },
    ),
    action(
        "game:setState",
        "Writes a top-level key of the state: a value (merged, unless replace is true) or patches.",
        &[
            required("key", Kind::String),
            optional("value", Kind::Any),
            default("replace", Kind::Bool, "false"),
            optional("patches", Kind::ArrayOf("Patch[]")),
        ],
        set_state::set_state,
    ),
    action("game:getState", "Returns the gameState.", &[], |cx, _| finish(cx)),
    action("game:loopInit", "Sets the loop up.", &[default("maxTurns", Kind::Whole, "100")], |cx, p| {
        let max = p.whole("maxTurns", Some(100), -MAX_INT)?;
        put(cx, [("turn", 0), ("activeAgentIndex", -1), ("maxTurns", max)]);
        cx.state.set(At::GameLoop, "running", boolean(false));
        cx.state.set(At::GameLoop, "phase", &string("setup"));
        Ok(())
    }),
    action("game:loopStart", "Starts the loop at turn 0.", &[], |cx, _| {
        put(cx, [("turn", 0), ("activeAgentIndex", 0)]);
        cx.state.set(At::GameLoop, "running", boolean(true));
        cx.state.set(At::GameLoop, "phase", &string("play"));
        Ok(())
    }),
    action("game:loopStop", "Stops the loop in a phase.", &[default("phase", Kind::String, "\"stopped\"")], |cx, p| {
        let phase = p.opt_str("phase")?.unwrap_or("stopped");
        cx.state.set(At::GameLoop, "running", boolean(false));
        cx.state.set(At::GameLoop, "phase", &string(phase));
        Ok(())
    }),
    action(
        "game:nextTurn",
        "Counts a turn and goes on to the next of agentCount agents.",
        &[default("agentCount", Kind::Whole, "0")],
        |cx, p| {
            let n = p.whole("agentCount", Some(0), 0)?;
            let turn = add("turn", stored(cx, At::GameLoop, "turn")?.unwrap_or(0.0), 1.0)?;
            let active = stored(cx, At::GameLoop, "activeAgentIndex")?.unwrap_or(-1.0);
            let next = if n > 0 { (whole("activeAgentIndex", active, -MAX_INT)? + 1) % n } else { 0 };
            cx.state.set(At::GameLoop, "turn", &number(turn));
            put(cx, [("activeAgentIndex", next)]);
            Ok(())
        },
    ),
    action("game:setPhase", "Sets the loop's phase.", &[required("phase", Kind::String)], |cx, p| {
        cx.state.set(At::GameLoop, "phase", &string(p.str("phase")?));
        Ok(())
    }),
    action("game:setMaxTurns", "Sets the loop's last turn.", &[required("maxTurns", Kind::Whole)], |cx, p| {
        put(cx, [("maxTurns", p.whole("maxTurns", None, -MAX_INT)?)]);
        Ok(())
    }),
    action("game:setActiveAgent", "Sets whose turn it is.", &[required("index", Kind::Whole)], |cx, p| {
        put(cx, [("activeAgentIndex", p.whole("index", None, -MAX_INT)?)]);
        Ok(())
    }),
    action("rule:initRules", "Forgets which rules have fired.", &[], |cx, _| {
        cx.state.replace(Section::Rules(Some(Rules::default())));
        Ok(())
    }),
    action(
        "rule:markFired",
        "Notes the time at which a rule fired; does nothing before rule:initRules.",
        &[required("name", Kind::String), optional("timestamp", Kind::Number)],
        |cx, p| {
            let (name, at) = (p.str("name")?, p.num("timestamp", cx.now as f64)?);
            if cx.state.rules.is_some() {
                cx.state.set(At::Fired, name, &number(at));
            }
            Ok(())
        },
    ),
];

fn set(cx: &mut Context<'_>, key: &str, value: &[u8]) {
    cx.state.set(At::GameState, key, value);
}

/// Sets whole numbers of the loop.
fn put<const N: usize>(cx: &mut Context<'_>, fields: [(&str, i64); N]) {
    for (key, v) in fields {
        cx.state.set(At::GameLoop, key, &number(v as f64));
    }
}

/// Writes the gameState as the result.
fn finish(cx: &mut Context<'_>) -> Result {
    write_map(cx.out, cx.state.map(At::GameState));
    Ok(())
}

/// Returns a number of a map; None if it is missing or nil.
fn stored(cx: &Context<'_>, at: At, key: &str) -> Result<Option<f64>> {
    match cx.state.map(at).get(key).map(|v| Value::trusted(v)) {
        None => Ok(None),
        Some(v) if v.is_nil() => Ok(None),
        Some(v) => {
            let wrong = || Error::bad_state(format!("{key} is {}, not a number", v.describe()));
            v.as_f64().ok_or_else(wrong).map(Some)
        }
    }
}

fn resume(cx: &mut Context<'_>, _: &Payload<'_>) -> Result {
    if let Some(paused) = stored(cx, At::GameState, "pauseTime")?.filter(|t| *t != 0.0) {
        let total = stored(cx, At::GameState, "totalPauseDuration")?.unwrap_or(0.0);
        let total = add("totalPauseDuration", total, cx.now as f64 - paused)?;
        set(cx, "totalPauseDuration", &number(total));
    }
    set(cx, "paused", boolean(false));
    set(cx, "resumeTime", &number(cx.now as f64));
    finish(cx)
}
