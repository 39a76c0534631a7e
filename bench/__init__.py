"""Claims of speed, one file each: `python -m bench` lists them, `python -m bench NAME` measures one.

A bench is a module here whose name does not begin with an underscore, with ``CLAIM``, a sentence, and
``run(options: Options) -> Report``. Whatever it compares runs in turn in one process, every answer is checked by the
same code, and its record says what it was run on.
"""
