"""The commands of the other tests: one that does not end is killed, and says what it was doing."""

import os
from pathlib import Path

from forked import Forked

from tests.stress.faults import ended


def test_a_command_that_hangs_says_where(tmp_path: Path):
    output = tmp_path / "output"
    output.touch()
    server = Forked("http.server", ["0"], dict(os.environ), output, 1)
    code, words = ended(server, 5)
    assert code is None
    assert words.startswith("hangs: ")
    assert "in serve_forever" in words
