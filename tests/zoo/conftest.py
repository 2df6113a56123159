"""The zoo's table is a part of what the test run prints."""

import pytest

TABLE = "zoo table"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line an animal, also where another process ran the tests."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == TABLE:
                    terminalreporter.section("the zoo of sseproof check")
                    terminalreporter.write_line(text)
