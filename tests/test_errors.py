"""How programs end: a stage on its own, as DVC runs it."""

import signal
import subprocess
import sys

import pytest

from happymaps.errors import InputError, exit_on_error


def test_an_input_error_is_one_line() -> None:
    def fail() -> None:
        raise InputError("a.png: no picture")

    with pytest.raises(SystemExit) as ended:
        exit_on_error(fail)
    assert ended.value.code == "error: a.png: no picture"


def test_an_interrupted_program_ends_without_a_word() -> None:
    program = (
        "import signal, time; from happymaps.errors import exit_on_error\n"
        # Whoever runs the tests in the background may have them ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def work():\n    print('working', flush=True)\n    time.sleep(60)\n"
        "exit_on_error(work)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (130, b"")
