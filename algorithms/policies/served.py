"""What a server reports about itself before its first request: which model, how long a context, can it take weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arpo_envs import ArpoError, ConfigError
from arpo_envs.errors import unknown_name

if TYPE_CHECKING:
    import httpx

SYNC_ROUTE = "/collective_rpc"
"""Where vLLM takes weights; the route exists only in its development mode."""

_CONNECT_SECONDS = 5.0
_ASK_SECONDS = 20.0


class ServerFault(ArpoError):
    """A server is gone, hangs or fails: not the model's fault, and another time or replica may succeed."""


@dataclass(frozen=True)
class Served:
    """What the replicas of a server serve.

    Args:
        urls: of the replicas, without a slash or "/v1" at the end.
        model: its name there, by which it is asked for.
        root: the folder or hub id it was loaded from, as the server reports it; None if it does not.
        context_length: in tokens; None if the server does not say.
        syncs: whether all replicas that answer can take new weights.
        silent: those of `urls` that did not answer.
    """

    urls: tuple[str, ...]
    model: str
    root: str | None
    context_length: int | None
    syncs: bool
    silent: tuple[str, ...] = ()


def is_url(name: str) -> bool:
    """Whether a policy's name is the URL of a server, or several, comma-separated."""
    return name.startswith(("http://", "https://"))


def split_urls(names: str) -> tuple[str, ...]:
    """Returns the URLs of the replicas.

    Raises:
        ConfigError: one of them is not a URL, or occurs twice.

    >>> split_urls("http://one:8000/v1, http://two:8000/")
    ('http://one:8000', 'http://two:8000')
    """
    urls = tuple(name.strip().rstrip("/").removesuffix("/v1").rstrip("/") for name in names.split(","))
    for url in urls:
        if not is_url(url):
            raise ConfigError(f"{url!r} is not a URL. Give http://HOST:PORT, several separated by commas.")
        if urls.count(url) > 1:
            raise ConfigError(f"{url} is given twice. Give each replica once.")
    return urls


def httpx_module() -> Any:
    """Returns httpx, which comes with the extra that talks to servers.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise ConfigError("A policy behind a URL needs httpx: pip install 'arpo-envs[server]'") from error
    return httpx


def client_options(urls: Sequence[str], api_key: str | None) -> dict[str, Any]:
    """Returns the arguments with which all clients of these servers are made.

    Proxies set in the environment are not used for servers on this machine.

    Raises:
        ConfigError: one of `urls` is not a URL.
    """
    httpx = httpx_module()
    local = all(map(is_loopback, urls))
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"headers": headers, "trust_env": not local, "timeout": httpx.Timeout(_ASK_SECONDS, connect=_CONNECT_SECONDS)}


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine, by an address that no other machine can use.

    >>> [is_loopback(f"http://{host}:8000") for host in ("localhost", "127.0.0.1", "[::1]", "gpu1", "10.0.0.7")]
    [True, True, True, False, False]

    Raises:
        ConfigError: it is not a URL.
    """
    return _host(url) in {"localhost", "127.0.0.1", "::1"}


def _host(url: str) -> str:
    """Returns the machine that a URL names.

    Raises:
        ConfigError: it is not a URL.
    """
    httpx = httpx_module()
    try:
        return str(httpx.URL(url).host)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{url} is not a URL: {error}. Give http://HOST:PORT.") from error


def ask_servers(urls: Sequence[str], *, model: str | None = None, api_key: str | None = None) -> Served:
    """Asks every replica what it serves; replicas that do not answer are left out.

    Args:
        urls: of the replicas of one server.
        model: its name there; by default the first one a server lists.
        api_key: sent as a bearer token.

    Raises:
        ConfigError: one is not a URL, none answers, one is not such a server, or they do not serve the same model.
    """
    httpx = httpx_module()
    cards: dict[str, Mapping[str, Any]] = {}
    syncs = True
    silent: list[str] = []
    reason = ""
    with httpx.Client(**client_options(urls, api_key)) as client:
        for url in urls:
            try:
                cards[url] = model_card(url, client.get(f"{url}/v1/models"), model)
                syncs = syncs and client.get(url + SYNC_ROUTE).status_code == httpx.codes.METHOD_NOT_ALLOWED
            except httpx.TransportError as error:
                silent.append(url)
                reason = f"{type(error).__name__} {error}".strip()
    if not cards:
        raise ConfigError(
            f"No server answers at {', '.join(urls)}: {reason}. Check the address, and that the server is running: "
            "`vllm serve MODEL` prints the port."
        )
    first, card = next(iter(cards.items()))
    for url, other in cards.items():
        for what in ("id", "max_model_len"):
            if other.get(what) != card.get(what):
                raise ConfigError(
                    f"The replicas differ: {first} has {what} {card.get(what)}, {url} has {other.get(what)}. "
                    "Start them with the same arguments."
                )
    return Served(tuple(urls), str(card["id"]), card.get("root"), card.get("max_model_len"), syncs, tuple(silent))


def model_card(url: str, response: "httpx.Response", model: str | None) -> Mapping[str, Any]:
    """Returns a server's own description of its model.

    Raises:
        ConfigError: this is not an OpenAI-compatible server, or it does not have the model.
    """
    if response.status_code in (401, 403):
        raise ConfigError(f"{url} wants an API key: {said(response)}")
    try:
        response.raise_for_status()
        cards = {str(card["id"]): card for card in response.json()["data"]}
    except Exception as error:  # whatever is there instead of a list of models
        raise ConfigError(
            f"{url} is not an OpenAI-compatible server: GET /v1/models answers {response.status_code} {said(response)}. "
            "Give its address without a path, e.g. http://localhost:8000."
        ) from error
    if not cards or (model is not None and model not in cards):
        raise unknown_name(f"model of {url}", model or "", cards)
    card: Mapping[str, Any] = cards[model] if model is not None else next(iter(cards.values()))
    return card


def said(response: "httpx.Response") -> str:
    """Returns a server's message, without the JSON around it."""
    try:
        body = response.json()
        error = body.get("error", body.get("message", body.get("detail", "")))
        message = str(error.get("message", "")) if isinstance(error, Mapping) else str(error)
    except (ValueError, AttributeError):
        message = response.text
    return " ".join(message.split())[:500]
