//! Opens an engine from a setup: `{stack?: [token], source?: {stacks: [[token]], reshuffle?:
//! {threshold, mode}}}`. The setup comes in pieces, which may be cut at any byte. Tokens go into
//! the state one by one, so the whole setup is never in memory.

use crate::error::{Error, Result, clip};
use crate::payload::{check_fields, unknown_member};
use crate::sections::{Limits, Pile, Source, SourceStack};
use crate::state::State;
use crate::token::Token;
use crate::value::{Head, ScanError, Value, head, scan};
use std::collections::BTreeSet;

/// The longest key of a setup, in bytes.
const MAX_KEY: usize = 1 << 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Setup,
    Stack,
    Source,
    Stacks,
    SourceStack,
}

/// Reads a setup.
#[derive(Debug)]
pub(crate) struct SetupReader {
    state: State,
    tail: Vec<u8>,
    begun: bool,
    /// The open containers, the innermost one last, and how many items of each are still to come.
    open: Vec<(Place, usize)>,
    stack_seen: bool,
    /// The keys read so far: those of the setup, and those of its source.
    keys: [BTreeSet<Box<str>>; 2],
    source: Option<Source>,
    stacks: Vec<Vec<Token>>,
}

type Step<T = ()> = std::result::Result<T, ScanError>;

impl From<Error> for ScanError {
    fn from(e: Error) -> Self {
        ScanError::Invalid(e)
    }
}

impl SetupReader {
    pub(crate) fn new(limits: Limits) -> SetupReader {
        SetupReader {
            state: State::new(limits),
            tail: Vec::new(),
            begun: false,
            open: Vec::new(),
            stack_seen: false,
            keys: Default::default(),
            source: None,
            stacks: Vec::new(),
        }
    }

    /// Reads the next piece.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result {
        let mut tail = std::mem::take(&mut self.tail);
        tail.extend_from_slice(piece);
        let mut at = 0;
        while at < tail.len() {
            match self.step(&tail[at..]) {
                Ok(n) => at += n,
                Err(ScanError::Incomplete) => break,
                Err(ScanError::Invalid(e)) => return Err(e),
            }
            if let Some(p) = self.open.iter().rposition(|(_, left)| *left > 0) {
                self.open.truncate(p + 1);
            } else {
                self.open.clear();
            }
        }
        tail.drain(..at);
        if tail.len() as u64 > self.state.limits.max_state + 2 * MAX_KEY as u64 {
            return Err(self.too_large());
        }
        self.tail = tail;
        Ok(())
    }

    /// Returns the state, once everything has been fed. If nothing was fed, the setup is empty.
    pub(crate) fn finish(mut self) -> Result<State> {
        if !self.tail.is_empty() || !self.open.is_empty() {
            return Err(ScanError::Incomplete.into_error());
        }
        if let Some(mut s) = self.source.take() {
            for (i, tokens) in self.stacks.drain(..).enumerate() {
                s.stacks.push(SourceStack { id: format!("stack-{i}").into(), added: false, tokens: tokens.into() });
            }
            s.next_stack = s.stacks.len() as u64;
            self.state.attach_source(s);
        }
        if self.stack_seen {
            let tokens = self.state.pile(Pile::Stack).iter().cloned().collect();
            self.state.attach_stack(tokens);
        }
        self.state.check_size()?;
        self.state.commit();
        Ok(self.state)
    }

    /// Reads one item from the start of `b`: a key with its value or with the header of its
    /// container, a header, or a token. Returns the item's length.
    fn step(&mut self, b: &[u8]) -> Step<usize> {
        let Some((place, left)) = self.open.last_mut() else {
            return self.begin(b);
        };
        *left -= 1;
        let result = match *place {
            Place::Setup => self.setup_entry(b),
            Place::Source => self.source_entry(b),
            Place::Stacks => self.container(b, Place::SourceStack, "setup.source.stacks[]"),
            Place::Stack => self.token(b, "setup.stack[]"),
            Place::SourceStack => self.token(b, "setup.source.stacks[][]"),
        };
        if matches!(result, Err(ScanError::Incomplete)) {
            self.open.last_mut().expect("looked at above").1 += 1;
        }
        result
    }

    fn begin(&mut self, b: &[u8]) -> Step<usize> {
        if self.begun {
            return Err(Error::bad_payload("something follows the setup").into());
        }
        let (h, n) = head(b).ok_or(ScanError::Incomplete)?;
        match h {
            Head::Nil => {}
            Head::Map(left) => self.open.push((Place::Setup, left)),
            _ => return Err(Error::bad_payload("setup: want a map {stack, source}").into()),
        }
        self.begun = true;
        Ok(n)
    }

    fn container(&mut self, b: &[u8], place: Place, field: &str) -> Step<usize> {
        let (h, n) = head(b).ok_or(ScanError::Incomplete)?;
        let left = match (h, place) {
            (Head::Map(left), Place::Source) => left,
            (Head::Array(left), Place::Stack | Place::Stacks | Place::SourceStack) => left,
            (_, Place::Source) => {
                return Err(Error::bad_payload(format!("{field}: want a map {{stacks, reshuffle}}")).into());
            }
            _ => return Err(Error::bad_payload(format!("{field}: want an array")).into()),
        };
        if place == Place::SourceStack {
            self.stacks.push(Vec::new());
        }
        self.open.push((place, left));
        Ok(n)
    }

    fn key<'a>(&self, b: &'a [u8]) -> Step<(&'a str, usize)> {
        let n = scan(b, 1)?.len;
        match Value::trusted(&b[..n]).as_str() {
            Some(k) if k.len() > MAX_KEY => {
                Err(Error::too_large(format!("a key of the setup is longer than {MAX_KEY} bytes")).into())
            }
            Some(k) if n < b.len() => Ok((k, n)),
            Some(_) => Err(ScanError::Incomplete),
            None => Err(Error::bad_payload("a map key of the setup must be a string").into()),
        }
    }

    /// Notes that a key and its value were read. Fails if the key came before.
    fn once(&mut self, level: usize, key: &str) -> Step {
        match self.keys[level].insert(key.into()) {
            true => Ok(()),
            false => Err(Error::bad_payload(format!("the key {:?} stands twice in the setup", clip(key))).into()),
        }
    }

    fn value<'a>(&self, b: &'a [u8]) -> Step<Value<'a>> {
        let n = scan(b, self.state.limits.max_depth as usize)?.len;
        if n as u64 > self.state.limits.max_state {
            return Err(self.too_large().into());
        }
        Ok(Value::trusted(&b[..n]))
    }

    fn too_large(&self) -> Error {
        let max = self.state.limits.max_state;
        Error::too_large(format!("one value of the setup is larger than {max} bytes (MaxStateBytes)"))
    }

    fn setup_entry(&mut self, b: &[u8]) -> Step<usize> {
        let (key, n) = self.key(b)?;
        let rest = &b[n..];
        let nil = rest[0] == 0xc0;
        let n = n + match key {
            "stack" if !nil => {
                let n = self.container(rest, Place::Stack, "setup.stack")?;
                self.stack_seen = true;
                n
            }
            "source" if !nil => {
                let n = self.container(rest, Place::Source, "setup.source")?;
                let nil: Box<[u8]> = [0xc0].into();
                let mode = b"\xa4auto".as_slice().into();
                self.source =
                    Some(Source { stacks: Vec::new(), next_stack: 0, seed: nil.clone(), threshold: nil, mode });
                n
            }
            "stack" | "source" => 1,
            _ => return Err(unknown_member(key, &["source", "stack"], "setup").into()),
        };
        self.once(0, key)?;
        Ok(n)
    }

    fn source_entry(&mut self, b: &[u8]) -> Step<usize> {
        let (key, n) = self.key(b)?;
        let rest = &b[n..];
        let n = n + match key {
            "stacks" => self.container(rest, Place::Stacks, "setup.source.stacks")?,
            "reshuffle" => {
                let v = self.value(rest)?;
                self.policy(v)?;
                v.bytes().len()
            }
            _ => return Err(unknown_member(key, &["reshuffle", "stacks"], "setup.source").into()),
        };
        self.once(1, key)?;
        Ok(n)
    }

    fn policy(&mut self, v: Value<'_>) -> Result {
        if v.is_nil() {
            return Ok(());
        }
        if v.entries().is_none() {
            let got = v.describe();
            return Err(Error::bad_payload(format!(
                "setup.source.reshuffle: want a map {{threshold, mode}}, got {got}"
            )));
        }
        check_fields(v, "setup.source.reshuffle", &["mode", "threshold"])?;
        let s = self.source.as_mut().expect("the policy lies in a source");
        if let Some(t) = v.get("threshold").filter(|t| !t.is_nil()) {
            if t.as_f64().is_none() {
                let got = t.describe();
                return Err(Error::bad_payload(format!("setup.source.reshuffle.threshold: want a number, got {got}")));
            }
            s.threshold = t.bytes().into();
        }
        if let Some(m) = v.get("mode").filter(|m| !m.is_nil()) {
            if m.as_str().is_none() {
                let got = m.describe();
                return Err(Error::bad_payload(format!("setup.source.reshuffle.mode: want a string, got {got}")));
            }
            s.mode = m.bytes().into();
        }
        Ok(())
    }

    fn token(&mut self, b: &[u8], field: &str) -> Step<usize> {
        let v = self.value(b)?;
        let t = Token::new(v, field)?;
        if self.open.last().is_some_and(|(p, _)| *p == Place::Stack) {
            self.state.push(Pile::Stack, t);
        } else {
            self.stacks.last_mut().expect("a stack of the source is open").push(t.clone());
            self.state.push(Pile::Source, t);
        }
        self.state.commit();
        self.state.check_size()?;
        Ok(v.bytes().len())
    }
}
