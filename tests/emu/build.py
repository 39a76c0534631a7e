"""CUDA source to shared objects for the CPU, one per template instance, with g++; and their cache.

The cache is a folder of the user, or EMU_CACHE. Objects that nobody used for a month are removed.
"""

import concurrent.futures
import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator

from . import source

HERE = pathlib.Path(__file__).parent
RUNTIME_SOURCES = ("emu_rt.h", "emu_rt.cpp", "emu_memory.cpp")
HEADERS = ("cuda_on_cpu.h", "cuda_math.h")
COMMON = ("-fPIC", "-g1", "-w", "-ffp-contract=off")
RUNTIME_FLAGS = ("-std=c++17", "-O2", *COMMON)
# The hooks of emu_memory.cpp stand in for libtsan. No optimisation that merges or invents memory accesses; locals that
# were never set hold a pattern; the undefined behaviour that CUDA shares with C++ is reported.
KERNEL_FLAGS = (
    "-O1",
    "-fsanitize=thread",
    "--param=tsan-instrument-func-entry-exit=0",
    "-fno-tree-loop-distribute-patterns",
    "-ftrivial-auto-var-init=pattern",
    "-fsanitize=bounds,alignment,signed-integer-overflow,integer-divide-by-zero,shift-exponent",
    *COMMON,
)
UNUSED_DAYS = 30


class BuildError(RuntimeError):
    """g++ is missing, or refuses the source."""


def cache_dir() -> pathlib.Path:
    chosen = os.environ.get("EMU_CACHE")
    if chosen:
        return pathlib.Path(chosen)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ntsolve-emu"


@functools.cache
def compiler() -> str:
    cxx = os.environ.get("CXX", "g++")
    if shutil.which(cxx) is None:
        raise BuildError(
            f"the CUDA emulator needs a C++ compiler: {cxx!r} was not found; install g++ 12 or later, or set CXX"
        )
    return cxx


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"g++ refuses {what}:\n{done.stderr[:6000]}")


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Keep other processes from building the same thing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _cached(key: str, suffix: str, make) -> pathlib.Path:
    """The file for `key`, made by make(path) if it is not there."""
    out = cache_dir() / (hashlib.sha256(key.encode()).hexdigest()[:24] + suffix)
    if not out.exists():
        with _locked(out.with_suffix(".lock")):
            if not out.exists():
                part = out.with_suffix(".part" + suffix)
                make(part)
                part.replace(out)
    elif time.time() - out.stat().st_mtime > 86400:
        os.utime(out)  # used; see _remove_unused
    return out


def _remove_unused() -> None:
    limit = time.time() - UNUSED_DAYS * 86400
    for f in cache_dir().glob("*"):
        with contextlib.suppress(OSError):
            if f.is_file() and f.stat().st_mtime < limit:
                f.unlink()


def _text(names: Iterable[str]) -> str:
    return "".join((HERE / n).read_text() for n in names)


class _LaunchArgs(ctypes.Structure):
    _fields_ = [
        ("function", ctypes.c_void_p),
        ("args", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("dynamic_shared", ctypes.c_size_t),
        ("schedule", ctypes.c_int),
        ("module_lo", ctypes.c_size_t),
        ("module_hi", ctypes.c_size_t),
        ("ranges", ctypes.c_void_p),
        ("n_ranges", ctypes.c_int),
    ]


class _Range(ctypes.Structure):
    _fields_ = [
        ("lo", ctypes.c_size_t),
        ("hi", ctypes.c_size_t),
        ("readonly", ctypes.c_int),
        ("argument", ctypes.c_int),
    ]


def _runtime_path() -> pathlib.Path:
    def make(out: pathlib.Path) -> None:
        cpp = [str(HERE / n) for n in RUNTIME_SOURCES if n.endswith(".cpp")]
        _run([compiler(), *RUNTIME_FLAGS, "-shared", "-o", str(out), *cpp], "the emulator's own runtime")

    return _cached("runtime" + " ".join(RUNTIME_FLAGS) + _text(RUNTIME_SOURCES), ".so", make)


@functools.cache
def runtime() -> ctypes.PyDLL:
    """The emulator. A PyDLL: it keeps the GIL, and so runs one launch at a time whichever thread asks."""
    _remove_unused()
    lib = ctypes.PyDLL(str(_runtime_path()), mode=ctypes.RTLD_GLOBAL)
    lib.emu_malloc.restype = ctypes.c_void_p
    lib.emu_malloc.argtypes = [ctypes.c_size_t, ctypes.c_int]
    lib.emu_free.argtypes = [ctypes.c_void_p]
    lib.emu_written.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    lib.emu_is_written.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    lib.emu_launch.argtypes = [ctypes.POINTER(_LaunchArgs)]
    for name in ("emu_error", "emu_error_file"):
        getattr(lib, name).restype = ctypes.c_char_p
    for name in ("emu_error_pc", "emu_error_other", "emu_used_bytes", "emu_pool_bytes"):
        getattr(lib, name).restype = ctypes.c_size_t
    return lib


def _headers() -> pathlib.Path:
    """A precompiled cuda_on_cpu.h, in a folder of its own: parsing <cmath> takes longer than a kernel."""
    key = " ".join(KERNEL_FLAGS) + _text(HEADERS) + compiler()
    folder = cache_dir() / ("headers-" + hashlib.sha256(key.encode()).hexdigest()[:24])
    if not (folder / "ready").exists():
        with _locked(folder.with_suffix(".lock")):
            if not (folder / "ready").exists():
                folder.mkdir(exist_ok=True)
                for n in HEADERS:
                    shutil.copyfile(HERE / n, folder / n)
                for std in ("c++14", "c++17"):
                    gch = folder / "cuda_on_cpu.h.gch" / std
                    gch.parent.mkdir(exist_ok=True)
                    _run(
                        [
                            compiler(),
                            f"-std={std}",
                            *KERNEL_FLAGS,
                            "-x",
                            "c++-header",
                            "-o",
                            str(gch),
                            str(folder / "cuda_on_cpu.h"),
                        ],
                        "cuda_on_cpu.h",
                    )
                (folder / "ready").touch()
    return folder


def flags(options: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """NVRTC's options as g++ takes them: the standard, and the macros; what cannot matter here is dropped."""
    std, macros = "c++17", []
    for option in options:
        if m := re.fullmatch(r"--?std=(c\+\+\d\d)", option):
            std = m[1]
        elif re.match(r"-D\w", option):
            macros.append(option)
        elif not re.match(
            r"--?(use_fast_math|fmad|ftz|prec-div|prec-sqrt|lineinfo|generate-line-info|restrict|maxrregcount)", option
        ):
            raise BuildError(
                f"option {option!r}: not one that the emulator knows; add it to build.flags if NVRTC has it"
            )
    return std, tuple(macros)


class Instance:
    """One kernel, compiled for the CPU.

    Attributes
    ----------
    signature : parameter types as the C++ compiler mangles them, e.g. ("PKf", "Pf", "i")
    """

    def __init__(self, path: pathlib.Path, text: str):
        self.path = path
        self._text = text
        self._lib = ctypes.PyDLL(str(path))
        self._lib.emu_signature.restype = ctypes.c_char_p
        for name in ("emu_module_begin", "emu_module_end"):
            getattr(self._lib, name).restype = ctypes.c_void_p
        self.signature = tuple(self._lib.emu_signature().decode().split(",")[:-1])

    def run(
        self, grid, block, values: list[bytes], ranges: list[tuple[int, int, int, int]], shared: int, schedule: int
    ) -> str:
        """Launch it; "" or what the emulator objects to. `values`: the arguments' bytes; `ranges`: what they reach."""
        rt = runtime()
        buffers = [ctypes.create_string_buffer(v, max(len(v), 8)) for v in values]
        pointers = (ctypes.c_void_p * (len(values) + 1))(*(ctypes.addressof(b) for b in buffers))
        reach = (_Range * (len(ranges) + 1))(*(_Range(*r) for r in ranges))
        launch = _LaunchArgs(
            ctypes.cast(self._lib.emu_call, ctypes.c_void_p),
            ctypes.addressof(pointers),
            tuple(grid),
            tuple(block),
            shared,
            schedule,
            self._lib.emu_module_begin(),
            self._lib.emu_module_end(),
            ctypes.addressof(reach),
            len(ranges),
        )
        if not rt.emu_launch(launch):
            return ""
        message = rt.emu_error().decode()
        file, line, pc, other = (
            rt.emu_error_file().decode(),
            rt.emu_error_line(),
            rt.emu_error_pc(),
            rt.emu_error_other(),
        )
        at = [f"{pathlib.PurePath(file).name}:{line}"] if file else self._lines(pc) if pc else []
        message = f"{self._quote(at)}{message}"
        if other:
            message += f"; the other access: {self._quote(self._lines(other))}"
        return message.rstrip(": ")

    def _lines(self, pc: int) -> list[str]:
        """Source places of a code address: the innermost first, then where it was inlined."""
        tool = shutil.which("addr2line")
        if tool is None:
            return [f"pc={pc:#x} (install binutils for line numbers)"]
        out = subprocess.run(
            [tool, "-i", "-e", str(self.path), hex(pc - 1)], capture_output=True, text=True, check=False
        ).stdout
        return [re.sub(r" \(discriminator.*", "", line.rpartition("/")[2]) for line in out.splitlines()]

    def _quote(self, at: list[str]) -> str:
        if not at:
            return ""
        quoted = _line_text(self._text, at[0])
        calls = f" (called from {', '.join(at[1:])})" if at[1:] else ""
        return f"{at[0]}{calls}{f' `{quoted}`' if quoted else ''}: "


def _line_text(text: str, place: str) -> str:
    """The text of "file:line", with #line directives obeyed."""
    file, _, number = place.rpartition(":")
    name, line = "kernel.cu", 1
    for content in text.split("\n"):
        if m := re.match(r'\s*#\s*line\s+(\d+)(?:\s+"([^"]*)")?', content):
            line, name = int(m[1]), pathlib.PurePath(m[2]).name if m[2] else name
            continue
        if name == file and str(line) == number:
            return content.strip()[:120]
        line += 1
    return ""


def instance(text: str, expression: str, options: Iterable[str] = ()) -> Instance:
    """The kernel that `expression` names in `text`, from the cache or built."""
    std, macros = flags(options)
    key = "\0".join([text, expression, std, *macros, *KERNEL_FLAGS, compiler(), _text(HEADERS)])

    def make(out: pathlib.Path) -> None:
        headers, rt = _headers(), _runtime_path()
        head, tail = (
            '#include "cuda_on_cpu.h"\nnamespace {\n#line 1 "kernel.cu"\n',
            f"\n}}\nEMU_EXPORT(({expression}))\n",
        )
        cpp, obj = out.with_suffix(".cpp"), out.with_suffix(".o")
        cpp.write_text(head + source.translate(text) + tail)
        try:
            _run(
                [compiler(), f"-std={std}", *macros, *KERNEL_FLAGS, "-I", str(headers), "-c", "-o", str(obj), str(cpp)],
                expression,
            )
            _run([compiler(), "-shared", "-o", str(out), str(obj), str(rt)], expression)
        finally:
            cpp.unlink(missing_ok=True)
            obj.unlink(missing_ok=True)

    runtime()
    return Instance(_cached(key + str(_runtime_path()), ".so", make), text)


def prebuild(modules: Iterable[tuple[str, Iterable[str], Iterable[str]]], jobs: int | None = None) -> None:
    """Fill the cache with many instances, in parallel. `modules` are (text, expressions, options)."""
    runtime()
    _headers()
    with concurrent.futures.ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        tasks = [pool.submit(instance, text, e, options) for text, expressions, options in modules for e in expressions]
        for t in tasks:
            t.result()
