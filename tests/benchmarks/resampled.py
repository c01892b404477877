"""How sure is a figure that was taken over rounds?"""

import random
from collections.abc import Callable, Sequence

_TIMES = 1000


def resampled(rounds: int, figure: Callable[[Sequence[int]], float]) -> str:
    """`1.02 (0.99 to 1.04)`: the figure of all rounds, and what 90 % of draws with replacement give.

    `figure` takes the numbers of the rounds that count, from 0, some of them more than once.
    """
    draw = random.Random(0)
    drawn = sorted(figure(draw.choices(range(rounds), k=rounds)) for _ in range(_TIMES))
    return f"{figure(range(rounds)):.3f} ({drawn[_TIMES // 20]:.3f} to {drawn[-_TIMES // 20]:.3f})"
