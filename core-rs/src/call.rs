//! Lets an action run other actions. To the host, all of them together are one action.

use crate::engine::Context;
use crate::error::{Error, Result, clip, code};
use crate::write::Writer;

/// The greatest depth of calls between actions. An action that the host dispatched is at depth 0,
/// an action that it calls is at depth 1.
pub const MAX_CALL_DEPTH: u32 = 8;

impl Context<'_> {
    /// Runs another action of this core, with the same clock, and returns its result, one value.
    /// `payload` is MessagePack; empty counts as an empty map.
    ///
    /// If the other action fails, its effects on the state, and its events, are taken back at
    /// once, and the caller may go on. If the caller fails later, the effects of both are taken
    /// back. The identifiers that it makes continue the caller's sequence of identifiers. For the
    /// n-th call within a dispatched action, shuffles without a seed draw from stream n + 1 of the
    /// entropy.
    ///
    /// Fails with the other action's error, and with [`code::TOO_DEEP`] beyond [`MAX_CALL_DEPTH`].
    pub fn call_raw(&mut self, action: &str, payload: &[u8]) -> Result<Vec<u8>> {
        if self.depth == MAX_CALL_DEPTH {
            return Err(Error::new(
                code::TOO_DEEP,
                format!(
                    "the action {:?} is not called: actions may call each other {MAX_CALL_DEPTH} deep (MAX_CALL_DEPTH)",
                    clip(action)
                ),
            ));
        }
        let mut out = Writer::new(self.state.limits.max_result as usize);
        let mut inner = Context {
            state: &mut *self.state,
            out: &mut out,
            now: self.now,
            entropy: self.entropy,
            ids: self.ids.take(),
            events: &mut *self.events,
            registry: self.registry,
            stream: self.calls + 2,
            calls: self.calls + 1,
            depth: self.depth + 1,
        };
        let result = inner.run_action(action, payload);
        (self.ids, self.calls) = (inner.ids.take(), inner.calls);
        result.map(|()| out.into_bytes())
    }
}
