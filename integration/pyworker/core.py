"""Instances of a core under wasmtime, as ABI.md has them."""

import struct

import msgpack
import wasmtime

ABI_VERSION = 1
PAGE = 64 << 10
MAX_INPUT = 64 << 20
MAX_CHUNK = 1 << 20
MAX_ERROR = 64 << 10
MAX_TABLE = 1 << 20
SMALL_INPUT, KEPT_INPUT = 4 << 10, 256 << 10

OPEN, RESTORE, FEED, READY, DISPATCH, BATCH = 1, 2, 3, 4, 5, 6
SNAPSHOT, STATE, NEXT, DIGEST, ACTIONS = 7, 8, 9, 10, 11

REPLY = struct.Struct("<10IQ")
ENTRY = struct.Struct("<IBBH")
LIMITS = struct.Struct("<QII")
DISPATCH_HEAD = struct.Struct("<q16sI")

FUNCTIONS = {"ht_abi": (0, 1), "ht_reply": (0, 1), "ht_input": (1, 1), "ht_call": (2, 1)}


class CoreError(Exception):
    """What a core answered to a call that failed. The instance lives on."""

    def __init__(self, code, message, index=-1):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.index = code, message, index


class Trap(CoreError):
    """The instance is of no use any more."""


def broken(how):
    """Returns what a core that breaks the ABI is treated as."""
    return Trap("trap", f"the core breaks its ABI: {how}")


def read_error(body):
    """Reads an error. Raises Trap if it is none."""
    if len(body) > MAX_ERROR:
        raise broken(f"its error has {len(body)} bytes")
    try:
        value = msgpack.unpackb(body)
        code, message, index = value["code"], value.get("message", ""), value.get("index", -1)
        if not (isinstance(code, str) and code and isinstance(message, str) and type(index) is int):
            raise ValueError("a member has another type")
    except Exception as e:
        raise broken(f"its error cannot be read: {e}") from e
    return CoreError(code, message, index)


def dispatch_input(action):
    return DISPATCH_HEAD.pack(action.now, action.entropy, len(action.type)) + action.type + action.payload


class Reply:
    __slots__ = ("changed", "body", "table", "events")


class Core:
    """A compiled core."""

    def __init__(self, code, memory_limit):
        self.memory_limit = memory_limit // PAGE * PAGE
        config = wasmtime.Config()
        config.cranelift_opt_level = "none"  # it compiles faster, and runs slower
        self.engine = wasmtime.Engine(config)
        self.module = wasmtime.Module(self.engine, code)
        if self.module.imports:
            raise ValueError("the core imports something: a core imports nothing")
        exports = {e.name: e.type for e in self.module.exports}
        if not isinstance(exports.get("memory"), wasmtime.MemoryType):
            raise ValueError("the core does not export its memory")
        for name, (parameters, results) in FUNCTIONS.items():
            t = exports.get(name)
            if not isinstance(t, wasmtime.FuncType):
                raise ValueError(f"the core does not export the function {name}")
            if [str(v) for v in t.params] != ["i32"] * parameters or [str(v) for v in t.results] != ["i32"] * results:
                raise ValueError(f"the core's {name} has another type")


class Instance:
    """One engine. It is not safe for use by several threads."""

    def __init__(self, core):
        self.core = core
        self.store = wasmtime.Store(core.engine)
        self.store.set_limits(memory_size=core.memory_limit, table_elements=MAX_TABLE)
        exports = wasmtime.Instance(self.store, core.module, []).exports(self.store)
        self.memory, self.ht_input, self.ht_call = exports["memory"], exports["ht_input"], exports["ht_call"]
        version = exports["ht_abi"](self.store)
        if version != ABI_VERSION:
            raise ValueError(f"the core speaks version {version} of the ABI, not {ABI_VERSION}")
        self.reply = exports["ht_reply"](self.store) & 0xFFFFFFFF
        self.address, self.room = 0, 0

    def size(self):
        """Returns the bytes of linear memory."""
        return self.memory.data_len(self.store)

    def read(self, address, length):
        if length == 0:
            return b""
        if address + length > self.size():
            raise broken(f"{length} bytes at {address} are outside its memory")
        return bytes(self.memory.read(self.store, address, address + length))

    def write(self, address, b):
        if address + len(b) > self.size():
            raise broken(f"{len(b)} bytes at {address} are outside its memory")
        self.memory.write(self.store, b, address)

    def run(self, function, *arguments):
        try:
            return function(self.store, *arguments) & 0xFFFFFFFF
        except (wasmtime.Trap, wasmtime.WasmtimeError) as e:
            if self.read(self.reply, 4) == b"\2\0\0\0":
                limit = self.core.memory_limit
                raise Trap("out_of_memory", f"the core used up its {limit} bytes of memory") from e
            raise Trap("trap", f"the core trapped: {str(e).splitlines()[-1].strip()}") from e

    def call(self, op, data=b""):
        """Runs a call. Raises CoreError if it fails, Trap if that costs the instance."""
        n = len(data)
        if n > MAX_INPUT:
            raise CoreError("too_large", f"the request is {n} bytes long, a core takes {MAX_INPUT}")
        if n > self.room or n <= KEPT_INPUT < self.room:
            self.write(self.reply, b"\0\0\0\0")
            room = max(n, SMALL_INPUT)
            self.address = self.run(self.ht_input, room)
            if self.address == 0:
                raise broken(f"it has no room for {room} bytes")
            self.room = room
        if n:
            self.write(self.address, data)
        self.write(self.reply, b"\0\0\0\0")
        self.run(self.ht_call, op, n)
        words = REPLY.unpack(self.read(self.reply, REPLY.size))
        status, changed, body, body_len, table, table_len, events, events_len = words[:8]
        r = Reply()
        r.changed, r.body = changed != 0, self.read(body, body_len)
        r.table, r.events = self.read(table, table_len), self.read(events, events_len)
        if status != 0:
            raise read_error(r.body)
        return r

    def open(self, limits):
        self.call(OPEN, LIMITS.pack(*limits))

    def restore(self):
        self.call(RESTORE)

    def feed(self, piece):
        self.call(FEED, piece)

    def ready(self):
        self.call(READY)

    def dispatch(self, action):
        return self.call(DISPATCH, dispatch_input(action))

    def batch(self, actions, atomic):
        """Runs a batch.

        It returns the reply, and for each member whether it changed the state, and its result or its error.
        """
        parts = [struct.pack("<II", 0 if atomic else 1, len(actions))]
        for a in actions:
            one = dispatch_input(a)
            parts += [struct.pack("<I", len(one)), one]
        try:
            r = self.call(BATCH, b"".join(parts))
        except Trap:
            raise
        except CoreError as e:
            if e.index >= len(actions):
                raise broken(f"member {e.index} of a batch of {len(actions)} failed") from e
            raise
        if len(r.table) != ENTRY.size * len(actions):
            raise broken(f"a table of {len(r.table)} bytes for a batch of {len(actions)}")
        members, begin = [], 0
        for end, failed, changed, _ in ENTRY.iter_unpack(r.table):
            if end < begin or end > len(r.body):
                raise broken("its table leaves the body")
            part = r.body[begin:end]
            members.append((changed != 0, read_error(part) if failed else part))
            begin = end
        return r, members

    def stream(self, op):
        """Yields the pieces of a snapshot or a state."""
        self.call(op)
        while piece := self.call(NEXT).body:
            if len(piece) > MAX_CHUNK:
                raise broken(f"a piece of {len(piece)} bytes")
            yield piece

    def digest(self):
        b = self.call(DIGEST).body
        if len(b) != 8:
            raise broken(f"a digest of {len(b)} bytes")
        return b

    def actions(self):
        return self.call(ACTIONS).body
