"""Our environments in other projects' hands, and theirs in ours: one adapter per file, each importing its hub when it is used.

`docs/hubs.md` says which is for what.
"""
