"""Training of the network of `ntsolve.DeepConjugateDirection`. Needs torch: ``pip install "ntsolve[dcd]"``.

The loss of Kaneda et al., "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems" (ICML 2023),
needs no solutions: for q = f(r) it is what an exact line search along q leaves of the residual,

    l(r) = || r - A q (q, r) / (q, A q) ||^2 / ||r||^2.                                                  (1)

Their residuals are random combinations of Ritz vectors of one matrix, those of the low modes weighted 9 times as much
(their section 4.2). Here, besides, half of each batch are residuals that the iteration itself meets with the network as
it is, for they cost nothing: q, A q are there; and there are many domains rather than one, since the network is told
the domain (Lan et al., "A Neural-Preconditioned Poisson Solver for Mixed Dirichlet and Neumann Boundary Conditions",
ICML 2024).

`train` is seeded. ``python -m bench.train_dcd 2`` and ``... 3`` made the weights that are shipped.
"""

import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BOOST = 9.0
RITZ = 48


# ---- domains ---------------------------------------------------------------------------------------------------------


def random_domain(rng, shape):
    """A mask (True: unknown) and the diagonal of the Laplacian on it, whose walls are Dirichlet or Neumann at random."""
    from scipy import ndimage

    dim = len(shape)
    axes = np.meshgrid(*[(np.arange(n) + 0.5) / max(shape) for n in shape], indexing="ij")
    mask = np.ones(shape, dtype=bool)
    kind = rng.integers(4)
    if kind == 1:  # obstacles
        for _ in range(rng.integers(1, 8)):
            centre, size = rng.random(dim), rng.uniform(0.03, 0.2, dim)
            away = [abs(a - c) / s for a, c, s in zip(axes, centre, size, strict=True)]
            mask &= (np.max(away, axis=0) > 1) if rng.random() < 0.5 else (sum(a**2 for a in away) > 1)
    elif kind == 2:  # a blob
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(0.03, 0.12) * max(shape))
        mask = noise > np.quantile(noise, rng.uniform(0.1, 0.6))
    elif kind == 3:  # an ellipsoid, perhaps with a notch
        centre, size = rng.uniform(0.35, 0.65, dim), rng.uniform(0.2, 0.6, dim)
        mask = sum(((a - c) / s) ** 2 for a, c, s in zip(axes, centre, size, strict=True)) < 1
        if rng.random() < 0.5:
            mask &= ~np.all([a > c for a, c in zip(axes, centre, strict=True)], axis=0)
    inner = "dirichlet" if rng.random() < 0.6 else "neumann"
    sides = ["neumann" if rng.random() < 0.2 else "dirichlet" for _ in range(2 * dim)]
    diagonal = np.full(shape, 2.0 * dim)
    for axis in range(dim):
        for side, step in ((0, 1), (1, -1)):
            neighbour = np.roll(mask, step, axis)
            edge = [slice(None)] * dim
            edge[axis] = 0 if side == 0 else -1
            if inner == "neumann":
                closed = ~neighbour
                closed[tuple(edge)] = False
                diagonal -= closed
            if sides[2 * axis + side] == "neumann":
                diagonal[tuple(edge)] -= 1
    parts, count = ndimage.label(mask)
    inside = _neighbours(mask.astype(float))
    held = np.unique(parts[mask & (diagonal > inside)])  # parts that touch a Dirichlet wall
    mask &= np.isin(parts, held)
    if mask.sum() < 0.2 * mask.size:
        return random_domain(rng, shape)
    return mask, np.where(mask, diagonal, 0.0)


def _neighbours(x):
    padded = np.pad(x, 1)
    total = np.zeros_like(x)
    for axis in range(x.ndim):
        for start in (0, 2):
            window = [slice(1, -1)] * x.ndim
            window[axis] = slice(start, start + x.shape[axis])
            total += padded[tuple(window)]
    return total


def apply(mask, diagonal, x):
    """A x for stacks (batch, 1, ...): the 5- or 7-point Laplacian on the unknown cells."""
    total = diagonal * x
    for axis in range(2, x.ndim):
        n = x.shape[axis]
        zero = torch.zeros_like(x.narrow(axis, 0, 1))
        total = total - torch.cat([x.narrow(axis, 1, n - 1), zero], axis) - torch.cat([zero, x.narrow(axis, 0, n - 1)], axis)
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
        self.feature1, self.feature2 = conv(2, features, 3, padding=1), conv(features, features, 3, padding=1)
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

    def __init__(self, dim, channels=(16, 16), features=8, before=1, after=2, relu=False):
        super().__init__()
        self.dim, self.relu = dim, relu
        fine, coarse = channels
        made = [(1, fine), (fine, coarse), (coarse, coarse)]
        self.levels = nn.ModuleList(Level(dim, i, c, features, before, after) for i, c in made)

    def prepare(self, mask, diagonal):
        pool = (functional.avg_pool2d, functional.avg_pool3d)[self.dim - 2]
        m, d = mask, diagonal / (2 * self.dim)
        gates = []
        while True:
            level = self.levels[min(len(gates), 2)]
            f = torch.relu(level.feature1(torch.cat([m, d], 1)))
            f = torch.relu(level.feature2(f))
            inside = (m > 0).to(m.dtype)
            gates.append((level.gate(f) * inside, inside))
            if min(m.shape[2:]) < 4:
                return gates
            m, d = pool(m, 2, ceil_mode=True), pool(d, 2, ceil_mode=True)

    def forward(self, gates, r, depth=0):
        pool = (functional.avg_pool2d, functional.avg_pool3d)[self.dim - 2]
        level, (gate, inside) = self.levels[min(depth, 2)], gates[depth]
        act = torch.relu if self.relu else (lambda t: t)
        h = gate * level.enter(r)
        for layer in level.before:
            h = h + gate * act(layer(h))
        if depth + 1 < len(gates):
            h = h + inside * functional.interpolate(self(gates, pool(h, 2), depth + 1), scale_factor=2)
        for layer in level.after:
            h = h + gate * act(layer(h))
        return inside * level.leave(h) if depth == 0 else level.leave(h)


# ---- the training ----------------------------------------------------------------------------------------------------


def inner(x, y):
    return (x * y).flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1))


class Pool:
    """Domains with their Ritz vectors, and the iterations that are under way on some of them."""

    def __init__(self, rng, generator, shape, domains, live, longest):
        self.rng, self.generator, self.longest = rng, generator, longest
        pairs = [random_domain(rng, shape) for _ in range(domains)]
        self.mask = torch.tensor(np.array([m for m, _ in pairs]), dtype=torch.float32)[:, None]
        self.diagonal = torch.tensor(np.array([d for _, d in pairs]), dtype=torch.float32)[:, None]
        found = (ritz_vectors(m, d, generator)[1] for m, d in zip(self.mask, self.diagonal, strict=True))
        self.ritz = torch.stack([vectors[:, 0] for vectors in found])
        self.where = torch.tensor(rng.integers(domains, size=live))
        self.r = self.fresh(self.where)
        self.age = torch.tensor(rng.integers(longest, size=live))
        self.left = torch.ones(live)  # of the residual of each

    def fresh(self, where):
        """Residuals of the paper's distribution on the domains `where`, of mean square 1."""
        weights = torch.randn((len(where), RITZ), generator=self.generator)
        for row in weights:  # the lower modes, up to a random one about the middle, weighted
            row[: RITZ // 2 + int(self.rng.integers(-RITZ // 4, RITZ // 4))] *= BOOST
        r = torch.einsum("bs,bs...->b...", weights, self.ritz[where])[:, None]
        noise = torch.randn(r.shape, generator=self.generator) * self.mask[where]
        kind = torch.tensor(self.rng.random(len(where))).reshape(-1, *[1] * (r.ndim - 1))
        r = torch.where(kind < 0.25, noise, r)
        return self.unit(torch.where(kind > 0.85, self.mask[where], r), where)

    def unit(self, r, where):
        return r * (inner(self.mask[where], self.mask[where]) / inner(r, r).clamp_min(1e-30)).sqrt()


def train(dim, size, *, seed=0, steps=7000, batch=16, domains=192, longest=40, lr=3e-3, log=print, threads=1, start=None,
          test=None, **network):  # fmt: skip
    """Train a `Network` for `steps`, and return it. `log` is called with a line now and then."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    layout = (torch.channels_last, torch.channels_last_3d)[dim - 2]  # the quicker one on a CPU
    net = Network(dim, **network).to(memory_format=layout)
    if start is not None:
        net.load_state_dict(start)
    live = batch // 2
    pool = Pool(rng, generator, (size,) * dim, domains, live, longest)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    began, mean = time.process_time(), None
    p = [torch.zeros_like(pool.r) for _ in range(2)]
    ap = [torch.zeros_like(pool.r) for _ in range(2)]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 100) * (0.5 * (1 + np.cos(np.pi * step / steps)) + 0.003)
        fresh = torch.tensor(rng.integers(domains, size=batch - live))
        where = torch.cat([pool.where, fresh])
        r = torch.cat([pool.r, pool.fresh(fresh)])
        mask, diagonal = pool.mask[where], pool.diagonal[where]
        q = net(net.prepare(mask, diagonal), r.contiguous(memory_format=layout)).contiguous()
        aq = apply(mask, diagonal, q)
        left = r - aq * (inner(q, r) / inner(q, aq).clamp_min(1e-30))
        loss = inner(left, left) / inner(r, r)  # (1)
        loss = 0.5 * torch.log(loss + 1e-6).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():  # the iterations go on by a step
            q, aq, mask, r = q[:live].detach(), aq[:live].detach(), mask[:live], pool.r
            for p1, ap1 in zip(p, ap, strict=True):
                part = inner(q, ap1) / inner(p1, ap1).clamp_min(1e-30)
                q, aq = q - part * p1, aq - part * ap1
            part = inner(q, r) / inner(q, aq).clamp_min(1e-30)
            r = r - part * aq
            pool.age += 1
            pool.left *= (inner(r, r) / inner(pool.r, pool.r)).sqrt().flatten()
            over = (pool.age >= longest) | ~((pool.left > 1e-5) & (pool.left < 1e2))
            if over.any():
                n = int(over.sum())
                pool.where[over] = torch.tensor(rng.integers(domains, size=n))
                r[over] = pool.fresh(pool.where[over])
                pool.age[over], pool.left[over] = 0, 1.0
                q[over], aq[over] = 0, 0
                for old in (*p, *ap):
                    old[over] = 0
            pool.r = pool.unit(r, pool.where)
            p, ap = [p[1], q], [ap[1], aq]
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 0:
            log(f"{step} {time.process_time() - began:.0f}s loss {mean:.4f} {test(net) if test and step % 600 == 0 and step else ''}")
    return net


def solve(net, mask, diagonal, b, rtol=1e-4, maxiter=100):
    """The published iteration on stacks; iterations until each is solved."""
    with torch.no_grad():
        gates = net.prepare(mask, diagonal)
        r, past, first = b, [], inner(b, b)
        scale = inner(mask, mask)
        nit = torch.full((len(b),), maxiter)
        for j in range(maxiter):
            q = net(gates, r * (scale / inner(r, r).clamp_min(1e-30)).sqrt())
            aq = apply(mask, diagonal, q)
            for p1, ap1 in past:
                part = inner(q, ap1) / inner(p1, ap1).clamp_min(1e-30)
                q, aq = q - part * p1, aq - part * ap1
            r = r - aq * (inner(q, r) / inner(q, aq).clamp_min(1e-30))
            past = [*past[-1:], (q, aq)]
            done = (inner(r, r) <= rtol**2 * first).flatten()
            nit[done & (nit == maxiter)] = j + 1
            if done.all():
                break
    return nit


def plain_cg(mask, diagonal, b, rtol=1e-4, maxiter=2000):
    """Iterations of CG on each of a stack of systems."""
    r, p, first = b.double(), b.double(), inner(b.double(), b.double())
    mask, diagonal = mask.double(), diagonal.double()
    rr, nit = first, torch.full((len(b),), maxiter)
    for j in range(maxiter):
        ap = apply(mask, diagonal, p)
        r = r - ap * (rr / inner(p, ap).clamp_min(1e-300))
        new = inner(r, r)
        done = (new <= rtol**2 * first).flatten()
        nit[done & (nit == maxiter)] = j + 1
        if done.all():
            break
        p, rr = r + p * (new / rr.clamp_min(1e-300)), new
    return nit
