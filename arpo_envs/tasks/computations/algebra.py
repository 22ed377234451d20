"""Families about equations, matrices, sequences and polynomials; the hard ones have fractions as answers."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from .families import SMALL, Core, Family, Number, Step, accept, between, size

Generator = np.random.Generator
Rows = Sequence[Sequence[int]]
_SQUARING = "while k:\n    if k % 2:\n        result = product(result, base)\n    base, k = product(base, base), k // 2\n"
"""Code for a power by repeated squaring, once `product`, `base`, `k` and `result` are bound."""


def _scaled_fraction(rng: Generator, value: Fraction) -> Step:
    """Draws the step that ends a question whose x is a fraction."""
    factor = Fraction(between(rng, 2, 30), between(rng, 31, 99))
    phrase = f"x times {factor}, as a fraction in lowest terms"
    return Step(phrase, f"x * {factor!r}", value * factor, {"factor": factor})


def _flat(rows: Rows) -> tuple[int, ...]:
    return tuple(entry for row in rows for entry in row)


def _entries(rng: Generator, count: int, low: int, high: int) -> list[list[int]]:
    return [[between(rng, low, high) for _ in range(count)] for _ in range(count)]


def determinant(rows: Rows) -> int:
    """Returns the determinant, by expansion along the first row."""
    if len(rows) == 1:
        return rows[0][0]
    minors = ([row[:j] + row[j + 1 :] for row in map(list, rows[1:])] for j in range(len(rows)))
    return sum((-1) ** j * rows[0][j] * determinant(minor) for j, minor in enumerate(minors) if rows[0][j])


def _replaced(rows: Rows, column: int, values: Sequence[int]) -> list[list[int]]:
    return [[values[i] if j == column else entry for j, entry in enumerate(row)] for i, row in enumerate(rows)]


def _equation(row: Sequence[int], names: str, right: int) -> str:
    """Writes a linear equation as people do: "2u - v = 7"."""
    left = ""
    for factor, name in zip(row, names, strict=True):
        if factor:
            sign = "-" if factor < 0 else "+"
            left += (f" {sign} " if left else sign.strip("+")) + f"{'' if abs(factor) == 1 else abs(factor)}{name}"
    return f"{left} = {right}"


def linear_systems(rng: Generator, difficulty: int) -> Core:
    """Systems of linear equations with exact solutions."""

    def draw() -> Core | None:
        if difficulty == 1:
            u, v, a, b = between(rng, 10, 40), between(rng, 2, 40), between(rng, 10, 30), between(rng, 31, 60)
            s, t = u + v, a * u + b * v
            phrase = f"the number u for which u + v = {s} and {a} u + {b} v = {t}"
            code = f"s, a, b, t = {s}, {a}, {b}, {t}; x = (b * s - t) // (b - a)"
            return Core(phrase, code, u, {"s": s, "a": a, "b": b, "t": t}) if t in SMALL else None
        count = {2: 2, 3: 3, 4: 3, 5: 4}[difficulty]
        names = "uvwz"[:count]
        rows = _entries(rng, count, -9, 9)
        divisor = determinant(rows)
        if divisor == 0 or not all(any(row) for row in rows):
            return None
        if difficulty <= 3:
            solution = [between(rng, -40, 40) for _ in names]
            right = [sum(a * b for a, b in zip(row, solution, strict=True)) for row in rows]
            value = Fraction(sum(one * one for one in solution))
            wanted, code = "the sum of the squares of the unknowns", "int(sum(one * one for one in solution))"
        else:
            right = [between(rng, -30, 30) for _ in names]
            value = sum((Fraction(determinant(_replaced(rows, j, right)), divisor) for j in range(count)), Fraction(0))
            wanted, code = "the sum of the unknowns", "Fraction(str(sum(solution)))"
        system = "; ".join(_equation(row, names, constant) for row, constant in zip(rows, right, strict=True))
        cell = (
            f"from fractions import Fraction\nimport sympy\nsystem = sympy.Matrix({rows})\n"
            f"solution = list(system.LUsolve(sympy.Matrix({right})))\nx = {code}"
        )
        numbers: dict[str, Number] = {"rows": _flat(rows), "right": tuple(right)}
        phrase = f"{wanted} of the system {system}"
        if difficulty <= 3:
            return Core(phrase, cell, int(value), numbers) if value > 9 else None
        return Core(phrase, cell, value, numbers, _scaled_fraction(rng, value)) if value.denominator > 9 else None

    return accept(draw)


def matrices(rng: Generator, difficulty: int) -> Core:
    """Determinants, powers, inverses."""

    def draw() -> Core | None:
        if difficulty == 1:
            a, b, c, d = (between(rng, 10, 60) for _ in range(4))
            phrase = f"the determinant of the matrix with the rows {a}, {b} and {c}, {d}"
            code = f"a, b, c, d = {a}, {b}, {c}, {d}; x = a * d - b * c"
            return Core(phrase, code, a * d - b * c, {"rows": (a, b, c, d)}) if a * d - b * c in SMALL else None
        if difficulty == 3:
            rows = _entries(rng, 4, -9, 9)
            value = determinant(rows)
            phrase = f"the absolute value of the determinant of the matrix {rows}"
            code = f"import sympy\nx = int(abs(sympy.Matrix({rows}).det()))"
            return Core(phrase, code, abs(value), {"rows": _flat(rows)}) if abs(value) > 9 else None
        if difficulty <= 4:
            count = 2 if difficulty == 2 else 3
            rows, k = _entries(rng, count, 1, 9), between(rng, 6, 14) if difficulty == 2 else size(rng, 9)
            m = 0 if difficulty == 2 else between(rng, 10**6, 10**7)
            power = _power(rows, k, m)
            value = sum(power[i][i] for i in range(count))
            value = value % m if m else value
            phrase = f"the trace of the power {k} of the matrix {rows}"
            phrase = f"the remainder when {phrase} is divided by {m}" if m else phrase
            reduce = f" % {m}" if m else ""
            code = (
                "def product(a, b):\n    columns = list(zip(*b))\n"
                f"    return [[sum(p * q for p, q in zip(row, column)){reduce} for column in columns] for row in a]\n"
                f"base, k, result = {rows}, {k}, [[int(i == j) for j in range({count})] for i in range({count})]\n"
                f"{_SQUARING}x = sum(result[i][i] for i in range({count})){reduce}"
            )
            numbers: dict[str, Number] = {"rows": _flat(rows), "k": k}
            return Core(phrase, code, value, numbers | ({"m": m} if m else {})) if value > 9 else None
        rows = _entries(rng, 4, -9, 9)
        divisor = determinant(rows)
        if divisor == 0:
            return None
        units = [[int(i == j) for i in range(4)] for j in range(4)]
        fraction = sum(
            (Fraction(determinant(_replaced(rows, j, unit)), divisor) for unit in units for j in range(4)), Fraction(0)
        )
        phrase = f"the sum of all entries of the inverse of the matrix {rows}"
        code = f"from fractions import Fraction\nimport sympy\nx = Fraction(str(sum(sympy.Matrix({rows}).inv())))"
        fair = fraction.denominator > 9
        return Core(phrase, code, fraction, {"rows": _flat(rows)}, _scaled_fraction(rng, fraction)) if fair else None

    return accept(draw)


def _power(rows: Rows, k: int, m: int) -> list[list[int]]:
    """Returns the power of a matrix, modulo m unless that is 0, bit by bit from the highest."""
    count = range(len(rows))

    def product(one: Rows, other: Rows) -> list[list[int]]:
        entries = [[sum(one[i][s] * other[s][j] for s in count) for j in count] for i in count]
        return [[entry % m for entry in row] for row in entries] if m else entries

    result = [list(row) for row in rows]
    for bit in f"{k:b}"[1:]:
        result = product(result, result)
        result = product(result, rows) if bit == "1" else result
    return result


def recurrences(rng: Generator, difficulty: int) -> Core:
    """Sequences in which a term follows from earlier ones."""

    def draw() -> Core | None:
        if difficulty == 1:
            a, b, c = (between(rng, 10, 99) for _ in range(3))
            m, k = between(rng, 100, 999), between(rng, 10, 60)
            u = a
            for _ in range(k):
                u = (b * u + c) % m
            phrase = (
                f"term number {k} of the sequence that begins with term number 0, which is {a}, and in which every next term "
                f"is the remainder when {b} times the last one plus {c} is divided by {m}"
            )
            code = f"k, a, b, c, m = {k}, {a}, {b}, {c}, {m}; u = [a := (b * a + c) % m for i in range(k)]; x = u[-1]"
            return Core(phrase, code, u, {"k": k, "a": a, "b": b, "c": c, "m": m}) if u in SMALL else None
        if difficulty == 4:
            a, c, m = between(rng, 2, 999), between(rng, 1, 999), between(rng, 10_000, 99_999)
            length = _cycle(a, c, m)
            phrase = (
                f"the length of the cycle that the sequence finally repeats which begins with {a} and in which every next term "
                f"is the remainder when the square of the last one plus {c} is divided by {m}"
            )
            code = (
                f"u, seen = {a}, {{}}\nwhile u not in seen:\n    seen[u] = len(seen)\n    u = (u * u + {c}) % {m}\n"
                "x = len(seen) - seen[u]"
            )
            return Core(phrase, code, length, {"a": a, "c": c, "m": m}) if length > 9 else None
        p, q, a, b = (between(rng, 2, 9) for _ in range(4))
        if difficulty <= 3:
            k, m = between(rng, 15, 40) * (difficulty - 1) ** 4, 0 if difficulty == 2 else between(rng, 10**5, 10**6)
        else:
            k, m = size(rng, 15), size(rng, 9)
        power = _power([[p, q], [1, 0]], k - 1, m)
        value = power[0][0] * b + power[0][1] * a
        value = value % m if m else value
        term = f"term number {k} of the sequence u(0) = {a}, u(1) = {b}, u(i) = {p} u(i - 1) + {q} u(i - 2)"
        phrase = f"the remainder when {term}, is divided by {m}" if m else term
        if difficulty <= 3:
            reduce = f" % {m}" if m else ""
            code = f"a, b = {a}, {b}\nfor i in range({k}):\n    a, b = b, ({p} * b + {q} * a){reduce}\nx = a{reduce}"
        else:
            code = (
                "def product(s, t):\n    pairs = [(i, j) for i in range(2) for j in range(2)]\n"
                f"    return [(s[2 * i] * t[j] + s[2 * i + 1] * t[2 + j]) % {m} for i, j in pairs]\n"
                f"base, k, result = [{p}, {q}, 1, 0], {k - 1}, [1, 0, 0, 1]\n{_SQUARING}"
                f"x = (result[0] * {b} + result[1] * {a}) % {m}"
            )
        numbers = {"k": k, "a": a, "b": b, "p": p, "q": q} | ({"m": m} if m else {})
        return Core(phrase, code, value, numbers) if value > 9 else None

    return accept(draw)


def _cycle(a: int, c: int, m: int) -> int:
    """Returns the length of the cycle of u -> u * u + c modulo m, with two runners (Brent)."""
    slow, fast, power, length = a, (a * a + c) % m, 1, 1
    while slow != fast:
        if power == length:
            slow, power, length = fast, 2 * power, 0
        fast, length = (fast * fast + c) % m, length + 1
    return length


def polynomials(rng: Generator, difficulty: int) -> Core:
    """Values, roots and symmetric functions of polynomials."""

    def draw() -> Core | None:
        if difficulty == 1:
            a, b, t, m = between(rng, 10, 99), between(rng, 10, 99), between(rng, 10, 99), between(rng, 100, 999)
            value = (t * t + a * t + b) % m
            phrase = f"the remainder when t squared plus {a} t plus {b} for t = {t} is divided by {m}"
            code = f"a, b, t, m = {a}, {b}, {t}, {m}; x = (t * t + a * t + b) % m"
            return Core(phrase, code, value, {"a": a, "b": b, "t": t, "m": m}) if value in SMALL else None
        if difficulty == 2:
            factors = [between(rng, 1, 30) for _ in range(6)]
            t = between(rng, 12, 99)
            value = sum(factor * t ** (5 - i) for i, factor in enumerate(factors))
            phrase = f"the value of {_polynomial(factors)} for t = {t}"
            code = f"x = sum(c * {t} ** i for i, c in enumerate({factors[::-1]}))"
            return Core(phrase, code, value, {"factors": tuple(factors), "t": t})
        if difficulty == 3:
            roots = [between(rng, -30, 30) for _ in range(4)]
            factors = [1]
            for root in roots:
                factors = [a - root * b for a, b in zip([*factors, 0], [0, *factors], strict=True)]
            value = sum(root * root for root in roots)
            phrase = f"the sum of the squares of the roots, counted with multiplicity, of {_polynomial(factors)}"
            code = (
                f"import sympy\nfound = sympy.roots(sympy.Poly({factors}, sympy.symbols('t')))\n"
                "x = int(sum(n * r ** 2 for r, n in found.items()))"
            )
            return Core(phrase, code, value, {"factors": tuple(factors)}) if value > 9 and all(factors[1:]) else None
        if difficulty == 4:
            p = between(rng, 500, 5_000)
            factors = [1, *(between(rng, 1, 99) for _ in range(3))]
            a, b, c = factors[1:]
            found = [t for t in range(p) if (((t + a) * t + b) * t + c) % p == 0]
            phrase = f"the sum of all integers t from 0 to {p - 1} for which {_polynomial(factors)} is divisible by {p}"
            code = f"x = sum(t for t in range({p}) if (t ** 3 + {a} * t ** 2 + {b} * t + {c}) % {p} == 0)"
            return Core(phrase, code, sum(found), {"factors": tuple(factors), "p": p}) if sum(found) > 9 else None
        factors, point = [between(rng, -30, 30) for _ in range(5)], Fraction(between(rng, 2, 30), between(rng, 11, 40))
        if not all(factors) or point.denominator < 3:
            return None
        exact = Fraction(0)
        for factor in factors:
            exact = exact * point + factor
        phrase = f"the value of {_polynomial(factors)} for t = {point}"
        code = (
            f"from fractions import Fraction\nt = Fraction({point.numerator}, {point.denominator})\n"
            f"x = sum(c * t ** i for i, c in enumerate({factors[::-1]}))"
        )
        return Core(phrase, code, exact, {"factors": tuple(factors), "t": point}, _scaled_fraction(rng, exact))

    return accept(draw)


def _polynomial(factors: Sequence[int]) -> str:
    """Writes a polynomial in t, the highest power first.

    >>> _polynomial([1, -3, 0, 2])
    't^3 - 3 t^2 + 2'
    """
    text, degree = "", len(factors) - 1
    for power, factor in zip(range(degree, -1, -1), factors, strict=True):
        if factor:
            sign = "-" if factor < 0 else "+"
            number = "" if abs(factor) == 1 and power else f"{abs(factor)}"
            name = "" if power == 0 else "t" if power == 1 else f"t^{power}"
            text += (f" {sign} " if text else sign.strip("+")) + " ".join(part for part in (number, name) if part)
    return text


FAMILIES: Mapping[str, Family] = {
    "linear_systems": linear_systems,
    "matrices": matrices,
    "recurrences": recurrences,
    "polynomials": polynomials,
}
