"""A package of somebody who has read the pages and nothing else: a tool, an environment, a wrapper, an algorithm, a policy."""

import gymnasium as gym

gym.register("Outsider/Ledger-v0", entry_point="outsider.environment:LedgerEnv")
gym.register("Outsider/CountedLedger-v0", entry_point="outsider.wrapper:counted")
