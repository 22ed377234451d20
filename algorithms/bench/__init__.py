"""Benchmarks: one file each, which offers a `BENCHMARK` (`check.Benchmark`); `arpo bench NAME` runs it."""
