"""Numbers as text. Everything that prints one uses this file: terminal, README and report agree to the digit."""

import math

from ugclu_jax.report.summaries import Statistic


def number(value: float | None) -> str:
    """Write a number in four characters or so, None as a dash and NaN as what it means.

    >>> [number(value) for value in (0.0614, 1.0, 0.9996, 12.34, 4e5, -0.02, None, math.inf, math.nan)]
    ['.061', '1.00', '1.00', '12.3', '4e+05', '-.020', '–', 'inf', 'diverged']
    """
    if value is None:
        return "–"
    if math.isnan(value):
        return "diverged"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    if round(size, 3) < 1:
        return f"{value:.3f}".replace("0.", ".", 1).replace("-.000", ".000")
    if round(size, 2) < 10:
        return f"{value:.2f}"
    if size < 100:
        return f"{value:.1f}"
    return f"{value:.0f}" if size < 100_000 else f"{value:.0e}"


def count(value: float | None) -> str:
    """Write a count, in thousands from 10,000 on.

    >>> count(900.0), count(12345.0), count(123456.0), count(None)
    ('900', '12.3k', '123k', '–')
    """
    if value is None or not math.isfinite(value):
        return number(value)
    if value < 10_000:
        return f"{value:.0f}"
    return f"{value / 1000:.1f}k" if value < 99_950 else f"{value / 1000:.0f}k"


def mean_text(statistic: Statistic | None, integer: bool = False) -> str:
    """Write a mean, as a count where it is one."""
    return (count if integer else number)(statistic.mean if statistic else None)


def std_text(statistic: Statistic | None, integer: bool = False) -> str:
    """Write `±` and the standard deviation; nothing where there is none, or for a count that does not vary."""
    if statistic is None or statistic.std is None or math.isnan(statistic.std):
        return ""
    if integer and statistic.std == 0:
        return ""
    return f"±{(count if integer else number)(statistic.std)}"


def statistic_text(statistic: Statistic | None, integer: bool = False) -> str:
    """Write a mean and its standard deviation.

    >>> statistic_text(Statistic(0.5, 0.25, 3)), statistic_text(Statistic(900.0, 0.0, 3), integer=True)
    ('.500 ±.250', '900')
    """
    return f"{mean_text(statistic, integer)} {std_text(statistic, integer)}".strip()


def markdown_table(head: list[str], rows: list[list[str]], words: int) -> str:
    """Write a GitHub-markdown table, whose first `words` columns are text and stand at the left.

    >>> print(markdown_table(["method", "LA"], [["a|b", ".500"]], words=1))
    | method | LA |
    | --- | ---: |
    | a\\|b | .500 |
    """
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, rule, *rows))
