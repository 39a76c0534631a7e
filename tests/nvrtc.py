"""NVRTC through ctypes: CUDA source to machine code and its resources, with neither a driver, a GPU nor CuPy.

The library is in the wheel nvidia-cuda-nvrtc. What it accepts here it accepts on a GPU machine; what a kernel does, it
does not say.
"""

import ctypes
import functools
import os
import pathlib
import re
import sysconfig
from collections.abc import Iterable

OPTIONS = ("--std=c++17", "-ftz=true")  # CuPy adds -ftz=true by itself
WHEEL = "nvidia-cuda-nvrtc==13.0.88"


class NvrtcError(RuntimeError):
    """NVRTC is missing, or does not take the source."""


@functools.cache
def library() -> ctypes.CDLL:
    """libnvrtc of the wheel, or of the system."""
    here = sorted(p for p in pathlib.Path(sysconfig.get_path("purelib")).glob("nvidia/*/lib/libnvrtc.so.*"))
    for path in here:
        for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins))  # the library of the 13.0 wheel does not find it by itself
    for name in [*map(str, here), "libnvrtc.so.13", "libnvrtc.so.12"]:
        try:
            lib = ctypes.CDLL(name)
        except OSError:
            continue
        lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        return lib
    raise NvrtcError(f"libnvrtc was not found: pip install {WHEEL}")


def is_available() -> bool:
    try:
        library()
    except NvrtcError:
        return False
    return True


def version() -> tuple[int, int]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "version")
    return major.value, minor.value


def supported_archs() -> tuple[int, ...]:
    """Compute capabilities that this NVRTC compiles for: 80 for sm_80, and so on."""
    n = ctypes.c_int()
    _check(library().nvrtcGetNumSupportedArchs(ctypes.byref(n)), "architectures")
    archs = (ctypes.c_int * n.value)()
    _check(library().nvrtcGetSupportedArchs(archs), "architectures")
    return tuple(archs)


def _check(status: int, what: str, log: str = "") -> None:
    if status:
        raise NvrtcError(f"{what}: {library().nvrtcGetErrorString(status).decode()}\n{log}".rstrip())


def _log(program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    library().nvrtcGetProgramLogSize(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    library().nvrtcGetProgramLog(program, buffer)
    return buffer.value.decode()


def compile(
    text: str, exprs: Iterable[str], arch: int | str, options: Iterable[str] = OPTIONS
) -> dict[str, dict[str, int]]:
    """Compile kernels and report what each needs.

    Parameters
    ----------
    text : CUDA source, headers pasted in
    exprs : name expressions of the kernels, e.g. "axpy<float>"
    arch : compute capability, e.g. 90 for sm_90
    options : options of NVRTC

    Returns
    -------
    {expression: {"regs": registers a thread, "spill": bytes spilled, "stack": bytes, "smem": static shared bytes}}

    Raises
    ------
    NvrtcError
        The wheel is not installed, or NVRTC's own message.
    """
    lib, exprs, program = library(), list(exprs), ctypes.c_void_p()
    _check(lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None), "create")
    try:
        for e in exprs:
            _check(lib.nvrtcAddNameExpression(program, e.encode()), e)
        flags = [f"-arch=sm_{arch}", "--ptxas-options=-v", *options]
        argv = (ctypes.c_char_p * len(flags))(*(f.encode() for f in flags))
        status = lib.nvrtcCompileProgram(program, len(flags), argv)
        log = _log(program)
        _check(status, "compile", log)
        report = {}
        for e in exprs:
            name = ctypes.c_char_p()
            _check(lib.nvrtcGetLoweredName(program, e.encode(), ctypes.byref(name)), e)
            report[e] = _resources(log, name.value.decode())
        return report
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))


def _resources(log: str, symbol: str) -> dict[str, int]:
    """What ptxas -v says of one kernel."""
    part = re.search(rf"Compiling entry function '{re.escape(symbol)}'.*?(?=Compiling entry function|\Z)", log, re.S)
    used = part and re.search(r"Used (\d+) registers[^\n]*", part[0])
    frame = part and re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part[0])
    if not used or not frame:
        raise NvrtcError(f"ptxas says nothing of {symbol}:\n{log}")
    shared = re.search(r"(\d+) bytes smem", used[0])
    return {
        "regs": int(used[1]),
        "spill": int(frame[2]) + int(frame[3]),
        "stack": int(frame[1]),
        "smem": int(shared[1]) if shared else 0,
    }


def required() -> bool:
    """Whether its absence is a failure rather than a reason to skip."""
    return os.environ.get("CI") == "true"
