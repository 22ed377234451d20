"""Marks this folder as importable, so that all tests share `toys`."""
