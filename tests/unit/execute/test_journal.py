"""The journal: every attempt is named, only the newest one ends it, a lost answer changes nothing."""

import json

import pytest

from tasks.errors import Permanent, Transient
from tasks.execute.journal import Journal, ready_facts
from tasks.execute.receipt import Proof, Receipt, receipt_from_json, receipt_to_json
from tasks.plan.steps import Benefit, Cost, LayerRef, MergeAction
from tasks.store import keys
from tests.fakes.store import MemoryStore

TOOLS = {"qemu-img": "7.2.22"}
PROOF = Proof("clean", 3, 4096, "aa", "aa", "bb", map_equal=True)
COST = Cost(read_bytes={"us-east": 5}, write_bytes={"us-east": 7}, seconds=1.5)


def _action() -> MergeAction:
    ref = LayerRef("a" * 32, "us-east", '"e"', 100)
    return MergeAction(
        action_id="f" * 32,
        disk_id="d1",
        home_region="us-east",
        engine="stream",
        engine_reason="least_cost",
        engines_refused={"live": "offline"},
        tip="a" * 32,
        above=(),
        run=(ref, ref),
        base=ref,
        below=(ref,),
        reason="chain_too_long",
        cost=COST,
        benefit=Benefit(layers_removed=1),
    )


def _journal(store: MemoryStore, attempt: str) -> Journal:
    return Journal(store, _action(), attempt)


def _ready(journal: Journal, tip: str) -> None:
    journal.ready(ready_facts(tip, [tip], (3, 2), PROOF, COST, new_bytes=7))


def test_attempts_are_kept_with_what_they_may_create() -> None:
    store = MemoryStore()
    _journal(store, "one").begin((("us-east", "layers/1.qcow2"),))
    receipt = _journal(store, "two").begin((("us-east", "layers/2.qcow2"),))
    assert [(a.attempt_id, a.creates) for a in receipt.attempts] == [
        ("one", (("us-east", "layers/1.qcow2"),)),
        ("two", (("us-east", "layers/2.qcow2"),)),
    ]
    assert (receipt.state, receipt.outcome) == ("intent", None)


def test_publishing_turns_the_noted_proof_into_the_receipt() -> None:
    store = MemoryStore()
    one, two = _journal(store, "one"), _journal(store, "two")
    one.begin(())
    _ready(one, "1" * 32)
    two.begin(())  # a retry, after `one` died
    receipt = two.publish("one", TOOLS)
    assert (receipt.state, receipt.outcome, receipt.new_tip) == ("done", "published", "1" * 32)
    assert (receipt.proof, receipt.actual, receipt.layers_before, receipt.layers_after) == (PROOF, COST, 3, 2)
    assert receipt.extra["published_by"] == "one"
    assert two.publish("one", TOOLS) == receipt
    with pytest.raises(Permanent, match="noted no proof"):
        _fresh().publish("nobody", TOOLS)


def _fresh() -> Journal:
    journal = _journal(MemoryStore(), "one")
    journal.begin(())
    return journal


def test_only_the_newest_attempt_ends_the_record_and_never_a_published_one() -> None:
    store = MemoryStore()
    one, two = _journal(store, "one"), _journal(store, "two")
    one.begin(())
    two.begin(())
    assert one.close("failed", "too late", COST, TOOLS).state == "intent"
    assert two.close("lost", "head_moved: x", COST, TOOLS).outcome == "lost"
    three = _journal(store, "three")
    three.begin(())
    _ready(three, "3" * 32)
    three.publish("three", TOOLS)
    assert three.close("failed", "no", COST, TOOLS).outcome == "published"


def test_an_action_that_was_undone_begins_anew_and_remembers() -> None:
    store = MemoryStore()
    one = _journal(store, "one")
    one.begin((("us-east", "layers/1.qcow2"),))
    _ready(one, "1" * 32)
    one.publish("one", TOOLS)
    again = _journal(store, "two").begin(())
    assert [attempt.attempt_id for attempt in again.attempts] == ["two"]
    assert again.extra["previous"][0]["new_tip"] == "1" * 32


def test_a_lost_answer_is_a_lost_race(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    journal = _journal(store, "one")
    honest, lost = store.put_new, []

    def put_new(key: str, body: bytes) -> str:
        etag = honest(key, body)
        lost.append(key)
        raise Transient(f"no answer after {etag}")

    monkeypatch.setattr(store, "put_new", put_new)
    receipt = journal.begin(())
    assert lost == [keys.action("f" * 32)]
    assert [attempt.attempt_id for attempt in receipt.attempts] == ["one"]


def test_codec_and_malformed_records() -> None:
    store = MemoryStore()
    journal = _journal(store, "one")
    receipt = journal.begin((("us-east", "layers/1.qcow2"),))
    assert receipt_from_json(json.loads(json.dumps(receipt_to_json(receipt)))) == receipt
    full = Receipt(_action(), "done", (), "published", "", "1" * 32, ("1" * 32,), 3, 2, PROOF, COST, TOOLS, "now")
    assert receipt_from_json(json.loads(json.dumps(receipt_to_json(full)))) == full
    key = keys.action("f" * 32)
    store.put_if_match(key, b"{}", store.info(key).etag)
    with pytest.raises(Permanent, match="malformed receipt"):
        journal.read()


def test_the_record_of_an_action_that_never_succeeds_does_not_grow() -> None:
    """Every attempt reads it, and removes what all that it names may have left."""
    store = MemoryStore()
    for number in range(100):
        journal = _journal(store, f"try-{number}")
        receipt = journal.begin((("us-east", f"layers/{number}.qcow2"),))
        _ready(journal, f"{number:032x}")
        journal.close("failed", "EIO", COST, TOOLS)
    assert [attempt.attempt_id for attempt in receipt.attempts] == [f"try-{number}" for number in range(68, 100)]
    last = journal.read()
    assert last is not None
    assert set(last.extra["ready"]) == {attempt.attempt_id for attempt in last.attempts}
