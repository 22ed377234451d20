"""A replica in a process of its own, to be killed: `python replica_process.py PORT`; it ends with its standard input."""

import sys

from model_toys import byte_tokenizer, tiny_model
from server_toys import LoopbackServer

if __name__ == "__main__":
    with LoopbackServer(
        tiny_model(), byte_tokenizer(), port=int(sys.argv[1]), context_length=500, batch_invariant=True
    ) as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        sys.stdin.read()
