"""How hosts find each other and wait for one another, as one process can see it; `test_sharding.py` has two."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from symnorm_jax import hosts
from symnorm_jax.errors import RunError

ROOT = Path(__file__).parents[1]
JOIN = """
import sys
from symnorm_jax.errors import RunError
from symnorm_jax.hosts import join
for arguments in ((), ("127.0.0.1:1",), ("127.0.0.1:1", 2)):
    try:
        join(*arguments)
    except RunError as error:
        print(error)
"""


def test_where_nothing_says_who_takes_part_a_sentence_does():
    """In a process of its own: hosts join before anything else is done with JAX."""
    schedulers = ("SLURM", "OMPI", "PMI", "JAX_COORDINATOR", "TPU", "MEGASCALE", "KUBERNETES")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(schedulers)}
    command = [sys.executable, "-c", JOIN]
    done = subprocess.run(
        command, cwd=ROOT, env=bare | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, timeout=300
    )
    sentences = done.stdout.splitlines()
    assert len(sentences) == 3, done.stderr
    assert all(one.startswith("--pod: ") for one in sentences)
    assert all(one.endswith("give --coordinator, --processes and --process.") for one in sentences)


@pytest.mark.parametrize("leads", [True, False])
def test_a_step_of_the_lead_is_taken_once_and_waited_for_by_all(leads, monkeypatch):
    events = []
    monkeypatch.setattr(hosts, "lead", lambda: leads)
    monkeypatch.setattr(hosts, "agreed", lambda mine: events.append(mine) or mine)

    hosts.on_lead(lambda: events.append("tidied"))
    assert events == (["tidied"] if leads else []) + [True]


def test_alone_a_process_leads_waits_for_nobody_and_agrees_with_itself():
    assert hosts.lead() and hosts.agreed(True) is True and hosts.agreed(False) is False
    hosts.wait("nobody")


@pytest.mark.parametrize("answers, expected", [([True, True], True), ([True, False], False), ([False, False], False)])
def test_hosts_agree_where_all_do(answers, expected, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", lambda mine: np.array([bool(mine), answers[1]]))
    assert hosts.agreed(answers[0]) is expected


@pytest.mark.parametrize("leads", [True, False])
def test_where_the_lead_fails_no_host_goes_on(leads, monkeypatch):
    monkeypatch.setattr(hosts, "lead", lambda: leads)
    monkeypatch.setattr(hosts, "agreed", lambda mine: False)

    def fail():
        raise OSError("no space")

    with pytest.raises(OSError if leads else RunError, match="no space" if leads else "the first host has failed"):
        hosts.on_lead(fail)
