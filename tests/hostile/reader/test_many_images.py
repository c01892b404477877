"""Thousands of images that QEMU made with options and commands that hypothesis draws: the same map, the same facts."""

import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tasks.chain import qcow2_reasons as why
from tasks.inventory.local import inspect_file
from tests.support import qemu_images

IMAGES = int(os.environ.get("CHAINWRIGHT_QEMU_IMAGES", "2000"))

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(3600)]


@settings(max_examples=IMAGES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.integers())
def test_every_image_that_qemu_makes(rng: random.Random, salt: int) -> None:
    # hypothesis likes small draws; the salt spreads its examples over the whole space of recipes
    recipe = qemu_images.random_recipe(random.Random(f"{salt} {rng.random()}"))
    note(f"{recipe}")
    with tempfile.TemporaryDirectory() as folder:
        path = qemu_images.make(recipe, Path(folder))
        found = inspect_file(path)
        if found.facts.reason in (why.CORRUPT, why.OVERLAP):
            qemu_images.assert_qemu_spoilt_it(path, found.facts.reason)
            return
        assert found.ok, found.facts
        assert qemu_images.ranges_of(found.extents) == qemu_images.own_map(path)
        assert qemu_images.facts_as_info(found.facts) == qemu_images.info_as_facts(qemu_images.info(path))
