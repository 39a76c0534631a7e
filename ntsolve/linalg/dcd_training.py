"""Training of the network of `ntsolve.DeepConjugateDirection`. Needs torch: ``pip install "ntsolve[dcd]"``.

The loss of Kaneda et al., "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems" (ICML 2023),
needs no solutions: for q = f(r) it is what an exact line search along q leaves of the residual,

    l(r) = || r - A q (q, r) / (q, A q) ||^2 / ||r||^2.                                                  (1)

Their residuals are random combinations of Ritz vectors of one matrix, those of the low modes weighted 9 times as much
(their section 4.2). Here, besides, half of each batch are residuals that the iteration itself meets with the network as
it is, for they cost nothing: q, A q are there; and there are many domains rather than one, since the network is told
the domain (Lan et al., "A Neural-Preconditioned Poisson Solver for Mixed Dirichlet and Neumann Boundary Conditions",
ICML 2024).

`train` is seeded. `bench/_train_dcd.py` made the weights that are shipped.
"""

import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BOOST = 9.0
RITZ = 48


# ---- domains ---------------------------------------------------------------------------------------------------------


def random_domain(rng, shape, walls=0.0):
    """(mask, solid, outside) as `GridOperator.poisson` takes them: boxes, obstacles, blobs, ellipsoids, tanks.

    `walls` is the share of domains that are sure to have walls in them, which are the hard ones.
    """
    from scipy import ndimage

    dim, solid = len(shape), np.zeros(shape, dtype=bool)
    axes = np.meshgrid(*[(np.arange(n) + 0.5) / max(shape) for n in shape], indexing="ij")
    mask = np.ones(shape, dtype=bool)
    outside = [["neumann" if rng.random() < 0.2 else "dirichlet" for _ in range(2)] for _ in range(dim)]
    kind = rng.integers(5)
    hard = walls > 0 and rng.random() < walls
    if hard:
        kind = rng.choice((1, 2, 4, 4))
    if kind == 2:  # a blob, mostly
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(0.03, 0.12) * max(shape))
        mask = noise > np.quantile(noise, rng.uniform(0.1, 0.6))
        solid = ~mask if hard or rng.random() < 0.4 else solid
    elif kind == 3:  # an ellipsoid, perhaps with a notch
        centre, size = rng.uniform(0.35, 0.65, dim), rng.uniform(0.2, 0.6, dim)
        mask = sum(((a - c) / s) ** 2 for a, c, s in zip(axes, centre, size, strict=True)) < 1
        if rng.random() < 0.5:
            mask &= ~np.all([a > c for a, c in zip(axes, centre, strict=True)], axis=0)
        solid = ~mask if rng.random() < 0.2 else solid
    elif kind == 4:  # a tank: walls around, air above a wavy surface
        outside = [["neumann", "neumann"] for _ in range(dim)]
        waves = 0.0
        for a in axes[1:]:
            waves = waves + rng.uniform(-0.1, 0.1) * np.sin(2 * np.pi * (rng.uniform(0, 2) * a + rng.random()))
        mask = axes[0] < rng.uniform(0.5, 1.0) + waves
        mask[-1] = False
    if kind in (1, 4):
        closed = rng.random() < 0.5 or kind == 4 or hard
        for _ in range(rng.integers(1, 8)):
            centre, size = rng.random(dim), rng.uniform(0.03, 0.2, dim)
            away = [abs(a - c) / s for a, c, s in zip(axes, centre, size, strict=True)]
            obstacle = (np.max(away, axis=0) < 1) if rng.random() < 0.5 else (sum(a**2 for a in away) < 1)
            mask &= ~obstacle
            solid |= obstacle & closed
    parts, _ = ndimage.label(mask)
    held = np.unique(parts[mask & (faces_of(mask, solid, outside)[1] > 0)])
    solid |= mask & ~np.isin(parts, held)  # what touches no cell of value 0 is singular
    mask &= ~solid
    if mask.sum() < 0.2 * mask.size:
        return random_domain(rng, shape, walls)
    return mask, solid, outside


def faces_of(mask, solid, outside):
    """Numbers of each unknown's faces that are no walls, and of those to cells of value 0."""
    code = np.where(mask, 0, np.where(solid, 2, 1))
    for axis, (low, high) in enumerate(outside):
        width = [(0, 0)] * mask.ndim
        width[axis] = (1, 1)
        ends = tuple(2 if end == "neumann" else 1 for end in (low, high))
        code = np.pad(code, width, constant_values=[ends if n == axis else (1, 1) for n in range(mask.ndim)])
    walls, zeros = np.zeros(mask.shape), np.zeros(mask.shape)
    for axis in range(mask.ndim):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + mask.shape[axis])
            walls += code[tuple(window)] == 2
            zeros += code[tuple(window)] == 1
    return np.where(mask, 2.0 * mask.ndim - walls, 0), np.where(mask, zeros, 0)


def apply(mask, diagonal, x):
    """A x for stacks (batch, 1, ...): the 5- or 7-point Laplacian on the unknown cells."""
    total = diagonal * x
    for axis in range(2, x.ndim):
        n = x.shape[axis]
        zero = torch.zeros_like(x.narrow(axis, 0, 1))
        after, before = x.narrow(axis, 1, n - 1), x.narrow(axis, 0, n - 1)
        total = total - torch.cat([after, zero], axis) - torch.cat([zero, before], axis)
    return mask * total


def ritz_vectors(mask, diagonal, generator, steps=RITZ):
    """Ritz values (steps,) and vectors (steps, ...) of one A by Lanczos with full reorthogonalisation, low first."""
    mask, diagonal = mask[None], diagonal[None]
    q = torch.randn(mask.shape, generator=generator) * mask
    q /= q.norm()
    basis, main, off = torch.empty((steps, q.numel())), torch.zeros(steps), torch.zeros(steps)
    for j in range(steps):
        basis[j] = q.ravel()
        w = apply(mask, diagonal, q)
        main[j] = (q * w).sum()
        flat = w.ravel()
        for _ in range(2):
            flat = flat - basis[: j + 1].T @ (basis[: j + 1] @ flat)
        off[j] = flat.norm()
        q = (flat / off[j]).reshape(mask.shape)
    values, vectors = torch.linalg.eigh(torch.diag(main) + torch.diag(off[:-1], 1) + torch.diag(off[:-1], -1))
    return values, (vectors.T @ basis).reshape(steps, *mask.shape[1:])


# ---- the network -----------------------------------------------------------------------------------------------------


class Level(nn.Module):
    """The parameters of one level: of the domain's features, and of the way down and up."""

    def __init__(self, dim, inputs, channels, features, before, after):
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dim - 2]
        self.feature1, self.feature2 = conv(3, features, 3, padding=1), conv(features, features, 3, padding=1)
        self.gate = conv(features, channels, 3, padding=1)
        self.enter = conv(inputs, channels, 3, padding=1, bias=False)
        self.before = nn.ModuleList(conv(channels, channels, 3, padding=1, bias=False) for _ in range(before))
        self.after = nn.ModuleList(conv(channels, channels, 3, padding=1, bias=False) for _ in range(after))
        self.leave = conv(channels, inputs, 3, padding=1, bias=False)
        with torch.no_grad():
            self.gate.bias += 1
            for layer in (*self.before, *self.after):
                layer.weight *= 0.5


class Network(nn.Module):
    """The torch twin of `dcd_network.Network`, whose docstring is the meaning."""

    def __init__(self, dim, channels=(16, 16), features=8, before=1, after=2):
        super().__init__()
        self.dim = dim
        fine, coarse = channels
        made = [(1, fine), (fine, coarse), (coarse, coarse)]
        self.levels = nn.ModuleList(Level(dim, i, c, features, before, after) for i, c in made)

    def prepare(self, mask, open_faces, sink):
        pool = (functional.avg_pool2d, functional.avg_pool3d)[self.dim - 2]
        m, w, s = mask, mask - open_faces / (2 * self.dim), sink / (2 * self.dim)
        gates: list[tuple] = []
        while True:
            level = self.levels[min(len(gates), 2)]
            f = torch.relu(level.feature1(torch.cat([m, w, s], 1)))
            f = torch.relu(level.feature2(f))
            inside = (m > 0).to(m.dtype)
            gates.append((level.gate(f) * inside, inside))
            if min(m.shape[2:]) < 4:
                return gates
            m, w, s = pool(m, 2), 2 * pool(w, 2), 2 * pool(s, 2)

    def forward(self, gates, r, depth=0):
        pool = (functional.avg_pool2d, functional.avg_pool3d)[self.dim - 2]
        level, (gate, inside) = self.levels[min(depth, 2)], gates[depth]
        h = gate * level.enter(r)
        for layer in level.before:
            h = h + gate * torch.relu(layer(h))
        if depth + 1 < len(gates):
            h = h + inside * functional.interpolate(self(gates, pool(h, 2), depth + 1), scale_factor=2)
        for layer in level.after:
            h = h + gate * torch.relu(layer(h))
        return inside * level.leave(h) if depth == 0 else level.leave(h)


# ---- the training ----------------------------------------------------------------------------------------------------


def inner(x, y):
    return (x * y).flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1))


class Pool:
    """Domains with their Ritz vectors, and the iterations that are under way on some of them."""

    def __init__(self, rng, generator, shape, domains, live, longest=40, walls=0.0):
        self.rng, self.generator, self.longest = rng, generator, longest
        masks, faces, sinks = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
        for _ in range(domains):
            domain = random_domain(rng, shape, walls)
            masks.append(domain[0])
            for found, into in zip(faces_of(*domain), (faces, sinks), strict=True):
                into.append(found)
        stack = lambda fields: torch.tensor(np.array(fields), dtype=torch.float32)[:, None]
        self.mask, self.diagonal, self.sink = stack(masks), stack(faces), stack(sinks)
        found = (ritz_vectors(m, d, generator)[1] for m, d in zip(self.mask, self.diagonal, strict=True))
        self.ritz = torch.stack([vectors[:, 0] for vectors in found])
        self.where = torch.tensor(rng.integers(domains, size=live))
        self.r = self.fresh(self.where)
        self.age = torch.tensor(rng.integers(longest, size=live))
        self.left = torch.ones(live)  # of the residual of each
        self.past = [(torch.zeros_like(self.r),) * 2 for _ in range(2)]  # (p, A p)

    def fresh(self, where):
        """Residuals of mean square 1 on the domains `where`: the paper's, white noise, or constant."""
        weights = torch.randn((len(where), RITZ), generator=self.generator)
        for row in weights:  # the lower modes, up to a random one about the middle, weighted
            row[: RITZ // 2 + int(self.rng.integers(-RITZ // 4, RITZ // 4))] *= BOOST
        r = torch.einsum("bs,bs...->b...", weights, self.ritz[where])[:, None]
        noise = torch.randn(r.shape, generator=self.generator) * self.mask[where]
        kind = torch.tensor(self.rng.random(len(where))).reshape(-1, *[1] * (r.ndim - 1))
        r = torch.where(kind < 0.25, noise, r)
        return self.unit(torch.where(kind > 0.85, self.mask[where], r), where)

    def unit(self, r, where):
        """r with mean square 1 over the unknowns."""
        return r * (inner(self.mask[where], self.mask[where]) / inner(r, r).clamp_min(1e-30)).sqrt()

    def step(self, net, batch, layout):
        """(1) for each of a batch; the iterations in it go on by a step."""
        live = len(self.where)
        fresh = torch.tensor(self.rng.integers(len(self.mask), size=batch - live))
        where, r = torch.cat([self.where, fresh]), torch.cat([self.r, self.fresh(fresh)])
        mask, diagonal = self.mask[where], self.diagonal[where]
        q = net(net.prepare(mask, diagonal, self.sink[where]), r.contiguous(memory_format=layout)).contiguous()
        aq = apply(mask, diagonal, q)
        left = r - aq * (inner(q, r) / inner(q, aq).clamp_min(1e-30))
        loss = inner(left, left) / inner(r, r)  # (1)
        with torch.no_grad():
            self._advance(q[:live].detach(), aq[:live].detach())
        return loss

    def _advance(self, q, aq):
        """The step of the published iteration; what is solved, or has gone on for long, begins anew."""
        for p, ap in self.past:
            part = inner(q, ap) / inner(p, ap).clamp_min(1e-30)
            q, aq = q - part * p, aq - part * ap
        r = self.r - aq * (inner(q, self.r) / inner(q, aq).clamp_min(1e-30))
        self.age += 1
        self.left *= (inner(r, r) / inner(self.r, self.r)).sqrt().flatten()
        over = (self.age >= self.longest) | ~((self.left > 1e-5) & (self.left < 1e2))
        self.past = [self.past[1], (q, aq)]
        if over.any():
            self.where[over] = torch.tensor(self.rng.integers(len(self.mask), size=int(over.sum())))
            r[over] = self.fresh(self.where[over])
            self.age[over], self.left[over] = 0, 1.0
            keep = (~over).reshape(-1, *[1] * (r.ndim - 1))
            self.past = [(torch.where(keep, p, 0.0), torch.where(keep, ap, 0.0)) for p, ap in self.past]
        self.r = self.unit(r, self.where)


ROUNDS = {
    2: (
        {"stages": ((32, 5000, 16, 160), (64, 1800, 16, 160)), "logarithm": True},
        {"stages": ((32, 7000, 16, 900), (64, 1001, 16, 250)), "of": 9000, "walls": 0.5, "lr": 2e-3},
    ),
    3: (
        {"stages": ((16, 1800, 8, 300),), "logarithm": True, "walls": 0.3},
        {"stages": ((16, 3500, 8, 700), (32, 900, 4, 80)), "walls": 0.5},
    ),
}
"""How the shipped networks were trained. A stage is (size, steps, batch, domains): what deeper levels share is learned
on small grids, which are cheap."""

CHANNELS = {2: (16, 16), 3: (8, 16)}


def train(dim, *, seed=0, rounds=None, channels=None, log=print):
    """Train a `Network` for 2 or 3 axes on the CPU, and return it.

    `rounds` and `channels` are the shipped networks' by default. `log` is called with a line every 100 steps, and the
    network.
    """
    torch.manual_seed(seed)
    layout = (torch.channels_last, torch.channels_last_3d)[dim - 2]  # the quicker one on a CPU
    net = Network(dim, channels or CHANNELS[dim]).to(memory_format=layout)
    for number, options in enumerate(rounds or ROUNDS[dim]):
        train_round(net, layout, seed + 100 * number, log, **options)
    return net


def train_round(net, layout, seed, log, *, stages, of=None, logarithm=False, walls=0.0, lr=3e-3):
    """One cosine of learning rates, over `of` steps where it ends early.

    With the logarithm of (1), easy domains count as much as hard ones.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    began, step, total = time.process_time(), 0, of or sum(stage[1] for stage in stages)
    for size, steps, batch, domains in stages:
        pool, mean = Pool(rng, generator, (size,) * net.dim, domains, batch // 2, walls=walls), None
        for _ in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1, (step + 1) / 100) * (0.5 * (1 + np.cos(np.pi * step / total)) + 0.003)
            left = pool.step(net, batch, layout)
            loss = 0.5 * torch.log(left + 1e-6).mean() if logarithm else left.mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
            if step % 100 == 0:
                log(f"{step} of {total}, size {size}: {time.process_time() - began:.0f} s, loss {mean:.4f}", net)
            step += 1


def parameters(net, *, seed=1):
    """The arrays of a trained network by name, as `DeepConjugateDirection(weights=...)` takes them.

    The loss knows neither sign nor size of q: the last layer gets the factor by which q approximates A^-1 r best.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    size = (64, 32)[net.dim - 2]
    pool = Pool(rng, generator, (size,) * net.dim, 8, 8, 1)
    where = torch.arange(8)
    r, mask, diagonal = pool.fresh(where), pool.mask, pool.diagonal
    with torch.no_grad():
        q = net(net.prepare(mask, diagonal, pool.sink), r)
        factors = inner(q, r) / inner(q, apply(mask, diagonal, q))
        net = {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}
    net["levels.0.leave.weight"] *= np.median(factors.flatten().numpy())
    return net
