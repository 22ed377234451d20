"""Demonstrations: what a policy is shown before it learns by itself, wherever they come from.

`expert.py` has an environment's scripted expert play, `messages.py` reads conversations from a file, `kept.py` takes the best
paths of a run; `lesson.py` turns each into tokens that mark what the demonstrator wrote, and some of them into one tree.
"""
