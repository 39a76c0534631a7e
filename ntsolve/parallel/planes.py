"""Planes of a grid that are brought to the ranks that want them, from those that own them.

A grid is cut into slabs along its first axis: rank r owns the planes bounds[r], ..., bounds[r + 1] - 1 of n. What a
rank wants are ranges of planes, next to its own or not, and of any number of owners. On a periodic axis they are
counted on beyond 0 and n, and the same plane may be wanted twice. Arrays are seen with the planes in front.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Slabs:
    """Who owns which planes."""

    bounds: tuple  # (ranks + 1,)
    wrap: bool
    """Whether the plane after the last is the first."""

    @property
    def count(self):
        return self.bounds[-1]

    def own(self, rank):
        return self.bounds[rank], self.bounds[rank + 1]

    def with_ghosts(self, ghosts):
        """For each rank the range of its planes and at least so many on each side, from an even plane to an odd one."""
        return [self.cut(low - ghosts - (low - ghosts) % 2, high + ghosts + (high + ghosts) % 2)
                for low, high in zip(self.bounds, self.bounds[1:], strict=False)]  # fmt: skip

    def cut(self, low, high):
        """As much of a range as there is."""
        return (low, high) if self.wrap else (max(low, 0), min(high, self.count))

    def before(self, rank):
        """The range of the plane that comes before those of a rank, in a list; an empty list where there is none."""
        low = self.bounds[rank]
        return [(low - 1, low)] if low > 0 or self.wrap else []

    def after(self, rank):
        """The range of the plane that comes after them, likewise."""
        high = self.bounds[rank + 1]
        return [(high, high + 1)] if high < self.count or self.wrap else []

    def halved(self):
        """Of the grid whose planes are made of two of these each."""
        *inner, last = self.bounds
        return Slabs((*(bound // 2 for bound in inner), -(-last // 2)), self.wrap)

    def pieces(self, low, high):
        """(owner, first plane, number of planes, place in the range) of each part of a range."""
        at = low
        while at < high:
            plane = at % self.count if self.wrap else at
            owner = int(np.searchsorted(self.bounds, plane, side="right")) - 1
            many = min(high - at, self.bounds[owner + 1] - plane)
            yield owner, plane, many, at - low
            at += many


class Spread:
    """Brings planes to where they are wanted.

    Parameters
    ----------
    k : kernels
    me : int
        This rank.
    slabs : Slabs
    wanted : list
        For each rank, its ranges (low, high).
    """

    def __init__(self, k, me, slabs, wanted):
        self.k, (first, end) = k, slabs.own(me)
        self.sent: dict = {}
        self.taken: dict = {}
        self.kept = []
        for rank, ranges in enumerate(wanted):
            near = rank == me or any(self._touches(slabs, first, end, *one) for one in ranges)
            for number, one in enumerate(ranges if near else ()):
                for owner, plane, many, place in slabs.pieces(*one):
                    if owner == me == rank:
                        self.kept.append((plane - first, many, number, place, one[0] + place != plane))
                    elif owner == me:
                        self.sent.setdefault(rank, []).append((plane - first, many))
                    elif rank == me:
                        self.taken.setdefault(owner, []).append((many, number, place))

    @staticmethod
    def _touches(slabs, first, end, low, high):
        return slabs.wrap or (low < end and high > first)

    def start(self, ranks, source, targets, *, inside=False):
        """Begin to fill `targets`, one array for each range of this rank, with planes of everyone's `source`.

        `source` holds the planes that a rank owns. All ranks do this at the same time.

        Returns
        -------
        wait : callable
            The targets are full when it returns. If the source is `inside` of a target, it stays where it is.
        """
        for place, many, number, to, round_the_axis in self.kept:
            if round_the_axis or not inside:
                targets[number][to : to + many] = source[place : place + many]
        empty = lambda planes: self.k.xp.empty((sum(planes), *source.shape[1:]), source.dtype)
        incoming = {rank: empty(many for many, *_ in parts) for rank, parts in self.taken.items()}
        outgoing = {rank: empty(many for _, many in parts) for rank, parts in self.sent.items()}
        for rank, parts in self.sent.items():
            at = 0
            for place, many in parts:
                outgoing[rank][at : at + many] = source[place : place + many]
                at += many
        arrived = ranks.exchange(outgoing, incoming)

        def wait():
            arrived()
            for rank, parts in self.taken.items():
                at = 0
                for many, number, to in parts:
                    targets[number][to : to + many] = incoming[rank][at : at + many]
                    at += many

        return wait

    def run(self, ranks, source, *targets, inside=False):
        """Fill `targets`."""
        self.start(ranks, source, targets, inside=inside)()


def in_colours(v, low, start, end):
    """Planes start, ..., end - 1 of a split array (batch, 2, X, Y, H) whose first plane is `low`, planes in front.

    Colours are those of the whole grid: an array that begins at an odd plane has its two halves the other way round.
    """
    planes = v.transpose(2, 0, 1, 3, 4)[1:-1]
    return (planes[:, :, ::-1] if low % 2 else planes)[start - low : end - low]
