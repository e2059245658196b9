//! Every recorded run of the reference, step by step, with a snapshot restored into a fresh core after each.

mod support;

use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use support::Host;

struct Bindings(BTreeMap<String, Json>);

impl Bindings {
    fn fill(&self, v: &Json) -> Json {
        let name = |s: &String| match s.strip_prefix("$id") {
            Some(_) => self.0.get(s).and_then(Json::as_str).unwrap_or(s).to_string(),
            None => s.clone(),
        };
        match v {
            Json::String(s) => name(s).into(),
            Json::Array(a) => a.iter().map(|v| self.fill(v)).collect::<Vec<_>>().into(),
            Json::Object(m) => m.iter().map(|(k, v)| (name(k), self.fill(v))).collect::<serde_json::Map<_, _>>().into(),
            _ => v.clone(),
        }
    }

    fn same(&mut self, want: &Json, got: &Json, at: &str) -> Result<(), String> {
        let differ = || Err(format!("{at}: want {want}, got {got}"));
        match (want, got) {
            (Json::String(s), Json::String(_)) if s.starts_with("$id") => match self.0.get(s) {
                None => {
                    self.0.insert(s.clone(), got.clone());
                    Ok(())
                }
                Some(b) if b == got => Ok(()),
                Some(b) => Err(format!("{at}: {s} was {b}, now it is {got}")),
            },
            (Json::Number(a), Json::Number(b)) => {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                if (a - b).abs() <= 1e-9 { Ok(()) } else { differ() }
            }
            (Json::Array(a), Json::Array(b)) => {
                if a.len() != b.len() {
                    return differ();
                }
                a.iter().zip(b).enumerate().try_for_each(|(i, (a, b))| self.same(a, b, &format!("{at}[{i}]")))
            }
            (Json::Object(a), Json::Object(b)) => {
                if let Some(k) = b.keys().find(|k| !a.contains_key(*k)) {
                    return Err(format!("{at}.{k}: should not be there"));
                }
                a.iter().try_for_each(|(k, v)| match b.get(k) {
                    Some(x) => self.same(v, x, &format!("{at}.{k}")),
                    None => Err(format!("{at}.{k}: missing")),
                })
            }
            _ if want == got => Ok(()),
            _ => differ(),
        }
    }
}

/// Empty sections are the same as absent ones.
fn trim(state: &Json) -> Json {
    let empty = |v: &Json| v == &json!({}) || v == &json!([]);
    let sections = ["zones", "agents", "transactions", "gameState", "locked"];
    let kept = state.as_object().unwrap().iter().filter(|(k, v)| !(sections.contains(&k.as_str()) && empty(v)));
    kept.map(|(k, v)| (k.clone(), v.clone())).collect::<serde_json::Map<_, _>>().into()
}

fn by_name(v: &Json) -> Json {
    let mut a = v.as_array().cloned().unwrap_or_default();
    a.sort_by_key(|x| x["name"].to_string());
    a.into()
}

fn run(lines: &[Json], snapshots: bool) -> Result<usize, String> {
    let mut h = Host::standard(&lines[0]["setup"]);
    let mut ids = Bindings(BTreeMap::new());
    let mut steps = 0;
    for line in &lines[1..] {
        if let Some(want) = line.get("state") {
            ids.same(&trim(want), &trim(&h.state()), "state")?;
            continue;
        }
        steps += 1;
        let (n, action) = (&line["n"], line["type"].as_str().unwrap());
        let failing = line.get("error").is_some();
        let before = if failing { h.digest() } else { 0 };
        match (h.dispatch(action, &ids.fill(&line["payload"]), line["now"].as_i64().unwrap()), failing) {
            (Ok(_), true) => return Err(format!("step {n} {action}: should have failed")),
            (Err(e), false) => return Err(format!("step {n} {action}: {e:?}, want {}", line["result"])),
            (Err(_), true) => assert_eq!(h.digest(), before, "step {n} {action} failed and had an effect"),
            (Ok(got), false) => {
                let sorted = if action == "agent:getAll" { by_name } else { Json::clone };
                ids.same(&sorted(&line["result"]), &sorted(&got), "result")
                    .map_err(|e| format!("step {n} {action}: {e}"))?;
            }
        }
        if snapshots {
            let (digest, snapshot) = (h.digest(), h.stream(hypertoken_core::abi::Op::Snapshot));
            let bytes = h.core.call(hypertoken_core::abi::Op::Digest as u32, 0).state_bytes;
            let mut other = Host::restore(&snapshot, 1 << 20).map_err(|e| format!("step {n}: {e:?}"))?;
            assert_eq!(other.digest(), digest, "step {n} {action}: the restored state differs");
            let restored = other.core.call(hypertoken_core::abi::Op::Digest as u32, 0).state_bytes;
            assert_eq!(restored, bytes, "step {n} {action}: logical bytes");
            // The rest of the trace goes on from the restored engine.
            h.core = other.core;
        }
    }
    Ok(steps)
}

fn every_trace(snapshots: bool) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../integration/testdata/conformance");
    let mut failures = Vec::new();
    let mut traces = 0;
    for f in std::fs::read_dir(dir).expect("the traces are in the repository") {
        let path = f.unwrap().path();
        if path.extension().is_none_or(|e| e != "jsonl") {
            continue;
        }
        traces += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Json> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        if let Err(e) = run(&lines, snapshots) {
            let e: String = e.chars().take(1500).collect();
            failures.push(format!("{}: {e}", path.file_name().unwrap().to_string_lossy()));
        }
    }
    assert!(traces >= 37, "only {traces} traces found");
    assert!(failures.is_empty(), "{} traces differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn traces() {
    every_trace(false);
}

#[test]
fn traces_from_a_snapshot_after_every_step() {
    every_trace(true);
}
