"""A short walk of the state machine; `tests/hostile/lifecycle` walks 100,000 steps."""

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.lifemachine import LifeMachine


def test_any_interleaving_keeps_every_head_readable() -> None:
    run_state_machine_as_test(LifeMachine, settings=settings(max_examples=40, stateful_step_count=50, deadline=None))
