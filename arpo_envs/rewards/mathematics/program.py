"""Program text in an answer: calls such as `Fraction(1, 2)` or `math.sqrt(2)`, and Python's complex numbers, as LaTeX.

A model that has just run Python answers in Python's words. Nothing is evaluated: names are replaced by signs.
"""

import re

from ..wrapping import closing
from .structure import split

_MODULE = re.compile(r"(?<![\w\\.])(?:math|cmath|np|numpy|sympy|sp|fractions|decimal)\.(?=[a-zA-Z])")
_NATURAL = re.compile(r"(?<![\w\\.])(?:math|cmath|np|numpy|sympy|sp)\.log\s*\((?=[^,()]*\))")
_CALL = re.compile(r"(?<![\w\\])([A-Za-z]\w*)\s*\(")
_COMPLEX = re.compile(r"(\d\.?)j(?!\w)")
_LETTER = re.compile(r"[^\W\d_]")
_QUOTED = re.compile(r"^(['\"])(.*)\1$")

_ONE: dict[str, str] = {
    **dict.fromkeys(("abs", "Abs", "fabs"), r"\lvert {0}\rvert "),
    **dict.fromkeys(("Fraction", "Rational", "Integer", "Decimal", "Float", "float", "S"), "({0})"),
    **dict.fromkeys(("ceil", "ceiling"), r"\lceil {0}\rceil "),
    **{"factorial": "({0})!", "floor": r"\lfloor {0}\rfloor ", "cbrt": r"\sqrt[3]{{{0}}}"},
    **{"log2": r"\log_{{2}}({0})", "log10": r"\log_{{10}}({0})", "det": r"\det({0})"},
    **{name: rf"\{name}({{0}})" for name in ("sinh", "cosh", "tanh")},
    **{"a" + name: rf"\arc{name}({{0}})" for name in ("sin", "cos", "tan")},
}
_TWO: dict[str, str] = {
    **dict.fromkeys(("Fraction", "Rational"), r"\frac{{{0}}}{{{1}}}"),
    **dict.fromkeys(("comb", "binomial"), r"\binom{{{0}}}{{{1}}}"),
    **{"complex": "({0}+({1})i)", "pow": "({0})^{{{1}}}", "log": r"\log_{{{1}}}({0})", "root": r"\sqrt[{1}]{{{0}}}"},
}
_MANY = {"max": r"\max", "min": r"\min", "Max": r"\max", "Min": r"\min", "gcd": r"\gcd", "lcm": r"\lcm"}


def without_calls(text: str) -> str:
    r"""Returns a text with a program's calls as LaTeX; an unknown name stays.

    >>> [without_calls(text) for text in ("Fraction(1, 2)", "2*abs(x)", "factorial(n + 1)", "math.sqrt(2)", "2+3j", "f(x)")]
    ['\\frac{1}{2}', '2*\\lvert x\\rvert ', '(n + 1)!', 'sqrt(2)', '2+3i', 'f(x)']
    """
    if "j" in text and set(_LETTER.findall(text)) == {"j"}:  # with other letters it is a variable, or a vector
        text = _COMPLEX.sub(r"\1i", text)
    if "(" in text or "." in text:
        return _replaced(_MODULE.sub("", _NATURAL.sub(r"\\ln(", text)))
    return text


def _replaced(text: str) -> str:
    pieces, at = [], 0
    while found := _CALL.search(text, at):
        opening = found.end() - 1
        end = closing(text, opening)
        written = _written(found[1], text[opening + 1 : end]) if end > 0 else None
        pieces.append(text[at : found.start()] + written if written is not None else text[at : found.end()])
        at = end + 1 if written is not None else found.end()
    return "".join(pieces) + text[at:]


def _written(name: str, inside: str) -> str | None:
    """Returns a call as LaTeX, or None if no such name with this many arguments is known."""
    if not (name in _ONE or name in _TWO or name in _MANY):
        return None
    arguments = [_replaced(_QUOTED.sub(r"\2", argument)) for argument in split(inside)]
    if name in _MANY and len(arguments) > 1:
        return f"{_MANY[name]}({', '.join(arguments)})"
    form = {1: _ONE, 2: _TWO}.get(len(arguments), {}).get(name)
    return None if form is None else form.format(*arguments)
