"""Stop strings in a stream of tokens: as found by decoding everything."""

from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import byte_tokenizer

from algorithms.policies.stopping import StopStrings

TOKENIZER = byte_tokenizer()
STOPS = ("</count>", "東京", " x", "🇨🇭")


def text_of(tokens: list[int]) -> str:
    return str(TOKENIZER.decode(tokens, clean_up_tokenization_spaces=False))


@given(st.lists(st.sampled_from([*STOPS, "</co", "unt", ">", "<", "東", "é", "🇨", "a b", "<|eos|>"]), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_the_token_that_completes_a_stop_string_is_found(pieces: list[str]) -> None:
    finder, tokens = StopStrings(TOKENIZER), TOKENIZER.encode("".join(pieces))
    for stops in (STOPS[:1], STOPS):
        for n in range(1, len(tokens) + 1):
            before, now = text_of(tokens[: n - 1]), text_of(tokens[:n])
            assert finder.completed(tokens[:n], stops) == any(now.count(stop) > before.count(stop) for stop in stops)


class Silent:
    """A tokenizer with a token, 0, that decodes to nothing."""

    def decode(self, ids: list[int], **_: object) -> str:
        return "".join(chr(i) for i in ids if i)


def test_tokens_without_text_may_lie_inside_a_stop_string() -> None:
    finder = StopStrings(Silent())
    assert finder.completed([ord("<"), *[0] * 200, ord("a"), 0, ord(">")], ("<a>",))
    assert not finder.completed([ord("<"), *[0] * 200, ord("b"), ord(">")], ("<a>",))
