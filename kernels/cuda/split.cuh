// The layout of contracts/split.py: a grid by colours, (2, X, Y, H), and the neighbours of a cell in it.
#ifndef NTSOLVE_SPLIT_CUH
#define NTSOLVE_SPLIT_CUH
#include "common.cuh"

struct Axes {
  int x, y, z;
};

struct Split {
  int nx, ny, h;  // planes without ghosts, rows of a plane, cells of one colour in a row
  Axes wrap;
  __device__ int plane() const { return ny * h; }
  __device__ int half() const { return (nx + 2) * ny * h; }  // cells of one colour, ghosts included
  __device__ long long size() const { return 2LL * half(); }
  __device__ int place(int i, int j, int m) const { return (i * ny + j) * h + m; }
};

// The faces of a level; none are stored for a mask, where all are 1.
template <bool MASK, typename T>
struct Faces {
  const T *x, *y, *z;
  __device__ Faces<MASK, T> of(long long start) const {
    if (MASK) return *this;
    return Faces<MASK, T>{x + start, y + start, z + start};
  }
};

// visit(face, place in the other colour) for each neighbour of the cell of colour c at [i, j, m].
template <bool MASK, typename T, class Visit>
__device__ __forceinline__ void neighbours(const Split& g, const Faces<MASK, T>& f, int c, int i, int j, int m,
                                           Visit visit) {
  const int half = g.half(), own = c ? half : 0, other = half - own, plane = g.plane();
  const int row = g.place(i, j, 0), at = row + m;
  if (i < g.nx || g.wrap.x) visit(MASK ? T(1) : f.x[own + at], i < g.nx ? at + plane : at - (g.nx - 1) * plane);
  if (i > 1 || g.wrap.x) {
    const int to = i > 1 ? at - plane : at + (g.nx - 1) * plane;
    visit(MASK ? T(1) : f.x[other + to], to);
  }
  if (j < g.ny - 1 || g.wrap.y) visit(MASK ? T(1) : f.y[own + at], j < g.ny - 1 ? at + g.h : at - (g.ny - 1) * g.h);
  if (j > 0 || g.wrap.y) {
    const int to = j > 0 ? at - g.h : at + (g.ny - 1) * g.h;
    visit(MASK ? T(1) : f.y[other + to], to);
  }
  visit(MASK ? T(1) : f.z[at], at);
  if (((i + j + c) & 1) == 0) {
    if (m > 0 || g.wrap.z) visit(MASK ? T(1) : f.z[half + at], m > 0 ? at - 1 : at + g.h - 1);
  } else if (m < g.h - 1 || g.wrap.z) {
    const int to = m < g.h - 1 ? at + 1 : row;
    visit(MASK ? T(1) : f.z[half + to], to);
  }
}
#endif
