"""Families about the calendar, about strings, and about given data: tables, queues, simulations."""

from collections.abc import Mapping
from datetime import date, timedelta
from itertools import pairwise

import numpy as np

from .families import SMALL, Core, Family, Number, Step, accept, between

Generator = np.random.Generator
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def calendar(rng: Generator, difficulty: int) -> Core:
    """Dates of the Gregorian calendar."""

    def draw() -> Core | None:
        if difficulty == 1:
            n, k = between(rng, 10, 999), between(rng, 10, 99)
            month_day = _day_of_month(7 * n + k)
            phrase = f"the day of the month {n} weeks and {k} days after 1 January 2000"
            moved = "(date(2000, 1, 1) + timedelta(weeks=n, days=k)).day"
            code = f"from datetime import date, timedelta; n, k = {n}, {k}; x = {moved}"
            return Core(phrase, code, month_day, {"n": n, "k": k}) if month_day in SMALL else None
        if difficulty == 3:
            a = between(rng, 1600, 1900)
            b = a + between(rng, 20, 300)
            value = sum(_weekday(year, month, 13) == 5 for year in range(a, b + 1) for month in range(1, 13))
            phrase = f"the number of months from January {a} to December {b} whose 13th day is a Friday"
            code = (
                "from datetime import date\n"
                f"x = sum(date(y, m, 13).weekday() == 4 for y in range({a}, {b + 1}) for m in range(1, 13))"
            )
            return Core(phrase, code, value, {"a": a, "b": b}) if value > 9 else None
        start = date(between(rng, 1700, 2000), between(rng, 1, 12), between(rng, 1, 28))
        end = start + timedelta(days=between(rng, 400, 60_000))
        dates: dict[str, Number] = {"start": start.isoformat(), "end": end.isoformat()}
        if difficulty == 2:
            phrase = f"the number of days from {start} to {end}"
            code = f"from datetime import date\nx = (date.fromisoformat('{end}') - date.fromisoformat('{start}')).days"
            return Core(phrase, code, _day_number(end) - _day_number(start), dates)
        if difficulty == 4:
            phrase = f"the number of days from {start} to {end}, both included, that are not a Saturday or a Sunday"
            code = f"import numpy as np\nx = int(np.busday_count('{start}', '{end + timedelta(days=1)}'))"
            weeks, rest = divmod((end - start).days + 1, 7)
            first = _weekday(start.year, start.month, start.day)
            value = 5 * weeks + sum(1 for i in range(rest) if (first + i) % 7 not in (0, 6))
            return Core(phrase, code, value, dates)
        n, b = between(rng, 200, 2_000), between(rng, 1_000, 99_999)
        day, left = start, n
        while left:
            day += timedelta(days=1)
            left -= _weekday(day.year, day.month, day.day) not in (0, 6)
        phrase = f"the date {n} working days (Monday to Friday) after {start}, the days after it being counted"
        code = (
            "from datetime import date, timedelta\nimport numpy as np\n"
            f"x = date.fromisoformat(str(np.busday_offset('{start}', {n}, roll='preceding')))"
        )
        last = day + timedelta(days=b)
        finish = Step(f"the date {b} days after x, as YYYY-MM-DD", f"x + timedelta(days={b})", last.isoformat(), {"b": b})
        return Core(phrase, code, day.isoformat(), {"start": start.isoformat(), "n": n}, finish)

    return accept(draw)


def _day_of_month(days: int) -> int:
    """Returns the day of the month this many days after 1 January 2000, month by month."""
    year, month = 2000, 1
    while True:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        length = 29 if month == 2 and leap else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]
        if days < length:
            return days + 1
        days, month = days - length, month + 1
        if month == 13:
            year, month = year + 1, 1


def _weekday(year: int, month: int, day: int) -> int:
    """Returns the day of the week, 0 for Sunday (Sakamoto's method)."""
    year -= month < 3
    return (year + year // 4 - year // 100 + year // 400 + (0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4)[month - 1] + day) % 7


def _day_number(day: date) -> int:
    """Returns the Julian day number."""
    shift = (14 - day.month) // 12
    year, month = day.year + 4800 - shift, day.month + 12 * shift - 3
    return day.day + (153 * month + 2) // 5 + 365 * year + year // 4 - year // 100 + year // 400 - 32045


def texts(rng: Generator, difficulty: int) -> Core:
    """Letters and digits as strings."""

    def draw() -> Core | None:
        if difficulty == 1:
            a, b = between(rng, 10, 499), between(rng, 500, 999)
            phrase = f"how often the digit 7 occurs in a text of all integers from {a} to {b}"
            code = f"a, b = {a}, {b}; s = str([*range(a, b + 1)]); x = s.count('7')"
            value = _sevens(b) - _sevens(a - 1)
            return Core(phrase, code, value, {"a": a, "b": b}) if value in SMALL else None
        if difficulty == 2:
            s = _word(rng, between(rng, 25, 40), 26)
            weight = sum((i + 1) * (_LETTERS.index(letter) + 1) for i, letter in enumerate(s))
            phrase = f"the sum of position times place in the alphabet (a = 1) over all letters of '{s}', with positions from 1"
            code = f"x = sum(i * (ord(c) - 96) for i, c in enumerate('{s}', 1))"
            return Core(phrase, code, weight, {"s": s})
        if difficulty == 3:
            s = _word(rng, between(rng, 30, 40), 3)
            value = _substrings(s)
            phrase = f"the number of different substrings, the empty one not counted, of '{s}'"
            code = f"s = '{s}'\nx = len({{s[i:j] for i in range(len(s)) for j in range(i + 1, len(s) + 1)}})"
            return Core(phrase, code, value, {"s": s})
        if difficulty == 4:
            s = _word(rng, between(rng, 14, 20), 4)
            k = between(rng, 3, 6)
            value = _subsequences(s, k)
            phrase = f"the number of different subsequences of length {k} of '{s}'"
            code = f"from itertools import combinations\nx = len(set(combinations('{s}', {k})))"
            return Core(phrase, code, value, {"s": s, "k": k}) if value > 9 else None
        s, n, p = _word(rng, between(rng, 12, 18), 26), between(rng, 50, 500), between(rng, 2, 5)
        code = f"x = '{s}'\nfor i in range({n}):\n    x = x[{p}:] + ''.join(chr((ord(c) - 96) % 26 + 97) for c in x[:{p}])"
        moved = n * p  # letter i of the result was at the front once per whole turn, and once more if the last turn reached it
        turns, rest = divmod(moved, len(s))
        shifted = [_LETTERS[(_LETTERS.index(c) + turns + (i < rest)) % 26] for i, c in enumerate(s)]
        value_text = "".join(shifted[rest:] + shifted[:rest])
        phrase = (
            f"the text that '{s}' becomes when {n} times its first {p} letters are each replaced by the next letter "
            "of the alphabet (a after z) and moved, in their order, to the end"
        )
        finish = Step(
            "every second letter of x, from the first on, written backwards", "x[::2][::-1]", value_text[::2][::-1], {}
        )
        return Core(phrase, code, value_text, {"s": s, "n": n, "p": p}, finish)

    return accept(draw)


def _word(rng: Generator, length: int, letters: int) -> str:
    return "".join(_LETTERS[between(rng, 0, letters - 1)] for _ in range(length))


def _sevens(n: int) -> int:
    """Counts the sevens in all integers up to n, place by place."""
    found, place = 0, 1
    while place <= n:
        high, digit, low = n // (10 * place), n // place % 10, n % place
        found += high * place + (place if digit > 7 else low + 1 if digit == 7 else 0)
        place *= 10
    return found


def _substrings(s: str) -> int:
    """Counts distinct substrings: all, minus what neighbours in the sorted list of suffixes share."""
    suffixes = sorted(s[i:] for i in range(len(s)))
    shared = 0
    for one, other in pairwise(suffixes):
        shared += next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return len(s) * (len(s) + 1) // 2 - shared


def _subsequences(s: str, k: int) -> int:
    """Counts distinct subsequences of a given length, by their last letter."""
    ending: dict[str, list[int]] = {}
    for letter in s:
        total = [1, *(sum(counts[i] for counts in ending.values()) for i in range(1, k))]
        ending[letter] = [0, *total]
    return sum(counts[k] for counts in ending.values())


def data(rng: Generator, difficulty: int) -> Core:
    """Given lists of numbers: order, choices, queues."""

    def draw() -> Core | None:
        if difficulty == 1:
            given = tuple(between(rng, 10, 999) for _ in range(5))
            phrase = f"the median of {', '.join(map(str, given))}"
            code = f"s = {', '.join(map(str, given))}; x = sorted(s)[2]"
            median = next(n for n in given if sum(m < n for m in given) <= 2 and sum(m > n for m in given) <= 2)
            return Core(phrase, code, median, {"data": given}) if len(set(given)) == 5 else None
        if difficulty == 2:
            given = tuple(between(rng, 10, 999) for _ in range(12))
            value = sum(max(a, b) - min(a, b) for a, b in pairwise(given))
            code = f"data = {list(given)}\nx = sum(abs(a - b) for a, b in zip(data, data[1:]))"
            return Core(
                "the sum of the absolute differences of neighbours in the data",
                code,
                value,
                {"data": given},
                before=_shown(given),
            )
        if difficulty == 3:
            given = tuple(between(rng, 10, 999) for _ in range(15))
            best = [0, 0]
            for number in given:
                best = [best[1], max(best[1], best[0] + number)]
            phrase = "the largest sum of numbers of the data of which no two are neighbours"
            code = (
                f"data = {list(given)}\nfrom functools import cache\n@cache\ndef best(n):\n"
                "    return 0 if n <= 0 else max(best(n - 1), best(n - 2) + data[n - 1])\nx = best(len(data))"
            )
            return Core(phrase, code, best[1], {"data": given}, before=_shown(given))
        servers, customers = (1, 9) if difficulty == 4 else (3, 14)
        gaps = [between(rng, 1, 6) for _ in range(customers)]
        arrivals = tuple(sum(gaps[: i + 1]) for i in range(customers))
        services = tuple(between(rng, 3, 9) * servers + between(rng, 0, 3) for _ in range(customers))
        clerks = "one clerk serves" if servers == 1 else f"{servers} clerks serve"
        before = (
            f"Customers arrive after {_listed(arrivals)} minutes and need {_listed(services)} minutes of service. "
            f"{clerks.capitalize()} them in the order of arrival; the first free clerk takes the next customer. "
        )
        code = (
            f"import heapq\narrivals, services = {list(arrivals)}, {list(services)}\nfree, x = [0] * {servers}, 0\n"
            "for arrival, service in zip(arrivals, services):\n    start = max(arrival, heapq.heappop(free))\n"
            "    x += start - arrival\n    heapq.heappush(free, start + service)"
        )
        waited = _waiting(arrivals, services, servers)
        numbers: dict[str, Number] = {"arrivals": arrivals, "services": services, "servers": servers}
        return (
            Core("the total of the minutes that customers wait for a clerk", code, waited, numbers, before=before)
            if waited > 9
            else None
        )

    return accept(draw)


def _listed(items: tuple[int, ...]) -> str:
    return ", ".join(map(str, items))


def _shown(items: tuple[int, ...]) -> str:
    return f"The data are {_listed(items)}. "


def _waiting(arrivals: tuple[int, ...], services: tuple[int, ...], servers: int) -> int:
    """Simulates the queue minute by minute."""
    busy, queue = [0] * servers, list(zip(arrivals, services, strict=True))
    waiting: list[int] = []
    total = minute = 0
    while queue or waiting:
        busy = [max(0, left - 1) for left in busy] if minute else busy
        while queue and queue[0][0] == minute:
            waiting.append(queue.pop(0)[1])
        for clerk, left in enumerate(busy):
            if left == 0 and waiting:
                busy[clerk] = waiting.pop(0)
        total += len(waiting)
        minute += 1
    return total


FAMILIES: Mapping[str, Family] = {"calendar": calendar, "texts": texts, "data": data}
