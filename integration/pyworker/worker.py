"""A worker in Python. It uses nothing but what PROTOCOL.md and core-rs/ABI.md say, to show that they are enough.

It is not made to be fast. A host starts it like any other worker, by the path of a script that runs
`exec PYTHON -B worker.py "$@"` with a Python that has what requirements.txt lists.
"""

import collections
import hashlib
import json
import os
import secrets
import select
import sys
import threading
import time
import traceback

sys.dont_write_bytecode = True

import confine
import core
import wire

COOKIE = "0d5b9d6c8ea04f6e"
MAX_CORE = 1 << 30
MAX_ACTIONS = 1 << 20
READ_SIZE = 256 << 10


class Log:
    """Writes records to standard error. One that nobody reads is lost."""

    def __init__(self):
        self.debugging = False

    def write(self, level, message, **attributes):
        at = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"
        try:
            os.write(2, json.dumps({"time": stamp, "level": level, "msg": message, **attributes}).encode() + b"\n")
        except OSError:
            pass

    def debug(self, message, **attributes):
        if self.debugging:
            self.write("DEBUG", message, **attributes)


class Failure(Exception):
    """A request that fails."""

    def __init__(self, code, message, index=-1, lost=False):
        super().__init__(message)
        self.code, self.message, self.index, self.lost = code, message, index, lost


class Placement:
    """One stay of an engine here."""

    def __init__(self):
        self.instance, self.ready, self.sequence = None, False, 0

    def memory(self):
        return self.instance.size() if self.instance else 0

    def free(self):
        self.instance, self.ready = None, False

    def finish_feeding(self):
        """Ends the state that was fed. The first replay does that, or ready."""
        if not self.ready:
            self.instance.ready()
            self.ready = True


class Worker:
    """Runs requests in the order of their arrival."""

    def __init__(self, frames_in, frames_out, log, landlock):
        self.frames_in, self.frames_out, self.log, self.landlock = frames_in, frames_out, log, landlock
        self.reader = wire.Reader()
        self.queue = collections.deque()
        self.placements = {}
        self.config = None
        self.core_pieces = bytearray()
        self.core = None
        self.max_frame = wire.FIRST_MAX_FRAME
        self.run_of = {
            wire.OPEN: self.open, wire.FEED: self.feed, wire.REPLAY: self.replay, wire.READY: self.ready,
            wire.DISPATCH: self.dispatch, wire.BATCH: self.batch, wire.SNAPSHOT: self.stream, wire.STATE: self.stream,
            wire.DIGEST: self.digest,
        }

    # Reading and writing.

    def hello(self):
        build = f"pyworker (Python {sys.version.split()[0]})"
        hello = {"protocol": wire.VERSION, "build": build, "core": "", "pid": os.getpid()}
        self.send(wire.HELLO, 0, 0, 0, wire.pack(hello))

    def send(self, kind, flags, request, placement, body=b""):
        self.write(wire.frame(kind, flags, request, placement, body))

    def write(self, b):
        view = memoryview(b)
        while view:
            view = view[os.write(self.frames_out, view):]

    def serve(self):
        """Runs until standard input ends."""
        while True:
            # What has arrived is read before each request: it may recall it.
            while not self.queue or select.select([self.frames_in], [], [], 0)[0]:
                piece = os.read(self.frames_in, READ_SIZE)
                if not piece:
                    return
                self.reader.feed(piece)
                self.take_frames()
            self.run(self.queue.popleft())

    def take_frames(self):
        while frame := self.reader.next():
            if frame.kind == wire.RECALL:
                self.drop(lambda f: f.request == frame.request)
            elif frame.kind == wire.CLOSE:
                self.drop(lambda f: f.placement == frame.placement != 0)
                if placement := self.placements.pop(frame.placement, None):
                    placement.free()
            elif frame.request == 0:
                raise wire.Malformed(f"a frame of the kind {frame.kind} has no request ID")
            else:
                self.queue.append(frame)

    def drop(self, match):
        kept = collections.deque()
        for f in self.queue:
            if match(f):
                self.send(wire.DROPPED, 0, f.request, f.placement)
            else:
                kept.append(f)
        self.queue = kept

    def answer(self, frame, flags=0, run_time=0, sequence=0, memory=0, result=b"", events=b""):
        """Sends an outcome. Returns False if it does not fit into a frame."""
        body = wire.pack([run_time, sequence, memory, wire.checksum(result), result, events])
        if len(body) + wire.HEADER.size > self.max_frame:
            return False
        self.send(wire.ANSWER, flags, frame.request, frame.placement, body)
        return True

    def fail(self, frame, failure, run_time=0, sequence=0, memory=0):
        flags = wire.FAILED | (wire.LOST if failure.lost else 0)
        body = wire.pack([run_time, sequence, memory, failure.code, failure.message, failure.index])
        self.send(wire.ANSWER, flags, frame.request, frame.placement, body)

    # The configuration.

    def configure(self, frame):
        if self.config is not None:
            raise wire.Malformed("a second configure")
        c = {k.decode(): v for k, v in wire.control(frame.body).items()}
        numbers = {k: c.get(k, 0) for k in ("core_bytes", "engine_memory", "max_frame", "poll_for")}
        if not all(wire.is_uint(v) for v in numbers.values()) or not c.get("core"):
            raise wire.Malformed("configure has no core, or a number that is none")
        if not wire.FIRST_MAX_FRAME <= numbers["max_frame"] < 1 << 31 or numbers["core_bytes"] > MAX_CORE:
            raise wire.Malformed("configure has a number that is out of bounds")
        self.config = numbers | {"core": c["core"].decode(), "actions": bool(c.get("actions"))}
        self.max_frame = self.reader.max_frame = numbers["max_frame"]
        self.log.debugging = bool(c.get("debug"))
        if self.config["core_bytes"] > 0:
            self.answer(frame)
        else:
            self.fail(frame, Failure("no_core", "this worker has no core of its own"))

    def take_core(self, frame):
        c = self.config
        if c is None or self.core is not None:
            raise wire.Malformed("a piece of a core that is not expected")
        self.core_pieces += wire.piece(frame.body, wire.PIECE)
        if len(self.core_pieces) > c["core_bytes"]:
            raise wire.Malformed("more of a core than was announced")
        if len(self.core_pieces) < c["core_bytes"]:
            self.answer(frame)
            return
        code, self.core_pieces = bytes(self.core_pieces), bytearray()
        if hashlib.sha256(code).hexdigest() != c["core"]:
            raise wire.Malformed("the core has another hash than was announced")
        self.use(frame, code)

    def use(self, frame, code):
        """Compiles the core, and answers the last frame of the configuration."""
        began, c = time.monotonic(), self.config
        try:
            if not 2 << 20 <= c["engine_memory"] <= 4 << 30:
                raise ValueError(f"an engine's memory of {c['engine_memory']} bytes")
            compiled = core.Core(code, c["engine_memory"])
            first = core.Instance(compiled)
        except Exception as e:
            self.fail(frame, Failure("no_core", str(e)))
            return
        self.core = compiled
        actions = b""
        if c["actions"]:
            try:
                actions = first.actions()
            except core.CoreError as e:
                self.log.write("WARN", "the core's list of actions can't be used", error=str(e))
            if len(actions) > MAX_ACTIONS:
                actions = b""
        self.log.debug("the core is compiled", seconds=round(time.monotonic() - began, 3), landlock=self.landlock)
        self.answer(frame, result=actions)

    # Requests.

    def run(self, frame):
        if frame.kind == wire.PING:
            self.answer(frame)
        elif frame.kind == wire.CONFIGURE:
            self.configure(frame)
        elif frame.kind == wire.CORE:
            self.take_core(frame)
        elif self.core is None:
            raise wire.Malformed(f"a frame of the kind {frame.kind} before the worker is configured")
        elif frame.placement == 0:
            raise wire.Malformed(f"a frame of the kind {frame.kind} without a placement")
        else:
            self.run_request(frame)

    def run_request(self, frame):
        placement = self.placements.get(frame.placement)
        if placement is None:
            placement = Placement()  # closed, or never opened
            if frame.kind == wire.OPEN:
                self.placements[frame.placement] = placement
        began = time.perf_counter_ns()
        flags, result, events = 0, b"", b""
        try:
            flags, result, events = self.run_of[frame.kind](frame, placement)
        except core.CoreError as e:
            # Until a placement is ready, any failure loses it.
            lost = isinstance(e, core.Trap) or frame.kind in (wire.OPEN, wire.FEED, wire.REPLAY, wire.READY)
            failure = Failure(e.code, e.message, e.index, lost)
        except Failure as e:
            failure = e
        else:
            took = time.perf_counter_ns() - began
            if self.answer(frame, flags, took, placement.sequence, placement.memory(), result, events):
                return
            failure = Failure("too_large", f"the answer does not fit into {self.max_frame} bytes", lost=True)
        took = time.perf_counter_ns() - began
        if failure.lost:
            placement.free()
        self.fail(frame, failure, took, placement.sequence, placement.memory())

    def placed(self, placement):
        if placement.instance is None:
            raise Failure("not_placed", "the placement is not open", lost=True)

    def placed_ready(self, placement):
        if not placement.ready:
            raise Failure("not_placed", "the placement is not open, or not ready", lost=True)

    def open(self, frame, placement):
        snapshot, limits, sequence = wire.read_open(frame.body)
        if placement.instance is not None:
            raise wire.Malformed(f"the placement {frame.placement} is opened twice")
        placement.sequence = sequence
        try:
            placement.instance = core.Instance(self.core)
        except Exception as e:
            raise Failure("not_placed", f"no instance: {e}", lost=True) from e
        if snapshot:
            placement.instance.restore()
        else:
            placement.instance.open(limits)
        return 0, b"", b""

    def feed(self, frame, placement):
        piece = wire.piece(frame.body, wire.PIECE)
        self.placed(placement)
        placement.instance.feed(piece)
        return 0, b"", b""

    def replay(self, frame, placement):
        self.placed(placement)
        placement.finish_feeding()
        for n, (action, wanted) in enumerate(wire.read_entries(frame.body)):
            where = f"sequence {placement.sequence + 1}, {action.type.decode(errors='replace')}"
            try:
                result = placement.instance.dispatch(action).body
            except core.Trap:
                raise
            except core.CoreError as e:
                raise Failure("diverged", f"{where}: it was acknowledged, and now fails: {e}", n, lost=True) from e
            if wire.checksum(result) != wanted:
                raise Failure("diverged", f"{where}: its result is not the one that was acknowledged", n, lost=True)
            placement.sequence += 1
        return 0, b"", b""

    def ready(self, frame, placement):
        self.placed(placement)
        placement.finish_feeding()
        return 0, b"", b""

    def has_sequence(self, placement, action, index):
        if action.sequence is not None and action.sequence != placement.sequence:
            message = f"the engine has the sequence {placement.sequence}, not {action.sequence}"
            raise Failure("conflict", message, index)

    def dispatch(self, frame, placement):
        action = wire.Action(wire.unpack(frame.body))
        self.placed_ready(placement)
        self.has_sequence(placement, action, -1)
        r = placement.instance.dispatch(action)
        if r.changed or frame.flags & wire.JOURNALED:
            placement.sequence += 1
        return wire.CHANGED if r.changed else 0, r.body, r.events

    def batch(self, frame, placement):
        members = wire.read_batch(frame.body)
        self.placed_ready(placement)
        for index, (_, action) in enumerate(members):
            self.has_sequence(placement, action, index)
        r, outcomes = placement.instance.batch([a for _, a in members], frame.flags & wire.ATOMIC != 0)
        result = []
        for (journaled, _), (changed, outcome) in zip(members, outcomes):
            if isinstance(outcome, core.CoreError):
                result.append(wire.pack([outcome.code, outcome.message]))
                continue
            if changed or journaled:
                placement.sequence += 1
            result.append(wire.pack([changed, wire.checksum(outcome), outcome]))
        return wire.CHANGED if r.changed else 0, b"".join(result), r.events

    def stream(self, frame, placement):
        self.placed_ready(placement)
        for piece in placement.instance.stream(core.SNAPSHOT if frame.kind == wire.SNAPSHOT else core.STATE):
            self.send(wire.CHUNK, 0, frame.request, frame.placement, wire.pack(piece))
        return 0, b"", b""

    def digest(self, frame, placement):
        self.placed_ready(placement)
        return 0, placement.instance.digest(), b""


def exit_with_host(frames_in):
    """Ends the process when standard input ends, whatever runs."""
    poll = select.poll()
    poll.register(frames_in, 0)  # only the end, which is always reported
    poll.poll()
    os._exit(0)


def main():
    if os.environ.get("HYPERTOKEN_WORKER") != COOKIE:
        print("this is a worker of HyperToken: a host starts it (host.Options.WorkerPath)", file=sys.stderr)
        return 2
    frames_in, frames_out = confine.take_descriptors()
    log = Log()
    try:
        landlock = confine.give_up_files()
    except OSError as e:
        landlock = 0
        log.write("WARN", "the worker keeps its files", error=str(e))
    threading.Thread(target=exit_with_host, args=(frames_in,), daemon=True).start()
    worker = Worker(frames_in, frames_out, log, landlock)
    try:
        # Nobody listens there, and nobody connects.
        worker.write(f"1|1|unix|@hypertoken-{secrets.token_hex(16)}|netrpc|\n".encode())
        worker.hello()
        worker.serve()
    except BrokenPipeError:
        pass  # nobody reads: the host is gone
    except wire.Malformed as e:
        log.write("ERROR", "the host broke the protocol", error=str(e))
        return 3
    except Exception:
        log.write("ERROR", "the worker failed", error=traceback.format_exc())
        return 1
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    status = main()
    os._exit(status)
