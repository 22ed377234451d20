"""Benchmarks: one file each, which defines a `BENCHMARK` (`check.Benchmark`); `arpo bench NAME` runs it."""
