"""Two ways for bytes to get from rank to rank, and for a failure to be heard of.

`Watched` is for mpi4py. It waits for messages by looking whether they have come; between the looks it lets others
compute, which a blocking call of MPI does not where there are more ranks than cores, and it listens for the word of a
rank that has failed or is gone.

`Blocking` needs no more than Allreduce and Allgatherv. There, everyone says before each message whether all is well
with it, so that a rank that has failed is heard of at the next one.
"""

import atexit
import hashlib
import logging
import os
import socket
import sys
import time
import weakref

import numpy as np

from ..errors import RankError

_DATA, _FAILED = 7, 8  # tags
_LONGEST_WORD = 4000  # bytes of a message about a failure
_SPINS, _LISTEN = 50, 64  # looks before others may compute; looks between two ears for failures
_PATIENCE, _NAP = 0.05, 2e-4  # seconds of waiting after which it sleeps between looks, and how long
_FAREWELL = 15.0  # seconds that one who has failed waits for the others to have heard of it
_STRAGGLE = 0.2  # seconds for a message under way that may still come after bad news
_DRAIN = 0.5  # seconds for a last message to get out
_ALIVE = 1.0  # seconds between two looks whether the processes of this machine still run
_LONG = 60.0  # seconds of waiting after which it is said what for
_PIECE = 2**16  # numbers that are gathered at a time

_WAITING = ("rank %d has waited for another one for %g s. Is each in the same call, with the same comm? "
            "(One that is busy may be waited for.)")  # fmt: skip


def wire(comm):
    """The one for a communicator; making it is collective."""
    return (Watched if _watchable(comm) else Blocking)(comm)


def _watchable(comm):
    """Whether a communicator can do what `Watched` asks of it."""
    names = "Dup", "Iallgatherv", "Iallreduce", "Isend", "Irecv", "Iprobe", "Get_attr", "Set_attr", "Create_keyval"
    return all(hasattr(comm, name) for name in names)


_KEYS: list = []  # of the attribute of mpi4py's communicators that remembers what was made for them
_OTHERS: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # by the number of a communicator, which it holds


def kept_with(comm):
    """What `keep_with` has put there; None where there is nothing."""
    if _watchable(comm):
        return comm.Get_attr(_KEYS[0]) if _KEYS else None
    return _OTHERS.get(id(comm))


def keep_with(comm, ranks):
    """Keep an object for as long as a communicator of mpi4py; for another, which it holds, while somebody has it."""
    if not _watchable(comm):
        _OTHERS[id(comm)] = ranks
        return
    if not _KEYS:
        _KEYS.append(type(comm).Create_keyval(delete_fn=lambda comm, key, kept: kept.close()))
    comm.Set_attr(_KEYS[0], ranks)


class Watched:
    """Messages of an mpi4py communicator, on a duplicate of it."""

    def __init__(self, comm):
        from mpi4py import MPI

        self._mpi, self._comm = MPI, comm.Dup()
        self._rank, self._size = self._comm.Get_rank(), self._comm.Get_size()
        self.broken, self._heard = False, set()
        self._bad_news = self._last_chance = ""
        here = np.array([os.getpid(), _birth(os.getpid()), _machine()], dtype=np.int64)
        everyone = np.empty((self._size, 3), dtype=np.int64)
        self._comm.Allgather(here, everyone)
        self._neighbours = [
            (rank, int(pid), int(born))
            for rank, (pid, born, place) in enumerate(everyone)
            if place == here[2] and rank != self._rank and born
        ]
        self._looked = 0.0

    def allgather(self, values, counts):
        """Everyone's bytes, one after the other; `counts` of each rank."""
        taken = np.empty(int(counts.sum()), dtype=np.uint8)
        self._wait([self._comm.Iallgatherv(values, [taken, counts, _starts(counts), self._mpi.BYTE])])
        return taken

    def allreduce(self, array):
        """The sum, in the same array."""
        self._wait([self._comm.Iallreduce(self._mpi.IN_PLACE, array)])
        return array

    def largest(self, array):
        """The largest of each entry, in the same array."""
        self._wait([self._comm.Iallreduce(self._mpi.IN_PLACE, array, op=self._mpi.MAX)])
        return array

    def exchange(self, outgoing, incoming):
        requests = [self._comm.Irecv(buffer, source=rank, tag=_DATA) for rank, buffer in incoming.items()]
        requests += [self._comm.Isend(buffer, dest=rank, tag=_DATA) for rank, buffer in outgoing.items()]
        return lambda: self._wait(requests)

    def fail(self, word):
        """Leave the solve: tell all others, and wait until they have said the same.

        One that does not is waiting for something else, a message of the caller's own perhaps. Then all processes end.
        """
        if self.broken:
            return
        self.broken = True
        self._last_words = np.frombuffer(word.encode()[:_LONGEST_WORD], dtype=np.uint8)
        gone = self._gone()
        others = set(range(self._size)) - {self._rank} - gone
        self._sent = {rank: self._comm.Isend(self._last_words, dest=rank, tag=_FAILED) for rank in others}
        began = looked = time.monotonic()
        while missing := {rank for rank in others - gone if rank not in self._heard or not self._sent[rank].Test()}:
            if self._word()[0] is None:
                time.sleep(_NAP)
            now = time.monotonic()
            if now - looked > _ALIVE:
                looked, gone = now, self._gone()
            if now - began > _FAREWELL:
                who = ", ".join(map(str, sorted(missing)))
                sys.stderr.write(f"ntsolve: {word}\nntsolve: rank {who} cannot be told, all processes are ended\n")
                self._end_all()
        if gone:  # MPI's own end would wait for them
            atexit.register(self._end_all)

    def _end_all(self):
        """All processes end, once what they have said is out: the launcher may drop what comes with the end."""
        sys.stderr.flush()
        time.sleep(_DRAIN)
        self._comm.Abort(1)

    def close(self):
        """Give the duplicate back, with the communicator that it is of."""
        if not self.broken and not self._mpi.Is_finalized():
            self._comm.Free()

    def _word(self):
        """(rank, what it said) of one that has failed and has not been heard yet; (None, "") where there is none."""
        status = self._mpi.Status()
        if not self._comm.Iprobe(tag=_FAILED, status=status):
            return None, ""
        word = np.empty(status.Get_count(self._mpi.BYTE), dtype=np.uint8)
        self._comm.Recv(word, source=status.Get_source(), tag=_FAILED)
        self._heard.add(status.Get_source())
        return status.Get_source(), word.tobytes().decode(errors="replace")

    def _gone(self):
        """The ranks of this machine whose processes have ended."""
        return {rank for rank, pid, born in self._neighbours if _birth(pid) != born}

    def _wait(self, requests):
        began, looks, said, done = None, 0, False, self._mpi.Request.Testall
        if self.broken:
            raise RankError("a rank has failed in this solve")
        while self._bad_news or not done(requests):
            looks += 1
            if looks < _SPINS and not self._bad_news:
                continue
            os.sched_yield()
            if looks % _LISTEN == 0 or self._bad_news:
                self._listen()
                if self._bad_news and self._ends(requests):
                    return
                now = time.monotonic()
                began = began or now
                if now - began > _PATIENCE:
                    time.sleep(_NAP)
                if now - began > _LONG and not said:
                    said = True
                    logging.getLogger("ntsolve").warning(_WAITING, self._rank, _LONG)

    def _ends(self, requests):
        """After bad news: whether this message comes all the same, which may be one that all ranks object to.

        Each is to raise its own error then, if it has one; if not, the next message is the end of it.
        """
        word, self._bad_news = self._bad_news, ""
        began = time.monotonic()
        while not self._last_chance and time.monotonic() - began < _STRAGGLE:
            if self._mpi.Request.Testall(requests):
                self._bad_news = self._last_chance = word
                return True
            time.sleep(_NAP)
        self.fail(word)
        raise RankError(word)

    def _listen(self):
        if self._bad_news:
            return
        rank, word = self._word()
        if rank is not None:
            self._bad_news = word
            return
        now = time.monotonic()
        if now - self._looked > _ALIVE:
            self._looked = now
            for rank in sorted(self._gone()):
                word = f"rank {rank} is gone"
                self.fail(word)
                raise RankError(word)


class Blocking:
    """Messages of a communicator that has only Allreduce and Allgatherv."""

    def __init__(self, comm):
        self._comm, self._size, self.broken = comm, comm.Get_size(), False

    def allgather(self, values, counts):
        self._well()
        return self._gathered(values, counts)

    def allreduce(self, array):
        self._well()
        summed = np.empty_like(array)
        self._comm.Allreduce(array, summed)
        array[...] = summed
        return array

    def largest(self, array):
        """A piece at a time, as all of everyone's pass by."""
        self._well()
        flat = array.reshape(-1)
        for first in range(0, flat.size, _PIECE):
            part = flat[first : first + _PIECE]
            taken = self._gathered(part.view(np.uint8), np.full(self._size, part.nbytes))
            part[...] = taken.view(array.dtype).reshape(self._size, -1).max(axis=0)
        return array

    def exchange(self, outgoing, incoming):
        """Everything goes to everyone, who picks out what is for it."""
        self._well()
        sizes = np.zeros(self._size, dtype=np.int64)
        for rank, buffer in outgoing.items():
            sizes[rank] = buffer.size
        table = self._gathered(sizes.view(np.uint8), np.full(self._size, sizes.nbytes)).view(np.int64)
        table = table.reshape(self._size, self._size)  # from, to
        buffers = [outgoing[rank] for rank in sorted(outgoing)]
        taken = self._gathered(np.concatenate([np.empty(0, np.uint8), *buffers]), table.sum(axis=1))
        starts, me = _starts(table.ravel()).reshape(table.shape), self._comm.Get_rank()
        for rank, buffer in incoming.items():
            buffer[...] = taken[starts[rank, me] :][: buffer.size]
        return lambda: None

    def fail(self, word):
        """Say so at the message that the others are about to send."""
        if not self.broken:
            self._well(word)

    def _well(self, word=""):
        """Whether all is well with everyone."""
        if self.broken:
            raise RankError("a rank has failed in this solve")
        words = np.frombuffer(word.encode()[:_LONGEST_WORD], dtype=np.uint8)
        lengths = np.array([words.size], dtype=np.int64).view(np.uint8)
        lengths = self._gathered(lengths, np.full(self._size, 8)).view(np.int64)
        if lengths.any():
            self.broken = True
            taken = self._gathered(words, lengths).tobytes()
            first = int(np.flatnonzero(lengths)[0])
            if not word:
                raise RankError(taken[: lengths[first]].decode(errors="replace"))

    def _gathered(self, values, counts):
        taken = np.empty(int(counts.sum()), dtype=np.uint8)
        self._comm.Allgatherv(values, [taken, counts])
        return taken


def _starts(counts):
    return np.cumsum(counts) - counts


def _machine():
    """A number for where process numbers mean the same processes: a boot of a kernel and a namespace of it."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            name = f"{file.read()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        name = f"{socket.gethostname()} {os.getpid()}"  # alone, then
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "little")


def _birth(pid):
    """When a process of this machine began, in the kernel's ticks; 0 where it has ended, or nobody can tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            rest = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if rest[0] in "ZX" else int(rest[19])
