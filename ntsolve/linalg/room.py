"""Memory that one solve leaves to the next."""

LEAST = 1 << 20  # bytes of an array that is worth the trouble


class Room:
    """What one solve needs of memory for large arrays; `close` lets another have it.

    Fresh memory is given out page by page, each set to zero by the operating system when it is first touched, which
    takes as long as an iteration or two.
    """

    def __init__(self, k):
        self._k, self._lent = k, []

    def zeros(self, shape, dtype="float64"):
        """As that of NumPy; not to be used after `close`."""
        array = self._k.borrow_zeros(shape, dtype)
        if array.nbytes >= LEAST:
            self._lent.append(array)
        return array

    def close(self):
        while self._lent:
            self._k.give_back(self._lent.pop())
