//! space:*: zones and what lies in them. A locked zone keeps what it has: actions on it do
//! nothing.

use super::{action, fresh_placement_id};
use crate::engine::{Action, Context, Kind, default, optional, required};
use crate::error::{Error, Result};
use crate::payload::{Payload, check_fields, quote};
use crate::sections::{Map, Placement, Section, Zone, Zones};
use crate::state_writer::StateWriter;
use crate::value::Value;
use crate::walk::Visit;

pub(super) const ACTIONS: &[Action] = &[
    action(
        "space:place",
        "Puts a card into a zone, which is made if it is missing; returns the placement, or null if the zone is locked.",
        &[required("zone", Kind::String), required("card", Kind::Token), optional("opts", Kind::MapOf("PlaceOptions"))],
        place,
    ),
    action(
        "space:remove",
        "Takes a placement out.",
        &[required("zone", Kind::String), required("placementId", Kind::String)],
        remove,
    ),
    action(
        "space:move",
        "Moves a placement to the end of another zone, which is made if it is missing.",
        &[
            required("fromZone", Kind::String),
            required("toZone", Kind::String),
            required("placementId", Kind::String),
            optional("x", Kind::Number),
            optional("y", Kind::Number),
        ],
        move_to,
    ),
    action(
        "space:flip",
        "Turns a placement over, or to the face that is named.",
        &[required("zone", Kind::String), required("placementId", Kind::String), optional("faceUp", Kind::Bool)],
        flip,
    ),
    action(
        "space:createZone",
        "Makes a zone, unless it exists. label, x and y are allowed for compatibility, and ignored.",
        &[
            required("name", Kind::String),
            optional("label", Kind::Any),
            optional("x", Kind::Any),
            optional("y", Kind::Any),
        ],
        create,
    ),
    action(
        "space:deleteZone",
        "Removes a zone with all its placements; its lock stays.",
        &[required("name", Kind::String)],
        delete,
    ),
    action("space:clearZone", "Empties a zone.", &[required("zone", Kind::String)], clear_zone),
    action(
        "space:lockZone",
        "Locks or unlocks a zone, which need not exist.",
        &[required("zone", Kind::String), default("locked", Kind::Bool, "true")],
        lock,
    ),
    action(
        "space:shuffleZone",
        "Shuffles the placements of a zone.",
        &[required("zone", Kind::String), optional("seed", Kind::Seed)],
        shuffle,
    ),
    action(
        "space:fanZone",
        "Lays a zone out as an arc.",
        &[
            required("zone", Kind::String),
            default("angleStep", Kind::Number, "15"),
            default("radius", Kind::Number, "100"),
        ],
        |cx, p| spread(cx, p, "arc"),
    ),
    action(
        "space:spreadZone",
        "Lays a zone out as a line, or as an arc.",
        &[
            required("zone", Kind::String),
            default("pattern", Kind::StringOf("'arc'|'linear'"), "\"linear\""),
            default("angleStep", Kind::Number, "15"),
            default("radius", Kind::Number, "100"),
        ],
        |cx, p| {
            let pattern = p.opt_str("pattern")?.unwrap_or("linear");
            spread(cx, p, pattern)
        },
    ),
    action("space:stackZone", "Puts all of a zone at x = y = 0.", &[required("zone", Kind::String)], stack_zone),
    action(
        "space:transferZone",
        "Moves all of a zone to the end of another; returns how many.",
        &[required("fromZone", Kind::String), required("toZone", Kind::String)],
        transfer,
    ),
    action("space:clear", "Drops every zone and every lock.", &[], clear),
];

fn place(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let zone = p.name("zone")?;
    let token = p.token("card")?;
    let opts = p.map("opts")?.unwrap_or(Value::NIL);
    check_fields(opts, "opts", &["faceUp", "label", "x", "y"])?;
    let opts = Payload::new(opts)?;
    let (x, y) = (opts.num("x", 0.0)?, opts.num("y", 0.0)?);
    let face_up = opts.bool("faceUp", true)?;
    let label = opts.get("label").unwrap_or(Value::NIL);
    if !label.is_nil() && label.as_str().is_none() {
        return Err(Error::bad_payload(format!("field opts.label: want a string or nil, got {}", label.describe())));
    }
    if cx.state.is_locked(zone) {
        return Ok(());
    }
    let reversed = token.value().get("_rev").and_then(Value::as_bool) == Some(true);
    let placement = Placement {
        id: fresh_placement_id(cx).into(),
        token,
        x,
        y,
        face_up,
        reversed,
        ts: cx.now as f64,
        label: label.bytes().into(),
        extra: Map::new(),
    };
    let mut w = StateWriter::default();
    std::mem::swap(&mut w.out, cx.out);
    w.placement(&placement);
    std::mem::swap(&mut w.out, cx.out);
    cx.state.create_zone(zone);
    cx.state.place(zone, placement);
    Ok(())
}

fn remove(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let (zone, id) = (p.str("zone")?, p.str("placementId")?);
    if !cx.state.is_locked(zone) && cx.state.placement(zone, id).is_some() {
        cx.state.unplace(id);
    }
    Ok(())
}

fn move_to(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let (from, to, id) = (p.str("fromZone")?, p.str("toZone")?, p.str("placementId")?);
    let (x, y) = (p.opt_num("x")?, p.opt_num("y")?);
    if cx.state.is_locked(from) || cx.state.is_locked(to) || cx.state.placement(from, id).is_none() {
        return Ok(());
    }
    let mut placement = cx.state.unplace(id);
    placement.x = x.unwrap_or(placement.x);
    placement.y = y.unwrap_or(placement.y);
    cx.state.create_zone(to);
    cx.state.place(to, placement);
    Ok(())
}

fn flip(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let (zone, id, face) = (p.str("zone")?, p.str("placementId")?, p.opt_bool("faceUp")?);
    if cx.state.is_locked(zone) {
        return Ok(());
    }
    if let Some((order, old)) = cx.state.placement(zone, id) {
        let (x, y, face) = (old.x, old.y, face.unwrap_or(!old.face_up));
        cx.state.set_placement(zone, order, x, y, face);
    }
    Ok(())
}

fn create(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    cx.state.create_zone(p.str("name")?);
    Ok(())
}

fn delete(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    cx.state.delete_zone(p.str("name")?);
    Ok(())
}

fn clear_zone(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let zone = p.str("zone")?;
    if !cx.state.is_locked(zone) {
        if cx.state.zone(zone).is_some_and(|z| !z.items.is_empty()) {
            cx.state.delete_zone(zone);
        }
        if cx.state.zones.made {
            cx.state.create_zone(zone);
        }
    }
    Ok(())
}

fn lock(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let zone = p.str("zone")?;
    cx.state.lock(zone, p.bool("locked", true)?);
    Ok(())
}

fn shuffle(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let zone = p.str("zone")?;
    let rng = p.seed()?.map_or_else(|| cx.rng(), |(rng, _)| rng);
    if !cx.state.is_locked(zone) {
        cx.state.shuffle_zone(zone, rng);
    }
    Ok(())
}

/// Moves each placement of an unlocked zone to the position that `f` returns for its index and the
/// number of placements.
fn lay_out(cx: &mut Context<'_>, zone: &str, f: impl Fn(f64, f64) -> (f64, f64)) -> Result {
    if cx.state.is_locked(zone) {
        return Ok(());
    }
    let items = |z: &Zone| z.items.iter().map(|(o, p)| (*o, p.face_up)).collect::<Vec<_>>();
    let items = cx.state.zone(zone).map(items).unwrap_or_default();
    let n = items.len() as f64;
    for (i, (order, face_up)) in items.into_iter().enumerate() {
        let (x, y) = f(i as f64, n);
        if !x.is_finite() || !y.is_finite() {
            return Err(Error::out_of_range(format!("the layout puts token {i} at {x}, {y}: out of range")));
        }
        // Adding 0 turns -0.0 into 0.0.
        cx.state.set_placement(zone, order, x + 0.0, y + 0.0, face_up);
    }
    Ok(())
}

fn spread(cx: &mut Context<'_>, p: &Payload<'_>, pattern: &str) -> Result {
    let zone = p.str("zone")?;
    let (step, radius) = (p.num("angleStep", 15.0)?, p.num("radius", 100.0)?);
    match pattern {
        "linear" => lay_out(cx, zone, |i, _| (i * step, 0.0)),
        "arc" => lay_out(cx, zone, |i, n| {
            let a = (i - n / 2.0) * step * std::f64::consts::PI / 180.0;
            (libm::cos(a) * radius, libm::sin(a) * radius)
        }),
        other => Err(Error::bad_payload(format!("field pattern: want \"linear\" or \"arc\", got {}", quote(other)))),
    }
}

fn stack_zone(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    lay_out(cx, p.str("zone")?, |_, _| (0.0, 0.0))
}

fn transfer(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let (from, to) = (p.str("fromZone")?, p.str("toZone")?);
    let mut moved = 0;
    if !cx.state.is_locked(from) && !cx.state.is_locked(to) {
        let ids = |z: &Zone| z.items.values().map(|p| p.id.clone()).collect::<Vec<_>>();
        let ids = cx.state.zone(from).map(ids);
        moved = ids.as_ref().map_or(0, Vec::len);
        if from != to {
            if moved > 0 {
                cx.state.create_zone(to);
            }
            for id in ids.unwrap_or_default() {
                let placement = cx.state.unplace(&id);
                cx.state.place(to, placement);
            }
        }
    }
    cx.out.int(moved as i64);
    Ok(())
}

fn clear(cx: &mut Context<'_>, _: &Payload<'_>) -> Result {
    cx.state.replace(Section::Zones(Zones { made: true, ..Zones::default() }));
    cx.state.replace(Section::Locked(Default::default()));
    Ok(())
}
