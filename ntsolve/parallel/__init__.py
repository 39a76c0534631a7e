"""Many solves at once, on the engines that people already have."""
