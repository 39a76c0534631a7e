"""A communicator without MPI: a team of threads in one process, with the methods of mpi4py that `comm=` asks for.

    results = together(3, lambda comm: ntsolve.cg(rows(A, comm), part(b, comm), comm=comm))

Each member runs in a thread and gets a `Member`. What one says, all get to hear, in the order of ranks. Members that
call different things, or with different sizes, are told so: under MPI that would be a hang. Where one raises, the
others are let go with a `Deserted`, and `together` raises what the first to fail raised.
"""

import contextvars
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np

PATIENCE = 60.0  # seconds, with compilation; under MPI this would be for ever


class Deserted(Exception):
    """Another member is gone, or does not come."""


class Disagreement(AssertionError):
    """The members of a team call different things."""


class Table:
    """Where `size` threads meet: a round ends when all have said their word, or one who has not is gone."""

    def __init__(self, size):
        self.rounds, self.gone, self.met = [], {}, threading.Condition()
        self.size = size

    def say(self, number, rank, word):
        """All words of a round."""
        with self.met:
            if number == len(self.rounds):
                self.rounds.append({})
            words = self.rounds[number]
            words[rank] = word
            self.met.notify_all()
            full = self.met.wait_for(lambda: len(words) == self.size or self.gone.keys() - words.keys(), PATIENCE)
            if not full or len(words) < self.size:
                raise Deserted(f"rank {rank} of {self.size} waited in vain")
            return [words[other] for other in range(self.size)]

    def leave(self, rank):
        with self.met:
            self.gone[rank] = True
            self.met.notify_all()


class Member:
    """One of `size` threads that compute together; `calls` counts what it has asked of the others, by name."""

    def __init__(self, rank, size, table):
        self.rank, self.size, self.calls = rank, size, Counter()
        self._table, self._round = table, 0

    def hear(self, word):
        """What each member says, in the order of ranks."""
        self._round += 1
        return self._table.say(self._round - 1, self.rank, word)

    def _agreed(self, name, word, *about):
        """`hear`, after a look whether all are in the same call."""
        self.calls[name] += 1
        heard = self.hear(((name, *about), word))
        calls = [call for call, _ in heard]
        if len(set(calls)) > 1:
            raise Disagreement(f"the ranks are in different calls: {calls}")
        return [word for _, word in heard]

    # ---- as mpi4py has them ----

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size

    def Allreduce(self, sendbuf, recvbuf, op=None):
        """The sum over the ranks; or, for an `op` with that in its name, the maximum or minimum."""
        send, receive = _array(sendbuf), _array(recvbuf)
        assert send.dtype == receive.dtype, (send.dtype, receive.dtype)
        assert send.size == receive.size, (send.size, receive.size)
        heard = self._agreed("Allreduce", send.copy(), send.dtype.str, send.size)
        name = str(getattr(op, "name", op)).lower()
        combine = np.maximum if "max" in name else np.minimum if "min" in name else np.add
        with np.errstate(all="ignore"):
            _put(receive, combine.reduce([word.ravel() for word in heard]))

    def Allgatherv(self, sendbuf, recvbuf):
        """``recvbuf`` is (array, counts), (array, (counts, places)), (array, counts, places), or with a datatype."""
        send, receive = _array(sendbuf), _array(recvbuf)
        assert send.dtype.itemsize == receive.dtype.itemsize, (send.dtype, receive.dtype)
        heard = self._agreed("Allgatherv", send.ravel().copy(), send.dtype.str)
        counts, places = _blocks(recvbuf, receive.size, self.size)
        assert [word.size for word in heard] == counts, ([word.size for word in heard], counts)
        flat = np.empty(receive.size, receive.dtype)
        flat[...] = receive.ravel()
        for word, place in zip(heard, places, strict=True):
            flat[place : place + word.size] = word.view(receive.dtype)
        _put(receive, flat)


def _array(buffer):
    """The array of a buffer as mpi4py takes them: itself, or first in a list or tuple."""
    array = buffer[0] if isinstance(buffer, (list, tuple)) else buffer
    assert isinstance(array, np.ndarray), f"an array of the host is needed, not {type(array)}"
    assert array.flags.c_contiguous, "MPI is given whole arrays"
    return array


def _blocks(recvbuf, length, size):
    """(counts, places) of what each rank says."""
    rest = list(recvbuf[1:]) if isinstance(recvbuf, (list, tuple)) else []
    if rest and isinstance(rest[0], (list, tuple)) and rest[0] and np.ndim(rest[0][0]) == 1:
        rest = [*rest[0], *rest[1:]]
    if not rest or rest[0] is None:
        assert length % size == 0, (length, size)
        rest = [[length // size] * size]
    counts = [int(count) for count in rest[0]]
    if len(rest) > 1 and rest[1] is not None and np.ndim(rest[1]) == 1:
        return counts, [int(place) for place in rest[1]]
    return counts, [sum(counts[:rank]) for rank in range(size)]


def _put(receive, values):
    receive.reshape(-1)[...] = values


def outcomes(size, run):
    """(what run(comm) returned or raised, of each rank; the exceptions, in the order they came)"""
    table, failed = Table(size), []

    def guarded(rank):
        try:
            return run(Member(rank, size, table))
        except BaseException as error:  # kept, for the caller to look at
            failed.append(error)
            return error
        finally:
            table.leave(rank)

    with ThreadPoolExecutor(size) as pool:
        contexts = [contextvars.copy_context() for _ in range(size)]  # so that ntsolve.config holds for all
        futures = [pool.submit(context.run, guarded, rank) for rank, context in enumerate(contexts)]
        found = [future.result() for future in futures]
    return found, failed


def together(size, run):
    """[run(comm) of each rank], comm a `Member`; what the first to fail raised, if one did."""
    found, failed = outcomes(size, run)
    if failed:
        raise failed[0]
    return found


def ends(size, run):
    """[what run(comm) returned or raised], of each rank."""
    return outcomes(size, run)[0]


def bounds(n, comm):
    """(first, end) of the part of n things that is this rank's: as numpy.array_split does it."""
    size, rank = comm.Get_size(), comm.Get_rank()
    least, more = divmod(n, size)
    first = rank * least + min(rank, more)
    return first, first + least + (rank < more)


def part(v, comm, axis=-1):
    """A copy of this rank's part of an array that all know."""
    first, end = bounds(v.shape[axis], comm)
    return np.ascontiguousarray(np.take(v, range(first, end), axis=axis))
