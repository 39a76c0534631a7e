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
        return self._kept(self._k.borrow_zeros(shape, dtype))

    def framed(self, shape, dtype="float64"):
        """The same, where only the first and the last plane along axis 2 are zero, and the others anything."""
        array = self._kept(self._k.borrow(shape, dtype))
        array[:, :, 0] = array[:, :, -1] = 0
        return array

    def _kept(self, array):
        if array.nbytes >= LEAST:
            self._lent.append(array)
        return array

    def close(self):
        while self._lent:
            self._k.give_back(self._lent.pop())
