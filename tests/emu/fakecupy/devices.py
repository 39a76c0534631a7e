"""Devices and the slice of the CUDA runtime API that is asked about them. There are two, to find mixed-up ones."""

from .. import build
from ..errors import EmuError
from . import memory, streams
from .memory import N_DEVICES, TOTAL_MEMORY, this_thread

NAME = b"CUDA emulator"
COMPUTE_CAPABILITY = (9, 0)
MULTIPROCESSORS = 8
SHARED_OPTIN = 227 << 10  # the most dynamic shared memory that a kernel may ask for, in bytes


class Device:
    """As cupy.cuda.Device."""

    __module__ = "cupy.cuda.device"

    def __init__(self, device=None):
        self.id = memory.current_device() if device is None else int(device)
        self._before: list[int] = []

    def _valid(self) -> "Device":
        if not 0 <= self.id < N_DEVICES:
            raise EmuError(f"cudaErrorInvalidDevice: invalid device ordinal {self.id}")
        return self

    def __enter__(self):
        self._valid()
        self._before.append(this_thread.device)
        this_thread.device = self.id
        return self

    def __exit__(self, *exc):
        this_thread.device = self._before.pop()

    def use(self):
        this_thread.device = self._valid().id
        return self

    def synchronize(self) -> None:
        with self:
            streams.host_waits(None, "Device.synchronize")

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    @property
    def compute_capability(self) -> str:
        self._valid()
        return "".join(map(str, COMPUTE_CAPABILITY))

    @property
    def mem_info(self) -> tuple[int, int]:
        with self:
            return memGetInfo()

    @property
    def attributes(self) -> dict:
        self._valid()
        return {
            "MultiProcessorCount": MULTIPROCESSORS,
            "MaxSharedMemoryPerBlockOptin": SHARED_OPTIN,
            "WarpSize": 32,
            "MaxThreadsPerBlock": 1024,
            "MaxSharedMemoryPerBlock": 48 << 10,
        }


# ---- cupy.cuda.runtime
class CUDARuntimeError(RuntimeError):
    __module__ = "cupy_backends.cuda.api.runtime"


def getDeviceCount() -> int:
    return N_DEVICES


def getDevice() -> int:
    return memory.current_device()


def setDevice(device: int) -> None:
    Device(device).use()


def getDeviceProperties(device: int) -> dict:
    Device(device)._valid()
    return {
        "name": NAME,
        "multiProcessorCount": MULTIPROCESSORS,
        "totalGlobalMem": TOTAL_MEMORY,
        "warpSize": 32,
        "major": COMPUTE_CAPABILITY[0],
        "minor": COMPUTE_CAPABILITY[1],
        "sharedMemPerBlock": 48 << 10,
        "sharedMemPerBlockOptin": SHARED_OPTIN,
        "maxThreadsPerBlock": 1024,
        "l2CacheSize": 1 << 20,
    }


def runtimeGetVersion() -> int:
    return 13000


def driverGetVersion() -> int:
    return 13000


def deviceSynchronize() -> None:
    streams.host_waits(None, "deviceSynchronize")


def memGetInfo() -> tuple[int, int]:
    return TOTAL_MEMORY - build.runtime().emu_pool_bytes(memory.current_device()), TOTAL_MEMORY


def is_available() -> bool:
    return True
