"""What a robots.txt says about a URL: read in a process of its own, as some that are legal take gigabytes once parsed."""

from functools import lru_cache

from protego import Protego


@lru_cache(maxsize=16)
def _parsed(text: str) -> Protego:
    return Protego.parse(text)


def verdict(text: str, url: str, agent: str) -> dict[str, object]:
    r"""Returns whether a robot may ask for a URL ("allowed"), and the seconds that it should wait between requests ("delay").

    Args:
        text: the robots.txt.
        url: absolute.
        agent: what the rules call the robot.

    >>> verdict("User-agent: *\nDisallow: /a\nAllow: /a/b\nCrawl-delay: 2", "https://a.example/a/c", "arpo-envs")
    {'allowed': False, 'delay': 2.0}
    """
    rules = _parsed(text)
    return {"allowed": rules.can_fetch(url, agent), "delay": float(rules.crawl_delay(agent) or 0.0)}
