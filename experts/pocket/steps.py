"""Worked steps that a tiny model can learn surely: every line needs only what stands close before it.

Columns go from the units to the left, one digit a line. All numbers are non-negative integers.
"""


def _columns(a: int, b: int) -> list[tuple[int, int]]:
    width = max(len(str(a)), len(str(b)))
    return [(int(x), int(y)) for x, y in zip(reversed(str(a).zfill(width)), reversed(str(b).zfill(width)), strict=True)]


def add(a: int, b: int) -> list[str]:
    """Column addition: `digit+digit+carry=sum`, units first."""
    lines: list[str] = []
    carry = 0
    for x, y in _columns(a, b):
        total = x + y + carry
        lines.append(f"{x}+{y}+{carry}={total}")
        carry = total // 10
    return lines


def subtract(a: int, b: int) -> list[str]:
    """Column subtraction of b <= a: `digit-digit-borrow=digit` (ten added where borrowed), then all digits."""
    lines: list[str] = []
    digits = ""
    borrow = 0
    for x, y in _columns(a, b):
        lent = 10 if x - y - borrow < 0 else 0
        digit = x + lent - y - borrow
        lines.append(f"{x + lent}-{y}-{borrow}={digit}")
        digits = f"{digit}{digits}"
        borrow = lent // 10
    return [*lines, digits]


def multiply_digit(a: int, digit: int) -> list[str]:
    """Column multiplication by one digit: `digit x digit + carry = product`, units first."""
    lines: list[str] = []
    carry = 0
    for x in reversed(str(a)):
        product = int(x) * digit + carry
        lines.append(f"{x}x{digit}+{carry}={product}")
        carry = product // 10
    return lines


def multiply(a: int, b: int) -> list[str]:
    """Multiplication by one or two digits: a partial product for each digit, then their column sum."""
    if b < 10:
        return multiply_digit(a, b)
    tens, units = divmod(b, 10)
    low, high = a * units, a * tens * 10
    return [*multiply_digit(a, units), f"{low}", *multiply_digit(a, tens), f"{high}", *add(high, low)]


def divide(a: int, digit: int) -> list[str]:
    """Long division by one digit: `part/digit=quotient rRest`, from the left, then all digits of the quotient."""
    lines: list[str] = []
    digits = ""
    rest = 0
    for x in str(a):
        part = rest * 10 + int(x)
        quotient, rest = divmod(part, digit)
        lines.append(f"{part}/{digit}={quotient} r{rest}")
        digits += str(quotient)
    return [*lines, digits]


def shift(number: str, places: int) -> list[str]:
    """Move the decimal point by so many places to the right (left when negative), one place a line."""
    lines: list[str] = []
    whole, _, fraction = number.partition(".")
    for _ in range(abs(places)):
        if places > 0:
            whole, fraction = (whole + (fraction[:1] or "0")).lstrip("0") or "0", fraction[1:]
        else:
            whole, fraction = whole[:-1] or "0", whole[-1] + fraction
        lines.append(f"{whole}.{fraction}" if fraction else whole)
    return lines


def tidy(number: str) -> str:
    """A decimal without idle zeros: `2.50` becomes `2.5`, `3.0` becomes `3`."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def work(problem: str, lines: list[str], answer: str) -> str:
    """The full text of an answer: the problem restated, the steps, and the last line `Answer: ...`."""
    return "\n".join([problem, *lines, f"Answer: {answer}"])
