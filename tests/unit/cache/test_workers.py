import threading

import pytest

from tasks.cache.nbd.http_range import RangeConnection
from tasks.cache.nbd.workers import DEMAND, NOTE, PREFETCH, Workers


def workers(threads: int) -> Workers:
    return Workers(threads, lambda: RangeConnection("http://127.0.0.1:9", "guest"))


@pytest.mark.parametrize("_", range(20))
def test_no_job_waits_for_another_while_threads_are_left(_):
    pool, together = workers(4), threading.Barrier(5)
    pool.submit(DEMAND, lambda _connection: None)  # its thread is about to be free
    for _number in range(4):
        pool.submit(DEMAND, lambda _connection: together.wait(5))
    together.wait(5)


def test_urgent_jobs_come_first():
    pool, first, done, order = workers(1), threading.Event(), threading.Event(), []
    pool.submit(DEMAND, lambda _connection: first.wait(5))
    pool.submit(NOTE, lambda _connection: done.set())
    for urgency in (PREFETCH, DEMAND, PREFETCH, DEMAND):
        pool.submit(urgency, lambda _connection, urgency=urgency: order.append(urgency))
    first.set()
    assert done.wait(5)
    assert order == [DEMAND, DEMAND, PREFETCH, PREFETCH]


def test_a_job_that_fails_costs_no_thread(caplog):
    pool, done = workers(1), threading.Event()
    pool.submit(DEMAND, lambda _connection: 1 // 0)
    pool.submit(DEMAND, lambda _connection: done.set())
    assert done.wait(5)
    assert "ZeroDivisionError" in caplog.text
