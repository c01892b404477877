"""How long calls are repeated. A request may itself take as long as the client waits for an answer."""

from collections.abc import Callable

import pytest
from tenacity import RetryCallState, Retrying

from tasks import retry


@pytest.mark.parametrize("policy", [retry.store_call, retry.until_settled])
def test_a_request_without_an_answer_is_sent_again(policy: Callable[[], Retrying]) -> None:
    """A connection that a router dropped in silence: the first try lasts to the client's limit."""
    tries = RetryCallState(policy(), None, (), {})
    tries.outcome_timestamp = tries.start_time + retry.ANSWER_SECONDS + 1
    assert not policy().stop(tries)
    tries.attempt_number = 5
    assert policy().stop(tries)
