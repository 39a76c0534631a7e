"""Fixed points: Halpern iteration, finite sums, linear programs."""
