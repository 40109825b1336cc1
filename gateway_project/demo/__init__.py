"""An agency that never was, for `make demo` and for benchmarks: its clients, and what they used. No call leaves it."""
