"""Families about integers: big ones, powers, sums, digits, counting, primes."""

from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations
from math import comb, gcd, isqrt, lcm

import numpy as np

from .families import SMALL, Core, Family, Number, accept, between, size

Generator = np.random.Generator


def digit_sum(value: int) -> int:
    """Returns the sum of the decimal digits."""
    return sum(map(int, str(value)))


def is_prime(n: int) -> bool:
    """Says whether an integer below 3.3e24 is prime: the Miller-Rabin test with the bases that suffice in that range."""
    if n < 2 or any(n % p == 0 for p in (2, 3, 5, 7, 11, 13)):
        return n in (2, 3, 5, 7, 11, 13)
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41):
        power = pow(base, odd, n)
        if power not in (0, 1, n - 1) and all((power := power * power % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True


def big_integers(rng: Generator, difficulty: int) -> Core:
    """Powers, products and factorials with more digits than fit in a machine word."""
    if difficulty == 1:
        n, k = between(rng, 12, 99), between(rng, 12, 99)
        phrase = f"the sum of the decimal digits of {n} to the power {k}"
        code = f"n, k = {n}, {k}; x = sum(int(d) for d in str(n ** k))"
        return Core(phrase, code, digit_sum(n**k), {"n": n, "k": k})
    if difficulty <= 3:
        a, b, c = (size(rng, 6 * difficulty) for _ in range(3))
        return Core(f"{a} times {b} plus {c}", f"x = {a} * {b} + {c}", a * b + c, {"a": a, "b": b, "c": c})
    if difficulty == 4:
        n, k = between(rng, 200, 900), between(rng, 1000, 9999)
        value = 1
        for i in range(2, n + 1):
            value *= i
        phrase = f"the sum of the decimal digits of {k} times the factorial of {n}"
        code = f"import math\nx = sum(int(d) for d in str({k} * math.factorial({n})))"
        return Core(phrase, code, digit_sum(k * value), {"k": k, "n": n})
    a, b = between(rng, 12, 99), between(rng, 1000, 2000)
    phrase = f"the integer that is formed by the first 12 decimal digits of {a} to the power {b}"
    power = a**b
    digits = len(str(power))
    return Core(phrase, f"x = int(str({a} ** {b})[:12])", power // 10 ** (digits - 12), {"a": a, "b": b})


def modular_powers(rng: Generator, difficulty: int) -> Core:
    """Remainders of powers, multiplicative orders, towers."""

    def draw() -> Core | None:
        if difficulty <= 2:
            n, k, m = (between(rng, 10, 10 ** (3 * difficulty) - 1) for _ in range(3))
            phrase = f"the remainder when {n} to the power {k} is divided by {m}"
            code = f"n, k, m = {n}, {k}, {m}; x = pow(n, k, m)"
            core = Core(phrase, code, pow(n, k, m), {"n": n, "k": k, "m": m})
            return core if core.value in SMALL or (difficulty == 2 and pow(n, k, m) > 9) else None
        if difficulty == 3:
            a, b, k, m = (size(rng, 8) for _ in range(4))
            phrase = f"the remainder when {a} to the power {k} plus {b} to the power {k} is divided by {m}"
            value = (pow(a, k, m) + pow(b, k, m)) % m
            code = f"k, m = {k}, {m}\nx = (pow({a}, k, m) + pow({b}, k, m)) % m"
            return Core(phrase, code, value, {"a": a, "b": b, "k": k, "m": m}) if value > 9 else None
        if difficulty == 4:
            a, m = between(rng, 2, 999), between(rng, 1_000, 20_000)
            if gcd(a, m) > 1 or (order := _order(a, m)) < 10:
                return None
            phrase = f"the smallest positive integer k for which {a} to the power k leaves the remainder 1 when divided by {m}"
            code = f"a, m = {a}, {m}\nx = next(k for k in range(1, m) if pow(a, k, m) == 1)"
            return Core(phrase, code, order, {"a": a, "m": m})
        a, b, c, m = between(rng, 2, 999), between(rng, 2, 99), between(rng, 10, 99), size(rng, 12)
        phrase = f"the remainder when {a} to the power ({b} to the power {c}) is divided by {m}"
        value = a % m
        for _ in range(c):  # a^(b^c) = (…(a^b)^b…)^b
            value = pow(value, b, m)
        code = f"x = pow({a}, {b} ** {c}, {m})"
        return Core(phrase, code, value, {"a": a, "b": b, "c": c, "m": m}) if value > 9 else None

    return accept(draw)


def _order(a: int, m: int) -> int:
    power, k = a % m, 1
    while power != 1:
        power, k = power * a % m, k + 1
    return k


def range_sums(rng: Generator, difficulty: int) -> Core:
    """Sums over ranges with conditions."""
    if difficulty == 1:
        n, a, b = between(rng, 300, 999), between(rng, 10, 40), between(rng, 10, 40)
        phrase = f"the number of integers from 1 to {n} that are divisible by {a} or by {b}"
        code = f"n, a, b = {n}, {a}, {b}; x = sum(1 for i in range(1, n + 1) if i % a == 0 or i % b == 0)"
        value = n // a + n // b - n // lcm(a, b)
        return Core(phrase, code, value, {"n": n, "a": a, "b": b})
    if difficulty <= 3:
        n, a, b = between(rng, 1_000, 20_000), between(rng, 3, 60), between(rng, 2, 20)
        power, word = (2, "squares") if difficulty == 2 else (3, "cubes")
        phrase = f"the sum of the {word} of the integers from 1 to {n} that are divisible by {a} but not by {a * b}"
        code = f"x = sum(i ** {power} for i in range(1, {n + 1}) if i % {a} == 0 and i % {a * b} != 0)"
        value = a**power * _power_sum(n // a, power) - (a * b) ** power * _power_sum(n // (a * b), power)
        return Core(phrase, code, value, {"n": n, "a": a, "b": b})
    n = size(rng, 6 if difficulty == 4 else 9)
    phrase = f"the sum of the integer parts of {n} / i over all integers i from 1 to {n}"
    code = f"import math\nn = {n}\nr = math.isqrt(n)\nx = 2 * sum(n // i for i in range(1, r + 1)) - r * r"
    value, i = 0, 1
    while i <= n:  # in blocks of equal quotients
        last = n // (n // i)
        value, i = value + (n // i) * (last - i + 1), last + 1
    return Core(phrase, code, value, {"n": n})


def _power_sum(n: int, power: int) -> int:
    """Returns 1 + 2^power + … + n^power for power 2 or 3, by the closed formula."""
    return n * (n + 1) * (2 * n + 1) // 6 if power == 2 else (n * (n + 1) // 2) ** 2


def digit_problems(rng: Generator, difficulty: int) -> Core:
    """Integers with a property of their digits."""

    def draw() -> Core | None:
        if difficulty == 1:
            n, k = between(rng, 300, 999), between(rng, 10, 18)
            phrase = f"the number of integers from 1 to {n} that have the digit sum {k}"
            code = f"n, k = {n}, {k}; x = sum(1 for i in range(1, n + 1) if sum(int(d) for d in str(i)) == k)"
            value = _with_digit_sum(n, k)
            return Core(phrase, code, value, {"n": n, "k": k}) if value in SMALL else None
        if difficulty <= 3:
            a, b = between(rng, 1_000, 30_000), between(rng, 40_000, 99_999)
            if difficulty == 2:
                phrase = f"the sum of the integers from {a} to {b} that read the same backwards"
                code = f"x = sum(i for i in range({a}, {b + 1}) if str(i) == str(i)[::-1])"
                value = sum(p for p in _palindromes(5) if a <= p <= b)
            else:
                phrase = f"the sum of the integers from {a} to {b} whose digits strictly increase from left to right"
                code = f"x = sum(i for i in range({a}, {b + 1}) if list(str(i)) == sorted(set(str(i))))"
                value = sum(i for i in _increasing(5) if a <= i <= b)
            return Core(phrase, code, value, {"a": a, "b": b}) if value > 9 else None
        n, k = size(rng, 10 if difficulty == 4 else 16), between(rng, 20, 60 if difficulty == 4 else 100)
        phrase = f"the number of integers from 1 to {n} that have the digit sum {k}"
        code = (
            "from functools import cache\n"
            f"digits = [int(d) for d in str({n})]\n"
            "@cache\n"
            "def count(at, left, below):\n"
            "    if at == len(digits):\n"
            "        return int(left == 0)\n"
            "    most = 9 if below else digits[at]\n"
            "    return sum(count(at + 1, left - d, below or d < most) for d in range(min(most, left) + 1))\n"
            f"x = count(0, {k}, False)"
        )
        value = _with_digit_sum(n, k)
        return Core(phrase, code, value, {"n": n, "k": k}) if value > 9 else None

    return accept(draw)


def _with_digit_sum(n: int, k: int) -> int:
    """Counts the integers from 1 to n with digit sum k > 0: by their first digit that is below that of n."""
    found, text = 0, str(n)
    for at, digit in enumerate(map(int, text)):
        free, before = len(text) - at - 1, sum(map(int, text[:at]))
        found += sum(_compositions(k - before - smaller, free) for smaller in range(digit))
    return found + (digit_sum(n) == k)


def _compositions(total: int, places: int) -> int:
    """Counts the ways to write a total as this many digits from 0 to 9: inclusion and exclusion."""
    if total < 0 or places == 0:
        return int(total == 0)
    tens = range(total // 10 + 1)
    return sum((-1) ** j * comb(places, j) * comb(total - 10 * j + places - 1, places - 1) for j in tens)


@lru_cache(maxsize=1)
def _palindromes(digits: int) -> list[int]:
    halves = [str(half) for half in range(1, 10 ** ((digits + 1) // 2))]
    return [int(half + half[::-1]) for half in halves] + [int(half + half[-2::-1]) for half in halves if len(half) > 1]


@lru_cache(maxsize=1)
def _increasing(digits: int) -> list[int]:
    return [int("".join(chosen)) for count in range(1, digits + 1) for chosen in combinations("123456789", count)]


def counting(rng: Generator, difficulty: int) -> Core:
    """Pairs, lattice paths, coins, points with integer coordinates."""

    def draw() -> Core | None:
        if difficulty == 1:
            n, k = between(rng, 30, 99), between(rng, 10, 40)
            phrase = f"the number of pairs of different integers from 1 to {n} that have a sum divisible by {k}"
            code = f"n, k = {n}, {k}; x = sum(1 for i in range(1, n + 1) for j in range(1, i) if (i + j) % k == 0)"
            return Core(phrase, code, _pairs(n, k), {"n": n, "k": k}) if _pairs(n, k) in SMALL else None
        if difficulty == 2:
            a, b = between(rng, 8, 30), between(rng, 8, 30)
            c, d = between(rng, 1, a - 1), between(rng, 1, b - 1)
            way = f"from (0, 0) to ({a}, {b}) in steps of (1, 0) or (0, 1)"
            phrase = f"the number of paths {way} that do not touch the point ({c}, {d})"
            code = f"from math import comb\nx = comb({a + b}, {a}) - comb({c + d}, {c}) * comb({a + b - c - d}, {a - c})"
            return Core(phrase, code, _paths(a, b, {(c, d)}), {"a": a, "b": b, "c": c, "d": d})
        if difficulty == 3:
            coins = tuple(sorted({between(rng, 2, 40) for _ in range(4)}))
            n = between(rng, 300, 999)
            ways = _payments(n, coins)
            phrase = f"the number of ways to pay {n} with coins of the values {_listed(coins)}, with as many of each as needed"
            code = (
                f"ways = [1] + [0] * {n}\nfor coin in {list(coins)}:\n"
                f"    for amount in range(coin, {n + 1}):\n        ways[amount] += ways[amount - coin]\nx = ways[{n}]"
            )
            return Core(phrase, code, ways, {"n": n, "coins": coins}) if ways > 9 else None
        if difficulty == 4:
            r = between(rng, 1_000, 40_000)
            phrase = f"the number of points (a, b, c) with integer coordinates whose a * a + b * b + c * c is at most {r}"
            code = (
                f"import math\nr = {r}\nn = math.isqrt(r)\n"
                "disc = [(a, b) for a in range(-n, n + 1) for b in range(-n, n + 1) if a * a + b * b <= r]\n"
                "x = sum(2 * math.isqrt(r - a * a - b * b) + 1 for a, b in disc)"
            )
            return Core(phrase, code, _ball(r), {"r": r})
        a, b = between(rng, 14, 22), between(rng, 14, 22)
        blocked = {(between(rng, 1, a - 1), between(rng, 1, b - 1)) for _ in range(12)}
        shown = sorted(blocked)
        paths = _paths(a, b, blocked)
        phrase = (
            f"the number of paths from (0, 0) to ({a}, {b}) in steps of (1, 0) or (0, 1) "
            f"that touch none of the points {_listed(shown)}"
        )
        code = (
            f"from functools import cache\nblocked = {set(shown)}\n@cache\ndef paths(a, b):\n"
            "    if min(a, b) < 0 or (a, b) in blocked:\n        return 0\n"
            f"    return 1 if a == b == 0 else paths(a - 1, b) + paths(a, b - 1)\nx = paths({a}, {b})"
        )
        numbers: dict[str, Number] = {"a": a, "b": b, "blocked": tuple(c for point in shown for c in point)}
        return Core(phrase, code, paths, numbers) if paths > 9 else None

    return accept(draw)


def _listed(items: object) -> str:
    return str(list(items))[1:-1]  # type: ignore[call-overload]


def _pairs(n: int, k: int) -> int:
    """Counts pairs of different integers from 1 to n whose sum is divisible by k: by their remainders."""
    classes = [n // k + (1 <= r <= n % k) for r in range(k)]
    same = sum(classes[r] * (classes[r] - 1) // 2 for r in range(k) if 2 * r % k == 0)
    return same + sum(classes[r] * classes[k - r] for r in range(1, (k + 1) // 2))


def _paths(a: int, b: int, blocked: set[tuple[int, int]]) -> int:
    """Counts lattice paths, row by row."""
    row = [0] * (b + 1)
    row[0] = 1
    for i in range(a + 1):
        for j in range(b + 1):
            row[j] = 0 if (i, j) in blocked else row[j] + (row[j - 1] if j else 0)
    return row[b]


def _payments(n: int, coins: tuple[int, ...]) -> int:
    """Counts the ways to pay n: by how often the last coin is used."""
    if len(coins) == 1:
        return int(n % coins[0] == 0)
    if len(coins) == 2:
        return sum(1 for left in range(n, -1, -coins[1]) if left % coins[0] == 0)
    return sum(_payments(left, coins[:-1]) for left in range(n, -1, -coins[-1]))


def _ball(r: int) -> int:
    """Counts the integer points within a ball of squared radius r, plane by plane and line by line."""
    total = 0
    for a in range(isqrt(r) + 1):
        disc = sum((1 if b == 0 else 2) * (2 * isqrt(r - a * a - b * b) + 1) for b in range(isqrt(r - a * a) + 1))
        total += disc if a == 0 else 2 * disc
    return total


def primes(rng: Generator, difficulty: int) -> Core:
    """Primes in an interval, divisors, totients, factors."""

    def draw() -> Core | None:
        if difficulty == 1:
            a, b = between(rng, 10, 499), between(rng, 500, 999)
            phrase = f"the number of primes between {a} and {b}"
            code = f"a, b = {a}, {b}; x = sum(1 for i in range(a, b + 1) if all(i % j for j in range(2, i)))"
            value = sum(a <= p <= b for p in _small_primes())
            fair = value in SMALL and not is_prime(a) and not is_prime(b)  # "between" must not be ambiguous
            return Core(phrase, code, value, {"a": a, "b": b}) if fair else None
        if difficulty <= 3:
            a, b = between(rng, 100, 900) * 10, between(rng, 1_000, 1_000 * 4 ** (difficulty - 2)) * 10
            phrase = f"the sum of the primes between {a} and {b}"
            code = f"import sympy\nx = int(sum(sympy.primerange({a}, {b})))"
            value = sum(p for p in _small_primes() if a <= p <= b)
            return Core(phrase, code, value, {"a": a, "b": b}) if value > 9 else None
        low, high = (10**5, 10**6) if difficulty == 4 else (10**8, 10**9)
        factors = sorted({_prime(rng, 2, 30), _prime(rng, 100, 1_000), _prime(rng, low, high)})
        if len(factors) < 3:
            return None
        p, q, r = factors
        n = p * q * r
        if difficulty == 4:
            phrase = f"the number of integers from 1 to {n} that have no common divisor with {n} other than 1"
            return Core(phrase, f"import sympy\nx = int(sympy.totient({n}))", (p - 1) * (q - 1) * (r - 1), {"n": n})
        phrase = f"the sum of all positive divisors of {n}"
        return Core(phrase, f"import sympy\nx = int(sympy.divisor_sigma({n}))", (p + 1) * (q + 1) * (r + 1), {"n": n})

    return accept(draw)


@lru_cache(maxsize=1)
def _small_primes() -> tuple[int, ...]:
    """Returns the primes below 50,000, by sieving."""
    prime = [False, False] + [True] * 49_998
    for p in range(2, isqrt(len(prime)) + 1):
        if prime[p]:
            prime[p * p :: p] = [False] * len(range(p * p, len(prime), p))
    return tuple(n for n, yes in enumerate(prime) if yes)


def _prime(rng: Generator, low: int, high: int) -> int:
    """Returns the first prime at or above a random integer."""
    n = between(rng, low, high)
    while not is_prime(n):
        n += 1
    return n


FAMILIES: Mapping[str, Family] = {
    "big_integers": big_integers,
    "modular_powers": modular_powers,
    "range_sums": range_sums,
    "digit_problems": digit_problems,
    "counting": counting,
    "primes": primes,
}
