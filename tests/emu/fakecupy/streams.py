"""Streams, events and graphs: what is ordered after what, and recorded work.

Everything runs at once, in the order of the Python program. What is checked is whether a GPU would have to run it in
that order: each stream has a clock, and knows up to which tick it waits for other streams; an operation on a block that
another stream used later than that is an error.
"""

import time
import weakref
from collections.abc import Callable, Sequence

from .. import control
from ..errors import EmuError
from . import memory
from .memory import Block, this_thread

_host_seen: dict[int, int] = {}  # stream key -> tick that the host has waited for
_host_floor = [0] * memory.N_DEVICES  # device -> tick up to which the host has waited for all its streams
_tick = [0]  # one clock for all streams: an operation's tick is never used again
_streams: "weakref.WeakValueDictionary[int, Stream]" = weakref.WeakValueDictionary()
_next_key = [1]


def _join(into: dict[int, int], other: dict[int, int]) -> None:
    for key, tick in other.items():
        if into.get(key, 0) < tick:
            into[key] = tick


class Stream:
    """As cupy.cuda.Stream."""

    __module__ = "cupy.cuda.stream"
    null: "Stream"

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        if ptds:
            raise EmuError("per-thread default streams are not emulated")
        with control.lock:
            self._key = 0 if null else _next_key[0]
            _next_key[0] += not null
        self.ptr = self._key * 1024
        self.device_id = -1 if null else memory.current_device()
        self._null, self._non_blocking = bool(null), bool(non_blocking)
        self._tick = 0
        self._seen: dict[int, int] = {}
        self._recording: list[_Node] | None = None
        if not null:
            _streams[self._key] = self

    def __eq__(self, other):
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self):
        return hash(self.ptr)

    def __enter__(self):
        self._check_device()
        _stack().append((self, current()))
        _current()[memory.current_device()] = self
        return self

    def __exit__(self, *exc):
        stream, before = _stack().pop()
        device = memory.current_device() if stream.device_id < 0 else stream.device_id
        _current()[device] = before

    def use(self):
        self._check_device()
        _current()[memory.current_device()] = self
        return self

    def _check_device(self):
        if self.device_id not in (-1, memory.current_device()):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id}) does not match with the "
                f"current device ({memory.current_device()})"
            )

    @property
    def done(self) -> bool:
        return True

    @property
    def is_non_blocking(self) -> bool:
        return self._non_blocking

    def synchronize(self) -> None:
        host_waits(self)

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event) -> None:
        _refuse_capture("wait_event")
        _join(self._seen, event._seen)

    def begin_capture(self, mode=None) -> None:
        if self._null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self._recording is not None or this_thread.capturing is not None:
            raise EmuError("a capture is already going on in this thread or stream")
        self._recording = []
        this_thread.capturing = self

    def end_capture(self):
        if self._recording is None or this_thread.capturing is not self:
            raise EmuError("end_capture without begin_capture on this stream and thread")
        nodes, self._recording = self._recording, None
        this_thread.capturing = None
        return Graph._of(nodes, memory.current_device())

    def is_capturing(self) -> bool:
        return self._recording is not None

    def _now(self) -> dict[int, int]:
        """What is before the next operation of this stream."""
        if self._null:  # the legacy default stream and the blocking streams wait for each other
            for other in list(_streams.values()):
                if not other._non_blocking:
                    _join(self._seen, {**other._seen, other._key: other._tick})
        elif not self._non_blocking:
            _join(self._seen, {**Stream.null._seen, 0: Stream.null._tick})
        return {**self._seen, self._key: self._tick}


Stream.null = Stream(null=True)


def _stack() -> list:
    if not hasattr(this_thread, "stream_stack"):
        this_thread.stream_stack = []
    return this_thread.stream_stack


def _current() -> list:
    if not hasattr(this_thread, "streams"):
        this_thread.streams = [Stream.null] * memory.N_DEVICES
    return this_thread.streams


def current() -> Stream:
    return _current()[memory.current_device()]


def get_current_stream(device_id=-1) -> Stream:
    return _current()[memory.current_device() if device_id == -1 else device_id]


class Event:
    """As cupy.cuda.Event."""

    __module__ = "cupy.cuda.stream"

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        if interprocess:
            raise EmuError("events between processes are not emulated")
        self.ptr = id(self)
        self._timing = not disable_timing
        self._seen: dict[int, int] = {}
        self._time: float | None = None

    @property
    def done(self) -> bool:
        return True

    def record(self, stream=None) -> None:
        _refuse_capture("Event.record")
        self._seen = (stream or current())._now()
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        _refuse_capture("Event.synchronize", capture_error=True)
        control.count("syncs")
        _join(_host_seen, self._seen)


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two recorded events; here, of the emulator, so only their order means something."""
    for event in (start_event, end_event):
        if not event._timing or event._time is None:
            raise EmuError("cudaErrorInvalidResourceHandle: the event was not recorded, or has timing disabled")
        if any(_host_seen.get(k, 0) < t for k, t in event._seen.items()):
            raise EmuError("cudaErrorNotReady: nothing waited for the event")
    return 1e3 * (end_event._time - start_event._time)


class _Node:
    """A recorded operation. It holds addresses, not arrays: as in CUDA, nobody keeps the memory alive."""

    def __init__(self, what: str, run: Callable[[], None], reads: Sequence[Block], writes: Sequence[Block]):
        self.what, self.run = what, run
        self.reads = [weakref.ref(b) for b in reads]
        self.writes = [weakref.ref(b) for b in writes]


class Graph:
    """As cupy.cuda.Graph."""

    __module__ = "cupy.cuda.graph"

    def __init__(self, *args, **kwargs):
        raise NotImplementedError(
            "currently this class cannot be initiated by the user and must be created via stream capture"
        )

    @classmethod
    def _of(cls, nodes: list[_Node], device: int) -> "Graph":
        graph = cls.__new__(cls)
        graph._nodes, graph._device = nodes, device
        return graph

    def launch(self, stream=None) -> None:
        _refuse_capture("Graph.launch")
        if self._device != memory.current_device():
            raise EmuError(
                f"the graph was captured on device {self._device}, the current one is {memory.current_device()}"
            )
        control.count("graph_launches")
        with control.lock:
            for node in self._nodes:
                reads, writes = [r() for r in node.reads], [w() for w in node.writes]
                if None in reads or None in writes:
                    raise EmuError(f"the graph replays {node.what} on a device array that has been freed")
                _order(stream or current(), reads, writes, node.what)
                node.run()

    def upload(self, stream=None) -> None:
        _refuse_capture("Graph.upload")


def _refuse_capture(what: str, capture_error: bool = False) -> None:
    if this_thread.capturing is not None:
        reason = "cudaErrorStreamCaptureUnsupported" if capture_error else "the emulator does not record it"
        raise EmuError(f"{what} while a stream is captured: {reason}")


def host_waits(stream: Stream | None = None, what: str = "a host synchronisation", reads: Sequence[Block] = ()) -> None:
    """The host waits for a stream, or for the whole device; with `reads`, after a copy on that stream."""
    _refuse_capture(what, capture_error=True)
    control.count("syncs")
    with control.lock:
        if stream is not None:
            _order(stream, reads, (), what)
            _join(_host_seen, stream._now())
        else:
            _host_floor[memory.current_device()] = _tick[0]


def _order(stream: Stream, reads: Sequence[Block], writes: Sequence[Block], what: str) -> None:
    before = stream._now()

    def ordered(block: Block, key: int, tick: int) -> bool:
        return key == stream._key or max(before.get(key, 0), _host_seen.get(key, 0), _host_floor[block.device]) >= tick

    for b in [*reads, *writes]:
        if b.wrote is not None and not ordered(b, *b.wrote):
            raise EmuError(f"{what} uses an array that another stream wrote, and does not wait for that stream")
    for b in writes:
        if not all(ordered(b, k, t) for k, t in b.read.items()):
            raise EmuError(f"{what} overwrites an array that another stream reads, and does not wait for that stream")
    _tick[0] += 1
    stream._tick = _tick[0]
    for b in reads:
        b.read[stream._key] = stream._tick
    for b in writes:
        b.wrote, b.read = (stream._key, stream._tick), {}


def submit(
    what: str, run: Callable[[], None], reads: Sequence[Block], writes: Sequence[Block], kind: str = "array_ops"
) -> None:
    """Do something on the current stream, now; or record it, if the stream is captured. `run` must not hold blocks."""
    stream = current()
    with control.lock:
        if this_thread.capturing is not None:
            if this_thread.capturing is not stream:
                raise EmuError(f"{what} is not on the stream that this thread captures")
            stream._recording.append(_Node(what, run, reads, writes))
            return
        control.count(kind)
        if stream._recording is not None:
            raise EmuError(f"{what} is on a stream that another thread captures")
        _order(stream, reads, writes, what)
        run()
