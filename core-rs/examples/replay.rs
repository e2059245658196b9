//! Runs calls of the ABI natively. It reads them from standard input, and writes each reply to
//! standard output. The integration tests compare the replies with those of WebAssembly, byte for
//! byte.
//!
//! A call is the number of the call (u32; 0 asks for a new core), the length of its input (u32),
//! and the input. A reply is ok and changed (one byte each), the logical bytes of the state (u64),
//! then body, table and events, each after its length (u32). All numbers are little-endian.

use hypertoken_core::Registry;
use hypertoken_core::abi::Core;
use std::io::{self, BufWriter, Read, Write};

fn main() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut core = Core::new(Registry::builtin());
    let mut header = [0; 8];
    while read_header(&mut input, &mut header)? {
        let op = u32::from_le_bytes(header[..4].try_into().expect("four bytes"));
        let len = u32::from_le_bytes(header[4..].try_into().expect("four bytes")) as usize;
        if op == 0 {
            core = Core::new(Registry::builtin());
            continue;
        }
        input.read_exact(core.input(len).expect("the tests keep below the bound"))?;
        let r = core.call(op, len);
        out.write_all(&[r.ok as u8, r.changed as u8])?;
        out.write_all(&r.state_bytes.to_le_bytes())?;
        for part in [r.body, r.table, r.events] {
            out.write_all(&(part.len() as u32).to_le_bytes())?;
            out.write_all(part)?;
        }
    }
    out.flush()
}

fn read_header(input: &mut impl Read, header: &mut [u8; 8]) -> io::Result<bool> {
    match input.read_exact(header) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
