"""Asking strangers' servers for pages.

`urls.py` says what may be asked for, `lookups.py` resolves names within a time, `addresses.py` says which addresses may be
reached, `connections.py` connects to those that were checked, `visits.py` sends requests and bounds what they may cost,
`bodies.py` reads what comes back, `robots.py` asks what sites want of robots, and `pace.py` how often. It needs httpx and
protego, so it is only imported where a live site is made.
"""

from .addresses import is_allowed, networks
from .connections import Bounds
from .errors import Passing, TooLate, Unavailable
from .lookups import Lookups, Resolver, system_resolver
from .pace import Pace
from .robots import Robots
from .visits import Answer, Visit, wait

__all__ = [
    "Answer",
    "Bounds",
    "Lookups",
    "Pace",
    "Passing",
    "Resolver",
    "Robots",
    "TooLate",
    "Unavailable",
    "Visit",
    "is_allowed",
    "networks",
    "system_resolver",
    "wait",
]
