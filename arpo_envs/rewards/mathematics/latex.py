"""One spelling for a mathematical answer, whether it came as LaTeX, as Unicode or as program text.

Only strings are handled here: nothing is evaluated, and every step is linear or bounded by `MAX_LENGTH`.
"""

import re

from ..wrapping import closing
from .program import without_calls

MAX_LENGTH = 2000
"""Characters; anything longer is not an answer."""
MAX_DEPTH = 40
"""Levels of nested brackets."""

_UNICODE = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑﹣－", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f\u2002\u2003\t\n\r", " "),
        **{"×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∗": "*", "÷": "/", "∕": "/", "⁄": "/"},
        **{"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in "},
        **{"±": r"\pm ", "∓": r"\mp ", "°": r"^\circ ", "º": r"^\circ ", "√": " sqrt ", "∅": r"\emptyset "},
        **{"ℝ": r"\mathbb{R}", "′": "'"},
        **{"⟨": r"\langle ", "⟩": r"\rangle ", "≈": r"\approx ", "∨": r"\lor ", "∧": r"\land "},
        **{chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)},  # full-width forms
        **{"½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"},
        **{"⅕": r"\frac{1}{5}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}"},
        **{"α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "θ": r"\theta ", "λ": r"\lambda "},
        **{"μ": r"\mu ", "π": r"\pi ", "ρ": r"\rho ", "σ": r"\sigma ", "φ": r"\phi ", "ω": r"\omega ", "ϕ": r"\phi "},
    }
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_SPACES = re.compile(r"(?<!\\)\\(?:[,;:> ]|quad\b|qquad\b|displaystyle\b|limits\b|big[lr]?\b|Big[lr]?\b|bigg[lr]?\b)|~")
_NO_SPACE = re.compile(r"\\!\s*")
_REPEATED = re.compile(r"([^\d\s])\1{30}")
_SIDES = re.compile(r"\\m?(?:left|right)(?![a-zA-Z])\.?")
_FRACTIONS = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\overline\s*\{(\d+)\}")
_WORDS = re.compile(
    r"(?<![\\a-zA-Z])(arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|sqrt|infinity|infty|inf|oo)(?![a-zA-Z])"
)
_ROOT = re.compile(r"\\sqrt\s*(\d+(?:\.\d+)?)")
_LATEX_OF = {"infinity": r"\infty ", "inf": r"\infty ", "oo": r"\infty "}
_MIXED = re.compile(r"(?<![\d./^_{])(\d+)\s+(\d+)/(\d+)(?![\d./])")
_DIGITS_OF_FRACTION = re.compile(r"\\(frac|binom)\s*(\d)\s*(\d)(?!\d)")
_SPACED_THOUSANDS = re.compile(
    r"(?<![\d.,^_])[1-9]\d{0,2}(?P<groups>(?: \d{3})+)(?!\d)(?=(?P<bottom>\s*/\s*\d+(?: \d{3}(?!\d))*)?)"
)
_SIDE_BY_SIDE = re.compile(r"(?<![\d._])(?:\d++(?:\.\d*+)?+|\.\d++)[ $]++(?=[\d.])")
_NEEDLESS_SPACE = re.compile(r"(?<![\d.]) | (?![\d.])")
_EXPONENT = re.compile(r"\^\s*([+-]?(?:\d+(?:\.\d+)?|\.\d+))(?![\d}])")
_TOWER = re.compile(r"\^\{([^{}]+)\}\s*\^\{([^{}]+)\}")
_DECIMAL_EXPONENT = re.compile(r"\^\{\s*([+-]?)(\d*)\.(\d{1,9})\s*\}")
_JOINED = re.compile(r"\\text\s*\{\s*(?:and|or)\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])")
_UPRIGHT = re.compile(r"\\(?:mathrm|mathsf|mathit|text|operatorname|rm)\s*\{\s*([a-zA-Z]|\\[a-zA-Z]+)\s*\}")
_DETERMINANT = re.compile(r"\|\s*\\begin\{(matrix|array)\}(?:\{[lcr ]*\})?([^|]*)\\end\{\1\}\s*\|")
_UNION = re.compile(r"(?<=[)\]}])\s*U\s*(?=[(\[\\{])")
_SCIENTIFIC = re.compile(r"(?<![a-zA-Z\d.])(\d+(?:\.\d*)?|\.\d+)[eE]([+-]?\d+)(?![a-zA-Z\d.])")


def too_wild(text: str) -> bool:
    r"""Says whether a text is too long, too deeply nested or too strange to be read at all.

    >>> too_wild("(" * 100), too_wild("x" * 3000), too_wild(r"\frac{1}{2}"), too_wild("5\x00")
    (True, True, False, True)
    """
    if len(text) > MAX_LENGTH or any(ord(character) < 32 and character not in "\t\n\r" for character in text):
        return True
    if _REPEATED.search(text):
        return True
    depth = 0
    for character in text:
        if character in "([{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif character in ")]}":
            depth = max(depth - 1, 0)
    return False


def to_latex(text: str) -> str:
    r"""Returns an unwrapped answer as LaTeX in one spelling.

    Spaces may group thousands (1 234); other numbers side by side stay separate (`side_by_side`).

    >>> [to_latex(text) for text in ("x**10", "√2", "2 1/2", "1,234", r"0.\overline{3}", "sqrt(x+1)", "6.5e-4", r"1\,234")]
    ['x^{10}', '\\sqrt{2}', '2\\frac{1}{2}', '1234', '\\frac{3}{9}', '\\sqrt{x+1}', '6.5\\times 10^{-4}', '1234']
    """
    text = without_calls(text.translate(_UNICODE))
    text = _SUPERSCRIPT.sub(lambda match: f"^{{{match[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _FRACTIONS.sub(r"\\frac", _SIDES.sub("", _SPACES.sub(" ", _NO_SPACE.sub("", text))))
    for old, new in (
        ("{,}", ","), ("**", "^"), ("<=", r"\le "), (">=", r"\ge "), ("!=", r"\ne "), (r"\leq", r"\le"), (r"\geq", r"\ge"),
        (r"\neq", r"\ne"), (r"\le slant", r"\le"), (r"\lbrace", r"\{"), (r"\rbrace", r"\}"), (r"\varnothing", r"\emptyset"),
        (r"\degree", r"^\circ"), (r"\dots", r"\ldots"), (r"\vee", r"\lor"), (r"\wedge", r"\land"), (r"\prime", "'"),
        (r"\{\}", r"\emptyset"),
    ):  # fmt: skip
        text = text.replace(old, new)
    text = _DETERMINANT.sub(r"\\begin{vmatrix}\2\\end{vmatrix}", _UPRIGHT.sub(_slanted, text))
    text = _JOINED.sub(lambda match: r" \lor " if "or" in match[0] else r" \land ", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text) if not _inside_brackets(text) else text
    text = _SCIENTIFIC.sub(r"\1\\times 10^{\2}", text)
    text = _REPEATING.sub(_as_fraction, text)
    text = _ROOT.sub(r"\\sqrt{\1}", text)  # in LaTeX it ends before a space; √ and sqrt take all groups of digits
    text = _WORDS.sub(lambda match: _LATEX_OF.get(match[1], "\\" + match[1] + " "), text)
    text = joined_thousands(" ".join(_DIGITS_OF_FRACTION.sub(r"\\\1{\2}{\3}", text).split()))
    text = _UNION.sub(r" \\cup ", _MIXED.sub(r"\1\\frac{\2}{\3}", text))
    text = _braced(_braced(text, r"\sqrt"), "^")
    text = _TOWER.sub(r"^{\1^{\2}}", _EXPONENT.sub(r"^{\1}", text))
    text = _DECIMAL_EXPONENT.sub(lambda match: rf"^{{{match[1]}{_decimal(match[2], match[3])}}}", text)
    return " ".join(text.replace("*", r"\cdot ").split())


def joined_thousands(text: str) -> str:
    """Returns a text with the spaces taken out of its numbers; those of a mixed number stay.

    A proper fraction after a whole number makes a mixed one with it; one that begins with a zero or is no proper fraction is
    the last group of digits above the line.

    >>> [joined_thousands(text) for text in ("1 234 567", "2 000/5", "2 125/1000", "2 345/5", "2 1/2", "5 6")]
    ['1234567', '2000/5', '2 125/1000', '2345/5', '2 1/2', '5 6']
    """
    return _SPACED_THOUSANDS.sub(_joined, text)


def _joined(match: re.Match[str]) -> str:
    groups, bottom = match["groups"].split(), (match["bottom"] or "").strip("/ ")
    mixed = len(groups) == 1 and not groups[0].startswith("0") and bottom.isdigit() and int(groups[0]) < int(bottom)
    return match[0] if mixed else match[0].replace(" ", "")


def side_by_side(latex: str) -> bool:
    r"""Says whether two numbers are side by side with only space (or dollar signs) between them: that is not a number.

    >>> [side_by_side(to_latex(text)) for text in ("5 6", "1. 5", "1 000", "1 1/2", r"\log_2 8", "2 x")]
    [True, True, False, False, False, False]
    """
    return _SIDE_BY_SIDE.search(latex) is not None


def without_spaces(latex: str) -> str:
    r"""Returns LaTeX in the spelling of `to_latex` without the spaces that mean nothing; those between numbers stay.

    >>> without_spaces("2 x + 3 y"), without_spaces("5 6")
    ('2x+3y', '5 6')
    """
    return _NEEDLESS_SPACE.sub("", latex)


def _inside_brackets(text: str) -> bool:
    """Says whether commas may separate coordinates, so that (1,234) is a point."""
    return text.startswith(("(", "[", "{", r"\{", r"\langle"))


def _slanted(match: re.Match[str]) -> str:
    """Takes one letter out of upright type, as constants are set; after a number it stays upright: there it is a unit."""
    ahead = match.string[: match.start()].rstrip()
    is_unit = len(match[1]) == 1 and match[1] not in "ei" and ahead.endswith(tuple("0123456789)}]"))
    return match[0] if is_unit else match[1]


def _decimal(whole: str, digits: str) -> str:
    r"""Returns a decimal fraction as a fraction: as an exponent, 0.5 is a root, and exact."""
    return rf"\frac{{{int(whole + digits)}}}{{{10 ** len(digits)}}}"


def _as_fraction(match: re.Match[str]) -> str:
    whole, fixed, period = match[1], match[2], match[3]
    ninths = "9" * len(period) + "0" * len(fixed)
    numerator = int((whole + fixed + period) or "0") - int((whole + fixed) or "0")
    return rf"\frac{{{numerator}}}{{{ninths}}}"


def _braced(text: str, command: str) -> str:
    r"""Turns \sqrt(x), \sqrt 2 and ^(x) into \sqrt{x}, \sqrt{2} and ^{x}."""
    pieces, at = [], 0
    while (found := text.find(command, at)) >= 0:
        end = found + len(command)
        start = end + len(text[end:]) - len(text[end:].lstrip())
        pieces.append(text[at:end])
        at = start
        if start < len(text) and text[start] == "(" and (stop := closing(text, start)) > 0 and text[stop] == ")":
            pieces.append("{" + _braced(text[start + 1 : stop], command) + "}")
            at = stop + 1
        elif command != "^" and (number := re.match(r"\d+(?:\.\d+)?|[a-zA-Z]|\\pi", text[start:])):
            pieces.append("{" + number[0] + "}")
            at = start + len(number[0])
    return "".join(pieces) + text[at:]
