"""The embedded policy: about a million parameters, built and cold-started in the run that trains it.

It needs no download. Its tokenizer gives each name in the environment's world one token; its skills
(copying, reading the matching fact) come from the cold start, its decisions from reinforcement learning.
"""
