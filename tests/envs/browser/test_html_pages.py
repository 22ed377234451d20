"""From HTML to the lines that are shown: what is kept, in which shape, and that no page can forge a link."""

import re
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs.tools.browser.display import UsageError, found_in, view
from arpo_envs.tools.browser.html import to_page
from arpo_envs.tools.browser.page import WIDTH, Page, link_mark, without_links

HERE = "https://a.example/d/i.html"
MARK = re.compile(r"【(\d+)†([^†】]+)(?:†([^†】]+))?】")

SHAPES = [
    ("<p>one<p>two", "one\n\ntwo"),
    ("a\n  b<br>c", "a b\nc"),
    ("<h1>Top <i>most</i></h1>text<h3>low</h3>", "# Top most\n\ntext\n\n### low"),
    ("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>e", "  * a\n  * b\n    * c\n  * d\n\ne"),
    ("<ol><li>a<li>b</ol>", "  1. a\n  2. b"),
    ("<pre>def f():\n    return  1</pre>", "def f():\n    return  1"),
    ("<table><tr><th>k<th>v<tr><td>a<td>1</table>", "k | v\na | 1"),
    ("<dl><dt>term<dd>meaning</dl>", "term\n    meaning"),
    ("x<sup>2</sup>, a<sub>ij</sub>", "x^{2}, a_{ij}"),
    ("<b>bo</b>ld <i> x</i>", "bold x"),
    ("a<hr>b", "a\n\n* * *\n\nb"),
    ("<img alt='A map'><img>", "[Image 0: A map][Image 1]"),
    ("<script>x</script><style>y</style><math>z</math><svg><a href='/'>s</a></svg>left<!-- c -->", "left"),
    ("<a href='b'>B</a> <a href='/'>A</a> <a href='b'>B <b>again</b></a>", "【0†B】 【1†A】 【0†B again】"),
    ("<a href='//c.example/x'>C</a>", "【0†C†c.example】"),
    ("<a href='b'><img alt='map'></a>", "【0†[Image 0: map]】"),
    ("<a href='b'><div>deep<p>er</div></a>", "【0†deep er】"),
    ("<a href='#x'>here</a> <a href='mailto:a@b'>mail</a> <a href='http://[x'>odd</a>", "here mail odd"),
    (
        "<a href='javascript:x()'>run</a> <a href='data:text/html,x'>data</a> <a href='file:///etc/passwd'>file</a>",
        "run data file",
    ),
    ("【0†x】 &#12304;1†y&#x3011; <a href='b'>a †】</a>", "〖0†x〗 〖1†y〗 【0†a ‡〗】"),
    ("", ""),
]


@pytest.mark.parametrize(("html", "text"), SHAPES)
def test_shapes(html: str, text: str) -> None:
    assert to_page(html, HERE).text == text


def test_links_are_relative_to_the_base_that_a_page_names() -> None:
    html = "<head><base href='/other/'></head><a href='b'>B</a>"
    assert to_page(html, HERE).links == ("https://a.example/other/b",)
    assert to_page("<a href='b'>B</a>", HERE).links == ("https://a.example/d/b",)


@pytest.mark.parametrize(
    ("html", "given", "title"),
    [
        ("<title> A\n title</title>", "", "A title"),
        ("<p>x", "", "a.example"),
        ("<title>x</title>", "given", "given"),
        ("<title>【0†x】</title>", "", "〖0†x〗"),
    ],
)
def test_titles(html: str, given: str, title: str) -> None:
    assert to_page(html, HERE, given).title == title


TAGS = st.sampled_from(
    [
        "p",
        "a href=b",
        "a href='https://c.example/【1†x】'",
        "/a",
        "/p",
        "ul",
        "li",
        "/ul",
        "pre",
        "/pre",
        "b",
        "table",
        "td",
        "svg",
    ]
)
PIECES = st.one_of(
    TAGS.map(lambda tag: f"<{tag}>"),
    st.text(max_size=6),
    st.sampled_from(["【0†x】", "&#12304;", "†", "】", "\ud800", "\0", "&", "<"]),
)


@given(pieces=st.lists(PIECES, max_size=25))
def test_whatever_is_in_a_page_every_mark_is_one_of_its_links(pieces: list[str]) -> None:
    page = to_page("".join(pieces), HERE)
    shown = {int(number) for number, _, _ in MARK.findall(page.text)}
    assert shown == set(range(len(page.links)))
    assert "【" not in MARK.sub("", page.text)
    assert to_page("".join(pieces), HERE) == page
    assert page.text.encode() == page.text.encode(errors="replace")


@given(text=st.text(max_size=400), words=st.lists(st.text(max_size=100), max_size=40))
def test_lines_hold_the_whole_text_in_80_columns(text: str, words: list[str]) -> None:
    for whole in (text, " ".join(words)):
        lines = Page(HERE, "t", whole).lines
        assert all(len(line) <= WIDTH for line in lines)
        assert "".join(lines).split() == "".join(whole.expandtabs().split("\n")).split()


# --- views ------------------------------------------------------------------------------------------------

LONG = Page(HERE, "Long", "\n".join(f"line {i} of many" for i in range(100)))
"""Five words per line with its number."""


@pytest.mark.parametrize(
    ("first", "lines", "limit", "shown"),
    [
        (0, -1, 1000, (0, 99)),
        (0, -1, 20, (0, 4)),  # the fifth line has the words 21 to 25
        (0, -1, 24, (0, 4)),
        (0, -1, 25, (0, 5)),
        (97, -1, 1000, (97, 99)),
        (10, 3, 1, (10, 12)),
        (98, 10**30, 1, (98, 99)),
        (99, 0, 1, (99, 99)),
    ],
)
def test_a_view_ends_with_the_line_that_exceeds_its_tokens(first: int, lines: int, limit: int, shown: tuple[int, int]) -> None:
    text = view(LONG, 7, first, lines, limit=limit)
    begin, end = shown
    assert text.split("\n")[:3] == [f"[7] Long ({HERE})", f"**viewing lines [{begin} - {end}] of 99**", ""]
    assert text.split("\n")[3:] == [f"L{i}: line {i} of many" for i in range(begin, end + 1)]


def test_the_tokenizer_is_an_argument() -> None:
    assert view(LONG, 0, count=len, limit=20).split("\n")[1] == "**viewing lines [0 - 1] of 99**"


def test_a_line_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"Invalid location parameter: `100`\. Cannot exceed page maximum of 99\."):
        view(LONG, 0, 100)


def test_the_url_is_readable_and_not_endless() -> None:
    heading = view(Page("https://a.example/caf%C3%A9/%E3%80%901%E2%80%A0x", "t", ""), 0).split("\n")[0]
    assert heading == "[0] t (https://a.example/café/〖1†x)"
    assert len(view(Page("https://a.example/" + "x" * 5000, "t", ""), 0).split("\n")[0]) < 1100


# --- finding ----------------------------------------------------------------------------------------------


def test_found_places_are_links_to_their_lines() -> None:
    page = Page(HERE, "P", "zero\nOne 【0†Two】\n2\n3\n4\ntwo\n6", ("https://a.example/",))
    found = found_in(page, "two")
    assert found.text == "# 【0†match at L1】\nOne Two\n2\n3\n4\n\n# 【1†match at L5】\ntwo\n6"
    assert (found.links, found.places) == ((HERE, HERE), (1, 5))
    assert found.title == "Find results for text: `two` in `P`"
    assert found_in(page, "nine").text == "No `find` results for pattern: `nine`"


def test_places_are_bounded_and_do_not_overlap() -> None:
    places = found_in(Page(HERE, "P", "\n".join(["x"] * 1000)), "x").places
    assert places == tuple(range(0, 200, 4))


@given(
    before=st.integers(0, 90), text=st.text("ab ", min_size=1, max_size=60), domain=st.sampled_from(["", "b-c-d-e-f-g.example"])
)
def test_links_are_read_without_moving_a_line(before: int, text: str, domain: str) -> None:
    page = Page(HERE, "P", f"{'x' * before} {link_mark(0, text, domain)}\nlast")
    assert without_links("\n".join(page.lines)).split("\n")[len(page.lines) - 1] == "last"
    assert found_in(page, "last").places == (len(page.lines) - 1,)


@pytest.mark.timeout(120)  # where it is copied for each of its lines, eight megabytes take minutes
def test_a_huge_word_is_cut_into_lines_and_what_is_around_it_is_wrapped() -> None:
    around = "some words before and after it, " * 6
    lines = Page("u", "t", f"{around}{'x' * 8_000_000}😀 {around}").lines
    assert max(map(len, lines)) == WIDTH
    assert "".join(lines) == f"{around}{'x' * 8_000_000}😀 {around}"


@given(st.text(st.sampled_from("ab-\t 😀"), max_size=400))
def test_words_of_usual_length_are_wrapped_as_ever(text: str) -> None:
    wrapper = textwrap.TextWrapper(width=WIDTH, replace_whitespace=False, drop_whitespace=False)
    assert [*Page("u", "t", text).lines] == ([text] if len(text) <= WIDTH and "\t" not in text else wrapper.wrap(text))
