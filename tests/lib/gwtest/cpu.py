# SPDX-License-Identifier: Apache-2.0
"""CPU seconds of processes."""
import os


def seconds(pid):
    """User and system time of a process, all threads, those that ended included; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
