"""100,000 steps of the state machine of disks, merges, undo and retirement."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from tests.support.lifemachine import LifeMachine

STEPS, EXAMPLES = 100, 200  # a round; rounds go on until enough steps were taken


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_100_000_steps() -> None:
    counted = CountingMachine
    counted.steps = 0
    while counted.steps < 100_000:
        run_state_machine_as_test(
            counted,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


class CountingMachine(LifeMachine):
    """Counts the steps that were really taken: the invariant is checked after each."""

    steps = 0

    @invariant()  # an override without the mark would not be checked at all
    def every_head_reads_back_right(self) -> None:
        type(self).steps += 1
        super().every_head_reads_back_right()
