"""Money: what calls cost, and what they may cost. Whole picodollars (10⁻¹² of a US dollar), so that no sum drifts."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from decimal import Decimal

    from attrs import Attribute

__all__ = ["Budget", "Cost"]

_PICO = 10**12


@frozen
class Cost:
    """An amount. `at_least`: some price or some usage is unknown, so the true one may be higher."""

    picodollars: int = 0
    at_least: bool = False

    @classmethod
    def of_usd(cls, dollars: float) -> Cost:
        """An amount of dollars, as it was written."""
        return cls(round(dollars * _PICO))

    @property
    def usd(self) -> Decimal:
        """US dollars, exactly."""
        from decimal import Decimal

        return Decimal(self.picodollars).scaleb(-12)

    def __str__(self) -> str:
        """`$0.0123`; `at least $0.0123`. Rounded up at the fourth decimal, and below a cent at the second digit."""
        return f"at least {_shown(self.picodollars)}" if self.at_least else _shown(self.picodollars)


def _shown(amount: int) -> str:
    decimals = 4
    while decimals < 12 and 0 < amount < 10 * 10 ** (12 - decimals):
        decimals += 1
    unit = 10 ** (12 - decimals)
    whole, part = divmod(-(-amount // unit), 10**decimals)
    digits = f"{part:0{decimals}d}".rstrip("0").ljust(2, "0")
    return f"${whole}.{digits}"


def _money(instance: object, attribute: Attribute[Any], value: object) -> None:
    where = f"`{type(instance).__name__}.{attribute.name}`"
    if value is None:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{where} must be a number of US dollars, and is {value!r}")
    if not (isfinite(value) and 0 <= value <= _MOST):
        raise ValueError(f"{where} must be from 0 to {_MOST} US dollars, and is {value}")


_MOST = 1_000_000


@frozen(kw_only=True)
class Budget:
    """What may be spent, US dollars and tokens (input and output together); None: no limit.

    The first two bound a turn, the others all turns of a session together. A limit of 0 lets no model be asked.
    """

    max_cost: float | None = field(default=None, validator=_money)
    max_tokens: int | None = field(default=None, validator=checks.optional_count)
    session_max_cost: float | None = field(default=None, validator=_money)
    session_max_tokens: int | None = field(default=None, validator=checks.optional_count)

    def over(self, base: Budget) -> Budget:
        """This one's limits, with those of `base` where it has none."""
        return Budget(
            max_cost=base.max_cost if self.max_cost is None else self.max_cost,
            max_tokens=base.max_tokens if self.max_tokens is None else self.max_tokens,
            session_max_cost=base.session_max_cost if self.session_max_cost is None else self.session_max_cost,
            session_max_tokens=base.session_max_tokens if self.session_max_tokens is None else self.session_max_tokens,
        )
