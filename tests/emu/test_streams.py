"""Streams, events, captured graphs: what must be ordered is, and what CUDA forbids during a capture is refused."""

import cupy
import numpy as np
import pytest

from tests.conftest import REAL_GPU
from tests.emu import control
from tests.emu.errors import EmuError

pytestmark = pytest.mark.skipif(REAL_GPU, reason="about the stand-in")
SCALE = 'extern "C" __global__ void scale(float* x, float a) { x[threadIdx.x] *= a; }'


@pytest.fixture
def scale():
    return cupy.RawModule(code=SCALE).get_function("scale")


@pytest.fixture
def stream():
    return cupy.cuda.Stream(non_blocking=True)


@pytest.fixture
def x():
    a = cupy.ones(8, np.float32)
    cupy.cuda.Device().synchronize()
    return a


def double(scale, x):
    scale((1,), (8,), (x, np.float32(2)))


def captured(stream, *work):
    with stream:
        stream.begin_capture()
        try:
            for w in work:
                w()
        finally:
            graph = stream.end_capture()
    return graph


def test_capture_records_and_launch_replays(scale, stream, x):
    before = control.counts()
    graph = captured(stream, lambda: double(scale, x), lambda: double(scale, x))
    assert (control.counts() - before) == control.Counts()
    assert x.get().tolist() == [1] * 8
    graph.launch(stream)
    with stream:
        graph.launch()
    stream.synchronize()
    assert x.get().tolist() == [16] * 8
    assert (control.counts() - before).graph_launches == 2


def test_in_place_work_is_recorded_too(stream, x):
    def work():
        x.__iadd__(1)
        x[2:4] = 0
        cupy.multiply(x, 3, out=x)
        cupy.copyto(x[:1], x[2:3])

    graph = captured(stream, work)
    assert x.get().tolist() == [1] * 8
    graph.launch(stream)
    stream.synchronize()
    assert x.get().tolist() == [0, 6, 0, 0, 6, 6, 6, 6]
    with stream:
        stream.begin_capture()
        x.fill(5)
        stream.end_capture()
    assert x.get().tolist() == [0, 6, 0, 0, 6, 6, 6, 6]


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda x: x.get(),
        lambda x: float(x[0]),
        lambda x: bool(x[0] > 0),
        lambda x: x[0].item(),
        lambda x: cupy.cuda.Device().synchronize(),
        lambda x: cupy.cuda.get_current_stream().synchronize(),
        lambda x: cupy.cuda.Event().synchronize(),
        lambda x: x + 1,
        lambda x: x.sum(),
        lambda x: cupy.empty(3),
        lambda x: cupy.asarray(np.ones(3)),
        lambda x: x.set(np.ones(8, np.float32)),
        lambda x: x[x > 0],
    ],
)
def test_what_a_capture_cannot_hold(stream, x, forbidden):
    with stream:
        stream.begin_capture()
        try:
            with pytest.raises(EmuError, match="captur"):
                forbidden(x)
        finally:
            stream.end_capture()
    float(x.sum())  # all is well afterwards


def test_the_default_stream_cannot_be_captured():
    with pytest.raises(RuntimeError, match="default"):
        cupy.cuda.Stream.null.begin_capture()


def test_work_beside_the_captured_stream(scale, stream, x):
    stream.begin_capture()
    try:
        with pytest.raises(EmuError, match="not on the stream that this thread captures"):
            double(scale, x)
    finally:
        stream.end_capture()


def test_replay_on_freed_memory(scale, stream):
    arrays = [cupy.ones(8, np.float32)]
    cupy.cuda.Device().synchronize()
    graph = captured(stream, lambda: double(scale, arrays[0]))
    arrays.clear()
    with pytest.raises(EmuError, match="freed"):
        graph.launch(stream)


def test_replay_on_another_device(scale, stream, x):
    graph = captured(stream, lambda: double(scale, x))
    with cupy.cuda.Device(1), pytest.raises(EmuError, match="captured on device 0"):
        graph.launch()


def test_streams_that_nobody_orders(scale, stream):
    x = cupy.ones(8, np.float32)
    with stream, pytest.raises(EmuError, match="another stream wrote"):
        double(scale, x)
    cupy.cuda.get_current_stream().synchronize()
    with stream:
        double(scale, x)
    with pytest.raises(EmuError, match="another stream wrote"):
        x.get()
    with stream:
        assert float(x[0]) == 2
    assert float(x[0]) == 2  # the host has waited


def test_write_while_another_stream_reads(scale, stream, x):
    y = cupy.zeros(8, np.float32)
    cupy.cuda.Device().synchronize()
    with stream:
        cupy.copyto(y, x)
    with pytest.raises(EmuError, match="another stream reads"):
        double(scale, x)


def test_blocking_streams_wait_for_the_default_stream(scale):
    x, stream = cupy.ones(8, np.float32), cupy.cuda.Stream()
    with stream:
        double(scale, x)
    assert float(x[0]) == 2


def test_events_order_streams(scale, stream):
    x, ready = cupy.ones(8, np.float32), cupy.cuda.Event(disable_timing=True)
    ready.record()
    stream.wait_event(ready)
    with stream:
        double(scale, x)
        done = stream.record()
    cupy.cuda.get_current_stream().wait_event(done)
    assert float(x[0]) == 2


def test_elapsed_time(x):
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    x += 1
    end.record()
    with pytest.raises(EmuError, match="NotReady"):
        cupy.cuda.get_elapsed_time(start, end)
    end.synchronize()
    assert cupy.cuda.get_elapsed_time(start, end) >= 0
    with pytest.raises(EmuError, match="timing disabled"):
        cupy.cuda.get_elapsed_time(start, cupy.cuda.Event(disable_timing=True))


def test_stream_belongs_to_its_device(stream):
    with cupy.cuda.Device(1), pytest.raises(RuntimeError, match="does not match"), stream:
        pass


def test_current_stream(stream):
    default = cupy.cuda.get_current_stream()
    assert default == cupy.cuda.Stream.null
    with stream:
        assert cupy.cuda.get_current_stream() is stream
    assert cupy.cuda.get_current_stream() == default
