"""The other side of the local Python interpreter: fork server and sessions, with the standard library only.

Nothing here imports the rest of this project: a fresh interpreter runs it, and confines itself.
"""
