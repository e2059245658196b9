//! The core with the built-in actions: core.wasm.

hypertoken_core::export!(hypertoken_core::Registry::builtin);
