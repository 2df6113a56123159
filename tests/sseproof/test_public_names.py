"""What `from sseproof import …` offers, and that looking at it costs nothing."""

import importlib
import subprocess
import sys

import pytest

import sseproof

PUBLIC = {"Comment", "Defect", "Message", "Parser", "Retry", "SSEUser", "StreamRecord"}


def test_the_public_names():
    assert set(sseproof.__all__) == set(dir(sseproof)) == set(sseproof._HOMES) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"SSEUser"}))
def test_a_public_name_is_the_object_of_its_home(name):
    assert getattr(sseproof, name) is getattr(importlib.import_module(sseproof._HOMES[name]), name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'Parsre'"):
        _ = sseproof.Parsre


def test_the_user_class_is_found_in_a_process_that_has_imported_nothing_else():
    """In a process of its own: Locust patches this one."""
    code = (
        "import sys, sseproof; assert not {'locust', 'gevent'} & set(sys.modules); from sseproof import SSEUser; "
        "print(SSEUser.__module__, SSEUser.abstract)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["sseproof.loadtests.users", "True"], done.stderr
