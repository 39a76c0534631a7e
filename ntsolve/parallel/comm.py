"""The ranks of a distributed run: how the processes that share one solve talk to each other.

A solver is written against `ntsolve.reductions`. `join` gives it what stands behind `comm=`: nothing for one process,
and a `Ranks` around a communicator otherwise. Sums that decide anything are made of everyone's terms in the order of
the ranks, so every rank has the same bits and takes the same decision. One message carries all the sums of a step.

No rank waits for one that will not come. A solve takes place inside `together()`; an exception that leaves it on one
rank is raised as a RankError on all others. How they hear of it is the wire's matter, see wires.py.
"""

import contextlib
import hashlib

import numpy as np

from ..errors import RankError
from ..reductions import SERIAL
from . import wires

NEEDED = ("Get_rank", "Get_size", "Allreduce", "Allgatherv")
_FEW = 128  # numbers that are gathered, in one short message


def join(comm):
    """What a solver reduces with: `SERIAL`, a `Ranks`, or an object that is a `Reductions` already.

    Raises
    ------
    TypeError
        Where `comm` is none of them.
    """
    if comm is None:
        return SERIAL
    if hasattr(comm, "together"):
        return comm
    missing = [name for name in NEEDED if not callable(getattr(comm, name, None))]
    if missing or isinstance(comm, type):
        raise TypeError(f"comm must be a communicator as mpi4py has them; {comm!r} has no {', '.join(missing)}")
    if comm.Get_size() == 1:
        return SERIAL
    ranks = wires.kept_with(comm)
    if ranks is None or ranks.broken:
        ranks = Ranks(comm)
        wires.keep_with(comm, ranks)
    return ranks


class Ranks:
    """The processes of a communicator, as solvers see them; see `ntsolve.reductions.Reductions`.

    Arrays may be NumPy's or CuPy's; the latter travel by way of the host.

    Parameters
    ----------
    comm : communicator
        With the methods of mpi4py's `Get_rank, Get_size, Allreduce, Allgatherv`. Making this is collective.
    """

    transfer = "host"
    """Where the data of GPU arrays pass on their way to another rank."""

    def __init__(self, comm):
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.carry = 1.0 if self.rank == 0 else 0.0
        self._wire = wires.wire(comm)
        self._depth = 0

    def close(self):
        """The communicator is freed."""
        self._wire.close()

    @property
    def broken(self):
        """Whether a rank has failed: messages may be under way that nobody will take."""
        return self._wire.broken

    def total(self, *arrays):
        """Replace each array by its sum over the ranks, all of them in one message; for few numbers."""
        hosts = [_host(array) for array in arrays]
        packed = np.concatenate([np.ravel(host) for host in hosts]).astype(float, copy=False)
        with np.errstate(all="ignore"):  # seen by whoever asked
            summed = self._rows(packed).sum(axis=0)
        ends = np.cumsum([host.size for host in hosts])[:-1]
        for array, host, part in zip(arrays, hosts, np.split(summed, ends), strict=True):
            _assign(array, part.reshape(host.shape))

    def norm(self, norms):
        """Norms of whole vectors from the norms of their local parts: sqrt of the sum of squares, without overflow."""
        norms = np.asarray(norms, dtype=float)
        return np.hypot.reduce(self._rows(norms.ravel()), axis=0).reshape(norms.shape)

    def largest(self, values):
        """The largest over the ranks, element by element; NaN where there is one."""
        values = np.asarray(_host(values), dtype=float)
        if values.size <= _FEW:
            return self._rows(values.ravel()).max(axis=0).reshape(values.shape)
        known = np.where(np.isnan(values), np.nan, values)  # a NaN without a sign, which is above all numbers
        return _ordered(self._wire.largest(_ordered(known.view(np.int64)))).view(float)

    def any(self, flag):
        """Whether the flag is set on any rank."""
        return bool(self._rows(np.array([bool(flag)], dtype=np.uint8)).any())

    def add(self, array):
        """Replace one large array by its sum over the ranks."""
        host = np.ascontiguousarray(_host(array))
        if self._wire.allreduce(host) is not array:
            _assign(array, host)

    def gather(self, rows):
        """Everyone's rows, one after the other along axis 0, on every rank; there may be none of some ranks."""
        host = np.ascontiguousarray(_host(rows))
        lengths = self._rows(np.array([len(host)], dtype=np.int64))[:, 0]
        width = int(np.prod(host.shape[1:], dtype=np.int64)) * host.dtype.itemsize
        taken = self._wire.allgather(_bytes(host), lengths * width)
        return _like(rows, taken.view(host.dtype).reshape(-1, *host.shape[1:]))

    def exchange(self, outgoing, incoming):
        """Send arrays to some ranks and receive others from some: {rank: contiguous array} each.

        Returns
        -------
        wait : callable
            `incoming` is filled when it returns. What is sent must stay as it is until then.
        """
        sent = {rank: _bytes(np.ascontiguousarray(_host(array))) for rank, array in outgoing.items()}
        hosts = {rank: array if isinstance(array, np.ndarray) else _host(array) for rank, array in incoming.items()}
        wait = self._wire.exchange(sent, {rank: _bytes(host) for rank, host in hosts.items()})

        def finish():
            wait()
            for rank, array in incoming.items():
                if array is not hosts[rank]:
                    _assign(array, hosts[rank])

        return finish

    def alike(self, **values):
        """Refuse arguments that have to be the same on every rank and are not, naming the first; None is a value too.

        Raises
        ------
        ValueError
            On all ranks.
        """
        digests = np.concatenate([_digest(value) for value in values.values()])
        rows = self._rows(digests).reshape(self.size, len(values), -1)
        for place, name in enumerate(values):
            odd = np.flatnonzero((rows[:, place] != rows[0, place]).any(axis=1))
            if odd.size:
                raise ValueError(f"{name} must be the same on every rank, and is not on ranks 0 and {odd[0]}")

    @contextlib.contextmanager
    def together(self):
        """One solve of all ranks: it ends on all of them or, with an error, on none of them.

        Raises
        ------
        RankError
            Where another rank has failed.
        """
        self._depth += 1
        try:
            yield self
            if self._depth == 1:
                self.any(False)  # nobody goes before all have come through
        except RankError:
            raise
        except BaseException as error:
            if self._depth == 1:
                self._wire.fail(f"rank {self.rank}: {type(error).__name__}: {error}")
            raise
        finally:
            self._depth -= 1

    def _rows(self, values):
        """Everyone's values (n,), as rows (size, n)."""
        taken = self._wire.allgather(_bytes(values), np.full(self.size, values.nbytes))
        return taken.view(values.dtype).reshape(self.size, -1)


def _host(array):
    return array.get() if hasattr(array, "get") else array


def _assign(array, host):
    if hasattr(array, "get"):
        array.set(np.ascontiguousarray(host, dtype=array.dtype))
    else:
        array[...] = host


def _like(array, host):
    """The host's data, where `array` lives."""
    if not hasattr(array, "get"):
        return host
    made = type(array)(host.shape, host.dtype)
    made.set(host)
    return made


def _ordered(bits):
    """Whole numbers in the order of the numbers with these bits, and back."""
    return bits ^ (bits >> 63 & np.int64(2**63 - 1))


def _bytes(array):
    return array.reshape(-1).view(np.uint8)


def _digest(value):
    """16 bytes that tell values apart: kind, shape and contents."""
    found = hashlib.blake2b(digest_size=16)
    if value is None or isinstance(value, str):
        found.update(repr(value).encode())
    else:
        host = np.ascontiguousarray(_host(value))
        found.update(f"{host.dtype} {host.shape}".encode())
        found.update(host.tobytes() if host.dtype == object else _bytes(host))
    return np.frombuffer(found.digest(), dtype=np.uint8)
