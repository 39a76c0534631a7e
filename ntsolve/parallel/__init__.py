"""Many solves at once, and one solve on many processes, on the engines that people already have."""
