"""Our environments in other libraries, and theirs here: one adapter per file, each imported by its own name.

An adapter imports its library when it is used; the extra that installs the library has the adapter's name. `forkable` takes any
environment of Gymnasium. `docs/hubs.md` says which is for what.
"""
