"""Frames and bodies, as PROTOCOL.md has them."""

import struct

import msgpack
import xxhash

VERSION = 1

# Kinds.
CONFIGURE, CORE, OPEN, FEED, REPLAY, READY, DISPATCH = 1, 2, 3, 4, 5, 6, 7
BATCH, SNAPSHOT, STATE, DIGEST, PING, RECALL, CLOSE = 8, 9, 10, 11, 12, 13, 14
HELLO, ANSWER, CHUNK, DROPPED = 64, 65, 66, 67

# Flags.
ATOMIC, JOURNALED, CHANGED, FAILED, LOST = 1, 2, 4, 8, 16
KNOWN_FLAGS = 31

HEADER = struct.Struct("<IBBHQQ")
PIECE = 1 << 20
FIRST_MAX_FRAME = (1 << 20) + (1 << 10)
MAX_CONTROL = 64 << 10
ENTROPY = 16


class Malformed(Exception):
    """The host broke the protocol: the worker ends with status 3."""


class Frame:
    """A frame that the host sent."""

    __slots__ = ("kind", "flags", "request", "placement", "body")

    def __init__(self, kind, flags, request, placement, body):
        self.kind, self.flags, self.request, self.placement, self.body = kind, flags, request, placement, body


def frame(kind, flags, request, placement, body=b""):
    """Returns the bytes of a frame."""
    return HEADER.pack(len(body), kind, flags, 0, request, placement) + body


class Reader:
    """Finds frames in bytes as they come."""

    def __init__(self):
        self.buffer = bytearray()
        self.max_frame = FIRST_MAX_FRAME

    def feed(self, piece):
        self.buffer += piece

    def next(self):
        """Returns the next whole frame, or None. Raises Malformed for bytes that are none."""
        b = self.buffer
        if len(b) < HEADER.size:
            return None
        length, kind, flags, zero, request, placement = HEADER.unpack_from(b)
        if zero != 0:
            raise Malformed("bytes 6 and 7 of a header are not 0")
        if flags & ~KNOWN_FLAGS:
            raise Malformed(f"a header has the flags {flags:#x}")
        if not CONFIGURE <= kind <= CLOSE:
            raise Malformed(f"a host sends no frame of the kind {kind}")
        end = HEADER.size + length
        if end > self.max_frame:
            raise Malformed(f"a frame has {end} bytes, {self.max_frame} are allowed")
        if len(b) < end:
            return None
        body = bytes(b[HEADER.size:end])
        del b[:end]
        return Frame(kind, flags, request, placement, body)


def checksum(b):
    return xxhash.xxh64_intdigest(b)


def pack(value):
    return msgpack.packb(value)


def unpack(body):
    """Reads a body that is one value. Strings and byte strings are both bytes."""
    try:
        return msgpack.unpackb(body, raw=True)
    except Exception as e:
        raise Malformed(f"a body cannot be read: {e}") from e


def unpack_all(body):
    """Reads values that lie one behind the other."""
    unpacker = msgpack.Unpacker(raw=True, max_buffer_size=max(len(body), 1))
    unpacker.feed(body)
    try:
        yield from unpacker
    except Exception as e:
        raise Malformed(f"a body cannot be read: {e}") from e
    if unpacker.tell() != len(body):
        raise Malformed("a body ends in the middle of a value")


def control(body):
    """Reads the map of a control message."""
    if len(body) > MAX_CONTROL:
        raise Malformed(f"a control message has {len(body)} bytes")
    value = unpack(body)
    if not isinstance(value, dict):
        raise Malformed("a control message is no map")
    return value


def piece(body, limit):
    value = unpack(body)
    if not isinstance(value, bytes) or len(value) > limit:
        raise Malformed("a piece is no byte string, or too long")
    return value


def is_uint(v, below=1 << 64):
    return type(v) is int and 0 <= v < below


def array(value, least, most=None):
    if not isinstance(value, list) or not least <= len(value) <= (least if most is None else most):
        raise Malformed(f"want an array of {least} items")
    return value


class Action:
    """An action as the host sends it."""

    __slots__ = ("now", "entropy", "type", "payload", "sequence")

    def __init__(self, value):
        array(value, 4, 5)
        self.now, self.entropy, self.type, self.payload = value[:4]
        self.sequence = value[4] if len(value) == 5 else None
        if type(self.now) is not int or not -(1 << 63) <= self.now < 1 << 63:
            raise Malformed("an action's now is no integer")
        if not isinstance(self.entropy, bytes) or len(self.entropy) != ENTROPY:
            raise Malformed(f"an action's entropy is not {ENTROPY} bytes")
        if not isinstance(self.type, bytes) or not isinstance(self.payload, bytes):
            raise Malformed("an action's type or payload is no byte string")
        if self.sequence is not None and not is_uint(self.sequence):
            raise Malformed("the sequence that an action asks for is no number")


def read_open(body):
    """Returns whether a snapshot is fed, the three limits, and the sequence."""
    snapshot, state, result, depth, sequence = array(unpack(body), 5)
    if type(snapshot) is not bool or not is_uint(state) or not is_uint(sequence):
        raise Malformed("open has an item of another type")
    if not is_uint(result, 1 << 32) or not is_uint(depth, 1 << 32):
        raise Malformed("open has a limit that is too large")
    return snapshot, (state, result, depth), sequence


def read_batch(body):
    """Returns the members: whether each is journaled, and its action."""
    members = unpack(body)
    if not isinstance(members, list):
        raise Malformed("a batch is no array")
    for m in members:
        if type(array(m, 2)[0]) is not bool:
            raise Malformed("a member of a batch does not say whether it is journaled")
    return [(journaled, Action(action)) for journaled, action in members]


def read_entries(body):
    """Returns each entry of a replay: its action, and the checksum of its result."""
    for value in unpack_all(body):
        action, sum64 = array(value, 2)
        if not is_uint(sum64):
            raise Malformed("an entry's checksum is no number")
        yield Action(action), sum64
