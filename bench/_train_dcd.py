"""Made ntsolve/weights/dcd_2d.npz and dcd_3d.npz, and makes them again: `python -m bench._train_dcd 2 --out FOLDER`.

Needs torch. About 16 minutes of one core for 2 axes and 11 for 3. The domains are drawn with seed 0 by
`dcd_training.random_domain`; those of `_linear_dcd` are drawn with others.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from ntsolve.linalg import dcd_training

SEED = 0


def train(dim, out, say=print):
    """Train the network for 2 or 3 axes and write its file."""
    torch.set_num_threads(1)  # sums in another order would give another network
    net = dcd_training.train(dim, seed=SEED, log=lambda line, net: say(line, flush=True))
    np.savez(Path(out) / f"dcd_{dim}d.npz", **dcd_training.parameters(net))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dim", type=int, choices=(2, 3))
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER")
    arguments = parser.parse_args()
    sys.exit(train(arguments.dim, arguments.out))
