"""Python in E2B's cloud sandboxes: the tool `python` of `arpo_envs.tools.python`, on the real `e2b-code-interpreter` SDK.

`tool.py` is the tool, which starts sandboxes; `session.py` is one sandbox, from there on: its cells, forks and snapshots, and
replay if the server cannot fork. `calls.py` says what may go wrong on the way to a sandbox and what may safely be repeated,
`text.py` words what the model reads as the local interpreter does, and `opener.py` is what a session asks of its tool.
"""

from .tool import E2BTool

__all__ = ["E2BTool"]
