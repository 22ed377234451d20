"""Benchmarks: one file each, with a function `main(arguments)`; called by `arpo bench NAME`."""
