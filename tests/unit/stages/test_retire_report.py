"""The report of a retirement as JSON."""

from tasks.execute.retire import RetireReport
from tasks.settings import Fleet, Region
from tasks.stages.retire import report_to_json


def test_layers_of_a_region_that_left_the_fleet_do_not_spoil_the_report() -> None:
    """The manifest keeps their rows; a dry run counts them as due."""
    fleet = Fleet(control_region="us", regions=(Region(name="us", endpoint="", bucket="one"),))
    report = RetireReport("r", True, "", (), (), ("a", "b"), freed_bytes={"us": 10**9, "gone": 10**9})
    assert report_to_json(fleet, report)["freed_usd_per_month"] == {"us": 0.023, "gone": 0.0}
