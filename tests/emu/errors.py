"""What the emulator raises."""


class EmuError(RuntimeError):
    """Something that on a GPU would crash, hang, or silently give a wrong or unreproducible answer."""
